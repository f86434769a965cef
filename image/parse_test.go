package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

const (
	hexA   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hexA + `","size":2}`
	layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + hexA + `","size":2}`
	entry  = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hexA + `","size":2}`
)

func withLayer(l string) string {
	return `{"schemaVersion":2,"config":` + config + `,"layers":[` + l + `]}`
}

func layerWith(digest, size string) string {
	return withLayer(fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":%s}`, digest, size))
}

func TestParseManifest(t *testing.T) {
	t.Parallel()
	good := withLayer(layer)
	const docker2 = "application/vnd.docker.distribution.manifest.v2+json"
	tests := []struct {
		name, doc, mediaType string
		want                 error
	}{
		{"a good one", good, "", nil},
		{"unknown fields are ignored", `{"schemaVersion":2,"x":{"layers":1},"config":` + config + `,"layers":[]}`, "", nil},
		{"Docker by descriptor", good, docker2, nil},
		{"content type with parameters", good, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", nil},
		{"annotation keys may differ in case", `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{"a":"1","A":"2"}}`, "", nil},
		{"H-44 layers with manifests", `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":[]}`, "", image.ErrMalformed},
		{"H-44 null manifests beside layers", `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":null}`, "", image.ErrMalformed},
		{"H-44 mediaType unlike descriptor", `{"schemaVersion":2,"mediaType":"` + docker2 + `","config":` + config + `,"layers":[]}`, ocispec.MediaTypeImageManifest, image.ErrMalformed},
		{"H-44 an index by descriptor", good, ocispec.MediaTypeImageIndex, image.ErrMalformed},
		{"H-44 an index by mediaType", `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","config":` + config + `,"layers":[]}`, "", image.ErrMalformed},
		{"H-44 text", good, "text/html", image.ErrMalformed},
		{"H-44 schema 1", `{"schemaVersion":1,"fsLayers":[],"layers":[]}`, "", image.ErrMalformed},
		{"H-44 schema 1 in disguise", `{"schemaVersion":2,"fsLayers":[],"layers":[]}`, "", image.ErrMalformed},
		{"H-44 schema 1 by type", good, "application/vnd.docker.distribution.manifest.v1+prettyjws", image.ErrMalformed},
		{"no schemaVersion", `{"config":` + config + `,"layers":[]}`, "", image.ErrMalformed},
		{"no layers", `{"schemaVersion":2,"config":` + config + `}`, "", image.ErrMalformed},
		{"no config", `{"schemaVersion":2,"layers":[]}`, "", image.ErrMalformed},
		{"H-45 Layers beside layers", `{"schemaVersion":2,"config":` + config + `,"layers":[],"Layers":[` + layer + `]}`, "", image.ErrMalformed},
		{"H-45 only Layers", `{"schemaVersion":2,"config":` + config + `,"Layers":[]}`, "", image.ErrMalformed},
		{"H-45 folded by Unicode", `{"ſchemaVersion":2,"schemaVersion":2,"config":` + config + `,"layers":[]}`, "", image.ErrMalformed},
		{"H-45 folded inside a descriptor", withLayer(`{"mediaType":"x","digest":"sha256:` + hexA + `","size":2,"Size":3}`), "", image.ErrMalformed},
		{"H-45 duplicate key", `{"schemaVersion":2,"config":` + config + `,"layers":[],"layers":[]}`, "", image.ErrMalformed},
		{"H-45 duplicate by escape", `{"schemaVersion":2,"config":` + config + `,"layers":[],"\u006cayers":[]}`, "", image.ErrMalformed},
		{"H-45 duplicate in an unknown field", `{"schemaVersion":2,"config":` + config + `,"layers":[],"x":{"a":1,"a":2}}`, "", image.ErrMalformed},
		{"H-45 second document", good + `{}`, "", image.ErrMalformed},
		{"H-45 trailing text", good + `x`, "", image.ErrMalformed},
		{"trailing space", good + " \n", "", nil},
		{"cut", good[:len(good)-1], "", image.ErrMalformed},
		{"empty", "", "", image.ErrMalformed},
		{"null", "null", "", image.ErrMalformed},
		{"a list", "[]", "", image.ErrMalformed},
		{"H-46 path", layerWith("sha256:../../x", "1"), "", image.ErrMalformed},
		{"H-46 md5", layerWith("md5:d41d8cd98f00b204e9800998ecf8427e", "1"), "", image.ErrMalformed},
		{"H-46 upper case", layerWith("sha256:"+strings.ToUpper(hexA), "1"), "", image.ErrMalformed},
		{"H-46 63 hex", layerWith("sha256:"+hexA[1:], "1"), "", image.ErrMalformed},
		{"H-46 short sha512", layerWith("sha512:"+hexA, "1"), "", image.ErrMalformed},
		{"sha512", layerWith("sha512:"+hexA+hexA, "1"), "", nil},
		{"sha384", layerWith("sha384:"+hexA+hexA[:32], "1"), "", image.ErrMalformed},
		{"H-41 size -1", layerWith("sha256:"+hexA, "-1"), "", image.ErrMalformed},
		{"H-41 size 2^63-1", layerWith("sha256:"+hexA, "9223372036854775807"), "", image.ErrMalformed},
		{"H-41 size 2^64", layerWith("sha256:"+hexA, "18446744073709551616"), "", image.ErrMalformed},
		{"H-41 size 1.5", layerWith("sha256:"+hexA, "1.5"), "", image.ErrMalformed},
		{"H-41 size 0", layerWith("sha256:"+hexA, "0"), "", nil},
		{"H-47 data unlike its digest", withLayer(`{"mediaType":"x","digest":"sha256:` + hexA + `","size":2,"data":"e30="}`), "", image.ErrMalformed},
		{"H-47 data of its digest", withLayer(`{"mediaType":"x","digest":"` + string(digest.FromString("{}")) + `","size":2,"data":"e30="}`), "", nil},
		{"H-42 nested deeply", `{"schemaVersion":2,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `,"config":` + config + `,"layers":[]}`, "", image.ErrTooLarge},
		{"H-42 a million layers", withLayer(strings.Repeat("{},", 999_999) + "{}"), "", image.ErrTooLarge},
		{"H-39 1001 layers", withLayer(strings.Repeat(layer+",", 1000) + layer), "", image.ErrTooLarge},
		{"H-39 one layer 100 times", withLayer(strings.Repeat(layer+",", 99) + layer), "", nil},
		{"H-42 nine megabytes", good + strings.Repeat(" ", 9<<20), "", image.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := image.ParseManifest([]byte(tt.doc), tt.mediaType)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %.300v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseIndex(t *testing.T) {
	t.Parallel()
	doc := func(entries string) string { return `{"schemaVersion":2,"manifests":[` + entries + `]}` }
	tests := []struct {
		name, doc, mediaType string
		want                 error
	}{
		{"a good one", doc(entry), "", nil},
		{"empty", doc(""), "", nil},
		{"Docker list", doc(entry), "application/vnd.docker.distribution.manifest.list.v2+json", nil},
		{"H-43 10^5 entries", doc(strings.Repeat("{},", 99_999) + "{}"), "", image.ErrTooLarge},
		{"H-43 1001 entries", doc(strings.Repeat(entry+",", 1000) + entry), "", image.ErrTooLarge},
		{"H-44 config beside manifests", `{"schemaVersion":2,"manifests":[],"config":` + config + `}`, "", image.ErrMalformed},
		{"H-44 no manifests", `{"schemaVersion":2}`, "", image.ErrMalformed},
		{"H-44 a manifest by descriptor", doc(entry), ocispec.MediaTypeImageManifest, image.ErrMalformed},
		{"H-46 bad digest", doc(`{"mediaType":"x","digest":"sha256:../..","size":1}`), "", image.ErrMalformed},
		{"H-45 Manifests", `{"schemaVersion":2,"manifests":[],"Manifests":[]}`, "", image.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := image.ParseIndex([]byte(tt.doc), tt.mediaType); !errors.Is(err, tt.want) {
				t.Errorf("got %.300v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	rootfs := `"rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]}`
	tests := []struct {
		name, doc string
		want      error
	}{
		{"a good one", `{"os":"linux","architecture":"amd64",` + rootfs + `}`, nil},
		{"an old Docker one", `{"id":"x","docker_version":"1.9","container_config":{"Cmd":["x"]},"config":{"Hostname":"h","Image":"y","AttachStdin":false,"Memory":0},` + rootfs + `}`, nil},
		{"H-50 odd values are data", `{"config":{"Env":["PATH=\u0000","LD_PRELOAD=/x"],"WorkingDir":"/../..","Labels":{"--privileged":"1","a":"1","A":"2"}},` + rootfs + `}`, nil},
		{"volumes may differ in case", `{"config":{"Volumes":{"/a":{},"/A":{}}},` + rootfs + `}`, nil},
		{"H-45 env twice in two spellings", `{"config":{"Env":[],"env":["X=1"]},` + rootfs + `}`, image.ErrMalformed},
		{"H-45 embedded fields are known", `{"config":{"healthcheck":{}},` + rootfs + `}`, image.ErrMalformed},
		{"H-46 bad diff_id", `{"rootfs":{"type":"layers","diff_ids":["sha256:x"]}}`, image.ErrMalformed},
		{"other rootfs", `{"rootfs":{"type":"x","diff_ids":[]}}`, image.ErrMalformed},
		{"an empty artifact config", `{}`, image.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := image.ParseConfig([]byte(tt.doc)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCheckImage(t *testing.T) {
	t.Parallel()
	mem := newMemory()
	out, err := image.Assemble(assembly(t, mem, "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(desc *ocispec.Descriptor, m *ocispec.Manifest)
		text   string
	}{
		{"a good one", func(*ocispec.Descriptor, *ocispec.Manifest) {}, ""},
		{"no platform promised", func(d *ocispec.Descriptor, _ *ocispec.Manifest) { d.Platform = nil }, ""},
		{"H-49 index says amd64, config arm64", func(d *ocispec.Descriptor, _ *ocispec.Manifest) {
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		}, "listed as linux/amd64, but its config says linux/arm64"},
		{"H-44 artifact as base", func(_ *ocispec.Descriptor, m *ocispec.Manifest) {
			m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
		}, "artifact"},
		{"H-47 foreign layer", func(_ *ocispec.Descriptor, m *ocispec.Manifest) {
			m.Layers[0].MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		}, "fetched from elsewhere"},
		{"H-47 nondistributable layer", func(_ *ocispec.Descriptor, m *ocispec.Manifest) {
			m.Layers[0].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
		}, "fetched from elsewhere"},
		{"H-44 something else as layer", func(_ *ocispec.Descriptor, m *ocispec.Manifest) { m.Layers[0].MediaType = "text/x" }, "not a file system"},
		{"H-39 diff_ids too few", func(_ *ocispec.Descriptor, m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }, "3 layers but 2 diff_ids"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := image.ParseManifest(out.ManifestBytes, "")
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := image.ParseConfig(out.ConfigBytes)
			if err != nil {
				t.Fatal(err)
			}
			desc := out.Manifest
			tt.change(&desc, &m)
			err = image.CheckImage(desc, m, cfg)
			if tt.text == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, image.ErrMalformed) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHostileH42_MemoryStaysBounded(t *testing.T) {
	docs := [][]byte{
		[]byte(withLayer(strings.Repeat("{},", 2_000_000) + "{}")),
		bytes.Repeat([]byte("["), 8<<20),
		[]byte(`{"schemaVersion":2,"manifests":[` + strings.Repeat("null,", 1_500_000) + `null]}`),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, d := range docs {
		if _, err := image.ParseManifest(d, ""); err == nil {
			t.Error("taken")
		}
		if _, err := image.ParseIndex(d, ""); err == nil {
			t.Error("taken")
		}
	}
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 200 {
		t.Errorf("allocated %d MiB", mb)
	}
}

func TestJ3_SelectPlatform(t *testing.T) {
	t.Parallel()
	list := func(names ...string) ocispec.Index {
		var idx ocispec.Index
		for i, n := range names {
			d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i, n)), Size: int64(i)}
			if n != "" {
				p := strings.Split(n+"//", "/")
				d.Platform = &ocispec.Platform{OS: p[0], Architecture: p[1], Variant: p[2]}
			}
			idx.Manifests = append(idx.Manifests, d)
		}
		return idx
	}
	tests := []struct {
		name string
		have []string
		want string
		pick int64 // -1: an error
	}{
		{"exact", []string{"linux/arm64", "linux/amd64"}, "linux/amd64", 1},
		{"exact variant before lower", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7", 1},
		{"nearest lower variant", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v8"}, "linux/arm/v7", 1},
		{"never a higher variant", []string{"linux/arm/v7"}, "linux/arm/v6", -1},
		{"arm64 is v8", []string{"linux/arm64/v8"}, "linux/arm64", 0},
		{"arm64 never gets arm", []string{"linux/arm/v7"}, "linux/arm64", -1},
		{"amd64 v3 runs v2", []string{"linux/amd64", "linux/amd64/v2"}, "linux/amd64/v3", 1},
		{"amd64 does not run v2", []string{"linux/amd64/v2"}, "linux/amd64", -1},
		{"amd64 v1 is the base", []string{"linux/amd64"}, "linux/amd64/v1", 0},
		{"other names of an architecture", []string{"linux/x86_64"}, "linux/amd64", 0},
		{"unknown variant must be equal", []string{"linux/riscv64/rva23"}, "linux/riscv64/rva22", -1},
		{"H-49 a single foreign image is no substitute", []string{"linux/s390x"}, "linux/amd64", -1},
		{"a single image without platform", []string{""}, "linux/amd64", 0},
		{"two images without platform", []string{"", ""}, "linux/amd64", -1},
		{"attestations do not count", []string{"unknown/unknown", ""}, "linux/amd64", 1},
		{"attestations are never taken", []string{"unknown/unknown"}, "unknown/unknown", -1},
		{"first of equal ones", []string{"linux/amd64", "linux/amd64"}, "linux/amd64", 0},
		{"nothing", nil, "linux/amd64", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := strings.Split(tt.want+"//", "/")
			d, err := image.SelectPlatform(list(tt.have...), ocispec.Platform{OS: p[0], Architecture: p[1], Variant: p[2]})
			if tt.pick < 0 {
				if !errors.Is(err, image.ErrNoPlatform) {
					t.Errorf("got %v, %v", d.Platform, err)
				}
			} else if err != nil || d.Size != tt.pick {
				t.Errorf("got %d, %v", d.Size, err)
			}
		})
	}
	_, err := image.SelectPlatform(list("linux/arm64", "linux/arm/v7", "unknown/unknown"), ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if err == nil || err.Error() != "no image for linux/amd64, there is: linux/arm64, linux/arm/v7" {
		t.Errorf("text: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{withLayer(layer), `{"schemaVersion":2,"manifests":[` + entry + `]}`, `{"layers":[],"Layers":null}`, `{"a":{"a":[1,"x",null]}} {}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, merr := image.ParseManifest(b, "")
		_, ierr := image.ParseIndex(b, "")
		if merr == nil && ierr == nil {
			t.Fatal("one document, two kinds")
		}
		for _, err := range []error{merr, ierr} {
			if err != nil && !errors.Is(err, image.ErrMalformed) && !errors.Is(err, image.ErrTooLarge) {
				t.Fatalf("error of no kind: %v", err)
			}
		}
		if merr != nil {
			return
		}
		// What was taken means the same when it is written plainly.
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		m2, err := image.ParseManifest(again, m.MediaType)
		if err != nil {
			t.Fatalf("written again: %v\n%s", err, again)
		}
		if len(m2.Layers) != len(m.Layers) || m2.Config.Digest != m.Config.Digest {
			t.Fatal("changed by writing")
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]},"config":{"Env":["A=b"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg, err := image.ParseConfig(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(cfg)
		if err != nil {
			return // a time beyond year 9999 cannot be written
		}
		if _, err := image.ParseConfig(again); err != nil {
			t.Fatalf("written again: %v\n%s", err, again)
		}
	})
}
