package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// scanScript states the name of every tree, and what it sees of it. It fails where it can write to one or has a network.
const scanScript = `#!/bin/sh
set -eu
state() { # NAME TREE
	printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":null,"predicate":{"name":"%s","spdxVersion":"%s","mine":true}}' \
		"$(basename $2): $(cd $2 && find . -name '*.lock' | sort | xargs) $(touch $2/x 2>/dev/null && echo writable)" "$BUILDKIT_SCAN_LEVEL" >$BUILDKIT_SCAN_DESTINATION/$1.spdx.json
}
grep -c : /proc/net/dev | grep -qx 1 || { echo there is a network; exit 3; } # two lines of titles have no colon; the loopback has one
echo scanning $(basename $BUILDKIT_SCAN_SOURCE) >/tmp/log && cat /tmp/log
state sbom $BUILDKIT_SCAN_SOURCE
for extra in ${BUILDKIT_SCAN_SOURCE_EXTRAS:+$BUILDKIT_SCAN_SOURCE_EXTRAS/*}; do state $(basename $extra) $extra; done
`

// generatorProject has the image example.com/scan:1 in its store, whose entrypoint is the script, and is to build what dockerfile says.
func generatorProject(t *testing.T, script, dockerfile string, files map[string]string) *project {
	t.Helper()
	p := newShellProject(t, "FROM base\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n", map[string]string{"scan": script})
	p.opt.Tags = []string{"example.com/scan:1"}
	mustBuild(t, p)
	p.write("Dockerfile", dockerfile)
	p.write(".dockerignore", "busybox\nscan\nDockerfile\n")
	for name, content := range files {
		p.write(name, content)
	}
	p.opt.Tags = []string{"example.com/team/app:1"}
	p.opt.Attest.SBOM = &SBOMOptions{Tool: "gobuild-test", Generator: "example.com/scan:1", Parameters: map[string]string{"LEVEL": "SPDX-2.3"}}
	return p
}

func TestM4_AGeneratorSeesTheImageAndWhatIsScannedBesideIt(t *testing.T) {
	t.Parallel()
	const dockerfile = "FROM scratch AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY b.lock /\nFROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY a.lock /\nCOPY --from=build / /b\n"
	p := generatorProject(t, scanScript, dockerfile, map[string]string{"a.lock": "a", "b.lock": "b", "c.lock": "c"})
	first := mustBuild(t, p)
	var got []string
	for _, b := range billsOf(t, p, first) {
		if b.Version != "SPDX-2.3" {
			t.Errorf("the parameter is %q", b.Version)
		}
		got = append(got, strings.TrimSpace(b.Name))
	}
	want := []string{"sbom: ./a.lock ./b/b.lock", "sbom-build: ./b.lock", "sbom-context: ./a.lock ./b.lock ./c.lock"}
	if !slices.Equal(got, want) {
		t.Errorf("bills %q, want %q", got, want)
	}
	if !strings.Contains(p.output(), "scanning sbom\n") {
		t.Errorf("the output of the generator is not shown: %q", p.output())
	}
	if again := mustBuild(t, p); again.Manifest.Digest != first.Manifest.Digest || p.output() != "" {
		t.Errorf("a build without changes is %s after %s, and prints %q", again.Manifest.Digest, first.Manifest.Digest, p.output())
	}
	p.write("c.lock", "changed") // of the context alone
	if mustBuild(t, p); !strings.Contains(p.output(), "scanning sbom\n") {
		t.Error("the generator does not see that the context has changed")
	}
	p.opt.Attest.SBOM.Parameters["LEVEL"] = "SPDX-3"
	if list := billsOf(t, p, mustBuild(t, p)); list[0].Version != "SPDX-3" {
		t.Errorf("another parameter gives %+v", list[0])
	}
}

// The names of files become those beside an output of files.
func TestM4_BillsOfAGeneratorBesideFiles(t *testing.T) {
	t.Parallel()
	p := generatorProject(t, scanScript, "FROM scratch\nCOPY a.lock /\n", map[string]string{"a.lock": "a"})
	p.opt.Tags = nil
	dir := filepath.Join(t.TempDir(), "out")
	p.opt.Outputs = []Output{{Type: "local", Dest: dir}}
	mustBuild(t, p)
	text, err := os.ReadFile(filepath.Join(dir, "sbom.spdx.json"))
	must(t, err)
	if b := billIn(t, text, ""); !strings.HasPrefix(b.Name, "sbom: ./a.lock") {
		t.Errorf("bill %+v", b)
	}
}

