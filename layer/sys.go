package layer

import (
	"errors"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// ownFlags are on every open here: descriptors do not reach children, a FIFO
// that took a file's place does not block, a terminal does not become ours.
const ownFlags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// Network file systems and FUSE answer EINTR to calls that local ones finish.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openat opens one plain name below a directory, never through a link.
func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	for {
		fd, err = unix.Openat(dir, name, flags|ownFlags, mode)
		if err != unix.EINTR { //nolint:errorlint // raw errno on the hot path
			return fd, err
		}
	}
}

func openDirAt(dir int, name string) (int, error) {
	return openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

func lstatat(dir int, name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR { //nolint:errorlint // raw errno on the hot path
			return err
		}
	}
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// readFull reads until buf is full or the file ends.
func readFull(fd int, buf []byte) (int, error) {
	total := 0
	for total < len(buf) {
		n, err := unix.Read(fd, buf[total:])
		if err == unix.EINTR { //nolint:errorlint // raw errno on the hot path
			continue
		}
		if err != nil {
			return total, err
		}
		if n == 0 {
			break
		}
		total += n
	}
	return total, nil
}

// guard turns a panic of a goroutine into its error: a bug in here ends the
// step, not the process.
func guard(work func() error) func() error {
	return func() error { return rescue.Do(work) }
}
