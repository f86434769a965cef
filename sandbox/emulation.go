package sandbox

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/ownthread"
)

// Emulator is a program that runs those of another architecture. It is opened on this machine, not in the step's root, so it needs
// to be static.
type Emulator struct {
	Arch string // as in an image's platform
	Path string
}

// Emulation is a user namespace with a binfmt_misc of its own, in which programs of other architectures run without a change that others on this
// machine notice (binfmt-misc.rst; Linux 6.7). It is for the commands of steps (Spec.Emulation). Its ids are those of this process.
type Emulation struct {
	keeper *os.File // its user namespace
	quit   chan struct{}
	over   chan struct{}
	stop   sync.Once
}

// StartEmulation makes a namespace for emulators. A machine that cannot have one is told by an error that wraps ErrUnsupported.
func StartEmulation(list []Emulator) (*Emulation, error) {
	s, err := emulationScript(list)
	if err != nil {
		return nil, err
	}
	e := &Emulation{quit: make(chan struct{}), over: make(chan struct{})}
	born := make(chan error, 1)
	go func() {
		defer close(e.over)
		// The keeper is killed when the thread that started it ends, and so when this process does.
		err := ownthread.Do(func() error {
			k, err := e.startKeeper(s)
			if err != nil {
				return err
			}
			defer k.end()
			born <- nil
			<-e.quit
			return nil
		})
		born <- err // read once: that of the start
	}()
	if err := <-born; err != nil {
		<-e.over
		return nil, err
	}
	return e, nil
}

// namespace gives a descriptor of the user namespace, which is the caller's.
func (e *Emulation) namespace() (int, error) {
	fd, err := unix.FcntlInt(e.keeper.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	return fd, inContext("enter emulation", err)
}

// Close ends it. Steps that use it must have ended.
func (e *Emulation) Close() error {
	e.stop.Do(func() { close(e.quit) })
	<-e.over
	return e.keeper.Close()
}

// keeper is the process that holds the namespace and what is mounted in it.
type keeper struct{ pid, control int }

func (k *keeper) end() {
	_ = unix.Kill(k.pid, unix.SIGKILL) // not waited for yet, so the number is still its own
	for _, err := unix.Wait4(k.pid, nil, 0, nil); err == unix.EINTR; _, err = unix.Wait4(k.pid, nil, 0, nil) {
	}
	_ = unix.Close(k.control)
}

// startKeeper starts the init's program in the new namespace, and waits until it has registered the emulators.
func (e *Emulation) startKeeper(s *script) (_ *keeper, err error) {
	exe, err := openProgram()
	if err != nil {
		return nil, err
	}
	defer exe.Close() // read only
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, setupError("start emulation", "", err)
	}
	k := &keeper{control: pair[0]}
	defer func() { _ = unix.Close(pair[1]) }()
	script, err := s.open()
	if err != nil {
		_ = unix.Close(k.control)
		return nil, setupError("start emulation", "", err)
	}
	defer unix.Close(script)
	null, err := os.Open(os.DevNull)
	if err != nil {
		_ = unix.Close(k.control)
		return nil, setupError("open", os.DevNull, err)
	}
	defer null.Close() // read only
	if k.pid, err = keeperProcess([]uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(pair[1]), uintptr(script), exe.Fd()}); err != nil {
		_ = unix.Close(k.control)
		return nil, setupError("make user namespace for emulation", "", err)
	}
	_ = unix.Close(pair[1]) // so that its end is heard
	pair[1] = -1            // the deferred call does nothing then
	if _, err = (&child{control: k.control}).receive(s); err == nil {
		e.keeper, err = os.Open(filepath.Join("/proc", strconv.Itoa(k.pid), "ns/user"))
	}
	if err != nil {
		k.end()
		return nil, emulationError(err)
	}
	return k, nil
}

// keeperProcess starts the program with the ids that this process has.
func keeperProcess(files []uintptr) (int, error) {
	uids, err := sameIDs("/proc/self/uid_map")
	gids, err2 := sameIDs("/proc/self/gid_map")
	groups, err3 := readBounded("/proc/self/setgroups")
	if err := errors.Join(err, err2, err3); err != nil {
		return 0, err
	}
	return syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exeFD), []string{"gobuild-emulation"}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: uids, GidMappings: gids,
			GidMappingsEnableSetgroups: strings.TrimSpace(string(groups)) == "allow", Pdeathsig: syscall.SIGKILL, Setsid: true,
		},
	})
}

// sameIDs maps every id of this process's user namespace to itself.
func sameIDs(file string) ([]syscall.SysProcIDMap, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	var list []syscall.SysProcIDMap
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: a line of %d words", file, len(f))
		}
		first, err := strconv.Atoi(f[0])
		size, err2 := strconv.Atoi(f[2])
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: size})
	}
	return list, nil
}

