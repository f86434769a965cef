package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

// memory is a place for blobs that checks what it is given and notes the order of pushes.
type memory struct {
	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	pushed  []digest.Digest
	fetched []digest.Digest
	fail    map[digest.Digest]int // pushes that fail first, after reading half
}

func newMemory() *memory {
	return &memory{blobs: map[digest.Digest][]byte{}, fail: map[digest.Digest]int{}}
}

func (m *memory) add(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// Fetch hides that the reader could seek, as a network's cannot.
func (m *memory) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errAbsent)
	}
	m.fetched = append(m.fetched, desc.Digest)
	return io.NopCloser(bytes.NewBuffer(b)), nil
}

var errAbsent = errors.New("absent")

func (m *memory) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blobs[desc.Digest]
	return ok, nil
}

func (m *memory) Push(_ context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error {
	m.mu.Lock()
	fails := m.fail[desc.Digest]
	m.mu.Unlock()
	for range fails {
		if _, err := io.CopyN(io.Discard, r, desc.Size/2); err != nil {
			return err
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(b)) != desc.Size || digest.FromBytes(b) != desc.Digest {
		return fmt.Errorf("push of %s: other content", desc.Digest)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[desc.Digest] = b
	m.pushed = append(m.pushed, desc.Digest)
	return nil
}

// layerTar is a tar with one file.
func layerTar(t *testing.T, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func at(sec int64) *time.Time {
	t := time.Unix(sec, 0).UTC()
	return &t
}

// assembly is an image of two layers, whose blobs are put into m.
func assembly(t *testing.T, m *memory, arch string) image.Assembly {
	t.Helper()
	one, two := layerTar(t, "etc/one", "1"), layerTar(t, "etc/"+arch, "2")
	var cfg dockerspec.DockerOCIImage
	cfg.Platform = ocispec.Platform{OS: "linux", Architecture: arch}
	cfg.Author = "a"
	cfg.Config.Env = []string{"PATH=/bin", "X=<&>"}
	cfg.Config.Labels = map[string]string{"b": "2", "B": "1", "a": ""}
	cfg.Config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
	cfg.Config.OnBuild = []string{"RUN x"}
	cfg.Config.Shell = []string{"/bin/bash"}
	cfg.Config.StopSignal = "SIGINT"
	return image.Assembly{
		Image: cfg,
		Layers: []image.Layer{
			{Desc: m.add(ocispec.MediaTypeImageLayerGzip, gzipped(t, one)), DiffID: digest.FromBytes(one)},
			{Desc: m.add(ocispec.MediaTypeImageLayer, two), DiffID: digest.FromBytes(two)},
		},
		History: []ocispec.History{
			{Created: at(100), CreatedBy: "COPY one"},
			{Created: at(100), CreatedBy: "ENV", EmptyLayer: true},
			{Created: at(200), CreatedBy: "COPY two"},
			{CreatedBy: "CMD", EmptyLayer: true},
		},
	}
}

// build assembles and stores an image and returns its manifest.
func build(t *testing.T, m *memory, a image.Assembly) ocispec.Descriptor {
	t.Helper()
	out, err := image.Assemble(a)
	if err != nil {
		t.Fatal(err)
	}
	m.add(out.Config.MediaType, out.ConfigBytes)
	m.add(out.Manifest.MediaType, out.ManifestBytes)
	return out.Manifest
}

// buildIndex is an index of images for some architectures.
func buildIndex(t *testing.T, m *memory, archs ...string) ocispec.Descriptor {
	t.Helper()
	var descs []ocispec.Descriptor
	for _, a := range archs {
		descs = append(descs, build(t, m, assembly(t, m, a)))
	}
	desc, b, err := image.AssembleIndex(descs, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	m.add(desc.MediaType, b)
	return desc
}
