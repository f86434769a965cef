package sandbox

import (
	"bytes"
	"errors"
	"path"
	"strconv"
	"strings"
	"unsafe"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
)

// In a user namespace with one id, whoever asks the kernel to give a file to somebody else, or to become somebody else, is refused:
// there is nobody else. Package managers ask all the time. So a filter hands those calls to the child of the step, which writes
// down the owner that root would have set (internal/owners), and lets who wants to become another user believe it.
//
// A step with USER has one more user namespace, in which the one id is that user's number.

// ownerFD is where the init has the notifications of its filter.
const ownerFD = scriptFD

// chownCalls change owners, userCalls the caller's identity.
func chownCalls() []string { return []string{"chown", "lchown", "fchown", "fchownat"} }

func userCalls() []string {
	return []string{"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups"}
}

// ownersFilter is the program that stops at those calls. Programs of other instruction sets get the kernel's answer.
func ownersFilter() ([]byte, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	const notify = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	allow := netbpf.RetConstant{Val: uint32(bpf.ActionAllow)}
	program := []netbpf.Instruction{
		netbpf.LoadAbsolute{Off: seccompArch, Size: 4}, netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1}, allow,
		netbpf.LoadAbsolute{Off: seccompNumber, Size: 4},
	}
	for _, name := range append(chownCalls(), userCalls()...) {
		if number, known := info.SyscallNames[name]; known {
			program = append(program, netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(number), SkipFalse: 1}, netbpf.RetConstant{Val: notify})
		}
	}
	return encodeFilter(append(program, allow))
}

// watchOwners has the init load the filter, which its children inherit.
func (s *script) watchOwners() error {
	filter, err := ownersFilter()
	if err != nil {
		return err
	}
	program := s.words(uint64(len(filter)/int(unsafe.Sizeof(unix.SockFilter{}))), uint64(s.bytes(filter))) // struct sock_fprog
	s.call(scriptOp{op: "watch owners"}, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, program)
	return nil
}

// ownersOf is what a child needs to answer those calls.
type ownersOf struct {
	listener int // of notifications
	proc     int // the host's /proc, in which their processes are found
	own      int // this thread's descriptors there
	names    map[int]string
}

// takeListener takes the init's end of the notifications. What is opened besides is the host's, while that is in sight.
func (c *child) takeListener(pidfd int) error {
	if !c.prep.OneID {
		return nil
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return setupError("watch owners", "", err)
	}
	w := &ownersOf{names: info.SyscallNumbers}
	if w.listener, err = unix.PidfdGetfd(pidfd, ownerFD, 0); err != nil {
		return setupError("watch owners", "", err)
	}
	c.hold(w.listener)
	c.watch = w
	return nil
}

func (w *ownersOf) open(c *child) (err error) {
	for path, into := range map[string]*int{"/proc": &w.proc, "/proc/thread-self/fd": &w.own} {
		if *into, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return setupError("open", path, err)
		}
		c.hold(*into)
	}
	return nil
}

