package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gobuild/internal/passwd"
)

// childName is argv[0] of a child, as ps shows it.
const childName = "gobuild-sandbox-init"

// controlFD is the child's end of the socket to its parent.
const controlFD = 3

// exeFD is the child's own program, open only until it runs.
const exeFD = 4

// IsChild says whether a process with these arguments is a sandbox child: its main must call ChildMain before anything else.
func IsChild(argv []string) bool { return len(argv) == 1 && argv[0] == childName || isProbe(argv) }

// ChildMain is the life of a sandbox child. It never returns.
func ChildMain() {
	if isProbe(os.Args) {
		unix.Exit(probeMain(os.Args))
	}
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte("gobuild-init\x00")[0])), 0, 0, 0)
	if unix.Gettid() != unix.Getpid() {
		// What /proc/1 shows of this process is the main thread, so that one must do the work. The scheduler
		// moved us off it between the start and here; it seldom does.
		_ = unix.Exec("/proc/self/exe", []string{childName}, os.Environ())
	}
	_ = unix.Close(exeFD)
	c := &child{control: os.NewFile(controlFD, "control")}
	unix.Exit(c.main())
}

// child is PID 1 of a step.
type child struct {
	control *os.File
	prep    prepFrame
	step    stepFrame
	fds     []int // received with the step

	scratch int // the tmpfs that is the root before the step's, later for clean-up
	null    int // /dev/null
	oom     int // /proc/self/oom_score_adj
	net     int // /proc/self/net/dev
	root    *stepRoot
	forker  *forker
	command atomic.Int64 // pid, 0 when there is none
	notices []string
	loops   int // the last loop device that an insecure step has
}

func (c *child) main() (code int) {
	defer func() {
		if p := recover(); p != nil {
			c.reply(replyFrame{Err: (&SetupError{Op: "sandbox init", Detail: fmt.Sprint("internal error: ", p)}).wire()})
			code = 1
		}
	}()
	if err := readFrame(c.control, &c.prep); err != nil {
		return 0 // not needed after all
	}
	prepErr := c.prepare()
	if err := readFrame(c.control, &c.step); err != nil {
		return 0
	}
	result, err := c.run(prepErr)
	if err != nil {
		result = replyFrame{Err: setupError("run step", "", err).wire()}
	}
	c.reply(result)
	return 0
}

func (c *child) reply(r replyFrame) {
	r.Notices = c.notices
	if err := writeFrame(c.control, r); err != nil {
		unix.Exit(1) // the parent is gone, and it was the one to tell
	}
}

func (c *child) run(prepErr error) (replyFrame, error) {
	var err error
	if c.fds, err = receiveFDs(controlFD, c.step.FDs); err != nil {
		return replyFrame{}, setupError("receive mounts", "", err)
	}
	go c.obey()
	if prepErr != nil {
		return replyFrame{}, prepErr
	}
	if c.root, err = c.enterRoot(); err != nil {
		return replyFrame{}, err
	}
	cmd, err := c.resolveCommand()
	if err != nil {
		return replyFrame{}, err
	}
	var result replyFrame
	if cmd.failure != ExecOK {
		result = replyFrame{Exec: cmd.failure, ExecText: cmd.text}
	} else if result, err = c.execute(cmd); err != nil {
		return replyFrame{}, err
	}
	return result, c.leaveRoot()
}

// obey carries out the parent's orders, and ends everything when the parent is gone: PID 1 takes its namespace with it.
func (c *child) obey() {
	var order [1]byte
	for {
		n, err := c.control.Read(order[:])
		if err != nil || n == 0 {
			unix.Exit(1)
		}
		if order[0] == orderTerm {
			c.signal(unix.SIGTERM)
		}
	}
}

func (c *child) signal(s unix.Signal) {
	if pid := c.command.Load(); pid > 0 {
		_ = unix.Kill(int(pid), s)
	}
}

// forward passes on the signals that a supervisor inside may send to PID 1. All others are taken as well, and dropped: their
// default action in a Go program would end it.
func (c *child) forward() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	go func() {
		for s := range signals {
			switch s {
			case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2:
				c.signal(s.(unix.Signal))
			}
		}
	}()
}

// execute runs the command to its end, and the end of all that it left behind.
func (c *child) execute(cmd *command) (replyFrame, error) {
	c.forward()
	start := time.Now()
	pid, err := c.fork(cmd)
	if err != nil {
		return cmd.startFailed(err)
	}
	c.command.Store(int64(pid))
	// Our copies of the step's pipes would keep them open.
	for fd := range 3 {
		_ = unix.Dup3(c.null, fd, 0)
	}
	status := reap(pid)
	c.command.Store(0)
	result := replyFrame{Wall: time.Since(start), ExitCode: status.ExitStatus()}
	if status.Signaled() {
		result.Signal = int(status.Signal())
		result.ExitCode = 128 + result.Signal
	}
	killRest()
	c.count(&result)
	return result, nil
}

