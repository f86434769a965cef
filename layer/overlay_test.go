package layer

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// overlay is a mount that is attached nowhere: it goes when it is closed.
type overlay struct {
	root  *rootfs.Root
	path  string // leads to its root for as long as it is open
	upper string
}

func newOverlay(tb testing.TB, lower string) *overlay {
	tb.Helper()
	dir := tb.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	must(tb, os.Mkdir(upper, 0o755))
	must(tb, os.Mkdir(work, 0o755))
	fd, err := mountOverlay(lower, upper, work)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		tb.Skipf("needs overlay mounts: %v", err)
	}
	must(tb, err)
	o := &overlay{
		root:  rootfs.New(os.NewFile(uintptr(fd), "overlay")),
		path:  fmt.Sprintf("/proc/self/fd/%d/", fd),
		upper: upper,
	}
	tb.Cleanup(func() { _ = o.root.Close() })
	return o
}

func mountOverlay(lower, upper, work string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{
		{"lowerdir", lower}, {"upperdir", upper}, {"workdir", work},
		{"redirect_dir", "off"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"},
	} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// dirTime matches the time of a directory: where a directory changed in nothing
// else, a layer does not say so.
var dirTime = regexp.MustCompile(`(?m)^(".*" 04\d+ \d+:\d+) \d+`)

func dumpMerged(tb testing.TB, o *overlay) string {
	tb.Helper()
	return dirTime.ReplaceAllString(dumpTree(tb, o.path), "$1 -")
}

// layerOf packs what was changed in an overlay, unpacks it on a fresh one over
// the same lower tree, and fails if the two differ.
func layerOf(tb testing.TB, lower string, o *overlay) string {
	tb.Helper()
	want := dumpMerged(tb, o)
	data, _ := packTar(tb, o.upper, lower, PackOptions{})
	again := newOverlay(tb, lower)
	_, err := Unpack(tb.Context(), bytes.NewReader(data), again.root, UnpackOptions{})
	must(tb, err)
	if diff := cmp.Diff(want, dumpMerged(tb, again)); diff != "" {
		tb.Errorf("the layer does not give the same tree:\n%s\nlayer:\n%s", diff, listTar(tb, data))
	}
	// Unpacking to a plain copy must agree with unpacking to an overlay.
	plain := tb.TempDir()
	base, _ := packTar(tb, lower, "", PackOptions{})
	for _, layer := range [][]byte{base, data} {
		_, err := Unpack(tb.Context(), bytes.NewReader(layer), openRoot(tb, plain), UnpackOptions{})
		must(tb, err)
	}
	must(tb, os.Chmod(plain, 0o755))
	got := dirTime.ReplaceAllString(dumpTree(tb, plain), "$1 -")
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("the layer does not give the same plain tree:\n%s", diff)
	}
	return listTar(tb, data)
}

func lowerTree(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	must(tb, os.Chmod(dir, 0o755))
	write(tb, dir, "d/x", "x")
	write(tb, dir, "d/y", "y")
	write(tb, dir, "d/sub/z", "z")
	write(tb, dir, "e/one", "1")
	write(tb, dir, "e/two/three", "3")
	write(tb, dir, "file", "content")
	write(tb, dir, "whole", "seconds")
	must(tb, os.Symlink("d/x", filepath.Join(dir, "ln")))
	write(tb, dir, "hard1", "linked")
	must(tb, os.Link(filepath.Join(dir, "hard1"), filepath.Join(dir, "hard2")))
	setTimes(tb, dir, 1_400_000_000)
	nano := []unix.Timespec{{Sec: 1_400_000_000, Nsec: 5}, {Sec: 1_400_000_000, Nsec: 5}}
	must(tb, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "file"), nano, 0))
	return dir
}

