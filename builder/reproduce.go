package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/history"
	"gobuild/image"
)

// ReproduceOptions say which image is made again, and by what (FEATURES P7).
type ReproduceOptions struct {
	Image     string   // name in the store, or a place as for Copy
	Record    string   // of the build: its id, as for History; "" the image's own provenance
	Metadata  []byte   // a --metadata-file with provenance, in place of Record; nil none
	Platforms []string // of an index; none: every one
	Build     Options  // what the command line says, which comes before what is known of the build
}

// Reproduction is what came of it.
type Reproduction struct {
	Image     string            `json:"image"`
	Digest    digest.Digest     `json:"digest"`
	Platforms []PlatformVerdict `json:"platforms"`
}

// PlatformVerdict is about one image.
type PlatformVerdict struct {
	Platform   string        `json:"platform"`
	By         string        `json:"by"` // what said how to make it
	Digest     digest.Digest `json:"digest"`
	Rebuilt    digest.Digest `json:"rebuilt,omitempty"`
	Same       bool          `json:"same"`
	Skipped    string        `json:"skipped,omitempty"` // why it was not made again
	Difference *Discrepancy  `json:"difference,omitempty"`
}

// Differs counts the images that came out otherwise.
func (r *Reproduction) Differs() int {
	n := 0
	for _, p := range r.Platforms {
		if !p.Same && p.Skipped == "" {
			n++
		}
	}
	return n
}

// Reproduce makes an image again, without the cache, from what it says of itself or from the record of its build, and compares. Platforms
// whose programs this machine cannot run are skipped; if that is all of them, it is an error. The image that is made has no name.
func (b *Builder) Reproduce(ctx context.Context, opt ReproduceOptions) (*Reproduction, error) {
	out, err := b.reproduce(ctx, opt)
	if err != nil {
		e := *classify(err, CategoryEnvironment)
		if e.Op == "" {
			e.Op = "verify " + opt.Image
		}
		return nil, &e
	}
	return out, nil
}

func (b *Builder) reproduce(ctx context.Context, opt ReproduceOptions) (out *Reproduction, err error) {
	f, err := b.lookup(ctx, opt.Image)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.kind == inStore {
		if err := b.holdImage(f.desc); err != nil {
			return nil, err
		}
	}
	r := &reproducer{b: b, opt: opt, of: f, em: newEmitter(opt.Build.Progress, b.cfg.Now)}
	if err := r.find(ctx); err != nil {
		return nil, err
	}
	out = &Reproduction{Image: opt.Image, Digest: f.desc.Digest}
	for _, c := range r.images {
		v, err := r.verify(ctx, c)
		if err != nil {
			return nil, err
		}
		out.Platforms = append(out.Platforms, *v)
	}
	if skipped := out.Platforms[0].Skipped; skipped != "" && !slices.ContainsFunc(out.Platforms, func(v PlatformVerdict) bool { return v.Skipped == "" }) {
		return nil, &hinted{err: errors.New(skipped), hint: emulatorRemedy}
	}
	return out, nil
}

// reproducer is one Reproduce under way.
type reproducer struct {
	b      *Builder
	opt    ReproduceOptions
	of     *located
	em     *emitter
	images []candidate
}

// candidate is one image, with what is known of how it was made.
type candidate struct {
	desc     ocispec.Descriptor
	platform string
	index    bool // it is one of several
	recipe   *recipe
}

