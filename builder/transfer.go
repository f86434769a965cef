package builder

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/registry"
)

// CopyOptions say what Copy copies. Places are NAME of a registry, store://NAME, oci://PATH[:TAG], oci-archive://FILE[:TAG] or
// docker-archive://FILE[:NAME].
type CopyOptions struct {
	From, To string
	Platform string // "" copies an index whole
	Progress func(Event)
}

// Copy copies an image or an index from one place to another. Its bytes and with them its digest stay the same. It returns
// the digest.
func (b *Builder) Copy(ctx context.Context, opt CopyOptions) (digest.Digest, error) {
	em := newEmitter(opt.Progress, b.cfg.Now)
	defer b.during(em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return "", classify(err, CategoryEnvironment)
	}
	defer leave()
	d, err := b.copyImage(ctx, opt, em)
	if err != nil {
		e := *classify(err, CategoryEnvironment)
		if e.Op == "" {
			e.Op = "copy " + opt.From + " to " + opt.To
		}
		return "", &e
	}
	return d, nil
}

func (b *Builder) copyImage(ctx context.Context, opt CopyOptions, em *emitter) (d digest.Digest, err error) {
	from, err := parseLocation(opt.From, inRegistry)
	if err != nil {
		return "", err
	}
	to, err := parseLocation(opt.To, inRegistry)
	if err != nil {
		return "", err
	}
	f, err := b.look(ctx, from)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if opt.Platform != "" {
		target, _, err := platformsOf(opt.Platform)
		if err != nil {
			return "", usage{err}
		}
		if err := f.choose(ctx, platformText(target)); err != nil {
			return "", err
		}
	}
	if to.kind == inRegistry && to.ref.Digest != "" && to.ref.Digest != f.desc.Digest {
		return "", usage{fmt.Errorf("%s names another digest than that of the image, %s", to.text, f.desc.Digest)}
	}
	return f.desc.Digest, b.put(ctx, f, to, em)
}

// put writes an image to a place.
func (b *Builder) put(ctx context.Context, f *located, to location, em *emitter) error {
	names := to.names(f)
	switch to.kind {
	case inRegistry:
		return b.putRegistry(ctx, f, to.ref, em)
	case inStore:
		ref, err := registry.ParseReference(to.name)
		if err != nil {
			return usage{err}
		}
		if err := image.Copy(ctx, f.src, heldStore{b}, f.desc, em.copyOptions("copy")); err != nil {
			return err
		}
		return b.store.Tag(ref.String(), f.desc)
	case inDocker:
		return writeOutput(Output{Dest: to.path}, func(w io.Writer) error {
			return image.WriteDockerTar(ctx, w, f.src, f.desc, names, nil)
		})
	case inLayout, inOCITar:
	}
	if to.isTar() {
		return writeOutput(Output{Dest: to.path}, func(w io.Writer) error {
			return image.WriteOCITar(ctx, w, f.src, f.desc, names, nil)
		})
	}
	return image.WriteLayout(ctx, to.path, f.src, f.desc, names, nil)
}

// names are what an image is called in a layout or an archive: as the place says, else as it was.
func (p location) names(f *located) []string {
	if p.kind == inDocker && p.name != "" {
		if ref, err := registry.ParseReference(p.name); err == nil {
			return []string{ref.String()}
		}
	}
	was, err := registry.ParseReference(f.as)
	if f.as == "" || err != nil {
		if p.name == "" {
			return nil
		}
		return []string{p.name}
	}
	if was.Digest = ""; p.name != "" {
		was.Tag = p.name
	}
	if was.Tag == "" {
		return nil
	}
	return []string{was.String()}
}

// putRegistry pushes; between two repositories of one registry nothing need travel.
func (b *Builder) putRegistry(ctx context.Context, f *located, ref registry.Reference, em *emitter) error {
	if f.kind == inStore {
		p, err := b.newPush([]string{ref.String()}, em)
		if err != nil {
			return err
		}
		_, err = p.run(ctx, f.desc)
		return err
	}
	repo := b.registry.Repository(ref)
	if f.kind == inRegistry && f.ref.Host == ref.Host {
		repo = repo.WithHolders(func(digest.Digest) string { return f.ref.Path })
	}
	return image.Copy(ctx, f.src, repo, bareDescriptor(f.desc), em.copyOptions("copy"))
}

// bareDescriptor leaves out what a layout says beside the image.
func bareDescriptor(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// Tags lists the tags of a repository in its registry.
func (b *Builder) Tags(ctx context.Context, name string) ([]string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, classify(usage{err}, CategoryUsage)
	}
	list, err := b.registry.Tags(ctx, ref)
	if err != nil {
		return nil, classify(err, CategoryRemote)
	}
	return list, nil
}

// Catalog lists the repositories of a registry.
func (b *Builder) Catalog(ctx context.Context, host string) ([]string, error) {
	name, err := registry.ParseHost(host)
	if err != nil {
		return nil, classify(usage{err}, CategoryUsage)
	}
	list, err := b.registry.Catalog(ctx, name)
	if err != nil {
		return nil, classify(err, CategoryRemote)
	}
	return list, nil
}

// RemoveRemote removes tags, or manifests by digest, from their registries. It says what is gone, also beside an error.
func (b *Builder) RemoveRemote(ctx context.Context, names []string) ([]string, error) {
	var gone []string
	refs := make([]registry.Reference, len(names))
	for i, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return nil, classify(usage{err}, CategoryUsage)
		}
		refs[i] = ref
	}
	for _, ref := range refs {
		if err := b.registry.Delete(ctx, ref); err != nil {
			return gone, classify(err, CategoryRemote)
		}
		gone = append(gone, ref.String())
	}
	return gone, nil
}

// Login checks a login with its registry, and keeps it. It says where.
func (b *Builder) Login(ctx context.Context, l registry.Login, progress func(Event)) (string, error) {
	em := newEmitter(progress, b.cfg.Now)
	defer b.during(em)()
	if err := l.Check(); err != nil {
		return "", classify(usage{err}, CategoryUsage)
	}
	if err := b.registry.CheckLogin(ctx, l); err != nil {
		return "", classify(err, CategoryRemote)
	}
	where, err := l.Save(ctx)
	if err != nil {
		return "", classify(err, CategoryEnvironment)
	}
	return where, nil
}
