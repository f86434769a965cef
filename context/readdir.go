package buildcontext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirent is one name of a directory.
type dirent struct {
	name string
	typ  uint8 // DT_*; DT_UNKNOWN where the file system does not say
}

// errDirTooBig says that the names of one directory exceed maxDirBytes.
var errDirTooBig = errors.New("directory has too many names")

// Offsets in struct linux_dirent64 (getdents64(2)): inode, offset, record length, type, name.
const (
	direntReclen = 16
	direntType   = 18
	direntName   = 19
)

// readNames reads the names of a directory, sorted by bytes. All names share one string: a
// directory of a million names costs one allocation of their size, not a million.
func readNames(fd int, buf []byte) ([]dirent, error) {
	var l nameList
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return l.sorted(), nil
		}
		if err := l.add(buf[:n]); err != nil {
			return nil, err
		}
	}
}

// nameList collects names one behind the other.
type nameList struct {
	arena []byte
	spans []span
}

type span struct {
	end int // in the arena; a name starts where the one before ends
	typ uint8
}

// add takes the records of one getdents64 call.
func (l *nameList) add(records []byte) error {
	for len(records) > direntName {
		size := int(binary.NativeEndian.Uint16(records[direntReclen:]))
		if size <= direntName || size > len(records) {
			return unix.EIO // the kernel does not do that; a FUSE server might try
		}
		name := records[direntName:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s != "." && s != ".." && s != "" {
			l.arena = append(l.arena, name...)
			l.spans = append(l.spans, span{end: len(l.arena), typ: records[direntType]})
		}
		records = records[size:]
	}
	if len(l.arena) > maxDirBytes {
		return errDirTooBig
	}
	return nil
}

func (l *nameList) sorted() []dirent {
	all := unsafe.String(unsafe.SliceData(l.arena), len(l.arena)) // the arena is not written to again
	out := make([]dirent, len(l.spans))
	start := 0
	for i, s := range l.spans {
		out[i] = dirent{name: all[start:s.end], typ: s.typ}
		start = s.end
	}
	slices.SortFunc(out, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return out
}
