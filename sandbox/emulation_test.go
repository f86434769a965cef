package sandbox

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/testexec"
)

// emulated is an Emulation whose emulator prints what it is to run.
func emulated(t *testing.T, arch string) *Emulation {
	t.Helper()
	if !emulates() {
		t.Skip("the kernel has no binfmt_misc of a user namespace's own")
	}
	data, err := os.ReadFile(busybox)
	must(t, err)
	path := filepath.Join(t.TempDir(), "echo") // busybox knows by its name what it is to be
	must(t, testexec.WriteFile(path, data))
	e, err := StartEmulation([]Emulator{{Arch: arch, Path: path}})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	must(t, os.Remove(path)) // the kernel has it
	return e
}

// emulates says whether the kernel is one that steps with an emulator need: 6.7 or later.
func emulates() bool {
	_, err := StartEmulation([]Emulator{{Arch: "arm64", Path: "/no/such/file"}})
	return !errors.Is(err, ErrUnsupported)
}

// foreign is the beginning of a program, which is all that tells whose it is.
func foreignProgram(t *testing.T, arch string, kind elf.Type) []byte {
	t.Helper()
	form, ok := elfForms()[arch]
	if !ok {
		t.Fatal(arch)
	}
	magic, _ := form.magic()
	form.order.PutUint16(magic[elf.EI_NIDENT:], uint16(kind))
	magic[elf.EI_OSABI] = byte(elf.ELFOSABI_LINUX)
	return append(magic, make([]byte, 64)...)
}

// Programs of another architecture run in a step that has an emulator, and nowhere else.
func TestG22_ForeignProgramsRunWithAnEmulator(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	e := emulated(t, "s390x")
	for name, data := range map[string][]byte{
		"fixed": foreignProgram(t, "s390x", elf.ET_EXEC), "moving": foreignProgram(t, "s390x", elf.ET_DYN), "other": foreignProgram(t, "mips", elf.ET_EXEC),
		"wrong": foreignProgram(t, "s390x", elf.ET_CORE),
	} {
		must(t, testexec.WriteFile(filepath.Join(f.lower, "bin", name), data))
	}
	run := func(e *Emulation, args ...string) (string, Result) {
		s := f.spec(t, "")
		s.Args, s.Emulation = args, e
		return f.sh(t, s)
	}
	for _, name := range []string{"fixed", "moving"} {
		if out, res := run(e, name, "a", "b"); out != "/bin/"+name+" a b\n" || res.ExitCode != 0 {
			t.Errorf("%s: %+v %q", name, res, out)
		}
		if _, res := run(nil, name); res.Exec != ExecBadFormat {
			t.Errorf("%s without an emulator: %+v", name, res)
		}
	}
	for _, name := range []string{"other", "wrong"} {
		if _, res := run(e, name); res.Exec != ExecBadFormat {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if err := unix.Exec(filepath.Join(f.lower, "bin/fixed"), []string{"fixed"}, nil); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("this machine runs it: %v", err)
	}
}

// A step with an emulator owns its files as others do, and has the same user, capabilities, limits and streams.
func TestG22_AnEmulatedStepIsAsOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	e := emulated(t, "s390x")
	const look = `id; pwd; grep -E '^(Cap|Seccomp|NoNewPrivs|Groups)' /proc/self/status; cat; ulimit -n; cat /proc/self/oom_score_adj
touch /tmp/f && chmod 4755 /tmp/f && ls -ln /tmp/f | cut -c1-20; (chown 5:7 /tmp/f) 2>/dev/null && ls -ln /tmp/f | awk '{print $3, $4}'; ls /proc/self/fd | wc -l
(mount -t tmpfs x /tmp || unshare -m true || mkdir /sys/fs/cgroup/x) 2>/dev/null && echo BAD; cut -c1-30 /proc/self/uid_map | awk '{print $1, $2}'`
	for _, user := range []string{"", "app"} {
		var got [2]string
		for i, e := range []*Emulation{nil, e} {
			s := f.spec(t, look)
			s.User, s.Emulation, s.Stdin, s.Rlimits = user, e, strings.NewReader("input\n"), []Rlimit{{Name: "nofile", Soft: 99, Hard: 99}}
			got[i], _ = f.sh(t, s)
		}
		if got[0] != got[1] || !strings.Contains(got[0], "input\n99\n500\n") {
			t.Errorf("user %q: without an emulator\n%s\nwith one\n%s", user, got[0], got[1])
		}
	}
}

// hostile: H68 H72
func TestG22_AnEmulatedStepIsHeldByTheSameWalls(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	e := emulated(t, "s390x")
	for _, args := range [][]string{{"self"}, {"files"}} {
		s := f.spec(t, "")
		s.Emulation = e
		if out, _ := f.attack(t, s, args...); !strings.HasSuffix(out, "done\n") || strings.Contains(out, "BAD") {
			t.Errorf("%s: %s", args, out)
		}
	}
}

func TestG22_EmulatorsThatCannotBe(t *testing.T) {
	t.Parallel()
	newFixture(t, Config{})
	if !emulates() {
		t.Skip("the kernel has no binfmt_misc of a user namespace's own")
	}
	for _, c := range []struct {
		e    Emulator
		kind error
		want string
	}{
		{Emulator{"nonesuch", "/bin/true"}, ErrUnsupported, "programs for nonesuch"},
		{Emulator{"arm64", "bin/true"}, ErrInvalid, "not absolute"},
		{Emulator{"arm64", "/" + strings.Repeat("x", 4000)}, ErrInvalid, "longer than the kernel takes"},
		{Emulator{"arm64", "/no/such/file"}, nil, "register emulator /no/such/file: no such file"},
	} {
		_, err := StartEmulation([]Emulator{c.e})
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40v: %v", c.e, err)
		}
	}
	err := emulationError(&SetupError{Op: mountBinfmt, Errno: unix.EPERM})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "Linux 6.7") {
		t.Error(err)
	}
}

// What is told to the kernel of each architecture, as the emulators' own packages do it.
func TestG22_Registrations(t *testing.T) {
	t.Parallel()
	for arch, want := range map[string]string{
		"arm64": "7f454c46020101000000000000000000" + "0200b700", "s390x": "7f454c46020201000000000000000000" + "00020016",
		"arm": "7f454c46010101000000000000000000" + "02002800", "ppc64le": "7f454c46020101000000000000000000" + "02001500",
		"riscv64": "7f454c46020101000000000000000000" + "0200f300", "mips": "7f454c46010201000000000000000000" + "00020008",
	} {
		magic, mask := elfForms()[arch].magic()
		wantMask := "ffffffffffffff00ffffffffffffffff" + "feffffff"
		if elfForms()[arch].order == binary.BigEndian {
			wantMask = "ffffffffffffff00ffffffffffffffff" + "fffeffff"
		}
		if hex.EncodeToString(magic) != want || hex.EncodeToString(mask) != wantMask {
			t.Errorf("%s: %x %x", arch, magic, mask)
		}
	}
	line, err := (&Emulator{"arm64", "/usr/bin/qemu"}).registration()
	if err != nil || !strings.HasPrefix(line, "\x01gobuild-arm64\x01M\x010\x01\\x7f\\x45") || !strings.HasSuffix(line, "\x01/usr/bin/qemu\x01FC") {
		t.Errorf("%q, %v", line, err)
	}
}
