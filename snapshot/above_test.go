package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What is done above a layer in the making does not reach it, and is no layer itself.
//
// rows: P3
func TestP3_AboveALayerInTheMaking(t *testing.T) {
	t.Parallel()
	needOverlay(t)
	s := open(t)
	commit(t, s, nil, id(1), []string{"d base"})
	for _, stack := range [][]ID{nil, {id(1)}} {
		w, err := s.New(stack)
		must(t, err)
		upper := w.upper()
		must(t, os.WriteFile(filepath.Join(upper, "f"), []byte("of the step"), 0o600))
		must(t, os.Chmod(upper, 0o711))
		above, err := w.Above()
		must(t, err)
		lower, _, _ := above.Dirs()
		if len(lower) != len(stack)+1 || lower[0] != upper {
			t.Errorf("below it: %v", lower)
		}
		root, err := above.Root()
		must(t, err)
		if st, err := root.Stat("/"); err != nil || st.Mode&0o777 != 0o711 {
			t.Errorf("mode of the root %o, %v", st.Mode, err)
		}
		f, err := root.Open("/f", unix.O_WRONLY|unix.O_TRUNC)
		must(t, err)
		must(t, f.Close())
		if above.Commit(id(2)) == nil {
			t.Error("it became a layer")
		}
		must(t, above.Discard())
		data, err := os.ReadFile(filepath.Join(upper, "f"))
		if err != nil || string(data) != "of the step" {
			t.Errorf("the step's file is now %q, %v", data, err)
		}
		must(t, w.Discard())
	}
	must(t, s.Close())
	left, err := os.ReadDir(s.workDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
