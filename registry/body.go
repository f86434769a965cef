package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	errSlow    = errors.New("no answer in time")
	errStopped = errors.New("body is no longer wanted")
)

// sendBody is the body of a request. It can be taken away from a connection that still reads it.
type sendBody struct {
	rc    io.ReadCloser
	timer *time.Timer // ends the request; pushed on while the body moves

	mu      sync.Mutex
	stopped bool
}

func (b *sendBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return 0, errStopped
	}
	b.timer.Reset(idleTime)
	n, err := b.rc.Read(p)
	if errors.Is(err, io.EOF) {
		b.timer.Reset(commitTime)
	} else if err != nil {
		err = &localError{err}
	}
	return n, err
}

// stop returns when no Read runs any more, and none will.
func (b *sendBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.timer.Stop()
}

func (b *sendBody) Close() error { return b.rc.Close() }

// recvBody is the body of an answer. It ends when the server goes quiet, and reports whatever
// cuts it as io.ErrUnexpectedEOF, the one error after which regclient resumes.
type recvBody struct {
	rc     io.ReadCloser
	ctx    context.Context //nolint:containedctx // of this one exchange
	cancel context.CancelCauseFunc
	waited time.Duration // spent in Read since got was zero
	got    int64
}

func (b *recvBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(idleTime, func() { b.cancel(errSlow) })
	start := time.Now()
	n, err := b.rc.Read(p)
	timer.Stop()
	b.got += int64(n)
	// Only the time spent waiting for the server counts: the reader may be slow too.
	if b.waited += time.Since(start); b.waited > idleTime {
		if b.got < minRate && err == nil {
			b.cancel(errSlow)
			err = errSlow
		}
		b.waited, b.got = 0, 0
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	cause := context.Cause(b.ctx)
	if cause == nil || errors.Is(cause, errSlow) {
		return n, io.ErrUnexpectedEOF
	}
	return n, cause
}

func (b *recvBody) Close() error {
	err := b.rc.Close()
	b.cancel(nil)
	return err
}

// verified passes on what r holds as long as it can still be what desc promises: it ends with
// io.EOF only after the right bytes, and reads one byte beyond the promised size at most.
type verified struct {
	r    io.Reader
	desc ocispec.Descriptor
	left int64
	hash hash.Hash
	err  error
}

func verify(r io.Reader, desc ocispec.Descriptor) *verified {
	return &verified{r: r, desc: desc, left: desc.Size, hash: desc.Digest.Algorithm().Hash()}
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
	v.hash.Write(p[:n])
	if err != nil && v.left > 0 {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %s ends after %d of %d bytes", ErrContent, v.desc.Digest, v.desc.Size-v.left, v.desc.Size)
		}
		v.err = err
		return n, err
	}
	return n, nil // at the promised size, end decides on the next call
}

func (v *verified) end() error {
	var more [1]byte
	if n, err := io.ReadFull(v.r, more[:]); n > 0 {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrContent, v.desc.Digest, v.desc.Size)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if got := digest.NewDigest(v.desc.Digest.Algorithm(), v.hash); got != v.desc.Digest {
		return fmt.Errorf("%w: %s was sent as %s", ErrContent, v.desc.Digest, got)
	}
	return io.EOF
}
