package cache

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
