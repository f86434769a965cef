package builder

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/image"
)

// bill is as much of an SPDX document as the tests look at.
type bill struct {
	Version  string `json:"spdxVersion"`
	Name     string
	Creation struct{ Created string } `json:"creationInfo"`
	Packages []struct {
		Name, VersionInfo string
		ExternalRefs      []struct{ ReferenceLocator string }
	}
}

func (b bill) purls() string {
	var list []string
	for _, p := range b.Packages {
		for _, r := range p.ExternalRefs {
			list = append(list, r.ReferenceLocator)
		}
	}
	return strings.Join(list, " ")
}

// cargo is a lock file of one package.
func cargo(name string) string {
	return "[[package]]\nname = \"" + name + "\"\nversion = \"1.0.0\"\n"
}

func billed(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	p := newProject(t, dockerfile, files)
	p.opt.Attest.SBOM = &SBOMOptions{Tool: "gobuild-test"}
	p.opt.Tags = []string{"example.com/team/app:1"}
	return p
}

// billsOf reads the bills beside the only image of an index, in their order.
func billsOf(t *testing.T, p *project, res *Result) []bill {
	t.Helper()
	idx := indexOf(t, p, res.Manifest)
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(idx.Manifests[len(idx.Manifests)-1].Digest, maxDocument)
	must(t, err)
	m, err := image.ParseManifest(raw, idx.Manifests[len(idx.Manifests)-1].MediaType)
	must(t, err)
	var list []bill
	for _, l := range m.Layers {
		if l.Annotations["in-toto.io/predicate-type"] != "https://spdx.dev/Document" {
			continue
		}
		text, err := b.store.ReadAll(l.Digest, maxDocument)
		must(t, err)
		list = append(list, billIn(t, text, idx.Manifests[0].Digest.Encoded()))
	}
	return list
}

// billIn reads a statement about a digest.
func billIn(t *testing.T, text []byte, digest string) bill {
	t.Helper()
	var st statement
	must(t, json.Unmarshal(text, &st))
	if st.Type != "https://in-toto.io/Statement/v1" || st.PredicateType != "https://spdx.dev/Document" || len(st.Subject) == 0 || digest != "" && st.Subject[0].Digest["sha256"] != digest {
		t.Errorf("statement %s %s of %+v, want %s", st.Type, st.PredicateType, st.Subject, digest)
	}
	var out bill
	must(t, json.Unmarshal(st.Predicate, &out))
	return out
}

// rows: M1 M2 M4
func TestM4_AnImageHasABillOfItsPackagesAlone(t *testing.T) {
	t.Parallel()
	p := billed(t, "FROM scratch AS build\nCOPY build /\nFROM scratch\nCOPY app/Cargo.lock /\n", map[string]string{
		"app/Cargo.lock": cargo("in-image"), "build/Cargo.lock": cargo("in-build"), "Cargo.lock": cargo("in-context"),
	})
	p.opt.Attest.Provenance = &ProvenanceOptions{Version: "v1", Filename: "provenance.json"}
	res := mustBuild(t, p)
	list := billsOf(t, p, res)
	if len(list) != 1 || list[0].Version != "SPDX-2.3" || list[0].purls() != "pkg:cargo/in-image@1.0.0" || list[0].Name != "example.com/team/app:1" {
		t.Fatalf("bills %+v", list)
	}
	idx := indexOf(t, p, res.Manifest)
	if got := list[0].Packages[0].VersionInfo; got != idx.Manifests[0].Digest.String() {
		t.Errorf("version of the image: %s", got)
	}
	b := p.builder()
	defer b.Close()
	must(t, image.Validate(t.Context(), b.store, res.Manifest))
}

// rows: B10 M4
func TestB10_StagesAndTheContextAreScannedWhenNamed(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"app/Cargo.lock": cargo("in-image"), "build/Cargo.lock": cargo("in-build"), "Cargo.lock": cargo("in-context"), "never/Cargo.lock": cargo("never"),
		".dockerignore": "secret\n", "secret/Cargo.lock": cargo("ignored"),
	}
	const body = "COPY build /\nFROM scratch AS unused\n%UNUSED%COPY never /\nFROM scratch\n%TARGET%COPY --from=build /Cargo.lock /b/Cargo.lock\nCOPY app/Cargo.lock /\n"
	for name, tc := range map[string]struct {
		global, build, target string
		args                  map[string]string
		want                  string // the packages of each bill; the image has in-build as well
	}{
		"nothing":                       {want: "in-build in-image"},
		"a stage by itself":             {build: "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", want: "in-build in-image|in-build"},
		"all stages":                    {global: "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", want: "in-build in-image|in-build"},
		"a stage by name":               {global: "ARG BUILDKIT_SBOM_SCAN_STAGE=unused,build\n", want: "in-build in-image|in-build"},
		"another name":                  {global: "ARG BUILDKIT_SBOM_SCAN_STAGE=other\n", want: "in-build in-image"},
		"switched off in the stage":     {global: "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", build: "ARG BUILDKIT_SBOM_SCAN_STAGE=false\n", want: "in-build in-image"},
		"by build argument":             {build: "ARG BUILDKIT_SBOM_SCAN_STAGE\n", args: map[string]string{"BUILDKIT_SBOM_SCAN_STAGE": "1"}, want: "in-build in-image|in-build"},
		"an argument nobody declares":   {args: map[string]string{"BUILDKIT_SBOM_SCAN_STAGE": "1", "BUILDKIT_SBOM_SCAN_CONTEXT": "1"}, want: "in-build in-image"},
		"the context":                   {target: "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n", want: "in-build in-image|in-build in-context in-image never"},
		"the context, in another stage": {build: "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n", want: "in-build in-image"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.NewReplacer("%UNUSED%", "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", "%TARGET%", tc.target).Replace(tc.global + "FROM scratch AS build\n" + tc.build + body)
			p := billed(t, text, files)
			p.opt.BuildArgs = tc.args
			var got []string
			for _, b := range billsOf(t, p, mustBuild(t, p)) {
				got = append(got, strings.NewReplacer("pkg:cargo/", "", "@1.0.0", "").Replace(b.purls()))
			}
			if text := strings.Join(got, "|"); text != tc.want {
				t.Errorf("bills %s, want %s", text, tc.want)
			}
		})
	}
}