// await waits for the init's message, and answers calls meanwhile.
func (c *child) await() error {
	for c.watch != nil {
		fds := []unix.PollFd{{Fd: int32(c.control), Events: unix.POLLIN}, {Fd: int32(c.watch.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return setupError("hear init", "", err)
		}
		if fds[0].Revents != 0 {
			return nil
		}
		if fds[1].Revents&unix.POLLIN != 0 {
			if err := c.answer(); err != nil {
				return setupError("answer step's call", "", err)
			}
		}
	}
	return nil
}

// notification is struct seccomp_notif, reply struct seccomp_notif_resp (seccomp_unotify(2)).
type notification struct {
	id     uint64
	pid    uint32
	flags  uint32
	number int32
	arch   uint32
	ip     uint64
	args   [6]uint64
}

type notificationReply struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

func (c *child) answer() error {
	var n notification
	err := ioctl(c.watch.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
		return nil // who called was killed meanwhile
	}
	if err != nil {
		return err
	}
	reply := notificationReply{id: n.id}
	if err := c.decide(&n); err != nil {
		reply.err = -int32(unix.EIO)
		var errno unix.Errno
		if errors.As(err, &errno) {
			reply.err = -int32(errno)
		}
	}
	err = ioctl(c.watch.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&reply))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// decide does what a call asks for, as far as there is anything to do.
func (c *child) decide(n *notification) error {
	a := &n.args
	fdcwd := int32(unix.AT_FDCWD)
	switch c.watch.names[int(n.number)] {
	case "chown":
		return c.chown(n, fdcwd, a[0], a[1], a[2], 0)
	case "lchown":
		return c.chown(n, fdcwd, a[0], a[1], a[2], unix.AT_SYMLINK_NOFOLLOW)
	case "fchownat":
		return c.chown(n, int32(a[0]), a[1], a[2], a[3], int(a[4]))
	case "fchown":
		return c.chown(n, int32(a[0]), 0, a[1], a[2], unix.AT_EMPTY_PATH)
	case "setuid", "setreuid", "setresuid":
		return c.becomes(c.userID.UID, a[:argsOf(c.watch.names[int(n.number)])])
	case "setgid", "setregid", "setresgid":
		return c.becomes(c.userID.GID, a[:argsOf(c.watch.names[int(n.number)])])
	}
	return c.becomes(0, nil) // setgroups
}

func argsOf(call string) int {
	switch {
	case strings.HasPrefix(call, "setres"):
		return 3
	case strings.HasPrefix(call, "setre"):
		return 2
	}
	return 1
}

// becomes lets root believe that it is somebody else now. Others stay who they are.
func (c *child) becomes(own uint32, ids []uint64) error {
	if c.userID.UID == 0 {
		return nil
	}
	for _, id := range ids {
		if uint32(id) != own && uint32(id) != same {
			return unix.EPERM
		}
	}
	if ids == nil {
		return unix.EPERM
	}
	return nil
}

// same is (uid_t)-1: chown(2), "is not changed".
const same = ^uint32(0)

// chown records an owner.
func (c *child) chown(n *notification, dirfd int32, address, uid, gid uint64, flags int) error {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	name := ""
	if address != 0 {
		var err error
		if name, err = c.watch.text(n, uintptr(address)); err != nil {
			return err
		}
	}
	if name == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return unix.ENOENT
	}
	if strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/") {
		return nil // in no image
	}
	t := &chownTarget{watch: c.watch, n: n, dirfd: dirfd, name: name, follow: flags&unix.AT_SYMLINK_NOFOLLOW == 0}
	defer t.close()
	if err := t.find(); err != nil {
		return err
	}
	if c.userID.UID == 0 {
		return t.set(uint32(uid), uint32(gid))
	}
	if !mayAsk(c.userID, uint32(uid), uint32(gid)) {
		return unix.EPERM
	}
	return nil
}

// text reads a path of the caller's.
func (w *ownersOf) text(n *notification, address uintptr) (string, error) {
	buf := make([]byte, unix.PathMax)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	got, err := unix.ProcessVMReadv(int(n.pid), local, []unix.RemoteIovec{{Base: address, Len: len(buf)}}, 0)
	if err != nil {
		// The page after the one with the path may not be there.
		rest := int(-address & 0xfff)
		if rest == 0 || rest >= len(buf) {
			return "", unix.EFAULT
		}
		if got, err = unix.ProcessVMReadv(int(n.pid), local, []unix.RemoteIovec{{Base: address, Len: rest}}, 0); err != nil {
			return "", unix.EFAULT
		}
	}
	// The number may belong to another process by now.
	if err := ioctl(w.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id)); err != nil {
		return "", err
	}
	end := bytes.IndexByte(buf[:got], 0)
	if end < 0 {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:end]), nil
}

// chownTarget is what a call names.
type chownTarget struct {
	watch  *ownersOf
	n      *notification
	dirfd  int32
	name   string // "": dirfd itself
	follow bool

	base int // where the name begins
	fd   int // path descriptor
	st   unix.Stat_t
	fds  []int
}

func (t *chownTarget) close() { closeAll(t.fds) }

func (t *chownTarget) keep(fd int, err error) (int, error) {
	if err == nil {
		t.fds = append(t.fds, fd)
	}
	return fd, err
}

