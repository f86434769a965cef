package lazyre

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

// calls finds the calls NAME.FUNC(...) in the program's own files, with their first argument where it is a literal.
func calls(t *testing.T, pkg, fn string, found func(pos token.Position, top bool, arg string)) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && d.Name() != "." {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			_, isFunc := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				if _, ok := n.(*ast.FuncLit); ok {
					isFunc = true
				}
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != fn || len(call.Args) == 0 {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); !ok || x.Name != pkg {
					return true
				}
				arg := ""
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					arg, _ = strconv.Unquote(lit.Value)
				}
				found(fset.Position(call.Pos()), !isFunc, arg)
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryExpressionCompiles(t *testing.T) {
	t.Parallel()
	n := 0
	calls(t, "lazyre", "New", func(pos token.Position, _ bool, arg string) {
		n++
		if _, err := regexp.Compile(arg); arg == "" || err != nil {
			t.Errorf("%s: %q is no constant expression: %v", pos, arg, err)
		}
	})
	if n < 10 {
		t.Errorf("only %d expressions found", n)
	}
}

func TestNoExpressionIsCompiledAtStart(t *testing.T) {
	t.Parallel()
	calls(t, "regexp", "MustCompile", func(pos token.Position, top bool, _ string) {
		if top && !strings.Contains(pos.Filename, "/bench/") {
			t.Errorf("%s: compiled in every process, RUN's init too; use lazyre.New", pos)
		}
	})
}

func TestMethodsAreThoseOfRegexp(t *testing.T) {
	t.Parallel()
	re := New(`b(.)`)
	if !re.MatchString("abc") || re.MatchString("a") || re.FindStringSubmatch("abc")[1] != "c" || re.ReplaceAllString("abcb1", "x") != "axx" ||
		re.FindStringSubmatchIndex("abc")[3] != 3 || len(re.FindAllStringIndex("abcb1", -1)) != 2 || re.FindAllStringSubmatchIndex("abcb1", 1)[0][2] != 2 {
		t.Error("not what regexp gives")
	}
}
