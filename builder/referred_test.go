package builder

import (
	"encoding/json"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

// The index that names the provenance is not asked about: what refers to the image leads there, by the registry's API or by the tag that
// takes its place.
func TestP7_ProvenanceIsFoundAmongWhatRefersToTheImage(t *testing.T) {
	t.Parallel()
	for name, api := range map[string]bool{"API": true, "tag": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			r.Referrers = api
			p := stated(t, "FROM scratch\nARG X=1\nCOPY a /$X\n", map[string]string{"a": "1"})
			p.opt.Tags, p.opt.Outputs, p.opt.BuildArgs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}, map[string]string{"X": "other"}
			idx := indexOf(t, p, mustBuild(t, p).Manifest)
			only := r.Manifest("app", idx.Manifests[0].Digest.String())
			r.PutManifest("app", "only", ocispec.MediaTypeImageManifest, only)
			r.PutManifest("app", "1", ocispec.MediaTypeImageManifest, only)
			p.root = t.TempDir() + "/another" // with no record of the build
			p.wantSame(func(o *ReproduceOptions) { o.Image = "docker://" + r.Host + "/app:only" })
		})
	}
}

// hostile: H43
func TestP7_ReferrersThatLeadNowhere(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	image := rawLayers(t, rawTar(t, tarEntry{Name: "a"}))
	d := image.put(t, r, "app", "1")
	p := newProject(t, "FROM scratch\n", nil)
	verify := func() error {
		_, err := p.reproduce(func(o *ReproduceOptions) { o.Image = "docker://" + r.Host + "/app:1" })
		return err
	}
	wantCategory(t, verify(), CategoryUsage, "has no provenance")
	var list ocispec.Index
	list.SchemaVersion, list.MediaType = 2, ocispec.MediaTypeImageIndex
	for range 1000 { // the image as its own statement
		list.Manifests = append(list.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(r.Manifest("app", "1")))})
	}
	raw, err := json.Marshal(list)
	must(t, err)
	r.PutManifest("app", "sha256-"+d.Encoded(), ocispec.MediaTypeImageIndex, raw)
	r.Forget()
	wantCategory(t, verify(), CategoryUsage, "has no provenance")
	if n := len(r.Requests()); n > 50 {
		t.Errorf("%d requests", n)
	}
	r.PutManifest("app", "sha256-"+d.Encoded(), ocispec.MediaTypeImageManifest, r.Manifest("app", "1"))
	wantCategory(t, verify(), CategoryRemote, "")
}
