package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/internal/rootfs"
	"gobuild/layer"
)

// The values of Options.Squash.
const (
	SquashNew = "new" // the layers of this build become one
	SquashAll = "all" // those of the base image too
)

// squashed says whether the image's new layers are made by squash: then no step's own layer is wanted, unless a cache gets it (markPacked).
func (bd *build) squashed() bool { return bd.opt.Squash != "" && bd.needsImage() }

// squash makes one layer of the new ones, or of all: what the file system has that the base's lacks (FEATURES H17). It is
// compared as a whole, so what a later step deleted or wrote again is in no layer.
func (bd *build) squash(ctx context.Context, final state, kept int) (image.Layer, error) {
	below := state{layers: final.layers[:kept]}
	key := cache.NewKey("squash").Add("lineage", final.lineage()).Add("below", strconv.Itoa(kept)).Add("form", bd.form.text()).Key()
	var rec layerRecord
	if _, ok, err := bd.cache.Lookup(key, &rec); err == nil && ok {
		if size, ok, err := bd.hasBlob(rec.Desc.Digest); err == nil && ok && size == rec.Desc.Size {
			bd.leaks.suspect(suspect{what: "the squashed layer", desc: rec.Desc})
			return image.Layer{Desc: rec.Desc, DiffID: rec.DiffID}, nil
		}
	}
	upper, err := bd.viewOrEmpty(ctx, final)
	if err != nil {
		return image.Layer{}, err
	}
	defer upper.Close()
	var lower *rootfs.Root
	if kept > 0 {
		if lower, err = bd.view(ctx, below); err != nil {
			return image.Layer{}, err
		}
		defer lower.Close()
	}
	size := int64(0)
	for _, l := range final.layers[kept:] {
		size += max(l.bytes, l.desc.Size)
	}
	written, err := bd.reserve(ctx, size, "")
	if err != nil {
		return image.Layer{}, err
	}
	defer written()
	w, err := bd.store.Writer()
	if err != nil {
		return image.Layer{}, err
	}
	opt := bd.form.packOptions()
	opt.Replaces = true
	keep := bd.leaks.watch(&opt)
	packed, err := layer.Pack(ctx, w, upper, lower, opt)
	if err != nil {
		return image.Layer{}, errors.Join(fmt.Errorf("squash layers: %w", err), w.Abort())
	}
	if err := keep(packed.Digest); err != nil {
		return image.Layer{}, errors.Join(err, w.Abort())
	}
	if err := bd.commitBlob(w, packed.Digest, packed.Size); err != nil {
		return image.Layer{}, err
	}
	rec = layerRecord{Desc: ocispec.Descriptor{MediaType: packed.MediaType, Digest: packed.Digest, Size: packed.Size}, DiffID: packed.DiffID}
	bd.leaks.suspect(suspect{what: "the squashed layer", desc: rec.Desc})
	return image.Layer{Desc: rec.Desc, DiffID: rec.DiffID}, bd.cache.Put(key, "layer", rec)
}

// squashHistory makes the entries of squashed layers empty, and adds one for the layer that they became.
func squashHistory(entries []ocispec.History, kept int) []ocispec.History {
	out := append([]ocispec.History(nil), entries...)
	filled := 0
	for i := range out {
		if out[i].EmptyLayer {
			continue
		}
		if filled++; filled > kept {
			out[i].EmptyLayer = true
		}
	}
	one := ocispec.History{CreatedBy: "squash", Comment: "buildkit.dockerfile.v0"}
	for i := len(out) - 1; i >= 0 && one.Created == nil; i-- {
		one.Created = out[i].Created
	}
	return append(out, one)
}