// emulationScript mounts a binfmt_misc and fills it. Where it is mounted matters to nobody: the mount namespace is the keeper's own.
func emulationScript(list []Emulator) (*script, error) {
	s := &script{base: scriptBase, signals: initSignals()}
	op := func(what, path string) scriptOp { return scriptOp{op: what, path: path} }
	const atFDCWD = ^uintptr(99) // -100
	s.call(op("block signals", ""), unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.words(^uint64(0)), 0, 8)
	s.call(op("name emulation", ""), unix.SYS_PRCTL, unix.PR_SET_NAME, s.text("gobuild-emulate"))
	s.call(op("make mounts private", ""), unix.SYS_MOUNT, 0, s.text("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	name := s.text("binfmt_misc")
	s.call(op(mountBinfmt, ""), unix.SYS_MOUNT, name, s.text("/proc"), name, unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, 0)
	for _, e := range list {
		line, err := e.registration()
		if err != nil {
			return nil, err
		}
		s.call(op("close descriptor", ""), unix.SYS_CLOSE, exeFD) // the next one takes its number
		s.call(op("open binfmt_misc", ""), unix.SYS_OPENAT, atFDCWD, s.text("/proc/register"), unix.O_WRONLY, 0)
		s.call(op("register emulator", e.Path), unix.SYS_WRITE, exeFD, s.text(line), uintptr(len(line)))
	}
	s.call(op("close descriptors", ""), unix.SYS_CLOSE_RANGE, scriptFD, uintptr(^uint32(0)), 0)
	s.call(op("protect emulation", ""), unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	s.call(op("tell of start", ""), unix.SYS_WRITE, controlFD, s.words(messageReady), 8)
	s.call(op("keep emulation", ""), scriptServe)
	return s, nil
}

const mountBinfmt = "mount binfmt_misc"

// emulationError adds what is missing.
func emulationError(err error) error {
	var e *SetupError
	if errors.As(err, &e) && e.Op == mountBinfmt && (e.Errno == unix.EPERM || e.Errno == unix.ENODEV) {
		e.Kind, e.Detail = ErrUnsupported, "a binfmt_misc of one's own takes Linux 6.7, and its module"
	}
	return err
}

// registration is the line that binfmt_misc takes: which files, and what runs them. The kernel opens the emulator at once (flag F), and
// setuid programs work (flag C).
func (e *Emulator) registration() (string, error) {
	form, ok := elfForms()[e.Arch]
	switch {
	case !ok:
		return "", &SetupError{Op: "register emulator", Path: e.Path, Kind: ErrUnsupported, Detail: "programs for " + e.Arch}
	case !filepath.IsAbs(e.Path) || strings.ContainsAny(e.Path, "\n\x01") || len(e.Path) > maxEmulatorPath:
		return "", &SetupError{Op: "register emulator", Path: e.Path, Kind: ErrInvalid, Detail: "its path is not absolute, or longer than the kernel takes"}
	}
	magic, mask := form.magic()
	return strings.Join([]string{"", "gobuild-" + e.Arch, "M", "0", escaped(magic), escaped(mask), e.Path, "FC"}, "\x01"), nil
}

func escaped(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		fmt.Fprintf(&out, `\x%02x`, c)
	}
	return out.String()
}

// elfForm is what tells the programs of one architecture from those of others.
type elfForm struct {
	class   elf.Class
	order   binary.ByteOrder
	machine elf.Machine
}

func elfForms() map[string]elfForm {
	little, big := binary.ByteOrder(binary.LittleEndian), binary.ByteOrder(binary.BigEndian)
	return map[string]elfForm{
		"amd64": {elf.ELFCLASS64, little, elf.EM_X86_64}, "386": {elf.ELFCLASS32, little, elf.EM_386},
		"arm64": {elf.ELFCLASS64, little, elf.EM_AARCH64}, "arm": {elf.ELFCLASS32, little, elf.EM_ARM},
		"ppc64le": {elf.ELFCLASS64, little, elf.EM_PPC64}, "ppc64": {elf.ELFCLASS64, big, elf.EM_PPC64}, "s390x": {elf.ELFCLASS64, big, elf.EM_S390},
		"riscv64": {elf.ELFCLASS64, little, elf.EM_RISCV}, "loong64": {elf.ELFCLASS64, little, elf.EM_LOONGARCH},
		"mips64le": {elf.ELFCLASS64, little, elf.EM_MIPS}, "mips64": {elf.ELFCLASS64, big, elf.EM_MIPS},
		"mipsle": {elf.ELFCLASS32, little, elf.EM_MIPS}, "mips": {elf.ELFCLASS32, big, elf.EM_MIPS},
	}
}

// magic are the first bytes of a program, up to the machine, and which bits of them count: not the system, and either kind of program,
// of which one has the type 2 and the other 3.
func (f elfForm) magic() (magic, mask []byte) {
	data := elf.ELFDATA2LSB
	if f.order == binary.BigEndian {
		data = elf.ELFDATA2MSB
	}
	magic = append([]byte(elf.ELFMAG), byte(f.class), byte(data), byte(elf.EV_CURRENT))
	mask = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}
	for len(magic) < elf.EI_NIDENT {
		magic = append(magic, 0)
	}
	for len(mask) < elf.EI_NIDENT {
		mask = append(mask, 0xff)
	}
	two := func(v uint16) []byte {
		b := make([]byte, 2)
		f.order.PutUint16(b, v)
		return b
	}
	magic = append(append(magic, two(uint16(elf.ET_EXEC))...), two(uint16(f.machine))...)
	mask = append(append(mask, two(0xfffe)...), 0xff, 0xff)
	return magic, mask
}
