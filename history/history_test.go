package history

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that only moves when it is told to.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func open(t *testing.T) (*Store, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	return Open(filepath.Join(t.TempDir(), "history"), c.now), c
}

func put(t *testing.T, s *Store, c *clock) string {
	t.Helper()
	c.at = c.at.Add(time.Second)
	id := s.NewID()
	if err := s.Put(Record{ID: id, Project: "p/" + id, Begun: c.at}); err != nil {
		t.Fatal(err)
	}
	return id
}

func ids(t *testing.T, s *Store) []string {
	t.Helper()
	var list []string
	if err := s.List(func(r Record) bool { list = append(list, r.ID); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestP1_ARecordIsFoundByIdBeginningEndAndPlace(t *testing.T) {
	t.Parallel()
	s, c := open(t)
	if got := ids(t, s); got != nil {
		t.Errorf("before the first build: %v", got)
	}
	if _, err := s.Get(""); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first build: %v", err)
	}
	a, b := put(t, s, c), put(t, s, c)
	for name, want := range map[string]string{"": b, "^": b, "^0": b, "^1": a, a: a, a[:len(a)-9]: a, a[len(a)-8:]: a} {
		if r, err := s.Get(name); err != nil || r.ID != want || r.Project != "p/"+want {
			t.Errorf("%q: %v, %v", name, r.ID, err)
		}
	}
	for name, want := range map[string]error{"2026": ErrAmbiguous, "^2": ErrNotFound, "^x": ErrNotFound, "../../etc/passwd": ErrNotFound} {
		if _, err := s.Get(name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.Remove("../" + a); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove a path: %v", err)
	}
	if err := s.Remove(a); err != nil || !slices.Equal(ids(t, s), []string{b}) {
		t.Errorf("after removal: %v, %v", ids(t, s), err)
	}
}

func TestP1_AHundredBuildsAreKeptForThirtyDays(t *testing.T) {
	t.Parallel()
	s, c := open(t)
	first := put(t, s, c)
	old := s.NewID()
	s.Log(old).Write(Chunk{1, "stdout", []byte("killed\n")}) // a build that never got its record
	for range maxRecords {
		put(t, s, c)
	}
	list := ids(t, s)
	if len(list) != maxRecords || slices.Contains(list, first) || !slices.IsSortedFunc(list, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d kept, the oldest among them: %v", len(list), slices.Contains(list, first))
	}
	c.at = c.at.Add(maxAge)
	last := put(t, s, c)
	if got := ids(t, s); !slices.Equal(got, []string{last}) {
		t.Errorf("after thirty days: %v", got)
	}
	names, err := filepath.Glob(s.dir + "/*")
	if err != nil || len(names) != 1 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestP1_ADamagedRecordIsPassedOver(t *testing.T) {
	t.Parallel()
	s, c := open(t)
	good := put(t, s, c)
	for i, content := range []string{"", "{", `{"version":2,"id":"x"}`, `{"version":1,"id":"20260102-030407.000-00000009"}`} {
		name := fmt.Sprintf("20260102-03040%d.000-0000000%d.json", i+6, i)
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", filepath.Join(s.dir, "20260102-030500.000-00000000.json")); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, s); !slices.Equal(got, []string{good}) {
		t.Errorf("%v", got)
	}
	if err := s.Put(Record{ID: "../x"}); err == nil {
		t.Error("a path was taken for an id")
	}
}

func TestP1_ALogGivesBackWhatWasPrinted(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	id := s.NewID()
	log := s.Log(id)
	if path, _, err := log.Close(); path != "" || err != nil {
		t.Errorf("nothing was printed: %q, %v", path, err)
	}
	log = s.Log(id)
	want := []Chunk{{3, "stdout", []byte("a\nb\n")}, {3, "stderr", []byte("\x00\xff no end")}, {12, "stdout", []byte("3 stdout 9\n")}}
	var wg sync.WaitGroup
	for _, c := range want {
		wg.Go(func() { log.Write(c) })
	}
	wg.Wait()
	path, clipped, err := log.Close()
	if err != nil || clipped || path == "" {
		t.Fatal(path, clipped, err)
	}
	read := func() (got []Chunk) {
		if err := s.ReadLog(id, func(c Chunk) error { got = append(got, c); return nil }); err != nil {
			t.Error(err)
		}
		return got
	}
	got := read()
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for _, c := range want {
		if !slices.ContainsFunc(got, func(g Chunk) bool { return g.Line == c.Line && g.Stream == c.Stream && bytes.Equal(g.Data, c.Data) }) {
			t.Errorf("%q is not in the log", c.Data)
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := st.Size() - 1; size >= 0; size-- { // torn anywhere: what is whole is there
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if n := len(read()); n > len(want) {
			t.Errorf("%d chunks of a log cut at %d", n, size)
		}
	}
	if n := len(read()); n != 0 {
		t.Errorf("%d chunks of an empty log", n)
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte("1 stdout 2\nab\n"))
	f.Add([]byte("1 stdout 99999999\nab\n"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := open(t)
		id := s.NewID()
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(id, ".log"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		total := 0
		err := s.ReadLog(id, func(c Chunk) error { total += len(c.Data); return nil })
		if err != nil || total > len(data) {
			t.Errorf("%d bytes of %d, %v", total, len(data), err)
		}
	})
}

// A no-op build must not feel that it is recorded: one small file, whatever is there.
func BenchmarkPut(b *testing.B) {
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s := Open(filepath.Join(b.TempDir(), "history"), c.now)
	rec := Record{Steps: make([]Step, 20)}
	for b.Loop() {
		c.at = c.at.Add(time.Second)
		rec.ID = s.NewID()
		if err := s.Put(rec); err != nil {
			b.Fatal(err)
		}
	}
}
