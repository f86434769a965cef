package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/layer"
	"gobuild/stages"
)

// layerForm is how this build's new layers become blobs; all outputs of a build share it.
type layerForm struct {
	compression layer.Compression
	level       int
	force       bool       // base layers too
	epoch       *time.Time // clamp file times to it
	docker      bool       // Docker media types
	userXattrs  bool       // keep user.* attributes
	annotations []Annotation
}

func (f layerForm) packOptions() layer.PackOptions {
	return layer.PackOptions{Compression: f.compression, Level: f.level, Epoch: f.epoch, UserXattrs: f.userXattrs}
}

// layerRecord is what the cache keeps of a packed layer.
type layerRecord struct {
	Desc   ocispec.Descriptor `json:"desc"`
	DiffID digest.Digest      `json:"diffID"`
}

// packer makes blobs of layers while later steps run.
type packer struct {
	ctx  context.Context //nolint:containedctx // of the build: a layer outlives the stage that made it
	bd   *build
	slot chan struct{} // packing fills the cores by itself: one at a time
	wg   sync.WaitGroup

	nothing layerRecord // of a layer without a change, once there was one; for who has the slot
}

// packJob is one layer being packed.
type packJob struct {
	done chan struct{}
	rec  layerRecord
	err  error
}

func newPacker(bd *build) *packer { return &packer{bd: bd, slot: make(chan struct{}, 1)} }

func (p *packer) wait() { p.wg.Wait() }

// markPacked finds the stages whose layers become the image's: the target and what it is FROM.
func (bd *build) markPacked() {
	if bd.exportsAll() {
		for _, sr := range bd.all {
			sr.packed = true
		}
	}
	if !bd.needsImage() || bd.squashed() && len(bd.opt.CacheTo) == 0 {
		return
	}
	for _, ln := range bd.lanes {
		sr := ln.target()
		for sr.packed = true; sr.stage.Base.Kind == stages.SourceStage; sr.packed = true {
			sr = ln.runs[sr.stage.Base.Stage]
		}
	}
}

// start packs a layer in the background, once; below is what lies under it.
func (p *packer) start(l *fsLayer, below []*fsLayer) {
	if l.packing != nil || l.desc.Digest != "" && l.form == p.bd.form.text() {
		return // packing, or imported as it should be
	}
	l.packing = &packJob{done: make(chan struct{})}
	if rec, ok, err := p.bd.packedBefore(l); ok && err == nil {
		l.packing.rec = rec
		close(l.packing.done)
		return
	}
	if l.alone {
		below = nil
	}
	p.wg.Go(func() {
		defer close(l.packing.done)
		l.packing.err = guard(func() (err error) {
			l.packing.rec, err = p.pack(p.ctx, l, below)
			return err
		})
		if l.packing.err == nil && !p.bd.leaks.keeps(l.packing.rec.Desc.Digest) {
			p.bd.early.offer(p.ctx, l.packing.rec.Desc)
		}
	})
}

// result waits for a layer's blob.
func (p *packer) result(ctx context.Context, l *fsLayer) (layerRecord, error) {
	select {
	case <-l.packing.done:
		return l.packing.rec, l.packing.err
	case <-ctx.Done():
		return layerRecord{}, context.Cause(ctx)
	}
}

func (bd *build) layerKey(l *fsLayer) cache.Key {
	k := cache.NewKey("layer").Add("directory", string(l.id)).Add("compression", string(bd.form.compression), strconv.Itoa(bd.form.level))
	if bd.form.epoch != nil {
		k.Add("epoch", strconv.FormatInt(bd.form.epoch.Unix(), 10))
	}
	if bd.form.userXattrs {
		k.Add("xattrs", "user")
	}
	return k.Key()
}

// packedBefore finds the blob that an earlier build made of this very directory.
func (bd *build) packedBefore(l *fsLayer) (layerRecord, bool, error) {
	var rec layerRecord
	_, ok, err := bd.cache.Lookup(bd.layerKey(l), &rec)
	if err != nil || !ok {
		return rec, false, err
	}
	size, ok, err := bd.hasBlob(rec.Desc.Digest)
	return rec, ok && size == rec.Desc.Size, err
}

func (p *packer) pack(ctx context.Context, l *fsLayer, below []*fsLayer) (layerRecord, error) {
	select {
	case p.slot <- struct{}{}:
		defer func() { <-p.slot }()
	case <-ctx.Done():
		return layerRecord{}, context.Cause(ctx)
	}
	bd := p.bd
	if rec, ok, err := bd.packedBefore(l); ok && err == nil { // meanwhile, for another platform
		return rec, nil
	}
	have, err := bd.hasLayer(l.id)
	if err != nil {
		return layerRecord{}, err
	}
	if !have {
		if err := bd.materialize(ctx, state{layers: append(append([]*fsLayer(nil), below...), l)}); err != nil {
			return layerRecord{}, err
		}
	}
	adds, err := bd.snapshots.Adds(state{layers: below}.stack(), l.id)
	if err != nil {
		return layerRecord{}, err
	}
	rec := p.nothing
	if adds || rec.Desc.Digest == "" {
		if rec, err = p.packTree(ctx, l, below); err != nil {
			return layerRecord{}, err
		}
	}
	if !adds {
		p.nothing = rec
	}
	return rec, bd.cache.Put(bd.layerKey(l), "layer", rec)
}

// packTree makes the blob of a layer that is a directory.
func (p *packer) packTree(ctx context.Context, l *fsLayer, below []*fsLayer) (layerRecord, error) {
	bd := p.bd
	upper, err := bd.snapshots.UpperOf(l.id)
	if err != nil {
		return layerRecord{}, err
	}
	defer upper.Close()
	lower, err := bd.view(ctx, state{layers: below})
	if err != nil {
		return layerRecord{}, err
	}
	if lower != nil {
		defer lower.Close()
	}
	written, err := bd.reserve(ctx, l.bytes, "") // at most, as a rule: compression makes it smaller
	if err != nil {
		return layerRecord{}, err
	}
	defer written()
	w, err := bd.store.Writer()
	if err != nil {
		return layerRecord{}, err
	}
	opt := bd.form.packOptions()
	keep := bd.leaks.watch(&opt)
	packed, err := layer.Pack(ctx, w, upper, lower, opt)
	if err != nil {
		return layerRecord{}, errors.Join(fmt.Errorf("pack layer: %w", err), w.Abort())
	}
	if err := keep(packed.Digest); err != nil {
		return layerRecord{}, errors.Join(err, w.Abort())
	}
	if err := bd.commitBlob(w, packed.Digest, packed.Size); err != nil {
		return layerRecord{}, err
	}
	return layerRecord{Desc: ocispec.Descriptor{MediaType: packed.MediaType, Digest: packed.Digest, Size: packed.Size}, DiffID: packed.DiffID}, nil
}