// count reads what the kernel counted of the command and its children, and of their network.
func (c *child) count(r *replyFrame) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err == nil {
		r.User = time.Duration(usage.Utime.Nano())
		r.Sys = time.Duration(usage.Stime.Nano())
		r.MaxRSS = usage.Maxrss << 10
		r.Read, r.Written = usage.Inblock*512, usage.Oublock*512 // blocks of 512 bytes whatever the device has, getrusage(2)
	}
	if foreign(c.prep.Network) {
		return // what passes there is everybody's
	}
	buf := make([]byte, maxNetDev)
	if n, err := unix.Pread(c.net, buf, 0); err == nil {
		r.Received, r.Sent = traffic(string(buf[:n]))
	}
}

// traffic adds up what all interfaces but loopback have passed, of /proc/net/dev.
func traffic(dev string) (received, sent int64) {
	for line := range strings.Lines(dev) {
		name, counts, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(counts)
		if !ok || name == "lo" || len(f) < 16 {
			continue
		}
		in, inErr := strconv.ParseInt(f[0], 10, 64)
		out, outErr := strconv.ParseInt(f[8], 10, 64)
		if inErr == nil && outErr == nil {
			received, sent = received+in, sent+out
		}
	}
	return received, sent
}

// reap waits for all children, zombies that were left to us too, until the given one has ended.
func reap(pid int) unix.WaitStatus {
	var status unix.WaitStatus
	for {
		got, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == pid {
			return status
		}
	}
}

// killRest ends every other process of the namespace. kill(-1) holds the kernel's task lock, so none escapes by forking.
func killRest() {
	for {
		_ = unix.Kill(-1, unix.SIGKILL)
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // ECHILD
		}
	}
}

// forker is a thread with only the step's privileges, which starts the command and ends.
type forker struct {
	confined chan error    // one value, when the thread has given its privileges up
	start    chan *command // one command to start
	started  chan forked
}

type forked struct {
	pid int
	err error
}

// newForker prepares the thread while the child still waits for its step.
func (c *child) newForker() *forker {
	f := &forker{confined: make(chan error, 1), start: make(chan *command), started: make(chan forked, 1)}
	p := &c.prep.Privileges
	go func() {
		runtime.LockOSThread() // never unlocked
		err := dropBounding(p.Caps)
		if err == nil && !p.Late {
			err = c.confine(p.Caps)
		}
		f.confined <- inContext("limit capabilities", err)
		cmd := <-f.start
		if p.Late {
			if err := c.confineAs(cmd.user); err != nil {
				f.started <- forked{0, err}
				return
			}
		}
		f.started <- c.forkCommand(cmd)
	}()
	return f
}

// forkCommand is fork on the forker's thread.
func (c *child) forkCommand(cmd *command) forked {
	p := &c.prep.Privileges
	sys := &syscall.SysProcAttr{
		Setsid: true,
		Ptrace: len(c.step.Rlimits) > 0, // stops at its first instruction, see limitCommand
	}
	if !p.Late {
		sys.Credential = &syscall.Credential{Uid: cmd.user.UID, Gid: cmd.user.GID, Groups: cmd.user.Groups}
	}
	if p.Insecure {
		sys.AmbientCaps = p.Caps.ambient() // a command with USER keeps them too
	}
	files := []uintptr{uintptr(cmd.stdin), 1, 2}
	if cmd.terminal {
		files[1], files[2] = files[0], files[0]
		sys.Setctty, sys.Ctty = true, 0 // a number in the command
	}
	pid, err := syscall.ForkExec(cmd.path, cmd.args, &syscall.ProcAttr{Env: cmd.env, Files: files, Sys: sys})
	if err != nil {
		return forked{0, execError{err}}
	}
	return forked{pid, c.limitCommand(pid, cmd)}
}

// fork starts the command.
func (c *child) fork(cmd *command) (int, error) {
	if err := c.setInherited(cmd); err != nil {
		return 0, err
	}
	if err := c.raiseLimits(); err != nil {
		return 0, err
	}
	lowerOOM := c.raiseOOM()
	c.forker.start <- cmd
	r := <-c.forker.started
	lowerOOM()
	return r.pid, r.err
}

// execError marks an error of starting the command itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// confine takes this thread's privileges away. The filter goes in while CAP_SYS_ADMIN is there; what follows must be allowed by it.
func (c *child) confine(keep capSet) error {
	p := &c.prep.Privileges
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return setupError("set no_new_privs", "", err)
		}
	}
	if len(c.prep.Filter) > 0 {
		if err := loadFilter(c.prep.Filter); err != nil {
			return setupError("load seccomp filter", "", err)
		}
	}
	kept, err := setCaps(keep)
	if err != nil {
		return setupError("set capabilities", "", err)
	}
	p.Caps = kept
	return nil
}

