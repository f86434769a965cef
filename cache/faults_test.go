package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childPuts writes two records, the second over a former one, and a lock.
func childPuts(dir string) {
	s, err := Open(dir, time.Now)
	if err != nil {
		panic(err)
	}
	l, err := s.Lock(context.Background(), runKey(1), nil)
	if err != nil {
		panic(err)
	}
	defer l.Release()
	for i := 1; i <= 2; i++ {
		if err := s.Put(runKey(i), "slot", i); err != nil {
			panic(err)
		}
	}
}

// TestHostileF01_KilledAtEachCall kills a writer at its nth mutating call, for every n, and looks at what is left.
func TestHostileF01_KilledAtEachCall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	for _, call := range []string{"mkdirat", "openat", "flock", "write", "pwrite64", "fchmod", "utimensat", "renameat", "fcntl", "close"} {
		n := 1
		for ; ; n++ {
			s := open(t)
			must(t, s.Put(runKey(2), "slot", 2))
			dir := filepath.Dir(filepath.Dir(s.records))
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0], dir)
			cmd.Env = append(os.Environ(), childEnv+"=puts", "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			if err != nil && !strings.Contains(err.Error(), "killed") {
				t.Skipf("strace: %v: %s", err, out)
			}
			afterKill(t, s, fmt.Sprintf("%s %d", call, n))
			if err == nil {
				break // it got through: there is no nth call
			}
		}
		t.Logf("%s: killed at %d calls", call, n-1)
		if n == 1 {
			t.Errorf("no %s was hit: the test tests nothing", call)
		}
	}
}

// afterKill wants a store in which each record is whole or absent, and which works.
func afterKill(t *testing.T, s *Store, when string) {
	t.Helper()
	for i := 1; i <= 2; i++ {
		var got int
		_, ok, err := s.Lookup(runKey(i), &got)
		if err != nil || (ok && got != i) || (i == 2 && !ok) {
			t.Errorf("%s: record %d: %v %v %v", when, i, got, ok, err)
		}
	}
	l, err := s.Lock(t.Context(), runKey(1), nil)
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	l.Release()
	if err := errors.Join(s.Put(runKey(1), "slot", 1), s.Put(runKey(2), "slot", 2), s.Sweep()); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	left, err := exec.Command("find", filepath.Dir(s.records), "-name", ".tmp*").Output()
	if err != nil || len(left) > 0 {
		t.Errorf("%s: left %s %v", when, left, err)
	}
}

// childFull runs in a mount namespace of its own: it fills a small disk with records, makes room, and goes on.
func childFull(dir string) {
	step := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("mount:", err)
		os.Exit(2)
	}
	s, err := Open(dir, time.Now)
	step(err)
	n := 0
	for err == nil && n < 10_000 {
		n++
		err = s.Put(runKey(n), fmt.Sprint("slot", n), strings.Repeat("x", 5000))
	}
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
		step(fmt.Errorf("a full disk gives: %w", err))
	}
	var got string
	for i := 1; i < n; i++ {
		if _, ok, err := s.Lookup(runKey(i), &got); !ok || err != nil || len(got) != 5000 {
			step(fmt.Errorf("record %d of %d: %v %w", i, n, ok, err))
		}
	}
	left, err := filepath.Glob(filepath.Join(s.records, "*", ".tmp*"))
	if err != nil || len(left) > 0 {
		step(fmt.Errorf("left %v %w", left, err))
	}
	for i := 1; i < 20; i++ {
		step(s.Delete(runKey(i)))
	}
	step(s.Put(runKey(n), "slot", "y"))
	step(unix.Unmount(dir, 0))
	os.Exit(0)
}

func TestHostileF09_AFullDiskIsAnErrorAndLeavesNothingBehind(t *testing.T) {
	cmd := exec.Command(os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"=full")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.Is(err, unix.EPERM) || (errors.As(err, &exit) && exit.ExitCode() == 2) {
		t.Skipf("mounts: %v %s", err, out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
