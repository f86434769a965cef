package builder

import (
	"os"
	"strings"
	"testing"

	"gobuild/image"
)

// mediaTypesOf are those of the layers of a shared cache in a folder, each once.
func mediaTypesOf(t *testing.T, dir string) string {
	t.Helper()
	layout, err := image.OpenLayout(dir)
	must(t, err)
	defer layout.Close()
	desc, err := layout.Resolve("latest")
	must(t, err)
	raw, err := os.ReadFile(dir + "/blobs/sha256/" + desc.Digest.Encoded())
	must(t, err)
	m, err := image.ParseManifest(raw, desc.MediaType)
	must(t, err)
	var types []string
	for _, l := range m.Layers {
		if name := l.MediaType[strings.LastIndex(l.MediaType, ".")+1:]; !strings.Contains(strings.Join(types, " "), name) {
			types = append(types, name)
		}
	}
	return strings.Join(types, " ")
}

func TestI10_ACacheHasACompressionOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	to := CacheShare{Type: "local", Dir: dir, Compression: "zstd"}
	p := newProject(t, "FROM scratch\nCOPY a /a\nCOPY b /b\n", map[string]string{"a": "1", "b": "2"})
	p.opt.CacheTo = []CacheShare{to}
	plain := mustBuild(t, p)
	if got := mediaTypesOf(t, dir); got != "tar+zstd" {
		t.Errorf("zstd: %s", got)
	}
	other := newProject(t, p.dockerfile, map[string]string{"a": "1", "b": "2"})
	other.opt.CacheFrom = []CacheShare{to}
	res := mustBuild(t, other)
	if ran(res) != "" || res.Manifest.Digest != plain.Manifest.Digest {
		t.Errorf("ran %q; the image is %s, and was %s", ran(res), res.Manifest.Digest, plain.Manifest.Digest)
	}
	// What came from a cache as the image wants it keeps its compression, unless another is forced.
	gzip := CacheShare{Type: "local", Dir: t.TempDir()}
	p.opt.CacheTo = []CacheShare{gzip}
	mustBuild(t, p)
	for _, tc := range []struct {
		force bool
		want  string
	}{{false, "tar+gzip"}, {true, "tar"}} {
		again := newProject(t, p.dockerfile, map[string]string{"a": "1", "b": "2"})
		again.opt.CacheFrom = []CacheShare{gzip}
		out := t.TempDir()
		again.opt.CacheTo = []CacheShare{{Type: "local", Dir: out, Compression: "uncompressed", Force: tc.force, Max: true}}
		mustBuild(t, again)
		if got := mediaTypesOf(t, out); got != tc.want {
			t.Errorf("forced %v: %s", tc.force, got)
		}
	}
}

func TestI10_TheCompressionOfACacheIsChecked(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ compression, level, want string }{
		{"lz4", "", "gzip, zstd and uncompressed are"},
		{"gzip", "10", "level 10 of gzip"},
		{"", "x", "compression-level=x is not a number"},
	} {
		p := newProject(t, "FROM scratch\nCOPY a /a\n", map[string]string{"a": "1"})
		p.opt.CacheTo = []CacheShare{{Type: "local", Dir: t.TempDir(), Compression: tc.compression, Level: tc.level}}
		_, err := p.build()
		if e := classify(err, CategoryStep); err == nil || e.Category != CategoryUsage || !strings.Contains(err.Error()+e.Hint, tc.want) {
			t.Errorf("%s %s: %v", tc.compression, tc.level, err)
		}
	}
}

func TestI10_ResetBeginsAFolderAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tc := range []struct {
		file  string
		reset bool
		want  int
	}{{"1", false, 1}, {"2", false, 2}, {"3", true, 1}} {
		p := newProject(t, "FROM scratch\nCOPY a /a\n", map[string]string{"a": tc.file})
		p.opt.CacheTo = []CacheShare{{Type: "local", Dir: dir, Reset: tc.reset}}
		mustBuild(t, p)
		b := p.builder().newBuild(Options{})
		idx, _, err := b.readShare(t.Context(), p.opt.CacheTo[0])
		must(t, err)
		if len(idx.Steps) != tc.want {
			t.Errorf("%s: %d steps, want %d", tc.file, len(idx.Steps), tc.want)
		}
		b.close()
	}
}