// confineAs makes this thread the step's user first, then confines it: for privileges with which it could not become that user,
// and for filters that may forbid it. A user other than root keeps no capability.
func (c *child) confineAs(u passwd.User) error {
	groups := u.Groups
	if len(groups) == 0 {
		groups = []uint32{0}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return setupError("become user", "", err)
	}
	// The raw calls change this thread alone.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
		return setupError("become user", "", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID)); e != 0 {
		return setupError("become user", "", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID)); e != 0 {
		return setupError("become user", "", e)
	}
	if _, err := setCaps(everyCap); err != nil { // effective again
		return setupError("become user", "", err)
	}
	keep := c.prep.Privileges.Caps
	if u.UID != 0 {
		keep = 0
	}
	return c.confine(keep)
}

// setInherited sets what the command inherits from this process.
func (c *child) setInherited(cmd *command) error {
	unix.Umask(0o022)
	outputs := []int{1, 2}
	if cmd.terminal {
		outputs = append(outputs, cmd.stdin)
	}
	for _, fd := range outputs {
		// So that a command with USER can open /dev/stdout.
		if err := unix.Fchown(fd, int(cmd.user.UID), int(cmd.user.GID)); err != nil && !errors.Is(err, unix.EINVAL) {
			return setupError("give output to user", "", err)
		}
	}
	// Descriptors that came with the start of this program have no close-on-exec flag yet.
	if err := unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return setupError("close descriptors", "", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return setupError("set limit", "core", err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Max > maxNoFile {
		files = unix.Rlimit{Cur: min(files.Cur, maxNoFile), Max: maxNoFile}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
			return setupError("set limit", "nofile", err)
		}
	}
	return nil
}

// value is the limit as the kernel has it: -1 is RLIM_INFINITY as an unsigned number.
func (l Rlimit) value() unix.Rlimit { return unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)} }

// raiseLimits raises this process's hard limits to what the command is to have; a thread without capabilities cannot do that later.
func (c *child) raiseLimits() error {
	for _, l := range c.step.Rlimits {
		number, _ := rlimitNumber(l.Name)
		var old unix.Rlimit
		if err := unix.Getrlimit(number, &old); err != nil {
			return setupError("read limit", l.Name, err)
		}
		if want := l.value().Max; want > old.Max {
			if err := unix.Setrlimit(number, &unix.Rlimit{Cur: old.Cur, Max: want}); err != nil {
				return limitError(l, err)
			}
		}
	}
	return nil
}

// limitCommand sets the limits of the command, which is stopped (ptrace(2), PTRACE_TRACEME), and lets it run. They are not set
// before it starts, since the init itself could not live with a small "as" or "nofile". The kernel lets a thread do that which
// has the real ids of the other process (prlimit(2)); this one has nothing more to do afterwards. The raw calls change this
// thread alone.
func (c *child) limitCommand(pid int, cmd *command) error {
	if len(c.step.Rlimits) == 0 {
		return nil
	}
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return setupError("wait for command", "", err)
		}
	}
	const keep = ^uintptr(0)
	for _, id := range []struct {
		call  uintptr
		value uint32
	}{{unix.SYS_SETRESGID, cmd.user.GID}, {unix.SYS_SETRESUID, cmd.user.UID}} {
		if _, _, e := unix.RawSyscall(id.call, uintptr(id.value), keep, keep); e != 0 {
			return setupError("take user's ids", "", e)
		}
	}
	for _, l := range c.step.Rlimits {
		number, _ := rlimitNumber(l.Name)
		value := l.value()
		if err := unix.Prlimit(pid, number, &value, nil); err != nil {
			return limitError(l, err)
		}
	}
	return inContext("start command", unix.PtraceDetach(pid))
}

func limitError(l Rlimit, err error) error {
	e := setupError("set limit", l.Name, err)
	if errors.Is(err, unix.EPERM) {
		e.Kind = ErrLimitUnavailable
	}
	return e
}

func rlimitNumber(name string) (int, bool) {
	numbers := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
	n, ok := numbers[strings.ToLower(name)]
	return n, ok
}

// raiseOOM makes what is forked from now on the kernel's first choice when memory runs out; lowerOOM takes it back for this process.
func (c *child) raiseOOM() (lowerOOM func()) {
	buf := make([]byte, 16)
	n, err := unix.Pread(c.oom, buf, 0)
	if err != nil {
		return func() {}
	}
	var old int
	if _, err := fmt.Sscan(string(buf[:n]), &old); err != nil {
		return func() {}
	}
	_, _ = unix.Pwrite(c.oom, fmt.Append(nil, min(old+oomScoreAdj, 1000)), 0)
	return func() { _, _ = unix.Pwrite(c.oom, fmt.Append(nil, old), 0) }
}
