package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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

// rows: I19
func TestHostileF07F08_ARecordTornOrFlippedAnywhereIsAMissAndRemoved(t *testing.T) {
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

func TestHostileF08_ARecordUnderAnotherKeysNameIsAMiss(t *testing.T) {
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
	lock := filepath.Join(s.former, strings.Repeat("a", 64))
	must(t, os.Mkdir(s.former, 0o700))
	must(t, os.WriteFile(temp, nil, 0o600))
	must(t, os.WriteFile(lock, []byte("1\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.records, "alien"), nil, 0o600))
	held, err := s.Lock(t.Context(), runKey(3), nil)
	must(t, err)
	defer held.Release()
	must(t, s.Sweep())
	for path, want := range map[string]bool{
		temp: false, lock: false, s.former: false,
		s.recordPath(runKey(1)):            true,
		s.keys:                             true,
		fanOut(s.slots, hashName("kept")):  true,
		fanOut(s.slots, hashName("empty")): false,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", path, err == nil, want)
		}
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
