package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/builder"
	"gobuild/stages"
)

func someResult() *builder.Result {
	return &builder.Result{
		Manifest: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("m"), Size: 7},
		Config:   ocispec.Descriptor{Digest: digest.FromString("c")},
		Tags:     []string{"docker.io/library/a:1", "localhost:5000/b:latest"},
		Steps:    []builder.StepResult{{Number: 1, Total: 2, Cached: true}, {Number: 2, Total: 2}},
		Warnings: []string{"w"},
		Elapsed:  5,
	}
}

// filesIn makes the result files that the flags name, below dir.
func filesIn(t *testing.T, args ...string) (*resultFiles, error) {
	t.Helper()
	f, _, err := judgeArgs(t, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return newApp(t, nil).resultFiles(f)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestK7_ResultFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "iid", "sha256:old")
	files, err := filesIn(t, "--iidfile=iid", "--iidfile-raw=raw", "--digest-file=digest", "--image-name-with-digest-file=names", "--image-name-tag-with-digest-file=tags")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("iid"); err == nil {
		t.Error("the id of an earlier build is still there while this one runs")
	}
	res := someResult()
	if err := files.write(res, nil); err != nil {
		t.Fatal(err)
	}
	m, c := res.Manifest.Digest, res.Config.Digest
	want := map[string]string{
		"iid": c.String(), "raw": c.Encoded(), "digest": m.String(),
		"names": "docker.io/library/a@" + m.String() + "\nlocalhost:5000/b@" + m.String(),
		"tags":  "docker.io/library/a:1@" + m.String() + "\nlocalhost:5000/b:latest@" + m.String(),
	}
	got := map[string]string{}
	for name := range want {
		got[name] = read(t, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if list, err := filepath.Glob(".tmp*"); err != nil || len(list) > 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func TestK7_NoIdAfterAFailure(t *testing.T) {
	t.Chdir(t.TempDir())
	files, err := filesIn(t, "--iidfile=iid")
	if err != nil {
		t.Fatal(err)
	}
	if err := files.write(nil, errors.New("failed")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("iid"); err == nil {
		t.Error("a failed build left an id")
	}
}

func TestK6_Metadata(t *testing.T) {
	t.Chdir(t.TempDir())
	files, err := filesIn(t, "--metadata-file=m.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := files.write(someResult(), nil); err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(read(t, "m.json")), &m); err != nil {
		t.Fatal(err)
	}
	res := someResult()
	for key, want := range map[string]any{
		"containerimage.digest": res.Manifest.Digest.String(), "containerimage.config.digest": res.Config.Digest.String(),
		"image.name": "docker.io/library/a:1,localhost:5000/b:latest", "gobuild.cachedSteps": 1.0, "gobuild.success": true, "gobuild.elapsedNs": 5.0,
	} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
	if steps, ok := m["gobuild.steps"].([]any); !ok || len(steps) != 2 {
		t.Errorf("steps: %v", m["gobuild.steps"])
	}
	if d, ok := m["containerimage.descriptor"].(map[string]any); !ok || d["size"] != 7.0 {
		t.Errorf("descriptor: %v", m["containerimage.descriptor"])
	}
}

func TestK6_ProvenanceByPlatform(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		made map[string]json.RawMessage
		want map[string]string
	}{
		{nil, map[string]string{}},
		{map[string]json.RawMessage{"linux/amd64": json.RawMessage("1")}, map[string]string{"buildx.build.provenance": "1"}},
		{
			map[string]json.RawMessage{"linux/amd64": json.RawMessage("1"), "linux/arm64": json.RawMessage("2")},
			map[string]string{"buildx.build.provenance/linux/amd64": "1", "buildx.build.provenance/linux/arm64": "2"},
		},
	} {
		res := someResult()
		res.Provenance = tc.made
		got := map[string]string{}
		for key, v := range metadata(res, nil) {
			if raw, ok := v.(json.RawMessage); ok {
				got[key] = string(raw)
			}
		}
		if !maps.Equal(got, tc.want) {
			t.Errorf("%v, want %v", got, tc.want)
		}
	}
}

func TestK6_MetadataAfterAFailure(t *testing.T) {
	t.Chdir(t.TempDir())
	files, err := filesIn(t, "--metadata-file=m.json")
	if err != nil {
		t.Fatal(err)
	}
	failure := &builder.Error{
		Category: builder.CategoryStep, Op: "RUN x", File: "Dockerfile", Pos: stages.Position{Start: 2, End: 3}, ExitCode: 7,
		Step: &builder.StepInfo{Stage: "s", Number: 1, Total: 2, Text: "RUN x"}, Hint: "h", Err: errors.New("boom"),
	}
	if err := files.write(nil, failure); err != nil {
		t.Fatal(err)
	}
	var m struct {
		Success bool `json:"gobuild.success"`
		Error   struct {
			Category, Message, Hint, File string
			ExitCode, GobuildExitCode     int
			Range                         stages.Position
			Step                          struct{ Text string }
		} `json:"gobuild.error"`
	}
	text := read(t, "m.json")
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	e := m.Error
	if m.Success || e.Category != "step" || e.Message != "RUN x: boom" || e.ExitCode != 7 || e.GobuildExitCode != 1 || e.Range.End != 3 || e.Step.Text != "RUN x" || e.Hint != "h" || e.File != "Dockerfile" {
		t.Errorf("%+v from %s", m, text)
	}
	if strings.Contains(text, "containerimage.digest") {
		t.Error("a failed build has a digest")
	}
}

func TestK6_BadPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "dir")
	for arg, text := range map[string]string{
		"--iidfile=nowhere/iid":                "no such file",
		"--iidfile=dir":                        "is a directory",
		"--metadata-file=dir/":                 "want a file",
		"--iidfile=":                           "want a file",
		"--iidfile=a --metadata-file=a":        "same file",
		"--iidfile=a --digest-file=./dir/../a": "same file",
	} {
		_, err := filesIn(t, strings.Fields(arg)...)
		wantUsage(t, err, text)
	}
}

func TestK6_ADeviceIsWrittenInto(t *testing.T) {
	t.Parallel()
	if err := writeFile("/dev/null", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat("/dev/null"); err != nil || st.Mode().IsRegular() {
		t.Fatalf("/dev/null was replaced: %v, %v", st, err)
	}
}
