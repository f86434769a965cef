package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// The shell of a step is started by the init's program in another role: a helper, which no process of the step can see. It enters the
// cgroups and namespaces, becomes the step's user, and gives all up that the step does not have. Only then it forks the shell into the
// step's pid namespace: nothing there ever has more than the step's own processes.

// attachName is argv[0] of the helper, as ps shows it.
const attachName = "gobuild-attach"

// The helper's descriptors after those that the program itself needs.
const (
	stepFD    = 6
	commandFD = 7
	busyboxFD = 8
	groupFD   = 9 // and up
)

// helper is the process outside.
type helper struct {
	*attachment
	control    int
	pid, pidfd int
	script     *script // its own
	command    *script // of the shell
}

// run starts the shell and follows it to its end.
func (a *attachment) run(ctx context.Context) (res AttachResult, err error) {
	h := &helper{attachment: a}
	streams, err := a.openStreams()
	if err != nil {
		return res, err
	}
	if err = h.start(streams.files); err == nil {
		streams.given()
		res, err = h.follow(ctx)
	}
	return res, errors.Join(err, inContext("write output of shell", streams.finish()))
}

// start starts the helper.
func (h *helper) start(streams [3]int) error {
	var opened []int
	defer func() { closeAll(opened) }()
	keep := func(fd int, err error) uintptr {
		if err == nil {
			opened = append(opened, fd)
		}
		return uintptr(fd)
	}
	if err := h.makeScripts(); err != nil {
		return err
	}
	exe, err := openProgram()
	if err != nil {
		return err
	}
	defer exe.Close() // read only
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return setupError("enter step", "", err)
	}
	h.control = pair[0]
	files := []uintptr{uintptr(streams[0]), uintptr(streams[1]), uintptr(streams[2]), keep(pair[1], nil)}
	own, err := h.script.open()
	files = append(files, keep(own, err), exe.Fd(), uintptr(h.step))
	command, err2 := h.command.open()
	files = append(files, keep(command, err2))
	shell, err3 := h.openShell()
	files = append(files, keep(shell, err3))
	if err := errors.Join(err, err2, err3); err != nil {
		_ = unix.Close(h.control)
		return setupError("enter step", "", err)
	}
	for _, g := range h.groups {
		files = append(files, g.procs.Fd())
	}
	h.pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exeFD), []string{attachName}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, PidFD: &h.pidfd},
	})
	if err != nil {
		_ = unix.Close(h.control)
		return setupError("enter step", "", err)
	}
	return nil
}

