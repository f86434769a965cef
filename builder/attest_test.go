package builder

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/registrytest"
)

// statement is as much of an in-toto statement as the tests look at.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []image.Subject
	Predicate     json.RawMessage
}

func attestedProject(t *testing.T, opt ProvenanceOptions) *project {
	t.Helper()
	p := newProject(t, "FROM scratch AS a\nCOPY file /a\nFROM scratch\nARG API_TOKEN\nARG COLOR\nCOPY --from=a /a /b\n", map[string]string{"file": "1"})
	if opt.Version == "" {
		opt.Version = "v1"
	}
	if opt.Filename == "" {
		opt.Filename = "provenance.json"
	}
	p.opt.Attest.Provenance = &opt
	p.opt.BuildArgs = map[string]string{"API_TOKEN": "hunter2hunter2", "COLOR": "blue"}
	p.opt.Tags = []string{"example.com/team/app:1"}
	return p
}

// attestation reads the entry of an index that is beside its image, and its one statement.
func attestation(t *testing.T, p *project, res *Result) (ocispec.Manifest, statement, string) {
	t.Helper()
	idx := indexOf(t, p, res.Manifest)
	if len(idx.Manifests) != 2 {
		t.Fatalf("index has %d entries, want the image and its attestation", len(idx.Manifests))
	}
	img, att := idx.Manifests[0], idx.Manifests[1]
	if att.Platform == nil || att.Platform.OS != "unknown" || att.Platform.Architecture != "unknown" ||
		att.Annotations["vnd.docker.reference.type"] != "attestation-manifest" || att.Annotations["vnd.docker.reference.digest"] != img.Digest.String() {
		t.Errorf("entry of the attestation: %+v", att)
	}
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(att.Digest, maxDocument)
	must(t, err)
	m, err := image.ParseManifest(raw, att.MediaType)
	must(t, err)
	text, err := b.store.ReadAll(m.Layers[0].Digest, maxDocument)
	must(t, err)
	var st statement
	must(t, json.Unmarshal(text, &st))
	if got := st.Subject[0].Digest["sha256"]; got != img.Digest.Encoded() {
		t.Errorf("subject %s, want the image %s", got, img.Digest)
	}
	return m, st, string(text)
}

func TestM1_NothingIsStatedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{})
	p.opt.Attest = AttestOptions{}
	if res := mustBuild(t, p); res.Manifest.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("result is a %s", res.Manifest.MediaType)
	}
}

func TestM2_AnAttestationIsAnEntryOfTheIndexAndRefersToTheImage(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{})
	res := mustBuild(t, p)
	m, st, _ := attestation(t, p, res)
	if m.ArtifactType != "application/vnd.docker.attestation.manifest.v1+json" || m.Subject == nil || m.Config.MediaType != ocispec.MediaTypeEmptyJSON {
		t.Errorf("manifest %+v", m)
	}
	if l := m.Layers[0]; l.MediaType != "application/vnd.in-toto+json" || l.Annotations["in-toto.io/predicate-type"] != "https://slsa.dev/provenance/v1" {
		t.Errorf("layer %+v", l)
	}
	_, host, _ := platformsOf("")
	want := "pkg:docker/example.com/team/app@1?platform=" + strings.ReplaceAll(platformText(host), "/", "%2F")
	if st.Type != "https://in-toto.io/Statement/v1" || st.Subject[0].Name != want {
		t.Errorf("statement %s about %v, want %s", st.Type, st.Subject, want)
	}

	p.opt.Outputs = []Output{{Type: "image", Attrs: map[string]string{"oci-artifact": "false"}}}
	m, _, _ = attestation(t, p, mustBuild(t, p))
	if m.ArtifactType != "" || m.Subject != nil || m.Config.MediaType != ocispec.MediaTypeImageConfig {
		t.Errorf("as an image: %+v", m)
	}
	b := p.builder()
	defer b.Close()
	if err := image.Validate(t.Context(), b.store, mustBuild(t, p).Manifest); err != nil {
		t.Error(err)
	}
}

func TestM2_AttestationsOfAllPlatformsComeLast(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{})
	p.opt.Platforms = []string{"linux/amd64", "linux/arm64"}
	res := mustBuild(t, p)
	idx := indexOf(t, p, res.Manifest)
	var order []string
	for _, d := range idx.Manifests {
		order = append(order, d.Platform.Architecture)
	}
	if got := strings.Join(order, " "); got != "amd64 arm64 unknown unknown" {
		t.Fatalf("entries: %s", got)
	}
	for i := range 2 {
		if got := idx.Manifests[2+i].Annotations["vnd.docker.reference.digest"]; got != idx.Manifests[i].Digest.String() {
			t.Errorf("attestation %d is of %s, want %s", i, got, idx.Manifests[i].Digest)
		}
	}
	b := p.builder()
	defer b.Close()
	if err := image.Validate(t.Context(), b.store, res.Manifest); err != nil {
		t.Error(err)
	}
}

