package buildcontext

import (
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
	type span struct {
		end int
		typ uint8
	}
	var arena []byte
	var spans []span
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		for rec := buf[:n]; len(rec) > direntName; {
			size := int(binary.NativeEndian.Uint16(rec[direntReclen:]))
			if size <= direntName || size > len(rec) {
				return nil, unix.EIO // the kernel does not do that; a FUSE server might try
			}
			name := rec[direntName:size]
			if end := slices.Index(name, 0); end >= 0 {
				name = name[:end]
			}
			if s := string(name); s != "." && s != ".." && s != "" {
				arena = append(arena, name...)
				spans = append(spans, span{end: len(arena), typ: rec[direntType]})
			}
			rec = rec[size:]
		}
		if len(arena) > maxDirBytes {
			return nil, errDirTooBig
		}
	}
	all := unsafe.String(unsafe.SliceData(arena), len(arena)) // arena is not written to again
	out := make([]dirent, len(spans))
	start := 0
	for i, s := range spans {
		out[i] = dirent{name: all[start:s.end], typ: s.typ}
		start = s.end
	}
	slices.SortFunc(out, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return out, nil
}
