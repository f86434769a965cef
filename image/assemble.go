package image

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is a layer blob and the digest of the tar inside it.
type Layer struct {
	Desc   ocispec.Descriptor
	DiffID digest.Digest
}

// Assembly is what an image is made of. Times are used as they are given: pass UTC.
type Assembly struct {
	Image       dockerspec.DockerOCIImage // RootFS, History and Created are replaced
	Layers      []Layer                   // bottom-most first, those of the base included
	History     []ocispec.History         // likewise; entries without EmptyLayer are as many as Layers
	Created     *time.Time                // nil: the time of the last history entry that has one
	Annotations map[string]string         // of the manifest
	DockerTypes bool                      // Docker schema 2 media types instead of OCI ones
	Cache       json.RawMessage           // what CacheOf finds; nil for none
}

// Assembled is an image as bytes. Manifest carries the platform, ready for an index.
type Assembled struct {
	Manifest, Config           ocispec.Descriptor
	ManifestBytes, ConfigBytes []byte
}

// Assemble makes the configuration and the manifest. It is pure. An error says that the
// parts do not fit together.
func Assemble(a Assembly) (Assembled, error) {
	out, err := assemble(a)
	if err != nil {
		return Assembled{}, fmt.Errorf("assemble image: %w", err)
	}
	return out, nil
}

func assemble(a Assembly) (out Assembled, err error) {
	cfg, err := config(a)
	if err != nil {
		return out, err
	}
	layers, err := layerDescriptors(a)
	if err != nil {
		return out, err
	}
	if out.ConfigBytes, err = json.Marshal(cachedConfig{cfg, a.Cache}); err != nil {
		return out, err
	}
	m := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      describe(ocispec.MediaTypeImageConfig, out.ConfigBytes),
		Layers:      layers,
		Annotations: a.Annotations,
	}
	if a.DockerTypes {
		m.MediaType, m.Config.MediaType = dockerManifest, dockerConfig
	}
	// Two spaces, as BuildKit writes it: the bytes are part of the promise.
	if out.ManifestBytes, err = json.MarshalIndent(m, "", "  "); err != nil {
		return out, err
	}
	out.Config, out.Manifest = m.Config, describe(m.MediaType, out.ManifestBytes)
	p := cfg.Platform
	out.Manifest.Platform = &p
	return out, nil
}

// cachedConfig is a configuration with a field of our own, which other readers pass over (OCI image-spec considerations.md, "Extensibility").
type cachedConfig struct {
	dockerspec.DockerOCIImage
	Cache json.RawMessage `json:"dev.gobuild.cache,omitempty"`
}

// CacheOf is what Assembly.Cache put into a configuration that ParseConfig accepts; nil for none.
func CacheOf(config []byte) (json.RawMessage, error) {
	var c struct {
		Cache json.RawMessage `json:"dev.gobuild.cache"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("parse image config: %w: %w", ErrMalformed, err)
	}
	return c.Cache, nil
}

func config(a Assembly) (dockerspec.DockerOCIImage, error) {
	cfg := a.Image
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}} // never null
	for i, l := range a.Layers {
		if err := checkDigest(l.DiffID); err != nil {
			return cfg, fmt.Errorf("diff_id of layer %d: %w", i, err)
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
	}
	cfg.History, cfg.Created = a.History, a.Created
	filled := 0
	for _, h := range a.History {
		if !h.EmptyLayer {
			filled++
		}
		if a.Created == nil && h.Created != nil {
			cfg.Created = h.Created
		}
	}
	// Old and foreign tools write images without history; one that exists must fit.
	if len(a.History) > 0 && filled != len(a.Layers) {
		return cfg, fmt.Errorf("%d layers, but %d history entries that have one", len(a.Layers), filled)
	}
	return cfg, nil
}

// layerDescriptors gives the layers' descriptors as a manifest lists them: layers of
// a base may come with the media types of the other family, for the same bytes.
func layerDescriptors(a Assembly) ([]ocispec.Descriptor, error) {
	if a.DockerTypes && len(a.Annotations) > 0 {
		return nil, fmt.Errorf("docker manifests have no annotations: use OCI media types")
	}
	out := []ocispec.Descriptor{}
	for i, l := range a.Layers {
		if err := checkDescriptor(l.Desc); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		mt, err := layerType(l.Desc.MediaType, a.DockerTypes)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		d := ocispec.Descriptor{MediaType: mt, Digest: l.Desc.Digest, Size: l.Desc.Size, Annotations: l.Desc.Annotations}
		if a.DockerTypes {
			d.Annotations = nil // the Docker schema has no such field; they carry hints, not content
		}
		out = append(out, d)
	}
	return out, nil
}

// layerType translates a layer's media type to the wanted family.
func layerType(mt string, docker bool) (string, error) {
	pairs := [][2]string{
		{ocispec.MediaTypeImageLayer, dockerLayer},
		{ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
	}
	for _, p := range pairs {
		if mt != p[0] && mt != p[1] {
			continue
		}
		if docker {
			return p[1], nil
		}
		return p[0], nil
	}
	if mt == ocispec.MediaTypeImageLayerZstd && !docker {
		return mt, nil
	}
	if strings.HasSuffix(mt, "zstd") {
		return "", fmt.Errorf("docker manifests have no zstd layers: use OCI media types or gzip")
	}
	return "", fmt.Errorf("media type %q is not that of a layer", mt)
}

// AssembleIndex makes an index of manifests in the given order. Docker manifest lists have no annotations.
func AssembleIndex(manifests []ocispec.Descriptor, annotations map[string]string, dockerTypes bool) (ocispec.Descriptor, []byte, error) {
	idx := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   manifests,
		Annotations: annotations,
	}
	if dockerTypes {
		if len(annotations) > 0 {
			return ocispec.Descriptor{}, nil, fmt.Errorf("assemble index: docker manifest lists have no annotations: use OCI media types")
		}
		idx.MediaType = dockerIndex
	}
	if idx.Manifests == nil {
		idx.Manifests = []ocispec.Descriptor{}
	}
	b, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("assemble index: %w", err)
	}
	return describe(idx.MediaType, b), b, nil
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}
