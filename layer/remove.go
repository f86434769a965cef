package layer

import (
	"errors"

	"golang.org/x/sys/unix"
)

// removeAll removes a name and all below it; that it is not there is no error.
// Few directories are open at a time, whatever the depth.
func removeAll(dir int, name string) error {
	err := unlink(dir, name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// EPERM is what POSIX says of a directory; rmdir tells.
	switch rerr := rmdir(dir, name); {
	case rerr == nil || errors.Is(rerr, unix.ENOENT):
		return nil
	case errors.Is(rerr, unix.ENOTDIR):
		return err
	case !errors.Is(rerr, unix.ENOTEMPTY) && !errors.Is(rerr, unix.EEXIST):
		return rerr
	}
	if err := emptyDir(dir, name); err != nil {
		return err
	}
	return rmdir(dir, name)
}

func unlink(dir int, name string) error {
	return retry(func() error { return unix.Unlinkat(dir, name, 0) })
}

func rmdir(dir int, name string) error {
	return retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

// emptyDir removes the content of a directory. It keeps one descriptor, and
// comes back up through "..".
func emptyDir(dir int, name string) error {
	fd, err := openDirAt(dir, name)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, direntBuf)
	var below []string // names of the directories from the first one down to fd
	for {
		full, err := sweepOnce(fd, buf)
		if err != nil {
			return err
		}
		var next int
		switch {
		case full != "":
			next, err = openDirAt(fd, full)
			below = append(below, full)
		case len(below) == 0:
			return nil
		default:
			next, err = openDirAt(fd, "..")
		}
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
		fd = next
		if full == "" { // came up: the directory just left is empty
			last := len(below) - 1
			if err := rmdir(fd, below[last]); err != nil {
				return err
			}
			below = below[:last]
		}
	}
}

// sweepOnce removes what can be removed from a directory by single calls, and
// returns the name of a directory in it that is not empty, or "" when nothing
// is left.
func sweepOnce(fd int, buf []byte) (full string, err error) {
	errStop := errors.New("found")
	for {
		found := false
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return "", err
		}
		err := readNames(fd, buf, func(name []byte, kind byte) error {
			found = true
			isFull, err := removeOne(fd, string(name), kind)
			if err == nil && isFull {
				full = string(name)
				return errStop
			}
			return err
		})
		switch {
		case errors.Is(err, errStop):
			return full, nil
		case err != nil:
			return "", err
		case !found:
			return "", nil
		}
	}
}

// removeOne removes a file or an empty directory; isFull means that it is a
// directory with content.
func removeOne(fd int, name string, kind byte) (isFull bool, err error) {
	if kind != unix.DT_DIR {
		err = unlink(fd, name)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
			return false, err
		}
	}
	rerr := rmdir(fd, name)
	switch {
	case rerr == nil || errors.Is(rerr, unix.ENOENT):
		return false, nil
	case errors.Is(rerr, unix.ENOTEMPTY) || errors.Is(rerr, unix.EEXIST):
		return true, nil
	case errors.Is(rerr, unix.ENOTDIR) && err != nil:
		return false, err
	}
	return false, rerr
}
