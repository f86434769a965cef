package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

func rawGzip(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return buf.Bytes()
}

func rawZstd(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	return buf.Bytes()
}

// skippable is a frame of zstd that decoders pass over (RFC 8878, 3.1.2).
func skippable(data string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, uint32(len(data))), data...)
}

// Legal images that other tools write, and few tests have. Every one has the file f with "content".
func TestJ9_ImagesOfUnusualForm(t *testing.T) {
	t.Parallel()
	plain := rawTar(t, tarEntry{Name: "f", Body: []byte("content")})
	zipped := rawGzip(t, plain)
	half := len(plain) / 2
	setLayer := func(img *rawImage, blob []byte, mediaType string) {
		img.Blobs = [][]byte{blob}
		img.Manifest.Layers[0] = ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	}
	for name, change := range map[string]func(img *rawImage){
		"gzip of several members": func(img *rawImage) {
			setLayer(img, append(rawGzip(t, plain[:half]), rawGzip(t, plain[half:])...), ocispec.MediaTypeImageLayerGzip)
		},
		"gzip with a name and a comment": func(img *rawImage) {
			var buf bytes.Buffer
			w := gzip.NewWriter(&buf)
			w.Name, w.Comment, w.Extra = "layer.tar", "odd", []byte("xx\x02\x00ab")
			_, err := w.Write(plain)
			must(t, err)
			must(t, w.Close())
			setLayer(img, buf.Bytes(), ocispec.MediaTypeImageLayerGzip)
		},
		"zstd of several frames": func(img *rawImage) {
			setLayer(img, append(rawZstd(t, plain[:half]), rawZstd(t, plain[half:])...), ocispec.MediaTypeImageLayerZstd)
		},
		"zstd with frames to skip": func(img *rawImage) {
			setLayer(img, bytes.Join([][]byte{skippable("before"), rawZstd(t, plain), skippable("after")}, nil), ocispec.MediaTypeImageLayerZstd)
		},
		"media type of plain tar on gzip": func(img *rawImage) { img.Manifest.Layers[0].MediaType = ocispec.MediaTypeImageLayer },
		"no media type in the manifest":   func(img *rawImage) { img.Manifest.MediaType = "" },
		"a layer twice": func(img *rawImage) {
			img.Blobs, img.Manifest.Layers = append(img.Blobs, img.Blobs[0]), append(img.Manifest.Layers, img.Manifest.Layers[0])
			img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, img.Config.RootFS.DiffIDs[0])
		},
		"an empty tar as a layer": func(img *rawImage) {
			empty := rawTar(t)
			img.Blobs = append(img.Blobs, empty)
			img.Manifest.Layers = append(img.Manifest.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(empty), Size: int64(len(empty))})
			img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, digest.FromBytes(empty))
		},
		"a layer of no bytes": func(img *rawImage) {
			img.Blobs = append(img.Blobs, []byte{})
			img.Manifest.Layers = append(img.Manifest.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(""), Size: 0})
			img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, digest.FromString(""))
		},
		"more history than layers": func(img *rawImage) {
			for i := range 5 {
				img.Config.History = append(img.Config.History, ocispec.History{CreatedBy: fmt.Sprint(i)})
			}
		},
		"less history than layers": func(img *rawImage) { img.Config.History = []ocispec.History{{CreatedBy: "x", EmptyLayer: true}} },
		"the content beside its descriptor": func(img *rawImage) {
			img.Manifest.Layers[0].Data = img.Blobs[0]
		},
		"addresses in a descriptor": func(img *rawImage) { img.Manifest.Layers[0].URLs = []string{"http://127.0.0.1:1/never"} },
		"annotations everywhere": func(img *rawImage) {
			img.Manifest.Annotations = map[string]string{"a": "1\x1b[31m", "": "empty"}
			img.Manifest.Layers[0].Annotations = map[string]string{"b": "2"}
		},
		"an artifact type": func(img *rawImage) { img.Manifest.ArtifactType = "application/vnd.example" },
		"a subject": func(img *rawImage) {
			img.Manifest.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("gone"), Size: 4}
		},
		"old tar, V7": func(img *rawImage) {
			old := bytes.Clone(plain)
			copy(old[257:265], make([]byte, 8)) // no magic: its checksum is made again
			copy(old[148:156], "        ")
			sum := 0
			for _, b := range old[:512] {
				sum += int(b)
			}
			copy(old[148:156], fmt.Sprintf("%06o\x00 ", sum))
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(old)
			setLayer(img, old, ocispec.MediaTypeImageLayer)
		},
		"GNU tar with a long name": func(img *rawImage) {
			long := rawTar(t, tarEntry{Name: "f", Body: []byte("content"), Format: tar.FormatGNU}, tarEntry{Name: strings.Repeat("n/", 100) + "g", Format: tar.FormatGNU})
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(long)
			setLayer(img, long, ocispec.MediaTypeImageLayer)
		},
		"tar that does not end": func(img *rawImage) {
			cut := plain[:1024]
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(cut)
			setLayer(img, cut, ocispec.MediaTypeImageLayer)
		},
		"tar with much behind its end": func(img *rawImage) {
			more := append(bytes.Clone(plain), make([]byte, 100<<10)...)
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(more)
			setLayer(img, rawGzip(t, more), ocispec.MediaTypeImageLayerGzip)
		},
		"absolute names and dots": func(img *rawImage) {
			odd := rawTar(t, tarEntry{Name: "./", Type: tar.TypeDir}, tarEntry{Name: "/../.././f", Body: []byte("content")})
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(odd)
			setLayer(img, odd, ocispec.MediaTypeImageLayer)
		},
		"a file twice": func(img *rawImage) {
			odd := rawTar(t, tarEntry{Name: "f", Type: tar.TypeDir}, tarEntry{Name: "f", Body: []byte("former")}, tarEntry{Name: "f", Body: []byte("content")})
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(odd)
			setLayer(img, odd, ocispec.MediaTypeImageLayer)
		},
		"a whiteout of its own file": func(img *rawImage) {
			odd := rawTar(t, tarEntry{Name: "f", Body: []byte("content")}, tarEntry{Name: ".wh.f"}, tarEntry{Name: ".wh..wh..opq"})
			img.Config.RootFS.DiffIDs[0] = digest.FromBytes(odd)
			setLayer(img, odd, ocispec.MediaTypeImageLayer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			img := rawLayers(t, zipped)
			change(img)
			img.put(t, r, "base", "1")
			p := newProject(t, "FROM "+r.Host+"/base:1 AS b\nFROM scratch\nCOPY --from=b /f /f\n", nil)
			p.opt.Outputs = []Output{{Type: "local", Dest: t.TempDir() + "/out"}}
			got, err := p.tree()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got, "f 0644 0:0 7") {
				t.Errorf("tree\n%s", got)
			}
		})
	}
}

