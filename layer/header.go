package layer

import (
	"archive/tar"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const blockSize = 512

// entry is one tar entry to be written.
type entry struct {
	name  string // with a trailing slash for directories
	link  string
	kind  byte // a tar type flag
	mode  uint32
	uid   uint32
	gid   uint32
	size  int64 // of the content that follows the header
	mtime int64
	major uint32
	minor uint32
	pax   map[string]string // attributes, under their PAX names

	// Where the content of a regular file is, and what it was when the walk
	// saw it.
	dir  *dirRef
	base string
	seen fileID
}

// fileID tells whether a file is still the one that was looked at.
type fileID struct {
	dev, ino uint64
	size     int64
	mtime    unix.Timespec
}

func idOf(st *unix.Stat_t) fileID {
	return fileID{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim}
}

// appendHeader appends the header blocks of an entry. The plain case, an ASCII
// name of at most 100 bytes and numbers that fit, is written here, equal to
// what archive/tar writes; all else is left to archive/tar, which takes USTAR's
// prefix field or PAX records where they are needed.
func appendHeader(buf []byte, e *entry) ([]byte, error) {
	if !e.plain() {
		return appendLongHeader(buf, e)
	}
	start := len(buf)
	buf = append(buf, zeroBlock[:]...)
	b := buf[start:]
	copy(b[0:100], e.name)
	octal(b[100:108], uint64(e.mode))
	octal(b[108:116], uint64(e.uid))
	octal(b[116:124], uint64(e.gid))
	octal(b[124:136], uint64(e.size))
	octal(b[136:148], uint64(e.mtime))
	b[156] = e.kind
	copy(b[157:257], e.link)
	copy(b[257:265], "ustar\x0000")
	octal(b[329:337], uint64(e.major))
	octal(b[337:345], uint64(e.minor))
	// The checksum counts its own field as blanks; POSIX ends it in NUL, blank.
	copy(b[148:156], "        ")
	sum := uint64(0)
	for _, c := range b {
		sum += uint64(c)
	}
	octal(b[148:155], sum)
	return buf, nil
}

var zeroBlock [blockSize]byte

// octal fills a field with zero-padded digits and a final NUL.
func octal(field []byte, v uint64) {
	last := len(field) - 1
	field[last] = 0
	for i := last - 1; i >= 0; i-- {
		field[i] = byte('0' + v&7)
		v >>= 3
	}
}

func (e *entry) plain() bool {
	const id, device, large = 1 << 21, 1 << 21, 1 << 33
	return len(e.name) <= 100 && len(e.link) <= 100 && isASCII(e.name) && isASCII(e.link) &&
		e.uid < id && e.gid < id && e.major < device && e.minor < device &&
		e.size < large && e.mtime >= 0 && e.mtime < large && len(e.pax) == 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func appendLongHeader(buf []byte, e *entry) ([]byte, error) {
	out := sliceWriter{buf}
	err := tar.NewWriter(&out).WriteHeader(&tar.Header{
		Typeflag: e.kind,
		Name:     e.name,
		Linkname: e.link,
		Mode:     int64(e.mode),
		Uid:      int(e.uid),
		Gid:      int(e.gid),
		Size:     e.size,
		ModTime:  time.Unix(e.mtime, 0),
		Devmajor: int64(e.major),
		Devminor: int64(e.minor),
		// archive/tar writes the records sorted by name.
		PAXRecords: e.pax,
	})
	if err != nil {
		return buf, fmt.Errorf("write header of %q: %w", e.name, err)
	}
	return out.buf, nil
}

type sliceWriter struct{ buf []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// padding is how many zeros follow content of this size.
func padding(size int64) int { return int(-size & (blockSize - 1)) }
