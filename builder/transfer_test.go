package builder

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/registrytest"
	"gobuild/registry"
)

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("skopeo", args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

func copyTo(t *testing.T, b *Builder, from, to string) digest.Digest {
	t.Helper()
	d, err := b.Copy(t.Context(), CopyOptions{From: from, To: to})
	if err != nil {
		t.Fatalf("copy %s to %s: %v", from, to, err)
	}
	return d
}

// stored builds an image of two layers and leaves it in the store as app:1.
func stored(t *testing.T) (*project, *Builder, digest.Digest) {
	t.Helper()
	p := layered(t, 2)
	p.opt.Tags = []string{"example.com/app:1"}
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, b, res.Manifest.Digest
}

// Every place to every other, and none changes a byte.
func TestJ12_CopyKeepsTheDigest(t *testing.T) {
	t.Parallel()
	_, b, want := stored(t)
	one, two := registrytest.New(t), registrytest.New(t)
	dir := t.TempDir()
	places := []string{
		"store://example.com/app:1",
		one.Host + "/app:1",
		"docker://" + two.Host + "/deep/er/app:x",
		"oci://" + dir + "/layout:1",
		"oci-layout://" + dir + "/layout.tar:1",
		"oci-archive://" + dir + "/archive:1",
		"docker-archive://" + dir + "/docker.tar:example.com/app:1",
		"store://example.com/again:2",
	}
	for _, from := range places {
		if from != places[0] { // what was not written yet
			copyTo(t, b, places[0], from)
		}
		for i, to := range places {
			target := strings.NewReplacer("/layout", "/"+string(rune('a'+i))+"layout", "/docker.tar", "/"+string(rune('a'+i))+"docker.tar").Replace(to)
			if got := copyTo(t, b, from, target); got != want {
				t.Errorf("%s to %s: %s, want %s", from, target, got, want)
			}
			back, err := b.Inspect(t.Context(), withScheme(target), "")
			if err != nil || back.Digest != want {
				t.Errorf("%s: %+v, %v", target, back, err)
			}
		}
	}
}

func withScheme(place string) string {
	if strings.Contains(place, "://") {
		return place
	}
	return "docker://" + place
}

func TestJ12_CopyWithinARegistryMovesNothing(t *testing.T) {
	t.Parallel()
	_, b, want := stored(t)
	r := registrytest.New(t)
	copyTo(t, b, "store://example.com/app:1", r.Host+"/app:1")
	r.Forget()
	if got := copyTo(t, b, r.Host+"/app:1", r.Host+"/other:2"); got != want {
		t.Errorf("digest %s", got)
	}
	asked := r.Requests()
	if count(asked, "GET /v2/app/blobs") > 0 || count(asked, "PUT /v2/other/blobs") > 0 || count(asked, "from=app") != 3 {
		t.Errorf("blobs travelled:\n%s", strings.Join(asked, "\n"))
	}
}

// Other tools read what copy writes, and copy reads what they write, with the same digests; but skopeo writes other
// configurations into docker archives.
func TestK3_OtherToolsReadAndWriteTheSame(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	_, b, want := stored(t)
	r := registrytest.New(t)
	dir := t.TempDir()
	ours := map[string]string{ // ours: skopeo's
		r.Host + "/ours:1":                               "docker://" + r.Host + "/ours:1",
		"oci://" + dir + "/ours:1":                       "oci:" + dir + "/ours:1",
		"oci-archive://" + dir + "/ours.tar:1":           "oci-archive:" + dir + "/ours.tar:1",
		"docker-archive://" + dir + "/ours.docker:app:1": "docker-archive:" + dir + "/ours.docker",
	}
	inspect, err := b.Inspect(t.Context(), "example.com/app:1", "")
	if err != nil {
		t.Fatal(err)
	}
	for place, theirs := range ours {
		copyTo(t, b, "store://example.com/app:1", place)
		theirDir := strings.ReplaceAll(theirs, "ours", "theirs")
		skopeo(t, "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", theirs, "oci:"+dir+"/in-between:1")
		skopeo(t, "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "oci:"+dir+"/in-between:1", theirDir)
		back := strings.ReplaceAll(place, "ours", "theirs")
		back = strings.TrimSuffix(back, ":app:1") // skopeo gives it no name
		got := copyTo(t, b, back, "store://example.com/back:1")
		isArchive := strings.HasPrefix(place, "docker-archive")
		if !isArchive && got != want {
			t.Errorf("%s: came back as %s, want %s", place, got, want)
		}
		id, err := b.Inspect(t.Context(), "example.com/back:1", "")
		if err != nil || (id.ID != inspect.ID && !isArchive) || len(id.Layers) != 2 || id.Layers[1].DiffID != inspect.Layers[1].DiffID {
			t.Errorf("%s: came back as %v, %v", place, id, err)
		}
	}
}

func TestK3_UmociUnpacksWhatCopyWrites(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("umoci is not installed")
	}
	_, b, _ := stored(t)
	dir := t.TempDir()
	copyTo(t, b, "store://example.com/app:1", "oci://"+dir+"/layout:1")
	if out, err := exec.Command("umoci", "unpack", "--image", dir+"/layout:1", dir+"/bundle").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"f00", "f01"} {
		got, err := os.ReadFile(filepath.Join(dir, "bundle/rootfs", name))
		if err != nil || string(got) != strings.Repeat(name, 100) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestJ12_CopyOfAnIndex(t *testing.T) {
	t.Parallel()
	_, b, child := stored(t)
	size, _ := b.store.Has(child)
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + child.String() + `","size":` + jsonText(size) + `,"platform":{"os":"linux","architecture":"amd64"}},` +
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + child.String() + `","size":` + jsonText(size) + `,"platform":{"os":"linux","architecture":"s390x"}}]}`)
	d, err := b.store.PutBytes(raw)
	must(t, err)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}
	must(t, b.store.Tag("example.com/index:1", desc))
	r := registrytest.New(t)
	if got := copyTo(t, b, "store://example.com/index:1", r.Host+"/index:1"); got != d || !bytes.Equal(r.Manifest("index", "1"), raw) {
		t.Errorf("the whole index became %s, want %s", got, d)
	}
	one, err := b.Copy(t.Context(), CopyOptions{From: r.Host + "/index:1", To: r.Host + "/one:1", Platform: "linux/s390x"})
	if err != nil || one != child {
		t.Errorf("one platform: %s, %v, want %s", one, err, child)
	}
	_, err = b.Copy(t.Context(), CopyOptions{From: r.Host + "/index:1", To: r.Host + "/one:1", Platform: "linux/arm64"})
	wantCategory(t, err, CategoryRemote, "no image for linux/arm64, there is: linux/amd64, linux/s390x")
	i, err := b.Inspect(t.Context(), "docker://"+r.Host+"/index:1", "linux/s390x")
	if err != nil || i.Digest != d || strings.Join(i.Platforms, " ") != "linux/amd64 linux/s390x" || !bytes.Equal(i.Manifest, raw) {
		t.Errorf("inspect: %+v, %v", i, err)
	}
}

