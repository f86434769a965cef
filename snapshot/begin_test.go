package snapshot

import (
	"os"
	"path/filepath"
	"testing"
)

// What overlays need beside a layer goes when the process ends, or when there is much of it: not with each layer.
func TestWorkDirectoriesAreRemovedTogether(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 3 {
		w, err := s.New(nil)
		must(t, err)
		_, _, work := w.Dirs()
		must(t, os.Mkdir(filepath.Join(work, "work"), 0))
		if i == 1 {
			must(t, w.Discard())
		} else {
			must(t, w.Commit(id(i)))
		}
	}
	if n := len(entries(t, s.used.home)); n != 3 {
		t.Errorf("%d work directories, not 3", n)
	}
	for range maxDone - 3 {
		dir, err := s.used.make(s)
		must(t, err)
		s.used.over([]string{dir})
	}
	if left := entries(t, s.used.home); len(left) != 0 {
		t.Errorf("many are left: %d", len(left))
	}
	w, err := s.New(nil)
	must(t, err)
	must(t, w.Discard())
	must(t, s.Close())
	must(t, s.Close())
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A layer that is made ahead is like any other one, is swept by nobody else meanwhile, and leaves nothing when none comes.
func TestPreparedLayers(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, os.Chmod(s.dir, 0o700))
	commit(t, s, nil, id(1), []string{"f a a"})
	must(t, os.Chmod(s.Dir(id(1)), 0o711))
	for range 2 {
		s.Prepare()
		s.Prepare() // one is enough
		s.spares.making.Wait()
		other, err := Open(s.dir)
		must(t, err)
		must(t, other.Sweep(t.Context()))
		ready := s.spares.ready
		if n := len(entries(t, s.workDir())); n != 2 || ready == nil {
			t.Fatalf("%d directories, ready: %v", n, ready)
		}
		w, err := s.New([]ID{id(1)})
		must(t, err)
		if w.home != ready.home || s.spares.ready != nil {
			t.Error("not the one that was ready")
		}
		st, err := os.Stat(w.upper())
		must(t, err)
		if st.Mode().Perm() != 0o711 {
			t.Errorf("mode %v, not that of the layer below", st.Mode())
		}
		must(t, w.Commit(id(2)))
	}
	if !s.Has(id(2)) {
		t.Error("the layer is not there")
	}
	s.Prepare()
	must(t, s.Close())
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	w, err := s.New(nil)
	must(t, err)
	must(t, w.Discard())
	must(t, s.Close())
}

// Somebody may remove what lies in the state directory: the next layer finds its place again.
func TestWorkDirectoriesThatWereRemoved(t *testing.T) {
	t.Parallel()
	s := open(t)
	commit(t, s, nil, id(1), []string{"f a a"})
	must(t, os.RemoveAll(s.used.home))
	commit(t, s, []ID{id(1)}, id(2), []string{"f b b"})
	must(t, s.Close())
}
