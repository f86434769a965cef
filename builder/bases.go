package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/registry"
	"gobuild/stages"
	"gobuild/store"
)

// base is a resolved base image: its configuration is known, its layers are fetched when somebody needs their bytes.
type base struct {
	name     string
	manifest ocispec.Descriptor
	image    stages.Image
	layers   []*fsLayer
	dir      bool // a named context that is a plain directory

	ref         string            // full name in a registry, "" for an image from elsewhere
	annotations map[string]string // of the manifest
}

// fetcher gives the bytes of a blob from where a base image came from. It need not verify them.
type fetcher func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)

// origin is where the parts of an image come from when the store lacks them. Either may be nil. A registry serves
// manifests by another endpoint than blobs, and they are in the store before load is called.
type origin struct{ manifests, blobs fetcher }

// resolve finds the image that a plan names.
func (bd *build) resolve(ctx context.Context, ref stages.BaseRef) (found *base, err error) {
	err = guard(func() error { // each is resolved in a goroutine of its own
		found, err = bd.findBase(ctx, ref)
		return err
	})
	return found, err
}

func (bd *build) findBase(ctx context.Context, ref stages.BaseRef) (*base, error) {
	if ref.Context != "" {
		return bd.resolveContext(ctx, ref)
	}
	return bd.resolveLocked(ctx, ref.Name, ref.Platform)
}

// resolveLocked finds what a reference means, and compares it with the lock file.
func (bd *build) resolveLocked(ctx context.Context, name, platform string) (*base, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, usage{err}
	}
	n := lockName{kind: "image", name: ref.String(), of: platform}
	if d := bd.opt.pins.pinned(n); d != "" {
		found, err := bd.resolvePinned(ctx, ref, d, platform)
		if err != nil {
			return nil, err
		}
		found.ref = ref.String()
		return found, bd.lock.note(n, d.String())
	}
	found, err := bd.resolveReference(ctx, name, platform, bd.opt.Pull)
	if err != nil {
		return nil, err
	}
	found.ref = ref.String()
	return found, bd.lock.note(n, found.manifest.Digest.String())
}

func (bd *build) resolveContext(ctx context.Context, ref stages.BaseRef) (*base, error) {
	value := bd.opt.Contexts[ref.Context]
	switch {
	case strings.HasPrefix(value, "docker-image://"):
		return bd.resolveLocked(ctx, strings.TrimPrefix(value, "docker-image://"), ref.Platform)
	case strings.HasPrefix(value, "oci-layout://"):
		found, err := bd.resolveLayout(ctx, strings.TrimPrefix(value, "oci-layout://"), ref.Platform)
		if err != nil {
			return nil, err
		}
		// By the name of the context: the folder may be elsewhere on the next machine.
		return found, bd.lock.note(lockName{kind: "layout", name: ref.Context, of: ref.Platform}, found.manifest.Digest.String())
	default:
		return &base{name: ref.Name, dir: true}, nil
	}
}

// splitLayout takes DIR[:tag][@digest] apart (FEATURES C12).
func splitLayout(value string) (path, name string) {
	if at := strings.LastIndex(value, "@"); at > 0 {
		dir := value[:at]
		if colon := strings.LastIndex(dir, ":"); colon > strings.LastIndex(dir, "/") {
			dir = dir[:colon]
		}
		return dir, value[at+1:]
	}
	if colon := strings.LastIndex(value, ":"); colon > strings.LastIndex(value, "/") {
		return value[:colon], value[colon+1:]
	}
	return value, ""
}

func (bd *build) resolveLayout(ctx context.Context, value, platform string) (*base, error) {
	path, name := splitLayout(value)
	layout, err := image.OpenLayout(path)
	if err != nil {
		return nil, usage{err}
	}
	bd.mu.Lock()
	bd.open = append(bd.open, layout)
	bd.mu.Unlock()
	desc, err := layout.Resolve(name)
	if err != nil {
		return nil, usage{err}
	}
	return bd.load(ctx, filepath.Base(path), desc, platform, origin{manifests: layout.Fetch, blobs: layout.Fetch})
}

