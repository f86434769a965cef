package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/snapshot"
)

// inlineCache is the field of an image's configuration that says which steps its layers come from (FEATURES I11). It names
// layers by their place alone, so an image can vouch for no layer but its own (I12), and has nothing that differs between two
// builds of equal layers but the time of each step, which is in the image's history too.
type inlineCache struct {
	Version int          `json:"version"`
	Steps   []inlineStep `json:"steps"`
}

type inlineStep struct {
	Key     string        `json:"key"`
	Layer   int           `json:"layer"` // place in rootfs.diff_ids
	Created time.Time     `json:"created"`
	Form    string        `json:"form"`            // how the layer was packed
	Alone   bool          `json:"alone,omitempty"` // made without the layers below
	As      digest.Digest `json:"as,omitempty"`    // as in stepRecord
}

const inlineVersion = 1

// maxInline bounds the field: readers of images bound configurations, and texts of keys are as long as Dockerfiles make them.
const maxInline = 1 << 20

// maxInlineImages bounds how many images of an index are looked into.
const maxInlineImages = 32

const cacheInline = "inline"

// inline says whether the image is to carry its steps.
func (bd *build) inline() bool {
	return slices.ContainsFunc(bd.opt.CacheTo, func(c CacheShare) bool { return c.Type == cacheInline })
}

// inlineSteps is the field for an image of these layers; nil when none is asked for.
func (ln *lane) inlineSteps(target *stageRun) (json.RawMessage, error) {
	if !ln.inline() {
		return nil, nil
	}
	if ln.squashed() {
		ln.notice("the image carries no cache: its layers are squashed, so none is that of a step")
		return nil, nil
	}
	place := map[snapshot.ID]int{}
	for i, l := range target.final.layers {
		place[l.id] = i
	}
	in := inlineCache{Version: inlineVersion, Steps: []inlineStep{}}
	ln.mu.Lock()
	for _, g := range ln.shared.given {
		i, ok := place[g.l.id]
		if !ok {
			continue // of another stage or platform
		}
		in.Steps = append(in.Steps, inlineStep{
			Key: g.key.Text(), Layer: i, Created: ln.clamped(g.rec.Created), Form: ln.formOf(g.l), Alone: g.l.alone, As: g.rec.As,
		})
	}
	ln.mu.Unlock()
	slices.SortFunc(in.Steps, func(x, y inlineStep) int {
		return cmp.Or(cmp.Compare(x.Layer, y.Layer), strings.Compare(x.Key, y.Key))
	})
	in.Steps = slices.CompactFunc(in.Steps, func(x, y inlineStep) bool { return x.Layer == y.Layer && x.Key == y.Key })
	data, err := json.Marshal(in)
	if len(data) > maxInline {
		ln.notice(fmt.Sprintf("the image carries no cache: the keys of its steps are %d bytes, at most %d are written", len(data), maxInline))
		return nil, nil
	}
	return data, err
}

func (bd *build) formOf(l *fsLayer) string {
	if l.packing != nil {
		return bd.form.text()
	}
	return cmp.Or(l.form, bd.form.text())
}

func (bd *build) clamped(t time.Time) time.Time {
	if epoch := bd.opt.SourceDateEpoch; epoch != nil && t.After(*epoch) {
		return epoch.UTC()
	}
	return t
}

// errNoInline is for an image without the field.
var errNoInline = errors.New("it is an image without a cache: build it with --cache-to type=inline")

// readInline makes the steps of an image, or of all images of an index.
func (bd *build) readInline(ctx context.Context, raw []byte, desc ocispec.Descriptor, src origin) (shareIndex, error) {
	all := shareIndex{Version: shareVersion}
	manifests := []ocispec.Descriptor{desc}
	if image.IsIndex(desc.MediaType) {
		idx, err := image.ParseIndex(raw, desc.MediaType)
		if err != nil {
			return all, err
		}
		manifests = slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
			return image.IsIndex(d.MediaType) || d.Platform != nil && d.Platform.OS == "unknown" // an attestation
		})
	}
	found := errNoInline
	for _, d := range manifests[:min(len(manifests), maxInlineImages)] {
		steps, err := bd.readInlineImage(ctx, d, src)
		if errors.Is(err, errNoInline) {
			continue
		}
		if err != nil {
			return all, err
		}
		all.Steps, found = append(all.Steps, steps...), nil
	}
	return all, found
}

func (bd *build) readInlineImage(ctx context.Context, desc ocispec.Descriptor, src origin) ([]sharedStep, error) {
	raw, err := bd.document(ctx, desc, src.manifests)
	if err != nil {
		return nil, err
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return nil, err
	}
	config, err := bd.document(ctx, m.Config, src.blobs)
	if err != nil {
		return nil, err
	}
	img, err := image.ParseConfig(config)
	if err != nil {
		return nil, err
	}
	if err := image.CheckImage(desc, m, img); err != nil {
		return nil, err
	}
	data, err := image.CacheOf(config)
	if err != nil || data == nil {
		return nil, cmp.Or(err, errNoInline)
	}
	var in inlineCache
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("read the steps in its configuration: %w", err)
	}
	if in.Version != inlineVersion {
		return nil, fmt.Errorf("the steps in its configuration have form %d, this gobuild knows %d", in.Version, inlineVersion)
	}
	return in.steps(m.Layers, img.RootFS.DiffIDs)
}

// steps are those of a shared cache: with names of directories and lineages made of the layers' own digests. A layer that no
// step made is the base's, whose directory is named by its chain ID.
func (in *inlineCache) steps(layers []ocispec.Descriptor, diffIDs []digest.Digest) ([]sharedStep, error) {
	made := map[int]bool{}
	for _, s := range in.Steps {
		if s.Layer < 0 || s.Layer >= len(layers) {
			return nil, fmt.Errorf("a step in its configuration has layer %d of %d", s.Layer, len(layers))
		}
		made[s.Layer] = true
	}
	if len(in.Steps) > maxShared {
		return nil, fmt.Errorf("its configuration has %d steps, at most %d are read", len(in.Steps), maxShared)
	}
	below := state{}
	ids, lineages := make([]snapshot.ID, len(layers)), make([]string, len(layers))
	var chain digest.Digest
	for i, d := range diffIDs {
		chain = chainOf(chain, d)
		ids[i] = snapshot.ID(chain.Encoded())
		if made[i] {
			ids[i] = snapshot.ID(digest.FromString("inline\n" + chain.String()).Encoded()[:32])
		}
		lineages[i] = below.lineage()
		below.layers = append(below.layers, &fsLayer{id: ids[i]})
	}
	out := make([]sharedStep, len(in.Steps))
	for i, s := range in.Steps {
		rec := stepRecord{ID: ids[s.Layer], Lineage: lineages[s.Layer], Created: s.Created, As: s.As}
		if s.Alone {
			rec.Lineage = ""
		}
		out[i] = sharedStep{Key: s.Key, Record: rec, Layer: layerRecord{Desc: layers[s.Layer], DiffID: diffIDs[s.Layer]}, Form: s.Form}
	}
	return out, nil
}
