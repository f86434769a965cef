package snapshot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

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
		got, err := s.Size(t.Context(), id(1))
		must(t, err)
		if got != want {
			t.Errorf("size %d, du says %d", got, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(s.home(id(1)), sizeName), []byte("77\n"), 0o600))
	if got, _ := s.Size(t.Context(), id(1)); got != 77 {
		t.Errorf("kept size not used: %d", got)
	}
	must(t, os.WriteFile(filepath.Join(s.home(id(1)), sizeName), []byte("-1"), 0o600))
	if got, _ := s.Size(t.Context(), id(1)); got != want {
		t.Errorf("damaged size believed: %d", got)
	}
}

func TestDiscard_RemovesDeepAndProtectedTrees(t *testing.T) {
	s := open(t)
	w, err := s.New(nil)
	must(t, err)
	// 5,000 levels, some closed to all: a path to the last has 10,000 bytes, more than PATH_MAX.
	fd, err := unix.Open(w.upper(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range 5000 {
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
	must(t, s.Close())
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
