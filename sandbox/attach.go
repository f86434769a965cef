package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/ownthread"
	"gobuild/internal/passwd"
	"gobuild/internal/rootfs"
)

// ErrStepEnded says that a step that was to be entered is over.
var ErrStepEnded = errors.New("the step has ended")

// Entry is what another process must know of a step that runs to enter it, beside its init. It can be kept as JSON, and has no secrets.
type Entry struct {
	User, Dir   string
	Env         []string
	SecretNames []string // of variables whose values are not in Env
	Network     string
	Rlimits     []Rlimit
	Privileges  Privileges
}

// Entry is that of a step.
func (s *Spec) Entry() Entry {
	e := Entry{User: s.User, Dir: s.Dir, Env: s.Env, Network: s.Network, Rlimits: s.Rlimits, Privileges: s.Privileges}
	for _, kv := range s.SecretEnv {
		name, _, _ := strings.Cut(kv, "=")
		e.SecretNames = append(e.SecretNames, name)
	}
	return e
}

// AttachSpec is a shell in a step that runs.
type AttachSpec struct {
	Entry
	Pid       int    // of the step's init, in the caller's pid namespace
	StartTime uint64 // of the same, which tells it from another process with this number
	Secrets   bool   // the shell gets the variables of SecretNames
	Busybox   string // a static busybox, for a step without /bin/sh; "" is none

	Terminal       *os.File // as in Spec
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Notice         func(string) // told what the user should know; it may be nil
}

// AttachResult is how the shell ended.
type AttachResult struct {
	ExitCode  int
	StepEnded bool // and the shell with it
}

// attachment is a step that is being entered.
type attachment struct {
	spec   *AttachSpec
	step   int // pidfd of its init
	own    int // the namespaces that it has and we do not, as flags of setns(2)
	user   passwd.User
	shell  string // in the step's root; "": the busybox
	env    []string
	groups []stepGroup
}

// Attach runs a shell in the namespaces and the cgroup of a step that runs, as the step's user, with its environment, limits,
// capabilities and system call filter: it can do what the step's command can do, and no more. It ends with the step. The error wraps
// ErrStepEnded when there is no such step any more. It needs the right to trace the step's init, and never changes this process.
func Attach(ctx context.Context, s AttachSpec) (res AttachResult, err error) {
	if s.Notice == nil {
		s.Notice = func(string) {}
	}
	a := &attachment{spec: &s, step: -1}
	defer a.close()
	if err := a.find(ctx); err != nil {
		return res, a.ended(err)
	}
	// The helper is killed when the thread that started it ends, and so when this process does.
	err = ownthread.Do(func() error {
		var err error
		res, err = a.run(ctx)
		return err
	})
	if err != nil && ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	return res, a.ended(err)
}

func (a *attachment) close() {
	if a.step >= 0 {
		_ = unix.Close(a.step)
	}
	for _, g := range a.groups {
		_ = g.procs.Close()
	}
}

// ended replaces an error that came because the step is over.
func (a *attachment) ended(err error) error {
	if err == nil || a.alive() {
		return err
	}
	return &SetupError{Op: "enter step", Kind: ErrStepEnded}
}

// alive says whether the step's init is there. One whose memory is gone is about to end, with all others of the step.
func (a *attachment) alive() bool {
	return a.spec.StartTime != 0 && StartTime(a.spec.Pid) == a.spec.StartTime && !strings.HasPrefix(readProc(a.spec.Pid, "statm"), "0 ")
}

// find looks at the step from outside. All that is found is of the process that has the number, and that it is the right one is asked last.
func (a *attachment) find(ctx context.Context) (err error) {
	pid := a.spec.Pid
	if a.step, err = unix.PidfdOpen(pid, 0); err != nil {
		return setupError("enter step", "", err)
	}
	if err := a.findNamespaces(); err != nil {
		return err
	}
	if err := a.begun(ctx); err != nil {
		return err
	}
	if err := a.findInside(); err != nil {
		return err
	}
	if a.groups, err = a.openGroups(); err != nil {
		return err
	}
	if !a.alive() {
		return &SetupError{Op: "enter step", Kind: ErrStepEnded}
	}
	return nil
}

