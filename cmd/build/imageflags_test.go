package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

func TestH18_EditFlags(t *testing.T) {
	t.Parallel()
	opt, err := options(t, environ{"TOKEN": "a=b"}, "--env", "A=1", "--env=TOKEN", "--unsetenv", "B", "--unsetenv=C", "--unsetlabel", "l")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A=1", "TOKEN=a=b"}, opt.Env); diff != "" {
		t.Error(diff)
	}
	if len(opt.Unset.Env) != 2 || len(opt.Unset.Labels) != 1 {
		t.Errorf("%+v", opt.Unset)
	}
	for _, bad := range []string{"--env==1", "--env=NOT_THERE"} {
		if _, err := options(t, nil, bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// rows: H18 L3
func TestL3_ManifestAndAllPlatforms(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	home := t.TempDir()
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nENV GONE=1\nLABEL gone=1 kept=1\nCOPY Dockerfile /\n")
	name := r.Host + "/app:1"
	must := func(home string, args ...string) string {
		t.Helper()
		code, stdout, stderr := with(t, home, "", args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d\n%s", args, code, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	must(home, "-q", "--manifest", name, "--platform", "linux/amd64,linux/arm64", "--push", "--unsetenv", "GONE", "--unsetlabel=gone", "--env", "NEW=2", home+"/ctx")
	var index ocispec.Index
	if err := json.Unmarshal(r.Manifest("app", "1"), &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("pushed %s: %v", r.Manifest("app", "1"), err)
	}
	must(home, "-q", "--manifest", r.Host+"/one", "--push", home+"/ctx")
	if m := string(r.Manifest("one", "latest")); !strings.Contains(m, `"manifests"`) {
		t.Errorf("one platform makes no index: %s", m)
	}

	other := t.TempDir()
	whole := must(other, "pull", "-q", "--all-platforms", name)
	r.Server.Close() // the rest is local
	for _, arch := range []string{"amd64", "arm64"} {
		out := must(other, "inspect", "--platform", "linux/"+arch, name)
		if !strings.Contains(out, arch) || !strings.Contains(out, "NEW=2") || strings.Contains(out, `"GONE=1"`) || !strings.Contains(out, "kept") || strings.Contains(out, `"gone"`) {
			t.Errorf("%s is\n%s", arch, out)
		}
		must(other, "copy", "-q", "--platform", "linux/"+arch, "store://"+name, "oci://"+other+"/"+arch+":1") // with all its layers
	}
	if got := must(other, "copy", "-q", "store://"+name, "oci://"+other+"/all:1"); got != whole {
		t.Errorf("the store has %s, pulled was %s", got, whole)
	}
	write(t, other+"/ctx/Dockerfile", "FROM "+name+"\nLABEL own=1\n")
	all := must(other, "-q", "--all-platforms", other+"/ctx")
	if list := must(other, "inspect", all); !strings.Contains(list, "linux/amd64") || !strings.Contains(list, "linux/arm64") {
		t.Errorf("--all-platforms: %s", list)
	}
	if code, _, stderr := with(t, other, "", "--all-platforms", "--arch=arm64", other+"/ctx"); code != exitUsage || !strings.Contains(stderr, "excludes") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := with(t, other, "", "pull", "--all-platforms", "--platform=linux/amd64", name); code != exitUsage || !strings.Contains(stderr, "exclude") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestJ10_ImmutableTags(t *testing.T) {
	t.Parallel()
	for status, body := range map[int]string{
		400: `{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists and cannot be overwritten because the tag is immutable."}]}`,
		412: `{"errors":[{"code":"PRECONDITION","message":"Failed to process: configured as Immutable tag"}]}`,
		409: `{"errors":[{"code":"TAG_IMMUTABLE","message":"no"}]}`,
	} {
		r := registrytest.New(t)
		home := t.TempDir()
		build := func(text string, args ...string) (int, string) {
			t.Helper()
			write(t, home+"/ctx/Dockerfile", "FROM scratch\nLABEL text="+text+"\nCOPY Dockerfile /\n")
			all := append([]string{"--push", "--retry-delay=1ms", "-t", r.Host + "/app:1", "-t", r.Host + "/app:2"}, args...)
			code, _, stderr := with(t, home, "", append(all, home+"/ctx")...)
			return code, stderr
		}
		if code, stderr := build("first"); code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		first := r.Manifest("app", "1")
		r.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPut || !strings.HasSuffix(req.URL.Path, "/manifests/1") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return true
		})
		if code, stderr := build("second"); code != exitRemote || !strings.Contains(stderr, "the tag is immutable") || !strings.Contains(stderr, "--push-ignore-immutable-tag-errors") {
			t.Errorf("%d: exit code %d\n%s", status, code, stderr)
		}
		code, stderr := build("second", "--push-ignore-immutable-tag-errors")
		if code != 0 || !strings.Contains(stderr, "is immutable and stays what it is: the image is "+r.Host+"/app@sha256:") {
			t.Errorf("%d: exit code %d\n%s", status, code, stderr)
		}
		if two := r.Manifest("app", "2"); !bytes.Equal(r.Manifest("app", "1"), first) || bytes.Equal(two, first) || len(two) == 0 {
			t.Errorf("%d: the tags mean %s and %s", status, r.Manifest("app", "1"), two)
		}
	}
}
