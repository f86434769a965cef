// Attack tries from inside of a step what a step must not be able to do. It prints a line for each attempt that worked, BAD first, and
// "done" in the end, so that a program which did not run is no success. Where there is no wall, what it does changes nothing: it sets
// to what already is, so that the machine of a failing test is as before.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// The numbers of calls that package syscall lacks on x86_64.
const (
	sysProcessVMReadv = 310
	sysKcmp           = 312
	sysRenameat2      = 316
	sysPidfdOpen      = 434
	sysPidfdGetfd     = 438
	renameExchange    = 2
	atCurrent         = ^uintptr(99) // AT_FDCWD
)

func main() {
	switch os.Args[1] {
	case "self":
		self()
	case "chroot":
		chroot()
	case "swap":
		swap(os.Args[2], os.Args[3])
	case "net":
		network(os.Args[2:])
	case "files":
		files()
	case "memory":
		memory()
	case "lock":
		lock()
	case "send":
		send(os.Args[2], os.Args[3])
	case "take":
		take(os.Args[2], os.Args[3])
	case "overlay":
		overlay()
	case "init":
		initLimits()
	case "loop":
		sendInLoop()
	case "ambush":
		ambush()
	}
	fmt.Println("done")
}

func bad(format string, args ...any) { fmt.Printf("BAD "+format+"\n", args...) }

// try reports an attempt without an error.
func try(what string, err error) {
	if err == nil {
		bad("%s", what)
	}
}

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
		return e
	}
	return nil
}

func open(path string, flags int) error {
	fd, err := syscall.Open(path, flags, 0)
	if err == nil {
		_ = syscall.Close(fd)
	}
	return err
}

// self reaches for the init and for gobuild's program.
func self() {
	for _, flags := range []int{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_WRONLY | syscall.O_TRUNC} {
		try("open init's program", open("/proc/1/exe", flags))
		try("open init's memory", open("/proc/1/mem", flags))
	}
	for _, file := range []string{"exe", "mem", "environ", "maps", "ns/mnt", "stack", "syscall", "pagemap", "auxv", "io"} {
		for _, dir := range []string{"/proc/1/", "/proc/1/task/1/"} {
			data, _ := os.ReadFile(dir + file) // what cannot be read is empty, too
			if len(data) > 0 {
				bad("read init's %s: %.20q", file, data)
			}
		}
	}
	for _, pattern := range []string{"/proc/1/root/*", "/proc/1/cwd/*"} {
		for _, name := range list(pattern) {
			bad("sees %s", name)
		}
	}
	for _, name := range append(list("/proc/1/fd/*"), append(list("/proc/1/map_files/*"), "/proc/1/exe", "/proc/1/root", "/proc/1/cwd", "/proc/1/ns/mnt")...) {
		try("open "+name, open(name, syscall.O_RDONLY))
		_, err := os.Readlink(name)
		try("read the link "+name, err)
	}
	// Not oom_score_adj: that init is killed first for want of memory is the step's own loss.
	for _, file := range []string{"attr/exec", "attr/current", "uid_map", "setgroups", "comm", "clear_refs", "timens_offsets", "loginuid"} {
		try("write init's "+file, os.WriteFile("/proc/1/"+file, []byte("0"), 0))
	}
	const seize, attach = 0x4206, 16
	try("ptrace seize", call(syscall.SYS_PTRACE, seize, 1, 0, 0))
	try("ptrace attach", call(syscall.SYS_PTRACE, attach, 1, 0, 0))
	buf := make([]byte, 8)
	local := [2]uintptr{uintptr(unsafe.Pointer(&buf[0])), 8}
	try("process_vm_readv", call(sysProcessVMReadv, 1, uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&local)), 1, 0))
	try("kcmp", call(sysKcmp, uintptr(os.Getpid()), 1, 0, 0, 0))
	if fd, _, e := syscall.RawSyscall(sysPidfdOpen, 1, 0, 0); e == 0 {
		for n := range uintptr(16) {
			try("pidfd_getfd "+strconv.Itoa(int(n)), call(sysPidfdGetfd, fd, n, 0))
		}
	}
	for _, other := range list("/proc/[0-9]*") {
		if pid := filepath.Base(other); pid != "1" && pid != strconv.Itoa(os.Getpid()) {
			bad("sees the process %s", pid)
		}
	}
	// Go's runtime has opened an epoll instance and the limits of its cgroup.
	for _, fd := range list("/proc/self/fd/*") {
		target, err := os.Readlink(fd)
		n, _ := strconv.Atoi(filepath.Base(fd))
		if err == nil && n > 2 && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			bad("has the descriptor %d of %s", n, target)
		}
	}
	cwd, err := syscall.Open("/proc/self/cwd", syscall.O_RDONLY, 0)
	if err == nil {
		if err := syscall.Fchdir(cwd); err == nil {
			climb()
		}
	}
}

