// Package houserules tests the repository as a whole: who may import whom, which calls belong where, that packages and
// dependencies are explained, and that the documents name files that exist. It parses; it builds nothing.
package houserules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "gobuild"

// source is one parsed Go file.
type source struct {
	path   string // slash-separated, from the root: "layer/write.go"
	folder string // "layer"; "" for the root
	test   bool
	fset   *token.FileSet
	ast    *ast.File
}

func (s source) position(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

// imports returns the import paths of the file with the node of each.
func (s source) imports() map[string]*ast.ImportSpec {
	list := map[string]*ast.ImportSpec{}
	for _, i := range s.ast.Imports {
		list[strings.Trim(i.Path.Value, `"`)] = i
	}
	return list
}

// in reports whether folder is one of the given folders or below one.
func in(folder string, folders ...string) bool {
	for _, f := range folders {
		if folder == f || strings.HasPrefix(folder, f+"/") {
			return true
		}
	}
	return false
}

// sources parses every Go file of the module. Like the go command it leaves out testdata, folders whose names begin with a dot or
// an underscore, and nested modules.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		if d.IsDir() {
			return skipFolder(p)
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := path.Dir(p)
		if folder == "." {
			folder = ""
		}
		list = append(list, source{path: p, folder: folder, test: strings.HasSuffix(p, "_test.go"), fset: fset, ast: file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("no Go file found: the tests of the root run in the root of the repository")
	}
	return list
}

func skipFolder(p string) error {
	name := path.Base(p)
	if p == "." {
		return nil
	}
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}
