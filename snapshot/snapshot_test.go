package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/rootfs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const childEnv = "GOBUILD_TEST_SNAPSHOT_CHILD"

// TestMain lets tests re-execute this binary as another process.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "work":
		childWork(os.Args[1])
	case "userns":
		childMerge(os.Args[1], true)
	case "nobody":
		childMerge(os.Args[1], false)
	case "steps":
		childSteps(os.Args[1])
	case "full":
		childFull(os.Args[1])
	case "powercut":
		childPowerCut(os.Args[1])
	}
	os.Exit(3)
}

func id(n int) ID { return ID(fmt.Sprintf("%064x", n)) }

func open(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), "snapshots"))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// needOverlay skips when a merged view cannot be mounted here.
func needOverlay(tb testing.TB) {
	tb.Helper()
	s := open(tb)
	commit(tb, s, nil, id(1), nil)
	commit(tb, s, nil, id(2), nil)
	r, err := s.View([]ID{id(1), id(2)})
	if errors.Is(err, ErrNoOverlay) {
		tb.Skip("overlay: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	must(tb, r.Close())
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// commit makes a layer by shell-like lines: "d path", "f path content", "rm path", "mode path 0755".
func commit(tb testing.TB, s *Store, stack []ID, to ID, lines []string) {
	tb.Helper()
	w, err := s.New(stack)
	must(tb, err)
	defer w.Discard()
	if len(lines) > 0 {
		r, err := w.Root()
		must(tb, err)
		apply(tb, r, lines)
	}
	must(tb, w.Commit(to))
}

func apply(tb testing.TB, r *rootfs.Root, lines []string) {
	tb.Helper()
	for _, line := range lines {
		f := strings.Fields(line)
		dir, name, err := r.Parent(f[1])
		must(tb, err)
		fd := int(dir.Fd())
		switch f[0] {
		case "d":
			err = unix.Mkdirat(fd, name, 0o755)
		case "f":
			var h int
			h, err = unix.Openat(fd, name, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o644)
			if err == nil {
				_, err = unix.Write(h, []byte(f[2]))
				_ = unix.Close(h)
			}
		case "ln":
			err = unix.Linkat(fd, name, fd, f[2], 0)
		case "rm":
			err = unix.Unlinkat(fd, name, 0)
		case "rmdir":
			err = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
		default:
			tb.Fatalf("bad line %q", line)
		}
		if err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
		must(tb, dir.Close())
	}
}

// dump lists a tree: "dir/" and "file=content".
func dump(tb testing.TB, r *rootfs.Root) []string {
	tb.Helper()
	out := []string{}
	var walk func(p string)
	walk = func(p string) {
		d, err := r.Open(p, unix.O_RDONLY|unix.O_DIRECTORY)
		must(tb, err)
		names, err := d.Readdirnames(-1)
		must(tb, err)
		must(tb, d.Close())
		sort.Strings(names)
		for _, n := range names {
			q := strings.TrimPrefix(p+"/"+n, "/")
			st, err := r.Lstat(q)
			must(tb, err)
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				out = append(out, q+"/")
				walk(q)
			case unix.S_IFREG:
				f, _, err := r.OpenRegular(q)
				must(tb, err)
				buf := make([]byte, 100)
				n, _ := f.Read(buf)
				must(tb, f.Close())
				out = append(out, q+"="+string(buf[:n]))
			default:
				out = append(out, fmt.Sprintf("%s %o %d", q, st.Mode, st.Rdev))
			}
		}
	}
	walk("")
	return out
}

func wantTree(tb testing.TB, r *rootfs.Root, want ...string) {
	tb.Helper()
	if d := cmp.Diff(want, dump(tb, r)); d != "" {
		tb.Errorf("tree (-want +got):\n%s", d)
	}
}

func mounts(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(tb, err)
	return string(b)
}

func entries(tb testing.TB, dir string) []string {
	tb.Helper()
	es, err := os.ReadDir(dir)
	must(tb, err)
	out := []string{}
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

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

func TestCommit_OfAnIdThatIsThereKeepsTheFirst(t *testing.T) {
	s := open(t)
	commit(t, s, nil, id(1), []string{"f a first"})
	commit(t, s, nil, id(1), []string{"f a second"})
	r, err := s.UpperOf(id(1))
	must(t, err)
	defer r.Close()
	wantTree(t, r, "a=first")
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("work left: %v", left)
	}
}

func TestCommit_RaceOfManyLeavesOneWholeLayer(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			w, err := s.New(nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := os.WriteFile(filepath.Join(w.upper(), "f"), []byte("x"), 0o644); err != nil {
				t.Error(err)
			}
			if err := w.Commit(id(7)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r, err := s.UpperOf(id(7))
	must(t, err)
	defer r.Close()
	wantTree(t, r, "f=x")
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("work left: %v", left)
	}
}

func TestID_OthersThanHexAreRefused(t *testing.T) {
	s := open(t)
	for _, bad := range []ID{"", "abc", "../../../../etc/passwd", ID(strings.Repeat("A", 64)), ID(strings.Repeat("a", 129)), id(1) + "/x", id(1) + "\n"} {
		if s.Has(bad) {
			t.Errorf("Has(%q)", bad)
		}
		w, err := s.New(nil)
		must(t, err)
		if err := w.Commit(bad); err == nil {
			t.Errorf("Commit(%q) succeeded", bad)
		}
		must(t, w.Discard())
		if err := s.Remove(bad); err == nil {
			t.Errorf("Remove(%q) succeeded", bad)
		}
		if _, err := s.Pin(bad); err == nil {
			t.Errorf("Pin(%q) succeeded", bad)
		}
	}
}

func TestNew_AboveAMissingLayerSaysWhich(t *testing.T) {
	s := open(t)
	_, err := s.New([]ID{id(9)})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), string(id(9))) {
		t.Errorf("got %v", err)
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

func TestOverlay_FiveHundredLayersByEachWay(t *testing.T) {
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

func TestFold_MoreThanFiveHundredLayersGiveTheSameTree(t *testing.T) {
	needOverlay(t)
	s := open(t)
	var stack []ID
	add := func(lines ...string) {
		n := id(len(stack))
		// Above nothing or the last few: what is below does not matter to the directory form but for whiteouts.
		commit(t, s, stack[max(0, len(stack)-3):], n, lines)
		stack = append(stack, n)
	}
	add("d d", "f d/a 1", "f d/b 1", "f x file", "d y", "f y/in 1", "f h1 link", "ln h1 h2")
	add("rm d/a", "rm x", "d x", "f x/now dir", "rm y/in", "rmdir y", "f y file")
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
		must(t, s.trust.writeMeta(filepath.Join(s.home(id(i)), metaName)))
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

func TestPowerCut_OnlySyncedLayersOfAnotherBootCount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	boot := func(n string) *Store {
		s, err := OpenConfig(dir, Config{BootID: n})
		must(t, err)
		return s
	}
	one := boot("one")
	commit(t, one, nil, id(1), []string{"f a first"})
	must(t, one.Sync(context.Background()))
	commit(t, one, nil, id(2), []string{"f a second"})
	for _, n := range []int{1, 2} {
		if !boot("one").Has(id(n)) {
			t.Errorf("within its boot layer %d is denied", n)
		}
	}
	two := boot("two")
	if !two.Has(id(1)) {
		t.Error("a synced layer is denied after another boot")
	}
	if two.Has(id(2)) {
		t.Error("a layer nobody synced counts after another boot")
	}
	if _, err := two.New([]ID{id(2)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("new above an untrusted layer: %v", err)
	}
	if _, err := two.UpperOf(id(2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("upper of an untrusted layer: %v", err)
	}
	infos := map[ID]bool{}
	must(t, two.List(func(l ID, i Info) error { infos[l] = i.Trusted; return nil }))
	if !cmp.Equal(infos, map[ID]bool{id(1): true, id(2): false}) {
		t.Errorf("list: %v", infos)
	}
	// Built again: the new one takes the place of the old.
	commit(t, two, nil, id(2), []string{"f a rebuilt"})
	if !two.Has(id(2)) {
		t.Error("a layer built again is denied")
	}
	r, err := two.UpperOf(id(2))
	must(t, err)
	defer r.Close()
	wantTree(t, r, "a=rebuilt")
	if left := entries(t, two.workDir()); len(left) != 0 {
		t.Errorf("work left: %v", left)
	}
	// The note of boot one is not lost by that of two.
	must(t, two.Sync(context.Background()))
	if three := boot("three"); !three.Has(id(1)) || !three.Has(id(2)) {
		t.Error("a note of an earlier boot was lost")
	}
}

func TestPowerCut_DamagedMetaOrNoteVouchesForNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := OpenConfig(dir, Config{BootID: "one"})
	must(t, err)
	commit(t, s, nil, id(1), nil)
	must(t, s.Sync(context.Background()))
	for _, path := range []string{filepath.Join(s.home(id(1)), metaName), filepath.Join(dir, syncedName)} {
		whole, err := os.ReadFile(path)
		must(t, err)
		check := func(what string, data []byte) {
			must(t, os.WriteFile(path, data, 0o600))
			s, err := OpenConfig(dir, Config{BootID: "two"})
			must(t, err)
			if s.Has(id(1)) {
				t.Errorf("%s: %s: the layer counts", filepath.Base(path), what)
			}
		}
		for i := range whole {
			check(fmt.Sprintf("cut at %d", i), whole[:i])
			flipped := append([]byte{}, whole...)
			flipped[i] ^= 1
			check(fmt.Sprintf("flipped at %d", i), flipped)
		}
		check("zeros", make([]byte, len(whole)))
		must(t, os.WriteFile(path, whole, 0o600))
	}
	s, err = OpenConfig(dir, Config{BootID: "two"})
	must(t, err)
	if !s.Has(id(1)) {
		t.Error("undamaged, and denied")
	}
}

func TestSize_CountsBlocksOnceAndIsKept(t *testing.T) {
	s := open(t)
	w, err := s.New(nil)
	must(t, err)
	big := filepath.Join(w.upper(), "big")
	must(t, os.WriteFile(big, make([]byte, 1<<20), 0o644))
	must(t, os.Link(big, filepath.Join(w.upper(), "link")))
	deep := w.upper()
	for range 50 {
		deep = filepath.Join(deep, "d")
		must(t, os.Mkdir(deep, 0o755))
	}
	must(t, w.Commit(id(1)))
	out, err := exec.Command("du", "-s", "-B1", s.Dir(id(1))).Output()
	must(t, err)
	var want int64
	fmt.Sscan(string(out), &want)
	for range 2 {
		got, err := s.Size(id(1))
		must(t, err)
		if got != want {
			t.Errorf("size %d, du says %d", got, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(s.home(id(1)), sizeName), []byte("77\n"), 0o600))
	if got, _ := s.Size(id(1)); got != 77 {
		t.Errorf("kept size not used: %d", got)
	}
	must(t, os.WriteFile(filepath.Join(s.home(id(1)), sizeName), []byte("-1"), 0o600))
	if got, _ := s.Size(id(1)); got != want {
		t.Errorf("damaged size believed: %d", got)
	}
}

func TestDiscard_RemovesDeepAndProtectedTrees(t *testing.T) {
	s := open(t)
	w, err := s.New(nil)
	must(t, err)
	// 20,000 levels, the outer ones closed to all: a path to the last has 40,000 bytes.
	fd, err := unix.Open(w.upper(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range 20000 {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		must(t, err)
		if i%100 == 0 {
			h, err := unix.Openat(fd, "deep-1", unix.O_CREAT|unix.O_WRONLY, 0) // the remover's own name
			must(t, err)
			unix.Close(h)
			must(t, unix.Fchmod(fd, 0))
		}
		must(t, unix.Close(fd))
		fd = next
	}
	unix.Close(fd)
	outside := filepath.Join(t.TempDir(), "canary")
	must(t, os.WriteFile(outside, []byte("x"), 0o644))
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(w.upper(), "link")))
	must(t, unix.Mkfifo(filepath.Join(w.upper(), "fifo"), 0))
	frozen := filepath.Join(w.upper(), "frozen")
	must(t, os.Mkdir(frozen, 0o755))
	must(t, os.WriteFile(filepath.Join(frozen, "file"), nil, 0o644))
	setFlags(t, filepath.Join(frozen, "file"), flagAppend)
	setFlags(t, frozen, flagImmutable)
	before := len(entries(t, "/proc/self/fd"))
	must(t, w.Discard())
	if n := len(entries(t, "/proc/self/fd")); n >= before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("followed a link: ", err)
	}
}

// setFlags sets inode flags where that is allowed; elsewhere the tree is only a little easier.
func setFlags(t *testing.T, path string, flags int) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(fd)
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Logf("flags of %s: %v", path, err)
	}
}

// childWork is another process that holds a work directory, a view, and a pin until it is killed.
func childWork(dir string) {
	s, err := Open(dir)
	check := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	check(err)
	_, err = s.Pin(id(1))
	check(err)
	w, err := s.New([]ID{id(1), id(2)})
	check(err)
	r, err := w.Root()
	check(err)
	check(unix.Mkdirat(int(r.File().Fd()), "made", 0o755))
	fmt.Println("ready")
	select {}
}

func TestF01_AKilledProcessLeavesNothingMountedOrPinned(t *testing.T) {
	ways(t, func(t *testing.T, s *Store) {
		t.Helper()
		commit(t, s, nil, id(1), []string{"f a a"})
		commit(t, s, []ID{id(1)}, id(2), []string{"f b b"})
		before := mounts(t)
		cmd := exec.Command(os.Args[0], s.dir)
		cmd.Env = append(os.Environ(), childEnv+"=work")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Kill()
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "ready\n" {
			t.Fatalf("child: %q %v", line, err)
		}
		must(t, s.Sweep())
		if n := len(entries(t, s.workDir())); n != 1 {
			t.Fatalf("swept what a living process holds: %d left", n)
		}
		if err := s.Remove(id(1)); !errors.Is(err, ErrInUse) {
			t.Errorf("removed what another process has pinned: %v", err)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		must(t, s.Sweep())
		if left := entries(t, s.workDir()); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		must(t, s.Remove(id(1)))
		if after := mounts(t); after != before {
			t.Errorf("mount table changed:\n%s", after)
		}
		must(t, os.RemoveAll(s.dir))
	})
}

func TestOpen_ClosesTheDirectoryToOthersAndRefusesALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	_, err := Open(dir)
	must(t, err)
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	if _, err := Open(link); err == nil {
		t.Error("a link was accepted")
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
