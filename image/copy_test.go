package image_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

func TestJ10_CopyOrderAndSkipping(t *testing.T) {
	t.Parallel()
	src, dst := newMemory(), newMemory()
	root := buildIndex(t, src, "amd64", "arm64")
	if err := image.Copy(t.Context(), src, dst, root, image.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	// The first layer is shared: 3 layers, 2 configs, 2 manifests, 1 index.
	if len(dst.pushed) != 8 || dst.pushed[7] != root.Digest {
		t.Fatalf("pushed %v", dst.pushed)
	}
	kind := func(d digest.Digest) int {
		s := string(src.blobs[d])
		switch {
		case strings.Contains(s, `"manifests"`):
			return 3
		case strings.Contains(s, `"layers": [`):
			return 2
		case strings.Contains(s, `"rootfs"`):
			return 1
		default:
			return 0
		}
	}
	if !slices.IsSortedFunc(dst.pushed, func(a, b digest.Digest) int { return kind(a) - kind(b) }) {
		t.Error("not in the order layers, configs, manifests, index")
	}
	dst.pushed, src.fetched = nil, nil
	if err := image.Copy(t.Context(), src, dst, root, image.CopyOptions{}); err != nil || dst.pushed != nil {
		t.Errorf("second copy pushed %v, %v", dst.pushed, err)
	}
	if len(src.fetched) != 3 { // the documents
		t.Errorf("second copy fetched %d", len(src.fetched))
	}
}

func TestCopySendsAgainFromTheStart(t *testing.T) {
	t.Parallel()
	src, dst := newMemory(), newMemory()
	a := assembly(t, src, "amd64")
	root := build(t, src, a)
	for d := range src.blobs {
		dst.fail[d] = 2
	}
	var mu sync.Mutex
	last := map[digest.Digest]int64{}
	opt := image.CopyOptions{Progress: func(desc ocispec.Descriptor, done int64) {
		mu.Lock()
		defer mu.Unlock()
		last[desc.Digest] = done
	}}
	if err := image.Copy(t.Context(), src, dst, root, opt); err != nil {
		t.Fatal(err)
	}
	for d, b := range src.blobs {
		if last[d] != int64(len(b)) {
			t.Errorf("%s: progress ends at %d of %d", d, last[d], len(b))
		}
	}
}

func TestHostileF28_FailedCopyLeavesNoManifest(t *testing.T) {
	t.Parallel()
	src, dst := newMemory(), newMemory()
	a := assembly(t, src, "amd64")
	root := build(t, src, a)
	src.blobs[a.Layers[1].Desc.Digest] = []byte("damaged")
	if err := image.Copy(t.Context(), src, dst, root, image.CopyOptions{}); err == nil {
		t.Fatal("no error")
	}
	if _, ok := dst.blobs[root.Digest]; ok {
		t.Error("the manifest was sent")
	}
}

func TestCopyKeepsChosenChildren(t *testing.T) {
	t.Parallel()
	src, dst := newMemory(), newMemory()
	root := buildIndex(t, src, "amd64", "arm64")
	opt := image.CopyOptions{KeepChild: func(parent, child ocispec.Descriptor) bool {
		return parent.Digest == root.Digest && child.Platform.Architecture == "arm64"
	}}
	if err := image.Copy(t.Context(), src, dst, root, opt); err != nil {
		t.Fatal(err)
	}
	if len(dst.pushed) != 5 {
		t.Errorf("pushed %d", len(dst.pushed))
	}
}

func TestCopyRefusesBadGraphs(t *testing.T) {
	t.Parallel()
	index := func(m *memory, entries ...ocispec.Descriptor) ocispec.Descriptor {
		d, b, err := image.AssembleIndex(entries, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		return m.add(d.MediaType, b)
	}
	tests := []struct {
		name string
		make func(m *memory) ocispec.Descriptor
		want error
	}{
		{"H-43 index in index x 50", func(m *memory) ocispec.Descriptor {
			d := index(m)
			for range 50 {
				d = index(m, d)
			}
			return d
		}, image.ErrTooLarge},
		{"H-43 1001 manifests in a tree", func(m *memory) ocispec.Descriptor {
			var tops []ocispec.Descriptor
			for i := range 2 {
				var es []ocispec.Descriptor
				for j := range 600 {
					es = append(es, m.add(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"schemaVersion":2,"config":%s,"layers":[],"x":%d}`, config, i*1000+j)))
				}
				tops = append(tops, index(m, es...))
			}
			return index(m, tops...)
		}, image.ErrTooLarge},
		{"H-42 100 MiB manifest", func(m *memory) ocispec.Descriptor {
			d := m.add(ocispec.MediaTypeImageManifest, []byte("{}"))
			d.Size = 100 << 20
			return d
		}, image.ErrTooLarge},
		{"H-41 manifest longer than promised", func(m *memory) ocispec.Descriptor {
			d := build(t, m, assembly(t, m, "amd64"))
			d.Size--
			return d
		}, image.ErrContent},
		{"H-41 manifest shorter than promised", func(m *memory) ocispec.Descriptor {
			d := build(t, m, assembly(t, m, "amd64"))
			d.Size++
			return d
		}, image.ErrContent},
		{"H-41 manifest wrong by a bit", func(m *memory) ocispec.Descriptor {
			d := build(t, m, assembly(t, m, "amd64"))
			b := slices.Clone(m.blobs[d.Digest])
			b[0] ^= 1
			m.blobs[d.Digest] = b
			return d
		}, image.ErrContent},
		{"H-46 digest of the root", func(m *memory) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:../../x", Size: 1}
		}, image.ErrMalformed},
		{"H-47 foreign layer", func(m *memory) ocispec.Descriptor {
			return m.add(ocispec.MediaTypeImageManifest, []byte(withLayer(`{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"sha256:`+hexA+`","size":2,"urls":["http://x/"]}`)))
		}, image.ErrMalformed},
		{"neither manifest nor index", func(m *memory) ocispec.Descriptor { return m.add("text/plain", []byte("{}")) }, image.ErrMalformed},
		{"missing", func(m *memory) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
		}, errAbsent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dst := newMemory(), newMemory()
			err := image.Copy(t.Context(), src, dst, tt.make(src), image.CopyOptions{})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %.300v, want %v", err, tt.want)
			}
			if len(dst.pushed) > 0 {
				t.Errorf("pushed %v", dst.pushed)
			}
			if len(src.fetched) > 1010 || (tt.name == "H-43 index in index x 50" && len(src.fetched) > 50) {
				t.Errorf("%d requests", len(src.fetched))
			}
		})
	}
}
