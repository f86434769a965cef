package builder

import (
	"encoding/json"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/registrytest"
)

// shown is an index as PLATFORM=FIRST DIGITS words, and its annotations.
func shownIndex(t *testing.T, b *Builder, place string) (ocispec.Index, string) {
	t.Helper()
	raw, err := b.ManifestText(t.Context(), place)
	must(t, err)
	var idx ocispec.Index
	must(t, json.Unmarshal(raw, &idx))
	var words []string
	for _, d := range idx.Manifests {
		words = append(words, platformText(*d.Platform))
	}
	return idx, strings.Join(words, " ")
}

func TestJ12_AnIndexIsPutTogetherAnnotatedAndPushed(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := newProject(t, "FROM scratch\nARG N\nCOPY f /$N\n", map[string]string{"f": "1"})
	build := func(name string, registry bool, platforms ...string) *Result {
		p.opt.Tags, p.opt.Platforms, p.opt.BuildArgs, p.opt.Outputs = []string{name}, platforms, map[string]string{"N": platforms[0]}, nil
		if registry {
			p.opt.Outputs = []Output{{Type: "registry"}}
		}
		return mustBuild(t, p)
	}
	build(r.Host+"/amd:1", true, "linux/amd64")
	build(r.Host+"/two:1", true, "linux/s390x", "linux/ppc64le")
	p.root = t.TempDir() + "/other" // this one has none of those in a registry
	arm := build("local/arm:1", false, "linux/arm64")
	b := p.builder()
	defer b.Close()
	name := r.Host + "/list:1"
	d, err := b.CreateManifest(t.Context(), ManifestOptions{Name: name, Images: []string{"local/arm:1", r.Host + "/amd:1"}, Annotations: map[string]string{"k": "v"}})
	must(t, err)
	idx, got := shownIndex(t, b, name)
	if got != "linux/arm64 linux/amd64" || idx.Annotations["k"] != "v" || idx.Manifests[0].Digest != arm.Manifest.Digest {
		t.Errorf("%s: %s %+v", d, got, idx)
	}
	_, err = b.CreateManifest(t.Context(), ManifestOptions{Name: name, Images: []string{"local/arm:1"}})
	wantCategory(t, err, CategoryUsage, "is there already")
	_, err = b.CreateManifest(t.Context(), ManifestOptions{Name: name, Images: []string{r.Host + "/two:1"}, Amend: true, All: true})
	must(t, err)
	_, err = b.AddToManifest(t.Context(), ManifestOptions{Name: name, Images: []string{"local/arm:1"}, Annotations: map[string]string{"of": "entry"}})
	must(t, err)
	idx, got = shownIndex(t, b, name)
	if got != "linux/arm64 linux/amd64 linux/s390x linux/ppc64le" || idx.Manifests[0].Annotations["of"] != "entry" || idx.Annotations["k"] != "v" {
		t.Errorf("%s %+v", got, idx)
	}
	_, err = b.AnnotateManifest(t.Context(), AnnotateOptions{Name: name, Image: arm.Manifest.Digest.Encoded()[:8], Variant: "v8.2", OSFeatures: []string{"x"}, Annotations: map[string]string{"a": "b"}})
	must(t, err)
	_, err = b.AnnotateManifest(t.Context(), AnnotateOptions{Name: name, Annotations: map[string]string{"k": "w"}})
	must(t, err)
	_, err = b.RemoveFromManifest(t.Context(), name, r.Host+"/amd:1")
	must(t, err)
	_, err = b.RemoveFromManifest(t.Context(), name, "sha256:"+strings.Repeat("0", 64))
	wantCategory(t, err, CategoryUsage, "is not in the index")
	pushed, err := b.Push(t.Context(), name, nil, nil)
	must(t, err)
	idx, got = shownIndex(t, b, "docker://"+name)
	if v := idx.Manifests[0]; got != "linux/arm64/v8.2 linux/s390x linux/ppc64le" || v.Annotations["a"] != "b" || v.Platform.OSFeatures[0] != "x" || idx.Annotations["k"] != "w" {
		t.Errorf("pushed %s: %s %+v", pushed, got, idx)
	}
	must(t, image.Validate(t.Context(), b.store, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: pushed, Size: int64(len(r.Manifest("list", "1")))}))
}

func TestJ12_WhatIsNoIndexIsNotChanged(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	p.opt.Tags = []string{"app:1"}
	mustBuild(t, p)
	b := p.builder()
	defer b.Close()
	_, err := b.AnnotateManifest(t.Context(), AnnotateOptions{Name: "app:1", Annotations: map[string]string{"k": "v"}})
	wantCategory(t, err, CategoryUsage, "is one image, not an index")
	_, err = b.CreateManifest(t.Context(), ManifestOptions{Name: "app:1", Amend: true})
	wantCategory(t, err, CategoryUsage, "is one image, not an index")
	_, err = b.RemoveFromManifest(t.Context(), "none:1", "app:1")
	wantCategory(t, err, CategoryUsage, "has no index of that name")
	_, err = b.CreateManifest(t.Context(), ManifestOptions{Name: "new:1", Images: []string{"oci://" + p.dir}})
	if err == nil {
		t.Error("a folder that is no layout is taken")
	}
	if _, err := b.ManifestIndex("new:1"); err == nil {
		t.Error("an index was made all the same")
	}
}

// What is stated about an image goes where the image goes, and stays behind all images.
func TestJ12_AttestationsAreTakenAlong(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	mustBuild(t, p)
	p.opt.Tags, p.opt.Platforms, p.opt.Attest = []string{"other:1"}, []string{"linux/s390x"}, AttestOptions{}
	mustBuild(t, p)
	b := p.builder()
	defer b.Close()
	_, err := b.CreateManifest(t.Context(), ManifestOptions{Name: "list:1", Images: []string{"app:1", "other:1"}, All: true})
	must(t, err)
	if _, got := shownIndex(t, b, "list:1"); got != hostPlatform(t)+" linux/s390x unknown/unknown" {
		t.Error(got)
	}
	idx, _ := shownIndex(t, b, "app:1")
	_, err = b.RemoveFromManifest(t.Context(), "list:1", idx.Manifests[0].Digest.String())
	must(t, err)
	if _, got := shownIndex(t, b, "list:1"); got != "linux/s390x" {
		t.Error(got)
	}
}
