package buildcontext

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// ErrEscapes says that the ignore file is a link that leaves its directory.
var ErrEscapes = errors.New("is a link that leaves the context")

// FindIgnore finds and reads the ignore file of a build (C4): override if
// given, else the Dockerfile's name with ".dockerignore" beside it, else
// .dockerignore, else .containerignore in the context directory dir. Nothing
// found is an empty path without error; a file that is there and cannot be
// read as a file, or is a link that leaves the context, is an *IgnoreError: to
// go on without it could copy secrets.
func FindIgnore(dockerfile string, dir string, override string) (path string, src []byte, err error) {
	if override != "" {
		src, err := readGiven(override)
		return override, src, err
	}
	if dockerfile != "" && dockerfile != "-" {
		name := dockerfile + ".dockerignore"
		src, err := readBeside(name, dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, src, err
		}
	}
	for _, base := range []string{".dockerignore", ".containerignore"} {
		name := filepath.Join(dir, base)
		src, err := readInside(dir, base, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, src, err
		}
	}
	return "", nil, nil
}

// readGiven reads a file that the user named: links are the user's own.
func readGiven(name string) ([]byte, error) {
	// O_PATH first: opening a FIFO or a device for data has effects.
	probe, err := os.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return nil, &IgnoreError{File: name, Err: errnoOf(err)}
	}
	defer probe.Close()
	if err := regular(probe, name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &IgnoreError{File: name, Err: errnoOf(err)}
	}
	return readBounded(f, name)
}

// readBeside reads the file beside the Dockerfile. When the Dockerfile is in
// the context, links may lead anywhere in the context, else only to files of
// that directory.
func readBeside(name, dir string) ([]byte, error) {
	if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
		return readInside(dir, filepath.ToSlash(rel), name)
	}
	return readInside(filepath.Dir(name), filepath.Base(name), name)
}

func readInside(dir, rel, shown string) ([]byte, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, &IgnoreError{File: shown, Err: err}
	}
	defer root.Close()
	if err := staysInside(root, rel); err != nil {
		return nil, &IgnoreError{File: shown, Err: err}
	}
	f, _, err := root.OpenRegular(rel)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := root.Lstat(rel); lerr == nil {
			return nil, &IgnoreError{File: shown, Err: errors.New("is a link that leads nowhere")}
		}
	}
	if err != nil {
		return nil, &IgnoreError{File: shown, Err: errnoOf(err)}
	}
	return readBounded(f, shown)
}

// staysInside follows the links of the last component by their text. The
// kernel keeps the opening inside the root in any case; this is what tells a
// link out of the context, which would be read as something else or as
// missing, from a plain file.
func staysInside(root *rootfs.Root, rel string) error {
	for range maxLinks {
		st, err := root.Lstat(rel)
		if err != nil {
			return nil //nolint:nilerr // the opening reports it
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return nil
		}
		target, err := root.Readlink(rel)
		if err != nil {
			return err
		}
		next := path.Join(path.Dir(rel), target)
		if strings.HasPrefix(target, "/") || !filepath.IsLocal(next) {
			return fmt.Errorf("%w: %q", ErrEscapes, target)
		}
		rel = next
	}
	return rootfs.ErrLoop
}

func regular(f *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &IgnoreError{File: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &IgnoreError{File: name, Err: rootfs.ErrNotRegular}
	}
	return nil
}

// readBounded closes f.
func readBounded(f *os.File, name string) ([]byte, error) {
	defer f.Close()
	if err := regular(f, name); err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, maxIgnoreBytes+1))
	if err != nil {
		return nil, &IgnoreError{File: name, Err: errnoOf(err)}
	}
	if len(src) > maxIgnoreBytes {
		return nil, &IgnoreError{File: name, Err: fmt.Errorf("longer than %d bytes", maxIgnoreBytes)}
	}
	return src, nil
}

// errnoOf drops the path that an *fs.PathError repeats.
func errnoOf(err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return perr.Err
	}
	return err
}
