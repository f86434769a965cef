package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// elsewhereEnv names the test that runs in a process of its own.
const elsewhereEnv = "GOBUILD_TEST_ELSEWHERE"

// asProcess runs a test in a process of its own, which change may put elsewhere.
func asProcess(t *testing.T, change func(*syscall.SysProcAttr), test func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv(elsewhereEnv) == t.Name() {
		test(t)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), elsewhereEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	change(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
}

// scope makes a group that has limits to give, and starts the process of a test in it.
func scope(t *testing.T) (dir string, change func(*syscall.SysProcAttr)) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	dir = filepath.Join(root, "gobuild-test-"+strings.ToLower(t.Name()))
	if os.Getenv(elsewhereEnv) == t.Name() {
		return dir, nil
	}
	if !cgroups.IsCgroup2UnifiedMode() {
		t.Skip("needs cgroup version 2")
	}
	must(t, os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory +pids"), 0o644))
	must(t, os.Mkdir(dir, 0o755))
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() {
		must(t, f.Close())
		must(t, cgroups.RemovePath(dir)) // and the groups below
	})
	return dir, func(a *syscall.SysProcAttr) { a.UseCgroupFD, a.CgroupFD = true, int(f.Fd()) }
}

// limitedStep runs a step with limits of two controllers.
func limitedStep(t *testing.T, f *fixture) (string, error) {
	t.Helper()
	s := f.spec(t, "echo ran")
	s.Limits = Limits{PidsLimit: 50, MemoryBytes: 128 << 20}
	return f.run(t, s)
}

func TestG15_AProcessAloneInItsGroupLimitsItsSteps(t *testing.T) {
	dir, change := scope(t)
	asProcess(t, change, func(t *testing.T) {
		for range 2 { // the second finds us in the leaf
			f := newFixture(t, Config{})
			if out, err := limitedStep(t, f); err != nil || out != "ran\n" {
				t.Fatalf("%q, %v", out, err)
			}
			if h, err := f.groups.find(); err != nil || h.dir != dir {
				t.Errorf("groups are made in %s, want %s, %v", h.dir, dir, err)
			}
			if own := strings.TrimSpace(readProc(os.Getpid(), "cgroup")); !strings.HasSuffix(own, filepath.Base(dir)+"/"+leafGroup) {
				t.Errorf("this process is in %s", own)
			}
		}
	})
}

func TestG15_AGroupThatOthersUseIsNotEmptied(t *testing.T) {
	dir, change := scope(t)
	asProcess(t, func(a *syscall.SysProcAttr) {
		change(a)
		other := exec.CommandContext(t.Context(), busybox, "sleep", "1000")
		other.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: a.CgroupFD}
		must(t, other.Start())
		t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	}, func(t *testing.T) {
		f := newFixture(t, Config{})
		if out, err := limitedStep(t, f); !errors.Is(err, ErrLimitUnavailable) || !strings.Contains(err.Error(), "has processes of its own") || !strings.Contains(err.Error(), "--cgroup-parent") {
			t.Errorf("%q, %v", out, err)
		}
		if a := wouldEnable(dir); a.OK() || !strings.Contains(a.Why, "processes of its own") {
			t.Errorf("judged as %+v", a)
		}
		must(t, unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0)) // as systemd marks what it leaves to others
		if out, err := limitedStep(t, f); err != nil || out != "ran\n" {
			t.Errorf("in a group that was left to us: %q, %v", out, err)
		}
	})
}

func TestG15_AParentIsMadeLevelByLevel(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("/gobuild-test-levels-%d", os.Getpid())
	for _, l := range []Limits{{}, {PidsLimit: 50}, {MemoryBytes: 128 << 20, PidsLimit: 50}} { // the second asks for less than the third
		f := newFixture(t, Config{CgroupParent: name + "/a/b"})
		h, err := f.groups.find()
		must(t, err)
		s := f.spec(t, "echo ran")
		s.Limits = l
		if out, err := f.run(t, s); err != nil || out != "ran\n" {
			t.Errorf("%+v: %q, %v", l, out, err)
		}
		must(t, f.Close())
		t.Cleanup(func() {
			for _, dir := range h.controllers {
				for _, level := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
					_ = os.Remove(level)
				}
			}
		})
	}
}

// A container's cgroups are mounted read-only unless it is told otherwise.
func TestG14_ReadOnlyGroups(t *testing.T) {
	asProcess(t, func(a *syscall.SysProcAttr) { a.Cloneflags = unix.CLONE_NEWNS }, func(t *testing.T) {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		mounts, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
		must(t, err)
		for _, m := range append(mounts, "/sys/fs/cgroup/x") {
			err := unix.Mount("", filepath.Dir(m), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
			if err != nil && !errors.Is(err, unix.EINVAL) { // a group of version 2 is no mount
				t.Fatal(err)
			}
		}
		f := newFixture(t, Config{})
		out, err := limitedStep(t, f)
		if !errors.Is(err, ErrLimitUnavailable) || !strings.Contains(err.Error(), "limit memory, pids of step") || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%q, %v", out, err)
		}
		var mu sync.Mutex
		var said []string
		f = newFixture(t, Config{BestEffort: true, Notice: func(s string) { mu.Lock(); defer mu.Unlock(); said = append(said, s) }})
		if out, err := limitedStep(t, f); err != nil || out != "ran\n" {
			t.Errorf("with best effort: %q, %v", out, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.ContainsFunc(said, func(s string) bool {
			return strings.HasPrefix(s, "limits of memory, pids are not set") && strings.Contains(s, "read-only file system")
		}) {
			t.Errorf("said %q", said)
		}
		s := f.spec(t, "echo ran")
		s.Devices = []Device{{Path: "/dev/log", Major: 1, Minor: 11, Mode: 0o666, Access: "r"}}
		if _, err := f.Run(context.Background(), s); !errors.Is(err, ErrLimitUnavailable) {
			t.Errorf("access to a device is restricted by nothing, with best effort: %v", err)
		}
	})
}
