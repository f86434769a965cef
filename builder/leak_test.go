package builder

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

const leaked = "hunter2-hunter2"

func leaking(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	p := newProject(t, dockerfile, files)
	p.opt.Tags = []string{"example.com/app:1"}
	p.opt.Secrets = map[string]SecretSource{"token": {Data: []byte(leaked + "\n")}, "other": {Data: []byte("not-in-the-image")}, "short": {Data: []byte("1")}}
	return p
}

// warned builds and gives the warnings about secrets.
func warned(t *testing.T, p *project) []string {
	t.Helper()
	var list []string
	p.during = func(e Event) {
		if e.Type == EventWarning && e.Rule == "SecretInImage" {
			list = append(list, e.Text)
		}
	}
	res := mustBuild(t, p)
	if !slices.Equal(list, res.Warnings) {
		t.Errorf("warnings %q, in the result %q", list, res.Warnings)
	}
	for _, text := range list {
		if strings.Contains(text, leaked) {
			t.Errorf("the value is in %q", text)
		}
	}
	return list
}

func deniedLeak(t *testing.T, p *project) *Error {
	t.Helper()
	var e *Error
	if _, err := p.build(); !errors.As(err, &e) || e.Category != CategoryUnsafe {
		t.Fatalf("error %v, want one of category unsafe", err)
	}
	if strings.Contains(e.Error(), leaked) {
		t.Errorf("the value is in %q", e.Error())
	}
	return e
}

const inB = `the layer of COPY b /b holds the value of secret "token" in /b`

func TestM8_ALayerThatHoldsASecretIsAWarning(t *testing.T) {
	t.Parallel()
	p := leaking(t, "FROM scratch\nCOPY a /a\nCOPY b /b\nLABEL a=b\n", map[string]string{"a": "fine", "b": "TOKEN=" + leaked})
	for _, when := range []string{"packed now", "cached"} {
		if got := warned(t, p); !slices.Equal(got, []string{inB}) {
			t.Errorf("%s: warnings %q", when, got)
		}
	}
	p.opt.Secrets = nil
	if got := warned(t, p); got != nil {
		t.Errorf("without secrets: %q", got)
	}
}

func TestM8_WhereAndHowASecretIsFound(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		dockerfile string
		files      map[string]string
		squash     string
		want       []string
	}{
		"nowhere":    {"FROM scratch\nCOPY a /\n", map[string]string{"a": "hunter2-hunter"}, "", nil},
		"in base64":  {"FROM scratch\nCOPY b /\n", map[string]string{"b": base64.StdEncoding.EncodeToString([]byte("user:" + leaked))}, "", []string{`the layer of COPY b / holds the value of secret "token" in /b`}},
		"in a name":  {"FROM scratch\nCOPY d /\n", map[string]string{"d/x-" + leaked: ""}, "", []string{`the layer of COPY d / holds the value of secret "token" in a path that has it in its name`}},
		"in an ENV":  {"FROM scratch\nENV A=" + leaked + "\nCOPY a /\n", map[string]string{"a": ""}, "", []string{`the image's configuration holds the value of secret "token"`}},
		"in a stage": {"FROM scratch AS x\nCOPY b /b\nFROM scratch\nCOPY --from=x /b/a /\n", map[string]string{"b/b": leaked, "b/a": ""}, "", nil},
		"in a stage that the image is based upon, and gone later": {"FROM scratch AS x\nCOPY b /b\nFROM x\nCOPY a /b\n", map[string]string{"b": leaked, "a": ""}, "", []string{inB}},
		"squashed":              {"FROM scratch\nCOPY b /b\n", map[string]string{"b": leaked}, SquashAll, []string{`the squashed layer holds the value of secret "token" in /b`}},
		"squashed without it":   {"FROM scratch\nCOPY b /b\nCOPY a /b\n", map[string]string{"b": leaked, "a": ""}, SquashAll, nil},
		"in a step's own words": {"FROM scratch\nCOPY " + leaked + " /b\n", map[string]string{leaked: ""}, "", []string{`the image's configuration holds the value of secret "token"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leaking(t, tc.dockerfile, tc.files)
			p.opt.Squash = tc.squash
			for range 2 {
				if got := warned(t, p); !slices.Equal(got, tc.want) {
					t.Errorf("warnings %q, want %q", got, tc.want)
				}
			}
			p.opt.DenySecretLeak = true
			if tc.want == nil {
				mustBuild(t, p)
			} else {
				deniedLeak(t, p)
			}
		})
	}
}

// A layer that was packed without a search is searched when a leak is an error, and one that was found to leak stays so.
func TestM8_ADeniedLeakIsDeniedFromTheCacheToo(t *testing.T) {
	t.Parallel()
	p := leaking(t, "FROM scratch\nCOPY a /a\nCOPY b /b\n", map[string]string{"a": "fine", "b": leaked})
	secrets := p.opt.Secrets
	p.opt.Secrets = nil
	mustBuild(t, p)
	p.opt.Secrets, p.opt.DenySecretLeak = secrets, true
	p.opt.Tags = []string{"example.com/app:2"}
	for range 2 {
		if e := deniedLeak(t, p); e.Pos.Start != 3 || !strings.Contains(e.Error(), inB) {
			t.Errorf("line %d: %v", e.Pos.Start, e)
		}
	}
	b := p.builder()
	if _, err := b.store.Resolve("example.com/app:2"); err == nil {
		t.Errorf("the name: %v", err)
	}
	must(t, b.Close())
	p.opt.Secrets = map[string]SecretSource{"token": {Data: []byte("has been replaced")}}
	deniedLeak(t, p)
	p.opt.Secrets = nil
	deniedLeak(t, p)
	p.write("b", "fine now")
	mustBuild(t, p)
}

func TestM8_NothingOfADeniedImageIsPushedOrWritten(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := leaking(t, "FROM scratch\nCOPY b /b\n", map[string]string{"b": leaked})
	p.opt.DenySecretLeak = true
	p.opt.Tags = []string{r.Host + "/app:1"}
	dest := filepath.Join(t.TempDir(), "out.tar")
	p.opt.Outputs = []Output{{Type: "registry"}, {Type: "oci", Dest: dest, Tar: true}}
	deniedLeak(t, p)
	if got := r.Manifest("app", "1"); got != nil {
		t.Errorf("pushed %s", got)
	}
	if list := r.Blobs("app"); len(list) > 0 {
		t.Errorf("blobs were pushed: %s", list)
	}
	if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the output: %v", err)
	}
	p.opt.DenySecretLeak = false
	mustBuild(t, p)
	if r.Manifest("app", "1") == nil {
		t.Error("a warning keeps the image from being pushed")
	}
}

// What is kept of a leak does not tell the secret.
func TestM8_TheStateHasNothingOfTheSecretBesideTheLayer(t *testing.T) {
	t.Parallel()
	p := leaking(t, "FROM scratch\nCOPY d /\n", map[string]string{"d/x-" + leaked: "y"})
	warned(t, p)
	must(t, filepath.WalkDir(filepath.Join(p.root, "cache"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "\"secret\":") && strings.Contains(string(text), leaked) {
			t.Errorf("%s has the value: %s", path, text)
		}
		return err
	}))
}
