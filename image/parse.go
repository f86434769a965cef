package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker images, Image Manifest Version 2, Schema 2.
const (
	dockerManifest   = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex      = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig     = dockerspec.DockerOCIImageMediaType
	dockerLayer      = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerForeign    = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	dockerSchema1    = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Sig = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	inTotoLayer      = "application/vnd.in-toto+json"
)

// IsManifest says whether a media type is that of an OCI or Docker image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// IsIndex says whether a media type is that of an OCI index or a Docker manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerIndex
}

// IsConfig says whether a media type is that of an image's configuration.
func IsConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig
}

// ParseManifest reads an image manifest, OCI or Docker schema 2. mediaType is what the
// descriptor or the server said it is; "" leaves that to the document. The
// errors are ErrMalformed and ErrTooLarge.
func ParseManifest(b []byte, mediaType string) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := parseDocument(b, &m); err != nil {
		return m, fmt.Errorf("parse manifest: %w", err)
	}
	mt, err := agree(mediaType, m.MediaType, ocispec.MediaTypeImageManifest, IsManifest)
	if err == nil {
		m.MediaType = mt
		err = checkManifest(m)
	}
	if err != nil {
		return ocispec.Manifest{}, fmt.Errorf("parse manifest: %w", err)
	}
	return m, nil
}

// ParseIndex reads an OCI image index or a Docker manifest list, as ParseManifest reads a manifest.
func ParseIndex(b []byte, mediaType string) (ocispec.Index, error) {
	idx, err := parseIndex(b, mediaType, maxEntries)
	if err != nil {
		return ocispec.Index{}, fmt.Errorf("parse index: %w", err)
	}
	return idx, nil
}

func parseIndex(b []byte, mediaType string, entries int) (ocispec.Index, error) {
	var idx ocispec.Index
	if err := parseDocument(b, &idx); err != nil {
		return idx, err
	}
	mt, err := agree(mediaType, idx.MediaType, ocispec.MediaTypeImageIndex, IsIndex)
	if err != nil {
		return idx, err
	}
	idx.MediaType = mt
	if len(idx.Manifests) > entries {
		return idx, fmt.Errorf("%d manifests, at most %d are read: %w", len(idx.Manifests), entries, ErrTooLarge)
	}
	for i, d := range idx.Manifests {
		if err := checkDescriptor(d); err != nil {
			return idx, fmt.Errorf("manifest %d: %w", i, err)
		}
	}
	return idx, nil
}

// ParseConfig reads an image configuration. Fields that no image of ours has are dropped.
func ParseConfig(b []byte) (dockerspec.DockerOCIImage, error) {
	var cfg dockerspec.DockerOCIImage
	err := decode(b, &cfg)
	if err == nil {
		err = checkConfig(cfg)
	}
	if err != nil {
		return dockerspec.DockerOCIImage{}, fmt.Errorf("parse image config: %w", err)
	}
	return cfg, nil
}

// parseDocument decodes a manifest or an index and refuses a document that could be
// taken for the other (CVE-2021-41190): it has one kind for all readers, or none.
func parseDocument(b []byte, v any) error {
	if err := decode(b, v); err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	has := func(k string) bool { _, ok := keys[k]; return ok }
	_, index := v.(*ocispec.Index)
	switch {
	case string(keys["schemaVersion"]) == "1" || has("fsLayers"):
		return fmt.Errorf("docker schema 1 images are not supported, push the image again with a current tool: %w", ErrMalformed)
	case string(keys["schemaVersion"]) != "2":
		return fmt.Errorf("schemaVersion is not 2: %w", ErrMalformed)
	case has("manifests") && (has("layers") || has("config")):
		return fmt.Errorf("both an index and a manifest: %w", ErrMalformed)
	case index && !has("manifests"):
		return fmt.Errorf("no manifests: %w", ErrMalformed)
	case !index && !has("layers"):
		return fmt.Errorf("no layers: %w", ErrMalformed)
	}
	return nil
}