// openShell gives what is to be executed where that is not in the step's root, else something of no use.
func (h *helper) openShell() (int, error) {
	if h.shell != "" {
		return unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	f, err := openBusybox(h.spec.Busybox)
	if err != nil {
		return -1, err
	}
	defer f.Close() // read only
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}

// makeScripts decides what the helper and the shell's process do.
func (h *helper) makeScripts() error {
	privileges, err := h.spec.Privileges.resolve(h.spec.Network)
	if err != nil {
		return &SetupError{Op: "enter step", Kind: ErrInvalid, Detail: err.Error()}
	}
	filter, err := (&filters{}).of(privileges)
	if err != nil {
		return setupError("compile seccomp filter", "", err)
	}
	have, last, err := heldCaps()
	if err != nil {
		return setupError("read capabilities", "", err)
	}
	if h.own&unix.CLONE_NEWUSER != 0 {
		have = 1<<(last+1) - 1 // in the step's user namespace (user_namespaces(7), "Capabilities")
	}
	s, err := h.enterScript()
	if err != nil {
		return err
	}
	prep := childPrep{Filter: filter, Privileges: privileges, OneID: h.oneID()}
	if prep.OneID && (h.user.UID != 0 || h.user.GID != 0) {
		return &SetupError{Op: "enter step", Kind: ErrUnsupported, Detail: "as a user other than root, where the build has one user id"}
	}
	if err := prep.confine(s, &h.user, have, last); err != nil {
		return err
	}
	s.dieWithParent()
	s.call(scriptOp{op: "start shell"}, scriptFork, commandBase+scriptStart)
	h.script, h.command = s, h.shellScript()
	return nil
}

// oneID says whether the step's user namespace has one id, in which nobody becomes somebody else.
func (h *helper) oneID() bool {
	return strings.TrimSpace(readProc(h.spec.Pid, "setgroups")) == "deny"
}

// enterScript is the first part of what the helper does, with the rights of this process.
func (h *helper) enterScript() (*script, error) {
	s := &script{base: scriptBase, signals: initSignals()}
	op := func(what, path string) scriptOp { return scriptOp{op: what, path: path} }
	const atFDCWD = ^uintptr(99) // -100
	s.call(op("block signals", ""), unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.words(^uint64(0)), 0, 8)
	s.call(op("close descriptors", ""), unix.SYS_CLOSE_RANGE, uintptr(groupFD+len(h.groups)), uintptr(^uint32(0)), 0)
	s.call(op("map command", ""), unix.SYS_MMAP, commandBase, maxScript, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED, commandFD, 0)
	if badness := h.badness(); badness != "" {
		s.try(unix.SYS_CLOSE, exeFD) // the next one takes its number
		s.try(unix.SYS_OPENAT, atFDCWD, s.text("/proc/self/oom_score_adj"), unix.O_WRONLY, 0)
		s.try(unix.SYS_WRITE, exeFD, s.text(badness), uintptr(len(badness)))
	}
	s.call(op("protect helper", ""), unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	s.call(op("name helper", ""), unix.SYS_PRCTL, unix.PR_SET_NAME, s.text(attachName))
	for i, g := range h.groups {
		s.call(op("enter cgroup of step", g.name), unix.SYS_WRITE, uintptr(groupFD+i), s.text("0"), 1)
	}
	s.call(op("enter namespaces of step", ""), unix.SYS_SETNS, stepFD, uintptr(h.own))
	s.call(op("close descriptors", ""), unix.SYS_CLOSE_RANGE, scriptFD, commandFD, 0)
	s.call(op("close descriptors", ""), unix.SYS_CLOSE_RANGE, groupFD, uintptr(^uint32(0)), 0)
	// From here on the step's root is this process's, and every name is found in it. A folder that the step has removed is no obstacle.
	s.try(unix.SYS_CHDIR, s.text(h.spec.Dir))
	s.call(op("set umask", ""), unix.SYS_UMASK, 0o022)
	for _, fd := range []int{1, 2} {
		s.try(unix.SYS_FCHOWN, uintptr(fd), uintptr(h.user.UID), uintptr(h.user.GID)) // as for a step's command
	}
	return s, h.limit(s)
}

// limit gives the shell no more than the build has, and the step.
func (h *helper) limit(s *script) error {
	var files unix.Rlimit
	for number := range numRlimits {
		var step, own unix.Rlimit
		if err := errors.Join(unix.Prlimit(h.spec.Pid, number, nil, &step), unix.Prlimit(0, number, nil, &own)); err != nil {
			return setupError("read limits of step", "", err)
		}
		l := unix.Rlimit{Cur: min(step.Cur, own.Max), Max: min(step.Max, own.Max)}
		if number == unix.RLIMIT_NOFILE {
			files = l
		}
		s.call(scriptOp{op: "set limit", path: strconv.Itoa(number), limit: true}, unix.SYS_PRLIMIT64, 0, uintptr(number), s.words(l.Cur, l.Max), 0)
	}
	s.limit(files, h.spec.Rlimits)
	return nil
}

// badness is what the kernel is told of the step's processes, in case that memory runs out.
func (h *helper) badness() string {
	own, err := strconv.Atoi(strings.TrimSpace(readProc(h.spec.Pid, "oom_score_adj")))
	if err != nil {
		return ""
	}
	return strconv.Itoa(min(own+oomScoreAdj, 1000))
}

// dieWithParent has the process end when the one that started it does, and not go on if it already has: nobody reads the socket then.
func (s *script) dieWithParent() {
	op := scriptOp{op: "start shell"}
	s.call(op, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	s.call(op, unix.SYS_WRITE, controlFD, s.words(messageReady), 8)
}

// shellScript is what the process in the step's pid namespace does. It has no more rights than the shell.
func (h *helper) shellScript() *script {
	s := &script{base: commandBase}
	op := scriptOp{op: "start shell"}
	s.dieWithParent()
	s.call(op, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.words(0), 0, 8)
	s.call(op, unix.SYS_SETSID)
	args := []string{"sh"}
	if h.spec.Terminal != nil {
		s.call(op, unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
		args = append(args, "-i")
	}
	if h.shell != "" {
		s.call(scriptOp{exec: true}, unix.SYS_EXECVE, s.text(h.shell), s.list(args), s.list(h.env))
		return s
	}
	s.call(scriptOp{exec: true}, unix.SYS_EXECVEAT, busyboxFD, s.text(""), s.list(args), s.list(h.env), unix.AT_EMPTY_PATH)
	return s
}

// ending says whether the step ends, now that something has killed the shell: whoever kills all processes of a step may get to its
// init last.
func (h *helper) ending() bool {
	_ = retried.Call(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(h.step), Events: unix.POLLIN}}, int(maxEnding/time.Millisecond))
		return err
	})
	return !h.alive()
}

