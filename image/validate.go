package image

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Validate reads all of the image or index root and recomputes what its documents
// say: every size, digest and diff_id, and that configurations fit their manifests.
func Validate(ctx context.Context, src Fetcher, root ocispec.Descriptor) error {
	g, err := walk(ctx, src, root, nil)
	if err != nil {
		return fmt.Errorf("validate %s: %w", root.Digest, err)
	}
	v := validator{src: src, diffIDs: map[digest.Digest]digest.Digest{}, platforms: map[digest.Digest]*ocispec.Platform{}}
	if err := v.all(ctx, g); err != nil {
		return fmt.Errorf("validate %s: %w", root.Digest, err)
	}
	return nil
}

type validator struct {
	src       Fetcher
	diffIDs   map[digest.Digest]digest.Digest // by layer digest
	platforms map[digest.Digest]*ocispec.Platform
}

func (v *validator) all(ctx context.Context, g *graph) error {
	for _, m := range g.manifests { // what indexes promise of their manifests
		if !IsIndex(m.desc.MediaType) {
			continue
		}
		idx, err := ParseIndex(m.data, m.desc.MediaType)
		if err != nil {
			return err
		}
		for _, d := range idx.Manifests {
			if !isAttestation(d) {
				v.platforms[d.Digest] = d.Platform
			}
		}
	}
	for _, l := range g.layers {
		d, err := v.layer(ctx, l)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		v.diffIDs[l.Digest] = d
	}
	for _, m := range g.manifests {
		if !IsManifest(m.desc.MediaType) {
			continue
		}
		if err := v.manifest(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) manifest(ctx context.Context, doc document) error {
	m, err := ParseManifest(doc.data, doc.desc.MediaType)
	if err != nil {
		return err
	}
	b, err := fetchAll(ctx, v.src, m.Config)
	if err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if mt := m.Config.MediaType; !IsConfig(mt) {
		return nil // an artifact: sizes and digests are all that can be known
	}
	cfg, err := ParseConfig(b)
	if err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if len(m.Layers) > 0 && m.Layers[0].MediaType != inTotoLayer { // attestations borrow the config type
		desc := doc.desc
		if p := v.platforms[desc.Digest]; p != nil {
			desc.Platform = p
		}
		if err := CheckImage(desc, m, cfg); err != nil {
			return err
		}
	}
	for i, l := range m.Layers {
		if i >= len(cfg.RootFS.DiffIDs) || v.diffIDs[l.Digest] != cfg.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d of %s: diff_id is not that of the content (%s): %w", i, doc.desc.Digest, v.diffIDs[l.Digest], ErrContent)
		}
	}
	return nil
}

// layer verifies a layer blob and returns the digest of what is in it.
func (v *validator) layer(ctx context.Context, desc ocispec.Descriptor) (d digest.Digest, err error) {
	r, err := fetchVerified(ctx, v.src, desc)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := contextReader{ctx, r}
	d, err = unpackedDigest(in, desc.MediaType)
	// A decompressor may stop before the end of the blob, or stumble over damage: all
	// of it must be read to know whether the blob is what its digest says, which comes first.
	if _, rerr := io.Copy(io.Discard, in); rerr != nil {
		return "", rerr
	}
	return d, err
}

func unpackedDigest(r io.Reader, mediaType string) (digest.Digest, error) {
	plain, done, err := decompress(r, mediaType)
	if err != nil {
		return "", err
	}
	defer done()
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), io.LimitReader(plain, maxUnpacked+1))
	if err != nil {
		return "", fmt.Errorf("decompress: %w: %w", ErrMalformed, err)
	}
	if n > maxUnpacked {
		return "", fmt.Errorf("unpacks to more than %d bytes: %w", int64(maxUnpacked), ErrTooLarge)
	}
	return h.Digest(), nil
}

// decompress undoes the compression that a layer's media type names.
func decompress(r io.Reader, mediaType string) (plain io.Reader, done func(), err error) {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return z, func() {}, nil
	case strings.HasSuffix(mediaType, "+zstd"):
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return z, z.Close, nil
	default:
		return r, func() {}, nil
	}
}
