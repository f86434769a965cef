package sbom

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// tree makes files: "path" -> content; "-> target" is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		full := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, os.Symlink(target, full))
			continue
		}
		must(t, os.WriteFile(full, []byte(content), 0o644))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scanDir(t *testing.T, dir string) *Inventory {
	t.Helper()
	root, err := rootfs.Open(dir)
	must(t, err)
	defer root.Close()
	found, err := Scan(t.Context(), root, nil)
	must(t, err)
	return found
}

// purls are the package URLs of a tree, a line each, with notes after them.
func purls(found *Inventory) string {
	var text strings.Builder
	for _, p := range found.Packages {
		fmt.Fprintln(&text, p.PURL)
	}
	for _, n := range found.Notes {
		fmt.Fprintln(&text, "note", n)
	}
	return text.String()
}

const debian = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"

func TestM4_WhatATreeTellsOfItsPackages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"dpkg: what is installed, with its distribution and its source", map[string]string{
			"etc/os-release": "-> ../usr/lib/os-release", "usr/lib/os-release": debian,
			"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u4\n" +
				"Description: GNU C Library\n Package: not a field\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n" +
				"Package: bash\nStatus: install ok half-configured\nArchitecture: amd64\nSource: bash\nVersion: 1:5.2+b1\n",
		}, "pkg:deb/debian/bash@1:5.2%2Bb1?arch=amd64&distro=debian-12\npkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc%402.36-9\n"},
		{"dpkg: a file for each package, of images without dpkg", map[string]string{
			"etc/os-release": debian, "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
			"var/lib/dpkg/status.d/base.md5sums": "Package: no\nVersion: 1\n",
		}, "pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12\n"},
		{"apk: also where /lib is below /usr", map[string]string{
			"etc/os-release":           "ID=alpine\nVERSION_ID=3.20.1\n",
			"usr/lib/apk/db/installed": "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\nP:musl-utils\nV:1.2.5-r0\nA:x86_64\no:musl\nF:sbin\nR:ldconfig\n\n",
		}, "pkg:apk/alpine/musl-utils@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1&upstream=musl\npkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1\n"},
		{"npm: version 3, aliases by their real name, without the project, its folders and links", map[string]string{
			"app/package-lock.json": `{"packages":{"":{"name":"app","version":"1.0.0"},"packages/a":{"version":"1.0.0"},"node_modules/a":{"link":true},
				"node_modules/x":{"version":"1.2.3"},"node_modules/x/node_modules/@s/y":{"version":"2.0.0"},"node_modules/alias":{"name":"real","version":"3.0.0"}}}`,
		}, "pkg:npm/%40s/y@2.0.0\npkg:npm/real@3.0.0\npkg:npm/x@1.2.3\n"},
		{"npm: version 1, packages inside packages", map[string]string{
			"package-lock.json": `{"dependencies":{"x":{"version":"1.2.3","dependencies":{"y":{"version":"2.0.0"}}},"own":{"version":"file:own"}}}`,
		}, "pkg:npm/x@1.2.3\npkg:npm/y@2.0.0\n"},
		{"npm: installed packages, and no other package.json", map[string]string{
			"app/package.json": `{"name":"app","version":"1.0.0"}`, "app/node_modules/x/package.json": `{"name":"x","version":"1.2.3"}`,
			"app/node_modules/@s/y/package.json": `{"name":"@s/y","version":"2.0.0"}`, "app/node_modules/x/lib/package.json": `{"name":"lib","version":"9.9.9"}`,
		}, "pkg:npm/%40s/y@2.0.0\npkg:npm/x@1.2.3\n"},
		{"yarn: versions 1 and later", map[string]string{
			"a/yarn.lock": "# yarn lockfile v1\n\n\"@s/y@^1.0.0\", \"@s/y@^1.1.0\":\n  version \"1.1.0\"\n  dependencies:\n    version \"^9\"\n\nx@^2:\n  version \"2.5.0\"\n",
			"b/yarn.lock": "\"z@npm:^3.0.0\":\n  version: 3.1.0\n\n\"al@npm:@s/real@^4\":\n  version: 4.0.1\n\n\"me@workspace:.\":\n  version: 0.0.0-use.local\n",
		}, "pkg:npm/%40s/real@4.0.1\npkg:npm/%40s/y@1.1.0\npkg:npm/x@2.5.0\npkg:npm/z@3.1.0\n"},
		{"Cargo, Poetry, uv and PDM: lists of packages", map[string]string{
			"Cargo.lock": "version = 3\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n", "poetry.lock": "[[package]]\nname = \"Flask_Login\"\nversion = \"2.0\"\n",
			"uv.lock": "[[package]]\nname = \"idna\"\nversion = \"3.4\"\n", "pdm.lock": "[[package]]\nname = \"rich\"\nversion = \"13\"\n",
		}, "pkg:cargo/serde@1.0.0\npkg:pypi/flask-login@2.0\npkg:pypi/idna@3.4\npkg:pypi/rich@13\n"},
		{"Python: what is installed, and Pipfile.lock", map[string]string{
			"usr/lib/python3/site-packages/requests-2.31.0.dist-info/METADATA": "Metadata-Version: 2.1\r\nName: requests\r\nVersion: 2.31.0\r\nLicense: Apache-2.0\r\n\r\nName: no\r\n",
			"usr/lib/python3/site-packages/six.egg-info/PKG-INFO":              "Name: six\nVersion: 1.16\n", "METADATA": "Name: no\nVersion: 1\n",
			"Pipfile.lock": `{"default":{"urllib3":{"version":"==2.0.7"},"own":{"path":"."}},"develop":{"pytest":{"version":"==7.4"}}}`,
		}, "pkg:pypi/pytest@7.4\npkg:pypi/requests@2.31.0\npkg:pypi/six@1.16\npkg:pypi/urllib3@2.0.7\n"},
		{"Composer, Bundler, Gradle, .NET", map[string]string{
			"composer.lock":                  `{"packages":[{"name":"monolog/monolog","version":"3.5.0","license":["MIT"]}],"packages-dev":[{"name":"a/b","version":"v1"}]}`,
			"vendor/composer/installed.json": `[{"name":"old/one","version":"1.0"}]`, "x/installed.json": `{"packages":[{"name":"other","version":"1"}]}`,
			"Gemfile.lock":    "GIT\n  remote: r\n  specs:\n    own (0.1)\n\nGEM\n  remote: https://rubygems\n  specs:\n    nokogiri (1.15.4-x86_64-linux)\n      racc (~> 1.4)\n    racc (1.7.3)\n\nPLATFORMS\n    ruby (3)\n",
			"gradle.lockfile": "# a comment\norg.slf4j:slf4j-api:2.0.9=compileClasspath\nempty=\n",
			"app.deps.json":   `{"libraries":{"app/1.0.0":{"type":"project"},"Newtonsoft.Json/13.0.3":{"type":"package"}}}`,
		}, "pkg:composer/a/b@v1\npkg:composer/monolog/monolog@3.5.0\npkg:composer/old/one@1.0\npkg:gem/nokogiri@1.15.4\npkg:gem/own@0.1\npkg:gem/racc@1.7.3\n" +
			"pkg:maven/org.slf4j/slf4j-api@2.0.9\npkg:nuget/Newtonsoft.Json@13.0.3\n"},
		{"files that are not what their names say are noted, and the rest is found", map[string]string{
			"a/package-lock.json": "{", "b/package-lock.json": `{"packages":{"node_modules/x":{"version":"1.2.3"}}}`, "c/x.jar": "PK",
		}, "pkg:npm/x@1.2.3\nnote /a/package-lock.json: unexpected end of JSON input\nnote /c/x.jar: not in the form that is known: zip: not a valid zip file\n"},
		{"pnpm: versions 9, 6 and 5, without folders and addresses", map[string]string{
			"a/pnpm-lock.yaml": "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies:\n      no@1.0.0:\n\npackages:\n\n  '@s/y@2.0.0':\n    resolution: {integrity: sha1-qUqP5cyxm6YcTAhz05Hph5gvu9M=}\n\n" +
				"  x@1.2.3:\n    resolution: {integrity: sha512-no}\n    engines: {node: '>=8'}\n\n  own@file:own:\n    resolution: {directory: own, type: directory}\n  g@https://codeload.example.com/g/tar.gz/abc:\n\nsnapshots:\n\n  no@9.0.0(x@1.2.3): {}\n",
			"b/pnpm-lock.yaml": "packages:\n\n  /@s/six@6.0.0(x@1.2.3):\n    dev: true\n", "c/pnpm-lock.yaml": "packages:\n\n  /five/5.0.0_x@1.2.3:\n    dev: true\n  /@s/f/5.1.0:\n    dev: true\n",
		}, "pkg:npm/%40s/f@5.1.0\npkg:npm/%40s/six@6.0.0\npkg:npm/%40s/y@2.0.0\npkg:npm/five@5.0.0\npkg:npm/x@1.2.3\n"},
		{"go.mod: what it requires and by what it is replaced, in no cache of modules", map[string]string{
			"go.mod": "module example.com/app\n\ngo 1.26\n\nrequire (\n\texample.com/a v1.0.0\n\texample.com/b v1.0.0 // indirect\n)\nrequire example.com/c v1.0.0\n\n" +
				"replace example.com/b => example.com/fork v2.0.0+incompatible\n\nreplace example.com/c v1.0.0 => ./c\n",
			"root/go/pkg/mod/example.com/a@v1.0.0/go.mod": "module example.com/a\n\nrequire example.com/no v1.0.0\n", "bad/go.mod": "module x\nrequire y\n",
		}, "pkg:golang/example.com/a@v1.0.0\npkg:golang/example.com/c@v1.0.0\npkg:golang/example.com/fork@v2.0.0%2Bincompatible\n" +
			"note /bad/go.mod: not in the form that is known: go.mod:2: usage: require module/path v1.2.3\n"},
		{"rpm: what is no database is noted", map[string]string{"var/lib/rpm/Packages": strings.Repeat("x", 100)},
			"note /var/lib/rpm/Packages: not in the form that is known: it begins neither as SQLite nor as ndb nor as a hash of Berkeley DB\n"},
		{"nothing", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, tc.files)
			first := scanDir(t, dir)
			if diff := cmp.Diff(tc.want, purls(first)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(first, scanDir(t, dir)); diff != "" {
				t.Errorf("a second look differs:\n%s", diff)
			}
		})
	}
}