// follow waits for the end of the shell, and ends the helper. When ctx ends, the helper is killed, and the shell with it.
func (h *helper) follow(ctx context.Context) (AttachResult, error) {
	stop := context.AfterFunc(ctx, func() { _ = unix.PidfdSendSignal(h.pidfd, unix.SIGKILL, nil, 0) })
	defer func() {
		stop()
		_ = unix.PidfdSendSignal(h.pidfd, unix.SIGKILL, nil, 0)
		for _, err := unix.Wait4(h.pid, nil, 0, nil); err == unix.EINTR; _, err = unix.Wait4(h.pid, nil, 0, nil) {
		}
		_ = unix.Close(h.control)
	}()
	for {
		message, err := h.receive()
		if errors.Is(err, ErrDied) && ctx.Err() == nil && h.ending() {
			return AttachResult{ExitCode: 128 + int(unix.SIGKILL), StepEnded: true}, nil // it was in the step's cgroup, and was killed with it
		}
		if err != nil {
			return AttachResult{}, err
		}
		if len(message) != messageSize || binary.NativeEndian.Uint64(message) != messageEnded {
			continue // it has begun
		}
		status := unix.WaitStatus(binary.NativeEndian.Uint32(message[8:]))
		if status.Signaled() {
			return AttachResult{ExitCode: 128 + int(status.Signal()), StepEnded: status.Signal() == unix.SIGKILL && h.ending()}, nil
		}
		return AttachResult{ExitCode: status.ExitStatus()}, nil
	}
}

// receive reads a message, and makes an error of one that tells of a failed call.
func (h *helper) receive() ([]byte, error) {
	var buf [messageSize]byte
	for {
		n, err := unix.Read(h.control, buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && err != unix.ECONNRESET:
			return nil, setupError("hear shell", "", err)
		case n <= 0:
			return nil, &SetupError{Op: "enter step", Kind: ErrDied}
		case n == 24 && binary.NativeEndian.Uint64(buf[:]) == messageFailed:
			return nil, h.failure(binary.NativeEndian.Uint64(buf[8:]), unix.Errno(-int64(binary.NativeEndian.Uint64(buf[16:]))))
		}
		return buf[:n], nil
	}
}

// failure is the error of a failed call, of either script.
func (h *helper) failure(address uint64, errno unix.Errno) error {
	s := h.script
	if address >= commandBase {
		s = h.command
	}
	err := s.failure(address, errno)
	var exec execError
	if errors.As(err, &exec) {
		return setupError("open a shell", h.shell, exec.error)
	}
	return err
}
