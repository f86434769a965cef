package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/registry"
)

// Indexes that are put together from images, as docker manifest and buildah manifest do (FEATURES J12). They lie in the store, with all
// that they lead to, so that pushing them needs nothing else.

// ManifestOptions say what gobuild manifest create and add put into an index.
type ManifestOptions struct {
	Name        string   // of the index in the store
	Images      []string // names in the store or else of registries, or places as for Copy
	Amend       bool     // what the index has stays; it must not be there otherwise
	All         bool     // of an index all images, with what is stated about them; else the one for this machine
	Annotations map[string]string
	Progress    func(Event)
}

// CreateManifest makes an index of images, or adds to one. Of an image that it has, the entry is replaced.
func (b *Builder) CreateManifest(ctx context.Context, opt ManifestOptions) (digest.Digest, error) {
	em := newEmitter(opt.Progress, b.cfg.Now)
	defer b.during(em)()
	return b.editManifest(ctx, "create manifest", opt.Name, func(name string) (*ocispec.Index, error) {
		idx, err := b.indexNamed(name)
		missing := errors.Is(err, errNoIndex)
		switch {
		case missing:
			idx = &ocispec.Index{}
		case err != nil:
			return nil, err
		case !opt.Amend:
			return nil, usage{&hinted{err: fmt.Errorf("%s is there already", name), hint: "add to it with --amend, or remove it: gobuild rmi " + name}}
		}
		for _, text := range opt.Images {
			entries, err := b.bringEntries(ctx, text, opt.All, em)
			if err != nil {
				return nil, err
			}
			idx.Manifests = merge(idx.Manifests, entries)
		}
		idx.Annotations = withAnnotations(idx.Annotations, opt.Annotations)
		return idx, nil
	})
}

// AddToManifest adds images to an index that is there. The annotations are those of their entries.
func (b *Builder) AddToManifest(ctx context.Context, opt ManifestOptions) (digest.Digest, error) {
	em := newEmitter(opt.Progress, b.cfg.Now)
	defer b.during(em)()
	return b.editManifest(ctx, "add to manifest", opt.Name, func(name string) (*ocispec.Index, error) {
		idx, err := b.indexNamed(name)
		if err != nil {
			return nil, err
		}
		for _, text := range opt.Images {
			entries, err := b.bringEntries(ctx, text, opt.All, em)
			if err != nil {
				return nil, err
			}
			for i := range entries {
				entries[i].Annotations = withAnnotations(entries[i].Annotations, opt.Annotations)
			}
			idx.Manifests = merge(idx.Manifests, entries)
		}
		return idx, nil
	})
}

// ManifestIndex reads an index of the store.
func (b *Builder) ManifestIndex(name string) (*ocispec.Index, error) {
	idx, err := b.indexNamed(name)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	return idx, nil
}

// AnnotateOptions change what an index says of an image in it, or of itself. Zero values change nothing.
type AnnotateOptions struct {
	Name        string // of the index in the store
	Image       string // its digest, or enough of its beginning, or a name of it; "" the index itself, which takes annotations alone
	OS          string
	Arch        string
	Variant     string
	OSVersion   string
	OSFeatures  []string
	Annotations map[string]string
}

// AnnotateManifest changes an entry of an index.
func (b *Builder) AnnotateManifest(ctx context.Context, opt AnnotateOptions) (digest.Digest, error) {
	return b.editManifest(ctx, "annotate manifest", opt.Name, func(name string) (*ocispec.Index, error) {
		idx, err := b.indexNamed(name)
		if err != nil {
			return nil, err
		}
		if opt.Image == "" {
			idx.Annotations = withAnnotations(idx.Annotations, opt.Annotations)
			return idx, nil
		}
		i, err := b.entryOf(ctx, idx, opt.Image)
		if err != nil {
			return nil, err
		}
		d := &idx.Manifests[i]
		d.Annotations = withAnnotations(d.Annotations, opt.Annotations)
		p := ocispec.Platform{}
		if d.Platform != nil {
			p = *d.Platform
		}
		p.OS, p.Architecture, p.Variant, p.OSVersion = cmp.Or(opt.OS, p.OS), cmp.Or(opt.Arch, p.Architecture), cmp.Or(opt.Variant, p.Variant), cmp.Or(opt.OSVersion, p.OSVersion)
		if len(opt.OSFeatures) > 0 {
			p.OSFeatures = opt.OSFeatures
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, usage{errors.New("a platform has an operating system and an architecture")}
		}
		d.Platform = &p
		return idx, nil
	})
}