func TestM4_DetailsOfAPackage(t *testing.T) {
	t.Parallel()
	lock := `{"packages":{"node_modules/x":{"version":"1.2.3","license":"MIT","integrity":"sha1-qUqP5cyxm6YcTAhz05Hph5gvu9M= sha512-short"}}}`
	found := scanDir(t, tree(t, map[string]string{"a/package-lock.json": lock, "b/package-lock.json": lock}))
	want := []Package{{
		Kind: "npm", Name: "x", Version: "1.2.3", PURL: "pkg:npm/x@1.2.3", License: "MIT",
		Checksums: []Sum{{"SHA1", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"}}, Found: []string{"/a/package-lock.json", "/b/package-lock.json"},
	}}
	if diff := cmp.Diff(want, found.Packages); diff != "" {
		t.Error(diff)
	}
}

func TestM4_AGoProgramNamesItsModulesUnderAnyName(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(exe)
	must(t, err)
	dir := tree(t, nil)
	must(t, os.WriteFile(filepath.Join(dir, "server"), data, 0o755))
	must(t, os.Link(filepath.Join(dir, "server"), filepath.Join(dir, "other")))
	must(t, os.WriteFile(filepath.Join(dir, "script"), bytes.Repeat([]byte("#!/bin/sh\n"), 1000), 0o755))
	got := purls(scanDir(t, dir))
	for _, want := range []string{"pkg:golang/stdlib@1.", "pkg:golang/gobuild\n"} { // a test program does not have the others
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "note") {
		t.Errorf("notes in\n%s", got)
	}
}

func TestM4_GoModulesAreThoseThatWereBuilt(t *testing.T) {
	t.Parallel()
	s := &scan{index: map[string]*Package{}}
	must(t, s.addGo("/x", &debug.BuildInfo{GoVersion: "go1.26.1 X:nocoverageredesign", Main: debug.Module{Path: "example.com/main", Version: "(devel)"}, Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0"}, {Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v2.0.0"}},
		{Path: "example.com/c", Version: "v1.0.0", Replace: &debug.Module{Path: "./c"}},
	}}))
	var got []string
	for p := range s.index {
		got = append(got, p)
	}
	slices.Sort(got)
	want := []string{"pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/c@v1.0.0", "pkg:golang/example.com/fork@v2.0.0", "pkg:golang/example.com/main", "pkg:golang/stdlib@1.26.1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestM4_AJavaArchiveNamesWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range []string{"META-INF/maven/org.x/lib/pom.properties", "META-INF/maven/deep/er/lib/pom.properties"} {
		w, err := z.Create(name)
		must(t, err)
		_, err = w.Write([]byte("#Generated\nversion=1.5\ngroupId=org.x\nartifactId=" + filepath.Base(filepath.Dir(filepath.Dir(name))) + "\n"))
		must(t, err)
	}
	must(t, z.Close())
	if got := purls(scanDir(t, tree(t, map[string]string{"opt/app.jar": buf.String()}))); got != "pkg:maven/org.x/org.x@1.5\n" {
		t.Errorf("found %s", got)
	}
}

