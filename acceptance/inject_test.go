package acceptance

import (
	"bytes"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Faults are injected by seccomp's user notification: a filter hands each call of certain names to this process, which lets it go,
// answers for the kernel, or kills. Unlike strace it counts over all threads and processes together, knows the file, and costs
// microseconds for a call. The filter goes away with the last process that has it, so its end says that nobody is left.

// injectEnv has the numbers of the calls that the test binary, started again, puts under the filter before it becomes gobuild.
const injectEnv = "GOBUILD_TEST_INJECT"

// call is one system call of a process under the filter.
type call struct {
	pid    int // the thread, as seen from here
	name   string
	args   [6]uint64
	path   string // the file, or the new name
	change bool   // it would change a file system
}

// answer is what becomes of a call: it goes on, unless it fails or has a result already.
type answer struct {
	errno syscall.Errno
	done  bool // the result is value, without the kernel
	value int64
}

// injectable are the calls that a fault can be injected into.
var injectable = map[string]uintptr{
	"openat": unix.SYS_OPENAT, "openat2": unix.SYS_OPENAT2, "mkdirat": unix.SYS_MKDIRAT, "renameat": unix.SYS_RENAMEAT,
	"renameat2": unix.SYS_RENAMEAT2, "unlinkat": unix.SYS_UNLINKAT, "linkat": unix.SYS_LINKAT, "symlinkat": unix.SYS_SYMLINKAT,
	"write": unix.SYS_WRITE, "pwrite64": unix.SYS_PWRITE64, "read": unix.SYS_READ, "pread64": unix.SYS_PREAD64, "fsync": unix.SYS_FSYNC,
	"syncfs": unix.SYS_SYNCFS, "ftruncate": unix.SYS_FTRUNCATE, "close": unix.SYS_CLOSE, "getdents64": unix.SYS_GETDENTS64,
	"copy_file_range": unix.SYS_COPY_FILE_RANGE, "flock": unix.SYS_FLOCK, "fcntl": unix.SYS_FCNTL, "ioctl": unix.SYS_IOCTL,
	"fsconfig": unix.SYS_FSCONFIG, "fsopen": unix.SYS_FSOPEN, "fsetxattr": unix.SYS_FSETXATTR, "setxattr": unix.SYS_SETXATTR,
	"lsetxattr": unix.SYS_LSETXATTR, "mount": unix.SYS_MOUNT, "unshare": unix.SYS_UNSHARE, "seccomp": unix.SYS_SECCOMP,
	"fallocate": unix.SYS_FALLOCATE, "sendfile": unix.SYS_SENDFILE,
}

// changing are the calls that change a file system, if they open nothing for reading alone.
var changing = []string{
	"openat", "openat2", "mkdirat", "renameat", "renameat2", "unlinkat", "linkat", "symlinkat", "write", "pwrite64", "fsync", "syncfs",
	"ftruncate", "copy_file_range", "fallocate",
}

// runInjected is w.run with each call of these names decided by decide, which is called by one goroutine. It returns when every process
// of the command is gone.
func (w *world) runInjected(cmd *exec.Cmd, names []string, decide func(call) answer) outcome {
	w.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	var numbers []string
	for _, name := range names {
		nr, ok := injectable[name]
		if !ok {
			w.t.Fatalf("no call %s", name)
		}
		numbers = append(numbers, fmt.Sprint(nr))
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	program := cmd.Path
	cmd.Path, cmd.Args = self, append([]string{program}, cmd.Args[1:]...)
	cmd.Env = append(cmd.Environ(), injectEnv+"="+strings.Join(numbers, " "))
	cmd.ExtraFiles = []*os.File{theirs}
	served := make(chan error, 1)
	o := w.runThen(cmd, func() {
		_ = theirs.Close()
		go func() { served <- serveCalls(pair[0], decide) }() // only now: decide may look at the process
	})
	if strings.HasPrefix(o.stderr, "inject:") {
		<-served
		w.t.Skip("needs seccomp's user notification (Linux 5.19): ", o.stderr)
	}
	select {
	case err := <-served:
		if err != nil {
			w.t.Fatalf("inject: %v\n%s", err, o.stderr)
		}
	case <-time.After(2 * time.Minute):
		w.t.Fatalf("processes of the build live on two minutes after it\n%s", o.stderr)
	}
	return o
}

// serveCalls answers until the last process under the filter is gone.
func serveCalls(socket int, decide func(call) answer) error {
	oob := make([]byte, unix.CmsgSpace(4))
	var n int
	err := again(func() (err error) {
		_, n, _, _, err = unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("no filter came: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	names := map[uintptr]string{}
	for name, nr := range injectable {
		names[nr] = name
	}
	for {
		wait := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		if err := again(func() error { _, err := unix.Poll(wait, -1); return err }); err != nil {
			return err
		}
		if wait[0].Revents&unix.POLLIN == 0 {
			return nil // everybody who has the filter is gone
		}
		// struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, instruction, six arguments.
		var in [80]byte
		switch err := ioctl(fds[0], unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&in)); {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR):
			continue // killed meanwhile
		case err != nil:
			return err
		}
		c := call{pid: int(encoding.NativeEndian.Uint32(in[8:])), name: names[uintptr(encoding.NativeEndian.Uint32(in[16:]))]}
		for i := range c.args {
			c.args[i] = encoding.NativeEndian.Uint64(in[32+8*i:])
		}
		c.describe()
		a := decide(c)
		// struct seccomp_notif_resp: id, value, error, flags.
		var out [24]byte
		copy(out[:8], in[:8])
		switch {
		case a.errno != 0:
			encoding.NativeEndian.PutUint32(out[16:], uint32(-int32(a.errno)))
		case a.done:
			encoding.NativeEndian.PutUint64(out[8:], uint64(a.value))
		default:
			encoding.NativeEndian.PutUint32(out[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		}
		if err := ioctl(fds[0], unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&out)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
}

func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// describe finds out which file a call is about.
func (c *call) describe() {
	switch c.name {
	case "openat":
		c.path = c.at(c.args[0], c.args[1])
		c.change = c.args[2]&(unix.O_CREAT|unix.O_TRUNC) != 0
	case "openat2":
		c.path = c.at(c.args[0], c.args[1])
		how := c.memory(c.args[2], 8)
		c.change = len(how) == 8 && encoding.NativeEndian.Uint64(how)&(unix.O_CREAT|unix.O_TRUNC) != 0
	case "mkdirat", "unlinkat":
		c.path, c.change = c.at(c.args[0], c.args[1]), true
	case "renameat", "renameat2", "linkat":
		c.path, c.change = c.at(c.args[2], c.args[3]), true
	case "symlinkat":
		c.path, c.change = c.at(c.args[1], c.args[2]), true
	case "copy_file_range":
		c.path, c.change = c.file(c.args[2]), true
	case "mount", "unshare", "seccomp", "fsopen", "setxattr", "lsetxattr":
	default:
		c.path = c.file(c.args[0])
		c.change = strings.Contains(" write pwrite64 fsync syncfs ftruncate fallocate ", " "+c.name+" ")
	}
}

// file is what a descriptor of the process means; a file of an overlay has its path there.
func (c *call) file(fd uint64) string {
	name := "cwd"
	if int32(fd) != unix.AT_FDCWD { //nolint:gosec // a descriptor is an int
		name = fmt.Sprint("fd/", int32(fd)) //nolint:gosec // the same
	}
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", c.pid, name))
	if err != nil {
		return ""
	}
	return target
}

func (c *call) at(fd, name uint64) string {
	data, _, _ := bytes.Cut(c.memory(name, 4096), []byte{0})
	if filepath.IsAbs(string(data)) {
		return string(data)
	}
	return filepath.Join(c.file(fd), string(data))
}

func (c *call) memory(address uint64, size int) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	data := make([]byte, size)
	n, _ := f.ReadAt(data, int64(address)) //nolint:gosec // addresses of a process are positive; less is no error at the end of its memory
	return data[:n]
}

// becomeInjected puts this process under the filter, hands that to its parent, and becomes the program. It is run by TestMain.
func becomeInjected(numbers string) error {
	runtime.LockOSThread()
	// struct seccomp_data begins with the number of the call.
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, word := range strings.Fields(numbers) {
		var nr uint32
		if _, err := fmt.Sscan(word, &nr); err != nil {
			return err
		}
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	// Without "wait killable" a signal makes the call start again, and it would be counted twice. Linux 5.19.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]} //nolint:gosec // some 20 calls
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, injectEnv+"=") })
	self, err := exec.LookPath(os.Args[0])
	if err != nil {
		return err
	}
	listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(int(listener))
	return syscall.Exec(self, os.Args, env)
}

// needInjection skips where the kernel has no user notification, or somebody else listens already.
func needInjection(t *testing.T) {
	t.Helper()
	newWorld(t, "FROM scratch\n", nil).runInjected(exec.Command(binary, "version"), []string{"fsync"}, func(call) answer { return answer{} })
}