// climb goes up as far as it can, and looks whether that is still the root.
func climb() {
	for range 100 {
		_ = syscall.Chdir("..")
	}
	var here, root syscall.Stat_t
	if syscall.Stat(".", &here) != nil || syscall.Stat("/", &root) != nil || here.Ino != root.Ino || here.Dev != root.Dev {
		wd, _ := os.Getwd()
		bad("came to %s above the root", wd)
	}
}

func list(pattern string) []string {
	names, _ := filepath.Glob(pattern)
	return names
}

// chroot leaves a root below its own by the folder that it kept.
func chroot() {
	if err := os.Mkdir("/jail", 0o755); err != nil {
		bad("mkdir: %v", err)
	}
	root, err := syscall.Open("/", syscall.O_RDONLY, 0)
	if err != nil {
		bad("open: %v", err)
	}
	if err := syscall.Chroot("/jail"); err != nil {
		bad("chroot is a capability of steps: %v", err)
	}
	_ = syscall.Fchdir(root)
	for range 100 {
		_ = syscall.Chdir("..")
	}
	if err := syscall.Chroot("."); err != nil {
		bad("chroot back: %v", err)
	}
	climb()
	for _, name := range list("/*") {
		fmt.Println(name)
	}
	_ = syscall.Rmdir("/jail")
}

// swap exchanges two names for as long as it is let.
func swap(a, b string) {
	from, _ := syscall.BytePtrFromString(a)
	to, _ := syscall.BytePtrFromString(b)
	fmt.Println("swapping")
	for i := 0; ; i++ {
		err := call(sysRenameat2, atCurrent, uintptr(unsafe.Pointer(from)), atCurrent, uintptr(unsafe.Pointer(to)), renameExchange)
		if err != nil {
			bad("exchange: %v", err)
			return
		}
	}
}

// network reaches for addresses ("tcp ADDRESS", "unix @NAME" as pairs of arguments), raw sockets and routes.
func network(pairs []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		c, err := net.Dial(pairs[i], pairs[i+1])
		if err == nil {
			_ = c.Close()
		}
		try("connect to "+pairs[i+1], err)
	}
	const afPacket, allFrames = 17, 0x0300 // htons(ETH_P_ALL)
	fd, err := syscall.Socket(afPacket, syscall.SOCK_RAW, allFrames)
	if err == nil {
		// It may be there in a network of the step's own, and then it sees nothing but that.
		faces, _ := net.Interfaces()
		for _, face := range faces {
			if face.Flags&net.FlagLoopback == 0 && face.Name != "eth0" {
				bad("sniffs at %s", face.Name)
			}
		}
		_ = syscall.Close(fd)
	}
	if fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0); err == nil {
		request := struct {
			name  [16]byte
			flags uint16
			_     [22]byte
		}{flags: syscall.IFF_UP}
		copy(request.name[:], "lo")
		const setFlags, addRoute = 0x8914, 0x890b // SIOCSIFFLAGS, SIOCADDRT
		try("set an interface up", call(syscall.SYS_IOCTL, uintptr(fd), setFlags, uintptr(unsafe.Pointer(&request))))
		var route [120]byte
		try("add a route", call(syscall.SYS_IOCTL, uintptr(fd), addRoute, uintptr(unsafe.Pointer(&route))))
	}
	for _, file := range list("/proc/sys/net/ipv4/*") {
		try("write "+file, open(file, syscall.O_WRONLY))
	}
}

// files opens as many descriptors as it gets.
func files() {
	n := 0
	for ; n < 2<<20; n++ {
		if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
			break
		}
	}
	fmt.Println("descriptors:", n)
}

// memory takes all that there is, page by page.
func memory() {
	for {
		data, err := syscall.Mmap(-1, 0, 16<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			fmt.Println("mmap:", err)
			return
		}
		for i := 0; i < len(data); i += 4096 {
			data[i] = 1
		}
	}
}

// lock pins memory.
func lock() {
	data, err := syscall.Mmap(-1, 0, 64<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err == nil {
		try("mlock of 64 MiB", syscall.Mlock(data))
	}
	try("mlockall", syscall.Mlockall(2))
}