// resolveReference follows the pull policy (FEATURES J2): a name that was built or pulled before needs no network by default.
func (b *Builder) resolveReference(ctx context.Context, name, platform string, policy PullPolicy) (*base, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, usage{err}
	}
	if policy == "" {
		policy = PullMissing
	}
	if policy == PullMissing || policy == PullNever || ref.Digest != "" {
		found, err := b.known(ctx, ref, platform)
		if found != nil || err != nil {
			return found, err
		}
	}
	if policy == PullNever {
		return nil, &hinted{
			err:  usage{fmt.Errorf("%s is not in the store, and --pull=never forbids to ask its registry", ref)},
			hint: "build without --pull=never, or run `gobuild pull " + ref.Familiar() + "` first",
		}
	}
	if policy == PullNewer && b.cfg.Offline {
		if stored, err := b.known(ctx, ref, platform); stored != nil || err != nil {
			b.notice(fmt.Sprintf("--offline: the copy of %s in the store is used", ref.Familiar()))
			return stored, err
		}
	}
	found, err := b.pullBase(ctx, ref, platform)
	if err == nil || policy != PullNewer {
		return found, err
	}
	var remote *registry.Error
	if !errors.As(err, &remote) {
		return nil, err
	}
	stored, knownErr := b.known(ctx, ref, platform)
	if stored == nil || knownErr != nil {
		return nil, err
	}
	b.notice(fmt.Sprintf("%s could not be asked about %s (%v): the copy in the store is used", ref.Host, ref.Familiar(), err))
	return stored, nil
}

// refRecord remembers what a reference meant, so that the next build need not ask.
type refRecord struct {
	Manifest ocispec.Descriptor `json:"manifest"` // of the platform's image manifest
}

func refKey(ref registry.Reference, platform string) cache.Key {
	return cache.NewKey("ref").Add("name", ref.String()).Add("platform", platform).Key()
}

// known looks in the store's own tags, then in what was pulled before. Nil, nil: neither has it.
func (b *Builder) known(ctx context.Context, ref registry.Reference, platform string) (*base, error) {
	if desc, err := b.store.Resolve(ref.String()); err == nil {
		found, err := b.load(ctx, ref.Familiar(), desc, platform, b.fetchFrom(ref))
		if err == nil {
			return found, nil
		}
		if !isMissingBlob(err) {
			return nil, err
		}
	}
	var rec refRecord
	_, ok, err := b.cache.Lookup(refKey(ref, platform), &rec)
	if err != nil || !ok {
		return nil, err
	}
	found, err := b.load(ctx, ref.Familiar(), rec.Manifest, platform, b.fetchFrom(ref))
	if isMissingBlob(err) {
		return nil, nil // pruned: ask the registry again
	}
	return found, err
}

// fetchFrom fetches a base's blobs by digest from the repository that its name says.
func (b *Builder) fetchFrom(ref registry.Reference) origin {
	return origin{blobs: func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		if err := b.reach("fetch a part of " + ref.Familiar()); err != nil {
			return nil, err
		}
		return b.registry.Blob(ctx, ref, desc)
	}}
}

func (b *Builder) pullBase(ctx context.Context, ref registry.Reference, platform string) (*base, error) {
	if err := b.reach("ask the registry for " + ref.Familiar()); err != nil {
		return nil, err
	}
	desc, err := b.registry.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if desc, err = b.fetchManifest(ctx, ref, desc, platform); err != nil {
		return nil, err
	}
	found, err := b.load(ctx, ref.Familiar(), desc, platform, b.fetchFrom(ref))
	if err != nil {
		return nil, err
	}
	err = b.cache.Put(refKey(ref, platform), "ref "+ref.String(), refRecord{Manifest: desc})
	return found, err
}

// maxIndexDepth bounds an index inside an index (HOSTILE H-43).
const maxIndexDepth = 3

// fetchManifest brings the image manifest for a platform into the store, through an index if the reference is one.
func (b *Builder) fetchManifest(ctx context.Context, ref registry.Reference, desc ocispec.Descriptor, platform string) (ocispec.Descriptor, error) {
	for range maxIndexDepth {
		raw, mediaType, err := b.registry.Manifest(ctx, ref, desc.Digest)
		if err != nil {
			return desc, err
		}
		if _, err := b.putBytes(raw); err != nil {
			return desc, err
		}
		desc.MediaType, desc.Size = mediaType, int64(len(raw))
		if !isIndex(mediaType) {
			return desc, nil
		}
		if desc, err = selectPlatform(raw, mediaType, platform); err != nil {
			return desc, err
		}
	}
	return desc, fmt.Errorf("%s: an index inside an index, %d deep", ref, maxIndexDepth)
}

