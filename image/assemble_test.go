package image_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

// The bytes are a promise: whoever changes this test writes a decision record.
const wantConfig = `{"created":"1970-01-01T00:03:20Z","author":"a","architecture":"amd64","os":"linux",` +
	`"rootfs":{"type":"layers","diff_ids":["DIFF0","DIFF1"]},` +
	`"history":[{"created":"1970-01-01T00:01:40Z","created_by":"COPY one"},{"created":"1970-01-01T00:01:40Z","created_by":"ENV","empty_layer":true},` +
	`{"created":"1970-01-01T00:03:20Z","created_by":"COPY two"},{"created_by":"CMD","empty_layer":true}],` +
	`"config":{"Env":["PATH=/bin","X=\u003c\u0026\u003e"],"Labels":{"B":"1","a":"","b":"2"},"StopSignal":"SIGINT",` +
	`"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"],"Shell":["/bin/bash"]}}`

const wantManifest = `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "CONFIG",
    "size": CSIZE
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "LAYER0",
      "size": LSIZE0
    },
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar",
      "digest": "LAYER1",
      "size": LSIZE1
    }
  ],
  "annotations": {
    "a": "1",
    "b": "2"
  }
}`

func fill(text string, a image.Assembly, out image.Assembled) string {
	size := func(n int64) string { b, _ := json.Marshal(n); return string(b) }
	return strings.NewReplacer(
		"DIFF0", string(a.Layers[0].DiffID), "DIFF1", string(a.Layers[1].DiffID),
		"CONFIG", string(out.Config.Digest), "CSIZE", size(out.Config.Size),
		"LAYER0", string(a.Layers[0].Desc.Digest), "LAYER1", string(a.Layers[1].Desc.Digest),
		"LSIZE0", size(a.Layers[0].Desc.Size), "LSIZE1", size(a.Layers[1].Desc.Size),
	).Replace(text)
}

func TestH2_BytesOfConfigAndManifest(t *testing.T) {
	t.Parallel()
	a := assembly(t, newMemory(), "amd64")
	a.Annotations = map[string]string{"b": "2", "a": "1"}
	out, err := image.Assemble(a)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fill(wantConfig, a, out), string(out.ConfigBytes)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(fill(wantManifest, a, out), string(out.ManifestBytes)); d != "" {
		t.Error(d)
	}
	want := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(out.ManifestBytes), Size: int64(len(out.ManifestBytes)),
		Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
	if d := cmp.Diff(want, out.Manifest); d != "" {
		t.Error(d)
	}
}

func TestH1_ConfigSurvivesParsing(t *testing.T) {
	t.Parallel()
	a := assembly(t, newMemory(), "amd64")
	out, err := image.Assemble(a)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := image.ParseConfig(out.ConfigBytes)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a.Image.Config, cfg.Config); d != "" {
		t.Error(d)
	}
	a.Image = cfg
	again, err := image.Assemble(a)
	if err != nil || again.Config.Digest != out.Config.Digest {
		t.Errorf("not stable: %v %v", again.Config.Digest, err)
	}
}

func TestH4_CreatedIsTheLastHistoryTime(t *testing.T) {
	t.Parallel()
	a := assembly(t, newMemory(), "amd64")
	created := func() string {
		out, err := image.Assemble(a)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := image.ParseConfig(out.ConfigBytes)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Created == nil {
			return ""
		}
		return cfg.Created.String()
	}
	if got := created(); got != at(200).String() {
		t.Errorf("created %s", got)
	}
	a.Created = at(7)
	if got := created(); got != at(7).String() {
		t.Errorf("created %s", got)
	}
	a.Created, a.Layers, a.History = nil, nil, nil
	if got := created(); got != "" {
		t.Errorf("created %s", got)
	}
}

func TestH13_DockerTypes(t *testing.T) {
	t.Parallel()
	a := assembly(t, newMemory(), "amd64")
	a.DockerTypes = true
	a.Layers[0].Desc.Annotations = map[string]string{"hint": "x"}
	out, err := image.Assemble(a)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.ParseManifest(out.ManifestBytes, "application/vnd.docker.distribution.manifest.v2+json")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{out.Manifest.MediaType, m.Config.MediaType, m.Layers[0].MediaType, m.Layers[1].MediaType}
	want := []string{
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
		"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar",
	}
	if d := cmp.Diff(want, got); d != "" || m.Layers[0].Annotations != nil {
		t.Error(d, m.Layers[0].Annotations)
	}
	a.DockerTypes = false
	a.Layers[0].Desc.MediaType = want[2]
	if out, err = image.Assemble(a); err != nil {
		t.Fatal(err)
	}
	if m, err = image.ParseManifest(out.ManifestBytes, ""); err != nil || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("%q %v", m.Layers[0].MediaType, err)
	}
}

func TestAssembleRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(a *image.Assembly)
		text   string
	}{
		{"zstd layer in a docker manifest", func(a *image.Assembly) {
			a.DockerTypes, a.Layers[0].Desc.MediaType = true, ocispec.MediaTypeImageLayerZstd
		}, "zstd"},
		{"annotations in a docker manifest", func(a *image.Assembly) {
			a.DockerTypes, a.Annotations = true, map[string]string{"a": "b"}
		}, "annotations"},
		{"history without its layer", func(a *image.Assembly) { a.Layers = a.Layers[:1] }, "1 layers, but 2 history"},
		{"no diff_id", func(a *image.Assembly) { a.Layers[1].DiffID = "" }, "diff_id of layer 1"},
		{"a layer that is none", func(a *image.Assembly) { a.Layers[1].Desc.MediaType = "text/plain" }, "text/plain"},
		{"a negative size", func(a *image.Assembly) { a.Layers[1].Desc.Size = -1 }, "size -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := assembly(t, newMemory(), "amd64")
			tt.change(&a)
			if _, err := image.Assemble(a); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestScratchImageHasEmptyLists(t *testing.T) {
	t.Parallel()
	out, err := image.Assemble(image.Assembly{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out.ManifestBytes), `"layers": []`) || !strings.Contains(string(out.ConfigBytes), `"diff_ids":[]`) {
		t.Errorf("%s\n%s", out.ManifestBytes, out.ConfigBytes)
	}
}
