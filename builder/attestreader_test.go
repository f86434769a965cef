package builder

import (
	"encoding/json"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// Another reader finds the image, its attestation and what that says, and finds the images valid.
func TestM2_GoContainerregistryReadsAnIndexWithAttestations(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{Max: true})
	idx, m := p.readElsewhere()
	if len(m.Manifests) != 4 {
		t.Fatalf("%d entries, want two images and two attestations", len(m.Manifests))
	}
	for i, d := range m.Manifests[2:] {
		img, err := idx.Image(m.Manifests[i].Digest)
		must(t, err)
		must(t, validate.Image(img))
		if d.Platform.String() != "unknown/unknown" || d.Annotations["vnd.docker.reference.digest"] != m.Manifests[i].Digest.String() {
			t.Errorf("entry %d: %+v", i+2, d)
		}
		att, err := idx.Image(d.Digest)
		must(t, err)
		am, err := att.Manifest()
		must(t, err)
		if am.Subject == nil || am.Subject.Digest != m.Manifests[i].Digest {
			t.Errorf("subject %+v, want %s", am.Subject, m.Manifests[i].Digest)
		}
		layers, err := att.Layers()
		must(t, err)
		in, err := layers[0].Compressed()
		must(t, err)
		raw, err := io.ReadAll(in)
		must(t, err)
		must(t, in.Close())
		var st statement
		must(t, json.Unmarshal(raw, &st))
		if st.PredicateType != slsa1 || st.Subject[0].Digest["sha256"] != m.Manifests[i].Digest.Hex {
			t.Errorf("statement %s about %v", st.PredicateType, st.Subject)
		}
	}
}

// readElsewhere builds for two platforms and has another reader open the index.
func (p *project) readElsewhere() (v1.ImageIndex, *v1.IndexManifest) {
	p.t.Helper()
	dest := filepath.Join(p.t.TempDir(), "layout")
	p.opt.Platforms = []string{"linux/amd64", "linux/arm64"}
	p.opt.Outputs = []Output{{Type: "oci", Dest: dest}}
	res := mustBuild(p.t, p)
	top, err := layout.ImageIndexFromPath(dest)
	must(p.t, err)
	idx, err := top.ImageIndex(v1.Hash{Algorithm: "sha256", Hex: res.Manifest.Digest.Encoded()})
	must(p.t, err)
	m, err := idx.IndexManifest()
	must(p.t, err)
	return idx, m
}
