package builder

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/internal/filelock"
	"gobuild/registry"
	"gobuild/stages"
	"gobuild/store"
)

// enter announces a user of the store's blobs to prune, which waits for nobody and takes nothing while there is one.
func (b *Builder) enter(ctx context.Context) (leave func(), err error) {
	lock, err := filelock.Lock(ctx, filepath.Join(b.cfg.Root, "inuse"), filelock.Shared, func(pid int) {
		b.notice(fmt.Sprintf("waiting for process %d, which is pruning", pid))
	})
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	return func() { _ = lock.Release() }, nil // the kernel drops it when the process ends
}

// begin makes a build that is not run, and enters the state directory; end leaves it.
func (b *Builder) begin(ctx context.Context, opt Options) (bd *build, end func(), err error) {
	bd = b.newBuild(opt)
	still := b.during(bd.em)
	leave, err := b.enter(ctx)
	if err != nil {
		bd.close()
		still()
		return nil, nil, classify(err, CategoryEnvironment)
	}
	return bd, func() {
		leave()
		bd.close()
		still()
	}, nil
}

// Plan parses and plans without building; bases are resolved as Build would.
func (b *Builder) Plan(ctx context.Context, opt Options) (*stages.Plan, error) {
	bd, end, err := b.begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := bd.prepare(ctx); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	if len(bd.lanes) > 1 {
		return nil, classify(usage{&hinted{err: errOnePlatform, hint: "give one with --platform"}}, CategoryUsage)
	}
	return bd.lanes[0].plan, nil
}

// ImageInfo is one row of gobuild images.
type ImageInfo struct {
	Name    string        `json:"name"` // full reference with tag
	ID      digest.Digest `json:"id"`   // digest of the configuration, or of an index
	Digest  digest.Digest `json:"digest"`
	Created time.Time     `json:"created"`
	Size    int64         `json:"size"` // bytes of all blobs
}

// Images lists the tags of the store, sorted by name.
func (b *Builder) Images(ctx context.Context) ([]ImageInfo, error) {
	tags, err := b.store.Tags()
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	rows := make([]ImageInfo, 0, len(tags))
	for _, t := range tags {
		row := ImageInfo{Name: t.Name, Digest: t.Desc.Digest}
		m, img, err := b.read(t.Desc)
		if err != nil {
			return nil, classify(fmt.Errorf("read image %s: %w", t.Name, err), CategoryEnvironment)
		}
		row.ID, row.Size = m.Config.Digest, t.Desc.Size+m.Config.Size
		for _, l := range m.Layers {
			row.Size += l.Size
		}
		if isIndex(t.Desc.MediaType) {
			row.ID, row.Size = t.Desc.Digest, b.sizeOf(t.Desc)
		}
		if img.Created != nil {
			row.Created = *img.Created
		}
		rows = append(rows, row)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	return rows, nil
}

// sizeOf is that of all blobs of an image that are in the store.
func (b *Builder) sizeOf(desc ocispec.Descriptor) int64 {
	parts := map[digest.Digest]bool{}
	b.mark(desc, parts)
	var sum int64
	for d := range parts {
		size, _ := b.store.Has(d)
		sum += size
	}
	return sum
}

// read reads manifest and configuration of an image in the store; of an index, those of the host's image, or else of the first.
func (b *Builder) read(desc ocispec.Descriptor) (ocispec.Manifest, stages.Image, error) {
	raw, err := b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		return ocispec.Manifest{}, stages.Image{}, err
	}
	if isIndex(desc.MediaType) {
		child, err := selectPlatform(raw, desc.MediaType, "")
		if err != nil {
			return ocispec.Manifest{}, stages.Image{}, err
		}
		return b.read(child)
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return m, stages.Image{}, err
	}
	config, err := b.store.ReadAll(m.Config.Digest, maxDocument)
	if err != nil {
		return m, stages.Image{}, err
	}
	img, err := image.ParseConfig(config)
	return m, img, err
}

func imageKey(id string) cache.Key { return cache.NewKey("image").Add("id", id).Key() }

