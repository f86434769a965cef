package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/registry"
	"gobuild/store"
)

// SaveOptions say what Save writes.
type SaveOptions struct {
	Image    string // of the store
	Format   string // docker, oci or oci-dir; "" is docker
	Dest     string // a file, a folder for oci-dir, or - for Out
	Out      io.Writer
	Platform string // of an index: which image; "" the whole index, of which docker's archives have no form
	Progress func(Event)
}

// Save writes an image of the store to an archive that other tools load. It returns the digest.
func (b *Builder) Save(ctx context.Context, opt SaveOptions) (digest.Digest, error) {
	em := newEmitter(opt.Progress, b.cfg.Now)
	defer b.during(em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return "", classify(err, CategoryEnvironment)
	}
	defer leave()
	d, err := b.save(ctx, opt)
	if err != nil {
		e := *classify(err, CategoryEnvironment)
		if e.Op == "" {
			e.Op = "save " + opt.Image
		}
		return "", &e
	}
	return d, nil
}

func (b *Builder) save(ctx context.Context, opt SaveOptions) (digest.Digest, error) {
	wanted, err := wantedPlatform(opt.Platform)
	if err != nil {
		return "", usage{err}
	}
	f, err := b.look(ctx, location{kind: inStore, text: opt.Image, name: opt.Image})
	if err != nil {
		return "", err
	}
	if err := b.holdImage(f.desc); err != nil {
		return "", err
	}
	if wanted != "" {
		if err := f.choose(ctx, wanted); err != nil {
			return "", err
		}
	}
	names := location{kind: inOCITar}.names(f)
	out := Output{Dest: opt.Dest, Out: opt.Out}
	switch opt.Format {
	case "", "docker":
		if isIndex(f.desc.MediaType) {
			return "", usage{&hinted{err: errors.New("it is an index, and docker's archives have no form for that"), hint: "give --platform, or --format oci"}}
		}
		err = writeOutput(out, func(w io.Writer) error { return image.WriteDockerTar(ctx, w, f.src, f.desc, names, nil) })
	case "oci":
		err = writeOutput(out, func(w io.Writer) error { return image.WriteOCITar(ctx, w, f.src, f.desc, names, nil) })
	case "oci-dir":
		if opt.Dest == "-" {
			return "", usage{&hinted{err: errors.New("a folder cannot be written to standard output"), hint: "name it with -o"}}
		}
		err = image.WriteLayout(ctx, opt.Dest, f.src, f.desc, names, nil)
	default:
		err = usage{&hinted{err: fmt.Errorf("there is no format %q", opt.Format), hint: "want docker, oci or oci-dir"}}
	}
	return f.desc.Digest, err
}

// Loaded is an image that Load put into the store.
type Loaded struct {
	Name   string // its full name; "" if the archive gives none
	Digest digest.Digest
	ID     digest.Digest // what it is found by without a name
}

// Load puts the images of an archive, of docker save or an OCI layout, into the store, with their names.
func (b *Builder) Load(ctx context.Context, path string, progress func(Event)) ([]Loaded, error) {
	em := newEmitter(progress, b.cfg.Now)
	defer b.during(em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	defer leave()
	list, err := b.loadFrom(ctx, path, em)
	if err != nil {
		return list, classify(err, CategoryEnvironment)
	}
	return list, nil
}

func (b *Builder) loadFrom(ctx context.Context, path string, em *emitter) (list []Loaded, err error) {
	layout, err := image.OpenLayout(path)
	if err != nil {
		return nil, usage{err}
	}
	defer func() { err = errors.Join(err, layout.Close()) }()
	entries := layout.Images()
	if len(entries) == 0 {
		return nil, usage{fmt.Errorf("load %s: there is no image in it", path)}
	}
	for _, desc := range entries {
		one, err := b.loadOne(ctx, layout, desc, em)
		if err != nil {
			return list, fmt.Errorf("load %s: image %s: %w", path, desc.Digest, err)
		}
		list = append(list, one)
	}
	return list, nil
}

func (b *Builder) loadOne(ctx context.Context, from image.Fetcher, desc ocispec.Descriptor, em *emitter) (Loaded, error) {
	if err := image.Copy(ctx, from, heldStore{b}, desc, em.copyOptions("load")); err != nil {
		return Loaded{}, err
	}
	out := Loaded{Name: nameIn(desc), Digest: desc.Digest}
	desc.Annotations = nil
	if out.Name != "" {
		return out, b.store.Tag(out.Name, desc)
	}
	return out, b.keepByID(desc, &out.ID)
}

// nameIn is the full name of an entry of a layout. A name alone that has no place in it, such as the tag that an OCI layout gives, is
// none: it would be that of another image.
func nameIn(desc ocispec.Descriptor) string {
	for _, text := range []string{desc.Annotations["io.containerd.image.name"], desc.Annotations[ocispec.AnnotationRefName]} {
		if ref, err := registry.ParseReference(text); err == nil && strings.Contains(text, "/") && ref.Digest == "" {
			return ref.String()
		}
	}
	return ""
}

// keepByID makes an image without a name one that commands find by its id, and that stays until a prune takes it.
func (b *Builder) keepByID(desc ocispec.Descriptor, id *digest.Digest) error {
	m, _, err := b.read(desc)
	if err != nil {
		return err
	}
	config := m.Config
	if *id = config.Digest; isIndex(desc.MediaType) {
		*id, config = desc.Digest, ocispec.Descriptor{}
	}
	return b.cache.Put(imageKey(id.String()), "images", untaggedRecord{Manifest: desc, Config: config, Created: b.cfg.Now().UTC()})
}

// Untag takes names from an image of the store, all of them if none are given. The image stays, by its id, until a prune takes it.
func (b *Builder) Untag(ctx context.Context, text string, names []string) ([]string, error) {
	leave, err := b.enter(ctx)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	defer leave()
	_, desc, err := b.find(text)
	if err != nil {
		return nil, err
	}
	gone, err := b.namesOf(desc, names)
	if err != nil {
		return nil, classify(err, CategoryUsage)
	}
	var id digest.Digest
	if err := b.keepByID(desc, &id); err != nil {
		return nil, classify(fmt.Errorf("untag %s: %w", text, err), CategoryEnvironment)
	}
	for i, name := range gone {
		if _, err := b.store.Untag(name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return gone[:i], classify(fmt.Errorf("untag %s: %w", name, err), CategoryEnvironment)
		}
	}
	return gone, nil
}

// namesOf are the names of an image that are wanted; each must be one of its.
func (b *Builder) namesOf(desc ocispec.Descriptor, wanted []string) ([]string, error) {
	tags, err := b.store.Tags()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, t := range tags {
		if t.Desc.Digest == desc.Digest {
			all = append(all, t.Name)
		}
	}
	if len(wanted) == 0 {
		return all, nil
	}
	var list []string
	for _, text := range wanted {
		ref, err := registry.ParseReference(text)
		if err != nil {
			return nil, usage{fmt.Errorf("untag %s: %w", text, err)}
		}
		if !slices.Contains(all, ref.String()) {
			return nil, usage{&hinted{err: fmt.Errorf("%s is no name of this image", ref.Familiar()), hint: "`gobuild images` lists names and ids"}}
		}
		list = append(list, ref.String())
	}
	return list, nil
}
