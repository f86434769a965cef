package sandbox

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ownCaps are the capabilities of this very process, which an insecure step has too.
func ownCaps(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(data), "CapPrm:\t")
	caps, _, _ := strings.Cut(rest, "\n")
	return caps
}

func TestG12_AnInsecureStepHasNoWalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, `grep -E 'Cap(Prm|Eff|Bnd|Amb)|Seccomp:' /proc/self/status
mkdir /m && mount -t tmpfs none /m && echo mounted
grep -cE ' /(proc|sys)(/[a-z/]+)? ro,' /proc/mounts
grep -q . /proc/interrupts && echo unmasked
for d in kmsg fuse cuse kvm net/tun loop-control; do test -c /dev/$d || echo no $d; done; test -b /dev/loop7 && echo loops
mknod /zero c 1 5 && head -c3 /zero | wc -c; umount /m; rm -r /m /zero`)
	s.Insecure = true
	out, _ := f.sh(t, s)
	caps := ownCaps(t)
	want := lines("CapPrm:\t"+caps, "CapEff:\t"+caps, "CapBnd:\t"+caps, "CapAmb:\t"+caps, "Seccomp:\t0",
		"mounted", "0", "unmasked", "loops", "3")
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	assertUpperEmpty(t, s)
	assertGone(t, s)
}

func TestG12_AnInsecureStepKeepsItsCapabilitiesAsUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "id -u; grep CapEff /proc/self/status; mkdir /tmp/x 2>/dev/null; mount -t tmpfs none /tmp && echo mounted")
	s.Insecure, s.User = true, "app"
	s.Rlimits = []Rlimit{{"nofile", 100, 100}}
	if out, _ := f.sh(t, s); out != lines("1000", "CapEff:\t"+ownCaps(t), "mounted") {
		t.Errorf("%q", out)
	}
}

func TestG12_TheNextStepIsConfinedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "mount -t tmpfs none /tmp")
	s.Insecure = true
	if _, res := f.sh(t, s); res.ExitCode != 0 {
		t.Fatalf("%+v", res)
	}
	if out, res := f.sh(t, f.spec(t, "mount -t tmpfs none /tmp; test -e /dev/fuse && echo fuse; mknod /z c 1 5; head -c1 /z")); res.ExitCode == 0 ||
		strings.Contains(out, "fuse") || !strings.Contains(out, "denied") {
		t.Errorf("%+v %q", res, out)
	}
}

func TestG11_CapabilitiesAreAddedAndDropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, tc := range []struct {
		name string
		p    Privileges
		user string
		want string
	}{
		{"default", Privileges{}, "", "a80425fb"},
		{"added", Privileges{AddCaps: []string{"sys_nice", "CAP_IPC_LOCK"}}, "", "a884" + "65fb"},
		{"dropped", Privileges{DropCaps: []string{"CHOWN"}}, "", "a80425fa"},
		{"drop wins", Privileges{AddCaps: []string{"SYS_NICE"}, DropCaps: []string{"ALL"}}, "", "00000000"},
		{"dropped for a user", Privileges{DropCaps: []string{"SETUID", "SETGID"}}, "app", "00000000"},
		{"a user has none", Privileges{AddCaps: []string{"SYS_NICE"}}, "app", "00000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := f.spec(t, "grep CapEff /proc/self/status")
			s.Privileges, s.User = tc.p, tc.user
			if out, _ := f.sh(t, s); out != "CapEff:\t00000000"+tc.want+"\n" {
				t.Errorf("%q, want %s", out, tc.want)
			}
		})
	}
	s := f.spec(t, "true")
	s.AddCaps = []string{"FLY"}
	if _, err := f.run(t, s); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"FLY"`) {
		t.Errorf("%v", err)
	}
}

func TestG11_AddedCapabilitiesOpenTheirSystemCalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "mount -t tmpfs none /tmp && echo mounted")
	s.AddCaps = []string{"SYS_ADMIN"}
	if out, _ := f.sh(t, s); out != "mounted\n" {
		t.Errorf("%q", out)
	}
}

func TestG11_WhichCapabilitiesConfine(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"CHOWN": true, "cap_sys_nice": true, "SYS_ADMIN": false, "SYS_PTRACE": false, "DAC_READ_SEARCH": false, "NET_ADMIN": false, "ALL": false, "FLY": false,
	} {
		if got := Confining(name); got != want {
			t.Errorf("Confining(%s) = %v", name, got)
		}
	}
}

func TestG11_NoNewPrivileges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, exec.Command("cp", busybox, filepath.Join(f.lower, "bin/busybox-suid")).Run())
	must(t, os.Chmod(filepath.Join(f.lower, "bin/busybox-suid"), 0o755|os.ModeSetuid))
	s := f.spec(t, "grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status; /bin/busybox-suid sh -c 'grep Uid /proc/self/status'")
	s.User, s.NoNewPrivileges = "app", true
	if out, _ := f.sh(t, s); out != lines("NoNewPrivs:\t1", "CapBnd:\t00000000a80425fb", "Uid:\t1000\t1000\t1000\t1000") {
		t.Errorf("%q", out)
	}
}

func TestG11_SystemCallFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	const script = `grep Seccomp: /proc/self/status | cut -f2; chmod 700 /tmp 2>&1 | grep -o 'not permitted\|not implemented'; mkdir /tmp/a 2>&1 | grep -o 'not permitted\|not implemented'; echo end`
	for _, tc := range []struct {
		name string
		p    Privileges
		want string
	}{
		{"none", Privileges{Unconfined: true}, lines("0", "end")},
		{"refuses with an errno of its own", Privileges{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO","errnoRet":38},{"names":["mkdir","mkdirat","no_such_call"],"action":"SCMP_ACT_ERRNO"}]}`},
			lines("2", "not implemented", "not permitted", "end")},
		{"under a condition", Privileges{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]},{"names":["chmod"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]}]}`},
			lines("2", "not permitted", "end")},
		{"for a capability that the step has not", Privileges{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_ADMIN"]}}]}`},
			lines("2", "not permitted", "end")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := f.spec(t, script)
			s.Privileges = tc.p
			if out, _ := f.sh(t, s); out != tc.want {
				t.Errorf("%q, want %q", out, tc.want)
			}
		})
	}
}