// idForm says whether a word can be an image's id, or enough of its beginning.
func idForm(text string) bool {
	hex := strings.TrimPrefix(text, "sha256:")
	return len(hex) >= 6 && len(hex) <= 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// find looks an image of the store up by name, by digest, or by the beginning of its id.
func (b *Builder) find(text string) (name string, desc ocispec.Descriptor, err error) {
	if ref, refErr := registry.ParseReference(text); refErr == nil {
		if desc, err = b.store.Resolve(ref.String()); err == nil {
			return ref.String(), desc, nil
		}
	}
	if idForm(text) {
		if name, desc, ok := b.findID("sha256:" + strings.TrimPrefix(text, "sha256:")); ok {
			return name, desc, nil
		}
	}
	e := classify(fmt.Errorf("no image %q in the store", text), CategoryUsage)
	e.Hint = "`gobuild images` lists them"
	if near := b.nearName(text); near != "" {
		e.Hint = "did you mean " + near + "?"
	}
	return "", desc, e
}

func (b *Builder) findID(id string) (string, ocispec.Descriptor, bool) {
	tags, err := b.store.Tags()
	if err != nil {
		return "", ocispec.Descriptor{}, false
	}
	for _, t := range tags {
		m, _, err := b.read(t.Desc)
		if err == nil && (strings.HasPrefix(m.Config.Digest.String(), id) || strings.HasPrefix(t.Desc.Digest.String(), id)) {
			return t.Name, t.Desc, true
		}
	}
	var rec untaggedRecord
	_, ok, err := b.cache.Lookup(imageKey(id), &rec)
	return "", rec.Manifest, ok && err == nil
}

func (b *Builder) nearName(text string) string {
	tags, err := b.store.Tags()
	if err != nil {
		return ""
	}
	names := make([]string, len(tags))
	for i, t := range tags {
		names[i] = t.Name
		if ref, err := registry.ParseReference(t.Name); err == nil {
			names[i] = ref.Familiar()
		}
	}
	return stages.Suggest(text, names)
}

// LayerInfo is one layer with the instruction that made it.
type LayerInfo struct {
	Digest    digest.Digest `json:"digest"`
	DiffID    digest.Digest `json:"diffID"`
	Size      int64         `json:"size"`
	CreatedBy string        `json:"createdBy"`
}

// Inspection is what gobuild inspect prints.
type Inspection struct {
	Name      string        `json:"name"`
	Digest    digest.Digest `json:"digest"`
	ID        digest.Digest `json:"id"`
	Image     stages.Image  `json:"image"`
	Layers    []LayerInfo   `json:"layers"`
	Platforms []string      `json:"platforms,omitempty"` // of an index
	Manifest  []byte        `json:"-"`                   // raw bytes of the manifest or index
}

// Inspect describes an image of the store, by name, digest or unique id prefix, or of another place: docker://NAME,
// oci://PATH and so on. Of an index it describes the image of a platform, "" for the host's or else the first, and lists all.
func (b *Builder) Inspect(ctx context.Context, text, platform string) (*Inspection, error) {
	out, err := b.inspect(ctx, text, platform)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	return out, nil
}

func (b *Builder) inspect(ctx context.Context, text, platform string) (out *Inspection, err error) {
	wanted, err := wantedPlatform(platform)
	if err != nil {
		return nil, usage{err}
	}
	f, err := b.lookup(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out = &Inspection{Name: f.as, Digest: f.desc.Digest}
	if out.Manifest, err = f.document(ctx, f.desc); err != nil {
		return nil, err
	}
	if isIndex(f.desc.MediaType) {
		idx, err := image.ParseIndex(out.Manifest, f.desc.MediaType)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", f.desc.Digest, err)
		}
		out.Platforms = image.Platforms(idx)
	}
	m, img, err := f.parts(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", text, err)
	}
	out.ID, out.Image, out.Layers = m.Config.Digest, img, layersOf(m, img)
	return out, nil
}

// lookup finds one image; a word without a scheme is of the store.
func (b *Builder) lookup(ctx context.Context, text string) (*located, error) {
	p, err := parseLocation(text, inStore)
	if err != nil {
		return nil, err
	}
	return b.look(ctx, p)
}

// layersOf joins layers with what made them.
func layersOf(m ocispec.Manifest, img stages.Image) []LayerInfo {
	var made []string
	for _, h := range img.History {
		if !h.EmptyLayer {
			made = append(made, h.CreatedBy)
		}
	}
	var rows []LayerInfo
	for i, l := range m.Layers {
		row := LayerInfo{Digest: l.Digest, DiffID: img.RootFS.DiffIDs[i], Size: l.Size}
		if i < len(made) {
			row.CreatedBy = made[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// Tag gives an image of the store one more name.
func (b *Builder) Tag(ctx context.Context, src, dst string) error {
	_, desc, err := b.find(src)
	if err != nil {
		return err
	}
	ref, err := registry.ParseReference(dst)
	if err != nil {
		return classify(usage{fmt.Errorf("tag %s: %w", dst, err)}, CategoryUsage)
	}
	if err := b.holdImage(desc); err != nil {
		return classify(fmt.Errorf("tag %s: %w", src, err), CategoryEnvironment)
	}
	if err := b.store.Tag(ref.String(), desc); err != nil {
		return classify(fmt.Errorf("tag %s: %w", dst, err), CategoryEnvironment)
	}
	return nil
}

// Remove untags names; blobs that nothing names any more go with the next prune.
func (b *Builder) Remove(ctx context.Context, refs []string) ([]string, error) {
	var removed []string
	for _, r := range refs {
		name, _, err := b.find(r)
		if err != nil {
			return removed, err
		}
		if _, err := b.store.Untag(name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return removed, classify(fmt.Errorf("untag %s: %w", name, err), CategoryEnvironment)
		}
		removed = append(removed, name)
	}
	return removed, nil
}

// Push sends an image of the store to its registry, and signs it there with the key, unless that is nil; progress goes to the function,
// which may be nil.
func (b *Builder) Push(ctx context.Context, ref string, key *ecdsa.PrivateKey, progress func(Event)) (digest.Digest, error) {
	em := newEmitter(progress, b.cfg.Now)
	defer b.during(em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return "", classify(err, CategoryEnvironment)
	}
	defer leave()
	name, desc, err := b.find(ref)
	if err != nil {
		return "", err
	}
	if name == "" {
		return "", classify(usage{fmt.Errorf("push %s: the image has no name", ref)}, CategoryUsage)
	}
	if err := b.holdImage(desc); err != nil {
		return "", classify(fmt.Errorf("push %s: %w", ref, err), CategoryEnvironment)
	}
	if err := b.pushTo(ctx, name, desc, em); err != nil {
		return "", classify(err, CategoryRemote)
	}
	if err := b.sign(ctx, key, []string{name}, desc, em); err != nil {
		return "", classify(err, CategoryRemote)
	}
	return desc.Digest, nil
}

// Pull fetches an image into the store under its own name.
func (b *Builder) Pull(ctx context.Context, text, platform string, progress func(Event)) (digest.Digest, error) {
	bd := b.newBuild(Options{Progress: progress})
	defer b.during(bd.em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return "", classify(err, CategoryEnvironment)
	}
	defer leave()
	d, err := bd.pull(ctx, text, platform)
	if err != nil {
		return "", classify(fmt.Errorf("pull %s: %w", text, err), CategoryRemote)
	}
	return d, nil
}

func (bd *build) pull(ctx context.Context, text, platform string) (digest.Digest, error) {
	ref, err := registry.ParseReference(text)
	if err != nil {
		return "", usage{err}
	}
	target, _, err := platformsOf(platform)
	if err != nil {
		return "", usage{err}
	}
	found, err := bd.pullBase(ctx, ref, platformText(target))
	if err != nil {
		return "", err
	}
	if _, err := bd.imageLayers(ctx, baseState(found)); err != nil {
		return "", err
	}
	return found.manifest.Digest, bd.store.Tag(ref.String(), found.manifest)
}
