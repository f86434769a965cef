package builder

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

func TestH16_AnnotationsOfTheBaseOnRequest(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	base := layered(t, 1)
	base.opt.Tags, base.opt.Outputs = []string{r.Host + "/base:1"}, []Output{{Type: "registry"}}
	base.opt.Annotations = []Annotation{{On: "manifest", Key: "a", Value: "base"}, {On: "manifest", Key: "b", Value: "base"}, {On: "manifest", Key: "c", Value: "base"}, {On: "manifest", Key: ocispec.AnnotationBaseImageName, Value: "elsewhere.example/x:1"}}
	from, err := base.build()
	if err != nil {
		t.Fatal(err)
	}
	p := newProject(t, "FROM "+r.Host+"/base:1 AS one\nCOPY Dockerfile /\nFROM one\nLABEL x=y\n", nil)
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	p.opt.Annotations = []Annotation{{On: "manifest", Key: "b", Value: "own"}}
	build := func() map[string]string {
		t.Helper()
		mustBuild(t, p)
		var m ocispec.Manifest
		if err := json.Unmarshal(r.Manifest("app", "1"), &m); err != nil {
			t.Fatal(err)
		}
		return m.Annotations
	}
	if diff := cmp.Diff(map[string]string{"b": "own"}, build()); diff != "" {
		t.Errorf("not asked for (-want +got):\n%s", diff)
	}
	p.opt.InheritAnnotations, p.opt.UnsetAnnotations = true, []string{"c"}
	want := map[string]string{
		"a": "base", "b": "own", ocispec.AnnotationBaseImageName: r.Host + "/base:1", ocispec.AnnotationBaseImageDigest: from.Manifest.Digest.String(),
	}
	for range 2 { // the second time everything is cached
		if diff := cmp.Diff(want, build()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}

	out := filepath.Join(t.TempDir(), "out")
	p = newProject(t, "FROM scratch\nCOPY Dockerfile /\n", nil)
	p.opt.InheritAnnotations, p.opt.Outputs = true, []Output{{Type: "oci", Dest: out}}
	mustBuild(t, p)
	if m, _ := manifestIn(t, out); len(m.Annotations) != 0 {
		t.Errorf("FROM scratch gives %v", m.Annotations)
	}
	p.opt.Outputs[0].Attrs = map[string]string{"oci-mediatypes": "false"}
	_, err = p.build()
	wantCategory(t, err, CategoryUsage, "have no annotations")
}

func TestH15_WhatCannotBeMadeIsRefused(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY Dockerfile /\n", nil)
	p.opt.Outputs = []Output{{Type: "oci", Dest: filepath.Join(t.TempDir(), "out"), Attrs: map[string]string{"compression": "estargz"}}}
	_, err := p.build()
	wantCategory(t, err, CategoryUsage, "compression=estargz is not supported")
}
