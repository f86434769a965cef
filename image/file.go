package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
)

// published is how files of an output appear.
var published = atomicfile.Options{Mode: 0o644, Durable: true}

func writeIfMissing(p string, b []byte) error {
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.Write(p, b, published)
}

// openRegular opens a file, following links (build systems make layouts of links), but nothing
// other than a regular one; O_NONBLOCK keeps a FIFO from hanging the open.
func openRegular(p string) (*os.File, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", p)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func readRegular(p string, limit int64) ([]byte, error) {
	f, err := openRegular(p)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes: %w", p, limit, ErrTooLarge)
	}
	return b, errors.Join(err, f.Close())
}
