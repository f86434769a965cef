package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// stuckGrace is how long a command that was told to end waits for whoever reads its output, once.
const stuckGrace = time.Second

// endable is an output that a reader may leave unread. As long as the command goes on, Write waits for that reader, as it must; when
// the command has been told to end, what is not taken within stuckGrace is dropped, and all that follows.
type endable struct {
	w io.Writer

	mu      sync.Mutex // one Write at a time
	dropped bool

	over chan struct{}
	end  sync.Once
}

// errStuck is what Write says of what nobody took.
var errStuck = errors.New("nobody reads the output")

func newEndable(w io.Writer) *endable { return &endable{w: w, over: make(chan struct{})} }

// endWith has a context end the patience: by a signal or a timeout, not by the command's ordinary end.
func (e *endable) endWith(ctx context.Context) {
	context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), context.Canceled) {
			e.end.Do(func() { close(e.over) })
		}
	})
}

// Write keeps p when it gives up: the process ends then.
func (e *endable) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dropped {
		return 0, errStuck
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { // ends with the write, or with the process
		var r result
		r.err = rescue.Do(func() (err error) {
			r.n, err = e.w.Write(p)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-e.over:
	}
	timer := time.NewTimer(stuckGrace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-timer.C:
		e.dropped = true
		return 0, errStuck
	}
}

// newOutput is a stream of this process, which may be stuck if it is no regular file.
func newOutput(w io.Writer) io.Writer {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return w
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFREG { //nolint:gosec // a descriptor is an int
		return w
	}
	return newEndable(w)
}

// plainStream is what lies below our own writers.
func plainStream(stream any) any {
	if r, ok := stream.(resultWriter); ok {
		stream = r.w
	}
	if e, ok := stream.(*endable); ok {
		stream = e.w
	}
	return stream
}

// patience bounds what the outputs wait for once ctx is over.
func patience(ctx context.Context, outputs ...io.Writer) {
	for _, w := range outputs {
		if r, ok := w.(resultWriter); ok {
			w = r.w
		}
		if e, ok := w.(*endable); ok {
			e.endWith(ctx)
		}
	}
}
