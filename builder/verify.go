package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/snapshot"
	"gobuild/store"
)

// Problem is something in the state directory that is not as it should be.
type Problem struct {
	Kind     string `json:"kind"` // blob, layer, record, image
	ID       string `json:"id"`
	What     string `json:"what"`     // is wrong
	Remedy   string `json:"remedy"`   // what helps, or will happen
	Repaired bool   `json:"repaired"` // by --repair
	Harmless bool   `json:"harmless"` // it costs room or time, and nothing else
}

// Verification is what VerifyCache looked at, and found.
type Verification struct {
	Blobs    int       `json:"blobs"`
	Bytes    int64     `json:"bytes"` // of blobs, all of which were hashed
	Layers   int       `json:"layers"`
	Records  int       `json:"records"`
	Images   int       `json:"images"`
	Problems []Problem `json:"problems"`
}

// Bad counts the problems that are neither harmless nor repaired.
func (v *Verification) Bad() int {
	n := 0
	for _, p := range v.Problems {
		if !p.Harmless && !p.Repaired {
			n++
		}
	}
	return n
}

// VerifyCache hashes every blob and checks the marker of each layer and each record of the state directory, beside builds that
// go on. With repair it removes what is wrong, so that the next build makes it again.
func (b *Builder) VerifyCache(ctx context.Context, repair bool) (*Verification, error) {
	leave, err := b.enter(ctx)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	defer leave()
	v := &verifier{b: b, repair: repair, blobs: map[digest.Digest]bool{}, packed: map[snapshot.ID]bool{}, named: map[snapshot.ID]bool{}}
	// Layers first: a step's layer is there before its record is.
	for _, part := range []func(context.Context) error{v.listLayers, v.checkBlobs, v.readRecords, v.checkRecords, v.checkLayers, v.checkImages} {
		if err := part(ctx); err != nil {
			return &v.out, classify(fmt.Errorf("verify the state directory: %w", err), CategoryEnvironment)
		}
	}
	if repair {
		if err := b.sweep(); err != nil {
			return &v.out, classify(err, CategoryEnvironment)
		}
	}
	return &v.out, nil
}

// verifier is one verification under way.
type verifier struct {
	b      *Builder
	repair bool
	out    Verification

	layers  []foundLayer
	blobs   map[digest.Digest]bool // whole
	records []cache.Record
	packed  map[snapshot.ID]bool // layers that a blob was made of which is whole
	named   map[snapshot.ID]bool // layers that a step's record names
}

type foundLayer struct {
	id   snapshot.ID
	info snapshot.Info
}

func (v *verifier) listLayers(context.Context) error {
	return v.b.snapshots.List(func(id snapshot.ID, info snapshot.Info) error {
		v.layers = append(v.layers, foundLayer{id, info})
		return nil
	})
}

// report adds a problem, and with --repair lets fix remove it. What somebody relies on at the moment stays.
func (v *verifier) report(p Problem, fix func() error) error {
	if v.repair && fix != nil {
		switch err := fix(); {
		case errors.Is(err, snapshot.ErrInUse), errors.Is(err, store.ErrInUse), errors.Is(err, errKept):
			p.Remedy = "a build uses it at the moment: run this again when it has ended"
		case err != nil:
			return fmt.Errorf("repair %s %s: %w", p.Kind, p.ID, err)
		default:
			p.Repaired = true
		}
	}
	v.out.Problems = append(v.out.Problems, p)
	return nil
}

func (v *verifier) checkBlobs(ctx context.Context) error {
	return v.b.store.WalkBlobs(func(d digest.Digest, size int64, _ time.Time) error {
		damaged, err := v.b.store.Damaged(ctx, d)
		if errors.Is(err, store.ErrNotFound) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		v.out.Blobs++
		v.out.Bytes += size
		v.blobs[d] = !damaged
		if !damaged {
			return nil
		}
		p := Problem{Kind: "blob", ID: d.String(), What: "its content is not what its name says", Remedy: "--repair removes it; what needs it makes or fetches it again"}
		return v.report(p, func() error {
			// Hashed again: another process may have put a good one there. A damaged one is of no use to whoever holds it.
			if err := v.b.store.Verify(ctx, d); err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		})
	})
}

func (v *verifier) readRecords(ctx context.Context) error {
	return v.b.cache.Scan(func(file string, rec cache.Record, whole bool) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.out.Records++
		if !whole {
			p := Problem{Kind: "record", ID: file, What: "it is torn or damaged", Remedy: "it counts as absent; --repair removes it", Harmless: true}
			return v.report(p, func() error { return v.b.cache.RemoveDamaged(file) })
		}
		if rec.Key.Kind() == "layer" {
			var r layerRecord
			if json.Unmarshal(rec.Payload, &r) == nil && v.blobs[r.Desc.Digest] {
				v.packed[layerDirectory(rec.Key)] = true
			}
		}
		if isStep(rec.Key) || slices.Contains([]string{"layer", "http", "ref"}, rec.Key.Kind()) {
			rec.Payload = slices.Clone(rec.Payload)
			v.records = append(v.records, rec)
		}
		return nil
	})
}

