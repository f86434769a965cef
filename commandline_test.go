package houserules

import (
	"go/ast"
	"os"
	"strconv"
	"strings"
	"testing"
)

// docs/commandline.md names every flag that the tables in cmd/build have, and every command.
func TestCommandLineIsDocumented(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("docs/commandline.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	flags := 0
	for _, s := range sources(t) {
		if s.path != "cmd/build/flagtable.go" && s.path != "cmd/build/flagtable_other.go" {
			continue
		}
		for _, name := range flagNames(s.ast) {
			flags++
			if !strings.Contains(doc, "`--"+name+"`") {
				t.Errorf("docs/commandline.md does not name --%s, which %s has", name, s.path)
			}
		}
	}
	if flags < 50 {
		t.Errorf("found only %d flags in the tables: did they move?", flags)
	}
}

// flagNames finds the rows of the flag tables: {name: "x", ...}, or a call of a helper in a list of rows, as str("x", ...).
func flagNames(file *ast.File) []string {
	var names []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok {
			if name, err := strconv.Unquote(lit.Value); err == nil {
				names = append(names, name)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if array, ok := n.Type.(*ast.ArrayType); !ok || !isIdent(array.Elt, "flagSpec") {
				return true
			}
			for _, row := range n.Elts {
				switch row := row.(type) {
				case *ast.CallExpr:
					add(row.Args[0])
				case *ast.CompositeLit:
					for _, kv := range row.Elts {
						if kv, ok := kv.(*ast.KeyValueExpr); ok && isIdent(kv.Key, "name") {
							add(kv.Value)
						}
					}
				}
			}
		}
		return true
	})
	return names
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