// RemoveFromManifest takes an image out of an index, and what is stated about it.
func (b *Builder) RemoveFromManifest(ctx context.Context, name, text string) (digest.Digest, error) {
	return b.editManifest(ctx, "remove from manifest", name, func(name string) (*ocispec.Index, error) {
		idx, err := b.indexNamed(name)
		if err != nil {
			return nil, err
		}
		i, err := b.entryOf(ctx, idx, text)
		if err != nil {
			return nil, err
		}
		gone := idx.Manifests[i]
		about, stated := image.AttestationOf(*idx, gone)
		idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
			return d.Digest == gone.Digest || stated && d.Digest == about.Digest
		})
		return idx, nil
	})
}

// editManifest puts a changed index under its name.
func (b *Builder) editManifest(ctx context.Context, op, text string, edit func(name string) (*ocispec.Index, error)) (digest.Digest, error) {
	d, err := func() (digest.Digest, error) {
		leave, err := b.enter(ctx)
		if err != nil {
			return "", err
		}
		defer leave()
		ref, err := registry.ParseReference(text)
		if err != nil || ref.Digest != "" {
			return "", usage{cmp.Or(err, errors.New("a digest cannot be chosen"))}
		}
		idx, err := edit(ref.String())
		if err != nil {
			return "", err
		}
		if len(idx.Manifests) > maxManifestEntries {
			return "", fmt.Errorf("an index of more than %d entries: %w", maxManifestEntries, image.ErrTooLarge)
		}
		desc, raw, err := image.AssembleIndex(idx.Manifests, idx.Annotations, false)
		if err != nil {
			return "", err
		}
		if _, err := b.putBytes(raw); err != nil {
			return "", err
		}
		return desc.Digest, b.store.Tag(ref.String(), desc)
	}()
	if err != nil {
		e := *classify(err, CategoryEnvironment)
		if e.Op == "" {
			e.Op = op + " " + text
		}
		return "", &e
	}
	return d, nil
}

// maxManifestEntries bounds an index that is put together: readers take a thousand.
const maxManifestEntries = 1000

// errNoIndex says that the store has no index of a name.
var errNoIndex = errors.New("the store has no index of that name")

// indexNamed reads an index of the store and holds all that it leads to.
func (b *Builder) indexNamed(name string) (*ocispec.Index, error) {
	_, desc, err := b.find(name)
	if err != nil {
		return nil, usage{&hinted{err: fmt.Errorf("%s: %w", name, errNoIndex), hint: "gobuild manifest create " + name + " IMAGE... makes one"}}
	}
	if !isIndex(desc.MediaType) {
		return nil, usage{&hinted{err: fmt.Errorf("%s is one image, not an index", name), hint: "make an index of it under another name: gobuild manifest create NAME " + name}}
	}
	if err := b.holdImage(desc); err != nil {
		return nil, err
	}
	raw, err := b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		return nil, err
	}
	idx, err := image.ParseIndex(raw, desc.MediaType)
	return &idx, err
}

