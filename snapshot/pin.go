package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Pins are locks on one byte each of one file, at an offset that is a hash of the id: open file description
// locks (fcntl(2), Linux 3.15), which like flock go with the descriptor and so with the process, but of
// which one descriptor holds any number. A stack of 400 layers must not need 400 descriptors.
const pinsName = "pins"

// Pin keeps layers from being removed until release is called or the process dies. It fails with
// fs.ErrNotExist if one is not there (or not trusted); then none is pinned.
func (s *Store) Pin(ids ...ID) (release func(), err error) {
	f, err := s.openPins()
	if err != nil {
		return nil, fmt.Errorf("pin layers: %w", err)
	}
	for _, id := range ids {
		if err := lockByte(f, id, unix.F_RDLCK); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("pin layer %s: %w", id, err)
		}
	}
	// Looked for under the lock: no Remove can come in between.
	if err := s.require(ids); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("pin: %w", err)
	}
	var once sync.Once
	return func() { once.Do(func() { _ = f.Close() }) }, nil
}

// lockOut holds id against pinning while it is moved away: ErrInUse if it is pinned.
func (s *Store) lockOut(id ID) (unlock func(), err error) {
	f, err := s.openPins()
	if err != nil {
		return nil, err
	}
	if err := lockByte(f, id, unix.F_WRLCK); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func (s *Store) openPins() (*os.File, error) {
	path := filepath.Join(s.dir, pinsName)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err == nil && st.Mode().Perm() != 0o600 {
		_ = f.Chmod(0o600) // an odd umask must not keep the next process out
	}
	return f, nil
}

// lockByte does not wait for a reader (a pin); a writer (a Remove) holds its lock for one rename, so a pin waits for it.
func lockByte(f *os.File, id ID, kind int16) error {
	sum := sha256.Sum256([]byte(id))
	lk := unix.Flock_t{
		Type:  kind,
		Start: int64(binary.BigEndian.Uint64(sum[:8]) >> 2),
		Len:   1,
	}
	cmd := unix.F_OFD_SETLK
	if kind == unix.F_RDLCK {
		cmd = unix.F_OFD_SETLKW
	}
	for {
		err := unix.FcntlFlock(f.Fd(), cmd, &lk)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return ErrInUse
		default:
			return err
		}
	}
}
