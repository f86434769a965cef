package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/layer"
	"gobuild/snapshot"
	"gobuild/store"
)

// unpack makes one layer a directory above those below, from its blob, or from what arrives of that. Other processes wait for the
// one that does it.
func (bd *build) unpack(ctx context.Context, below []*fsLayer, l *fsLayer, a *arrival) error {
	lock, err := bd.cache.Lock(ctx, cache.NewKey("unpack").Add("layer", string(l.id)).Key(), bd.waiting("unpacking a layer"))
	if err != nil {
		return fmt.Errorf("wait for layer: %w", err)
	}
	defer lock.Release()
	if have, err := bd.hasLayer(l.id); have || err != nil {
		return err
	}
	if l.alone {
		below = nil
	}
	if in := a.follow(ctx); in != nil {
		done, err := bd.unpackArriving(ctx, below, l, a, in)
		if done || err != nil {
			return err
		}
	}
	if err := a.wait(ctx); err != nil {
		return err
	}
	desc, diffID, err := bd.blobOf(ctx, l)
	if err != nil {
		return err
	}
	f, err := bd.store.OpenVerified(ctx, desc.Digest)
	if err != nil {
		return fmt.Errorf("read layer %s: %w", desc.Digest, err)
	}
	defer f.Close()
	work, err := bd.unpackTo(ctx, below, desc, f, diffID)
	if err != nil {
		return err
	}
	return errors.Join(work.Commit(l.id), work.Discard()) // the latter does nothing after the former
}

// unpackArriving unpacks a blob whose bytes are not verified yet. What is made of it becomes a layer when they are; till then nobody
// else sees it, and a later run sweeps it away. Not done, without an error: the blob is to be unpacked once it is there.
func (bd *build) unpackArriving(ctx context.Context, below []*fsLayer, l *fsLayer, a *arrival, in *store.Incoming) (done bool, err error) {
	defer func() { err = errors.Join(err, in.Close()) }()
	work, unpackErr := bd.unpackTo(ctx, below, l.desc, in.Reader(ctx), l.diffID)
	if unpackErr == nil {
		defer func() { err = errors.Join(err, work.Discard()) }()
	}
	ofContent := errors.Is(unpackErr, layer.ErrCorrupt) || errors.Is(unpackErr, layer.ErrBound) || errors.Is(unpackErr, layer.ErrUnsafe)
	if unpackErr != nil && !ofContent && !errors.Is(unpackErr, store.ErrIncomplete) {
		return false, unpackErr // of this machine: whatever arrives, it will not be unpacked
	}
	// What is wrong with the content may be the server's fault, or that of the way: what arrived decides.
	switch err := a.wait(ctx); {
	case err != nil:
		return false, err
	case in.Err() != nil:
		return false, nil // the bytes were wrong, and a second attempt has brought the right ones
	case unpackErr != nil:
		return false, unpackErr
	}
	return true, work.Commit(l.id)
}

// unpackTo unpacks what r holds above the layers below, and checks that it is the content that the image promises. The caller
// commits or discards the result.
func (bd *build) unpackTo(ctx context.Context, below []*fsLayer, desc ocispec.Descriptor, r io.Reader, diffID digest.Digest) (_ *snapshot.Work, err error) {
	written, err := bd.reserve(ctx, desc.Size, "") // at least: how large its files are is not known
	if err != nil {
		return nil, err
	}
	defer written()
	work, err := bd.snapshots.New(state{layers: below}.stack())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, work.Discard())
		}
	}()
	root, err := work.Root()
	if err != nil {
		return nil, err
	}
	got, err := layer.Unpack(ctx, r, root, layer.UnpackOptions{Notice: bd.notice})
	if err != nil {
		return nil, fmt.Errorf("unpack layer %s: %w", desc.Digest, err)
	}
	if got != diffID {
		return nil, fmt.Errorf("layer %s unpacks to %s, but its image says %s: %w", desc.Digest, got, diffID, layer.ErrCorrupt)
	}
	return work, nil
}

// blobOf brings a layer's blob into the store when only its origin has it.
func (bd *build) blobOf(ctx context.Context, l *fsLayer) (ocispec.Descriptor, digest.Digest, error) {
	if l.fetch == nil && l.desc.Digest == "" {
		packed, ok, err := bd.packedBefore(l)
		if err != nil || !ok {
			return l.desc, "", fmt.Errorf("layer directory %s and its blob are both gone from the state directory: build with --no-cache", l.id)
		}
		return packed.Desc, packed.DiffID, nil
	}
	return l.desc, l.diffID, bd.ensureBlob(ctx, l, nil)
}

// ensureBlob brings a layer's blob into the store. The arrival, which may be nil, is told when that begins.
func (bd *build) ensureBlob(ctx context.Context, l *fsLayer, a *arrival) error {
	defer bd.fetching.lock(l.desc.Digest.String())()
	if _, ok, err := bd.hasBlob(l.desc.Digest); ok || err != nil {
		return err
	}
	if l.fetch == nil {
		return fmt.Errorf("layer blob %s is gone from the store: pull its image again with --pull", l.desc.Digest)
	}
	name := "layer " + short(l.desc.Digest)
	written, err := bd.reserve(ctx, l.desc.Size, name)
	if err != nil {
		return err
	}
	defer written()
	bd.em.emit(Event{Type: EventTransfer, Text: name, Total: l.desc.Size})
	fetch := func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		r, err := l.fetch(ctx, desc)
		if err != nil {
			return nil, err
		}
		return &telling{ReadCloser: r, em: bd.em, name: name, total: desc.Size, told: time.Now()}, nil
	}
	if err := bd.fetchBlob(ctx, l.desc, fetch, a.watch(l.desc.Size)); err != nil {
		return fmt.Errorf("fetch layer %s: %w", l.desc.Digest, err)
	}
	bd.em.emit(Event{Type: EventTransfer, Text: name, Bytes: l.desc.Size, Total: l.desc.Size})
	return nil
}
