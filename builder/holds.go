package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/bytelock"
	"gobuild/snapshot"
	"gobuild/store"
)

// holds are the layers, blobs and cache mounts that this process relies on until it ends: what is collected beside it leaves them
// (docs/decisions/0010-automatic-clean-up.md).
type holds struct {
	layers *snapshot.Pins
	blobs  *store.Pins
	mounts *bytelock.Set
}

func (b *Builder) openHolds() {
	b.holds = holds{layers: b.snapshots.Pins(), blobs: b.store.Pins(), mounts: bytelock.Open(b.mountPins())}
}

func (b *Builder) mountPins() string { return filepath.Join(b.cfg.Root, "mounts.pins") }

// close cannot fail in a way that matters: the kernel drops what is held.
func (h holds) close() {
	_ = h.layers.Close()
	_ = h.blobs.Close()
	_ = h.mounts.Close()
}

// hasLayer holds a layer's directory and says whether it is there. One that is about to be made is asked for first.
func (b *Builder) hasLayer(id snapshot.ID) (bool, error) {
	ok, err := b.holds.layers.Has(id)
	if ok {
		b.snapshots.Touch(id, b.cfg.Now())
	}
	return ok, err
}

// hasBlob holds a blob and says whether it is there. One that is about to be made is asked for first.
func (b *Builder) hasBlob(d digest.Digest) (size int64, ok bool, err error) {
	return b.holds.blobs.Has(d)
}

// holdImage holds all that an image in the store is made of, and fails if it is gone.
func (b *Builder) holdImage(desc ocispec.Descriptor) error {
	if _, ok, err := b.hasBlob(desc.Digest); err != nil || !ok {
		return cmp.Or(err, fmt.Errorf("blob %s: %w", desc.Digest, store.ErrNotFound))
	}
	parts := map[digest.Digest]bool{}
	b.mark(desc, parts)
	for d := range parts {
		if _, _, err := b.hasBlob(d); err != nil {
			return err
		}
	}
	return nil
}

// heldStore is the store as a place that images are copied to: what is copied is held until this process ends.
type heldStore struct{ b *Builder }

func (h heldStore) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	size, ok, err := h.b.hasBlob(desc.Digest)
	return ok && size == desc.Size, err
}

func (h heldStore) Push(ctx context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error {
	if _, _, err := h.b.hasBlob(desc.Digest); err != nil {
		return err
	}
	written, err := h.b.reserve(ctx, desc.Size, "blob "+short(desc.Digest))
	if err != nil {
		return err
	}
	defer written()
	return h.b.store.Push(ctx, desc, r)
}

// putBytes stores a document that this process will name.
func (b *Builder) putBytes(data []byte) (digest.Digest, error) {
	if _, _, err := b.hasBlob(digest.FromBytes(data)); err != nil {
		return "", err
	}
	return b.store.PutBytes(data)
}

// commitBlob ends a writer whose bytes have this digest and size.
func (b *Builder) commitBlob(w *store.Writer, d digest.Digest, size int64) error {
	if _, _, err := b.hasBlob(d); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Commit(d, size)
}
