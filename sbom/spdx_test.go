package sbom

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample(t *testing.T) *Inventory {
	t.Helper()
	return scanDir(t, tree(t, map[string]string{
		"etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n",
		"lib/apk/db/installed": "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nm:Timo Teras <timo@example.com>\nU:https://musl.example.com/\no:musl\n\n" +
			"P:ca-certificates\nV:1\nA:x86_64\nL:MPL-2.0 AND (MIT OR GPL-2.0-or-later)\nU:javascript:x\n\nP:odd\nV:2\nL:my own terms\nm:Some Team\n\n",
		"app/Cargo.lock": "[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nchecksum = \"" + strings.Repeat("ab", 32) + "\"\n",
		"app/yarn.lock":  strings.Repeat("x", maxLine+1),
	}))
}

func TestM4_TheDocument(t *testing.T) {
	t.Parallel()
	about := About{Name: "app:1", Version: "sha256:0123", Purpose: "CONTAINER", Tool: "gobuild-test", Created: time.Unix(1_700_000_000, 5)}
	raw, err := Document(sample(t), about)
	must(t, err)
	checkDocument(t, raw)
	var pretty bytes.Buffer
	must(t, json.Indent(&pretty, raw, "", "  "))
	pretty.WriteByte('\n')
	const golden = "testdata/sample.spdx.json"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, pretty.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Error(diff)
	}
	again, err := Document(sample(t), about)
	must(t, err)
	if !bytes.Equal(raw, again) {
		t.Error("the same tree gives another document")
	}
	about.Created = about.Created.Add(time.Hour)
	other, err := Document(sample(t), about)
	must(t, err)
	if namespaceOf(t, other) == namespaceOf(t, raw) {
		t.Error("another document has the same namespace")
	}
}

func namespaceOf(t *testing.T, raw []byte) string {
	t.Helper()
	var d document
	must(t, json.Unmarshal(raw, &d))
	return d.Namespace
}

// checkDocument holds a document against the rules of SPDX 2.3 for what it has; the numbers are the clauses.
func checkDocument(t *testing.T, raw []byte) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var d document
	must(t, dec.Decode(&d))
	if d.Version != "SPDX-2.3" || d.License != "CC0-1.0" || d.ID != "SPDXRef-DOCUMENT" || d.Name == "" {
		t.Errorf("6.1 to 6.4: %s %s %s %q", d.Version, d.License, d.ID, d.Name)
	}
	if u, err := url.Parse(d.Namespace); err != nil || !u.IsAbs() || strings.Contains(d.Namespace, "#") {
		t.Errorf("6.5: namespace %s", d.Namespace)
	}
	if len(d.Creation.Creators) == 0 || !regexp.MustCompile(`^Tool: \S+-\S+|^Tool: test$`).MatchString(d.Creation.Creators[0]) {
		t.Errorf("6.8: creators %q", d.Creation.Creators)
	}
	if at, err := time.Parse("2006-01-02T15:04:05Z", d.Creation.Created); err != nil {
		t.Errorf("6.9: created %s, %v", d.Creation.Created, at)
	}
	ids := map[string]bool{d.ID: true}
	licenses := map[string]bool{}
	for _, e := range d.Extracted {
		if !regexp.MustCompile(`^LicenseRef-[a-zA-Z0-9.-]+$`).MatchString(e.ID) || e.Text == "" || licenses[e.ID] {
			t.Errorf("10.1, 10.2: %+v", e)
		}
		licenses[e.ID] = true
	}
	for _, p := range d.Packages {
		if !regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`).MatchString(p.ID) || ids[p.ID] {
			t.Errorf("7.2: identifier %s", p.ID)
		}
		ids[p.ID] = true
		checkPackage(t, p, licenses)
	}
	described := 0
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] || r.Type != "DESCRIBES" && r.Type != "CONTAINS" {
			t.Errorf("11.1: %+v", r)
		}
		if r.Element == d.ID && r.Type == "DESCRIBES" {
			described++
		}
	}
	if described != 1 {
		t.Errorf("11.1: the document describes %d things", described)
	}
}

func checkPackage(t *testing.T, p spdxPackage, licenses map[string]bool) {
	t.Helper()
	if p.Name == "" || strings.ContainsAny(p.Name+p.Version, "\n\r\x00\x1b") {
		t.Errorf("7.1, 7.3: %q %q", p.Name, p.Version)
	}
	if p.Supplier != "NOASSERTION" && !regexp.MustCompile(`^(Person|Organization): [^()]+( \([^()]+\))?$`).MatchString(p.Supplier) {
		t.Errorf("7.5: supplier %q", p.Supplier)
	}
	if p.Download != "NOASSERTION" || p.Analyzed || p.Concluded != "NOASSERTION" || p.Copyright != "NOASSERTION" {
		t.Errorf("7.7, 7.8, 7.13, 7.17: %+v", p)
	}
	if p.Declared != "NOASSERTION" && !licenses[p.Declared] && !isExpression(p.Declared) {
		t.Errorf("7.15: license %q", p.Declared)
	}
	for _, c := range p.Checksums {
		if size := map[string]int{"SHA1": 40, "SHA256": 64, "SHA384": 96, "SHA512": 128}[c.Algorithm]; size == 0 || len(c.Value) != size {
			t.Errorf("7.10: %+v", c)
		}
	}
	for _, r := range p.ExternalRefs {
		if r.Category != "PACKAGE-MANAGER" || r.Type != "purl" || !strings.HasPrefix(r.Locator, "pkg:") || strings.ContainsAny(r.Locator, " \n") {
			t.Errorf("7.21: %+v", r)
		}
	}
}

func TestM4_LicenseExpressions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"MIT": true, "MIT AND Zlib": true, "(MIT OR Apache-2.0) AND ISC": true, "": false, "MIT OR": false, "MIT Zlib": false, "GPL": false,
		"(MIT": false, "MIT)": false, "()": false, "AND": false, "mit": false, "MIT AND (ISC": false,
	} {
		if got := isExpression(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestM4_Suppliers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "NOASSERTION", "Jo Doe <jo@example.com>": "Person: Jo Doe (jo@example.com)", "A (b) <c (d)>": "Person: A b (c d)",
		"GNU Libc Maintainers <x@example.com>": "Organization: GNU Libc Maintainers (x@example.com)", "<x@example.com>": "NOASSERTION",
	} {
		if got := supplier(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
