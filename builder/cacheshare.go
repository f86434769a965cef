package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/registry"
	"gobuild/snapshot"
)

// CacheShare is one --cache-from or --cache-to: a place outside the state directory where steps are shared (FEATURES I10).
type CacheShare struct {
	Type        string // registry, local, or cache-to: inline
	Ref         string // of a registry
	Dir         string // of a local OCI layout
	Tag         string // in a layout; "" is latest
	Max         bool   // cache-to: the steps of all stages, not only those of the image
	IgnoreError bool   // cache-to: a failed export is a notice
	Insecure    bool   // its registry may be spoken to over plain HTTP; the command line puts it into Config
	Mounts      bool   // of a folder: cache mounts too
	Reset       bool   // cache-to a layout: what is there under the tag is not taken over

	// cache-to: how layers are compressed there; "" is as in the image.
	Compression string
	Level       string // "" is the compression's default
	Force       bool   // also layers that came from another cache
}

// form is how layers are packed there, where the image's are packed as image says.
func (c CacheShare) form(image layerForm) (layerForm, error) {
	if c.Compression == "" && c.Level == "" {
		return image, nil
	}
	return image.compressed(cmp.Or(c.Compression, string(image.compression), "gzip"), c.Level)
}

func (c CacheShare) String() string { return cmp.Or(c.Ref, c.Dir, c.Type) }

// Media types of a shared cache: an OCI artifact whose configuration lists steps, and whose layers are theirs (I11).
const (
	shareArtifact = "application/vnd.gobuild.cache.v1"
	shareConfig   = "application/vnd.gobuild.cache.config.v1+json"
	shareVersion  = 1
)

// maxShared bounds the steps of one shared cache; the oldest go first.
const maxShared = 4000

// shareIndex is the configuration of a shared cache. Steps carry the text of their keys, so that a reader checks them.
type shareIndex struct {
	Version  int            `json:"version"`
	Steps    []sharedStep   `json:"steps"`
	Contents []sharedRecord `json:"contents,omitempty"` // what COPY --from found in stages, so that nobody has to look
	Mounts   []sharedMount  `json:"mounts,omitempty"`
}

type sharedStep struct {
	Key    string      `json:"key"`
	Record stepRecord  `json:"record"`
	Layer  layerRecord `json:"layer"`
	Form   string      `json:"form"` // how the layer was packed

	// Of a step of this build.
	below []snapshot.ID // what it was made upon
	asked bool          // the user wanted it to run
}

type sharedRecord struct {
	Key     string   `json:"key"`
	Payload contents `json:"payload"`
}

// shares is what a build takes from and gives to shared caches.
type shares struct {
	steps    map[digest.Digest]importedStep
	contents map[digest.Digest]contents
	mounts   map[string]importedMount // by the name of their directory

	usedMounts map[string]mountIdentity // of this build's steps

	given      []givenStep // of this build, in the order they were done
	givenFiles map[digest.Digest]sharedRecord
}

type importedStep struct {
	sharedStep
	from   string
	fetch  fetcher
	member bool // this build writes to that cache, too
}

type givenStep struct {
	key   cache.Key
	rec   stepRecord
	l     *fsLayer
	below []snapshot.ID
	asked bool
}

// importShares reads the lists of steps; blobs are fetched when a step needs them. A cache that cannot be had is a notice:
// the build goes on without it.
func (bd *build) importShares(ctx context.Context) {
	bd.shared = shares{
		steps: map[digest.Digest]importedStep{}, contents: map[digest.Digest]contents{}, givenFiles: map[digest.Digest]sharedRecord{},
		mounts: map[string]importedMount{}, usedMounts: map[string]mountIdentity{},
	}
	for _, from := range bd.opt.CacheFrom {
		idx, blobs, err := bd.readShare(ctx, from)
		if err != nil {
			bd.notice(fmt.Sprintf("cache %s is not used: %v", from, err))
			continue
		}
		if from.Mounts {
			bd.importMounts(idx, from, blobs)
		}
		for _, s := range idx.Steps {
			key, err := cache.ParseKey(s.Key)
			if err != nil || !s.plausible() {
				bd.notice(fmt.Sprintf("cache %s has an entry that is not well-formed; it is not used", from))
				continue
			}
			if _, ok := bd.shared.steps[key.Digest()]; !ok {
				bd.shared.steps[key.Digest()] = importedStep{s, from.String(), blobs, bd.member(from)}
			}
		}
		for _, r := range idx.Contents {
			if key, err := cache.ParseKey(r.Key); err == nil && key.Kind() == "content" {
				bd.shared.contents[key.Digest()] = r.Payload
			}
		}
	}
}