// layerDirectory is the directory that a layer record's blob was made of.
func layerDirectory(k cache.Key) snapshot.ID {
	for _, l := range k.Lines() {
		if l.Name == "directory" && len(l.Values) == 1 {
			return snapshot.ID(l.Values[0])
		}
	}
	return ""
}

// checkRecords finds records that name what is not there.
func (v *verifier) checkRecords(context.Context) error {
	for _, rec := range v.records {
		what, ok := v.lacks(rec)
		if ok {
			continue
		}
		p := Problem{Kind: "record", ID: rec.Key.Digest().String(), What: what, Remedy: "it counts as absent; --repair removes it", Harmless: true}
		if err := v.report(p, func() error { return v.b.cache.Delete(rec.Key) }); err != nil {
			return err
		}
	}
	return nil
}

// lacks says what a record names that is not there.
func (v *verifier) lacks(rec cache.Record) (what string, ok bool) {
	blob := func(d digest.Digest) bool {
		if whole, seen := v.blobs[d]; seen {
			return whole
		}
		_, ok := v.b.store.Has(d) // written since
		return ok
	}
	switch rec.Key.Kind() {
	case "layer":
		var r layerRecord
		if json.Unmarshal(rec.Payload, &r) != nil || !blob(r.Desc.Digest) {
			return "the blob of a layer is gone", false
		}
	case "http":
		var r httpRecord
		if json.Unmarshal(rec.Payload, &r) != nil || !blob(r.Digest) {
			return "what was fetched from a URL is gone", false
		}
	case "ref":
		var r refRecord
		if json.Unmarshal(rec.Payload, &r) != nil || !blob(r.Manifest.Digest) {
			return "the manifest of a base image is gone", false
		}
	default:
		var r stepRecord
		if json.Unmarshal(rec.Payload, &r) != nil || !v.packed[r.ID] && !v.b.snapshots.Has(r.ID) {
			return "the layer of " + describeSlot(rec.Slot) + " is gone", false
		}
		v.named[r.ID] = true
	}
	return "", true
}

// settled is how old a layer without a record must be to be nobody's: the record comes right after.
const settled = 10 * time.Minute

// stepDigits is the length of the names of steps' layers; those of base images are longer.
const stepDigits = 32

func (v *verifier) checkLayers(ctx context.Context) error {
	for _, l := range v.layers {
		what, err := v.b.snapshots.Verify(l.id)
		if err != nil {
			return err
		}
		v.out.Layers++
		p := Problem{Kind: "layer", ID: string(l.id), What: what, Remedy: "it is not used; --repair removes it, and it is unpacked or built again"}
		if what == "" {
			if len(l.id) != stepDigits || v.named[l.id] || v.b.cfg.Now().Sub(l.info.Used) < settled {
				continue
			}
			p.What, p.Remedy, p.Harmless = "no step needs it", "--repair or gobuild prune removes it", true
		}
		if err := v.report(p, func() error { return v.b.snapshots.Evict(ctx, l.id, nil) }); err != nil {
			return err
		}
	}
	return nil
}

// checkImages finds names whose images are not whole.
func (v *verifier) checkImages(context.Context) error {
	tags, err := v.b.store.Tags()
	if err != nil {
		return err
	}
	for _, t := range tags {
		v.out.Images++
		lacking := 0
		for _, d := range v.partsOf(t.Desc, maxIndexDepth) {
			if whole, seen := v.blobs[d]; seen && !whole {
				lacking++
			} else if _, ok := v.b.store.Has(d); !ok {
				lacking++
			}
		}
		if lacking == 0 {
			continue
		}
		p := Problem{
			Kind: "image", ID: t.Name, What: fmt.Sprintf("%d of its blobs are damaged or gone", lacking),
			Remedy: "build it again with --no-cache if a build does not help, pull it again, or remove the name with gobuild rmi",
		}
		if err := v.report(p, nil); err != nil {
			return err
		}
	}
	return nil
}

// partsOf lists what must be there of an image; of an index, what is there of its platforms must be whole. A document that is
// damaged is not read: that would remove it.
func (v *verifier) partsOf(desc ocispec.Descriptor, depth int) []digest.Digest {
	parts := []digest.Digest{desc.Digest}
	if !v.blobs[desc.Digest] {
		return parts
	}
	raw, err := v.b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		return parts
	}
	if isIndex(desc.MediaType) {
		idx, err := image.ParseIndex(raw, desc.MediaType)
		if err != nil || depth == 0 {
			return parts
		}
		for _, child := range idx.Manifests {
			if _, here := v.blobs[child.Digest]; here {
				parts = append(parts, v.partsOf(child, depth-1)...)
			}
		}
		return parts
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return parts
	}
	parts = append(parts, m.Config.Digest)
	for _, l := range m.Layers {
		parts = append(parts, l.Digest)
	}
	return parts
}
