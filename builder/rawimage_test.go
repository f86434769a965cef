package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

// rawImage is an image that is put into a registry as it is described, right or wrong.
type rawImage struct {
	Config   ocispec.Image
	Manifest ocispec.Manifest
	Blobs    [][]byte // of the layers
}

// rawLayers makes an image for this machine of layers, each a tar that may be compressed.
func rawLayers(t *testing.T, layers ...[]byte) *rawImage {
	t.Helper()
	img := &rawImage{Blobs: layers}
	img.Config.OS, img.Config.Architecture = "linux", runtime.GOARCH
	img.Config.RootFS.Type = "layers"
	img.Manifest.SchemaVersion, img.Manifest.MediaType = 2, ocispec.MediaTypeImageManifest
	for _, blob := range layers {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		plain := blob
		if zr, err := gzip.NewReader(bytes.NewReader(blob)); err == nil {
			desc.MediaType = ocispec.MediaTypeImageLayerGzip
			if plain, err = io.ReadAll(zr); err != nil {
				t.Fatal(err)
			}
		}
		img.Manifest.Layers = append(img.Manifest.Layers, desc)
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, digest.FromBytes(plain))
	}
	return img
}

// put stores the image, and returns its manifest's digest.
func (img *rawImage) put(t *testing.T, r *registrytest.Registry, repo, tag string) digest.Digest {
	t.Helper()
	config, err := json.Marshal(img.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range img.Blobs {
		r.PutBlob(repo, blob)
	}
	img.Manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.PutBlob(repo, config), Size: int64(len(config))}
	raw, err := json.Marshal(img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return r.PutManifest(repo, tag, ocispec.MediaTypeImageManifest, raw)
}

// rawTar writes an archive; names that are missing from headers are regular files.
func rawTar(t *testing.T, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Linkname: e.Link, Typeflag: e.Type, Mode: 0o644, Size: int64(len(e.Body)), Format: e.Format, PAXRecords: maps.Clone(e.PAX)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type tarEntry struct {
	Name, Link string
	Type       byte // 0: a regular file
	Body       []byte
	PAX        map[string]string
	Format     tar.Format
}

// rawNoise is n bytes that do not compress, the same for the same seed.
func rawNoise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}