// selectPlatform finds an index's image for a platform; "" is the host's, or else the first.
func selectPlatform(raw []byte, mediaType, platform string) (ocispec.Descriptor, error) {
	idx, err := image.ParseIndex(raw, mediaType)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if platform == "" {
		_, host, err := platformsOf("")
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		found, err := image.SelectPlatform(idx, host)
		if have := image.Platforms(idx); errors.Is(err, image.ErrNoPlatform) && len(have) > 0 {
			if first, parseErr := platforms.Parse(have[0]); parseErr == nil {
				return image.SelectPlatform(idx, first)
			}
		}
		return found, err
	}
	want, err := platforms.Parse(platform)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return image.SelectPlatform(idx, want)
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// errMissingBlob says that the store has a name whose bytes are gone.
var errMissingBlob = errors.New("blob is not in the store")

func isMissingBlob(err error) bool { return errors.Is(err, errMissingBlob) }

// maxDocument bounds a manifest, index or configuration (HOSTILE, Bounds).
const maxDocument = 8 << 20

// document reads a small blob from the store, or fetches it there first.
func (b *Builder) document(ctx context.Context, desc ocispec.Descriptor, fetch fetcher) ([]byte, error) {
	_, ok, err := b.hasBlob(desc.Digest)
	if err != nil {
		return nil, err
	}
	if !ok {
		if fetch == nil {
			return nil, fmt.Errorf("%w: %s", errMissingBlob, desc.Digest)
		}
		if err := b.fetchBlob(ctx, desc, fetch, nil); err != nil {
			return nil, err
		}
	}
	return b.store.ReadAll(desc.Digest, maxDocument)
}

// fetchBlob fetches a blob, and once more after wrong bytes: another server may have the right ones (FEATURES J8). Each attempt is
// told to begun, unless that is nil.
func (b *Builder) fetchBlob(ctx context.Context, desc ocispec.Descriptor, fetch fetcher, begun func(*store.Incoming)) error {
	err := b.fetchOnce(ctx, desc, fetch, begun)
	if errors.Is(err, registry.ErrContent) && ctx.Err() == nil {
		err = b.fetchOnce(ctx, desc, fetch, begun)
	}
	return err
}

func (b *Builder) fetchOnce(ctx context.Context, desc ocispec.Descriptor, fetch fetcher, begun func(*store.Incoming)) error {
	r, err := fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	return b.store.PutWatched(ctx, desc, r, begun)
}

// descend follows an index to the manifest for a platform, and reads that.
func (b *Builder) descend(ctx context.Context, desc ocispec.Descriptor, platform string, from origin) (ocispec.Descriptor, []byte, error) {
	for range maxIndexDepth + 1 {
		raw, err := b.document(ctx, desc, from.manifests)
		if err != nil || !isIndex(desc.MediaType) {
			return desc, raw, err
		}
		if desc, err = selectPlatform(raw, desc.MediaType, platform); err != nil {
			return desc, nil, err
		}
	}
	return desc, nil, fmt.Errorf("an index inside an index, %d deep", maxIndexDepth)
}

// load reads manifest and configuration of an image whose manifest is in the store or can be fetched.
func (b *Builder) load(ctx context.Context, name string, desc ocispec.Descriptor, platform string, from origin) (*base, error) {
	desc, raw, err := b.descend(ctx, desc, platform, from)
	if err != nil {
		return nil, err
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	rawConfig, err := b.document(ctx, m.Config, from.blobs)
	if err != nil {
		return nil, err
	}
	img, err := image.ParseConfig(rawConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if err := image.CheckImage(desc, m, img); err != nil {
		return nil, fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	layers, err := baseLayers(m, img, from.blobs)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	for _, l := range layers { // those that are here stay here
		if _, _, err := b.hasBlob(l.desc.Digest); err != nil {
			return nil, err
		}
	}
	return &base{name: name, manifest: desc, image: img, layers: layers, annotations: m.Annotations}, nil
}

// baseLayers pairs descriptors with diff IDs and names each layer's directory by its chain ID (OCI image-spec config.md, "Layer ChainID").
func baseLayers(m ocispec.Manifest, img stages.Image, fetch fetcher) ([]*fsLayer, error) {
	if len(m.Layers) != len(img.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%d layers but %d diff IDs", len(m.Layers), len(img.RootFS.DiffIDs))
	}
	var chain digest.Digest
	layers := make([]*fsLayer, 0, len(m.Layers))
	for i, desc := range m.Layers {
		diffID := img.RootFS.DiffIDs[i]
		chain = chainOf(chain, diffID)
		layers = append(layers, newBaseLayer(desc, diffID, chain, fetch))
	}
	return layers, nil
}

// chainOf is the chain ID of a layer above another's, which is "" for none.
func chainOf(below, diffID digest.Digest) digest.Digest {
	if below == "" {
		return diffID
	}
	return digest.FromString(below.String() + " " + diffID.String())
}
