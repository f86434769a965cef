package snapshot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// ways runs a test by each way of telling the kernel the layers.
func ways(t *testing.T, fn func(t *testing.T, s *Store)) {
	t.Helper()
	needOverlay(t)
	for way, name := range []string{"descriptor", "name", "mount"} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.mounts.way.Store(int32(way))
			fn(t, s)
			if got := s.mounts.way.Load(); got != int32(way) {
				t.Skipf("this kernel has no way %q", name)
			}
		})
	}
}

func TestOverlay_LayersMergeAndHide(t *testing.T) {
	ways(t, func(t *testing.T, s *Store) {
		t.Helper()
		before := mounts(t)
		commit(t, s, nil, id(1), []string{"d a", "f a/1 one", "f a/2 two", "f top t", "d gone", "f gone/x x"})
		commit(t, s, []ID{id(1)}, id(2), []string{"rm a/1", "f a/3 three", "rm gone/x", "rmdir gone"})
		// Removed and made again: an opaque directory.
		commit(t, s, []ID{id(1), id(2)}, id(3), []string{"rm a/2", "rm a/3", "rmdir a", "d a", "f a/9 nine"})

		r, err := s.View([]ID{id(1), id(2)})
		must(t, err)
		wantTree(t, r, "a/", "a/2=two", "a/3=three", "top=t")
		must(t, r.Close())

		r, err = s.View([]ID{id(1), id(2), id(3)})
		must(t, err)
		wantTree(t, r, "a/", "a/9=nine", "top=t")
		must(t, r.Close())

		upper, err := s.UpperOf(id(2))
		must(t, err)
		wantTree(t, upper, "a/", "a/1 20000 0", "a/3=three", "gone 20000 0")
		must(t, upper.Close())

		if after := mounts(t); after != before {
			t.Errorf("mount table changed:\n%s\nwas:\n%s", after, before)
		}
	})
}

func TestWork_RootGivesTheSameViewTwiceAndUpperClosesIt(t *testing.T) {
	ways(t, func(t *testing.T, s *Store) {
		t.Helper()
		commit(t, s, nil, id(1), []string{"f lower l"})
		w, err := s.New([]ID{id(1)})
		must(t, err)
		defer w.Discard()
		r, err := w.Root()
		must(t, err)
		r2, err := w.Root()
		must(t, err)
		if r != r2 {
			t.Error("Root opened a second view")
		}
		apply(t, r, []string{"f new n"})
		up, err := w.Upper()
		must(t, err)
		wantTree(t, up, "new=n")
		must(t, up.Close())
		// Again, above the same upper directory: volatile needs another work directory.
		r, err = w.Root()
		must(t, err)
		apply(t, r, []string{"f new2 n"})
		wantTree(t, r, "lower=l", "new=n", "new2=n")
		must(t, r.Close()) // by the caller: Commit must not mind
		must(t, w.Commit(id(2)))
		must(t, w.Discard())
		if got := entries(t, s.home(id(2))); !cmp.Equal(got, []string{"fs", "meta"}) {
			t.Errorf("committed home holds %v", got)
		}
	})
}

func TestView_IsReadOnlyByMount(t *testing.T) {
	needOverlay(t)
	s := open(t)
	commit(t, s, nil, id(1), []string{"f a a"})
	commit(t, s, []ID{id(1)}, id(2), []string{"f b b"})
	for _, stack := range [][]ID{nil, {id(1)}, {id(1), id(2)}} {
		r, err := s.View(stack)
		must(t, err)
		err = unix.Mkdirat(int(r.File().Fd()), "x", 0o755)
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("mkdir in a view of %d layers: %v, want EROFS", len(stack), err)
		}
		must(t, r.Close())
	}
}

func TestLower_IsNilForAnEmptyStack(t *testing.T) {
	s := open(t)
	if r, err := s.Lower(nil); r != nil || err != nil {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestNew_KeepsModeAndOwnerOfSlash(t *testing.T) {
	needOverlay(t)
	if os.Geteuid() != 0 {
		t.Skip("chown needs root")
	}
	s := open(t)
	w, err := s.New(nil)
	must(t, err)
	r, err := w.Root()
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(int(r.File().Fd()), &st))
	if st.Mode != unix.S_IFDIR|0o755 {
		t.Errorf("a new root has mode %o", st.Mode)
	}
	must(t, r.File().Chown(5, 6))
	must(t, unix.Fchmod(int(r.File().Fd()), 0o1777))
	must(t, unix.Fsetxattr(int(r.File().Fd()), "user.x", []byte("y"), 0))
	must(t, w.Commit(id(1)))
	commit(t, s, []ID{id(1)}, id(2), []string{"f a a"})
	v, err := s.View([]ID{id(1), id(2)})
	must(t, err)
	defer v.Close()
	must(t, unix.Fstat(int(v.File().Fd()), &st))
	if st.Mode != unix.S_IFDIR|0o1777 || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("mode %o owner %d:%d, want 41777 5:6", st.Mode, st.Uid, st.Gid)
	}
	var b [8]byte
	if n, err := unix.Fgetxattr(int(v.File().Fd()), "user.x", b[:]); err != nil || string(b[:n]) != "y" {
		t.Errorf("attribute of /: %q, %v", b[:n], err)
	}
}

