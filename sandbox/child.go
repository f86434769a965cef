package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/rescue"
)

// childName is argv[0] of a step's init, as ps shows it.
const childName = "gobuild-sandbox-init"

// child is the inside of one step: a thread of this process that is in namespaces of the step's own, and the init that it started
// there. All of its methods run on that thread.
type child struct {
	prep childPrep
	step *childStep

	initPID int // 0: it has been waited for
	control int // our end of the init's socket

	scratch int    // the tmpfs that is the root before the step's, later for clean-up
	net     int    // /proc/thread-self/net/dev
	badness string // the command's oom_score_adj; "": as it is
	caps    capSet // what gobuild has
	lastCap int    // that the kernel knows
	root    *stepRoot
	watch   *ownersOf    // where owners are recorded
	userID  owners.Owner // of the command, when it runs
	userNS  bool         // gobuild itself is in a user namespace
	held    map[int]bool // descriptors that close is to close
	notices []string
	loops   int // the last loop device that an insecure step has
}

// live is the whole life of a child, on a thread that ends with it, and with it what it holds of namespaces.
func (p *process) live(req *spawnRequest, exe *os.File) {
	defer close(p.over)
	c := &child{prep: req.prep, scratch: -1, held: map[int]bool{}}
	defer c.close()
	err := rescue.Do(func() error { return c.begin(req.net, exe, p) })
	p.born <- err
	if err != nil || !<-p.attached {
		return
	}
	prepErr := rescue.Do(c.prepare)
	select {
	case step := <-p.steps:
		p.outcome <- c.serve(step, prepErr)
	case <-p.quit:
	}
}

// serve runs a step, unless its world could not be built, and lets go of all that the step had.
func (c *child) serve(step *childStep, err error) (result childReply) {
	c.step = step
	if err == nil {
		err = rescue.Do(func() (err error) {
			result, err = c.run()
			return err
		})
	}
	if err == nil {
		c.settle()
	} else {
		c.close()
	}
	if err != nil {
		result = childReply{Err: setupError("run step", "", err)}
	}
	result.Notices = c.notices
	return result
}

// settle ends the step's processes, and lets go of all descriptors that keep the step's directories busy. What is mounted then is nothing
// but the scratch root, unless something has failed: it goes while the next step begins.
func (c *child) settle() {
	c.endInit()
	if c.root != nil {
		_ = c.root.tree.Close() // read only
	}
	if c.step != nil {
		closeAll(c.step.FDs)
		c.step.FDs = nil
	}
}

// close is settle, and unmounts what there is. It may be called again.
func (c *child) close() {
	c.settle()
	if c.scratch >= 0 {
		_ = unix.Unmount("/", unix.MNT_DETACH) // of the thread's own namespace; a root that was left before is none
	}
	for fd := range c.held {
		_ = unix.Close(fd)
	}
	c.held, c.scratch = map[int]bool{}, -1
}

// hold has close close a descriptor.
func (c *child) hold(fd int) int {
	c.held[fd] = true
	return fd
}

// place attaches a mount that is held, and closes it.
func (c *child) place(mount int, path string) error {
	delete(c.held, mount)
	return attachNewAt(mount, nil, path)
}

// begin enters the namespaces and starts the init, which mounts /proc.
func (c *child) begin(net *stepNet, exe *os.File, p *process) error {
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if net.join != nil {
		if err := enterNetwork(net.join); err != nil {
			return err
		}
	} else if net.own {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		e := setupError("create namespaces", "", err)
		if errors.Is(err, unix.EPERM) {
			e.Detail = "root with CAP_SYS_ADMIN is needed to run steps"
		}
		return e
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return setupError("make mounts private", "", err)
	}
	return c.startInit(exe, p)
}