func jsonText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestJ12_CopyFailuresSayWhy(t *testing.T) {
	t.Parallel()
	_, b, want := stored(t)
	r := registrytest.New(t)
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/bad.tar", []byte("no archive at all, but long enough for one header"), 0o600))
	for _, tt := range []struct {
		from, to string
		category Category
		text     string
	}{
		{"store://nothing", "oci://" + dir + "/o", CategoryUsage, "no image"},
		{"s3://bucket", "store://x", CategoryUsage, "there are no images at"},
		{"docker-archve://x", "store://x", CategoryUsage, "did you mean docker-archive://?"},
		{dir + "/bad.tar", "store://x", CategoryUsage, "docker-archive://"},
		{"oci://" + dir + "/none", "store://x", CategoryUsage, "no such file"},
		{"docker-archive://" + dir + "/bad.tar", "store://x", CategoryUsage, "archive"},
		{r.Host + "/none:1", "store://x", CategoryRemote, "not found"},
		{"127.0.0.1:1/none:1", "store://x", CategoryRemote, "refused"},
		{"store://example.com/app:1", "store://App", CategoryUsage, "capitals"},
		{"store://example.com/app:1", r.Host + "/app@" + digest.FromString("x").String(), CategoryUsage, want.String()},
	} {
		_, err := b.Copy(t.Context(), CopyOptions{From: tt.from, To: tt.to})
		e := classify(err, "")
		if err == nil || e.Category != tt.category || !strings.Contains(err.Error()+e.Hint, tt.text) {
			t.Errorf("%s to %s: category %s, %v (%s), want %s with %q", tt.from, tt.to, e.Category, err, e.Hint, tt.category, tt.text)
		}
	}
}

