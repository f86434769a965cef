package layer

import (
	"errors"
	"fmt"
)

// Limits bounds what one archive may ask for. A zero field is its default.
type Limits struct {
	// Entries in the archive.
	Entries int64
	// Unpacked bytes: of the tar itself, and of the files in it with their
	// holes.
	Unpacked int64
	// Ratio of unpacked bytes that are not holes to compressed bytes, looked
	// at once RatioFrom bytes are unpacked.
	Ratio     int64
	RatioFrom int64
	// Path is the longest name of an entry, in bytes.
	Path int
}

const (
	// The largest trees seen in images have a million files; ten times that
	// still unpacks in bounded memory (8 to 16 bytes are kept for each).
	defaultEntries = 10_000_000
	// Larger than any published layer, smaller than the disks that builds run
	// on: what passes it is a mistake (a sparse disk image) or an attack.
	defaultUnpacked = 64 << 30
	// deflate reaches 1032:1 and zstd far more, on repeated bytes only. Real
	// data stays under 100:1; holes do not count, so sparse files pass.
	defaultRatio     = 500
	defaultRatioFrom = 1 << 30
	// Depth 32,768 of one-letter names. PATH_MAX does not bound trees that are
	// made step by step.
	defaultPath = 64 << 10

	// Longest name of one component, on every file system that Linux has.
	maxName = 255
	// Links followed for one path: path_resolution(7).
	maxLinks = 40
	// Ids are 32 bits wide, and -1 means "leave alone" to chown(2).
	maxID = 1<<32 - 2
	// Times from year 1 to 9999: what a file system cannot store beyond that
	// would wrap around.
	minTime = -62135596800
	maxTime = 253402300799

	// What an archive to extract says outside of 1970 to 2262 is taken as 1970: the reference counts nanoseconds.
	maxArchiveTime = (1<<63 - 1) / 1_000_000_000

	// A frame asking for more is refused before a byte of it is allocated.
	zstdMaxWindow = 128 << 20
	xzMaxDict     = 64 << 20

	// The kernel's own bound on one attribute and on the list of names
	// (XATTR_SIZE_MAX, XATTR_LIST_MAX).
	maxXattr = 64 << 10
)

// errPath: a longer name than Limits.Path or maxName is the archive's fault.
var errPath = errors.New("name too long")

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = defaultEntries
	}
	if l.Unpacked == 0 {
		l.Unpacked = defaultUnpacked
	}
	if l.Ratio == 0 {
		l.Ratio = defaultRatio
	}
	if l.RatioFrom == 0 {
		l.RatioFrom = defaultRatioFrom
	}
	if l.Path == 0 {
		l.Path = defaultPath
	}
	return l
}

// meter counts what was asked for so far against the limits.
type meter struct {
	limits  Limits
	entries int64
	bytes   int64
}

// entry counts one entry with so many bytes of content, before any of it is
// read or written.
func (m *meter) entry(size int64) error {
	if m.entries++; m.entries > m.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrBound, m.limits.Entries)
	}
	if size < 0 || size > m.limits.Unpacked-m.bytes {
		return fmt.Errorf("%w: more than %d bytes in all", ErrBound, m.limits.Unpacked)
	}
	m.bytes += size
	return nil
}