// startInit starts PID 1.
func (c *child) startInit(exe *os.File, p *process) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return setupError("start init", "", err)
	}
	c.control = c.hold(pair[0])
	defer unix.Close(pair[1])
	script, err := c.initScript()
	if err != nil {
		return setupError("start init", "", err)
	}
	fd, err := script.open()
	if err != nil {
		return setupError("start init", "", err)
	}
	defer unix.Close(fd)
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return setupError("open", os.DevNull, err)
	}
	defer unix.Close(null)
	pidfd := -1
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exeFD), []string{childName}, &syscall.ProcAttr{
		Dir: "/",
		Env: []string{},
		Files: []uintptr{
			uintptr(null), p.outputs[0].Fd(), p.outputs[1].Fd(), uintptr(pair[1]), uintptr(fd), exe.Fd(),
		},
		// The signal comes when this thread ends, and so when gobuild does.
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return setupError("start init", "", err)
	}
	c.initPID = pid
	p.started(pid, pidfd)
	if _, err = c.receive(script); err != nil {
		return err
	}
	return c.takeListener(pidfd)
}

// initScript is what the init does before it serves. With one id it has the notifications of a filter at ownerFD.
func (c *child) initScript() (*script, error) {
	s := &script{base: scriptBase, signals: initSignals()}
	op := func(what string) scriptOp { return scriptOp{op: what} }
	// Those signals wait until the program takes them, and no other has an effect.
	s.call(op("block signals"), unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.words(^uint64(0)), 0, 8)
	s.call(op("protect init"), unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	s.call(op("name init"), unix.SYS_PRCTL, unix.PR_SET_NAME, s.text("gobuild-init"))
	// A new procfs shows the pid namespace of whoever mounts it. The thread outside takes it from here.
	proc := s.text("proc")
	s.call(op("mount proc"), unix.SYS_MOUNT, proc, s.text("/proc"), proc, unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, 0)
	if c.prep.EarlyFilter {
		// The command's process has it from here. To load one takes a good part of a millisecond, for which nobody waits here.
		if err := s.filter(c.prep.Filter); err != nil {
			return nil, err
		}
	}
	s.call(op("close descriptors"), unix.SYS_CLOSE_RANGE, scriptFD, uintptr(^uint32(0)), 0) // those that gobuild itself got, too
	command := uintptr(scriptFD)
	if c.prep.OneID {
		if err := s.watchOwners(); err != nil {
			return nil, err
		}
		command++
	}
	s.call(op("tell of start"), unix.SYS_WRITE, controlFD, s.words(messageReady), 8)
	// One message with the command's script and what else it needs; the descriptors get the lowest numbers, in order.
	control := s.bytes(make([]byte, unix.CmsgSpace(4*maxSent)))
	part := s.words(uint64(s.words(0)), 8)
	message := s.words(0, 0, uint64(part), 1, uint64(control), uint64(unix.CmsgSpace(4*maxSent)), 0) // struct msghdr
	s.call(op("receive command"), unix.SYS_RECVMSG, controlFD, message, 0)
	s.call(op("map command"), unix.SYS_MMAP, commandBase, maxScript, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED, command, 0)
	s.call(op("fork command"), scriptFork, commandBase+scriptStart)
	return s, nil
}

// initSignals are those that a supervisor inside may send to PID 1, for the command, and the one that says that a child has ended.
func initSignals() (set uint64) {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCHLD} {
		set |= 1 << (s - 1)
	}
	return set
}

// receive waits for a message, and makes an error of one that tells of a failed call.
func (c *child) receive(s *script) ([]byte, error) {
	var buf [messageSize]byte
	for {
		n, err := unix.Read(c.control, buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && err != unix.ECONNRESET:
			return nil, setupError("hear init", "", err)
		case n <= 0:
			return nil, &SetupError{Op: "run step", Kind: ErrDied}
		}
		if n == 24 && binary.NativeEndian.Uint64(buf[:]) == messageFailed {
			return nil, s.failure(binary.NativeEndian.Uint64(buf[8:]), unix.Errno(-int64(binary.NativeEndian.Uint64(buf[16:]))))
		}
		return buf[:n], nil
	}
}

