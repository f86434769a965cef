package sandbox

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A script is memory that the init's program maps at a fixed address, so that it can have pointers: a header, entries of eight words,
// and the data that they point to. The words of an entry are the number of a system call, six arguments, and whether it may fail.
//
//	base           the signals that the program waits for, as a sigset_t
//	base+0x10      its messages
//	base+0x100     entries
//	base+0x8000    data
const (
	scriptBase  = 0x10000000 // of the init itself
	commandBase = 0x20000000 // of the command
	scriptStart = 0x100
	scriptData  = 0x8000
	maxScript   = 64 << 20

	scriptServe = ^uintptr(0)     // in place of a number: serve as init
	scriptFork  = ^uintptr(0) - 1 // and this one: fork, the child goes on at the first argument; serve as init
)

// scriptFD and controlFD are where the program has its script and its socket.
const (
	controlFD = 3
	scriptFD  = 4
	exeFD     = 5 // the program itself, until it runs
)

type script struct {
	base    uintptr
	signals uint64
	entries []byte
	ops     []scriptOp // of the entries
	data    []byte
}

// scriptOp says what an entry is for, for the error that tells of it.
type scriptOp struct {
	op, path string
	limit    bool // EPERM means that the machine cannot do it
	exec     bool
}

// call adds a system call that must succeed.
func (s *script) call(op scriptOp, number uintptr, args ...uintptr) { s.entry(op, 0, number, args) }

// try adds one that may fail.
func (s *script) try(number uintptr, args ...uintptr) { s.entry(scriptOp{}, 1, number, args) }

func (s *script) entry(op scriptOp, optional uint64, number uintptr, args []uintptr) {
	var words [8]uint64
	words[0], words[7] = uint64(number), optional
	for i, a := range args {
		words[1+i] = uint64(a)
	}
	for _, w := range words {
		s.entries = binary.NativeEndian.AppendUint64(s.entries, w)
	}
	s.ops = append(s.ops, op)
}

// bytes adds data and gives its address.
func (s *script) bytes(b []byte) uintptr {
	for len(s.data)%8 != 0 {
		s.data = append(s.data, 0)
	}
	at := s.base + scriptData + uintptr(len(s.data))
	s.data = append(s.data, b...)
	return at
}

func (s *script) words(words ...uint64) uintptr {
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return s.bytes(b)
}

// text adds a string as C has it.
func (s *script) text(t string) uintptr { return s.bytes(append([]byte(t), 0)) }

// list adds strings and the array of pointers to them that execve(2) takes.
func (s *script) list(texts []string) uintptr {
	pointers := make([]uint64, 0, len(texts)+1)
	for _, t := range texts {
		pointers = append(pointers, uint64(s.text(t)))
	}
	return s.words(append(pointers, 0)...)
}

// open writes the script to memory. The descriptor is the caller's.
func (s *script) open() (int, error) {
	if scriptStart+len(s.entries) > scriptData || scriptData+len(s.data) > maxScript {
		return -1, fmt.Errorf("%w: arguments and environment of %d bytes, at most %d", ErrInvalid, len(s.data), maxScript)
	}
	fd, err := unix.MemfdCreate("gobuild-script", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("gobuild-script", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, err
	}
	head := make([]byte, scriptStart, scriptStart+len(s.entries))
	binary.NativeEndian.PutUint64(head, s.signals)
	for _, part := range []struct {
		data []byte
		at   int64
	}{{append(head, s.entries...), 0}, {s.data, scriptData}} {
		// A memory file takes all or, when there is no memory, fails.
		if n, err := unix.Pwrite(fd, part.data, part.at); err != nil || n < len(part.data) {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("write script of init: %d bytes: %w", n, err)
		}
	}
	return fd, nil
}

// The messages of the program, by their first word.
const (
	messageFailed = 1 // address of an entry, negative errno
	messageEnded  = 2 // wait status, struct rusage
	messageReady  = 3 // sent by the init's own script

	messageSize = 16 + int(unsafe.Sizeof(unix.Rusage{}))
)

// failed finds the entry that a message names. ok is false if it is not of this script.
func (s *script) failed(address uint64) (op scriptOp, ok bool) {
	const size = 64
	i := (address - uint64(s.base) - scriptStart) / size
	if address < uint64(s.base)+scriptStart || i >= uint64(len(s.ops)) {
		return scriptOp{}, false
	}
	return s.ops[i], true
}
