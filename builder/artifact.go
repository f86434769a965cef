package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/registry"
)

// Attachment is what AttachArtifact puts beside an image in its registry (FEATURES M5): an artifact whose subject is the image.
type Attachment struct {
	Image        string // in a registry
	ArtifactType string // its media type, "" is refused
	Files        []AttachedFile
	Annotations  map[string]string // of the artifact
	Progress     func(Event)
}

// AttachedFile is one of its layers.
type AttachedFile struct {
	Path      string
	MediaType string // "": application/octet-stream
}

// maxAttached bounds the files of one artifact.
const maxAttached = 100

// AttachArtifact pushes the artifact by its digest, which it returns. Registries without the referrers API get the tag that takes its place.
func (b *Builder) AttachArtifact(ctx context.Context, a Attachment) (digest.Digest, error) {
	em := newEmitter(a.Progress, b.cfg.Now)
	defer b.during(em)()
	d, err := b.attachArtifact(ctx, a, em)
	if err != nil {
		e := *classify(err, CategoryRemote)
		if e.Op == "" {
			e.Op = "attach to " + a.Image
		}
		return "", &e
	}
	return d, nil
}

func (b *Builder) attachArtifact(ctx context.Context, a Attachment, em *emitter) (digest.Digest, error) {
	p, err := parseLocation(a.Image, inRegistry)
	switch {
	case err != nil:
		return "", err
	case p.kind != inRegistry:
		return "", usage{fmt.Errorf("%s: artifacts are attached to images in registries", a.Image)}
	case len(a.Files) == 0 || len(a.Files) > maxAttached:
		return "", usage{fmt.Errorf("%d files, want 1 to %d", len(a.Files), maxAttached)}
	}
	if err := b.reach("attach an artifact"); err != nil {
		return "", err
	}
	subject, err := b.registry.ResolveOrigin(ctx, p.ref)
	if err != nil {
		return "", err
	}
	empty := []byte("{}")
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: a.ArtifactType, Annotations: a.Annotations,
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Config:  ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromBytes(empty), Size: int64(len(empty))},
	}
	ref := p.ref
	ref.Tag, ref.Digest = "", subject.Digest
	repo := b.registry.Repository(ref)
	for _, f := range a.Files {
		layer, err := attachFile(ctx, repo, f, em)
		if err != nil {
			return "", err
		}
		m.Layers = append(m.Layers, layer)
	}
	if err := pushMissing(ctx, repo, m.Config, bytes.NewReader(empty)); err != nil {
		return "", err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return desc.Digest, repo.Push(ctx, desc, bytes.NewReader(raw))
}

func pushMissing(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor, r io.ReadSeeker) error {
	if there, err := repo.Exists(ctx, desc); there || err != nil {
		return err
	}
	return repo.Push(ctx, desc, r)
}

// attachFile sends one file. It is read twice: its digest comes before its bytes. One that changes between is refused by the registry.
func attachFile(ctx context.Context, repo *registry.Repository, f AttachedFile, em *emitter) (desc ocispec.Descriptor, err error) {
	if info, err := os.Stat(f.Path); err != nil {
		return desc, usage{err}
	} else if !info.Mode().IsRegular() { // a FIFO would hang
		return desc, usage{fmt.Errorf("%s is not a file", f.Path)}
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return desc, usage{err}
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	digester := digest.SHA256.Digester()
	size, err := io.Copy(digester.Hash(), file)
	if err != nil {
		return desc, fmt.Errorf("read %s: %w", f.Path, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return desc, fmt.Errorf("read %s: %w", f.Path, err)
	}
	desc = ocispec.Descriptor{
		MediaType: f.MediaType, Digest: digester.Digest(), Size: size, Annotations: map[string]string{ocispec.AnnotationTitle: filepath.Base(f.Path)},
	}
	if desc.MediaType == "" {
		desc.MediaType = "application/octet-stream"
	}
	if err := pushMissing(ctx, repo, desc, file); err != nil {
		return desc, err
	}
	em.emit(Event{Type: EventTransfer, Text: "attach " + short(desc.Digest), Bytes: size, Total: size})
	return desc, nil
}