func TestOverlay_LayerHoldsTheChanges(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"H10 a deleted file and directory are whiteouts", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Remove(dir+"file"))
			must(t, os.RemoveAll(dir+"d/sub"))
		}, "0 .wh.file\n5 d/\n0 d/.wh.sub\n"},
		{"H10 what was made and deleted leaves nothing", func(t *testing.T, dir string) {
			t.Helper()
			write(t, dir, "d/new", "")
			must(t, os.Remove(dir+"d/new"))
		}, ""},
		{"H10 an opaque directory is a whiteout for each missing child", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.RemoveAll(dir+"d"))
			write(t, dir, "d/sub/new", "n")
			write(t, dir, "d/x", "other")
		}, "5 d/\n0 d/.wh.y\n5 d/sub/\n0 d/sub/.wh.z\n0 d/sub/new \"n\"\n0 d/x \"other\"\n"},
		{"H10 a directory that becomes a file needs no whiteout", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.RemoveAll(dir+"d"))
			write(t, dir, "d", "file now")
		}, "0 d \"file now\"\n"},
		{"H10 a file that becomes a directory", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Remove(dir+"file"))
			write(t, dir, "file/in", "i")
		}, "5 file/\n0 file/in \"i\"\n"},
		{"a renamed directory is stored whole", func(t *testing.T, dir string) {
			t.Helper()
			err := os.Rename(dir+"e", dir+"moved")
			if errors.Is(err, unix.EXDEV) { // mv(1) copies then
				must(t, os.CopyFS(dir+"moved", os.DirFS(dir+"e")))
				must(t, os.RemoveAll(dir+"e"))
			}
			setTimes(t, dir+"moved", 9)
		}, "0 .wh.e\n5 moved/\n0 moved/one \"1\"\n5 moved/two/\n0 moved/two/three \"3\"\n"},
		{"H11 a mode changed and changed back is no change", func(t *testing.T, dir string) {
			t.Helper()
			for _, name := range []string{"file", "d", "whole"} {
				st, err := os.Stat(dir + name)
				must(t, err)
				must(t, os.Chmod(dir+name, 0o700))
				must(t, os.Chmod(dir+name, st.Mode()))
			}
		}, ""},
		{"H11 same size and time, other content is a change", func(t *testing.T, dir string) {
			t.Helper()
			for _, name := range []string{"file", "whole"} {
				var st unix.Stat_t
				must(t, unix.Stat(dir+name, &st))
				must(t, os.WriteFile(dir+name, []byte("CONTENT")[:st.Size], 0))
				must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+name, []unix.Timespec{st.Atim, st.Mtim}, 0))
			}
		}, "0 file \"CONTENT\"\n0 whole \"CONTENT\"\n"},
		{"H11 a changed mode is a change", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Chmod(dir+"d", 0o700))
			must(t, os.Chmod(dir+"e/one", 0o600))
		}, "5 d/\n5 e/\n0 e/one \"1\"\n"},
		{"H9 only the changed name of a linked file is written", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.WriteFile(dir+"hard1", []byte("new"), 0))
		}, "0 hard1 \"new\"\n"},
		{"H11 a new link to an unchanged file is a file of its own, apart", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Link(dir+"file", dir+"zlink"))
			must(t, os.Link(dir+"file", dir+"zlink2"))
		}, "0 zlink \"content\"\n1 zlink2 -> zlink\n"},
		{"H9 a changed file and its new link keep the bond", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Link(dir+"file", dir+"zlink"))
			must(t, os.Chmod(dir+"file", 0o600))
		}, "0 file \"content\"\n1 zlink -> file\n"},
		{"a socket hides the file it replaced", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Remove(dir+"file"))
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			must(t, err)
			defer unix.Close(fd)
			must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "file"}))
		}, "0 .wh.file\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lower := lowerTree(t)
			o := newOverlay(t, lower)
			c.change(t, o.path)
			if strings.Contains(c.name, "socket") || strings.Contains(c.name, "apart") { // not the same tree
				data, _ := packTar(t, o.upper, lower, PackOptions{})
				if diff := cmp.Diff(c.want, listTar(t, data)); diff != "" {
					t.Error(diff)
				}
				return
			}
			if diff := cmp.Diff(c.want, layerOf(t, lower, o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Property: whatever is done to an overlay, its layer gives the same tree.
func TestOverlay_RandomChangesComeBack(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for seed := range int64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewSource(seed))
			lower := t.TempDir()
			must(t, os.Chmod(lower, 0o755))
			randomChanges(t, rng, lower+"/", 60)
			setTimes(t, lower, 1_300_000_000)
			o := newOverlay(t, lower)
			randomChanges(t, rng, o.path, 60)
			layerOf(t, lower, o)
		})
	}
}

// randomChanges does things to names of which there are few, so that they meet.
func randomChanges(t *testing.T, rng *rand.Rand, dir string, n int) {
	t.Helper()
	name := func() string {
		parts := make([]string, 1+rng.Intn(3))
		for i := range parts {
			parts[i] = string(rune('a' + rng.Intn(4)))
		}
		return dir + strings.Join(parts, "/")
	}
	for i := range n {
		p := name()
		switch rng.Intn(9) { // errors are part of the game: not found, not a directory, ...
		case 0, 1:
			_ = os.MkdirAll(p, 0o755)
		case 2, 3:
			_ = os.WriteFile(p, fmt.Appendf(nil, "%d", rng.Intn(3)), 0o644)
			when := time.Unix(int64(rng.Intn(3)), 0)
			_ = os.Chtimes(p, when, when)
		case 4:
			_ = os.RemoveAll(p)
		case 5:
			_ = os.Symlink(fmt.Sprint("t", i%3), p)
		case 6:
			_ = os.Link(name(), p)
		case 7:
			if st, err := os.Lstat(p); err == nil && st.Mode()&os.ModeSymlink == 0 {
				_ = os.Chmod(p, os.FileMode(0o700+rng.Intn(2)*0o55))
			}
		case 8:
			_ = os.Rename(name(), p)
		}
	}
}