// Servers that leave away what they may, or do otherwise what clients have to take.
func TestJ9_ServersOfUnusualManners(t *testing.T) {
	t.Parallel()
	layer := rawGzip(t, rawTar(t, tarEntry{Name: "f", Body: []byte("content")}))
	for name, answer := range map[string]func(r *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool{
		"HEAD is not allowed": func(_ *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return req.Method == http.MethodHead
		},
		"no digest in the header": func(r *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool {
			m := r.Manifest("base", req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:])
			if !strings.Contains(req.URL.Path, "/manifests/") || m == nil {
				return false
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", strconv.Itoa(len(m)))
			if req.Method == http.MethodGet {
				_, _ = w.Write(m)
			}
			return true
		},
		"media type with parameters, and no length": func(r *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool {
			m := r.Manifest("base", req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:])
			if !strings.Contains(req.URL.Path, "/manifests/") || m == nil {
				return false
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest+"; charset=utf-8")
			if req.Method == http.MethodGet {
				w.(http.Flusher).Flush() //nolint:forcetypeassert // the server's
				_, _ = w.Write(m)
			}
			return true
		},
		"blobs without a length": func(r *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, "/blobs/sha256:") || req.Method != http.MethodGet {
				return false
			}
			w.(http.Flusher).Flush() //nolint:forcetypeassert // the server's
			_, _ = w.Write(r.Blob("base", digest.Digest(req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:])))
			return true
		},
		"blobs elsewhere, by a relative address": func(_ *registrytest.Registry, w http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "/blobs/sha256:") && req.URL.RawQuery == "" {
				w.Header().Set("Location", "./"+req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]+"?signed=1")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			rawLayers(t, layer).put(t, r, "base", "1")
			r.Intercept(func(w http.ResponseWriter, req *http.Request) bool { return answer(r, w, req) })
			p := newProject(t, "FROM "+r.Host+"/base:1 AS b\nFROM scratch\nCOPY --from=b /f /f\n", nil)
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// hostile: H43
func TestJ3_IndexesOfUnusualForm(t *testing.T) {
	t.Parallel()
	put := func(r *registrytest.Registry, tag string, list ...ocispec.Descriptor) ocispec.Descriptor {
		idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list}
		idx.SchemaVersion = 2
		raw, err := json.Marshal(idx)
		must(t, err)
		return ocispec.Descriptor{MediaType: idx.MediaType, Digest: r.PutManifest("base", tag, idx.MediaType, raw), Size: int64(len(raw))}
	}
	for name, tc := range map[string]struct {
		list func(r *registrytest.Registry, img ocispec.Descriptor) []ocispec.Descriptor
		want string // of the error; "" for none
	}{
		"one image of no platform": {func(_ *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			return []ocispec.Descriptor{d}
		}, ""},
		"what is unknown and Windows first": {func(_ *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			none, win, own := d, d, d
			none.Platform, none.Digest = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}, digest.FromString("attestation")
			win.Platform, win.Digest = &ocispec.Platform{OS: "windows", Architecture: runtime.GOARCH, OSVersion: "10.0.1"}, digest.FromString("windows")
			own.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
			return []ocispec.Descriptor{none, win, own}
		}, ""},
		"an index within": {func(r *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
			inner := put(r, "", d)
			inner.Platform = d.Platform
			return []ocispec.Descriptor{inner}
		}, ""},
		"an index within, too often": {func(r *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			own := &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
			d.Platform = own
			for range 50 {
				d = put(r, "", d)
				d.Platform = own
			}
			return []ocispec.Descriptor{d}
		}, "an index inside an index"},
		"an entry of another kind": {func(_ *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			other := d
			other.MediaType, other.Digest = "application/vnd.example+json", digest.FromString("other")
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
			return []ocispec.Descriptor{other, d}
		}, ""},
		"nothing for this machine": {func(_ *registrytest.Registry, d ocispec.Descriptor) []ocispec.Descriptor {
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
			return []ocispec.Descriptor{d}
		}, "s390x"},
		"nothing": {func(*registrytest.Registry, ocispec.Descriptor) []ocispec.Descriptor { return nil }, "there is: no images"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			img := rawLayers(t, rawGzip(t, rawTar(t, tarEntry{Name: "f", Body: []byte("content")})))
			d := img.put(t, r, "base", "")
			put(r, "1", tc.list(r, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(r.Manifest("base", d.String())))})...)
			p := newProject(t, "FROM "+r.Host+"/base:1 AS b\nFROM scratch\nCOPY --from=b /f /f\n", nil)
			_, err := p.build()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
