package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// probe is a table of system calls, as a program that a step runs: every line is a name and what came back.
const probeSource = `package main

import (
	"fmt"
	"syscall"
)

func main() {
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
	}{
		{"mount", 165, 0, 0, 0}, {"umount2", 166, 0, 0, 0}, {"pivot_root", 155, 0, 0, 0}, {"fsopen", 430, 0, 0, 0}, {"open_tree", 428, 0, 0, 0},
		{"move_mount", 429, 0, 0, 0}, {"mount_setattr", 442, 0, 0, 0}, {"unshare user", 272, 0x10000000, 0, 0}, {"unshare mount", 272, 0x20000, 0, 0},
		{"clone user", 56, 0x10000000, 0, 0}, {"setns", 308, 0, 0, 0}, {"add_key", 248, 0, 0, 0}, {"keyctl", 250, 0, 0, 0},
		{"io_uring_setup", 425, 1, 0, 0}, {"bpf", 321, 0, 0, 0}, {"userfaultfd", 323, 0, 0, 0}, {"perf_event_open", 298, 0, 0, 0},
		{"af_alg", 41, 38, 5, 0}, {"af_vsock", 41, 40, 1, 0}, {"open_by_handle_at", 304, 0, 0, 0}, {"kexec_load", 246, 0, 0, 0},
		{"init_module", 175, 0, 0, 0}, {"reboot", 169, 0, 0, 0}, {"swapon", 167, 0, 0, 0}, {"settimeofday", 164, 0, 0, 0}, {"quotactl", 179, 0, 0, 0},
		{"personality odd", 135, 0x0800001, 0, 0}, {"ptrace init", 101, 16, 1, 0},
		{"clone3", 435, 0, 0, 0}, {"newer than the profile", 9999, 0, 0, 0}, {"x32", 0x40000000 + 39, 0, 0, 0},
		{"getpid", 39, 0, 0, 0},
	} {
		_, _, e := syscall.RawSyscall(c.nr, c.a, c.b, c.c)
		fmt.Printf("%s=%d\n", c.name, int(e))
	}
}
`

func TestHostileH68H72_SystemCalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	if got, err := exec.Command("uname", "-m").Output(); err != nil || strings.TrimSpace(string(got)) != "x86_64" {
		t.Skip("the probe has the call numbers of x86_64")
	}
	src := newDir(t, f.dir)
	must(t, os.WriteFile(filepath.Join(src, "main.go"), []byte(probeSource), 0o644))
	build := exec.Command("go", "build", "-o", filepath.Join(f.lower, "bin/probe"), filepath.Join(src, "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("needs the go command: %v\n%s", err, out)
	}
	s := f.spec(t, "")
	s.Args = []string{"probe"}
	out, _ := f.sh(t, s)
	for line := range strings.Lines(out) {
		name, code, _ := strings.Cut(strings.TrimSpace(line), "=")
		want := "1" // EPERM
		switch name {
		case "clone3", "newer than the profile", "x32":
			want = "38" // ENOSYS
		case "getpid":
			want = "0"
		}
		if code != want {
			t.Errorf("%s gives errno %s, want %s", name, code, want)
		}
	}
	if n := strings.Count(out, "\n"); n != 32 {
		t.Errorf("%d calls tried:\n%s", n, out)
	}
}

func TestG11_SetuidProgramsWork(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "grep -E 'NoNewPrivs|Seccomp:|CapInh|CapAmb' /proc/self/status; /bin/suid id -u")
	must(t, exec.Command("cp", busybox, filepath.Join(f.lower, "bin/suid")).Run())
	must(t, os.Chmod(filepath.Join(f.lower, "bin/suid"), 0o755|os.ModeSetuid))
	s.User = "app"
	out, _ := f.sh(t, s)
	for _, want := range []string{"NoNewPrivs:\t0", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}

func limited(t *testing.T, l Limits) (*fixture, func(script string) (string, Result)) {
	t.Helper()
	f := newFixture(t, Config{})
	h, err := f.groups.find()
	must(t, err)
	for _, c := range controllersOf(&l) {
		if h.controllers[c] == "" {
			t.Skipf("needs the cgroup controller %s", c)
		}
	}
	return f, func(script string) (string, Result) {
		s := f.spec(t, script)
		s.Limits = l
		return f.sh(t, s)
	}
}

func TestG19_MemoryLimit(t *testing.T) {
	t.Parallel()
	// The group counts the init too, this very test binary: up to 20 MiB with the race detector.
	f, sh := limited(t, Limits{MemoryBytes: 96 << 20, MemorySwap: 96 << 20})
	out, res := sh("head -c 400000000 /dev/zero | tail -c 300000000 > /dev/null; exit $?")
	if !res.OOMKilled || res.ExitCode != 137 || res.PeakMemory < 80<<20 || res.PeakMemory > 97<<20 {
		t.Errorf("%+v %q", res, out)
	}
	// The next step of the same limits has a group of its own.
	if out, res := sh("echo fine"); out != "fine\n" || res.OOMKilled || res.PeakMemory > 60<<20 {
		t.Errorf("%+v %q", res, out)
	}
	must(t, f.Close())
	assertNoGroups(t, f)
}

func TestG14_PidsLimit(t *testing.T) {
	t.Parallel()
	_, sh := limited(t, Limits{PidsLimit: 20})
	out, _ := sh("for i in $(seq 1 60); do sleep 100 & done; echo done")
	if !strings.Contains(out, "fork") {
		t.Errorf("%q", out)
	}
}

func TestG14_LimitThatCannotBeSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for name, l := range map[string]Limits{
		"cpu that is not there": {CpusetCPUs: "4000"},
		"swap below memory":     {MemoryBytes: 64 << 20, MemorySwap: 32 << 20},
	} {
		s := f.spec(t, "true")
		s.Limits = l
		if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrLimitUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, f.Close())
	assertNoGroups(t, f)
}

func TestGroupsOfKilledProcessesAreSwept(t *testing.T) {
	f := newFixture(t, Config{})
	h, err := f.groups.find()
	must(t, err)
	parent := h.controllers["pids"]
	if parent == "" {
		t.Skip("needs the cgroup controller pids")
	}
	stale := filepath.Join(parent, groupPrefix+"0-stale")
	must(t, os.Mkdir(stale, 0o755))
	held := filepath.Join(parent, groupPrefix+"0-held")
	must(t, os.Mkdir(held, 0o755))
	lock, err := os.Open(held)
	must(t, err)
	defer lock.Close()
	defer os.Remove(held)
	must(t, withFD(lock, func(fd int) error { return unix.Flock(fd, unix.LOCK_SH) }))
	s := f.spec(t, "true")
	s.Limits.PidsLimit = 100
	f.sh(t, s)
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Error("the stale group is there")
	}
	if _, err := os.Stat(held); err != nil {
		t.Error("the locked group is gone")
	}
}

func assertNoGroups(t *testing.T, f *fixture) {
	t.Helper()
	h, err := f.groups.find()
	must(t, err)
	for _, dir := range h.controllers {
		left, err := filepath.Glob(filepath.Join(dir, f.groups.prefix()+"*"))
		if err != nil || len(left) > 0 {
			t.Errorf("groups are left: %v", left)
		}
	}
}
