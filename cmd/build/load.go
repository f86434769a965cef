package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"gobuild/builder"
)

// loader hands an image archive to "docker load" or "podman load" (FEATURES K5).
// The program starts with the first byte, so it does not run for a build that fails.
type loader struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// fillLoad adds the output that --load stands for; nil without the flag.
func (a *app) fillLoad(ctx context.Context, opt *builder.Options, f flags) (*loader, error) {
	tools := []string{"docker", "podman"}
	switch v := f.str("load"); v {
	case "", "false":
		return nil, nil
	case "auto", "true":
	case "docker", "podman":
		tools = []string{v}
	default:
		return nil, usagef("--load=%s: want docker or podman", v)
	}
	for _, tool := range tools {
		path := a.program(tool)
		if path == "" || !a.works(ctx, path) {
			continue
		}
		cmd := exec.CommandContext(ctx, path, "load")
		cmd.Env = a.toolEnv()
		cmd.Stdout, cmd.Stderr = a.stderr, a.stderr // its messages are progress, not our result
		l := &loader{cmd: cmd}
		opt.Outputs = append(opt.Outputs, builder.Output{Type: "docker", Dest: "-", Attrs: map[string]string{}, Out: l})
		return l, nil
	}
	err := environmentf("--load: %s does not work here", strings.Join(tools, " or "))
	return nil, hint(err, "use -o type=docker,dest=FILE, and load the file where it is wanted")
}

// program finds an executable by PATH; only absolute directories count.
func (a *app) program(name string) string {
	for _, dir := range filepath.SplitList(a.env["PATH"]) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// works says that the tool reaches its store or daemon.
func (a *app) works(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, maxToolWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "info")
	cmd.Env = a.toolEnv()
	return cmd.Run() == nil
}

// toolEnv is what docker and podman need to find their store or daemon, and nothing more.
func (a *app) toolEnv() []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "USER", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS",
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION",
		"CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "SSH_AUTH_SOCK",
	} {
		if v, ok := a.env.lookup(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Write starts the program when needed.
func (l *loader) Write(p []byte) (int, error) {
	if l.stdin == nil {
		w, err := l.cmd.StdinPipe()
		if err != nil {
			return 0, fmt.Errorf("start %s load: %w", l.cmd.Path, err)
		}
		if err := l.cmd.Start(); err != nil {
			return 0, fmt.Errorf("start %s load: %w", l.cmd.Path, err)
		}
		l.stdin = w
	}
	return l.stdin.Write(p)
}

// finish waits for the program. After a failed build it is killed before it sees
// the end of its input, so that it cannot take the part it got for the whole.
func (l *loader) finish(failure error) error {
	if l.stdin == nil {
		return nil
	}
	if failure != nil {
		_ = l.cmd.Process.Kill()
	}
	err := errors.Join(l.stdin.Close(), l.cmd.Wait())
	if err != nil && failure == nil {
		return environmentf("%s load: %w", l.cmd.Path, err)
	}
	return nil
}
