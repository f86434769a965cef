package image

import (
	"context"
	_ "crypto/sha512" // digests name it; go-digest uses the algorithms that are linked in
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// verified passes on what r holds as long as it can still be what desc promises: it ends
// with io.EOF only after the right bytes, and stops one byte after the promised size.
type verified struct {
	r    io.ReadCloser
	desc ocispec.Descriptor
	left int64
	hash digest.Verifier
	err  error
}

func verify(r io.ReadCloser, desc ocispec.Descriptor) *verified {
	return &verified{r: r, desc: desc, left: desc.Size, hash: desc.Digest.Verifier()}
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if v.left == 0 {
		v.err = v.end()
		return 0, v.err
	}
	n, err := v.r.Read(p[:min(int64(len(p)), v.left)])
	v.left -= int64(n)
	if _, herr := v.hash.Write(p[:n]); herr != nil {
		return n, herr
	}
	if err != nil && v.left > 0 {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s ends after %d of %d bytes: %w", v.desc.Digest, v.desc.Size-v.left, v.desc.Size, ErrContent)
		}
		v.err = err
		return n, err
	}
	return n, nil // at the promised size, end decides on the next call
}

// end checks that nothing follows and that the digest is right.
func (v *verified) end() error {
	var more [1]byte
	n, err := io.ReadFull(v.r, more[:])
	if n > 0 {
		return fmt.Errorf("%s is longer than %d bytes: %w", v.desc.Digest, v.desc.Size, ErrContent)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if !v.hash.Verified() {
		return fmt.Errorf("%s: digest mismatch: %w", v.desc.Digest, ErrContent)
	}
	return io.EOF
}

func (v *verified) Close() error { return v.r.Close() }

// fetchVerified opens a blob whose reader fails unless it is what desc says.
// A descriptor that embeds its content is not fetched at all; its data was checked by the parser.
func fetchVerified(ctx context.Context, src Fetcher, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	r, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	return verify(r, desc), nil
}

// fetchAll reads a document whole.
func fetchAll(ctx context.Context, src Fetcher, desc ocispec.Descriptor) (b []byte, err error) {
	if desc.Size > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, maxDocument, ErrTooLarge)
	}
	r, err := fetchVerified(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// copyVerified writes a blob to w, which gets wrong bytes when it fails.
func copyVerified(ctx context.Context, w io.Writer, src Fetcher, desc ocispec.Descriptor) (err error) {
	r, err := fetchVerified(ctx, src, desc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, contextReader{ctx, r}, make([]byte, copyBuffer))
	return err
}

// contextReader stops when ctx is done.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