// find opens the target as the caller sees it: this thread has the step's mounts, and its root.
func (t *chownTarget) find() (err error) {
	process := strconv.Itoa(int(t.n.pid))
	place := process + "/cwd"
	if t.dirfd >= 0 {
		place = process + "/fd/" + strconv.Itoa(int(t.dirfd))
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	if path.IsAbs(t.name) {
		place, how.Resolve = process+"/root", unix.RESOLVE_IN_ROOT // it may have changed its root
	}
	if t.base, err = t.keep(unix.Openat(t.watch.proc, place, unix.O_PATH|unix.O_CLOEXEC, 0)); err != nil {
		return unix.EBADF
	}
	t.fd = t.base
	if t.name != "" {
		if !t.follow {
			how.Flags |= unix.O_NOFOLLOW
		}
		if t.fd, err = t.keep(unix.Openat2(t.base, t.name, &how)); err != nil {
			return err
		}
	}
	return unix.Fstat(t.fd, &t.st)
}

// set records the owner, of which the caller may leave parts as they are.
func (t *chownTarget) set(uid, gid uint32) error {
	kind := t.st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return t.setSpecial(uid, gid)
	}
	fd, err := t.keep(unix.Openat(t.watch.own, strconv.Itoa(t.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0))
	if err != nil {
		return err
	}
	old, err := owners.Of(fd)
	if err != nil {
		return err
	}
	if err := owners.Record(fd, merged(old, uid, gid)); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // a mount that is no part of the image
		}
		return err
	}
	return dropSetID(fd, &t.st)
}

// dropSetID does what else chown(2) does to a file.
func dropSetID(fd int, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if err := unix.Fremovexattr(fd, "security.capability"); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	drop := st.Mode & unix.S_ISUID
	if st.Mode&unix.S_IXGRP != 0 {
		drop |= st.Mode & unix.S_ISGID
	}
	if drop == 0 {
		return nil
	}
	return unix.Fchmod(fd, st.Mode&0o7777&^drop)
}

// merged is the owner after a call.
func merged(old owners.Owner, uid, gid uint32) owners.Owner {
	if uid != same {
		old.UID = uid
	}
	if gid != same {
		old.GID = gid
	}
	return old
}

// mayAsk says what a step's user who is not root may ask for: only root gives files away, so it changes nothing.
func mayAsk(user owners.Owner, uid, gid uint32) bool {
	return (uid == same || uid == user.UID) && (gid == same || gid == user.GID)
}

// setSpecial records the owner of a link or special file, in the directory that has it.
func (t *chownTarget) setSpecial(uid, gid uint32) error {
	dir, name := path.Split(t.name)
	if name == "" || t.st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil // a pipe or socket; in no image
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC}
	if path.IsAbs(t.name) {
		how.Resolve = unix.RESOLVE_IN_ROOT
	}
	if dir == "" {
		dir = "."
	}
	fd, err := t.keep(unix.Openat2(t.base, dir, &how))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Ino != t.st.Ino || st.Dev != t.st.Dev {
		return unix.EOPNOTSUPP // of a special file by way of a link
	}
	old, err := owners.OfLink(fd, name)
	if err != nil {
		return err
	}
	if err := owners.RecordLink(fd, name, merged(old, uid, gid)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

// becomeUser makes a process of a step the step's user where there is one id: in one more user namespace, in which that has the user's number.
func (s *script) becomeUser(u owners.Owner, free uintptr) {
	if u == (owners.Owner{}) {
		return
	}
	op := scriptOp{op: "become user"}
	s.call(op, unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	for _, m := range []struct {
		file string
		id   uint32
	}{{"/proc/self/uid_map", u.UID}, {"/proc/self/gid_map", u.GID}} {
		text := strconv.FormatUint(uint64(m.id), 10) + " 0 1\n"
		s.call(op, unix.SYS_OPENAT, ^uintptr(99), s.text(m.file), unix.O_WRONLY, 0)
		s.call(op, unix.SYS_WRITE, free, s.text(text), uintptr(len(text)))
		s.call(op, unix.SYS_CLOSE, free)
	}
}

// aptRule keeps apt from becoming a user of its own for downloads, which it verifies, and which a namespace with one id has not: it
// looks whether it became that user.
const aptRule = "APT::Sandbox::User \"root\";\n"

const aptFolder = "/etc/apt/apt.conf.d"

func (c *child) adaptPrograms(r *stepRoot) {
	if st, err := r.tree.Stat(aptFolder); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		c.step.Mounts = append(c.step.Mounts, stepMount{
			FD: -1, Target: aptFolder + "/99-one-id", IsFile: true, NoFollow: true, ReadOnly: true, NoExec: true, Data: []byte(aptRule), Mode: 0o644,
		})
	}
}