// findNamespaces finds those to enter. A step without mount and pid namespaces of its own would be this machine itself.
func (a *attachment) findNamespaces() error {
	kinds := map[string]int{
		"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "ipc": unix.CLONE_NEWIPC,
		"uts": unix.CLONE_NEWUTS, "net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP,
	}
	for _, name := range namespaceNames() {
		theirs, err := namespaceOf(strconv.Itoa(a.spec.Pid), name)
		if err != nil {
			e := setupError("enter step", "", err)
			if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
				e.Detail = "this process may not look into the step: it takes the user who started the build, or root with CAP_SYS_PTRACE"
			}
			return e
		}
		ours, err := OwnNamespace(name)
		if err != nil {
			return setupError("enter step", "", err)
		}
		if theirs != ours {
			a.own |= kinds[name]
		}
	}
	if need := unix.CLONE_NEWNS | unix.CLONE_NEWPID; a.own&need != need {
		return &SetupError{Op: "enter step", Kind: ErrUnsupported, Detail: "the step has no mount and pid namespace of its own"}
	}
	return nil
}

// begun waits until the step's command has been started: before that the step's root is not in its place, and the machine's may be.
func (a *attachment) begun(ctx context.Context) error {
	tick := time.NewTicker(beginPoll)
	defer tick.Stop()
	for range beginPolls {
		if _, found := a.command(); found {
			return nil
		}
		if !a.alive() {
			return &SetupError{Op: "enter step", Kind: ErrStepEnded}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return &SetupError{Op: "enter step", Detail: "its command has not begun yet"}
}

// command finds the first process that the init started, 0 if that has ended, while others are there.
func (a *attachment) command() (pid int, found bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := procStat(n); len(f) < 2 || f[1] != strconv.Itoa(a.spec.Pid) {
			continue
		}
		found = true
		for line := range strings.Lines(readProc(n, "status")) {
			if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.HasSuffix(strings.TrimSpace(numbers), "\t2") {
				pid = n
			}
		}
	}
	return pid, found
}

// findInside resolves the user in the step's root, and looks for a shell there.
func (a *attachment) findInside() error {
	dir, err := os.Open(filepath.Join("/proc", strconv.Itoa(a.spec.Pid), "root"))
	if err != nil {
		return setupError("open root of step", "", err)
	}
	root := rootfs.New(dir)
	defer root.Close()
	if a.user, err = passwd.Lookup(root, a.spec.User); err != nil {
		return &SetupError{Op: "find user", Path: a.spec.User, Kind: ErrUserUnknown, Detail: err.Error()}
	}
	a.env = environment(a.spec.Env, a.secrets(), a.user.Home)
	st, err := root.Stat("/bin/sh")
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && executable(&st, a.user):
		a.shell = "/bin/sh"
	case a.spec.Busybox == "":
		return &SetupError{Op: "open a shell", Kind: ErrUnsupported, Detail: "the step's root has no /bin/sh, and this machine has no static busybox"}
	}
	return nil
}

// secrets reads the variables that are in no record from the command itself.
func (a *attachment) secrets() []string {
	if !a.spec.Secrets || len(a.spec.SecretNames) == 0 {
		return nil
	}
	pid, _ := a.command()
	var list []string
	for kv := range strings.SplitSeq(readProc(pid, "environ"), "\x00") {
		if name, _, ok := strings.Cut(kv, "="); ok && slices.Contains(a.spec.SecretNames, name) {
			list = append(list, kv)
		}
	}
	if len(list) < len(a.spec.SecretNames) {
		a.spec.Notice(fmt.Sprintf("%d secret variables of the step are not known any more", len(a.spec.SecretNames)-len(list)))
	}
	return list
}

// openBusybox copies the busybox into memory that cannot be changed: a process of the step can open what another one there executes.
func openBusybox(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, setupError("open a shell", path, err)
	}
	defer in.Close()
	return sealedProgram("busybox", io.LimitReader(in, maxBusybox))
}
