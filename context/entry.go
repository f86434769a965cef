package buildcontext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrChanged says that a file or directory was changed while it was read: what
// was read is no state that the tree ever had. Reading again may succeed.
var ErrChanged = errors.New("changed while read")

// ErrTooLarge says that something in the tree exceeds a bound of this package.
var ErrTooLarge = errors.New("too large")

// Entry is one thing that Walk visits. It is valid during the callback only.
type Entry struct {
	Rel    string // path below the match, "" for the match itself
	Path   string // canonical absolute slash path inside the tree
	Info   Info
	Dir    *os.File // the directory that holds it: open by Name relative to it, never by Path
	Name   string   // name in Dir; "." for the root of the tree
	Link   string   // target of a symbolic link
	Xattrs func() (map[string][]byte, error)
}

// Open opens a regular file for reading. ErrChanged when it is no longer the
// file that Info describes.
func (e Entry) Open() (*os.File, error) {
	fd, err := e.OpenFD()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.Path), nil
}

// OpenFD is Open without an os.File, which costs three more system calls and a
// clean-up for the collector: as much as reading a small file does. The caller
// closes the descriptor.
func (e Entry) OpenFD() (int, error) {
	if !e.Info.IsRegular() {
		return -1, fmt.Errorf("open %s: not a regular file", e.Path)
	}
	if e.Info.Size > maxFileBytes {
		return -1, fmt.Errorf("open %s: %w: %d bytes, more than %d", e.Path, ErrTooLarge, e.Info.Size, int64(maxFileBytes))
	}
	// Info says that it is a regular file. O_NONBLOCK: should it have become a FIFO since, the
	// opening returns, and the check below refuses it.
	fd, err := openat(int(e.Dir.Fd()), e.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("open %s: %w", e.Path, ErrChanged)
	case err != nil:
		return -1, &fs.PathError{Op: "open", Path: e.Path, Err: err}
	}
	if err := e.CheckUnchangedFD(fd); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// CheckUnchanged compares an open file with Info. Called after reading to the
// end, it tells a file that was written meanwhile (C6).
func (e Entry) CheckUnchanged(f *os.File) error { return e.CheckUnchangedFD(int(f.Fd())) }

// CheckUnchangedFD is CheckUnchanged for a descriptor of OpenFD.
func (e Entry) CheckUnchangedFD(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: e.Path, Err: err}
	}
	if !e.Info.same(&st) {
		return fmt.Errorf("%s: %w", e.Path, ErrChanged)
	}
	return nil
}

// same compares what changes when a file's content or attributes do.
func (i Info) same(st *unix.Stat_t) bool {
	return i.Ino == st.Ino && i.Dev == st.Dev && i.Mode == st.Mode && i.Size == st.Size &&
		i.Mtime == st.Mtim && i.ctime == st.Ctim
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func lstatat(dir int, name string, st *unix.Stat_t) error {
	return unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