func TestM4_AGeneratorThatFails(t *testing.T) {
	t.Parallel()
	p := generatorProject(t, "#!/bin/sh\necho no luck >&2\nexit 7\n", "FROM scratch\nCOPY a.lock /\n", map[string]string{"a.lock": "a"})
	_, err := p.build()
	var e *Error
	if !errors.As(err, &e) || e.Category != CategoryStep || e.ExitCode != 7 || !slices.Contains(e.Tail, "no luck") || !strings.Contains(e.Error(), "SBOM by example.com/scan:1: it ended with exit code: 7") {
		t.Errorf("error %+v", e)
	}
	p.opt.Attest.SBOM.Generator = "example.com/other:1"
	p.opt.Pull = PullNever
	if _, err = p.build(); !errors.As(err, &e) || !strings.Contains(e.Error(), "find the generator of bills of materials example.com/other:1: ") || len(p.output()) > 0 {
		t.Errorf("error %v", err)
	}
}

// rows: M4
func TestM4_AnImageWithoutACommandIsNoGenerator(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY a /\n", map[string]string{"a": "a"})
	p.opt.Tags = []string{"example.com/empty:1"}
	mustBuild(t, p)
	p.opt.Attest.SBOM = &SBOMOptions{Generator: "example.com/empty:1"}
	var e *Error
	if _, err := p.build(); !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(e.Error(), "the image says no command") {
		t.Errorf("error %v", err)
	}
}

// What a generator leaves is a stranger's: nothing outside of its folder is read, nothing makes the build wait or grow, and it speaks of no
// other image.
func TestHostileH14_WhatAGeneratorLeaves(t *testing.T) {
	t.Parallel()
	const good = `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","subject":[{"name":"other"}],"predicate":{"name":"x"}}`
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte(good), 0o600))
	many := map[string]string{}
	for i := range maxGenerated + 1 {
		many[fmt.Sprintf("%d.json", i)] = good
	}
	for name, tc := range map[string]struct {
		files map[string]string
		make  func(dir string) error
		want  string
	}{
		"one that is right":       {files: map[string]string{"sbom.spdx.json": good}},
		"nothing":                 {want: "it left nothing"},
		"a folder":                {make: func(dir string) error { return os.Mkdir(dir+"/d", 0o755) }, want: "not a regular file"},
		"a FIFO":                  {make: func(dir string) error { return unix.Mkfifo(dir+"/f", 0o644) }, want: "not a regular file"},
		"a link to the host":      {make: func(dir string) error { return os.Symlink(outside, dir+"/l") }, want: "no such file"},
		"a file of a terabyte":    {make: func(dir string) error { return sparse(dir+"/s", 1<<40) }, want: "the bound is"},
		"files that are too many": {files: many, want: "more than 256 files"},
		"no JSON":                 {files: map[string]string{"a": "x"}, want: "no in-toto statement: invalid"},
		"two statements":          {files: map[string]string{"a": good + good}, want: "no in-toto statement: invalid"},
		"a bare document":         {files: map[string]string{"a": `{"spdxVersion":"SPDX-2.3"}`}, want: "its type is \"\""},
		"provenance":              {files: map[string]string{"a": strings.Replace(good, "https://spdx.dev/Document", "https://slsa.dev/provenance/v1", 1)}, want: "it states \"https://slsa.dev/provenance/v1\""},
		"a statement of nothing":  {files: map[string]string{"a": strings.Replace(good, `{"name":"x"}`, "null", 1)}, want: "is no object"},
		"no UTF-8":                {files: map[string]string{"a": strings.Replace(good, "x", "\xff", 1)}, want: "no UTF-8"},
		"a name of lines":         {files: map[string]string{"a\nb": good}, want: `"a\nb" in /run/out: want a name`},
		"a name that is long":     {files: map[string]string{strings.Repeat("n", 201): good}, want: "want a name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for n, text := range tc.files {
				must(t, os.WriteFile(filepath.Join(dir, n), []byte(text), 0o600))
			}
			if tc.make != nil {
				must(t, tc.make(dir))
			}
			root, err := rootfs.Open(dir)
			must(t, err)
			defer root.Close()
			list, err := readBills(root)
			switch {
			case tc.want == "":
				if err != nil || len(list) != 1 || string(list[0].Predicate) != `{"name":"x"}` {
					t.Errorf("bills %+v, error %v", list, err)
				}
			case err == nil || !strings.Contains(err.Error(), tc.want):
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func sparse(name string, size int64) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(name, size)
}

func TestM4_TheBillOfTheImageComesFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, n := range []string{"a.spdx.json", "sbom-x.spdx.json", "sbom.spdx.json"} {
		must(t, os.WriteFile(filepath.Join(dir, n), []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{}}`), 0o600))
	}
	root, err := rootfs.Open(dir)
	must(t, err)
	defer root.Close()
	list, err := readBills(root)
	must(t, err)
	var names []string
	for _, b := range list {
		names = append(names, b.Name)
	}
	if got := strings.Join(names, " "); got != "sbom.spdx.json a.spdx.json sbom-x.spdx.json" {
		t.Errorf("order %s", got)
	}
}

func FuzzBillOf(f *testing.F) {
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","predicate":{"name":"x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		predicate, err := billOf(data)
		if err != nil {
			return
		}
		var object map[string]any
		if err := json.Unmarshal(predicate, &object); err != nil {
			t.Errorf("%q gives %q: %v", data, predicate, err)
		}
	})
}
