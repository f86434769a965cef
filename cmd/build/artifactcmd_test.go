package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

func TestM5_AttachFilesToAnImage(t *testing.T) {
	t.Parallel()
	for name, api := range map[string]bool{"referrers API": true, "tag": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			r.Referrers = api
			home := t.TempDir()
			write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
			write(t, home+"/report.json", `{"ok":true}`)
			write(t, home+"/odd:name", "x")
			image := r.Host + "/app:1"
			code, _, stderr := with(t, home, "", "-q", "--push", "-t", image, home+"/ctx")
			if code != 0 {
				t.Fatal(stderr)
			}
			args := []string{"attach", "--artifact-type=application/vnd.example.report", "--annotation=k=v", image, home + "/report.json:application/json", home + "/odd:name"}
			code, out, stderr := with(t, home, "", args...)
			if code != 0 {
				t.Fatal(stderr)
			}
			d := strings.TrimSpace(out)
			var m ocispec.Manifest
			if err := json.Unmarshal(r.Manifest("app", d), &m); err != nil {
				t.Fatal(err)
			}
			subject := digest.FromBytes(r.Manifest("app", "1"))
			if m.Subject == nil || m.Subject.Digest != subject || m.ArtifactType != "application/vnd.example.report" || m.Annotations["k"] != "v" || m.Config.MediaType != ocispec.MediaTypeEmptyJSON {
				t.Errorf("%+v", m)
			}
			if len(m.Layers) != 2 || m.Layers[0].MediaType != "application/json" || m.Layers[1].Annotations[ocispec.AnnotationTitle] != "odd:name" || string(r.Blob("app", m.Layers[0].Digest)) != `{"ok":true}` {
				t.Errorf("%+v", m.Layers)
			}
			if listed := string(r.Manifest("app", "sha256-"+subject.Encoded())); strings.Contains(listed, d) == api {
				t.Errorf("the tag in place of the API: %q", listed)
			}
			if _, again, _ := with(t, home, "", args...); again != out {
				t.Errorf("attached again as %s, not %s", again, out)
			}
		})
	}
}

func TestM5_AttachRefuses(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	home := t.TempDir()
	write(t, home+"/file", "x")
	if err := os.Mkdir(home+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"attach", r.Host + "/app:1"}, exitUsage, "at least one file"},
		{[]string{"attach", r.Host + "/app:1", home + "/file"}, exitUsage, "want a media type"},
		{[]string{"attach", "--artifact-type=a/b", "store://app", home + "/file"}, exitUsage, "in registries"},
		{[]string{"attach", "--artifact-type=a/b", r.Host + "/app:1", home + "/file"}, exitRemote, "not found"},
	} {
		code, stdout, stderr := with(t, home, "", tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.out) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.out, stdout, stderr)
		}
	}
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	if code, _, stderr := with(t, home, "", "-q", "--push", "-t", r.Host+"/app:1", home+"/ctx"); code != 0 {
		t.Fatal(stderr)
	}
	code, _, stderr := with(t, home, "", "attach", "--artifact-type=a/b", r.Host+"/app:1", home+"/dir")
	if code != exitUsage || !strings.Contains(stderr, "is not a file") {
		t.Errorf("a folder: %d, %s", code, stderr)
	}
}