// Every tool's docker archives: one without an OCI index, with links, and with compressed layers.
func TestJ12_ArchivesOfOlderDocker(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	_, b, _ := stored(t)
	dir := t.TempDir()
	copyTo(t, b, "store://example.com/app:1", "oci://"+dir+"/layout:1")
	skopeo(t, "copy", "-q", "--insecure-policy", "oci:"+dir+"/layout:1", "docker-archive:"+dir+"/old.tar:example.com/old:7")
	d := copyTo(t, b, "docker-archive://"+dir+"/old.tar:example.com/old:7", "store://example.com/new:1")
	if err := image.Validate(t.Context(), b.store, mustResolve(t, b, "example.com/new:1")); err != nil {
		t.Error(err)
	}
	if again := copyTo(t, b, "docker-archive://"+dir+"/old.tar", "store://example.com/new:2"); again != d {
		t.Errorf("%s, then %s", d, again)
	}
}

func TestJ12_TagsCatalogAndRemoval(t *testing.T) {
	t.Parallel()
	_, b, _ := stored(t)
	r := registrytest.New(t)
	r.Page = 2
	for _, name := range []string{"app:1", "app:2", "app:3", "b:1", "c/d:1", "c/e:1", "z:1"} {
		copyTo(t, b, "store://example.com/app:1", r.Host+"/"+name)
	}
	tags, err := b.Tags(t.Context(), r.Host+"/app")
	if err != nil || strings.Join(tags, " ") != "1 2 3" {
		t.Errorf("tags %v, %v", tags, err)
	}
	repos, err := b.Catalog(t.Context(), r.Host)
	if err != nil || strings.Join(repos, " ") != "app b c/d c/e z" {
		t.Errorf("repositories %v, %v", repos, err)
	}
	// The other tags of the same manifest stay.
	gone, err := b.RemoveRemote(t.Context(), []string{r.Host + "/app:2"})
	if err != nil || len(gone) != 1 {
		t.Errorf("removed %v, %v", gone, err)
	}
	if tags, err = b.Tags(t.Context(), r.Host+"/app"); err != nil || strings.Join(tags, " ") != "1 3" {
		t.Errorf("after removing 2: %v, %v", tags, err)
	}
	d := digest.FromBytes(r.Manifest("app", "1"))
	if _, err = b.RemoveRemote(t.Context(), []string{r.Host + "/app@" + d.String()}); err != nil {
		t.Error(err)
	}
	if tags, err = b.Tags(t.Context(), r.Host+"/app"); err != nil || len(tags) != 0 {
		t.Errorf("after removing the manifest: %v, %v", tags, err)
	}
	_, err = b.RemoveRemote(t.Context(), []string{r.Host + "/app:1"})
	wantCategory(t, err, CategoryRemote, "not found")
	r.NoDelete = true
	_, err = b.RemoveRemote(t.Context(), []string{r.Host + "/b@" + d.String()})
	wantCategory(t, err, CategoryRemote, "405")
	if _, err := b.Catalog(t.Context(), "no host/at all"); classify(err, "").Category != CategoryUsage {
		t.Errorf("catalog of no host: %v", err)
	}
}

func mustResolve(t *testing.T, b *Builder, name string) ocispec.Descriptor {
	t.Helper()
	ref, err := registry.ParseReference(name)
	must(t, err)
	desc, err := b.store.Resolve(ref.String())
	must(t, err)
	return desc
}
