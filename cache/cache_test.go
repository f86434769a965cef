package cache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const childEnv = "GOBUILD_TEST_CACHE_CHILD"

// TestMain lets tests re-execute this binary as another process.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "step":
		childStep(os.Args[1], os.Args[2])
	case "puts":
		childPuts(os.Args[1])
	case "full":
		childFull(os.Args[1])
	case "hold":
		childHold(os.Args[1])
	}
}

type result struct {
	Snapshot string   `json:"snapshot"`
	Files    []string `json:"files,omitempty"`
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

func open(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), "cache"), func() time.Time { return start })
	must(tb, err)
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func runKey(n int) Key {
	return NewKey("run").Add("parent", "sha256:ab").Add("argv", "/bin/sh", "-c", fmt.Sprint("make ", n)).Key()
}

func hit(tb testing.TB, s *Store, k Key) bool {
	tb.Helper()
	_, ok, err := s.Lookup(k, nil)
	must(tb, err)
	return ok
}

func TestPut_ThenLookupGivesItBack(t *testing.T) {
	s := open(t)
	k := runKey(1)
	if hit(t, s, k) {
		t.Fatal("a hit in an empty store")
	}
	want := result{"abcd", []string{"x y", "z\n"}}
	must(t, s.Put(k, "stage/3 RUN", want))
	var got result
	rec, ok, err := s.Lookup(k, &got)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if rec.Key != k || rec.Slot != "stage/3 RUN" || !rec.Created.Equal(start) {
		t.Errorf("record %+v", rec)
	}
	must(t, s.Put(k, "stage/3 RUN", result{Snapshot: "second"}))
	if _, _, err := s.Lookup(k, &got); err != nil || got.Snapshot != "second" {
		t.Errorf("after a second Put: %v, %v", got, err)
	}
	must(t, s.Delete(k))
	must(t, s.Delete(k))
	if hit(t, s, k) {
		t.Error("a hit after Delete")
	}
}

func TestRecord_IsTextAsDocumented(t *testing.T) {
	s := open(t)
	k := NewKey("run").Add("parent", "sha256:ab").Add("argv", "/bin/sh", "-c", "make install").Key()
	must(t, s.Put(k, "stage/3 RUN", result{Snapshot: "ab"}))
	data, err := os.ReadFile(s.recordPath(k))
	must(t, err)
	lines := strings.SplitN(string(data), "\n", 3)
	if lines[0] != "gobuild record 1" || !strings.HasPrefix(lines[1], "sum sha256:") {
		t.Errorf("head: %q %q", lines[0], lines[1])
	}
	want := "key " + k.Digest().String() + `
slot "stage/3 RUN"
created 2026-01-02T03:04:05.006Z
text 71
gobuild key 1
kind run
parent sha256:ab
argv /bin/sh -c "make install"
payload 17
{"snapshot":"ab"}
`
	if d := cmp.Diff(want, lines[2]); d != "" {
		t.Error(d)
	}
	if st, _ := os.Stat(s.recordPath(k)); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestF07_F08_ARecordTornOrFlippedAnywhereIsAMissAndRemoved(t *testing.T) {
	s := open(t)
	k := runKey(1)
	must(t, s.Put(k, "slot", result{Snapshot: "ab"}))
	path := s.recordPath(k)
	whole, err := os.ReadFile(path)
	must(t, err)
	check := func(what string, data []byte) {
		t.Helper()
		must(t, os.WriteFile(path, data, 0o600))
		if hit(t, s, k) {
			t.Errorf("%s: a hit", what)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: not removed", what)
		}
	}
	for i := range whole {
		check(fmt.Sprintf("cut at %d", i), whole[:i])
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("flipped at %d", i), flipped)
	}
	check("zeros", make([]byte, len(whole)))
	check("longer by a byte", append(bytes.Clone(whole), '\n'))
	check("twice", append(bytes.Clone(whole), whole...))
	must(t, os.WriteFile(path, whole, 0o600))
	if !hit(t, s, k) {
		t.Error("undamaged, and a miss")
	}
}

func TestF08_ARecordUnderAnotherKeysNameIsAMiss(t *testing.T) {
	s := open(t)
	must(t, s.Put(runKey(1), "slot", result{Snapshot: "one"}))
	must(t, s.Put(runKey(2), "slot", result{Snapshot: "two"}))
	must(t, os.Rename(s.recordPath(runKey(1)), s.recordPath(runKey(2))))
	if hit(t, s, runKey(2)) {
		t.Error("a hit on another key's record")
	}
}