// agree settles the media type of a document: what is said outside and inside
// must be equal where both are given, and of the right kind.
func agree(outside, inside, fallback string, kind func(string) bool) (string, error) {
	outside, _, _ = strings.Cut(outside, ";") // Content-Type may carry parameters
	outside = strings.TrimSpace(outside)
	mt := inside
	switch {
	case outside != "" && inside != "" && outside != inside:
		return "", fmt.Errorf("media type is %q inside and %q outside: %w", inside, outside, ErrMalformed)
	case mt == "" && outside != "":
		mt = outside
	case mt == "":
		mt = fallback
	}
	if mt == dockerSchema1 || mt == dockerSchema1Sig {
		return "", fmt.Errorf("docker schema 1 images are not supported: %w", ErrMalformed)
	}
	if !kind(mt) {
		return "", fmt.Errorf("unexpected media type %q: %w", mt, ErrMalformed)
	}
	return mt, nil
}

func checkManifest(m ocispec.Manifest) error {
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%d layers, at most %d are read: %w", len(m.Layers), maxLayers, ErrTooLarge)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	for i, l := range m.Layers {
		if err := checkDescriptor(l); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

// checkDescriptor refuses a descriptor before any path or URL is made from it.
func checkDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > maxBlob {
		return fmt.Errorf("size %d of %s: %w", d.Size, d.Digest, ErrMalformed)
	}
	// image-spec v1.1 descriptor.md: embedded data must match digest and size.
	if d.Data != nil && (int64(len(d.Data)) != d.Size || d.Digest.Algorithm().FromBytes(d.Data) != d.Digest) {
		return fmt.Errorf("embedded data of %s: %w: %w", d.Digest, ErrMalformed, ErrContent)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", string(d), ErrMalformed, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: algorithm is not supported: %w", string(d), ErrMalformed)
	}
	return nil
}

func checkConfig(cfg dockerspec.DockerOCIImage) error {
	if len(cfg.RootFS.DiffIDs) > maxLayers {
		return fmt.Errorf("%d layers, at most %d are read: %w", len(cfg.RootFS.DiffIDs), maxLayers, ErrTooLarge)
	}
	if t := cfg.RootFS.Type; t != "layers" {
		return fmt.Errorf("rootfs type is %q, not \"layers\": %w", t, ErrMalformed)
	}
	for i, d := range cfg.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return fmt.Errorf("diff_id %d: %w", i, err)
		}
	}
	return nil
}

// CheckImage says whether a manifest is that of an image that can be run or built
// on, and fits its configuration: an artifact, a layer that may not be distributed, a wrong number
// of layers, or another platform than the index promised (desc.Platform, when set) is refused.
func CheckImage(desc ocispec.Descriptor, m ocispec.Manifest, cfg dockerspec.DockerOCIImage) error {
	if mt := m.Config.MediaType; !IsConfig(mt) {
		return fmt.Errorf("%s is not an image but an artifact (config %q): %w", desc.Digest, mt, ErrMalformed)
	}
	for i, l := range m.Layers {
		if isForeign(l.MediaType) {
			return fmt.Errorf("layer %d of %s is fetched from elsewhere (%s), which is not supported: %w", i, desc.Digest, l.MediaType, ErrMalformed)
		}
		if !isLayer(l.MediaType) {
			return fmt.Errorf("layer %d of %s is not a file system (%q): %w", i, desc.Digest, l.MediaType, ErrMalformed)
		}
	}
	if len(m.Layers) != len(cfg.RootFS.DiffIDs) {
		return fmt.Errorf("%s has %d layers but %d diff_ids: %w", desc.Digest, len(m.Layers), len(cfg.RootFS.DiffIDs), ErrMalformed)
	}
	if p := desc.Platform; p != nil && (p.OS != cfg.OS || p.Architecture != cfg.Architecture) {
		return fmt.Errorf("%s is listed as %s/%s, but its config says %s/%s: %w",
			desc.Digest, p.OS, p.Architecture, cfg.OS, cfg.Architecture, ErrMalformed)
	}
	return nil
}

func isLayer(mediaType string) bool {
	return slices.Contains([]string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		dockerLayer, dockerLayerGzip,
	}, mediaType)
}

func isForeign(mediaType string) bool {
	return mediaType == dockerForeign || strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.")
}