func TestG11_FiltersThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"defaultAction":      `{}`,
		"SCMP_ACT_NOTIFY":    `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}`,
		"no rules":           `{"defaultAction":"SCMP_ACT_ERRNO"}`,
		"errno 70000":        `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`,
		"SCMP_CMP_MASKED_EQ": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
	} {
		_, err := compileFilter(defaultCaps(), text)
		if err == nil || name != "no JSON" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestR12_OtherInstructionSetsAreRefusedWhateverTheProfileAllows(t *testing.T) {
	t.Parallel()
	program, err := compileFilter(defaultCaps(), `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`)
	must(t, err)
	def, err := compileFilter(defaultCaps(), "")
	must(t, err)
	for _, p := range [][]byte{program, def} {
		if got := runFilter(t, p, unix.AUDIT_ARCH_PPC64LE, 3, 0); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
			t.Errorf("read of a foreign instruction set gives %#x", got)
		}
	}
	if got := runFilter(t, program, unix.AUDIT_ARCH_I386, 3, 0); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
		t.Errorf("i386 read gives %#x with a profile of one instruction set", got)
	}
}

func TestR12_AnArgumentIsNotTakenForTheNumberOfAnotherCall(t *testing.T) {
	t.Parallel()
	info, err := arch.GetInfo("")
	must(t, err)
	number := func(name string) uint32 { return uint32(info.SyscallNames[name]) }
	program, err := compileFilter(defaultCaps(), `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
{"names":["personality"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
{"names":["setns"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_NE"}]}]}`)
	must(t, err)
	for _, tc := range []struct{ number, argument, want uint32 }{
		{number("personality"), 1, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{number("personality"), number("setns"), unix.SECCOMP_RET_ALLOW},
		{number("setns"), 1, unix.SECCOMP_RET_ALLOW},
		{number("setns"), 2, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{number("read"), number("setns"), unix.SECCOMP_RET_ALLOW},
	} {
		if got := runFilter(t, program, uint32(info.ID), tc.number, tc.argument); got != tc.want {
			t.Errorf("call %d of %d gives %#x, want %#x", tc.number, tc.argument, got, tc.want)
		}
	}
}

func lines(l ...string) string { return strings.Join(l, "\n") + "\n" }

// runFilter runs a filter on one call without the kernel.
func runFilter(t *testing.T, program []byte, arch, number, argument uint32) uint32 {
	t.Helper()
	filter := make([]unix.SockFilter, len(program)/8)
	_, err := binary.Decode(program, binary.NativeEndian, filter)
	must(t, err)
	var raw []netbpf.RawInstruction
	for _, i := range filter {
		raw = append(raw, netbpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	decoded, ok := netbpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has instructions of no known form")
	}
	vm, err := netbpf.NewVM(decoded)
	must(t, err)
	// The machine of this library reads big-endian words.
	data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, number), arch)
	data = append(data, make([]byte, 8)...) // instruction pointer
	data = binary.BigEndian.AppendUint32(data, argument)
	got, err := vm.Run(append(data, make([]byte, 44)...))
	must(t, err)
	return uint32(got)
}
