package retried

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Open is unix.Open.
func Open(path string, flags int, mode uint32) (fd int, err error) {
	err = Call(func() error {
		fd, err = unix.Open(path, flags, mode)
		return err
	})
	return fd, err
}

// Openat is unix.Openat.
func Openat(dir int, path string, flags int, mode uint32) (fd int, err error) {
	err = Call(func() error {
		fd, err = unix.Openat(dir, path, flags, mode)
		return err
	})
	return fd, err
}

// Call makes a call until no signal interrupts it.
func Call(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
