package layer

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	// Small enough that the stages overlap on small layers, large enough that
	// handing one over costs nothing beside hashing it.
	chunkSize = 256 << 10
	// Chunks of batches: one being filled by each reader, the others waiting
	// for their turn, being hashed and being compressed.
	batchChunks = 8
	// Chunks for content that is streamed. They are apart from the others, so
	// that a large file never waits for chunks that files after it hold.
	streamChunks = 4
)

// chunk is a piece of the tar on its way through the pipeline.
type chunk struct {
	data []byte
	refs atomic.Int32
	home chan *chunk
}

func newPool(n int) chan *chunk {
	pool := make(chan *chunk, n)
	for range n {
		pool <- &chunk{home: pool}
	}
	return pool
}

// take waits for a free chunk.
func take(ctx context.Context, pool chan *chunk) (*chunk, error) {
	select {
	case c := <-pool:
		if c.data == nil || cap(c.data) > 4*chunkSize {
			c.data = make([]byte, 0, chunkSize+8<<10)
		}
		c.data = c.data[:0]
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// done gives up one of the holds on a chunk; the last one recycles it. The pool
// has room for all its chunks, so this never waits.
func (c *chunk) done() {
	if c.refs.Add(-1) == 0 {
		c.home <- c
	}
}

// blob is the second half of the pipeline: chunks of a tar go to a hash and to
// a compressor whose output is hashed and written.
//
//	producer -> chunks -+-> sha256                     (diffID)
//	                    +-> compressor -> sha256 -> w  (digest)
type blob struct {
	ctx     context.Context //nolint:containedctx // of the one call that it is made for
	group   *errgroup.Group
	opt     PackOptions
	stream  chan *chunk
	hashing chan *chunk
	packing chan *chunk
	tarHash hash.Hash
	tarSize int64
	out     *hashWriter
}

// newBlob starts the consumers in group, whose context ctx is.
func newBlob(ctx context.Context, group *errgroup.Group, w io.Writer, opt PackOptions) *blob {
	b := &blob{
		ctx:     ctx,
		group:   group,
		opt:     opt,
		stream:  newPool(streamChunks),
		hashing: make(chan *chunk, batchChunks+streamChunks),
		packing: make(chan *chunk, batchChunks+streamChunks),
		tarHash: sha256.New(),
		out:     &hashWriter{w: w},
	}
	if opt.Compression != None { // else the blob is the tar, and its hash the tar's
		b.out.hash = sha256.New()
	}
	group.Go(guard(b.hashChunks))
	group.Go(guard(b.packChunks))
	return b
}

// put passes a chunk on; the queues have room for all chunks there are.
func (b *blob) put(c *chunk) {
	b.tarSize += int64(len(c.data))
	c.refs.Store(2)
	b.hashing <- c
	b.packing <- c
}

// end says that no chunk follows.
func (b *blob) end() {
	close(b.hashing)
	close(b.packing)
}

func (b *blob) hashChunks() error {
	for {
		select {
		case c, ok := <-b.hashing:
			if !ok {
				return nil
			}
			b.tarHash.Write(c.data)
			c.done()
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		}
	}
}

func (b *blob) packChunks() (err error) {
	zw, err := newCompressor(b.out, b.opt)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed { // ends the compressor's own goroutines
			b.out.broken.Store(true)
			_ = zw.Close()
		}
	}()
	for {
		select {
		case c, ok := <-b.packing:
			if !ok {
				closed = true
				return zw.Close()
			}
			if _, err := zw.Write(c.data); err != nil {
				return err
			}
			c.done()
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		}
	}
}

// result describes the blob once the group has ended well.
func (b *blob) result() Packed {
	p := Packed{
		DiffID:    digest.NewDigest(digest.SHA256, b.tarHash),
		Size:      b.out.size,
		TarSize:   b.tarSize,
		MediaType: mediaType(b.opt.Compression),
	}
	p.Digest = p.DiffID
	if b.out.hash != nil {
		p.Digest = digest.NewDigest(digest.SHA256, b.out.hash)
	}
	return p
}

// hashWriter writes, counts and hashes the finished blob.
type hashWriter struct {
	w      io.Writer
	hash   hash.Hash // nil: not hashed
	size   int64
	broken atomic.Bool // the layer failed: write no more
}

func (h *hashWriter) Write(p []byte) (int, error) {
	if h.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	n, err := h.w.Write(p)
	if err != nil {
		return n, err
	}
	if n != len(p) {
		return n, io.ErrShortWrite
	}
	if h.hash != nil {
		h.hash.Write(p)
	}
	h.size += int64(n)
	return n, nil
}
