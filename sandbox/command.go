package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/passwd"
	"gobuild/internal/rootfs"
)

// defaultPath is PATH where the environment has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is what is executed, with all names resolved in the step's root.
type command struct {
	path      string
	args, env []string
	user      passwd.User
	stdin     int  // or -1
	terminal  bool // which stdin is, and is for the other streams too
	failure   ExecFailure
	text      string
}

// resolveCommand finds user, working directory and program, and enters the directory.
func (c *child) resolveCommand() (*command, error) {
	cmd := &command{args: c.step.Args, stdin: c.step.Stdin, terminal: c.step.Terminal}
	user := c.step.User
	var err error
	if cmd.user, err = passwd.Lookup(c.root.tree, user); err != nil {
		e := &SetupError{Op: "find user", Path: user, Detail: err.Error()}
		if errors.Is(err, passwd.ErrUnknown) || errors.Is(err, passwd.ErrInvalid) {
			e.Kind = ErrUserUnknown
		}
		return nil, e
	}
	cmd.env = environment(c.step.Env, c.step.SecretEnv, cmd.user.Home)
	if err := c.root.enterWorkDir(c.step.Dir, cmd.user); err != nil {
		return nil, err
	}
	cmd.find(c.root.tree, path.Join("/", c.step.Dir))
	return cmd, nil
}

// environment drops all but the last of the variables with one name and adds PATH, HOME and the secrets.
func environment(vars, secrets []string, home string) []string {
	index := map[string]int{}
	var env []string
	put := func(kv string) {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := index[name]; ok {
			env[i] = kv
			return
		}
		index[name] = len(env)
		env = append(env, kv)
	}
	for _, kv := range vars {
		put(kv)
	}
	if _, ok := index["PATH"]; !ok {
		put("PATH=" + defaultPath)
	}
	if _, ok := index["HOME"]; !ok {
		put("HOME=" + home)
	}
	for _, kv := range secrets {
		name, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, kv)
	}
	return env
}

// enterWorkDir changes to the working directory, which belongs to the user if it has to be made. It is entered by descriptor,
// before the user's own rights apply: a directory that only root can enter works, as in the reference.
func (r *stepRoot) enterWorkDir(name string, u passwd.User) error {
	if name == "" {
		name = "/"
	}
	dir, err := r.tree.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = r.tree.MkdirAll(name, rootfs.Attr{Mode: 0o755, UID: int(u.UID), GID: int(u.GID)}); err == nil {
			dir, err = r.tree.Open(name, unix.O_PATH|unix.O_DIRECTORY)
		}
	}
	if err != nil {
		return workDirError(name, err)
	}
	defer dir.Close()
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return workDirError(name, err)
	}
	// A directory outside of the root would be "(unreachable)" (CVE-2024-21626).
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Getcwd(buf); err != nil || n == 0 || buf[0] != '/' {
		return &SetupError{Op: "enter working directory", Path: name, Kind: ErrWorkDir, Detail: "it is outside of the root", Errno: errno(err)}
	}
	return nil
}

func workDirError(name string, err error) error {
	e := setupError("enter working directory", name, err)
	e.Kind = ErrWorkDir
	return e
}

// find looks the program up like execvp(3), in the PATH that the command will have. It only decides between names: the kernel
// opens the file in the end, with the rights of the command.
func (cmd *command) find(root *rootfs.Root, dir string) {
	name := cmd.args[0]
	if strings.Contains(name, "/") {
		cmd.path = name
		return
	}
	denied := false
	for _, place := range strings.Split(cmd.variable("PATH"), ":") {
		candidate := path.Join("/", dir, place, name)
		if path.IsAbs(place) {
			candidate = path.Join(place, name)
		}
		st, err := root.Stat(candidate)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			denied = denied || errors.Is(err, unix.EACCES)
			continue
		}
		if !executable(&st, cmd.user) {
			denied = true
			continue
		}
		cmd.path = candidate
		return
	}
	if denied {
		cmd.failure, cmd.text = ExecNotExecutable, fmt.Sprintf("exec: %q: permission denied", name)
		return
	}
	cmd.failure, cmd.text = ExecNotFound, fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
}

func (cmd *command) variable(name string) string {
	for _, kv := range cmd.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

func executable(st *unix.Stat_t, u passwd.User) bool {
	switch {
	case u.UID == 0:
		return st.Mode&0o111 != 0
	case st.Uid == u.UID:
		return st.Mode&0o100 != 0
	case slices.Contains(u.Groups, st.Gid):
		return st.Mode&0o010 != 0
	}
	return st.Mode&0o001 != 0
}

// startFailed tells a command that cannot be executed, which is the step's failure, from a machine that cannot run it.
func (cmd *command) startFailed(err error) (childReply, error) {
	var exec execError
	if !errors.As(err, &exec) {
		return childReply{}, err
	}
	reply := childReply{ExecText: fmt.Sprintf("exec: %q: %v", cmd.args[0], exec.error)}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		reply.Exec = ExecNotFound
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EPERM):
		reply.Exec = ExecNotExecutable
	case errors.Is(err, unix.ENOEXEC):
		reply.Exec = ExecBadFormat
	case errors.Is(err, unix.E2BIG):
		reply.Exec = ExecTooLong
	default:
		return childReply{}, setupError("start command", cmd.args[0], exec.error)
	}
	return reply, nil
}