func TestLookup_WhatIsNoFileOfOursIsAMiss(t *testing.T) {
	s := open(t)
	k := runKey(1)
	path := s.recordPath(k)
	canary := filepath.Join(t.TempDir(), "canary")
	must(t, os.WriteFile(canary, []byte("c"), 0o600))
	for name, plant := range map[string]func() error{
		"directory": func() error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"link":      func() error { return os.Symlink(canary, path) },
		"fifo":      func() error { return unix.Mkfifo(path, 0o600) },
		"huge": func() error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
		},
	} {
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, plant())
		if hit(t, s, k) {
			t.Errorf("%s: a hit", name)
		}
		must(t, s.Put(k, "slot", 1))
		if !hit(t, s, k) {
			t.Errorf("%s: a miss after Put", name)
		}
		must(t, s.Delete(k))
	}
	if _, err := os.Stat(canary); err != nil {
		t.Error(err)
	}
}

func TestLookup_APayloadThatDoesNotFitIsAMiss(t *testing.T) {
	s := open(t)
	must(t, s.Put(runKey(1), "slot", "a string"))
	var r result
	if _, ok, err := s.Lookup(runKey(1), &r); ok || err != nil {
		t.Error(ok, err)
	}
}

func TestZeroKey_IsAMissAndCannotBePut(t *testing.T) {
	s := open(t)
	if hit(t, s, Key{}) {
		t.Error("a hit")
	}
	must(t, s.Delete(Key{}))
	l, err := s.Lock(t.Context(), Key{}, nil)
	must(t, err)
	l.Release()
	if _, ok, err := s.Nearest("s", Key{}); ok || err != nil {
		t.Error(ok, err)
	}
}

func TestPut_BoundsAndUnencodable(t *testing.T) {
	s := open(t)
	if err := s.Put(runKey(1), "slot", strings.Repeat("x", maxRecord)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large payload: %v", err)
	}
	if err := s.Put(runKey(1), strings.Repeat("x", maxSlotText+1), 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long slot: %v", err)
	}
	if err := s.Put(runKey(1), "slot", func() {}); err == nil {
		t.Error("a func was encoded")
	}
	if err := s.Put(Key{}, "slot", 1); err == nil {
		t.Error("a zero key was put")
	}
	long := NewKey("run").Add("x", strings.Repeat("y", maxKeyText)).Key()
	if err := s.Put(long, "slot", 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long key: %v", err)
	}
}

func TestLookup_TouchesLastUseOnlyAfterAnHour(t *testing.T) {
	clock := start
	s, err := Open(t.TempDir(), func() time.Time { return clock })
	must(t, err)
	k := runKey(1)
	must(t, s.Put(k, "slot", 1))
	for _, step := range []struct {
		at   time.Time
		want time.Time
	}{
		{start.Add(59 * time.Minute), start},
		{start.Add(61 * time.Minute), start.Add(61 * time.Minute)},
		{start.Add(90 * time.Minute), start.Add(61 * time.Minute)},
		{start.AddDate(-10, 0, 0), start.AddDate(-10, 0, 0)}, // F-19: the clock went back
	} {
		clock = step.at
		if !hit(t, s, k) {
			t.Fatal("miss")
		}
		must(t, s.Walk(func(_ Record, size int64, used time.Time) error {
			if !used.Equal(step.want) {
				t.Errorf("at %v last use is %v, want %v", step.at, used, step.want)
			}
			if size < 1 {
				t.Errorf("size %d", size)
			}
			return nil
		}))
	}
}

func TestWalk_StreamsAllAndRemovesTheDamaged(t *testing.T) {
	s := open(t)
	want := map[Key]bool{}
	for i := range 50 {
		must(t, s.Put(runKey(i), "slot", i))
		want[runKey(i)] = true
	}
	bad := s.recordPath(runKey(7))
	must(t, os.WriteFile(bad, []byte("junk"), 0o600))
	delete(want, runKey(7))
	alien := filepath.Join(s.records, "zz")
	must(t, os.WriteFile(alien, nil, 0o600))
	got := map[Key]bool{}
	last := ""
	must(t, s.Walk(func(r Record, _ int64, _ time.Time) error {
		got[r.Key] = true
		if d := r.Key.Digest().String(); d <= last {
			t.Error("not in order")
		} else {
			last = d
		}
		return s.Delete(r.Key)
	}))
	if d := cmp.Diff(len(want), len(got)); d != "" || got[runKey(7)] {
		t.Error(d)
	}
	if _, err := os.Lstat(bad); err == nil {
		t.Error("the damaged one stays")
	}
	must(t, s.Put(runKey(1), "slot", 1))
	stop := errors.New("enough")
	if err := s.Walk(func(Record, int64, time.Time) error { return stop }); err != stop { //nolint:errorlint // as it is
		t.Errorf("got %v", err)
	}
}

