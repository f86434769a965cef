package builder

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestH16_AnnotationGrammar(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a.b=c":                             "manifest a.b c",
		"a=b=c":                             "manifest a b=c",
		"a=":                                "manifest a ",
		"manifest:a=b:c":                    "manifest a b:c",
		"manifest-descriptor:a=b":           "manifest-descriptor a b",
		"manifest,manifest-descriptor:a=b":  "manifest a b; manifest-descriptor a b",
		"manifest[linux/aarch64]:a=b":       "manifest linux/arm64 a b",
		"a":                                 "error: want [TYPE:]KEY=VALUE",
		"=b":                                "error: want [TYPE:]KEY=VALUE",
		"manifest:=b":                       "error: the key is empty",
		"index,index-descriptor:a=b":        "index a b; index-descriptor a b",
		"index[linux/arm64]:a=b":            "error: an index is not of one platform",
		"manfest:a=b":                       "error: \"manfest\" carries no annotations",
		"manifest[:a=b":                     "error: \"\" is no platform",
		"manifest[nosuch/arch/of/this]:a=b": "error: \"nosuch/arch/of/this\" is no platform",
	} {
		list, err := ParseAnnotation(text)
		var got []string
		for _, a := range list {
			got = append(got, strings.Join(strings.Fields(a.On+" "+a.Platform+" "+a.Key), " ")+" "+a.Value)
		}
		result := strings.Join(got, "; ")
		if err != nil {
			result = "error: " + err.Error()
		}
		if result != want {
			t.Errorf("%s: %s, want %s", text, result, want)
		}
	}
}

// manifestIn reads the one manifest of a layout, and the entry that leads to it.
func manifestIn(t *testing.T, layout string) (m ocispec.Manifest, entry ocispec.Descriptor) {
	t.Helper()
	var idx ocispec.Index
	for _, doc := range []struct {
		path string
		to   any
	}{{"index.json", &idx}, {"", &m}} {
		path := doc.path
		if path == "" {
			entry = idx.Manifests[0]
			path = filepath.Join("blobs", "sha256", entry.Digest.Encoded())
		}
		raw, err := os.ReadFile(filepath.Join(layout, path))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, doc.to); err != nil {
			t.Fatal(err)
		}
	}
	return m, entry
}

func TestH16_AnnotationsAreWhereTheyBelong(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY a /a\n", map[string]string{"a": "1"})
	out := filepath.Join(t.TempDir(), "out")
	p.opt.Annotations = []Annotation{
		{On: "manifest", Key: "m", Value: "1"}, {On: "manifest-descriptor", Key: "d", Value: "2"},
		{On: "manifest", Platform: "linux/riscv64", Key: "other", Value: "3"},
	}
	p.opt.Outputs = []Output{{Type: "oci", Dest: out, Attrs: map[string]string{"annotation.o": "4", "annotation-manifest-descriptor[linux/" + runtime.GOARCH + "].p": "5"}}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	m, entry := manifestIn(t, out)
	if len(m.Annotations) != 2 || m.Annotations["m"] != "1" || m.Annotations["o"] != "4" {
		t.Errorf("manifest: %v", m.Annotations)
	}
	if entry.Annotations["d"] != "2" || entry.Annotations["p"] != "5" || entry.Annotations["m"] != "" {
		t.Errorf("entry: %v", entry.Annotations)
	}
	if !strings.Contains(p.notices(), "annotation other is for linux/riscv64") {
		t.Errorf("notices: %s", p.notices())
	}
	p.opt.Outputs[0].Attrs = map[string]string{"oci-mediatypes": "false"}
	if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "have no annotations") {
		t.Errorf("Docker's format: %v", err)
	}
}

func TestH8_LayersKeepUserAttributesOnRequest(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY a /a\n", map[string]string{"a": "1"})
	if err := unix.Setxattr(filepath.Join(p.dir, "a"), "user.k", []byte("v"), 0); err != nil {
		t.Skip("the file system of the tests keeps no user attributes: ", err)
	}
	digests := map[string]bool{}
	for _, keep := range []bool{false, true, false} {
		out := filepath.Join(t.TempDir(), "out")
		p.opt.UserXattrs = keep
		p.opt.Outputs = []Output{{Type: "oci", Dest: out, Attrs: map[string]string{"compression": "uncompressed"}}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		m, _ := manifestIn(t, out)
		raw, err := os.ReadFile(filepath.Join(out, "blobs", "sha256", m.Layers[0].Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(raw), "SCHILY.xattr.user.k=v"); got != keep {
			t.Errorf("kept %v, asked for %v", got, keep)
		}
		digests[m.Layers[0].Digest.String()] = true
	}
	if len(digests) != 2 {
		t.Errorf("%d layers of two forms", len(digests))
	}
}

func TestH16_AnnotationsOfAnIndex(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY a /a\n", map[string]string{"a": "1"})
	out := filepath.Join(t.TempDir(), "out")
	p.opt.Annotations = []Annotation{
		{On: "index", Key: "i", Value: "1"}, {On: "index-descriptor", Key: "e", Value: "2"}, {On: "manifest", Key: "m", Value: "3"},
		{On: "manifest-descriptor", Platform: "linux/s390x", Key: "s", Value: "4"}, {On: "manifest", Platform: "linux/riscv64", Key: "none", Value: "5"},
	}
	p.opt.Outputs = []Output{{Type: "oci", Dest: out, Attrs: map[string]string{"annotation-index.o": "6"}}}
	_, err := p.build()
	wantCategory(t, err, CategoryUsage, "of an index, and one image has none")
	p.opt.Platforms = []string{"linux/arm64", "linux/s390x"}
	res := mustBuild(t, p)
	idx := indexOf(t, p, res.Manifest)
	arm, s390x := idx.Manifests[0], idx.Manifests[1]
	for what, pair := range map[string][2]map[string]string{
		"index":  {idx.Annotations, {"i": "1", "o": "6"}},
		"result": {res.Manifest.Annotations, {"e": "2"}},
		"arm64":  {arm.Annotations, nil},
		"s390x":  {s390x.Annotations, {"s": "4"}},
	} {
		if !maps.Equal(pair[0], pair[1]) {
			t.Errorf("%s has %v, want %v", what, pair[0], pair[1])
		}
	}
	if _, entry := manifestIn(t, out); entry.Annotations["e"] != "2" || entry.Digest != res.Manifest.Digest {
		t.Errorf("entry of the layout: %+v", entry)
	}
	b := p.builder()
	defer b.Close()
	for _, d := range idx.Manifests {
		if m, _, err := b.read(d); err != nil || !maps.Equal(m.Annotations, map[string]string{"m": "3"}) {
			t.Errorf("manifest: %v, %v", m.Annotations, err)
		}
	}
	if n := p.notices(); !strings.Contains(n, "none is for linux/riscv64, which is none of the platforms") || strings.Contains(n, "annotation s ") {
		t.Errorf("notices: %s", n)
	}
}

// Each platform's new layers become one, and what is squashed is of that platform.
func TestH17_SquashOfSeveralPlatforms(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/arm64", "linux/s390x")
	p.opt.Squash = SquashNew
	res := mustBuild(t, p)
	b := p.builder()
	defer b.Close()
	seen := map[string]bool{}
	for _, d := range indexOf(t, p, res.Manifest).Manifests {
		m, _, err := b.read(d)
		if err != nil || len(m.Layers) != 1 {
			t.Fatalf("%d layers, %v", len(m.Layers), err)
		}
		seen[m.Layers[0].Digest.String()] = true
	}
	if len(seen) != 2 {
		t.Errorf("layers %v", seen)
	}
}