// failure is the error of a failed call.
func (s *script) failure(address uint64, errno unix.Errno) error {
	op, ok := s.failed(address)
	if !ok {
		op = scriptOp{op: "run init"}
	}
	if op.exec {
		return execError{errno}
	}
	e := setupError(op.op, op.path, errno)
	if op.limit && errno == unix.EPERM {
		e.Kind = ErrLimitUnavailable
	}
	return e
}

// execError marks an error of starting the command itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// run puts the step's root together, runs the command in it, and takes it apart.
func (c *child) run() (childReply, error) {
	if err := c.enterRoot(); err != nil {
		return childReply{}, err
	}
	cmd, err := c.resolveCommand()
	if err != nil {
		return childReply{}, err
	}
	var result childReply
	if cmd.failure != ExecOK {
		result = childReply{Exec: cmd.failure, ExecText: cmd.text}
		c.endInit()
	} else if result, err = c.execute(cmd); err != nil {
		return childReply{}, err
	}
	return result, c.leaveRoot()
}

// execute runs the command to its end, and the end of all that it left behind.
func (c *child) execute(cmd *command) (childReply, error) {
	c.userID = owners.Owner{UID: cmd.user.UID, GID: cmd.user.GID}
	script, err := c.commandScript(cmd)
	if err != nil {
		return childReply{}, err
	}
	start := time.Now()
	if err := c.send(script, cmd); err != nil {
		return childReply{}, err
	}
	if err := c.await(); err != nil {
		return childReply{}, err
	}
	message, err := c.receive(script)
	wall := time.Since(start)
	usage := c.endInit()
	if err != nil {
		return cmd.startFailed(err)
	}
	if len(message) != messageSize || binary.NativeEndian.Uint64(message) != messageEnded {
		return childReply{}, &SetupError{Op: "hear init", Detail: fmt.Sprintf("a message of %d bytes", len(message))}
	}
	status := unix.WaitStatus(binary.NativeEndian.Uint32(message[8:]))
	result := childReply{Wall: wall, ExitCode: status.ExitStatus(), UID: c.userID.UID, GID: c.userID.GID}
	if status.Signaled() {
		result.Signal = int(status.Signal())
		result.ExitCode = 128 + result.Signal
	}
	c.count(&result, usage)
	// That of the init has what gobuild had when it started the init.
	result.MaxRSS = (*unix.Rusage)(unsafe.Pointer(&message[16])).Maxrss << 10
	return result, nil
}

// send gives the init the command.
func (c *child) send(s *script, cmd *command) error {
	fd, err := s.open()
	if err != nil {
		return setupError("start command", cmd.args[0], err)
	}
	defer unix.Close(fd)
	dir, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return setupError("open working directory", "", err)
	}
	defer unix.Close(dir)
	fds := []int{fd, dir}
	if cmd.stdin >= 0 {
		fds = append(fds, cmd.stdin)
	}
	if c.step.UserNS >= 0 {
		fds = append(fds, c.step.UserNS)
	}
	err = unix.Sendmsg(c.control, []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil // the init has died, as reading will tell
	}
	return inContext("send command to init", err)
}

// endInit ends PID 1 and with it every process of the step, and says what it and those that it waited for have used.
func (c *child) endInit() (usage unix.Rusage) {
	if c.initPID == 0 {
		return usage
	}
	_ = unix.Kill(c.initPID, unix.SIGKILL) // not waited for yet, so the number is still its own
	for {
		_, err := unix.Wait4(c.initPID, nil, 0, &usage)
		if err != unix.EINTR {
			break
		}
	}
	c.initPID = 0
	return usage
}

// count reads what the kernel counted of the step's processes, and of their network.
func (c *child) count(r *childReply, usage unix.Rusage) {
	r.User = time.Duration(usage.Utime.Nano())
	r.Sys = time.Duration(usage.Stime.Nano())
	r.Read, r.Written = usage.Inblock*512, usage.Oublock*512 // blocks of 512 bytes whatever the device has, getrusage(2)
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