func TestSweep_RemovesWhatKilledProcessesLeft(t *testing.T) {
	s := open(t)
	must(t, s.Put(runKey(1), "kept", 1))
	must(t, s.Put(runKey(2), "empty", 1))
	must(t, s.Delete(runKey(2)))
	temp := filepath.Join(filepath.Dir(s.recordPath(runKey(1))), ".tmp-0123456789abcdef")
	lock := filepath.Join(s.locks, strings.Repeat("a", 64))
	must(t, os.WriteFile(temp, nil, 0o600))
	must(t, os.WriteFile(lock, []byte("1\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.records, "alien"), nil, 0o600))
	held, err := s.Lock(t.Context(), runKey(3), nil)
	must(t, err)
	defer held.Release()
	must(t, s.Sweep())
	for path, want := range map[string]bool{
		temp: false, lock: false,
		s.recordPath(runKey(1)):                              true,
		filepath.Join(s.locks, runKey(3).Digest().Encoded()): true,
		fanOut(s.slots, hashName("kept")):                    true,
		fanOut(s.slots, hashName("empty")):                   false,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", path, err == nil, want)
		}
	}
}

func TestI14_NearestIsTheRecentRecordThatDiffersLeast(t *testing.T) {
	s := open(t)
	key := func(a, b, c string) Key {
		return NewKey("run").Add("env", "A", a).Add("env", "B", b).Add("env", "C", c).Key()
	}
	if _, ok, err := s.Nearest("s", key("1", "1", "1")); ok || err != nil {
		t.Error("found one in an empty slot", err)
	}
	must(t, s.Put(key("1", "1", "2"), "s", 1))
	must(t, s.Put(key("2", "2", "1"), "s", 1))
	must(t, s.Put(key("1", "1", "1"), "other", 1))
	must(t, s.Put(key("1", "1", "1"), "s", 1)) // itself
	rec, ok, err := s.Nearest("s", key("1", "1", "1"))
	if err != nil || !ok || rec.Key != key("1", "1", "2") {
		t.Errorf("got %q, %v, %v", rec.Key.Text(), ok, err)
	}
	// A damaged or deleted record is passed over.
	must(t, os.WriteFile(s.recordPath(key("1", "1", "2")), nil, 0o600))
	rec, ok, err = s.Nearest("s", key("1", "1", "1"))
	if err != nil || !ok || rec.Key != key("2", "2", "1") {
		t.Errorf("got %q, %v, %v", rec.Key.Text(), ok, err)
	}
}

func TestNearest_TheSlotsListStaysSmallAndRecent(t *testing.T) {
	s := open(t)
	for i := range 500 {
		must(t, s.Put(runKey(i), "s", 1))
	}
	path := fanOut(s.slots, hashName("s"))
	st, err := os.Stat(path)
	must(t, err)
	if st.Size() > slotBytes {
		t.Errorf("%d bytes", st.Size())
	}
	recent, err := s.recent("s")
	must(t, err)
	if len(recent) != recentKeys || recent[0] != runKey(499).Digest() || recent[7] != runKey(492).Digest() {
		t.Errorf("recent: %v", recent)
	}
	must(t, os.WriteFile(path, []byte("junk\nsha256:short\n\x00\n"+runKey(3).Digest().String()+"\nsha512:"), 0o600))
	rec, ok, err := s.Nearest("s", runKey(4))
	if err != nil || !ok || rec.Key != runKey(3) {
		t.Errorf("a damaged list: %v %v", ok, err)
	}
}

func TestDiff(t *testing.T) {
	base := func() *KeyBuilder { return NewKey("run").Add("parent", "p").Add("env", "A", "1").Add("env", "B", "2") }
	type change struct{ Name, Old, New string }
	for _, tc := range []struct {
		name     string
		old, new Key
		want     []change
	}{
		{"equal keys", base().Key(), base().Key(), nil},
		{
			"a value of a repeated line", base().Add("argv", "x").Key(),
			NewKey("run").Add("parent", "p").Add("env", "A", "1").Add("env", "B", "3 4").Add("argv", "x").Key(),
			[]change{{"env", "B 2", `B "3 4"`}},
		},
		{
			"a variable renamed is one gone and one come", base().Key(),
			NewKey("run").Add("parent", "p").Add("env", "A", "1").Add("env", "C", "2").Key(),
			[]change{{"env", "B 2", ""}, {"env", "", "C 2"}},
		},
		{
			"in order of the newer key", base().Add("argv", "x").Key(),
			NewKey("run").Add("parent", "q").Add("env", "A", "1").Add("env", "B", "2").Add("argv", "y", "z").Key(),
			[]change{{"parent", "p", "q"}, {"argv", "x", "y z"}},
		},
		{
			"the only line of its name is one line, whatever its first value",
			NewKey("run").Add("argv", "a", "b").Key(), NewKey("run").Add("argv", "c", "d").Key(),
			[]change{{"argv", "a b", "c d"}},
		},
		{
			"a line more", base().Key(), base().Add("user", "0").Key(), []change{{"user", "", "0"}},
		},
		{
			"the same line more often", base().Add("x", "1").Key(), base().Add("x", "1").Add("x", "1").Key(),
			[]change{{"x", "", "1"}},
		},
		{
			"another order", NewKey("run").Add("x", "1").Add("x", "2").Key(), NewKey("run").Add("x", "2").Add("x", "1").Key(),
			[]change{{"x", "1", "2"}, {"x", "2", "1"}},
		},
		{"another kind", NewKey("run").Key(), NewKey("copy").Key(), []change{{"kind", "run", "copy"}}},
		{"against nothing", Key{}, NewKey("run").Key(), []change{{"kind", "", "run"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []change
			for _, c := range Diff(tc.old, tc.new) {
				got = append(got, change{c.Name, c.Old, c.New})
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDiff_IsLinear(t *testing.T) {
	a, b := NewKey("copy"), NewKey("copy")
	for i := range 50_000 {
		a.Add("file", fmt.Sprint("a", i), "x")
		b.Add("file", fmt.Sprint("b", i), "x")
	}
	began := time.Now()
	if n := len(Diff(a.Key(), b.Key())); n != 100_000 {
		t.Errorf("%d changes", n)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

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
	if _, err := s.Lock(context.Background(), runKey(1), nil); err != nil {
		panic(err)
	}
	fmt.Println("locked")
	select {}
}

func TestF22_SixteenProcessesRunAStepOnce(t *testing.T) {
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

func TestF22_ManyGoroutinesPutLookUpDeleteWalkAndSweep(t *testing.T) {
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
	if left, _ := os.ReadDir(s.locks); len(left) != 0 {
		t.Errorf("%d lock files left", len(left))
	}
}

func TestF25_AKilledHoldersStepIsTakenOver(t *testing.T) {
	s := open(t)
	cmd := exec.Command(os.Args[0], filepath.Dir(filepath.Dir(s.records)))
	cmd.Env = append(os.Environ(), childEnv+"=hold")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Lock(ctx, runKey(1), func(int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	pid := 0
	l, err := s.Lock(t.Context(), runKey(1), func(p int) { pid = p; _ = cmd.Process.Kill() })
	must(t, err)
	l.Release()
	if pid != cmd.Process.Pid {
		t.Errorf("told pid %d, it is %d", pid, cmd.Process.Pid)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord(Record{Key: runKey(1), Slot: "s", Created: start, Payload: json.RawMessage(`{}`)}))
	f.Add([]byte(recordHeader))
	f.Fuzz(func(t *testing.T, data []byte) {
		// As it is, and with a right checksum, so that the parser behind it is reached.
		body, _ := bytes.CutPrefix(data, []byte(recordHeader))
		if _, rest, ok := bytes.Cut(body, []byte("\n")); ok {
			body = rest
		}
		for _, in := range [][]byte{data, withSum(body)} {
			rec, err := decodeRecord(in)
			if err != nil {
				continue
			}
			again, err := decodeRecord(encodeRecord(rec))
			if err != nil || again.Key != rec.Key || again.Slot != rec.Slot || !bytes.Equal(again.Payload, rec.Payload) {
				t.Errorf("round trip: %v", err)
			}
		}
	})
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
