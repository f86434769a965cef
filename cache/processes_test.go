package cache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// childStep is one of many processes that want one step: it looks up, locks, looks up again, runs, records.
func childStep(dir, log string) {
	s, err := Open(dir, time.Now)
	if err != nil {
		panic(err)
	}
	k := runKey(1)
	l, err := s.Lock(context.Background(), k, nil)
	if err != nil {
		panic(err)
	}
	defer l.Release()
	if _, ok, err := s.Lookup(k, nil); ok || err != nil {
		return
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(f, os.Getpid())
	if err := s.Put(k, "slot", 1); err != nil {
		panic(err)
	}
}

func childHold(dir string) {
	s, err := Open(dir, time.Now)
	if err != nil {
		panic(err)
	}
	l, err := s.Lock(context.Background(), runKey(1), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed: the parent never writes nor closes
	runtime.KeepAlive(l)                 // or its finalizer would give the lock up
}

// rows: I1 I19
func TestHostileF22_SixteenProcessesRunAStepOnce(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], dir, log)
			cmd.Env = append(os.Environ(), childEnv+"=step")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	runs, err := os.ReadFile(log)
	must(t, err)
	if n := bytes.Count(runs, []byte("\n")); n != 1 {
		t.Errorf("the step ran %d times", n)
	}
}

func TestHostileF22_ManyGoroutinesPutLookUpDeleteWalkAndSweep(t *testing.T) {
	s := open(t)
	var runs atomic.Int32
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 30 {
				k := runKey(i)
				l, err := s.Lock(t.Context(), k, nil)
				if err != nil {
					t.Error(err)
					return
				}
				var got int
				if _, ok, err := s.Lookup(k, &got); err != nil || (ok && got != i) {
					t.Error(got, err)
				} else if !ok {
					runs.Add(1)
					if err := s.Put(k, "slot", i); err != nil {
						t.Error(err)
					}
				}
				l.Release()
				l.Release() // does nothing
				if g == 0 && i%10 == 0 {
					err = errors.Join(s.Sweep(), s.Walk(func(Record, int64, time.Time) error { return nil }))
					if _, _, nerr := s.Nearest("slot", k); err != nil || nerr != nil {
						t.Error(err, nerr)
					}
				}
			}
		})
	}
	wg.Wait()
	if runs.Load() != 30 {
		t.Errorf("30 steps ran %d times", runs.Load())
	}
	if st, err := os.Stat(s.keys); err != nil || st.Size() > 64<<10 {
		t.Errorf("the file of locks grows: %v %v", st, err)
	}
}

func TestHostileF25_AKilledHoldersStepIsTakenOver(t *testing.T) {
	s := open(t)
	cmd := exec.Command(os.Args[0], filepath.Dir(filepath.Dir(s.records)))
	cmd.Env = append(os.Environ(), childEnv+"=hold")
	out, err := cmd.StdoutPipe()
	must(t, err)
	_, err = cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Lock(ctx, runKey(1), func(int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	pid := 0
	l, err := s.Lock(t.Context(), runKey(1), func(p int) { pid = p; _ = cmd.Process.Kill() })
	must(t, err)
	l.Release()
	if pid != cmd.Process.Pid {
		t.Errorf("told pid %d, it is %d", pid, cmd.Process.Pid)
	}
}

func BenchmarkLookupHit(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b)
			for i := range n {
				// Without Put's list of the slot: only the number of records matters here.
				data := encodeRecord(Record{Key: runKey(i), Slot: "s", Created: start, Payload: json.RawMessage(`{"snapshot":"ab"}`)})
				must(b, writePlain(s.recordPath(runKey(i)), data))
			}
			keys := make([]Key, 64)
			for i := range keys {
				keys[i] = runKey(i * n / len(keys))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				var r result
				if _, ok, err := s.Lookup(keys[i%len(keys)], &r); !ok || err != nil {
					b.Fatal(ok, err)
				}
				i++
			}
		})
	}
}

func writePlain(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, start, start)
}

func BenchmarkPut(b *testing.B) {
	s := open(b)
	i := 0
	for b.Loop() {
		must(b, s.Put(runKey(i), "slot", result{Snapshot: "ab"}))
		i++
	}
}
