package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

func TestCommit_OfAnIdThatIsThereKeepsTheFirst(t *testing.T) {
	s := open(t)
	commit(t, s, nil, id(1), []string{"f a first"})
	commit(t, s, nil, id(1), []string{"f a second"})
	r, err := s.UpperOf(id(1))
	must(t, err)
	defer r.Close()
	wantTree(t, r, "a=first")
	must(t, s.Close())
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
	must(t, s.Close())
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
	release, err := s.Pin(id(1))
	check(err)
	w, err := s.New([]ID{id(1), id(2)})
	check(err)
	r, err := w.Root()
	check(err)
	check(unix.Mkdirat(int(r.File().Fd()), "made", 0o755))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed: the parent never writes nor closes
	runtime.KeepAlive(release)           // or finalizers would give all of it up
	runtime.KeepAlive(w)
}

func TestHostileF01_AKilledProcessLeavesNothingMountedOrPinned(t *testing.T) {
	ways(t, func(t *testing.T, s *Store) {
		t.Helper()
		commit(t, s, nil, id(1), []string{"f a a"})
		commit(t, s, []ID{id(1)}, id(2), []string{"f b b"})
		must(t, s.Close())
		before := mounts(t)
		cmd := exec.Command(os.Args[0], s.dir)
		cmd.Env = append(os.Environ(), childEnv+"=work")
		out, err := cmd.StdoutPipe()
		must(t, err)
		_, err = cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Kill()
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "ready\n" {
			t.Fatalf("child: %q %v", line, err)
		}
		must(t, s.Sweep(t.Context()))
		if n := len(entries(t, s.workDir())); n != 2 { // the layer in the making, and work directories
			t.Fatalf("swept what a living process holds: %d left", n)
		}
		if err := s.Remove(id(1)); !errors.Is(err, ErrInUse) {
			t.Errorf("removed what another process has pinned: %v", err)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		must(t, s.Sweep(t.Context()))
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

func TestG20_SizeOfANewLayerIsThatOfItsFiles(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	_, upper, _ := w.Dirs()
	for name, size := range map[string]int{"a": 3, "d/e/b": 4096, "empty": 0} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(upper, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(upper, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(upper, "a"), filepath.Join(upper, "d/a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(upper, "link")); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Size(); err != nil || n != 4099 {
		t.Errorf("%d, %v", n, err)
	}
}
