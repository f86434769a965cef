package layer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// source is the first half of reading: the stream is decompressed by one
// goroutine and hashed by another, ahead of the reader, in a few chunks.
type source struct {
	ctx    context.Context //nolint:containedctx // of the one call that it is made for
	limits Limits
	dec    *decoder
	raw    atomic.Int64 // compressed bytes read
	pool   chan *chunk
	ready  chan *chunk
	toHash chan *chunk // nil: no digest is wanted
	hash   hash.Hash
	quit   chan struct{}
	once   sync.Once
	ended  sync.WaitGroup
	failed error // of the decoder; set before ready is closed

	now   *chunk
	at    int
	total int64 // bytes of the stream read so far
	holes int64 // of them, those that became holes
	err   error
}

// openSource starts reading. Close it in any case; it does not close r.
func openSource(ctx context.Context, r io.Reader, limits Limits, hashed bool) (*source, error) {
	s := &source{
		ctx:    ctx,
		limits: limits,
		pool:   newPool(batchChunks),
		ready:  make(chan *chunk, batchChunks),
		quit:   make(chan struct{}),
	}
	var err error
	if s.dec, err = openDecoder(&rawReader{r: countReader{s, r}}); err != nil {
		return nil, err
	}
	if hashed {
		s.hash = sha256.New()
		s.toHash = make(chan *chunk, batchChunks)
		s.ended.Go(s.hashChunks)
	}
	s.ended.Go(s.fill)
	return s, nil
}

// countReader counts the compressed bytes, and ends a cancelled read.
type countReader struct {
	s *source
	r io.Reader
}

func (c countReader) Read(p []byte) (int, error) {
	if err := c.s.cancelled(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.s.raw.Add(int64(n))
	return n, err
}

// cancelled is why the context ended, nil while it has not.
func (s *source) cancelled() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return context.Cause(s.ctx)
}

func (s *source) fill() {
	err := guard(s.fillChunks)()
	if err != io.EOF { //nolint:errorlint // fillChunks returns io.EOF itself
		s.failed = err
	}
	if s.toHash != nil {
		close(s.toHash)
	}
	close(s.ready)
}

func (s *source) fillChunks() error {
	for {
		var c *chunk
		select {
		case c = <-s.pool:
		case <-s.quit:
			return io.EOF
		}
		if c.data == nil {
			c.data = make([]byte, chunkSize)
		}
		n, err := io.ReadFull(s.dec, c.data[:chunkSize])
		if err == io.ErrUnexpectedEOF { //nolint:errorlint // the decoder never returns it, ReadFull does
			err = io.EOF
		}
		if n > 0 {
			c.data = c.data[:n]
			s.pass(c)
		}
		if err != nil {
			return err
		}
	}
}

// pass hands a chunk on; both queues have room for all there are.
func (s *source) pass(c *chunk) {
	c.refs.Store(1)
	if s.toHash != nil {
		c.refs.Store(2)
		s.toHash <- c
	}
	s.ready <- c
}

func (s *source) hashChunks() {
	for c := range s.toHash {
		s.hash.Write(c.data)
		c.done()
	}
}

// next waits for the next chunk and looks at the bounds.
func (s *source) next() error {
	if s.now != nil {
		s.now.done()
		s.now = nil
	}
	c, ok := <-s.ready
	if !ok {
		if s.failed != nil {
			return s.failed
		}
		return io.EOF
	}
	s.now, s.at = c, 0
	s.total += int64(len(c.data))
	if s.total > s.limits.Unpacked {
		return fmt.Errorf("%w: more than %d bytes unpacked", ErrBound, s.limits.Unpacked)
	}
	solid := s.total - s.holes
	if !s.dec.plain && solid > s.limits.RatioFrom && solid/s.limits.Ratio > s.raw.Load() {
		return fmt.Errorf("%w: compressed more than %d:1", ErrBound, s.limits.Ratio)
	}
	return nil
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	for s.now == nil || s.at == len(s.now.data) {
		if s.err = s.next(); s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.now.data[s.at:])
	s.at += n
	return n, nil
}

// position is how many bytes were handed out.
func (s *source) position() int64 {
	if s.now == nil {
		return s.total
	}
	return s.total - int64(len(s.now.data)-s.at)
}

// broken is the error of the stream itself, nil when it is still readable or
// has ended.
func (s *source) broken() error {
	if s.err == io.EOF { //nolint:errorlint // next returns io.EOF itself
		return nil
	}
	return s.err
}

// drain reads the rest and says whether it is all zeros.
func (s *source) drain() (zeros bool, err error) {
	zeros = true
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if isZero(buf[:n]) {
			s.holes += int64(n)
		} else {
			zeros = false
		}
		if err == io.EOF { //nolint:errorlint // Read returns io.EOF itself
			return zeros, nil
		}
		if err != nil {
			return zeros, err
		}
	}
}

// digest of the whole stream; call it after drain.
func (s *source) digest() digest.Digest {
	s.Close()
	return digest.NewDigest(digest.SHA256, s.hash)
}

// Close ends the goroutines and waits for them.
func (s *source) Close() {
	s.once.Do(func() {
		close(s.quit)
		// A decoder that waits in a read of r ends with r or with the context.
		if s.now != nil {
			s.now.done()
			s.now = nil
		}
		s.ended.Wait()
		_ = s.dec.Close()
		s.err = io.ErrClosedPipe
	})
}

// isZero says whether all bytes are zero.
func isZero(p []byte) bool {
	for len(p) >= blockSize {
		if p[0] != 0 || [blockSize]byte(p) != zeroBlock {
			return false
		}
		p = p[blockSize:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
