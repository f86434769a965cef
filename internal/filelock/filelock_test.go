package filelock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const childEnv = "GOBUILD_TEST_FILELOCK_CHILD"

// TestMain lets tests re-execute this binary as another process that takes a lock and keeps it.
func TestMain(m *testing.M) {
	path := os.Getenv(childEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	l, err := TryLock(path, Exclusive)
	fmt.Println("locked", err)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed: the parent never writes nor closes
	runtime.KeepAlive(l)                 // or its finalizer would give the lock up
}

func TestLock_ExcludesGoroutines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l")
	var wg sync.WaitGroup
	var in, most atomic.Int32
	for i := range 16 {
		wg.Go(func() {
			l, err := Lock(t.Context(), path, Exclusive, nil)
			if err != nil {
				t.Error(err)
				return
			}
			most.Store(max(most.Load(), in.Add(1)))
			time.Sleep(100 * time.Microsecond) // long enough for the others to try
			in.Add(-1)
			if i%2 == 0 { // both ways of giving it up, mixed: an unlinked file must not let two in
				err = l.Remove()
			} else {
				err = l.Release()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d held it at once", most.Load())
	}
}

func TestTryLock_AFileUnlinkedByItsHolderIsNotTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l")
	var wg sync.WaitGroup
	var in, got atomic.Int32
	for range 4 {
		wg.Go(func() {
			for range 3000 {
				l, err := TryLock(path, Exclusive)
				if errors.Is(err, ErrHeld) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				got.Add(1)
				if n := in.Add(1); n != 1 {
					t.Errorf("%d hold it at once", n)
				}
				runtime.Gosched()
				in.Add(-1)
				if err := l.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		t.Error("nobody ever had it")
	}
}

func TestLock_SharedOnesDoNotExcludeEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l")
	a, err := TryLock(path, Shared)
	if err != nil {
		t.Fatal(err)
	}
	b, err := TryLock(path, Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path, Exclusive); !errors.Is(err, ErrHeld) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	if err := errors.Join(a.Release(), b.Release()); err != nil {
		t.Error(err)
	}
	c, err := TryLock(path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("Remove left the file")
	}
}

func TestHostileF25_HolderIsNamedWaitIsCancellableAndDeathReleases(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked <nil>\n" {
		t.Fatalf("child: %q %v", line, err)
	}

	stop := errors.New("user gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	calls, pid := 0, 0
	_, err = Lock(ctx, path, Exclusive, func(p int) { calls++; pid = p; cancel(stop) })
	if !errors.Is(err, stop) {
		t.Fatalf("cancelled wait: %v", err)
	}
	if calls != 1 || pid != cmd.Process.Pid {
		t.Errorf("told %d times, pid %d; the holder is %d", calls, pid, cmd.Process.Pid)
	}

	l, err := Lock(t.Context(), path, Exclusive, func(int) { _ = cmd.Process.Kill() })
	if err != nil {
		t.Fatal(err)
	}
	if Holder(path) != os.Getpid() {
		t.Errorf("holder is %d, want %d", Holder(path), os.Getpid())
	}
	_ = l.Release()
}

func TestHostileF31_AForgedOwnerDecidesNothing(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"1", "-5", "999999999999999999999999999", "", "x\n", "12 34"} {
		path := filepath.Join(t.TempDir(), "l")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := Holder(path); pid < 0 {
			t.Errorf("holder of %q is %d", content, pid)
		}
		l, err := TryLock(path, Exclusive)
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		_ = l.Release()
	}
}

func TestLock_NeverFollowsALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("elsewhere", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(filepath.Join(dir, "l"), Exclusive); err == nil {
		t.Error("locked through a link")
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("made the link's target")
	}
}

func BenchmarkLockRemove(b *testing.B) {
	path := filepath.Join(b.TempDir(), "l")
	for b.Loop() {
		l, err := TryLock(path, Exclusive)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}
