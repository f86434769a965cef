package builder

import (
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gobuild/image"
	"gobuild/layer"
	"gobuild/stages"
)

// indexed says whether the result is an index (FEATURES L1).
func (bd *build) indexed() bool { return bd.opt.Index || bd.several() }

// assembleAll makes the image, or one for each platform and the index of them in the order asked for (FEATURES L4).
func (bd *build) assembleAll(ctx context.Context, res *Result) error {
	var list []ocispec.Descriptor
	for _, ln := range bd.lanes {
		img, err := ln.assemble(ctx)
		if err != nil {
			return err
		}
		res.Manifest, res.Config = img.Manifest, img.Config
		list = append(list, img.Manifest)
	}
	if !bd.indexed() {
		return nil
	}
	annotations, entry := bd.annotateIndex(list)
	stated, err := bd.attestAll(ctx, list)
	if err != nil {
		return err
	}
	list = append(list, stated...)
	desc, raw, err := image.AssembleIndex(list, annotations, bd.form.docker)
	if err != nil {
		return err
	}
	desc.Annotations = entry
	if _, err := bd.putBytes(raw); err != nil {
		return err
	}
	res.Manifest, res.Config = desc, ocispec.Descriptor{}
	return nil
}

// assemble makes configuration and manifest of the target and puts them into the store.
func (ln *lane) assemble(ctx context.Context) (image.Assembled, error) {
	target := ln.target()
	layers, history, err := ln.contents(ctx, target)
	if err != nil {
		return image.Assembled{}, err
	}
	a := image.Assembly{Image: target.stage.Image, Layers: layers, History: history, DockerTypes: ln.form.docker}
	a.Created = ln.createdAt(a.History)
	if a.Cache, err = ln.inlineSteps(target); err != nil {
		return image.Assembled{}, err
	}
	out, err := ln.assembleAnnotated(a, ln.bottom(target).from)
	if err != nil {
		return out, err
	}
	ln.leaks.config(out.ConfigBytes)
	if _, err := ln.putBytes(out.ConfigBytes); err != nil {
		return out, err
	}
	_, err = ln.putBytes(out.ManifestBytes)
	return out, err
}

// contents are the layers of the image and its history.
func (ln *lane) contents(ctx context.Context, target *stageRun) ([]image.Layer, []ocispec.History, error) {
	history := ln.history(target)
	if !ln.squashed() {
		layers, err := ln.imageLayers(ctx, target.final)
		return layers, history, err
	}
	kept := 0
	if ln.opt.Squash == SquashNew {
		if b := ln.bottom(target).from; b != nil {
			kept = len(b.layers)
		}
	}
	layers, err := ln.imageLayers(ctx, state{layers: target.final.layers[:kept]})
	if err != nil {
		return nil, nil, err
	}
	one, err := ln.squash(ctx, target.final, kept)
	return append(layers, one), squashHistory(history, kept), err
}

// bottom is the stage that a stage is based upon, through other stages.
func (ln *lane) bottom(sr *stageRun) *stageRun {
	for sr.stage.Base.Kind == stages.SourceStage {
		sr = ln.runs[sr.stage.Base.Stage]
	}
	return sr
}

