package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/registry"
	"gobuild/stages"
)

// location is where an image is or goes: a registry, the store, a layout or an archive.
type location struct {
	kind locationKind
	text string
	ref  registry.Reference // of a registry
	path string             // of a layout or an archive
	name string             // in the store, a layout or an archive; "" for the only one
}

type locationKind string

const (
	inRegistry locationKind = "docker"
	inStore    locationKind = "store"
	inLayout   locationKind = "oci" // a directory, or a tar that is recognised by what it is or, when it is to be made, by its name
	inOCITar   locationKind = "oci-archive"
	inDocker   locationKind = "docker-archive"
)

// parseLocation reads SCHEME://REST; a word without a scheme is a name of the given kind.
func parseLocation(text string, bare locationKind) (location, error) {
	p := location{text: text, kind: bare}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		rest = text
	} else if p.kind = locationKind(scheme); scheme == "oci-layout" {
		p.kind = inLayout
	}
	var err error
	switch p.kind {
	case inRegistry:
		if _, statErr := os.Stat(rest); !ok && statErr == nil && strings.ContainsAny(rest, "/") {
			return p, usage{&hinted{err: fmt.Errorf("%s is a file or a folder; a name without a scheme is of a registry", text), hint: "write oci://" + text + " or docker-archive://" + text}}
		}
		p.ref, err = registry.ParseReference(rest)
	case inStore:
		p.name = rest
	case inLayout, inOCITar:
		p.path, p.name = splitLayout(rest)
	case inDocker:
		p.path, p.name, _ = strings.Cut(rest, ":")
	default:
		kinds := []string{"docker", "store", "oci", "oci-layout", "oci-archive", "docker-archive"}
		hint := "an image is NAME of a registry, store://NAME, oci://PATH[:TAG], oci-archive://FILE[:TAG] or docker-archive://FILE[:NAME]"
		if near := stages.Suggest(scheme, kinds); near != "" {
			hint = "did you mean " + near + "://?"
		}
		return p, usage{&hinted{err: fmt.Errorf("%s: there are no images at %q", text, scheme+"://"), hint: hint}}
	}
	if err == nil && p.path == "" && p.ref.Host == "" && p.name == "" {
		err = errors.New("a name or a path is missing")
	}
	if err != nil {
		return p, usage{fmt.Errorf("%s: %w", text, err)}
	}
	return p, nil
}

// located is an image at a place.
type located struct {
	location
	desc ocispec.Descriptor
	src  image.Fetcher
	as   string // its full name, "" when the place has none
	io.Closer
}

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }

// look finds what a place means. Close the result.
func (b *Builder) look(ctx context.Context, p location) (*located, error) {
	f := &located{location: p, Closer: nothingToClose{}}
	var err error
	switch p.kind {
	case inRegistry:
		f.src, f.as = b.registry.Repository(p.ref), p.ref.String()
		f.desc, err = b.registry.Resolve(ctx, p.ref)
	case inStore:
		f.src = b.store
		f.as, f.desc, err = b.find(p.name)
	default:
		var l *image.Layout
		if l, err = image.OpenLayout(p.path); err != nil {
			return nil, usage{err}
		}
		f.src, f.Closer = l, l
		name := p.name
		if ref, refErr := registry.ParseReference(name); p.kind == inDocker && refErr == nil {
			name = ref.String()
		}
		if f.desc, err = l.Resolve(name); err != nil {
			err = errors.Join(usage{err}, l.Close())
		}
		f.as = f.desc.Annotations["io.containerd.image.name"]
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// choose follows an index to the image of one platform.
func (f *located) choose(ctx context.Context, platform string) error {
	for range maxIndexDepth {
		if !isIndex(f.desc.MediaType) {
			return nil
		}
		raw, err := f.document(ctx, f.desc)
		if err != nil {
			return err
		}
		if f.desc, err = selectPlatform(raw, f.desc.MediaType, platform); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: an index inside an index, %d deep", f.text, maxIndexDepth)
}

// document reads a manifest, an index or a configuration. All places verify what they give.
func (f *located) document(ctx context.Context, desc ocispec.Descriptor) (b []byte, err error) {
	if desc.Size > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, maxDocument, image.ErrTooLarge)
	}
	r, err := f.src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// parts reads manifest and configuration of an image; of an index, those of the platform.
func (f *located) parts(ctx context.Context, platform string) (ocispec.Manifest, stages.Image, error) {
	if err := f.choose(ctx, platform); err != nil {
		return ocispec.Manifest{}, stages.Image{}, err
	}
	raw, err := f.document(ctx, f.desc)
	if err != nil {
		return ocispec.Manifest{}, stages.Image{}, err
	}
	m, err := image.ParseManifest(raw, f.desc.MediaType)
	if err != nil {
		return m, stages.Image{}, fmt.Errorf("manifest %s: %w", f.desc.Digest, err)
	}
	config, err := f.document(ctx, m.Config)
	if err != nil {
		return m, stages.Image{}, err
	}
	img, err := image.ParseConfig(config)
	if err != nil {
		return m, img, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if len(m.Layers) != len(img.RootFS.DiffIDs) {
		return m, img, fmt.Errorf("image %s: %d layers but %d diff IDs: %w", f.desc.Digest, len(m.Layers), len(img.RootFS.DiffIDs), image.ErrMalformed)
	}
	return m, img, nil
}

// isTar says that a layout is a file: one that is there, or is to be made under a name that says so.
func (p location) isTar() bool {
	if p.kind == inOCITar {
		return true
	}
	if info, err := os.Stat(p.path); err == nil {
		return !info.IsDir()
	}
	return slices.ContainsFunc([]string{".tar", ".oci"}, func(end string) bool { return strings.HasSuffix(p.path, end) })
}