// plausible refuses names and digests that would not be ours; bytes are checked when they are fetched and unpacked.
func (s sharedStep) plausible() bool {
	return len(s.Record.ID) == 32 && strings.Trim(string(s.Record.ID), "0123456789abcdef") == "" &&
		(s.Record.As == "" || s.Record.As.Validate() == nil) && s.Layer.Desc.Digest.Validate() == nil && s.Layer.DiffID.Validate() == nil && s.Layer.Desc.Size >= 0
}

func (bd *build) readShare(ctx context.Context, from CacheShare) (shareIndex, fetcher, error) {
	raw, desc, src, err := bd.shareManifest(ctx, from, bd.registry.Resolve)
	if err != nil {
		return shareIndex{}, nil, err
	}
	return bd.readSteps(ctx, raw, desc, src)
}

// readSteps reads the list of a manifest that was found.
func (bd *build) readSteps(ctx context.Context, raw []byte, desc ocispec.Descriptor, src origin) (idx shareIndex, blobs fetcher, err error) {
	if image.IsIndex(desc.MediaType) {
		idx, err = bd.readInline(ctx, raw, desc, src)
		return idx, src.blobs, err
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return idx, nil, err
	}
	if m.ArtifactType == "" && m.Config.MediaType != shareConfig {
		idx, err = bd.readInline(ctx, raw, desc, src)
		return idx, src.blobs, err
	}
	if m.ArtifactType != shareArtifact || m.Config.MediaType != shareConfig {
		return idx, nil, fmt.Errorf("it is not a cache of gobuild but %s", cmp.Or(m.ArtifactType, m.Config.MediaType))
	}
	config, err := bd.document(ctx, m.Config, src.blobs)
	if err != nil {
		return idx, nil, err
	}
	if err := json.Unmarshal(config, &idx); err != nil {
		return idx, nil, fmt.Errorf("read its list of steps: %w", err)
	}
	if idx.Version != shareVersion {
		return idx, nil, fmt.Errorf("its form is version %d, this gobuild knows %d", idx.Version, shareVersion)
	}
	if len(idx.Steps) > maxShared || len(idx.Contents) > maxShared || len(idx.Mounts) > maxSharedMounts {
		return idx, nil, fmt.Errorf("it lists %d steps and %d cache mounts, at most %d and %d are read", len(idx.Steps), len(idx.Mounts), maxShared, maxSharedMounts)
	}
	return idx, src.blobs, nil
}

// resolver finds what a tag of a registry means now.
type resolver func(context.Context, registry.Reference) (ocispec.Descriptor, error)

// shareManifest finds the artifact's manifest.
func (bd *build) shareManifest(ctx context.Context, from CacheShare, resolve resolver) ([]byte, ocispec.Descriptor, origin, error) {
	if from.Type == "local" {
		layout, err := image.OpenLayout(from.Dir)
		if err != nil {
			return nil, ocispec.Descriptor{}, origin{}, err
		}
		bd.mu.Lock()
		bd.open = append(bd.open, layout)
		bd.mu.Unlock()
		desc, err := layout.Resolve(cmp.Or(from.Tag, "latest"))
		if err != nil {
			return nil, desc, origin{}, err
		}
		src := origin{manifests: layout.Fetch, blobs: layout.Fetch}
		raw, err := bd.document(ctx, desc, src.manifests)
		return raw, desc, src, err
	}
	ref, err := registry.ParseReference(from.Ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, origin{}, err
	}
	if err := bd.reach("read it"); err != nil {
		return nil, ocispec.Descriptor{}, origin{}, err
	}
	desc, err := resolve(ctx, ref)
	if err != nil {
		return nil, desc, origin{}, err
	}
	raw, mediaType, err := bd.registry.Manifest(ctx, ref, desc.Digest)
	desc.MediaType = mediaType
	return raw, desc, bd.fetchFrom(ref), err
}

// adopt takes a step from a shared cache into the local one. Its blob stays where it is until somebody needs the bytes.
func (bd *build) adopt(j *job, lineage string) (hit, bool) {
	s, ok := bd.shared.steps[j.key.Digest()]
	if !ok || s.Record.Lineage != lineage {
		return hit{}, false
	}
	l := &fsLayer{
		id: s.Record.ID, created: s.Record.Created, alone: j.alone,
		desc: s.Layer.Desc, diffID: s.Layer.DiffID, fetch: s.fetch, form: s.Form,
	}
	if bd.dry {
		return hit{layer: l, as: s.Record.As, from: "would be imported from " + s.from, took: s.Record.Duration}, true
	}
	// Records of their own: a local build finds the step without this cache once its blob is here. Losing them costs a look-up.
	err := bd.cache.Put(j.key, "imported", s.Record)
	if s.Form == bd.form.text() {
		err = errors.Join(err, bd.cache.Put(bd.layerKey(l), "layer", s.Layer))
	}
	if err != nil {
		bd.notice(fmt.Sprintf("a step of cache %s could not be kept: %v", s.from, err))
	}
	return hit{layer: l, as: s.Record.As, from: "imported from " + s.from, took: s.Record.Duration}, true
}