// The time of a bill is when its packages were found first, so a build without changes repeats its digest.
func TestM4_ABuildWithoutChangesRepeatsItsBillAndUnpacksNothing(t *testing.T) {
	t.Parallel()
	p := billed(t, "FROM scratch\nCOPY Cargo.lock /\n", map[string]string{"Cargo.lock": cargo("one")})
	first := mustBuild(t, p)
	again := mustBuild(t, p)
	if again.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("digests %s and %s", first.Manifest.Digest, again.Manifest.Digest)
	}
	p.write("Cargo.lock", cargo("two"))
	if list := billsOf(t, p, mustBuild(t, p)); list[0].purls() != "pkg:cargo/two@1.0.0" {
		t.Errorf("after a change: %+v", list)
	}

	epoch := time.Unix(1_700_000_000, 0).UTC()
	p.opt.SourceDateEpoch = &epoch
	first = mustBuild(t, p)
	p.opt.NoCache, p.root = true, filepath.Join(t.TempDir(), "state")
	if again := mustBuild(t, p); again.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("with an epoch, elsewhere: digests %s and %s", first.Manifest.Digest, again.Manifest.Digest)
	}
	if got := billsOf(t, p, mustBuild(t, p))[0].Creation.Created; got != "2023-11-14T22:13:20Z" {
		t.Errorf("created %s", got)
	}
}

// rows: M2 M4
func TestM2_FilesHaveTheirBillBesideThem(t *testing.T) {
	t.Parallel()
	p := billed(t, "FROM scratch AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY Cargo.lock /\nFROM scratch\nCOPY --from=build /Cargo.lock /\n", map[string]string{"Cargo.lock": cargo("one")})
	dest := t.TempDir()
	var archive bytes.Buffer
	p.opt.Outputs = []Output{{Type: "local", Dest: dest}, {Type: "tar", Dest: "-", Out: &archive}}
	mustBuild(t, p)
	for _, name := range []string{"sbom.spdx.json", "sbom-build.spdx.json"} {
		raw, err := os.ReadFile(filepath.Join(dest, name))
		must(t, err)
		if got := billIn(t, raw, "").purls(); got != "pkg:cargo/one@1.0.0" {
			t.Errorf("%s: %s", name, got)
		}
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
	if want := []string{"Cargo.lock", "sbom.spdx.json", "sbom-build.spdx.json"}; !slices.Equal(names, want) {
		t.Errorf("archive: %s, want %s", names, want)
	}
	p.write("Dockerfile", "FROM scratch\nCOPY Cargo.lock /sbom.spdx.json\n")
	var e *Error
	if _, err := p.build(); !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(e.Error(), "sbom.spdx.json of its own") {
		t.Errorf("a name that is taken: %v", err)
	}
}

func TestM4_WhatCouldNotBeReadIsAWarning(t *testing.T) {
	t.Parallel()
	p := billed(t, "FROM scratch\nCOPY package-lock.json Cargo.lock /\n", map[string]string{"package-lock.json": "{", "Cargo.lock": cargo("one")})
	for range 2 { // the second time what was found is known
		var warned []string
		p.during = func(e Event) {
			if e.Type == EventWarning {
				warned = append(warned, e.Rule+" "+e.Text)
			}
		}
		if list := billsOf(t, p, mustBuild(t, p)); list[0].purls() != "pkg:cargo/one@1.0.0" {
			t.Errorf("bills %+v", list)
		}
		if len(warned) != 1 || !strings.HasPrefix(warned[0], "IncompleteSBOM sbom is not complete: /package-lock.json: ") {
			t.Errorf("warnings %q", warned)
		}
	}
}

// Another reader finds the bills.
func TestM4_GoContainerregistryReadsTheBillsOfAllPlatforms(t *testing.T) {
	t.Parallel()
	p := billed(t, "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n", map[string]string{"amd64/Cargo.lock": cargo("amd64"), "arm64/Cargo.lock": cargo("arm64")})
	idx, m := p.readElsewhere()
	for i, arch := range []string{"amd64", "arm64"} {
		att, err := idx.Image(m.Manifests[2+i].Digest)
		must(t, err)
		layers, err := att.Layers()
		must(t, err)
		in, err := layers[0].Compressed()
		must(t, err)
		raw, err := io.ReadAll(in)
		must(t, err)
		must(t, in.Close())
		if got := billIn(t, raw, m.Manifests[i].Digest.Hex).purls(); got != "pkg:cargo/"+arch+"@1.0.0" {
			t.Errorf("%s: %s", arch, got)
		}
	}
}
