package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
)

const name = "docker.io/library/app:v1"

// skopeo runs skopeo, or skips the test.
func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	p, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	out, err := exec.Command(p, append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func readIndex(t *testing.T, dir string) ocispec.Index {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(b, &idx); err != nil {
		t.Fatal(err)
	}
	return idx
}

// entries lists the names of a tar, and its files.
func entries(t *testing.T, b []byte) ([]string, map[string]string) {
	t.Helper()
	var names []string
	files := map[string]string{}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s: %+v", h.Name, h)
		}
		names = append(names, h.Name)
		c, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(c)
	}
}

func TestK3_LayoutDirectory(t *testing.T) {
	t.Parallel()
	mem, dir := newMemory(), filepath.Join(t.TempDir(), "out")
	one := build(t, mem, assembly(t, mem, "amd64"))
	two := build(t, mem, assembly(t, mem, "arm64"))
	write := func(root ocispec.Descriptor, epoch *time.Time, names ...string) {
		t.Helper()
		if err := image.WriteLayout(t.Context(), dir, mem, root, names, epoch); err != nil {
			t.Fatal(err)
		}
	}
	type row struct{ Ref, Name, Created, Digest string }
	check := func(want ...row) {
		t.Helper()
		var got []row
		for _, d := range readIndex(t, dir).Manifests {
			a := d.Annotations
			got = append(got, row{a[ocispec.AnnotationRefName], a["io.containerd.image.name"], a[ocispec.AnnotationCreated], d.Digest.String()})
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	d1, d2 := one.Digest.String(), two.Digest.String()
	write(one, nil, name, "example.com:5000/app:v1", "example.com/x:v2")
	check(row{"v1", name, "", d1}, row{"v1", "example.com:5000/app:v1", "", d1}, row{"v2", "example.com/x:v2", "", d1})
	write(two, at(86400), name) // the tag moves: old content is out of its reach under any name
	check(row{"v2", "example.com/x:v2", "", d1}, row{"v1", name, "1970-01-02T00:00:00Z", d2})
	write(two, nil, name)
	write(two, nil)
	write(two, nil)
	check(row{"v2", "example.com/x:v2", "", d1}, row{"v1", name, "", d2}, row{"", "", "", d2})
	skopeo(t, "inspect", "oci:"+dir+":v2")
	if out := skopeo(t, "inspect", "--raw", "oci:"+dir+":v1"); digest.FromString(out) != two.Digest {
		t.Errorf("skopeo reads %s", out)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	more, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/.*"))
	if len(left)+len(more) > 0 {
		t.Errorf("left behind: %v %v", left, more)
	}
}

func TestWriteLayoutReplacesDamagedBlobs(t *testing.T) {
	t.Parallel()
	mem, dir := newMemory(), t.TempDir()
	a := assembly(t, mem, "amd64")
	root := build(t, mem, a)
	for range 2 {
		if err := image.WriteLayout(t.Context(), dir, mem, root, []string{name}, nil); err != nil {
			t.Fatal(err)
		}
		l, err := image.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := image.Validate(t.Context(), l, root); err != nil {
			t.Fatal(err)
		}
		d := a.Layers[0].Desc
		if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()), make([]byte, d.Size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := image.Validate(t.Context(), l, root); !errors.Is(err, image.ErrContent) {
			t.Errorf("damage not seen: %v", err)
		}
	}
}

func TestFailedOutputLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	mem, dir := newMemory(), t.TempDir()
	old := build(t, mem, assembly(t, mem, "amd64"))
	if err := image.WriteLayout(t.Context(), dir, mem, old, []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "index.json"))
	a := assembly(t, mem, "arm64")
	root := build(t, mem, a)
	delete(mem.blobs, a.Layers[1].Desc.Digest)
	if err := image.WriteLayout(t.Context(), dir, mem, root, []string{name}, nil); !errors.Is(err, errAbsent) {
		t.Fatalf("got %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "index.json")); !bytes.Equal(before, after) {
		t.Errorf("index changed: %s", after)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs/sha256", root.Digest.Encoded())); err == nil {
		t.Error("the manifest was written")
	}
	mem.blobs[a.Layers[1].Desc.Digest] = []byte("other content")
	for kind, write := range map[string]func(context.Context, io.Writer, image.Fetcher, ocispec.Descriptor, []string, *time.Time) error{
		"oci": image.WriteOCITar, "docker": image.WriteDockerTar,
	} {
		if err := write(t.Context(), io.Discard, mem, root, nil, nil); !errors.Is(err, image.ErrContent) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestK2_OCIArchive(t *testing.T) {
	t.Parallel()
	mem := newMemory()
	root := buildIndex(t, mem, "amd64", "arm64")
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := image.WriteOCITar(t.Context(), w, mem, root, []string{name}, at(86400)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two archives of one image differ")
	}
	names, files := entries(t, a.Bytes())
	if want := []string{"oci-layout", "index.json", "blobs/", "blobs/sha256/"}; !slices.Equal(names[:4], want) || !slices.IsSorted(names[4:]) || len(names) != 12 {
		t.Errorf("entries: %v", names)
	}
	for n, c := range files {
		if d, ok := strings.CutPrefix(n, "blobs/sha256/"); ok && d != "" && digest.FromString(c).Encoded() != d {
			t.Errorf("%s has other content", n)
		}
	}
	p := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(p, a.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := skopeo(t, "inspect", "--raw", "oci-archive:"+p+":v1"); digest.FromString(out) != root.Digest {
		t.Errorf("skopeo reads %s", out)
	}
	skopeo(t, "copy", "--all", "oci-archive:"+p+":v1", "oci:"+t.TempDir()+":x")
}

func TestK2_DockerArchive(t *testing.T) {
	t.Parallel()
	for _, docker := range []bool{false, true} {
		mem := newMemory()
		a := assembly(t, mem, "amd64")
		a.DockerTypes = docker
		root := build(t, mem, a)
		var buf bytes.Buffer
		if err := image.WriteDockerTar(t.Context(), &buf, mem, root, []string{name, "docker.io/me/app:v2", "example.com/app:v3"}, nil); err != nil {
			t.Fatal(err)
		}
		_, files := entries(t, buf.Bytes())
		var list []struct {
			Config           string
			RepoTags, Layers []string
		}
		if err := json.Unmarshal([]byte(files["manifest.json"]), &list); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"app:v1", "me/app:v2", "example.com/app:v3"}, list[0].RepoTags); d != "" {
			t.Error(d)
		}
		for _, p := range append(list[0].Layers, list[0].Config) {
			if files[p] == "" {
				t.Errorf("%s is missing", p)
			}
		}
		p := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(p, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		skopeo(t, "inspect", "docker-archive:"+p)
		skopeo(t, "copy", "docker-archive:"+p+":app:v1", "oci:"+out+":x") // reads every layer and checks its diff_id
		l, err := image.OpenLayout(out)
		if err != nil {
			t.Fatal(err)
		}
		desc, err := l.Resolve("x")
		if err != nil {
			t.Fatal(err)
		}
		if err := image.Validate(t.Context(), l, desc); err != nil {
			t.Error(err)
		}
		if l, err = image.OpenLayout(p); err != nil {
			t.Fatal(err)
		}
		if desc, err = l.Resolve("v2"); err != nil || desc.Digest != root.Digest {
			t.Errorf("as a layout: %v %v", desc.Digest, err)
		}
		if err := image.Validate(t.Context(), l, desc); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestK2_DockerArchiveHoldsOnePlatform(t *testing.T) {
	t.Parallel()
	mem := newMemory()
	if err := image.WriteDockerTar(t.Context(), io.Discard, mem, buildIndex(t, mem, "amd64"), nil, nil); err != nil {
		t.Errorf("an index of one: %v", err)
	}
	err := image.WriteDockerTar(t.Context(), io.Discard, mem, buildIndex(t, mem, "amd64", "arm64"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "2 platforms (linux/amd64, linux/arm64)") {
		t.Errorf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(m *memory, a *image.Assembly)
		want   error
	}{
		{"a good image", func(*memory, *image.Assembly) {}, nil},
		{"zstd", func(m *memory, a *image.Assembly) {
			l := layerTar(t, "x", "y")
			a.Layers[0] = image.Layer{Desc: m.add(ocispec.MediaTypeImageLayerZstd, zstandard(t, l)), DiffID: digest.FromBytes(l)}
		}, nil},
		{"H-48 wrong diff_id", func(_ *memory, a *image.Assembly) { a.Layers[0].DiffID = digest.FromString("x") }, image.ErrContent},
		{"H-48 diff_ids of each other", func(_ *memory, a *image.Assembly) {
			a.Layers[0].DiffID, a.Layers[1].DiffID = a.Layers[1].DiffID, a.Layers[0].DiffID
		}, image.ErrContent},
		{"H-41 layer size", func(_ *memory, a *image.Assembly) { a.Layers[0].Desc.Size++ }, image.ErrContent},
		{"H-41 layer digest", func(m *memory, a *image.Assembly) {
			d := a.Layers[1].Desc.Digest
			m.blobs[d] = append([]byte{1}, m.blobs[d][1:]...)
		}, image.ErrContent},
		{"not gzip", func(m *memory, a *image.Assembly) {
			a.Layers[0].Desc = m.add(ocispec.MediaTypeImageLayerGzip, []byte("plain"))
		}, image.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mem := newMemory()
			a := assembly(t, mem, "amd64")
			tt.change(mem, &a)
			if err := image.Validate(t.Context(), mem, build(t, mem, a)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	mem := newMemory()
	desc := build(t, mem, assembly(t, mem, "arm64"))
	desc.Platform.Architecture = "amd64"
	idx, b, err := image.AssembleIndex([]ocispec.Descriptor{desc}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	mem.add(idx.MediaType, b)
	if err := image.Validate(t.Context(), mem, idx); !errors.Is(err, image.ErrMalformed) {
		t.Errorf("H49: %v", err)
	}
}

func TestOpenLayout(t *testing.T) {
	t.Parallel()
	mem := newMemory()
	root := buildIndex(t, mem, "amd64", "arm64")
	var buf bytes.Buffer
	if err := image.WriteOCITar(t.Context(), &buf, mem, root, []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	archive, dir := filepath.Join(t.TempDir(), "a.tar"), t.TempDir()
	if err := os.WriteFile(archive, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := image.WriteLayout(t.Context(), dir, mem, root, []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	idx, err := image.ParseIndex(mem.blobs[root.Digest], "")
	if err != nil {
		t.Fatal(err)
	}
	child := idx.Manifests[1].Digest
	for _, p := range []string{archive, dir} {
		l, err := image.OpenLayout(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"", "v1", name, root.Digest.String(), "other@" + root.Digest.String()} {
			if d, err := l.Resolve(want); err != nil || d.Digest != root.Digest {
				t.Errorf("%s: Resolve(%q): %v, %v", p, want, d.Digest, err)
			}
		}
		if d, err := l.Resolve(child.String()); err != nil || d.Digest != child || !image.IsManifest(d.MediaType) {
			t.Errorf("%s: child: %v, %v", p, d, err)
		}
		for _, missing := range []string{"v2", digest.FromString("x").String(), "v1@" + digest.FromString("x").String()} {
			if _, err := l.Resolve(missing); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("%s: Resolve(%q): %v", p, missing, err)
			}
		}
		if _, err := l.Resolve("sha256:../../x"); !errors.Is(err, image.ErrMalformed) {
			t.Errorf("got %v", err)
		}
		if _, err := l.Fetch(t.Context(), ocispec.Descriptor{Digest: digest.FromString("x")}); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if err := image.Validate(t.Context(), l, root); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenLayoutRefuses(t *testing.T) {
	t.Parallel()
	write := func(b []byte) string {
		p := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	archive := func(pairs ...string) string {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for i := 0; i < len(pairs); i += 2 {
			if err := tw.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Typeflag: tar.TypeReg}); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write([]byte(pairs[i+1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return write(buf.Bytes())
	}
	const head = `{"imageLayoutVersion":"1.0.0"}`
	index := `{"schemaVersion":2,"manifests":[]}`
	for _, tt := range []struct{ name, path, text string }{
		{"missing", filepath.Join(t.TempDir(), "x"), "no such file"},
		{"an empty directory", t.TempDir(), "not an OCI image layout"},
		{"gzip", write([]byte("\x1f\x8b\x08\x00rest")), "compressed with gzip: decompress it first"},
		{"text", write(bytes.Repeat([]byte("text"), 500)), "malformed"},
		{"other version", archive("oci-layout", `{"imageLayoutVersion":"2"}`, "index.json", index), `version "2"`},
		{"no index", archive("oci-layout", head), "index.json"},
		{"one name twice", archive("oci-layout", head, "index.json", index, "./index.json", index), "twice"},
		{"index with bad digest", archive("oci-layout", head, "index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../x","size":1}]}`), "digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := image.OpenLayout(tt.path); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	l, err := image.OpenLayout(archive("./oci-layout", head, "./index.json", index, "blobs/sha256/"+hexA, "other"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Fetch(t.Context(), ocispec.Descriptor{Digest: "sha256:" + hexA, Size: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, image.ErrContent) {
		t.Errorf("wrong content was read: %v", err)
	}
}
