package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// tempPrefix starts the names of files that are still being written. Names of finished files must not use it.
const tempPrefix = ".tmp-"

// maxAttempts bounds the search for a free temporary name; with 64 random bits a second attempt is already an accident.
const maxAttempts = 16

// Options shape the file. The zero value is a private file that need not survive a power cut.
type Options struct {
	Mode    fs.FileMode // permission bits, set exactly (the umask does not matter); zero means 0600
	Durable bool        // fsync the file before the rename and the directory after it
	Mtime   time.Time   // modification time; zero leaves the kernel's

	UID, GID int // owner, set by root alone; zero is the writer's own
}

// Write makes path a file with these bytes, replacing what had the name.
func Write(path string, data []byte, o Options) error {
	return WriteFunc(path, o, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc makes path a file with the bytes that fill writes. When fill fails its error is returned
// (wrapped) and path is as it was.
func WriteFunc(path string, o Options, fill func(io.Writer) error) error {
	fd, err := retried.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open directory of", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), filepath.Dir(path))
	defer dir.Close()
	return WriteIn(dir, filepath.Base(path), o, fill)
}

// WriteIn is WriteFunc for one plain name inside an open directory.
func WriteIn(dir *os.File, name string, o Options, fill func(io.Writer) error) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, tempPrefix) {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	path := filepath.Join(dir.Name(), name)
	f, temp, err := create(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := finish(dir, f, temp, name, o, fill); err != nil {
		// The temporary name may be gone already (a sweep of someone who broke in); what matters is that none stays.
		if uerr := unix.Unlinkat(int(dir.Fd()), temp, 0); uerr != nil && !errors.Is(uerr, fs.ErrNotExist) {
			err = errors.Join(err, uerr)
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	if o.Durable {
		if err := dir.Sync(); err != nil {
			return fmt.Errorf("write %s: sync directory: %w", path, err)
		}
	}
	return nil
}

// create opens a new temporary file and holds it by flock, so that Sweep can tell it from a dead one.
func create(dir *os.File) (*os.File, string, error) {
	for range maxAttempts {
		temp := fmt.Sprintf("%s%016x", tempPrefix, rand.Uint64()) // only has to be unlikely to collide: O_EXCL decides
		fd, err := retried.Openat(int(dir.Fd()), temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("create temporary file: %w", err)
		}
		f := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), temp))
		// A file system without locks makes Sweep leave the file alone too, so the lock is not required.
		_ = flock(fd, unix.LOCK_EX)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			_ = f.Close()
			return nil, "", fmt.Errorf("create temporary file: %w", err)
		}
		if st.Nlink == 0 { // a sweep locked it between open and flock
			_ = f.Close()
			continue
		}
		return f, temp, nil
	}
	return nil, "", fmt.Errorf("create temporary file: %w", fs.ErrExist)
}

// finish fills the temporary file and renames it. f is closed in any case.
func finish(dir, f *os.File, temp, name string, o Options, fill func(io.Writer) error) error {
	err := fillFile(f, o, fill)
	// The duplicate keeps the lock until the rename, while Close of the original reports what a
	// file system says only then (NFS flushes on close).
	hold, derr := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if derr == nil {
		defer unix.Close(hold) // nothing was written through it
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	if err = errors.Join(err, derr); err != nil {
		return err
	}
	if err := unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), name); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return nil
}

func fillFile(f *os.File, o Options, fill func(io.Writer) error) error {
	if err := fill(f); err != nil {
		return err
	}
	mode := o.Mode.Perm()
	if o.Mode == 0 {
		mode = 0o600
	}
	if o.UID != 0 || o.GID != 0 {
		if err := f.Chown(o.UID, o.GID); err != nil { // before the mode: it clears set-id bits
			return err
		}
	}
	if err := f.Chmod(mode); err != nil { // by descriptor: the umask never matters
		return err
	}
	if !o.Mtime.IsZero() {
		if err := Touch(f, o.Mtime); err != nil {
			return err
		}
	}
	if o.Durable {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return nil
}

// Touch sets the modification time of an open file and leaves its access time alone.
func Touch(f *os.File, t time.Time) error {
	mtime, err := unix.TimeToTimespec(t)
	if err != nil {
		return &fs.PathError{Op: "set time of", Path: f.Name(), Err: err}
	}
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", times[:], unix.AT_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "set time of", Path: f.Name(), Err: err}
	}
	return nil
}

func flock(fd, how int) error {
	for {
		err := unix.Flock(fd, how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
