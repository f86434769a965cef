package sandbox

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	refused  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	allowed  = unix.SECCOMP_RET_ALLOW
	userFlag = unix.CLONE_NEWUSER
)

// compatOf is the program of 32-bit calls alone, for whatever machine the test runs on.
func compatOf(t *testing.T, info *arch.Info, text string) []byte {
	t.Helper()
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: defaultCaps().names()}}}
	load := func() (*specs.LinuxSeccomp, error) { return profile.GetDefaultProfile(spec) }
	if text != "" {
		load = func() (*specs.LinuxSeccomp, error) { return profile.LoadProfile(text, spec) }
	}
	p, err := load()
	must(t, err)
	program, err := compatProgram(p, info, text == "")
	must(t, err)
	out, err := encodeFilter(program)
	must(t, err)
	return out
}

func TestHostileR12_Programs32BitHaveTheRulesOfTheProfile(t *testing.T) {
	t.Parallel()
	for _, info := range []*arch.Info{arch.I386, arch.ARM} {
		program := compatOf(t, info, "")
		for _, tc := range []struct {
			name           string
			argument, want uint32
		}{
			{"read", 0, allowed}, {"openat", 0, allowed}, {"statx", 0, allowed}, {"personality", 0, allowed}, {"personality", 8, allowed},
			{"personality", 1, refused}, {"socket", unix.AF_INET, allowed}, {"socket", unix.AF_ALG, refused}, {"socket", unix.AF_VSOCK, refused},
			{"mount", 0, refused}, {"fsopen", 0, refused}, {"unshare", userFlag, refused}, {"setns", 0, refused}, {"clone", 17, allowed}, {"clone", userFlag | 17, refused},
			{"clone3", 0, unknown}, {"add_key", 0, refused}, {"bpf", 0, refused}, {"io_uring_setup", 0, refused}, {"open_by_handle_at", 0, refused},
			{"socketcall", subSocket, unknown}, {"socketcall", 3, allowed},
		} {
			number, known := info.SyscallNames[tc.name]
			if !known {
				continue
			}
			if got := runFilter(t, program, uint32(info.ID), uint32(number), tc.argument); got != tc.want {
				t.Errorf("%s: %s(%d) gives %#x, want %#x", info.Name, tc.name, tc.argument, got, tc.want)
			}
		}
		if got := runFilter(t, program, uint32(info.ID), 9999, 0); got != unknown {
			t.Errorf("%s: a call newer than the profile gives %#x", info.Name, got)
		}
	}
}

// The whole filter must answer a call alike by either number.
func TestHostileR12_NoCallIsAllowedBy32BitAlone(t *testing.T) {
	t.Parallel()
	program, err := compileFilter(defaultCaps(), "")
	must(t, err)
	for name, number := range arch.I386.SyscallNames {
		other, both := arch.X86_64.SyscallNames[name]
		if !both {
			continue
		}
		for _, argument := range []uint32{0, 1, userFlag, unix.AF_ALG, math.MaxUint32} {
			a := runFilter(t, program, uint32(arch.X86_64.ID), uint32(other), argument)
			if b := runFilter(t, program, uint32(arch.I386.ID), uint32(number), argument); a != b {
				t.Errorf("%s(%#x): %#x by 64 bits, %#x by 32", name, argument, a, b)
			}
		}
	}
}

func TestHostileR12_ConditionsOnValuesBeyond32Bits(t *testing.T) {
	t.Parallel()
	const large = 1 << 32
	for op, holds := range map[bpf.Operation]bool{
		bpf.Equal: false, bpf.NotEqual: true, bpf.GreaterThan: false, bpf.GreaterOrEqual: false,
		bpf.LessThan: true, bpf.LessOrEqual: true, bpf.BitsNotSet: true,
	} {
		out := compareSet(bpf.ArgumentConditions{{Operation: op, Value: large}}, bpf.ActionAllow)
		vm, err := netbpf.NewVM(append(out, netbpf.RetConstant{Val: 1}))
		must(t, err)
		got, err := vm.Run(make([]byte, 64))
		must(t, err)
		if (uint32(got) == allowed) != holds {
			t.Errorf("0 %v 1<<32: %v, want %v", op, !holds, holds)
		}
	}
}

// probe386 does as a program for i386 what no step may do, and what any program does.
const probe386 = `package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	for _, c := range []struct {
		name string
		nr   uintptr
		a, b uintptr
	}{
		{"mount", 21, 0, 0}, {"umount2", 52, 0, 0}, {"fsopen", 430, 0, 0}, {"unshare user", 310, 0x10000000, 0}, {"setns", 346, 0, 0},
		{"clone user", 120, 0x10000000, 0}, {"add_key", 286, 0, 0}, {"keyctl", 288, 0, 0}, {"io_uring_setup", 425, 1, 0}, {"bpf", 357, 0, 0},
		{"userfaultfd", 374, 0, 0}, {"perf_event_open", 336, 0, 0}, {"open_by_handle_at", 342, 0, 0}, {"af_alg", 359, 38, 5},
		{"af_vsock", 359, 40, 1}, {"init_module", 128, 0, 0}, {"reboot", 88, 0, 0}, {"vm86", 166, 0, 0},
	} {
		if _, _, e := syscall.RawSyscall(c.nr, c.a, c.b, 0); e != syscall.EPERM {
			fmt.Printf("%s gives %d\n", c.name, int(e))
		}
	}
	if _, err := syscall.Socket(38, 5, 0); err != syscall.ENOSYS {
		fmt.Println("socketcall opens AF_ALG:", err)
	}
	if err := os.WriteFile("/tmp/made", []byte("x"), 0o600); err != nil {
		fmt.Println(err)
	}
	fmt.Println("done")
}
`

func TestHostileH72_AProgramForI386RunsAndHasTheSameWalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	if native, err := arch.GetInfo(""); err != nil || native != arch.X86_64 {
		t.Skip("needs a machine of x86_64")
	}
	src := newDir(t, f.dir)
	must(t, os.WriteFile(filepath.Join(src, "main.go"), []byte(probe386), 0o644))
	build := exec.Command("go", "build", "-o", filepath.Join(f.lower, "bin/probe"), filepath.Join(src, "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=386")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("needs the go command: %v\n%s", err, out)
	}
	s := f.spec(t, "")
	s.Args = []string{"probe"}
	if out, res := f.sh(t, s); out != "done\n" || res.ExitCode != 0 {
		t.Errorf("%q, %+v", out, res)
	}
	if got := tree(t, s.Upper); !strings.Contains(got, "tmp/made") {
		t.Error(fmt.Errorf("made: %s", got))
	}
}
