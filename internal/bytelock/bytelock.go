package bytelock

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// ErrHeld is what Exclude returns for a name that somebody holds.
var ErrHeld = errors.New("held by another")

// Set is the names that one owner holds. Its methods are safe for concurrent use.
type Set struct {
	path string

	mu   sync.Mutex
	f    *os.File
	held map[string]bool
}

// Open begins an empty set of the file path, which is made when the first name is held; its directory must exist.
func Open(path string) *Set { return &Set{path: path, held: map[string]bool{}} }

// Hold adds names until Close, or until the process dies. It waits for one that is excluded, which takes as long as a removal. The
// things themselves need not exist: look for them afterwards.
func (s *Set) Hold(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.held[name] {
			continue
		}
		if s.f == nil {
			f, err := openFile(s.path)
			if err != nil {
				return err
			}
			s.f = f
		}
		if err := lock(s.f, name, unix.F_RDLCK); err != nil {
			return err
		}
		s.held[name] = true
	}
	return nil
}

// Close gives all names up. The set may be used again.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	clear(s.held)
	return err
}

// Exclude keeps everybody from holding a name until release is called. It does not wait: ErrHeld if somebody holds it.
func Exclude(path, name string) (release func(), err error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err := lock(f, name, unix.F_WRLCK); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func openFile(path string) (*os.File, error) {
	fd, err := retried.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err == nil && st.Mode().Perm() != 0o600 {
		_ = f.Chmod(0o600) // an odd umask must not keep the next process out
	}
	return f, nil
}

// lock waits for a writer (Exclude), which holds its lock for a moment, and never for a reader.
func lock(f *os.File, name string, kind int16) error {
	lk := flockOf(name, kind)
	cmd := unix.F_OFD_SETLK
	if kind == unix.F_RDLCK {
		cmd = unix.F_OFD_SETLKW
	}
	for {
		err := unix.FcntlFlock(f.Fd(), cmd, &lk)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return ErrHeld
		default:
			return err
		}
	}
}

// Held says of each name whether somebody holds or excludes it at this moment. Nothing is locked for that.
func Held(path string, names ...string) ([]bool, error) {
	held := make([]bool, len(names))
	fd, err := retried.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return held, nil // nobody ever held any
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // nothing is written through it
	for i, name := range names {
		lk := flockOf(name, unix.F_WRLCK)
		for {
			err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return nil, &fs.PathError{Op: "ask for locks of", Path: path, Err: err}
			}
			break
		}
		held[i] = lk.Type != unix.F_UNLCK
	}
	return held, nil
}

func flockOf(name string, kind int16) unix.Flock_t {
	sum := sha256.Sum256([]byte(name))
	return unix.Flock_t{Type: kind, Start: int64(binary.BigEndian.Uint64(sum[:8]) >> 2), Len: 1}
}
