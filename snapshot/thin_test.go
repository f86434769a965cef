package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A layer with nothing in it is in no overlay, except for the attributes of "/", which the topmost layer gives.
func TestThinned_LayersThatAddNothingAreNotMounted(t *testing.T) {
	t.Parallel()
	needOverlay(t)
	s := open(t)
	layer := func(id ID, stack []ID, change func(dir string)) ID {
		t.Helper()
		w, err := s.New(stack)
		must(t, err)
		if change != nil {
			change(w.upper())
		}
		must(t, w.Commit(id))
		return id
	}
	const a, b, c, d, e, f = ID("aaaaaaaaaaaaaaa1"), ID("aaaaaaaaaaaaaaa2"), ID("aaaaaaaaaaaaaaa3"), ID("aaaaaaaaaaaaaaa4"), ID("aaaaaaaaaaaaaaa5"), ID("aaaaaaaaaaaaaaa6")
	layer(a, nil, func(dir string) { must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)) })
	layer(b, []ID{a}, nil)
	layer(c, []ID{a, b}, func(dir string) { must(t, os.Chmod(dir, 0o711)) })
	layer(d, []ID{a, b, c}, func(dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o644))
		must(t, os.Chtimes(dir, time.Time{}, time.Unix(5, 0)))
	})
	layer(e, []ID{a, b, c, d}, nil)
	layer(f, []ID{a}, func(dir string) { must(t, unix.Setxattr(dir, "trusted.overlay.opaque", []byte("y"), 0)) })
	for _, tt := range []struct {
		name        string
		stack, want []ID
	}{
		{"none", nil, nil},
		{"one that is empty stays", []ID{b}, []ID{b}},
		{"an empty one goes", []ID{a, b}, []ID{a}},
		{"on top it stays if it changes the root directory", []ID{a, b, c}, []ID{a, c}},
		{"below another it goes whatever it changes there", []ID{a, b, c, d}, []ID{a, d}},
		{"an empty one on top goes", []ID{a, b, c, d, e}, []ID{a, d}},
		{"of empty ones alone, the topmost stays", []ID{b, c}, []ID{c}},
		{"one that hides what is below stays", []ID{a, f, b}, []ID{a, f}},
	} {
		got, err := s.thinned(tt.stack)
		must(t, err)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v of %v, want %v", tt.name, got, tt.stack, tt.want)
		}
	}
	for _, tt := range []struct {
		stack []ID
		id    ID
		want  bool
	}{{nil, a, true}, {[]ID{a}, b, false}, {[]ID{a, b}, c, true}, {[]ID{a, b, c}, d, true}, {[]ID{a, c}, b, true}, {[]ID{a, b, c, d}, e, false}} {
		adds, err := s.Adds(tt.stack, tt.id)
		must(t, err)
		if adds != tt.want {
			t.Errorf("%s adds to %v: %v", tt.id, tt.stack, adds)
		}
	}
	root, err := s.View([]ID{a, b, c})
	must(t, err)
	defer root.Close()
	st, err := root.Stat("/")
	must(t, err)
	if st.Mode&0o7777 != 0o711 {
		t.Errorf("the merged root directory has mode %o", st.Mode)
	}
}
