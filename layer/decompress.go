package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Decompress opens a layer or an archive of any compression that is read here,
// told by its content: gzip, zstd, bzip2, xz, or none. It is done in this
// process; decoders that would need more memory than the bounds (zstd window
// 128 MiB, xz dictionary 64 MiB) fail with ErrBound before they take it. What
// does not decode is ErrCorrupt; errors of r itself are returned as they are.
// Closing does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	raw := &rawReader{r: r}
	d, err := openDecoder(raw)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// rawReader remembers an error of the compressed stream, to tell it from
// decoders' complaints about the bytes.
type rawReader struct {
	r   io.Reader
	err error
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		r.err = err
	}
	return n, err
}

type decoder struct {
	raw   *rawReader
	r     io.Reader
	close func()
	plain bool // not compressed
}

// detectSize is enough for the longest magic, bzip2's with its first block's.
const detectSize = 10

func openDecoder(raw *rawReader) (*decoder, error) {
	buffered := bufio.NewReaderSize(raw, 64<<10)
	head, err := buffered.Peek(detectSize)
	if err != nil && raw.err != nil {
		return nil, raw.err
	}
	d := &decoder{raw: raw, close: func() {}}
	if err := d.open(buffered, head); err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

func (d *decoder) open(r *bufio.Reader, head []byte) error {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		zr, err := gzip.NewReader(r)
		d.r = zr
		return err
	case isZstd(head):
		// The window decides the memory; the rest is some blocks.
		zr, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdMaxWindow),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(zstdConcurrency))
		if err != nil {
			return err
		}
		d.r, d.close = zr, zr.Close
		return nil
	case isBzip2(head):
		d.r = bzip2.NewReader(r)
		return nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		zr, err := xz.NewReader(bufio.NewReader(&xzGuard{r: r}))
		d.r = zr
		return err
	}
	d.r, d.plain = r, true
	return nil
}

func isZstd(head []byte) bool {
	if bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return true
	}
	// RFC 8878, 3.1.2: a skippable frame may come first.
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// isBzip2 asks for the block's magic too: a plain tar may well begin with a file
// called "BZh9".
func isBzip2(head []byte) bool {
	if len(head) < detectSize || string(head[:3]) != "BZh" || head[3] < '1' || head[3] > '9' {
		return false
	}
	block := string(head[4:10])
	return block == "\x31\x41\x59\x26\x53\x59" || block == "\x17\x72\x45\x38\x50\x90"
}

func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err == nil || err == io.EOF { //nolint:errorlint // readers return io.EOF itself
		return n, err
	}
	return n, d.explain(err)
}

func (d *decoder) explain(err error) error {
	switch {
	case d.raw.err != nil:
		return d.raw.err
	case errors.Is(err, ErrBound):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: zstd window over %d MiB", ErrBound, zstdMaxWindow>>20)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

func (d *decoder) Close() error {
	d.close()
	return nil
}

// IsArchive says whether a file is a tar, plain or compressed: whether a tar
// header can be read from it, whatever its name. Give it the file from its
// start; as much is read as the header needs. The error is ErrBound for a
// compressed file that would need too much memory, or one of head's own.
func IsArchive(head io.Reader) (bool, error) {
	raw := &rawReader{r: head}
	d, err := openDecoder(raw)
	if err == nil {
		defer d.Close()
		_, err = tar.NewReader(d).Next()
	}
	switch {
	case err == nil || errors.Is(err, tar.ErrInsecurePath):
		return true, nil
	case raw.err != nil:
		return false, raw.err
	case errors.Is(err, ErrBound):
		return false, err
	}
	return false, nil
}
