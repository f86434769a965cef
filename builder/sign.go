package builder

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/cosign"
	"gobuild/registry"
)

// Signatures lie beside the image in its repository, where cosign puts and looks for them (FEATURES M5).

const (
	// maxSignatures bounds those that are read of one image.
	maxSignatures = 100
	// maxSignatureReferrers bounds the documents beside the tag that may have some.
	maxSignatureReferrers = 20
)

// checkSign finds before the build that there will be nothing to sign.
func (opt *Options) checkSign() error {
	pushed := slices.ContainsFunc(opt.Outputs, func(o Output) bool { return o.Type == "registry" || o.Attrs["push"] == "true" })
	if opt.SignKey != nil && !pushed {
		return usage{&hinted{err: errors.New("--sign signs what is pushed, and nothing is"), hint: "add --push, or leave --sign out"}}
	}
	return nil
}

// sign signs an image in each repository that it was pushed to: by digest, since a name may mean something else by now.
func (b *Builder) sign(ctx context.Context, key *ecdsa.PrivateKey, names []string, desc ocispec.Descriptor, em *emitter) error {
	if key == nil {
		return nil
	}
	done := map[string]bool{}
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return usage{err}
		}
		ref.Tag, ref.Digest = "", desc.Digest
		if done[ref.String()] {
			continue
		}
		done[ref.String()] = true
		if err := b.signIn(ctx, key, ref); err != nil {
			return fmt.Errorf("%s is pushed, but not signed: %w", ref.Familiar(), err)
		}
		em.emit(Event{Type: EventNotice, Text: "signed " + ref.Familiar()})
	}
	return nil
}

// signIn adds a signature to those that a repository has of an image. One that it has already is not added.
func (b *Builder) signIn(ctx context.Context, key *ecdsa.PrivateKey, ref registry.Reference) error {
	s, err := cosign.Sign(key, ref.Host+"/"+ref.Path, ref.Digest)
	if err != nil {
		return err
	}
	m, err := b.signaturesIn(ctx, ref)
	if err != nil {
		return err
	}
	layer := ocispec.Descriptor{
		MediaType: cosign.MediaType, Digest: digest.FromBytes(s.Payload), Size: int64(len(s.Payload)), Annotations: map[string]string{cosign.Annotation: s.Value},
	}
	if slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool {
		return l.Digest == layer.Digest && l.Annotations[cosign.Annotation] == s.Value
	}) {
		return nil
	}
	m.Layers = append(m.Layers, layer)
	config, err := signatureConfig(m.Layers)
	if err != nil {
		return err
	}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	at := ref
	at.Tag, at.Digest = cosign.Tag(ref.Digest), ""
	repo := b.registry.Repository(at)
	for _, blob := range []struct {
		desc ocispec.Descriptor
		data []byte
	}{{layer, s.Payload}, {m.Config, config}} {
		if err := pushMissing(ctx, repo, blob.desc, bytes.NewReader(blob.data)); err != nil {
			return err
		}
	}
	root := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return repo.PushRoot(ctx, root, bytes.NewReader(raw))
}

// signaturesIn reads the manifest of the signatures that a repository has under the tag for them; a new one if it has none.
func (b *Builder) signaturesIn(ctx context.Context, ref registry.Reference) (ocispec.Manifest, error) {
	at := ref
	at.Tag, at.Digest = cosign.Tag(ref.Digest), ""
	desc, err := b.registry.ResolveOrigin(ctx, at)
	if errors.Is(err, registry.ErrNotFound) {
		return ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}, nil
	}
	if err != nil {
		return ocispec.Manifest{}, err
	}
	return b.signatureManifest(ctx, at, desc)
}

func (b *Builder) signatureManifest(ctx context.Context, ref registry.Reference, desc ocispec.Descriptor) (ocispec.Manifest, error) {
	raw, mediaType, err := b.registry.Manifest(ctx, ref, desc.Digest)
	if err != nil {
		return ocispec.Manifest{}, err
	}
	m, err := image.ParseManifest(raw, mediaType)
	if err != nil {
		return m, fmt.Errorf("signatures %s: %w", desc.Digest, err)
	}
	return m, nil
}

// signatureConfig is the configuration that cosign writes: an image's, of nothing but its layers.
func signatureConfig(layers []ocispec.Descriptor) ([]byte, error) {
	var img ocispec.Image
	img.RootFS.Type = "layers"
	for _, l := range layers {
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, l.Digest)
	}
	return json.Marshal(img)
}