// The registry of the test does not know subjects, so the tag that OCI distribution-spec 1.1 "Referrers Tag Schema" describes leads there.
func TestM2_APushedAttestationIsFoundByTheReferrersTag(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := attestedProject(t, ProvenanceOptions{})
	p.opt.Tags = []string{r.Host + "/app:1"}
	p.opt.Outputs = []Output{{Type: "registry"}}
	res := mustBuild(t, p)
	if got := r.Manifest("app", "1"); len(got) != int(res.Manifest.Size) {
		t.Fatalf("pushed %d bytes, want the index of %d", len(got), res.Manifest.Size)
	}
	idx := indexOf(t, p, res.Manifest)
	tag := "sha256-" + idx.Manifests[0].Digest.Encoded()
	if got := string(r.Manifest("app", tag)); !strings.Contains(got, idx.Manifests[1].Digest.String()) {
		t.Errorf("tag %s: %s", tag, got)
	}
}

// A registry with the referrers API (OCI distribution-spec 1.1, "Listing Referrers") says so when it takes the manifest: it lists
// it itself, and no tag is written.
func TestM2_ARegistryWithTheReferrersAPIListsTheAttestation(t *testing.T) {
	t.Parallel()
	r := registrytest.Unstarted(t)
	r.Referrers = true
	r.Server.Start()
	r.Host = r.Server.Listener.Addr().String()
	p := attestedProject(t, ProvenanceOptions{})
	p.opt.Tags, p.opt.Platforms = []string{r.Host + "/app:1"}, []string{"linux/amd64", "linux/arm64"}
	p.opt.Outputs = []Output{{Type: "registry"}}
	idx := indexOf(t, p, mustBuild(t, p).Manifest)
	for i := range 2 {
		img, att := idx.Manifests[i], idx.Manifests[2+i]
		answer, err := http.Get("http://" + r.Host + "/v2/app/referrers/" + img.Digest.String() + "?artifactType=" + url.QueryEscape("application/vnd.docker.attestation.manifest.v1+json"))
		must(t, err)
		var found ocispec.Index
		must(t, errors.Join(json.NewDecoder(answer.Body).Decode(&found), answer.Body.Close()))
		if len(found.Manifests) != 1 || found.Manifests[0].Digest != att.Digest || found.Manifests[0].Size != att.Size {
			t.Errorf("%s: %+v, want %s", img.Digest, found.Manifests, att.Digest)
		}
	}
	b := p.builder()
	defer b.Close()
	if tags, err := b.Tags(t.Context(), r.Host+"/app"); err != nil || strings.Join(tags, " ") != "1" {
		t.Errorf("tags %v, %v", tags, err)
	}
	copied := "oci://" + t.TempDir() + "/copy:1"
	copyTo(t, b, "docker://"+r.Host+"/app:1", copied)
	v, err := b.Reproduce(t.Context(), ReproduceOptions{Image: "docker://" + r.Host + "/app:1", Platforms: []string{"linux/arm64"}, Build: Options{
		Context: p.dir, BuildArgs: p.opt.BuildArgs,
	}})
	if err != nil || len(v.Platforms) != 1 || v.Platforms[0].Difference == nil { // without an epoch times differ
		t.Errorf("%+v, %v", v, err)
	}
}

func TestM3_MinHasNoBuildArguments(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{BuilderID: "https://example.com/ci", Reproducible: true})
	_, st, text := attestation(t, p, mustBuild(t, p))
	var got predicate1
	must(t, json.Unmarshal(st.Predicate, &got))
	if strings.Contains(text, "COLOR") || strings.Contains(text, "blue") || strings.Contains(text, "hunter2") || got.Definition.Internal.Config != nil {
		t.Errorf("mode=min says too much: %s", text)
	}
	if got.Run.Builder.ID != "https://example.com/ci" || !got.Run.Metadata.Reproducible || got.Run.Metadata.Started == nil || got.Run.Metadata.Finished == nil ||
		got.Definition.External.Request.Frontend != "dockerfile.v0" {
		t.Errorf("predicate %+v", got)
	}
}

func TestM3_MaxHasArgumentsDockerfileAndSteps(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{Max: true})
	_, st, text := attestation(t, p, mustBuild(t, p))
	var got predicate1
	must(t, json.Unmarshal(st.Predicate, &got))
	args := got.Definition.External.Request.Args
	if args["build-arg:COLOR"] != "blue" || args["build-arg:API_TOKEN"] != "***" || strings.Contains(text, "hunter2") {
		t.Errorf("arguments %v", args)
	}
	var graph []string
	for _, s := range got.Definition.Internal.Config.Steps {
		lines := got.Run.Metadata.Source.Source.Locations[s.ID].Locations[0].Ranges[0]
		graph = append(graph, s.ID+" "+s.Text+" <- "+strings.Join(s.Inputs, ",")+" line "+string(rune('0'+lines.Start.Line)))
	}
	want := "step0 FROM scratch <-  line 1\nstep1 COPY file /a <- step0 line 2\nstep2 FROM scratch <-  line 3\nstep3 COPY --from=a /a /b <- step2,step1 line 6"
	if got := strings.Join(graph, "\n"); got != want {
		t.Errorf("steps\n%s\nwant\n%s", got, want)
	}
	if src := got.Run.Metadata.Source.Source.Infos[0]; src.Filename != "Dockerfile" && !strings.HasSuffix(src.Filename, "/Dockerfile") || string(src.Data) != p.dockerfile {
		t.Errorf("source %s: %q", src.Filename, src.Data)
	}
}