func TestStore_NamesWithColonsCommasAndBackslashes(t *testing.T) {
	needOverlay(t)
	for way := range int32(3) {
		s, err := Open(filepath.Join(t.TempDir(), `a:b,c\d "e" `+strings.Repeat("x", 200), strings.Repeat("y", 200)))
		must(t, err)
		s.mounts.way.Store(way)
		commit(t, s, nil, id(1), []string{"f a a"})
		commit(t, s, []ID{id(1)}, id(2), []string{"f b b"})
		r, err := s.View([]ID{id(1), id(2)})
		must(t, err)
		wantTree(t, r, "a=a", "b=b")
		must(t, r.Close())
	}
}

func TestOverlay_AsManyLayersAsAllowedByEachWay(t *testing.T) {
	many := open(t)
	var stack []ID
	for i := range maxLower {
		commit(t, many, nil, id(i), []string{fmt.Sprintf("f f%d x", i)})
		stack = append(stack, id(i))
	}
	ways(t, func(t *testing.T, s *Store) {
		t.Helper()
		many.mounts.way.Store(s.mounts.way.Load())
		s = many
		r, err := s.View(stack)
		must(t, err)
		defer r.Close()
		if n := len(dump(t, r)); n != maxLower {
			t.Errorf("%d files in the view, want %d", n, maxLower)
		}
		commit(t, s, stack, id(1000+int(s.mounts.way.Load())), []string{"rm f0", "f f1 y"})
	})
}

func TestFold_TallerStacksGiveTheSameTree(t *testing.T) {
	needOverlay(t)
	s := open(t)
	var stack []ID
	add := func(lines ...string) {
		n := id(len(stack))
		// Above nothing or the last few: what is below does not matter to the directory form but for whiteouts.
		commit(t, s, stack[max(0, len(stack)-3):], n, lines)
		stack = append(stack, n)
	}
	add("d d", "f d/a 1", "f d/b 1", "f x file", "d y", "f y/in 1", "f h1 link", "ln h1 h2", "f gone 1")
	add("rm gone", "rm d/a", "rm x", "d x", "f x/now dir", "rm y/in", "rmdir y", "f y file")
	add("rm d/b", "rmdir d", "d d", "f d/c 2")
	for len(stack) < 520 {
		add(fmt.Sprintf("f n%03d v", len(stack)%5))
	}
	r, err := s.View(stack)
	must(t, err)
	wantTree(t, r, "d/", "d/c=2", "h1=link", "h2=link", "n000=v", "n001=v", "n002=v", "n003=v", "n004=v",
		"x/", "x/now=dir", "y=file")
	must(t, r.Close())
	w, err := s.New(stack)
	must(t, err)
	defer w.Discard()
	lower, _, _ := w.Dirs()
	if len(lower) != 520-foldChunk+1 {
		t.Errorf("%d lower directories", len(lower))
	}
	if out, err := exec.Command("find", lower[len(lower)-1], "-type", "c").Output(); err != nil || len(out) > 0 {
		t.Errorf("whiteouts in the fold: %s %v", out, err)
	}
	// The fold is pinned by the store that uses it, though nobody else knows its id.
	fold := ID(filepath.Base(filepath.Dir(lower[len(lower)-1])))
	if err := s.Remove(fold); !errors.Is(err, ErrInUse) {
		t.Errorf("removing a fold in use: %v", err)
	}
	dirs, err := s.Dirs(stack)
	must(t, err)
	if !cmp.Equal(dirs, lower) {
		t.Error("a second fold of the same stack is another")
	}
}

func TestOverlay_RefusalHasTheKernelsWords(t *testing.T) {
	needOverlay(t)
	s := open(t)
	dir := t.TempDir()
	// An upper directory inside a lower one's place of another file system type cannot be had portably;
	// the same directory as upper and work is refused everywhere.
	o := s.overlayOptions([]string{s.emptyDir()})
	o.upper, o.work = dir, dir
	_, err := s.mounts.overlay(o)
	if !errors.Is(err, ErrNoOverlay) || !strings.Contains(err.Error(), "overlay") {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
}

func TestDiskFull_StaysVisible(t *testing.T) {
	if err := refused(fmt.Errorf("create overlay: %w", unix.ENOSPC)); !errors.Is(err, unix.ENOSPC) || errors.Is(err, ErrNoOverlay) {
		t.Error(err)
	}
}

func BenchmarkView100Layers(b *testing.B) {
	needOverlay(b)
	s := open(b)
	var stack []ID
	for i := range 100 {
		commit(b, s, nil, id(i), nil)
		stack = append(stack, id(i))
	}
	for b.Loop() {
		r, err := s.View(stack)
		must(b, err)
		must(b, r.Close())
	}
}

func BenchmarkNewRootCommit(b *testing.B) {
	needOverlay(b)
	s := open(b)
	commit(b, s, nil, id(1<<40), nil)
	n := 0
	for b.Loop() {
		commit(b, s, []ID{id(1 << 40)}, id(n), []string{"f a a"})
		n++
	}
}