func TestM4_WhatIsIgnoredIsLeftOut(t *testing.T) {
	t.Parallel()
	lock := "[[package]]\nname = \"%s\"\nversion = \"1\"\n"
	dir := tree(t, map[string]string{"a/Cargo.lock": fmt.Sprintf(lock, "in"), "b/Cargo.lock": fmt.Sprintf(lock, "out")})
	root, err := rootfs.Open(dir)
	must(t, err)
	defer root.Close()
	found, err := Scan(t.Context(), root, func(p string) bool { return strings.HasPrefix(p, "/b/") })
	must(t, err)
	if got := purls(found); got != "pkg:cargo/in@1\n" {
		t.Errorf("found %s", got)
	}
}

// Nothing outside the tree is read, whatever it has; and nothing in it makes a scan wait, grow or fail.
func TestHostileH14_ATreeThatIsNoTreeOfPackages(t *testing.T) {
	t.Parallel()
	lock := "[[package]]\nname = \"outside\"\nversion = \"1\"\n"
	outside := tree(t, map[string]string{"Cargo.lock": lock, "os-release": "ID=outside\n"})
	dir := tree(t, map[string]string{
		"Cargo.lock": "-> " + outside + "/Cargo.lock", "dir": "-> " + outside, "loop/loop": "-> ../loop", "etc/os-release": "-> " + outside + "/os-release",
		"up/Cargo.lock": "-> ../../../../../../.." + outside + "/Cargo.lock", "fine/Cargo.lock": strings.ReplaceAll(lock, "outside", "inside"),
	})
	must(t, unix.Mkfifo(filepath.Join(dir, "poetry.lock"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "package-lock.json"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "var/lib/dpkg"), 0o755))
	huge := filepath.Join(dir, "var/lib/dpkg/status")
	must(t, os.WriteFile(huge, nil, 0o644))
	must(t, os.Truncate(huge, 1<<40))
	deep, err := os.Open(dir)
	must(t, err)
	for range 30 { // to 6,000 bytes
		name := strings.Repeat("d", 200)
		must(t, unix.Mkdirat(int(deep.Fd()), name, 0o755))
		fd, err := unix.Openat(int(deep.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, deep.Close())
		deep = os.NewFile(uintptr(fd), name)
	}
	must(t, deep.Close())
	found := scanDir(t, dir)
	got := purls(found)
	if !strings.HasPrefix(got, "pkg:cargo/inside@1\nnote ") || strings.Contains(got, "outside@") || found.Distribution != "" {
		t.Errorf("found %s in %q", got, found.Distribution)
	}
	if len(found.Notes) != 2 || !strings.Contains(got, "status: larger than is read") || !strings.Contains(got, "longer than is followed") {
		t.Errorf("notes %q", found.Notes)
	}
}

func TestHostileH16_AProgramWhoseTablesClaimTerabytes(t *testing.T) {
	t.Parallel()
	h := make([]byte, 64+2*64) // an ELF header and two sections: none, and the table of names, which covers the whole sparse file
	copy(h, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(h[16:], 2)
	le.PutUint16(h[18:], 62)
	le.PutUint32(h[20:], 1)
	le.PutUint64(h[40:], 64) // sections begin here
	le.PutUint16(h[52:], 64)
	le.PutUint16(h[58:], 64)
	le.PutUint16(h[60:], 2)
	le.PutUint16(h[62:], 1)
	le.PutUint32(h[128+4:], 3) // a string table
	le.PutUint64(h[128+32:], 1<<40)
	dir := tree(t, nil)
	name := filepath.Join(dir, "evil")
	must(t, os.WriteFile(name, h, 0o755))
	must(t, os.Truncate(name, 2<<40))
	must(t, os.Chmod(name, 0o755))
	found := scanDir(t, dir)
	if len(found.Packages) != 0 || len(found.Notes) != 1 || !strings.Contains(found.Notes[0], "looked through") {
		t.Errorf("found %+v", found)
	}
}

func TestHostileH16_ListsWithoutEnd(t *testing.T) {
	t.Parallel()
	var many, long strings.Builder
	many.WriteString(`{"packages":{`)
	for i := range maxPackages + 5 {
		fmt.Fprintf(&many, `"node_modules/p%d":{"version":"1"},`, i)
	}
	many.WriteString(`"node_modules/last":{"version":"1"}}}`)
	fmt.Fprintf(&long, `{"packages":{"node_modules/%s":{"version":"1"},"node_modules/ok":{"version":"1"},"node_modules/nl\n":{"version":"1\u001b[2J"}}}`, strings.Repeat("n", maxField+1))
	for name, tc := range map[string]struct {
		text  string
		want  int
		notes string
	}{
		"more packages than are listed": {many.String(), maxPackages, "more packages than are listed"},
		"names that are no names":       {long.String(), 2, ""},
		"deeper than a parser goes":     {strings.Repeat(`{"dependencies":`, 20_000), 0, "exceeded max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := scanDir(t, tree(t, map[string]string{"package-lock.json": tc.text}))
			if len(found.Packages) != tc.want || !strings.Contains(strings.Join(found.Notes, "\n"), tc.notes) {
				t.Errorf("%d packages, notes %q", len(found.Packages), found.Notes)
			}
			for _, p := range found.Packages {
				if strings.ContainsAny(p.Name+p.Version, "\n\x1b") {
					t.Errorf("package %q", p)
				}
			}
		})
	}
}

func TestScanEndsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	root, err := rootfs.Open(tree(t, nil))
	must(t, err)
	defer root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, root, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzScan(f *testing.F) {
	for _, name := range []string{"package-lock.json", "yarn.lock", "Cargo.lock", "composer.lock", "Gemfile.lock", "a.deps.json", "a.jar", "var/lib/dpkg/status", "gradle.lockfile"} {
		f.Add(name, []byte("{\"packages\":{\"node_modules/x\":{\"version\":\"1\"}}}\n"))
		f.Add(name, []byte("Package: x\nStatus: install ok installed\nVersion: 1\n\n    y (1)\n"))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !filepath.IsLocal(name) || len(name) > 200 || strings.ContainsAny(name, "\x00") {
			return
		}
		dir := t.TempDir()
		full := filepath.Join(dir, name)
		if os.MkdirAll(filepath.Dir(full), 0o755) != nil || os.WriteFile(full, data, 0o755) != nil {
			return // no name of a file here
		}
		found := scanDir(t, dir)
		raw, err := Document(found, About{Name: name, Tool: "test"})
		must(t, err)
		checkDocument(t, raw)
	})
}
