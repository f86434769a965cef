package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// rootOf is what a committed layer's own top directory is like. Layers do not change, so it is found out once.
type rootOf struct {
	empty bool   // nothing in it, and it hides nothing
	attrs string // owner, mode, time and extended attributes: of the topmost layer, "/" has them
}

// thinned leaves out of a stack the layers that add nothing to the merged tree: steps that changed no file made them. Mounting
// an overlay costs with each layer, so a chain of such steps would cost with the square of its length.
func (s *Store) thinned(stack []ID) ([]ID, error) {
	if len(stack) < 2 {
		return stack, nil
	}
	thin := make([]ID, 0, len(stack))
	for _, id := range stack {
		root, err := s.rootOf(id)
		if err != nil {
			return nil, err
		}
		if !root.empty {
			thin = append(thin, id)
		}
	}
	last := stack[len(stack)-1]
	top, err := s.rootOf(last)
	if err != nil || !top.empty {
		return thin, err
	}
	if len(thin) > 0 {
		below, err := s.rootOf(thin[len(thin)-1])
		if err != nil || below.attrs == top.attrs {
			return thin, err
		}
	}
	return append(thin, last), nil
}

// Adds tells whether a committed layer makes a difference to the merged tree of the stack that it lies upon.
func (s *Store) Adds(stack []ID, id ID) (bool, error) {
	if err := s.require([]ID{id}); err != nil {
		return false, err
	}
	root, err := s.rootOf(id)
	if err != nil || !root.empty || len(stack) == 0 {
		return true, err
	}
	below, err := s.rootOf(stack[len(stack)-1])
	if err != nil {
		return false, err
	}
	return below.attrs != root.attrs, nil
}

func (s *Store) rootOf(id ID) (*rootOf, error) {
	if known, ok := s.roots.Load(id); ok {
		return known.(*rootOf), nil
	}
	root, err := readRoot(s.Dir(id))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	s.roots.Store(id, root)
	return root, nil
}

func readRoot(path string) (*rootOf, error) {
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close() // read only
	_, err = dir.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	empty := err != nil
	opaque, err := isOpaque(dir)
	if err != nil {
		return nil, err
	}
	attrs, err := attributes(dir)
	return &rootOf{empty: empty && !opaque, attrs: attrs}, err
}

// attributes are those that copyDirAttributes copies, as text to compare.
func attributes(dir *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	text := fmt.Sprint(st.Uid, st.Gid, st.Mode, st.Mtim.Sec, st.Mtim.Nsec)
	names, err := xattrNames(dir)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	value := make([]byte, maxXattr)
	for _, name := range names {
		n, err := unix.Fgetxattr(int(dir.Fd()), name, value)
		if err != nil {
			return "", &fs.PathError{Op: "read attribute " + name + " of", Path: dir.Name(), Err: err}
		}
		text += fmt.Sprintf(" %q=%q", name, value[:n])
	}
	return text, nil
}
