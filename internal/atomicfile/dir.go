package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// sweepBatch is how many names Sweep holds at a time.
const sweepBatch = 256

// IsTemp tells whether name is that of a file still being written (or left by a writer that died).
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// Mkdir makes dir (and what is missing above it) a directory that only its owner can enter, whatever
// the umask. An existing one must be a directory, not a link to one, and belong to this user; a
// mode open to others is closed.
func Mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrNotExist) {
		if err := Mkdir(filepath.Dir(dir)); err != nil && !errors.Is(err, errForeign) {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkPrivate(dir)
}

// errForeign marks a directory that exists but is not ours: fine as a parent, an error as the directory itself.
var errForeign = errors.New("belongs to another user")

func checkPrivate(dir string) error {
	fd, err := retried.Open(dir, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: %w", dir, errForeign)
	}
	if st.Mode&0o7777 == 0o700 {
		return nil
	}
	// chmod of an O_PATH descriptor goes by its name under /proc; the kernel takes the object, not the path.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700); err != nil {
		return &fs.PathError{Op: "chmod", Path: dir, Err: err}
	}
	return nil
}

// Sweep removes the temporary files in dir whose writers are dead. A missing dir is nothing to sweep.
func Sweep(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(sweepBatch)
		for _, name := range names {
			if !IsTemp(name) {
				continue
			}
			if err := removeDead(d, name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func removeDead(dir *os.File, name string) error {
	fd, err := retried.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // vanished, or a thing that no writer of ours made
	}
	defer unix.Close(fd)
	if flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // its writer lives, or the file system has no locks
	}
	// The writer renames under the lock: the name may be gone, or (64 random bits aside) still be this file.
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}