// bringEntries copies an image into the store, and says what its entries in an index are.
func (b *Builder) bringEntries(ctx context.Context, text string, all bool, em *emitter) (list []ocispec.Descriptor, err error) {
	f, err := b.lookAnywhere(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !isIndex(f.desc.MediaType) || !all {
		d, err := f.entry(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		list = []ocispec.Descriptor{d}
	} else {
		raw, err := f.document(ctx, f.desc)
		if err != nil {
			return nil, err
		}
		idx, err := image.ParseIndex(raw, f.desc.MediaType)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		list = idx.Manifests
	}
	for _, d := range list {
		if err := image.Copy(ctx, f.src, heldStore{b}, bareDescriptor(d), em.copyOptions("copy")); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return list, nil
}

// lookAnywhere takes a name without a scheme from the store if it is there, else from its registry.
func (b *Builder) lookAnywhere(ctx context.Context, text string) (*located, error) {
	if !strings.Contains(text, "://") {
		if name, desc, err := b.find(text); err == nil {
			if err := b.holdImage(desc); err != nil {
				return nil, err
			}
			return &located{location: location{kind: inStore, text: text, name: name}, desc: desc, src: b.store, as: name, Closer: nothingToClose{}}, nil
		}
	}
	p, err := parseLocation(text, inRegistry)
	if err != nil {
		return nil, err
	}
	if p.kind == inRegistry {
		if err := b.reach("ask the registry for " + p.ref.Familiar()); err != nil {
			return nil, err
		}
	}
	return b.look(ctx, p)
}

// entry is the descriptor of one image with its platform, as an index has it.
func (f *located) entry(ctx context.Context) (ocispec.Descriptor, error) {
	one := *f
	_, img, err := one.parts(ctx, "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := bareDescriptor(one.desc)
	d.Platform = &ocispec.Platform{
		OS: cmp.Or(img.OS, "linux"), Architecture: img.Architecture, Variant: img.Variant, OSVersion: img.OSVersion, OSFeatures: img.OSFeatures,
	}
	if d.Platform.Architecture == "" {
		_, host, err := platformsOf("")
		d.Platform.Architecture = host.Architecture
		return d, err
	}
	return d, nil
}

// merge replaces the entries of the same images, and adds the others before what is stated about images (FEATURES L4).
func merge(list, more []ocispec.Descriptor) []ocispec.Descriptor {
	list = slices.Clone(list)
	for _, d := range more {
		if i := slices.IndexFunc(list, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }); i >= 0 {
			list[i] = d
		} else {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int {
		rank := map[bool]int{true: 1}
		return cmp.Compare(rank[image.IsAttestation(a)], rank[image.IsAttestation(b)])
	})
	return list
}

func withAnnotations(have, more map[string]string) map[string]string {
	if len(more) == 0 {
		return have
	}
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	return all
}

// entryOf finds an entry by digest, or by a name that leads to it.
func (b *Builder) entryOf(ctx context.Context, idx *ocispec.Index, text string) (int, error) {
	find := func(fits func(digest.Digest) bool) (int, bool) {
		found := -1
		for i, d := range idx.Manifests {
			if fits(d.Digest) {
				if found >= 0 && idx.Manifests[found].Digest != d.Digest {
					return -1, false
				}
				found = i
			}
		}
		return found, found >= 0
	}
	if idForm(text) {
		begin := "sha256:" + strings.TrimPrefix(text, "sha256:")
		if i, ok := find(func(d digest.Digest) bool { return strings.HasPrefix(d.String(), begin) }); ok {
			return i, nil
		}
	}
	none := usage{&hinted{err: fmt.Errorf("%s is not in the index", text), hint: "gobuild manifest inspect lists the digests in it"}}
	if ref, err := registry.ParseReference(text); err == nil && ref.Digest != "" {
		if i, ok := find(func(d digest.Digest) bool { return d == ref.Digest }); ok {
			return i, nil
		}
		return 0, none
	}
	f, err := b.lookAnywhere(ctx, text)
	if err != nil {
		return 0, none
	}
	defer func() { _ = f.Close() }() // read only
	if err := f.choose(ctx, ""); err != nil {
		return 0, err
	}
	if i, ok := find(func(d digest.Digest) bool { return d == f.desc.Digest }); ok {
		return i, nil
	}
	return 0, none
}

// ManifestText is the JSON of an index or manifest at a place; a name without a scheme is of the store, else of its registry.
func (b *Builder) ManifestText(ctx context.Context, text string) (raw []byte, err error) {
	f, err := b.lookAnywhere(ctx, text)
	if err == nil {
		defer func() { err = errors.Join(err, f.Close()) }()
		raw, err = f.document(ctx, f.desc)
	}
	if err != nil {
		return nil, classify(fmt.Errorf("inspect manifest %s: %w", text, err), CategoryRemote)
	}
	return raw, nil
}
