package bytelock

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/filelock"
)

// The kernel does not tell who has such a lock, so whoever takes one leaves a note at the head of the file, in one of so many places,
// by the name: what tells the name, and a process number. A note may be another's or a former one, and is a hint for messages.
const (
	notes    = 1 << 12
	noteSize = 16
)

// Lock is a name that its owner has alone.
type Lock struct {
	f    *os.File
	name string
}

// Take waits until nobody has the name, of this process or another one. waiting, when not nil, is called once if somebody has it, with the
// number of the process as far as it is known, else 0. When ctx ends first, its cause is returned. A file serves either this or Hold.
func Take(ctx context.Context, path, name string, waiting func(pid int)) (*Lock, error) {
	f, err := openFile(path) // for each lock: locks of one open file do not exclude each other
	if err != nil {
		return nil, err
	}
	err = filelock.Poll(ctx, func() (bool, error) {
		err := lock(f, name, unix.F_WRLCK)
		return errors.Is(err, ErrHeld), err
	}, func() {
		if waiting != nil {
			waiting(holder(f, name))
		}
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	note, at := noteOf(name, os.Getpid())
	_, _ = f.WriteAt(note, at) // for messages alone, so a full disk does not matter
	return &Lock{f: f, name: name}, nil
}

// Release lets the next one have the name.
func (l *Lock) Release() {
	// Explicitly, not by close alone: a fork of this process on its way to exec still shares the descriptor. What the lock was good for is
	// done, whatever the errors say, and the kernel drops it with the descriptor.
	_ = lock(l.f, l.name, unix.F_UNLCK)
	_ = l.f.Close()
}

func noteOf(name string, pid int) (note []byte, at int64) {
	sum := sha256.Sum256([]byte(name))
	note = binary.LittleEndian.AppendUint64(sum[:8:8], uint64(pid))
	return note, int64(binary.LittleEndian.Uint64(sum[8:])%notes) * noteSize
}

// holder reads the note.
func holder(f *os.File, name string) int {
	want, at := noteOf(name, 0)
	var have [noteSize]byte
	if _, err := f.ReadAt(have[:], at); err != nil || string(have[:8]) != string(want[:8]) {
		return 0
	}
	pid := int(binary.LittleEndian.Uint64(have[8:]))
	return max(pid, 0)
}