func TestM3_MaterialsAreBaseImagesByDigest(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{Version: "v0.2"})
	attest := p.opt.Attest
	p.opt.Attest, p.opt.Tags = AttestOptions{}, []string{"example.com/base:1"}
	base := mustBuild(t, p)
	p.opt.Attest, p.opt.Tags = attest, nil
	p.write("Dockerfile", "FROM example.com/base:1\nLABEL a=b\n")
	for range 2 { // the second time all is cached
		_, st, _ := attestation(t, p, mustBuild(t, p))
		var got predicate02
		must(t, json.Unmarshal(st.Predicate, &got))
		if st.PredicateType != slsa02 || len(got.Materials) != 1 || got.Materials[0].Digest["sha256"] != base.Manifest.Digest.Encoded() ||
			!strings.HasPrefix(got.Materials[0].URI, "pkg:docker/example.com/base@1?platform=") {
			t.Errorf("%s with materials %+v, want %s", st.PredicateType, got.Materials, base.Manifest.Digest)
		}
		if st.Subject[0].Name != "_" {
			t.Errorf("subject without a name: %+v", st.Subject)
		}
	}
}

// rows: M3 M8
func TestM3_SecretsAreNamedAndNeverShown(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{Max: true})
	p.write("Dockerfile", "FROM scratch AS never\nRUN --mount=type=secret,id=key --mount=type=ssh,required x\nFROM scratch\nCOPY --from=never /etc /x\n")
	p.opt.BuildArgs = nil
	b := p.builder()
	defer b.Close()
	opt := p.opt
	opt.Context = p.dir
	opt.Secrets = map[string]SecretSource{"key": {Data: []byte("do not show this")}}
	bd := b.newBuild(opt)
	defer bd.close()
	must(t, bd.prepare(t.Context()))
	st, err := bd.lanes[0].provenance([]image.Subject{{Name: "_"}})
	must(t, err)
	for want, is := range map[string]bool{`"secrets":[{"id":"key","optional":true}]`: true, `"ssh":[{"id":"default"}]`: true, "do not show": false} {
		if strings.Contains(string(st.Data), want) != is {
			t.Errorf("%q: want %v in %s", want, is, st.Data)
		}
	}
}

func TestM1_WithAnEpochTheIndexHasOneDigest(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{Max: true})
	epoch := time.Unix(1_700_000_000, 0).UTC()
	p.opt.SourceDateEpoch = &epoch
	first := mustBuild(t, p)
	p.opt.NoCache = true
	if again := mustBuild(t, p); again.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("digests %s and %s", first.Manifest.Digest, again.Manifest.Digest)
	}
}

func TestM2_FilesHaveTheirProvenanceBesideThem(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{})
	dest := t.TempDir()
	var archive bytes.Buffer
	p.opt.Outputs = []Output{{Type: "local", Dest: dest}, {Type: "tar", Dest: "-", Out: &archive}}
	mustBuild(t, p)
	raw, err := os.ReadFile(filepath.Join(dest, "provenance.json"))
	must(t, err)
	var st statement
	must(t, json.Unmarshal(raw, &st))
	const sum = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b" // of "1"
	if len(st.Subject) != 1 || st.Subject[0].Name != "b" || st.Subject[0].Digest["sha256"] != sum {
		t.Errorf("subjects %+v", st.Subject)
	}
	var names []string
	for tr := tar.NewReader(&archive); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); !strings.HasSuffix(got, "b provenance.json") {
		t.Errorf("archive: %s", got)
	}

	p.opt.Attest.Provenance.InlineOnly = true
	dest = t.TempDir()
	p.opt.Outputs = []Output{{Type: "local", Dest: dest}}
	mustBuild(t, p)
	if _, err := os.Lstat(filepath.Join(dest, "provenance.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("inline-only: %v", err)
	}
	p.opt.Attest.Provenance = &ProvenanceOptions{Version: "v1", Filename: "b"}
	var e *Error
	if _, err := p.build(); !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(e.Error(), "file b of its own") {
		t.Errorf("a name that is taken: %v", err)
	}
}

func TestH13_ImagesOfDockersFormatHaveNoAttestations(t *testing.T) {
	t.Parallel()
	p := attestedProject(t, ProvenanceOptions{})
	p.opt.Outputs = []Output{{Type: "image", Attrs: map[string]string{"oci-mediatypes": "false"}}}
	var e *Error
	if _, err := p.build(); !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(e.Error(), "no attestations") {
		t.Errorf("error %v", err)
	}
}
