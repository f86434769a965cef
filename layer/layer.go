package layer

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/needles"
)

// Compression names how a layer blob is compressed. The values are the words
// that users write (`compression=zstd`).
type Compression string

// The compressions that layers are written with; all of them, bzip2 and xz
// are read.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	None Compression = "uncompressed"
)

// ExplicitZero is the Level for a user who wrote `compression-level=0`, since
// the zero value of PackOptions means the default level.
const ExplicitZero = -1

// Errors that callers decide on; find them with errors.Is.
var (
	// ErrUnsafe: a name would leave the directory it is extracted to.
	ErrUnsafe = errors.New("unsafe path")
	// ErrCorrupt: the archive is malformed, cut short, or says what cannot be.
	ErrCorrupt = errors.New("malformed archive")
	// ErrBound: one of the bounds in Limits, or a decoder's, was passed.
	ErrBound = errors.New("over the limit")
	// ErrWhiteoutName: a file has a name that layers reserve for deletions.
	ErrWhiteoutName = errors.New("cannot be stored in a layer: names starting .wh. mark deletions")
	// ErrChanged: a file changed while it was being packed.
	ErrChanged = errors.New("changed while read")
)

// PackOptions says how a layer is written. The zero value is a gzip layer at
// the default level with times as they are.
type PackOptions struct {
	// Compression of the blob; "" is Gzip.
	Compression Compression
	// Level of compression; 0 is the default (gzip 5, zstd "default"),
	// ExplicitZero is a written 0, others are as ValidLevel allows.
	Level int
	// Epoch, when set, is the latest modification time that is stored.
	Epoch *time.Time
	// UserXattrs stores user.* attributes beside security.capability.
	UserXattrs bool
	// Replaces says that the upper tree is not an overlay's but a whole one: what only the lower one has is deleted, and what
	// both have alike is left out.
	Replaces bool
	// Limits bounds what is packed; zero fields are defaults.
	Limits Limits
	// Watch is looked for in names, link targets and contents while they are packed; nil: nothing is looked for. Found is told
	// the name of the entry and of the needle, by several goroutines at once.
	Watch *needles.Set
	Found func(entry, needle string)
}

// Packed describes a layer blob.
type Packed struct {
	DiffID    digest.Digest // of the tar
	Digest    digest.Digest // of the blob as written
	Size      int64         // bytes of the blob as written
	TarSize   int64         // bytes of the tar
	MediaType string        // OCI layer media type
	Entries   int           // tar entries; 0 where they were not counted (Recompress)
}

// UnpackOptions bounds and observes Unpack. The zero value works.
type UnpackOptions struct {
	// Limits; zero fields are defaults.
	Limits Limits
	// Notice, if set, is told what was left out (an attribute that this file
	// system refuses). It is called from the goroutine of Unpack.
	Notice func(string)
}

// ExtractOptions bounds and observes Extract. The zero value works.
type ExtractOptions struct {
	// UID and GID, when set, own everything that is extracted.
	UID, GID *int
	// Limits; zero fields are defaults.
	Limits Limits
	// Notice as in UnpackOptions.
	Notice func(string)
}
