package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/store"
)

// arrival puts a blob whose bytes come as the test writes them to the pipe.
func arrival(t *testing.T, s *store.Store, desc ocispec.Descriptor) (source *io.PipeWriter, in *store.Incoming, put chan error) {
	t.Helper()
	r, w := io.Pipe()
	begun, put := make(chan *store.Incoming, 1), make(chan error, 1)
	go func() {
		put <- s.PutWatched(context.WithoutCancel(t.Context()), desc, r, func(in *store.Incoming) { begun <- in })
	}()
	in = <-begun
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		_ = w.Close()
	})
	return w, in, put
}

// hostile: R22
func TestJ8_ABlobIsReadWhileItArrivesAndEndsWhenItIsStored(t *testing.T) {
	t.Parallel()
	s := open(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	desc := describe(body)
	source, in, put := arrival(t, s, desc)
	half := len(body) / 2
	sent := make(chan error, 1)
	go func() { _, err := source.Write(body[:half]); sent <- err }()
	r, got := in.Reader(t.Context()), make([]byte, half)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Has(desc.Digest); ok {
		t.Error("half a blob is in the store")
	}
	go func() { _, err := source.Write(body[half:]); sent <- errors.Join(err, source.Close()) }()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Has(desc.Digest); !ok {
		t.Error("the reader has come to the end of a blob that is not stored")
	}
	if !bytes.Equal(slices.Concat(got, rest), body) {
		t.Error("other bytes were read than written")
	}
	if err := errors.Join(<-sent, <-put); err != nil {
		t.Error(err)
	}
	noLeftovers(t, s)
}

func TestHostileH41_ReadersOfAnArrivingBlobLearnThatItIsWrong(t *testing.T) {
	t.Parallel()
	body := []byte("the right body")
	for name, send := range map[string]func(*io.PipeWriter){
		"other bytes": func(w *io.PipeWriter) { _, _ = w.Write([]byte("the wrong body")); _ = w.Close() },
		"too few":     func(w *io.PipeWriter) { _, _ = w.Write(body[:5]); _ = w.Close() },
		"too many":    func(w *io.PipeWriter) { _, _ = w.Write(append(body, 'x')) },
		"lost":        func(w *io.PipeWriter) { _, _ = w.Write(body[:5]); _ = w.CloseWithError(io.ErrUnexpectedEOF) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			source, in, put := arrival(t, s, describe(body))
			go send(source)
			if _, err := io.ReadAll(in.Reader(t.Context())); !errors.Is(err, store.ErrIncomplete) {
				t.Errorf("read: %v", err)
			}
			if err := <-put; err == nil || in.Err() == nil {
				t.Errorf("put: %v, %v", err, in.Err())
			}
			noLeftovers(t, s)
		})
	}
}

func TestJ8_AReaderThatWaitsForBytesEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, in, _ := arrival(t, s, describe([]byte("never comes")))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	ended := make(chan error)
	go func() {
		_, err := in.Reader(ctx).Read(make([]byte, 1))
		ended <- err
	}()
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// bad is a body that panics.
type bad struct{}

func (bad) Read([]byte) (int, error) { panic("a bug") }

func TestHostileR31_APanicOfTheSourceEndsItsReaders(t *testing.T) {
	t.Parallel()
	s := open(t)
	begun := make(chan *store.Incoming, 1)
	go func() {
		defer func() { _ = recover() }()
		_ = s.PutWatched(context.WithoutCancel(t.Context()), describe([]byte("never comes")), bad{}, func(in *store.Incoming) { begun <- in })
	}()
	in := <-begun
	if _, err := io.ReadAll(in.Reader(t.Context())); !errors.Is(err, store.ErrIncomplete) {
		t.Errorf("got %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}
