package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// Waiting polls: flock has no timeout, and a thread blocked in it could not be cancelled. The first
// polls are quick, because most steps that collide end together; later ones cost nothing to speak of.
const (
	firstPoll = time.Millisecond
	lastPoll  = 20 * time.Millisecond
)

// pidBytes bounds what is read of a lock file: a pid and a newline fit with room to spare.
const pidBytes = 32

// Kind is how a file is held.
type Kind int

// The kinds of lock: any number of Shared ones, or one Exclusive.
const (
	Shared Kind = iota + 1
	Exclusive
)

// ErrHeld is what TryLock returns when someone else has the file.
var ErrHeld = errors.New("locked by another")

// File is a held lock. Its methods are called once, by one goroutine.
type File struct {
	f    *os.File
	path string
}

// Lock waits until path is locked and returns the lock. The file is made when missing (mode 0600); its
// directory must exist. waiting, when not nil, is called once if the lock is not free at once, with the
// holder's pid as far as it is known, else 0. When ctx ends first its cause is returned.
func Lock(ctx context.Context, path string, kind Kind, waiting func(pid int)) (l *File, err error) {
	err = Poll(ctx, func() (bool, error) {
		l, err = TryLock(path, kind)
		return errors.Is(err, ErrHeld), err
	}, func() {
		if waiting != nil {
			waiting(Holder(path))
		}
	})
	if l == nil && ctx.Err() != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return l, err
}

// Poll calls try until it finds that nobody holds what is wanted, and gives its error; waiting is called once when somebody does. When
// ctx ends first, its cause is returned.
func Poll(ctx context.Context, try func() (held bool, err error), waiting func()) error {
	var timer *time.Timer
	for delay := firstPoll; ; delay = min(2*delay, lastPoll) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		held, err := try()
		if !held {
			return err
		}
		if timer == nil {
			waiting()
			timer = time.NewTimer(delay)
			defer timer.Stop()
		} else {
			timer.Reset(delay)
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
}

// TryLock is Lock without waiting: errors.Is(err, ErrHeld) when someone else has it.
func TryLock(path string, kind Kind) (*File, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		ok, err := Try(f, kind)
		if err == nil && !ok {
			err = ErrHeld
		}
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !current(f, path) { // the former holder unlinked it between our open and our flock
			_ = f.Close()
			continue
		}
		if kind == Exclusive {
			// For messages alone, so a full disk does not matter. Fixed width: no truncation, no former digits.
			_, _ = f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0)
		}
		return &File{f: f, path: path}, nil
	}
}

// Try locks an open file or directory without waiting and reports whether it has it now. Closing the
// descriptor (all duplicates of it) gives the lock up.
func Try(f *os.File, kind Kind) (bool, error) {
	how := unix.LOCK_NB | unix.LOCK_SH
	if kind == Exclusive {
		how = unix.LOCK_NB | unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, fmt.Errorf("flock: %w", err)
		}
	}
}

// Holder reads which process last held the exclusive lock of path: a hint for messages, 0 when unknown.
func Holder(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	var buf [pidBytes]byte
	n, _ := f.ReadAt(buf[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Release gives the lock up and leaves the file.
func (l *File) Release() error {
	// Explicitly, not by close alone: a fork of this process on its way to exec still shares the descriptor.
	err := retried.Call(func() error { return unix.Flock(int(l.f.Fd()), unix.LOCK_UN) })
	return errors.Join(err, l.f.Close())
}

// Remove unlinks the file and gives the lock up. Only for an Exclusive lock.
func (l *File) Remove() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Release())
}

func open(path string) (*os.File, error) {
	fd, err := retried.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open lock", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err == nil && st.Mode().Perm() != 0o600 {
		_ = f.Chmod(0o600) // an odd umask must not keep the next process out
	}
	return f, nil
}

// current tells whether path still names the open file.
func current(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	want, err := os.Lstat(path)
	return err == nil && os.SameFile(have, want)
}