// imageLayers waits for what is being packed, and fetches the blobs that only a registry has so far, unless the image goes to
// registries alone: they mostly have them.
func (bd *build) imageLayers(ctx context.Context, s state) ([]image.Layer, error) {
	layers := make([]image.Layer, len(s.layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4) // transfers at once; more gain nothing from one registry
	for i, l := range s.layers {
		group.Go(func() error { return guard(func() error { return bd.imageLayer(ctx, l, &layers[i]) }) })
	}
	return layers, group.Wait()
}

func (bd *build) imageLayer(ctx context.Context, l *fsLayer, to *image.Layer) error {
	if l.packing != nil {
		rec, err := bd.pack.result(ctx, l)
		*to = image.Layer{Desc: rec.Desc, DiffID: rec.DiffID}
		return err
	}
	if bd.onlyPushed() {
		bd.origins.Store(l.desc.Digest, l)
	} else if err := bd.ensureBlob(ctx, l, nil); err != nil {
		return err
	}
	*to = image.Layer{Desc: l.desc, DiffID: l.diffID}
	return bd.forceCompression(ctx, to)
}

// forceCompression gives a base's layer the compression of the new ones when the user asked for it.
func (bd *build) forceCompression(ctx context.Context, l *image.Layer) error {
	if !bd.form.force {
		return nil
	}
	var err error
	l.Desc, err = bd.recompress(ctx, l.Desc, bd.form)
	return err
}

// recompress makes a blob of another compression from a layer in the store.
func (bd *build) recompress(ctx context.Context, desc ocispec.Descriptor, form layerForm) (ocispec.Descriptor, error) {
	written, err := bd.reserve(ctx, desc.Size, "")
	if err != nil {
		return desc, err
	}
	defer written()
	in, err := bd.store.OpenVerified(ctx, desc.Digest)
	if err != nil {
		return desc, err
	}
	defer in.Close()
	out, err := bd.store.Writer()
	if err != nil {
		return desc, err
	}
	packed, err := layer.Recompress(ctx, out, in, layer.PackOptions{Compression: form.compression, Level: form.level})
	if err != nil {
		return desc, errors.Join(fmt.Errorf("compress layer %s anew: %w", desc.Digest, err), out.Abort())
	}
	if err := bd.commitBlob(out, packed.Digest, packed.Size); err != nil {
		return desc, err
	}
	return ocispec.Descriptor{MediaType: packed.MediaType, Digest: packed.Digest, Size: packed.Size}, nil
}

// history is the base's, then that of each stage from the bottom up, with times (FEATURES H4, H14).
func (ln *lane) history(target *stageRun) []ocispec.History {
	chain := []*stageRun{target}
	for chain[0].stage.Base.Kind == stages.SourceStage {
		chain = append([]*stageRun{ln.runs[chain[0].stage.Base.Stage]}, chain...)
	}
	var entries []ocispec.History
	if b := chain[0].from; b != nil {
		entries = append(entries, b.image.History...)
	}
	base := len(entries)
	if l := chain[0].seeded; l != nil {
		entries = append(entries, ocispec.History{Created: &l.created, CreatedBy: "FROM " + seedName(chain[0].stage.Base), Comment: "buildkit.dockerfile.v0"})
	}
	for _, sr := range chain {
		entries = append(entries, sr.entries()...)
	}
	fillTimes(entries, base)
	clamp(entries[base:], ln.opt.SourceDateEpoch)
	return entries
}

// createdAt holds the time of the image to the epoch when the last entry of its history is the base's, which stays as it is.
// Nil: it is that of the last entry.
func (bd *build) createdAt(history []ocispec.History) *time.Time {
	if bd.opt.SourceDateEpoch == nil {
		return nil
	}
	at := bd.opt.SourceDateEpoch.UTC()
	for i := len(history) - 1; i >= 0; i-- {
		if c := history[i].Created; c != nil {
			if c.After(at) {
				return &at
			}
			return nil
		}
	}
	return &at
}

func (sr *stageRun) entries() []ocispec.History {
	out := make([]ocispec.History, len(sr.stage.History))
	for i, h := range sr.stage.History {
		out[i] = ocispec.History{CreatedBy: h.CreatedBy, Comment: h.Comment, EmptyLayer: h.Empty}
	}
	for i, step := range sr.stage.Steps {
		created := sr.added[i].created
		out[step.History].Created = &created
	}
	return out
}

// fillTimes gives metadata entries the time of the layer before them, or of the first new one: so a cached build
// repeats its digest.
func fillTimes(entries []ocispec.History, base int) {
	var last *time.Time
	for _, e := range entries[base:] {
		if e.Created != nil {
			last = e.Created
			break
		}
	}
	if last == nil && base > 0 {
		last = entries[base-1].Created
	}
	for i := base; i < len(entries); i++ {
		if entries[i].Created == nil {
			entries[i].Created = last
		}
		last = entries[i].Created
	}
}

// clamp makes times later than the epoch, or absent, the epoch.
func clamp(entries []ocispec.History, epoch *time.Time) {
	if epoch == nil {
		return
	}
	at := epoch.UTC()
	for i := range entries {
		if c := entries[i].Created; c == nil || c.After(at) {
			entries[i].Created = &at
		}
	}
}
