package builder

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

const inlineDockerfile = "FROM base AS tools\nRUN echo tool > /tool\nFROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nCOPY --link src /src\nCOPY --from=tools /tool /tool\nRUN cat /src > /out\n"

// inlineProject builds an image that carries its steps into a layout, and gives that as a cache.
func inlineProject(t *testing.T, change func(*Options)) (*project, *Result, CacheShare) {
	t.Helper()
	p := newShellProject(t, inlineDockerfile, map[string]string{"src": "1"})
	dir := filepath.Join(t.TempDir(), "layout")
	p.opt.CacheTo = []CacheShare{{Type: "inline"}}
	p.opt.Outputs = []Output{{Type: "oci", Dest: dir}}
	p.opt.Tags = []string{"example.com/app:latest"}
	if change != nil {
		change(&p.opt)
	}
	res, err := p.build()
	must(t, err)
	return p, res, CacheShare{Type: "local", Dir: dir}
}

// A machine that has the image alone takes the steps of its layers from it, and runs those of other stages.
//
// rows: I10 B10
func TestI11_AnImageCarriesItsSteps(t *testing.T) {
	t.Parallel()
	_, one, from := inlineProject(t, nil)
	second := newShellProject(t, inlineDockerfile, map[string]string{"src": "1"})
	second.opt.CacheFrom = []CacheShare{from}
	second.opt.CacheTo = []CacheShare{{Type: "inline"}}
	two, err := second.build()
	must(t, err)
	if got := ran(two); got != "RUN echo tool > /tool" {
		t.Errorf("ran %q", got)
	}
	if one.Manifest.Digest != two.Manifest.Digest {
		t.Errorf("the image is %s, was %s", two.Manifest.Digest, one.Manifest.Digest)
	}
	second.write("src", "2")
	if two, err = second.build(); err != nil || ran(two) != "COPY --link src /src\nCOPY --from=tools /tool /tool\nRUN cat /src > /out" {
		t.Errorf("after an edit ran %q, %v", ran(two), err)
	}
}

// Equal inputs give an equal image, whatever machine has made it.
func TestI11_TheFieldIsReproducible(t *testing.T) {
	t.Parallel()
	epoch := time.Unix(1000, 0)
	dockerfile := strings.ReplaceAll(inlineDockerfile, "cat /proc/sys/kernel/random/uuid", "echo 1")
	var got []digest.Digest
	for range 2 {
		p := newShellProject(t, dockerfile, map[string]string{"src": "1"})
		p.opt.CacheTo = []CacheShare{{Type: "inline"}}
		p.opt.SourceDateEpoch = &epoch
		res, err := p.build()
		must(t, err)
		got = append(got, res.Manifest.Digest)
	}
	if got[0] != got[1] {
		t.Errorf("%s and %s", got[0], got[1])
	}
}

// What an image says of itself is a claim: places outside of it, other forms and foreign images give no step.
//
// rows: I12
func TestI11_AFieldThatDoesNotFitIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*inlineCache)
		want   string
	}{
		{"a layer that is not there", func(in *inlineCache) { in.Steps[1].Layer = 99 }, "has layer 99 of"},
		{"a negative layer", func(in *inlineCache) { in.Steps[1].Layer = -1 }, "has layer -1 of"},
		{"a key that is none", func(in *inlineCache) { in.Steps[1].Key = "no key" }, "not well-formed"},
		{"another version", func(in *inlineCache) { in.Version = 7 }, "have form 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, from := inlineProject(t, nil)
			rewriteInline(t, from.Dir, tt.change)
			p := newShellProject(t, inlineDockerfile, map[string]string{"src": "1"})
			p.opt.CacheFrom = []CacheShare{from}
			_, err := p.build()
			must(t, err)
			if !strings.Contains(p.notices(), tt.want) {
				t.Errorf("no notice says %q", tt.want)
			}
		})
	}
	t.Run("an image without it", func(t *testing.T) {
		t.Parallel()
		_, _, from := inlineProject(t, func(o *Options) { o.CacheTo = nil })
		p := newShellProject(t, inlineDockerfile, map[string]string{"src": "1"})
		p.opt.CacheFrom = []CacheShare{from}
		_, err := p.build()
		must(t, err)
		if !strings.Contains(p.notices(), "it is an image without a cache") {
			t.Error("no notice")
		}
	})
}

// A layer that is not what the step's image has is found out when somebody needs its bytes.
func TestI11_AStepMovedToAnotherLayerStaysWithThatImage(t *testing.T) {
	t.Parallel()
	_, one, from := inlineProject(t, nil)
	rewriteInline(t, from.Dir, func(in *inlineCache) { in.Steps[0].Layer, in.Steps[1].Layer = in.Steps[1].Layer, in.Steps[0].Layer })
	p := newShellProject(t, inlineDockerfile, map[string]string{"src": "1"})
	p.opt.CacheFrom = []CacheShare{from}
	two, err := p.build()
	must(t, err)
	if !strings.Contains(ran(two), "random/uuid") || one.Manifest.Digest == two.Manifest.Digest {
		t.Errorf("a step was taken that lies upon other layers: ran %q", ran(two))
	}
}

// rewriteInline changes the field in the only image of a layout, with all digests made anew.
func rewriteInline(t *testing.T, dir string, change func(*inlineCache)) {
	t.Helper()
	layout, err := image.OpenLayout(dir)
	must(t, err)
	defer layout.Close()
	desc, err := layout.Resolve("latest")
	must(t, err)
	blob := func(d digest.Digest) string { return filepath.Join(dir, "blobs/sha256", d.Encoded()) }
	put := func(data []byte) digest.Digest {
		d := digest.FromBytes(data)
		must(t, os.WriteFile(blob(d), data, 0o600))
		return d
	}
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		must(t, err)
		return data
	}
	var m ocispec.Manifest
	must(t, json.Unmarshal(read(blob(desc.Digest)), &m))
	config := map[string]json.RawMessage{}
	must(t, json.Unmarshal(read(blob(m.Config.Digest)), &config))
	var in inlineCache
	must(t, json.Unmarshal(config["dev.gobuild.cache"], &in))
	change(&in)
	config["dev.gobuild.cache"], err = json.Marshal(in)
	must(t, err)
	data, err := json.Marshal(config)
	must(t, err)
	m.Config.Digest, m.Config.Size = put(data), int64(len(data))
	data, err = json.Marshal(m)
	must(t, err)
	index := filepath.Join(dir, "index.json")
	text := bytes.ReplaceAll(read(index), []byte(desc.Digest), []byte(put(data)))
	var idx ocispec.Index
	must(t, json.Unmarshal(text, &idx))
	idx.Manifests[0].Size = int64(len(data))
	text, err = json.Marshal(idx)
	must(t, err)
	must(t, os.WriteFile(index, text, 0o600))
}