// VerifiedSignatures are those of an image that a key has made.
type VerifiedSignatures struct {
	Image      string            `json:"image"`
	Digest     digest.Digest     `json:"digest"`
	Signatures []VerifiedByClaim `json:"signatures"`
}

// VerifiedByClaim is what one of them says.
type VerifiedByClaim struct {
	Repository string         `json:"repository"` // that it was signed for
	Optional   map[string]any `json:"optional,omitempty"`
}

// VerifySignature checks that an image in a registry is signed by the holder of a key. That nobody or somebody else signed it is an error
// of the category unsafe.
func (b *Builder) VerifySignature(ctx context.Context, name string, key *ecdsa.PublicKey) (*VerifiedSignatures, error) {
	out, err := b.verifySignature(ctx, name, key)
	if err != nil {
		e := *classify(err, CategoryRemote)
		if e.Op == "" {
			e.Op = "verify the signature of " + name
		}
		return nil, &e
	}
	return out, nil
}

func (b *Builder) verifySignature(ctx context.Context, name string, key *ecdsa.PublicKey) (*VerifiedSignatures, error) {
	p, err := parseLocation(name, inRegistry)
	if err != nil {
		return nil, err
	}
	if p.kind != inRegistry {
		return nil, usage{fmt.Errorf("%s: signatures are in registries, beside the image", name)}
	}
	if err := b.reach("ask the registry for signatures"); err != nil {
		return nil, err
	}
	desc, err := b.registry.Resolve(ctx, p.ref)
	if err != nil {
		return nil, err
	}
	ref := p.ref
	ref.Tag, ref.Digest = "", desc.Digest
	layers, err := b.signatureLayers(ctx, ref)
	if err != nil {
		return nil, err
	}
	out := &VerifiedSignatures{Image: p.ref.Familiar(), Digest: desc.Digest}
	var first error
	for _, l := range layers[:min(len(layers), maxSignatures)] {
		claim, err := b.claimOf(ctx, ref, l, key)
		switch {
		case err == nil:
			out.Signatures = append(out.Signatures, VerifiedByClaim{claim.Repository, claim.Optional})
		case errors.Is(err, cosign.ErrSignature):
			if first == nil {
				first = err
			}
		default:
			return nil, err
		}
	}
	switch {
	case len(out.Signatures) > 0:
		return out, nil
	case first == nil:
		return nil, &Error{Category: CategoryUnsafe, Err: fmt.Errorf("%s has no signature", desc.Digest)}
	}
	return nil, &Error{Category: CategoryUnsafe, Err: fmt.Errorf("none of %d signatures of %s holds: %w", len(layers), desc.Digest, first)}
}

// signatureLayers finds the signatures under the tag for them, and in the documents that refer to the image.
func (b *Builder) signatureLayers(ctx context.Context, ref registry.Reference) ([]ocispec.Descriptor, error) {
	m, err := b.signaturesIn(ctx, ref)
	if err != nil {
		return nil, err
	}
	layers := m.Layers
	referrers, err := b.registry.Referrers(ctx, ref, ref.Digest)
	if err != nil {
		return nil, err
	}
	read := 0
	for _, d := range referrers {
		if d.ArtifactType != cosign.ArtifactType || read == maxSignatureReferrers {
			continue
		}
		read++
		m, err := b.signatureManifest(ctx, ref, d)
		if err != nil {
			return nil, err
		}
		layers = append(layers, m.Layers...)
	}
	return slices.DeleteFunc(layers, func(l ocispec.Descriptor) bool {
		return l.MediaType != cosign.MediaType || l.Annotations[cosign.Annotation] == ""
	}), nil
}

// claimOf reads one signature and checks it.
func (b *Builder) claimOf(ctx context.Context, ref registry.Reference, layer ocispec.Descriptor, key *ecdsa.PublicKey) (cosign.Claim, error) {
	if layer.Size > cosign.MaxPayload {
		return cosign.Claim{}, fmt.Errorf("%w: what was signed has %d bytes", cosign.ErrSignature, layer.Size)
	}
	payload, err := b.smallBlob(ctx, ref, layer)
	if err != nil {
		return cosign.Claim{}, err
	}
	return cosign.Verify(key, cosign.Signature{Payload: payload, Value: layer.Annotations[cosign.Annotation]}, ref.Digest)
}

// smallBlob reads a blob of a repository into memory, verified. The caller has looked at its size.
func (b *Builder) smallBlob(ctx context.Context, ref registry.Reference, desc ocispec.Descriptor) (data []byte, err error) {
	one := located{src: b.registry.Repository(ref)}
	return one.document(ctx, desc)
}
