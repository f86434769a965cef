package sandbox

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/testexec"
)

// callNumbers are those of the system calls in the script of a test.
type callNumbers struct{ write, close, exitGroup, sigprocmask, sigtimedwait uintptr }

func TestProgram_MakesCallsAndServes(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers of calls are those of x86_64")
	}
	image, err := programImage()
	must(t, err)
	path := filepath.Join(t.TempDir(), "init")
	must(t, testexec.WriteFile(path, image))
	serveAsInit(t, callNumbers{1, 3, 231, 14, 128}, path)
}

// The init for arm64 is written by hand as that for amd64 is, and does the same on an emulated processor.
func TestProgram_OnArm64(t *testing.T) {
	t.Parallel()
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		emulator, err = exec.LookPath("qemu-aarch64")
	}
	if err != nil {
		t.Skip("needs an emulator of arm64 (Debian package qemu-user-static)")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs a compiler")
	}
	image, err := programFile(arm64Text(t, emulator), elf.EM_AARCH64)
	must(t, err)
	path := filepath.Join(t.TempDir(), "init")
	must(t, testexec.WriteFile(path, image))
	serveAsInit(t, callNumbers{64, 57, 94, 135, 137}, emulator, path)
}

// arm64Text assembles program_arm64.s into a program that writes its bytes, and has that do it: nothing else is compiled for the
// processor, not even the rest of the package.
func arm64Text(t *testing.T, emulator string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile("program_arm64.s")
	must(t, err)
	const printer = `package main

import (
	"syscall"
	"unsafe"
)

func initProgram()
func programText() unsafe.Pointer

func main() {
	const end = "gobuild\x00"
	n := len(end)
	for unsafe.String((*byte)(unsafe.Add(programText(), n-len(end))), len(end)) != end {
		n++
	}
	if _, err := syscall.Write(1, unsafe.Slice((*byte)(programText()), n)); err != nil {
		panic(err)
	}
}
`
	for name, data := range map[string]string{"go.mod": "module printer\n\ngo 1.24\n", "main.go": printer, "program_arm64.s": string(source)} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "printer")
	build.Dir, build.Env = dir, append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := exec.CommandContext(t.Context(), emulator, filepath.Join(dir, "printer")).Output()
	must(t, err)
	return text
}

// serveAsInit runs the program with a script: a call that may fail, a message, a child that waits for a signal and exits. Then with one
// whose call fails.
func serveAsInit(t *testing.T, nr callNumbers, argv ...string) {
	t.Helper()
	const term = 1 << (unix.SIGTERM - 1)
	s := &script{base: scriptBase, signals: term | 1<<(unix.SIGCHLD-1)}
	op := scriptOp{op: "test"}
	s.call(op, nr.sigprocmask, unix.SIG_SETMASK, s.words(^uint64(0)), 0, 8)
	s.try(nr.close, 99)
	s.call(op, nr.write, controlFD, s.words(0xabcdef), 8)
	// The child goes on in the same list, beyond the end of the parent's.
	child := scriptBase + scriptStart + 4*64
	s.call(op, scriptFork, uintptr(child))
	s.call(op, nr.sigtimedwait, s.words(term), 0, 0, 8)
	s.call(op, nr.exitGroup, 9)
	control, cmd := startInit(t, s, argv)
	defer control.Close()
	if m := message(t, control); len(m) != 8 || binary.NativeEndian.Uint64(m) != 0xabcdef {
		t.Errorf("the first message is %x", m)
	}
	must(t, cmd.Process.Signal(unix.SIGTERM))
	m := message(t, control)
	if len(m) != messageSize || binary.NativeEndian.Uint64(m) != messageEnded {
		t.Fatalf("the last message is %x", m)
	}
	if status := unix.WaitStatus(binary.NativeEndian.Uint32(m[8:])); !status.Exited() || status.ExitStatus() != 9 {
		t.Errorf("the child has ended with %x", status)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 { // its namespace ends with it
		t.Errorf("after its command: %v", err)
	}

	s = &script{base: scriptBase}
	s.try(nr.close, 99)
	s.call(scriptOp{op: "set limit"}, nr.close, 98)
	control, cmd = startInit(t, s, argv)
	defer control.Close()
	m = message(t, control)
	if len(m) != 24 || binary.NativeEndian.Uint64(m) != messageFailed {
		t.Fatalf("the message of a failure is %x", m)
	}
	if err := s.failure(binary.NativeEndian.Uint64(m[8:]), unix.Errno(-int64(binary.NativeEndian.Uint64(m[16:])))); err.Error() != "set limit: bad file descriptor" {
		t.Error(err)
	}
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("after a failure: %v", err)
	}
}

// startInit starts the program, with a script as descriptor 4 and the other end of a socket as descriptor 3.
func startInit(t *testing.T, s *script, argv []string) (*os.File, *exec.Cmd) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	control, far := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "far")
	defer far.Close()
	fd, err := s.open()
	must(t, err)
	file := os.NewFile(uintptr(fd), "script")
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.ExtraFiles = []*os.File{far, file}
	must(t, cmd.Start())
	return control, cmd
}

func message(t *testing.T, control *os.File) []byte {
	t.Helper()
	buf := make([]byte, 2*messageSize)
	n, err := control.Read(buf)
	must(t, err)
	return buf[:n]
}
