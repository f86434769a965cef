package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestPin_PinnedLayersStay(t *testing.T) {
	s := open(t)
	other, err := Open(s.dir)
	must(t, err)
	commit(t, s, nil, id(1), nil)
	commit(t, s, nil, id(2), nil)
	release, err := s.Pin(id(1), id(1))
	must(t, err)
	release2, err := other.Pin(id(1))
	must(t, err)
	for _, st := range []*Store{s, other} {
		if err := st.Remove(id(1)); !errors.Is(err, ErrInUse) {
			t.Errorf("remove of a pinned layer: %v", err)
		}
	}
	must(t, s.Remove(id(2)))
	release()
	release()
	if err := s.Remove(id(1)); !errors.Is(err, ErrInUse) {
		t.Errorf("remove while the second pin holds: %v", err)
	}
	release2()
	must(t, s.Remove(id(1)))
	must(t, s.Remove(id(1)))
	if s.Has(id(1)) {
		t.Error("still there")
	}
	if _, err := s.Pin(id(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pin of a removed layer: %v", err)
	}
}

func TestPin_AThousandLayersNeedOneDescriptor(t *testing.T) {
	s := open(t)
	var ids []ID
	for i := range 1000 {
		ids = append(ids, id(i))
		must(t, os.MkdirAll(s.Dir(id(i)), 0o755))
		must(t, s.trust.writeMeta(filepath.Join(s.home(id(i)), metaName), false))
	}
	before := len(entries(t, "/proc/self/fd"))
	release, err := s.Pin(ids...)
	must(t, err)
	defer release()
	if n := len(entries(t, "/proc/self/fd")) - before; n > 3 {
		t.Errorf("%d more descriptors", n)
	}
	if err := s.Remove(id(999)); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}
