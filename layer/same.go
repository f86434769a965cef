package layer

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"
)

// unchanged says that an object of the upper tree equals the one the lower tree
// has under its name, so that a layer need not hold it: overlayfs copies a file
// up on the first write or attribute change, even if that is taken back.
func (w *walker) unchanged(f *frame, name string, st *unix.Stat_t) (bool, error) {
	var lst unix.Stat_t
	err := lstatat(f.lo.fd, name, &lst)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat in lower tree: %w", err)
	}
	if err := w.owners.FixAt(f.lo.fd, name, &lst); err != nil {
		return false, fmt.Errorf("read owner in lower tree: %w", err)
	}
	if !sameOwnerAndMode(st, &lst) || st.Size != lst.Size || st.Mtim != lst.Mtim {
		return false, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.sameFile(f, name)
	case unix.S_IFLNK:
		return sameLink(f, name)
	case unix.S_IFCHR, unix.S_IFBLK:
		return st.Rdev == lst.Rdev, nil
	}
	return true, nil
}

// sameOwnerAndMode compares type, permissions and ids.
func sameOwnerAndMode(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid
}

func sameLink(f *frame, name string) (bool, error) {
	up, err := readlinkat(f.up.fd, name)
	if err != nil {
		return false, err
	}
	lo, err := readlinkat(f.lo.fd, name)
	if err != nil {
		return false, fmt.Errorf("read link in lower tree: %w", err)
	}
	return up == lo, nil
}

// sameFile compares attributes and content. Equal times do not prove equal
// content: `touch -r` and coarse clocks make them equal, and a change that is
// left out of a layer is lost.
func (w *walker) sameFile(f *frame, name string) (bool, error) {
	up, err := openat(f.up.fd, name, unix.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(up)
	lo, err := openat(f.lo.fd, name, unix.O_RDONLY, 0)
	if err != nil {
		return false, fmt.Errorf("open in lower tree: %w", err)
	}
	defer unix.Close(lo)
	a, err := storedXattrs(up, true, w.opt.UserXattrs)
	if err != nil {
		return false, err
	}
	b, err := storedXattrs(lo, true, w.opt.UserXattrs)
	if err != nil || !maps.Equal(a, b) {
		return false, err
	}
	return w.sameContent(up, lo)
}

func (w *walker) sameUserXattrs(up, lo int) (bool, error) {
	if !w.opt.UserXattrs {
		return true, nil
	}
	a, err := storedXattrs(up, false, true)
	if err != nil {
		return false, err
	}
	b, err := storedXattrs(lo, false, true)
	return err == nil && maps.Equal(a, b), err
}

func (w *walker) sameContent(a, b int) (bool, error) {
	if w.compare[0] == nil {
		w.compare = [2][]byte{make([]byte, chunkSize), make([]byte, chunkSize)}
	}
	for {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		n, err := readFull(a, w.compare[0])
		if err != nil {
			return false, err
		}
		m, err := readFull(b, w.compare[1])
		if err != nil {
			return false, fmt.Errorf("read in lower tree: %w", err)
		}
		if !bytes.Equal(w.compare[0][:n], w.compare[1][:m]) {
			return false, nil
		}
		if n < chunkSize {
			return true, nil
		}
	}
}