// give notes a step of this build for export.
func (bd *build) give(g givenStep) {
	if len(bd.opt.CacheTo) == 0 {
		return
	}
	bd.mu.Lock()
	defer bd.mu.Unlock()
	bd.shared.given = append(bd.shared.given, g)
}

func (bd *build) giveContents(key cache.Key, c contents) {
	if len(bd.opt.CacheTo) == 0 {
		return
	}
	bd.mu.Lock()
	defer bd.mu.Unlock()
	bd.shared.givenFiles[key.Digest()] = sharedRecord{key.Text(), c}
}

// exportsAll says whether a cache wants the layers of stages that are not the image's.
func (bd *build) exportsAll() bool {
	for _, c := range bd.opt.CacheTo {
		if c.Max {
			return true
		}
	}
	return false
}

// exportShares writes this build's steps to every --cache-to, together with what is there already.
func (bd *build) exportShares(ctx context.Context) error {
	for _, to := range bd.opt.CacheTo {
		if to.Type == cacheInline {
			if !bd.needsImage() {
				bd.notice("no image is made, so none carries the cache")
			}
			continue
		}
		err := bd.exportShare(ctx, to)
		if err == nil {
			continue
		}
		if !to.IgnoreError {
			return classify(fmt.Errorf("export cache to %s: %w", to, err), CategoryRemote)
		}
		bd.notice(fmt.Sprintf("cache was not exported to %s: %v", to, err))
	}
	return nil
}

// ownIndex waits for the layers of this build and lists them.
func (bd *build) ownIndex(ctx context.Context, to CacheShare) (shareIndex, error) {
	form, err := to.form(bd.form)
	if err != nil {
		return shareIndex{}, err
	}
	bd.mu.Lock()
	given := append([]givenStep(nil), bd.shared.given...)
	files := bd.shared.givenFiles
	bd.mu.Unlock()
	idx := shareIndex{Version: shareVersion}
	for _, g := range given {
		if g.l.packing == nil && g.l.desc.Digest == "" {
			if to.Max {
				return idx, fmt.Errorf("step %s has no layer", g.rec.ID)
			}
			continue // of a stage that the image is not made of
		}
		step := sharedStep{Key: g.key.Text(), Record: g.rec, Layer: layerRecord{Desc: g.l.desc, DiffID: g.l.diffID}, Form: cmp.Or(g.l.form, bd.form.text()), below: g.below, asked: g.asked}
		if g.l.packing != nil {
			rec, err := bd.pack.result(ctx, g.l)
			if err != nil {
				return idx, err
			}
			step.Layer, step.Form = rec, bd.form.text()
		}
		if err := bd.repack(ctx, g.l, &step, form, to.Force); err != nil {
			return idx, fmt.Errorf("compress layer %s for the cache: %w", step.Layer.Desc.Digest, err)
		}
		idx.Steps = append(idx.Steps, step)
	}
	for _, r := range files {
		idx.Contents = append(idx.Contents, r)
	}
	sort.Slice(idx.Contents, func(i, j int) bool { return idx.Contents[i].Key < idx.Contents[j].Key })
	return idx, nil
}

// manifest makes the artifact of a list: each layer once.
func (idx shareIndex) manifest() (ocispec.Manifest, []byte, error) {
	config, err := json.Marshal(idx)
	if err != nil {
		return ocispec.Manifest{}, nil, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: shareArtifact,
		Config:      ocispec.Descriptor{MediaType: shareConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:      []ocispec.Descriptor{},
		Annotations: map[string]string{"dev.gobuild.cache.steps": fmt.Sprint(len(idx.Steps))},
	}
	seen := map[digest.Digest]bool{}
	for _, s := range idx.Steps {
		if d := s.Layer.Desc; !seen[d.Digest] {
			seen[d.Digest] = true
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		}
	}
	for _, s := range idx.Mounts {
		if d := s.Layer; !seen[d.Digest] {
			seen[d.Digest] = true
			m.Layers = append(m.Layers, d)
		}
	}
	return m, config, nil
}
