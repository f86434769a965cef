package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Incoming is a blob on its way into the store. What came of it so far can be read while the rest arrives; whether it is what was
// promised shows at the end. It has a descriptor of its own, which Close closes.
type Incoming struct {
	digest digest.Digest
	f      *os.File

	mu    sync.Mutex
	moved sync.Cond // on mu: one of those below changed
	size  int64     // written so far
	ended bool
	err   error // why it did not get into the store
}

// ErrIncomplete is what readers of an Incoming get that did not get into the store.
var ErrIncomplete = errors.New("blob did not arrive as promised")

func (w *Writer) incoming(d digest.Digest) (*Incoming, error) {
	f, err := openRegular(w.f.Name())
	if err != nil {
		return nil, fmt.Errorf("write blob %s: %w", d, err)
	}
	in := &Incoming{digest: d, f: f}
	in.moved.L = &in.mu
	return in, nil
}

// arriving tells an Incoming of what a writer has written.
type arriving struct {
	w  *Writer
	in *Incoming
}

func (a arriving) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	a.in.mu.Lock()
	a.in.size += int64(n)
	a.in.mu.Unlock()
	a.in.moved.Broadcast()
	return n, err
}

func (in *Incoming) end(err error) {
	in.mu.Lock()
	in.ended, in.err = true, err
	in.mu.Unlock()
	in.moved.Broadcast()
}

// Reader reads from the start, and waits for what is not there yet. It ends with io.EOF only when the blob is in the store, so
// that all that was read is verified by then; with ErrIncomplete when it will never be; with the context's cause when that ends.
func (in *Incoming) Reader(ctx context.Context) io.Reader { return &incomingReader{in: in, ctx: ctx} }

type incomingReader struct {
	in  *Incoming
	ctx context.Context //nolint:containedctx // of the one reading
	at  int64
}

func (r *incomingReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	have, err := r.wait()
	if have == 0 {
		return 0, err
	}
	n, err := r.in.f.ReadAt(p[:min(int64(len(p)), have)], r.at)
	r.at += int64(n)
	if n > 0 {
		return n, nil
	}
	if errors.Is(err, io.EOF) { // somebody has cut the file
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("read blob %s: %w", r.in.digest, err)
}

// wait returns how much there is to read, or why there will be no more.
func (r *incomingReader) wait() (have int64, err error) {
	in := r.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.size == r.at && !in.ended { // else nobody needs to be told
		defer context.AfterFunc(r.ctx, func() {
			in.mu.Lock() // after wait has begun to wait
			defer in.mu.Unlock()
			in.moved.Broadcast()
		})()
	}
	for in.size == r.at && !in.ended && r.ctx.Err() == nil {
		in.moved.Wait()
	}
	switch {
	case r.ctx.Err() != nil:
		return 0, context.Cause(r.ctx)
	case in.err != nil:
		return 0, fmt.Errorf("blob %s: %w: %w", in.digest, ErrIncomplete, in.err)
	case in.size > r.at:
		return in.size - r.at, nil
	}
	return 0, io.EOF
}

// Err is why the blob did not get into the store; nil while that is not known, and when it did.
func (in *Incoming) Err() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// Close ends reading. More than once is allowed.
func (in *Incoming) Close() error {
	if err := in.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close blob %s: %w", in.digest, err)
	}
	return nil
}
