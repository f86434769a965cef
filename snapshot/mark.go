package snapshot

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A layer's directory means what it does by overlay's attributes as much as by its files: a directory that hides the one below it is an
// ordinary one without them. Programs that copy a state directory leave out attributes unless they are asked to keep them (rsync, cp -r,
// tar), and a layer that has lost them would be another, with nothing to tell. So a committed layer's directory bears a mark of the
// same kind, which is lost with them, and what should bear it and does not is not there.

// markedLine is in the meta file of a layer that bears the mark.
const markedLine = "mark 1\n"

// markName is beside overlay's own attributes, which no program in a step sees and no image gets (overlayfs.rst, "trusted.overlay").
func (s *Store) markName() string {
	if s.cfg.UserXattr {
		return "user.overlay.gobuild"
	}
	return "trusted.overlay.gobuild"
}

// mark sets it, and says whether this file system and these rights allow that. Where not, overlay's attributes cannot be there either.
func (s *Store) mark(dir string) (bool, error) {
	err := unix.Lsetxattr(dir, s.markName(), []byte("1"), 0)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
		return false, nil
	}
	return false, &fs.PathError{Op: "mark layer", Path: dir, Err: err}
}

// bearsMark says whether a layer has the mark that its meta file promises.
func (s *Store) bearsMark(id ID, m moment) (bool, error) {
	if !m.marked {
		return true, nil
	}
	_, err := unix.Lgetxattr(s.Dir(id), s.markName(), nil)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return false, nil
	}
	return false, &fs.PathError{Op: "read mark of layer", Path: s.Dir(id), Err: err}
}