// find lists the images, and reads what says how they were made before any is.
func (r *reproducer) find(ctx context.Context) error {
	idx, err := r.list(ctx)
	if err != nil {
		return err
	}
	if err := r.only(); err != nil {
		return err
	}
	for i := range r.images {
		c := &r.images[i]
		switch {
		case r.opt.Metadata != nil:
			c.recipe, err = metadataRecipe(r.opt.Metadata, c.platform, r.of.desc.Digest)
		case r.opt.Record != "":
			c.recipe, err = r.recorded()
		default:
			c.recipe, err = r.stated(ctx, idx, c.desc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list finds the images of an index, or the only one.
func (r *reproducer) list(ctx context.Context) (idx ocispec.Index, err error) {
	f := r.of
	if !isIndex(f.desc.MediaType) {
		one := *f
		_, img, err := one.parts(ctx, "")
		r.images = []candidate{{desc: f.desc, platform: platformText(img.Platform)}}
		return idx, err
	}
	raw, err := f.document(ctx, f.desc)
	if err != nil {
		return idx, err
	}
	if idx, err = image.ParseIndex(raw, f.desc.MediaType); err != nil {
		return idx, fmt.Errorf("index %s: %w", f.desc.Digest, err)
	}
	for _, d := range idx.Manifests {
		switch {
		case image.IsAttestation(d):
		case isIndex(d.MediaType) || d.Platform == nil:
			return idx, usage{fmt.Errorf("the entry %s of the index is not the image of a platform", d.Digest)}
		case len(r.images) == maxPlatforms:
			return idx, fmt.Errorf("an index of more than %d images: %w", maxPlatforms, image.ErrTooLarge)
		default:
			r.images = append(r.images, candidate{desc: d, platform: platformText(*d.Platform)})
		}
	}
	for i := range r.images {
		r.images[i].index = len(r.images) > 1
	}
	return idx, nil
}

// only keeps the platforms that the user names.
func (r *reproducer) only() error {
	have := r.images
	for _, text := range r.opt.Platforms {
		wanted, err := wantedPlatform(text)
		if err != nil {
			return usage{err}
		}
		if !slices.ContainsFunc(have, func(c candidate) bool { return c.platform == wanted }) {
			return usage{fmt.Errorf("it has no image for %s", wanted)}
		}
	}
	r.images = slices.DeleteFunc(r.images, func(c candidate) bool {
		return len(r.opt.Platforms) > 0 && !slices.ContainsFunc(r.opt.Platforms, func(text string) bool {
			wanted, err := wantedPlatform(text)
			return err == nil && wanted == c.platform
		})
	})
	if len(r.images) == 0 {
		return usage{errors.New("it has no image of a platform")}
	}
	return nil
}

// errTampered says that a statement is not about the image that it came with.
var errTampered = errors.New("refused: the provenance is about another image")

// stated reads the provenance that is beside the image in its index, or refers to it in its registry.
func (r *reproducer) stated(ctx context.Context, idx ocispec.Index, desc ocispec.Descriptor) (*recipe, error) {
	if at, ok := image.AttestationOf(idx, desc); ok {
		if found, err := r.statement(ctx, at, desc); found != nil || err != nil {
			return found, err
		}
	}
	if r.of.kind == inRegistry {
		if found, err := r.referred(ctx, desc); found != nil || err != nil {
			return found, err
		}
	}
	return r.remembered(desc)
}

// maxReferred bounds the documents among what refers to an image that are looked into.
const maxReferred = 20

// referred looks for provenance that was attached to the image; nil without an error for none. What another tool attaches has the type
// of statements in general, and older lists have none.
func (r *reproducer) referred(ctx context.Context, desc ocispec.Descriptor) (*recipe, error) {
	list, err := r.b.registry.Referrers(ctx, r.of.ref, desc.Digest)
	if err != nil {
		return nil, err
	}
	tried := 0
	for _, d := range list {
		if !image.MayState(d) || tried == maxReferred {
			continue
		}
		tried++
		if found, err := r.statement(ctx, d, desc); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil //nolint:nilnil // nobody states anything
}

// statement reads the provenance in an attestation manifest; nil without an error when it has none.
func (r *reproducer) statement(ctx context.Context, at, desc ocispec.Descriptor) (*recipe, error) {
	raw, err := r.of.document(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("read attestation: %w", err)
	}
	m, err := image.ParseManifest(raw, at.MediaType)
	if err != nil {
		return nil, fmt.Errorf("attestation %s: %w", at.Digest, err)
	}
	layer, ok := image.StatementOf(m, slsa1, slsa02)
	if !ok {
		return nil, nil //nolint:nilnil // of something else
	}
	text, err := r.of.document(ctx, layer)
	if err != nil {
		return nil, fmt.Errorf("read provenance: %w", err)
	}
	kind, predicate, subjects, err := image.ParseStatement(text)
	if err != nil {
		return nil, err
	}
	if !about(subjects, desc.Digest) {
		return nil, &Error{Category: CategoryUnsafe, Op: "read provenance " + layer.Digest.String(), Err: errTampered}
	}
	return recipeOf(kind, predicate)
}

// remembered looks for a build of this machine that made the image.
func (r *reproducer) remembered(desc ocispec.Descriptor) (*recipe, error) {
	var found *history.Record
	err := r.b.builds.List(func(rec history.Record) bool {
		if rec.Manifest == r.of.desc.Digest && rec.Inputs != nil {
			found = &rec
		}
		return found == nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, usage{&hinted{
			err:  fmt.Errorf("the image %s has no provenance, and no build of the history made it", desc.Digest),
			hint: "build with --provenance=mode=max, or give --record with the build's --metadata-file",
		}}
	}
	return recipeOfRecord(*found)
}

// metadataRecipe reads what --metadata-file kept of a build.
func metadataRecipe(text []byte, platform string, of digest.Digest) (*recipe, error) {
	var doc map[string]json.RawMessage
	if err := image.ParsePredicate(text, &doc); err != nil {
		return nil, usage{fmt.Errorf("metadata of the build: %w", err)}
	}
	var made digest.Digest
	if err := json.Unmarshal(doc["containerimage.digest"], &made); err != nil || made != of {
		return nil, usage{fmt.Errorf("the metadata is about the image %q, and this is %s", made, of)}
	}
	const key = "buildx.build.provenance"
	predicate := doc[key]
	if predicate == nil {
		predicate = doc[key+"/"+platform]
	}
	if predicate == nil {
		return nil, usage{&hinted{err: errors.New("the metadata has no provenance"), hint: "build with --provenance=mode=max and --metadata-file"}}
	}
	kind := slsa1
	var form struct {
		Definition json.RawMessage `json:"buildDefinition"`
	}
	if json.Unmarshal(predicate, &form) == nil && form.Definition == nil {
		kind = slsa02
	}
	r, err := recipeOf(kind, predicate)
	if err != nil {
		return nil, err
	}
	r.from = "the build's metadata"
	return r, nil
}

// recorded takes the history's word. The record must be of the build that made the image.
func (r *reproducer) recorded() (*recipe, error) {
	rec, err := r.b.builds.Get(r.opt.Record)
	if err != nil {
		return nil, usage{&hinted{err: err, hint: "`gobuild history ls` lists the builds"}}
	}
	if rec.Manifest != r.of.desc.Digest {
		return nil, usage{fmt.Errorf("build %s made the image %s, and this is %s", rec.ID, rec.Manifest, r.of.desc.Digest)}
	}
	return recipeOfRecord(rec)
}

// verify makes one image again and compares.
func (r *reproducer) verify(ctx context.Context, c candidate) (*PlatformVerdict, error) {
	opt, err := r.options(c)
	if err != nil {
		return nil, err
	}
	v := &PlatformVerdict{Platform: c.platform, By: c.recipe.from, Digest: c.desc.Digest}
	res, err := r.b.Build(ctx, opt)
	if errors.Is(err, errNoHandler) || errors.Is(err, errUnfixed) {
		v.Skipped = err.Error()
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.Rebuilt = res.Manifest.Digest
	if v.Same = v.Rebuilt == v.Digest; v.Same {
		return v, nil
	}
	v.Difference, err = r.compare(ctx, c.desc, res.Manifest)
	return v, err
}

// options are those of the build that makes the image again.
func (r *reproducer) options(c candidate) (Options, error) {
	opt := r.opt.Build
	opt.Outputs, opt.Platforms = nil, nil
	if c.index || len(c.recipe.settings["platform"]) > 0 || len(r.opt.Platforms) > 0 {
		opt.Platforms = []string{c.platform}
	}
	missing, err := c.recipe.apply(&opt)
	if err != nil {
		return opt, err
	}
	if len(missing) > 0 {
		return opt, usage{&hinted{
			err:  fmt.Errorf("%s does not have what the build was given: %s", c.recipe.from, strings.Join(missing, "; ")),
			hint: "give it on the command line: gobuild verify IMAGE CONTEXT with the flags of the build",
		}}
	}
	for _, text := range c.recipe.remarks(&opt) {
		r.em.emit(Event{Type: EventNotice, Text: c.platform + ": " + text})
	}
	opt.NoCache, opt.NoCacheFilter, opt.Cutoff, opt.CacheFrom, opt.Index = true, nil, false, nil, false
	opt.Tags, opt.Lock, opt.Attest, opt.Debug, opt.Explain = nil, LockOptions{}, AttestOptions{}, DebugOptions{}, false
	return opt, nil
}
