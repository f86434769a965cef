package houserules

import (
	"strings"
	"testing"
)

// Every folder with Go code has a doc.go, whose comment says what the package gives, how it is used, what it promises, and what
// it does not do.
func TestEveryPackageIsExplained(t *testing.T) {
	t.Parallel()
	comments := map[string]string{}
	code := map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		code[s.folder] = s.ast.Name.Name
		if strings.HasSuffix(s.path, "/doc.go") {
			comments[s.folder] = s.ast.Doc.Text()
		} else if s.ast.Doc != nil {
			t.Errorf("%s: the package comment belongs into doc.go", s.path)
		}
	}
	for folder, name := range code {
		comment, ok := comments[folder]
		first := "Package " + name + " "
		if name == "main" {
			first = "" // "Gobuild builds ...", "Command bench ..."
		}
		switch {
		case !ok:
			t.Errorf("%s: has no doc.go", folder)
		case comment == "" || !strings.HasPrefix(comment, first):
			t.Errorf("%s/doc.go: the package comment does not begin with %q", folder, first)
		}
	}
}
