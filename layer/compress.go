package layer

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// gzip 5 costs a quarter of gzip 6 of zlib's family and is 3 % larger.
	gzipDefaultLevel = 5
	// The block size decides the bytes, so it is fixed for ever: another one
	// would give another digest for the same layer.
	gzipBlock = 1 << 20
	// Input of fewer bytes is one block, whatever the block size, and so has the
	// same bytes with this one.
	gzipSmall = 64 << 10
	// Blocks in flight cost 4 MB each and more than this many cores have not
	// been seen to help.
	gzipMaxBlocks = 8
	// A stream has one encoder and one writer; more does not make it faster.
	// The number does not change the bytes.
	zstdConcurrency = 2
)

// ValidLevel says whether users may ask for this compression level: gzip 0 to
// 9, zstd 0 to 22; uncompressed has none but 0.
func ValidLevel(c Compression, level int) error {
	var highest int
	switch c {
	case Gzip, "":
		c, highest = Gzip, 9
	case Zstd:
		highest = 22
	case None:
		highest = 0
	default:
		return fmt.Errorf("compression %q is not supported: use gzip, zstd or uncompressed", c)
	}
	if level < 0 || level > highest {
		return fmt.Errorf("compression level %d of %s is not between 0 and %d", level, c, highest)
	}
	return nil
}

// checked returns the options with their defaults, or why they cannot be used.
func (opt PackOptions) checked() (PackOptions, error) {
	if opt.Compression == "" {
		opt.Compression = Gzip
	}
	asked := opt.Level
	if asked == ExplicitZero {
		asked = 0
	}
	if err := ValidLevel(opt.Compression, asked); err != nil {
		return opt, err
	}
	opt.Limits = opt.Limits.withDefaults()
	return opt, nil
}

func mediaType(c Compression) string {
	switch c {
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case None:
		return ocispec.MediaTypeImageLayer
	default:
		return ocispec.MediaTypeImageLayerGzip
	}
}

// newCompressor wraps w. The bytes depend on the input, the compression and the
// level alone: not on cores, nor on how the input is cut into writes.
func newCompressor(w io.Writer, opt PackOptions) (io.WriteCloser, error) {
	switch opt.Compression {
	case None:
		return nopCloser{w}, nil
	case Zstd:
		return newZstd(w, opt.Level)
	default:
		return newGzip(w, opt.Level)
	}
}

func newGzip(w io.Writer, level int) (io.WriteCloser, error) {
	switch level {
	case 0:
		level = gzipDefaultLevel
	case ExplicitZero:
		level = pgzip.NoCompression
	}
	if level != pgzip.NoCompression && (level < pgzip.BestSpeed || level > pgzip.BestCompression) {
		return nil, fmt.Errorf("gzip level %d", level)
	}
	return &gzipWriter{w: w, level: level}, nil
}

// gzipWriter is a pgzip.Writer that is made when it is known whether the input
// is small. The layers of most steps are, and the megabyte buffers of a writer
// for large ones cost more than all the rest of such a layer.
type gzipWriter struct {
	w     io.Writer
	level int
	held  []byte
	zw    *pgzip.Writer // nil while all input is held
}

func (g *gzipWriter) Write(p []byte) (int, error) {
	if g.zw == nil {
		if len(g.held)+len(p) < gzipSmall {
			g.held = append(g.held, p...)
			return len(p), nil
		}
		if err := g.start(gzipBlock, min(runtime.GOMAXPROCS(0), gzipMaxBlocks)); err != nil {
			return 0, err
		}
	}
	return g.zw.Write(p)
}

func (g *gzipWriter) Close() error {
	if g.zw == nil {
		if err := g.start(gzipSmall, 1); err != nil {
			return err
		}
	}
	return g.zw.Close()
}

func (g *gzipWriter) start(block, blocks int) error {
	zw, err := pgzip.NewWriterLevel(g.w, g.level)
	if err != nil {
		return err
	}
	g.zw = zw
	// Otherwise the header is left as it is: no name, OS 255 ("unknown"). Zero
	// is "no time" (RFC 1952, 2.3.1), which pgzip makes of this one only.
	zw.ModTime = time.Unix(0, 0)
	if err := zw.SetConcurrency(block, blocks); err != nil {
		return err
	}
	_, err = zw.Write(g.held)
	g.held = nil
	return err
}

func newZstd(w io.Writer, level int) (io.WriteCloser, error) {
	speed := zstd.SpeedDefault
	switch {
	case level == ExplicitZero:
		speed = zstd.SpeedFastest
	case level > 0:
		speed = zstd.EncoderLevelFromZstd(level)
	}
	return zstd.NewWriter(w,
		zstd.WithEncoderLevel(speed),
		zstd.WithEncoderConcurrency(zstdConcurrency),
		zstd.WithZeroFrames(true)) // an empty input still is a frame
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
