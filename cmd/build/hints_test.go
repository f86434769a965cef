package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// flagWord finds "--flag" at the beginning of a word.
var flagWord = regexp.MustCompile("(?:^|[\\s(`'\"|])--([a-z][a-z0-9-]*)")

// foreignFlags are flags in our texts that other programs and the Dockerfile have.
func foreignFlags() map[string]string {
	return map[string]string{
		"chmod": "COPY --chmod", "chown": "COPY --chown", "link": "COPY --link", "checksum": "ADD --checksum", "parents": "COPY --parents", "exclude": "COPY --exclude", "unpack": "ADD --unpack", "keep-git-dir": "ADD --keep-git-dir",
		"mount": "RUN --mount", "device": "RUN --device", "security": "RUN --security", "from": "COPY --from",
		"privileged": "docker run", "cgroupns": "docker run", "security-opt": "docker run", "rm": "docker run", "install": "tonistiigi/binfmt",
		"add-subuids": "usermod", "add-subgids": "usermod", "scope": "systemd-run", "user": "systemd-run",
	}
}

// TestN_EveryFlagThatATextNamesExists holds the texts of all packages against the flag tables: a remedy that names a flag which is
// not there, or is not obeyed, helps nobody.
func TestN_EveryFlagThatATextNamesExists(t *testing.T) {
	t.Parallel()
	known := map[string]*flagSpec{}
	for _, c := range commands() {
		table := globalFlags()
		if c.flags != nil {
			table = append(table, c.flags()...)
		}
		for i := range table {
			if old := known[table[i].name]; old == nil || old.does != yes {
				known[table[i].name] = &table[i]
			}
		}
	}
	foreign, found := foreignFlags(), 0
	for _, text := range texts(t) {
		for _, m := range flagWord.FindAllStringSubmatch(text.value, -1) {
			name := strings.TrimRight(m[1], "-")
			found++
			if foreign[name] != "" {
				continue
			}
			switch spec := known[name]; {
			case spec == nil:
				t.Errorf("%s: %q names --%s, which no command has", text.where, text.value, name)
			case spec.does == no || spec.does == later && spec.decide == nil:
				t.Errorf("%s: %q names --%s, which is refused: %s", text.where, text.value, name, spec.text)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d flags were found in the texts: is the search broken?", found)
	}
}

type sourceText struct{ where, value string }

// texts are the string literals of the packages that this one is made of, tests left out.
func texts(t *testing.T) []sourceText {
	t.Helper()
	var list []sourceText
	fset := token.NewFileSet()
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p != "../.." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bench" || name == "examples" || name == "acceptance") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") || strings.HasPrefix(p, "../../stages/best") {
			return nil // the best-practice rules are about the flags of apt-get, pip and others
		}
		file, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			// A word alone is an argument that we give to git and others, no text for people.
			if value, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(value, " ") {
				list = append(list, sourceText{fset.Position(lit.Pos()).String(), value})
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
