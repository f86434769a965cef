package houserules

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mdLink = regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)]*)?\)`)
	mdPath = regexp.MustCompile("`((?:builder|stages|context|cache|snapshot|sandbox|layer|image|store|registry|ui|cmd|internal|docs|testdata|examples|bench)/[A-Za-z0-9_./-]+)`")
)

// A document that names a file that is not there sends its reader astray. CHANGELOG.md and the decisions tell history, so what they
// name in code font may be gone; their links must work like all others.
func TestDocumentsNameExistingFiles(t *testing.T) {
	t.Parallel()
	for _, doc := range documents(t) {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if !exists(path.Join(path.Dir(doc), m[1])) {
				t.Errorf("%s: the link to %s leads nowhere", doc, m[1])
			}
		}
		if doc == "CHANGELOG.md" || strings.HasPrefix(doc, "docs/decisions/") {
			continue
		}
		for _, m := range mdPath.FindAllStringSubmatch(text, -1) {
			if !exists(m[1]) {
				t.Errorf("%s: names `%s`, which does not exist", doc, m[1])
			}
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if strings.HasSuffix(p, ".md") {
			list = append(list, filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func exists(p string) bool {
	_, err := os.Stat(filepath.FromSlash(p))
	return err == nil
}

// Decisions are named by their numbers.
func TestDecisionsAreNumbered(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(filepath.Base(f), fmt.Sprintf("%04d-", i+1)) || !strings.HasPrefix(string(data), fmt.Sprintf("# %d. ", i+1)) {
			t.Errorf("%s is not decision %d, or its title says otherwise", f, i+1)
		}
	}
}
