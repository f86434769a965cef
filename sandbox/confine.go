package sandbox

import (
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"gobuild/internal/passwd"
)

// commandScript is what a process does between its fork from the init and the command: it takes its descriptors and limits, becomes
// the step's user, gives its privileges up, and executes. A filter of system calls that the user gave goes in as late as it can: after it
// only the last capabilities are set and the command is executed, which it must allow.
func (c *child) commandScript(cmd *command) (*script, error) {
	s := &script{base: commandBase}
	op := func(what, path string) scriptOp { return scriptOp{op: what, path: path} }
	// The descriptors as send passed them: this script, the working directory, and stdin.
	dirFD, stdinFD := uintptr(scriptFD+1), uintptr(scriptFD+2)
	if c.prep.OneID { // the init has one more
		dirFD, stdinFD = dirFD+1, stdinFD+1
	}
	free := stdinFD
	s.call(op("unblock signals", ""), unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.words(0), 0, 8)
	s.call(op("prepare command", ""), unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1) // else its files in /proc are not its own
	s.call(op("start session", ""), unix.SYS_SETSID)
	const atFDCWD = ^uintptr(99) // -100
	if cmd.stdin < 0 {
		s.call(op("close stdin", ""), unix.SYS_CLOSE, 0)
		s.call(op("open", "/dev/null"), unix.SYS_OPENAT, atFDCWD, s.text("/dev/null"), unix.O_RDWR, 0) // that of the step
	} else {
		free++
		s.call(op("give stdin to command", ""), unix.SYS_DUP3, stdinFD, 0, 0)
	}
	userNS := free
	if c.step.UserNS >= 0 {
		free++
	}
	if cmd.terminal {
		s.call(op("give terminal to command", ""), unix.SYS_DUP3, stdinFD, 1, 0)
		s.call(op("give terminal to command", ""), unix.SYS_DUP3, stdinFD, 2, 0)
		s.call(op("give terminal to command", ""), unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
	}
	for _, fd := range []int{1, 2} {
		// So that a command with USER can open /dev/stdout. A terminal or pipe that belongs to another namespace's ids stays as it is.
		s.try(unix.SYS_FCHOWN, uintptr(fd), uintptr(cmd.user.UID), uintptr(cmd.user.GID))
	}
	s.call(op("enter working directory", ""), unix.SYS_FCHDIR, dirFD)
	s.call(op("set umask", ""), unix.SYS_UMASK, 0o022)
	if c.badness != "" {
		s.try(unix.SYS_OPENAT, atFDCWD, s.text("/proc/self/oom_score_adj"), unix.O_WRONLY, 0)
		s.try(unix.SYS_WRITE, free, s.text(c.badness), uintptr(len(c.badness)))
		s.try(unix.SYS_CLOSE, free)
	}
	var files unix.Rlimit // of the init: gobuild's own soft limit was raised by its runtime
	if err := unix.Prlimit(c.initPID, unix.RLIMIT_NOFILE, nil, &files); err != nil {
		return nil, setupError("read limit", "nofile", err)
	}
	s.limit(files, c.step.Rlimits)
	if c.step.UserNS >= 0 {
		// It gives all capabilities in there, which are limited next.
		s.call(op("enter emulation", ""), unix.SYS_SETNS, userNS, unix.CLONE_NEWUSER)
	}
	if c.prep.OneID {
		s.becomeUser(c.userID, free)
	}
	if err := c.prep.confine(s, &cmd.user, c.caps, c.lastCap); err != nil {
		return nil, err
	}
	s.call(scriptOp{exec: true}, unix.SYS_EXECVE, s.text(cmd.path), s.list(cmd.args), s.list(cmd.env))
	return s, nil
}

// confine adds the end of the script: what makes the process the step's user with the step's privileges. have are the capabilities
// that it has until then, and last is the number of the last one that there is.
func (prep *childPrep) confine(s *script, user *passwd.User, have capSet, last int) error {
	op := func(what string) scriptOp { return scriptOp{op: what} }
	p := &prep.Privileges
	keep := p.Caps & have // a container around us may have fewer, and asking for more than one has is EPERM for all
	for n := 0; n <= last; n++ {
		if !p.Caps.has(n) {
			s.call(op("limit capabilities"), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n))
		}
	}
	groups := make([]uint64, (len(user.Groups)+1)/2)
	for i, g := range user.Groups {
		groups[i/2] |= uint64(g) << (32 * (i % 2))
	}
	uid, gid := uintptr(user.UID), uintptr(user.GID)
	if !prep.OneID {
		s.call(op("become user"), unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
		s.call(op("become user"), unix.SYS_SETGROUPS, uintptr(len(user.Groups)), s.words(groups...))
		s.call(op("become user"), unix.SYS_SETRESGID, gid, gid, gid)
		s.call(op("become user"), unix.SYS_SETRESUID, uid, uid, uid)
		s.call(op("become user"), unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0)
	}
	if uid != 0 && !p.Insecure {
		keep = 0
	}
	s.close() // the filter may forbid it
	s.call(op("limit capabilities"), unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	late := len(prep.Filter) > 0 && !prep.EarlyFilter
	if late || p.NoNewPrivileges {
		s.setCaps(have, 0) // effective again
	}
	if p.NoNewPrivileges {
		s.call(op("set no_new_privs"), unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if p.Insecure {
		s.setCaps(keep, keep)
		for _, n := range keep.upTo(last) { // a command with USER keeps them too
			s.call(op("keep capabilities"), unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0)
		}
		return nil
	}
	if late {
		if err := s.filter(prep.Filter); err != nil {
			return err
		}
	}
	s.setCaps(keep, 0)
	return nil
}

// filter loads a filter of system calls, which takes CAP_SYS_ADMIN, or no_new_privs.
func (s *script) filter(program []byte) error {
	size := int(unsafe.Sizeof(unix.SockFilter{}))
	if len(program)%size != 0 {
		return setupError("load seccomp filter", "", unix.EINVAL)
	}
	address := s.words(uint64(len(program)/size), uint64(s.bytes(program))) // struct sock_fprog
	s.call(scriptOp{op: "load seccomp filter"}, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, address)
	return nil
}

// setCaps gives exactly these capabilities, none of them inheritable or ambient unless asked for (CVE-2022-24769).
func (s *script) setCaps(keep, inheritable capSet) {
	var sets []uint64 // two times effective, permitted, inheritable, of 32 bits each
	low, high := uint64(uint32(keep)), uint64(keep>>32)
	inLow, inHigh := uint64(uint32(inheritable)), uint64(inheritable>>32)
	sets = append(sets, low|low<<32, inLow|high<<32, high|inHigh<<32)
	s.call(scriptOp{op: "set capabilities"}, unix.SYS_CAPSET, s.words(unix.LINUX_CAPABILITY_VERSION_3), s.words(sets...))
}

// close has every descriptor but the first three closed by execve(2).
func (s *script) close() {
	s.call(scriptOp{op: "close descriptors"}, unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
}

// limit sets resource limits, while that can be done. files is what the init has of descriptors.
func (s *script) limit(files unix.Rlimit, limits []Rlimit) {
	set := func(name string, number int, l unix.Rlimit) {
		s.call(scriptOp{op: "set limit", path: name, limit: true}, unix.SYS_PRLIMIT64, 0, uintptr(number), s.words(l.Cur, l.Max), 0)
	}
	set("core", unix.RLIMIT_CORE, unix.Rlimit{})
	if files.Max > maxNoFile {
		set("nofile", unix.RLIMIT_NOFILE, unix.Rlimit{Cur: min(files.Cur, maxNoFile), Max: maxNoFile})
	}
	for _, l := range limits {
		number, _ := rlimitNumber(l.Name)
		set(l.Name, number, l.value())
	}
}

// value is the limit as the kernel has it: -1 is RLIM_INFINITY as an unsigned number.
func (l Rlimit) value() unix.Rlimit { return unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)} }

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

// heldCaps are the capabilities that this process has, and the number of the last one that the kernel knows.
func heldCaps() (have capSet, last int, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, 0, err
	}
	for {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(last+1), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		last++
	}
	return capSet(data[0].Permitted) | capSet(data[1].Permitted)<<32, last, nil
}
