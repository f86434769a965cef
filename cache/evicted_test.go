package cache

import (
	"fmt"
	"os"
	"testing"
)

func TestI14_WhoRemovedARecordIsRemembered(t *testing.T) {
	s := open(t)
	key, other := runKey(1), runKey(2)
	must(t, s.NoteEvicted("gobuild prune", key))
	must(t, s.NoteEvicted("a \"quoted\"\nword", key))
	must(t, s.NoteEvicted("nobody"))
	got, err := s.Evicted(key.Digest(), other.Digest())
	must(t, err)
	if e := got[key.Digest()]; len(got) != 1 || e.By != "a \"quoted\"\nword" || e.At.Unix() != s.now().Unix() {
		t.Errorf("%+v", got)
	}
}

func TestI14_TheListOfWhatWasRemovedIsBounded(t *testing.T) {
	s := open(t)
	keys := make([]Key, 3000)
	for round := range 10 {
		for i := range keys {
			keys[i] = NewKey("run").Add("n", fmt.Sprint(round, i)).Key()
		}
		must(t, s.NoteEvicted("gobuild prune", keys...))
	}
	st, err := os.Stat(s.evicted)
	must(t, err)
	if st.Size() >= 2*evictedBytes {
		t.Errorf("the list has %d bytes", st.Size())
	}
	last := keys[len(keys)-1].Digest()
	if got, err := s.Evicted(last); err != nil || got[last].By == "" {
		t.Errorf("the newest is not in it: %v", err)
	}
	must(t, os.WriteFile(s.evicted, []byte("x\n1 y\n"+s.now().String()), 0o600))
	if got, err := s.Evicted(last); err != nil || len(got) != 0 {
		t.Errorf("a damaged list: %v, %v", got, err)
	}
}

func TestI14_NearestLooksAtKeysOfOtherSlots(t *testing.T) {
	s := open(t)
	old := NewKey("run").Add("parent", "a").Add("command", "make").Key()
	must(t, s.Put(old, "stage|3", 1))
	must(t, s.Put(NewKey("run").Add("parent", "b").Add("command", "other").Key(), "stage|4", 1))
	now := NewKey("run").Add("parent", "b").Add("command", "make").Key()
	rec, ok, err := s.Nearest("stage|4", now, old.Digest(), "no digest")
	if err != nil || !ok || rec.Key != old {
		t.Errorf("%v %v %v", rec.Key.Text(), ok, err)
	}
	if got, ok, err := s.Read(old.Digest()); err != nil || !ok || got.Key != old {
		t.Errorf("read by digest: %v %v", ok, err)
	}
}
