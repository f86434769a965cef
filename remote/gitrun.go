package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/netguard"
)

// gitRun is git with everything fixed that its environment, its configuration or a repository could turn against us
// (HOSTILE R-25, H-61, H-62).
type gitRun struct {
	path   string
	dir    string // work tree, "" none
	config []string
	env    []string
}

func (c *Client) git(g Git, auth GitAuth, dir string, addresses []netip.Addr) (*gitRun, error) {
	path, err := exec.LookPath("git") // refuses one in the working directory
	if err != nil {
		return nil, ErrNoGit
	}
	scheme := "ssh"
	u, err := url.Parse(g.Remote)
	if err == nil && u.Host != "" {
		scheme = u.Scheme
	}
	r := &gitRun{path: path, dir: dir}
	for _, kv := range [][2]string{
		{"protocol.allow", "never"},
		{"protocol." + scheme + ".allow", "always"},
		{"core.hooksPath", "/dev/null"},
		{"core.fsmonitor", "false"},
		{"core.logAllRefUpdates", "false"}, // which have the time and this machine's name
		{"core.attributesFile", "/dev/null"},
		{"credential.helper", ""},
		{"http.followRedirects", "false"}, // where they lead is for git alone to see
		{"http.lowSpeedLimit", "1024"},
		{"http.lowSpeedTime", "60"},
		{"http.userAgent", c.cfg.UserAgent},
		{"tar.umask", "0022"},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"advice.detachedHead", "false"},
	} {
		r.config = append(r.config, "-c", kv[0]+"="+kv[1])
	}
	config, err := c.secretConfig(g, auth, addresses)
	if err != nil {
		return nil, err
	}
	r.env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/nonexistent",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false",
		"GIT_LFS_SKIP_SMUDGE=1", "GIT_OPTIONAL_LOCKS=0", "GIT_SSH_VARIANT=ssh", "SSH_ASKPASS_REQUIRE=never",
		fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)),
	}
	for i, kv := range config {
		r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	if auth.Agent != "" {
		r.env = append(r.env, "SSH_AUTH_SOCK="+auth.Agent)
	}
	return r, nil
}

// secretConfig is configuration that does not belong into arguments, which every user of the machine can read.
func (c *Client) secretConfig(g Git, auth GitAuth, addresses []netip.Addr) (config [][2]string, err error) {
	add := func(key, value string) { config = append(config, [2]string{key, value}) }
	if c.cfg.CAFile != "" {
		add("http.sslCAInfo", c.cfg.CAFile)
	}
	u, err := url.Parse(g.Remote)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return config, nil //nolint:nilerr // user@host:path is ssh
	}
	var proxy *url.URL
	if c.cfg.Proxy != nil {
		if proxy, err = c.cfg.Proxy(&http.Request{URL: u}); err != nil {
			return nil, err
		}
	}
	switch {
	case proxy != nil:
		add("http.proxy", proxy.String())
	case len(addresses) > 0 && !netguard.IsAddress(u.Hostname()):
		add("http.curloptResolve", pinned(u, addresses)) // git 2.37; older ones resolve the name again
	}
	if header := auth.header(); header != "" && u.Scheme == "https" {
		add("http."+u.Scheme+"://"+u.Host+"/.extraHeader", "Authorization: "+header)
	}
	return config, nil
}

// pinned holds a host to the addresses that were checked, as curl's option --resolve writes it.
func pinned(u *url.URL, addresses []netip.Addr) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	list := make([]string, len(addresses))
	for i, a := range addresses {
		if list[i] = a.Unmap().WithZone("").String(); a.Unmap().Is6() {
			list[i] = "[" + list[i] + "]"
		}
	}
	return u.Hostname() + ":" + port + ":" + strings.Join(list, ",")
}

func (a GitAuth) header() string {
	if a.Header != "" || a.Token == "" {
		return a.Header
	}
	return "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+a.Token))
}

// command is git in a process group of its own, which ends with ctx.
func (r *gitRun) command(ctx context.Context, args ...string) (*exec.Cmd, *said) {
	args = append(r.config[:len(r.config):len(r.config)], args...)
	cmd := exec.CommandContext(ctx, r.path, args...) //nolint:gosec // operands are checked in ParseGit and follow --
	cmd.Env, cmd.Dir = r.env, "/"
	if r.dir != "" {
		cmd.Dir = r.dir
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "GIT_DIR="+filepath.Join(r.dir, ".git"), "GIT_WORK_TREE="+r.dir)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) } // its helpers, too
	cmd.WaitDelay = gitEndTime
	s := &said{}
	cmd.Stderr = s
	return cmd, s
}

func (r *gitRun) output(ctx context.Context, args ...string) (string, error) {
	cmd, said := r.command(ctx, args...)
	out := &bounded{}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return "", said.explain(err)
	}
	return out.String(), nil
}

// bounded is the output of a command that has little to say.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxGitOutput {
		return 0, fmt.Errorf("%w: more than %d bytes of output of git", ErrTooLarge, maxGitOutput)
	}
	return b.Buffer.Write(p)
}

// errSilent says that git failed without a word: what it looked for is not there.
var errSilent = errors.New("no reason given")

// said keeps the end of what git says about an error.
type said struct{ tail []byte }

func (s *said) Write(p []byte) (int, error) {
	s.tail = append(s.tail, p[max(0, len(p)-maxSaid):]...)
	s.tail = s.tail[max(0, len(s.tail)-maxSaid):]
	return len(p), nil
}

func (s *said) explain(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	text := strings.TrimSpace(string(s.tail))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 && !strings.HasPrefix(text, "fatal:") {
		text = text[i+1:]
	}
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "fatal: "), "\n")
	if text == "" {
		return fmt.Errorf("%w: git: %w: %w", ErrUnavailable, errSilent, err)
	}
	return fmt.Errorf("%w: git: %s", ErrUnavailable, text)
}
