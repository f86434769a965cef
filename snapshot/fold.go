package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// foldPins hold the folds that this Store has handed out. Nobody but us knows their ids, so nobody
// else can pin them; the pins go with the Store.
type foldPins struct {
	mu     sync.Mutex
	pinned map[ID]func()
}

// folded checks that the layers are there and returns a stack of at most maxLower, with the same merged tree.
func (s *Store) folded(stack []ID) ([]ID, error) {
	if err := s.require(stack); err != nil {
		return nil, err
	}
	stack, err := s.thinned(stack)
	if err != nil {
		return nil, err
	}
	for len(stack) > maxLower {
		id, err := s.fold(stack[:foldChunk])
		if err != nil {
			return nil, fmt.Errorf("fold %d layers into one: %w", foldChunk, err)
		}
		stack = append([]ID{id}, stack[foldChunk:]...)
	}
	return stack, nil
}

func (s *Store) fold(stack []ID) (ID, error) {
	id := foldID(stack)
	for range maxNames {
		err := s.pinFold(id)
		if !errors.Is(err, fs.ErrNotExist) {
			return id, err
		}
		if err := s.makeFold(id, stack); err != nil {
			return id, err
		}
	}
	return id, fmt.Errorf("removed as often as it was made: %w", fs.ErrNotExist)
}

// foldID is the same for the same layers on every machine.
func foldID(stack []ID) ID {
	text := []byte("gobuild fold 1\n")
	for _, id := range stack {
		text = append(append(text, id...), '\n')
	}
	return ID(fmt.Sprintf("%x", sha256.Sum256(text)))
}

func (s *Store) pinFold(id ID) error {
	s.folds.mu.Lock()
	_, ok := s.folds.pinned[id]
	s.folds.mu.Unlock()
	if ok {
		return nil
	}
	release, err := s.Pin(id)
	if err != nil {
		return err
	}
	s.folds.mu.Lock()
	defer s.folds.mu.Unlock()
	if _, ok := s.folds.pinned[id]; ok { // another goroutine was quicker
		release()
		return nil
	}
	if s.folds.pinned == nil {
		s.folds.pinned = make(map[ID]func())
	}
	s.folds.pinned[id] = release
	return nil
}

func (s *Store) makeFold(id ID, stack []ID) error {
	w, err := s.newWork(nil)
	if err != nil {
		return err
	}
	for _, layer := range stack {
		if err := linkLayer(s.Dir(layer), w.upper()); err != nil {
			return errors.Join(fmt.Errorf("layer %s: %w", layer, err), w.Discard())
		}
	}
	if err := w.Commit(id); err != nil {
		return errors.Join(err, w.Discard())
	}
	return nil
}

func linkLayer(from, to string) error {
	src, err := openDir(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openDir(to)
	if err != nil {
		return err
	}
	defer dst.Close() // nothing is written through it but attributes
	return linkTree(src, dst)
}

// linkTree lays the tree src over the tree dst as overlay would: a whiteout removes what is below, an opaque
// directory hides it, a directory merges with one, anything else replaces. Files are hard links, so
// they take no room and keep every attribute. It holds two descriptors per level of depth.
func linkTree(src, dst *os.File) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := linkEntry(src, dst, name); err != nil {
			return err
		}
	}
	return copyDirAttributes(src, dst) // last: the entries have changed the time
}

func linkEntry(src, dst *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: src.Name() + "/" + name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return linkDir(src, dst, name)
	}
	if err := removeAt(dst, name); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 { // overlayfs.rst, "whiteouts and opaque directories"
		return nil
	}
	if err := unix.Linkat(int(src.Fd()), name, int(dst.Fd()), name, 0); err != nil {
		return &os.LinkError{Op: "link", Old: src.Name() + "/" + name, New: dst.Name() + "/" + name, Err: err}
	}
	return nil
}

func linkDir(src, dst *os.File, name string) error {
	from, err := openDirAt(src, name)
	if err != nil {
		return err
	}
	defer from.Close()
	opaque, err := isOpaque(from)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dst.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (opaque || st.Mode&unix.S_IFMT != unix.S_IFDIR) {
		if err := removeAt(dst, name); err != nil {
			return err
		}
	}
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "mkdir", Path: dst.Name() + "/" + name, Err: err}
	}
	to, err := openDirAt(dst, name)
	if err != nil {
		return err
	}
	defer to.Close() // nothing is written through it but attributes
	return linkTree(from, to)
}
