package houserules

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// unguarded are the goroutines that may go without recovering, by file and function, with the reason. All of them only wait, or pass
// on what others have done.
var unguarded = map[string]string{
	"cmd/build/main.go:signalContext":    "counts signals and cancels a context; an error would have nobody to go to",
	"cmd/build/terminal.go:openTerminal": "sets the size of a terminal, and copies bytes between it and the user's",
	"internal/userns/enter.go:Enter":     "reads one byte for each signal",
	"internal/userns/run.go:wait":        "writes one byte for each signal",
	"layer/source.go:openSource":         "gives bytes to sha256",
	"sandbox/runner.go:cancelWith":       "sends two signals",
}

// A panic in a goroutine that nobody recovers ends the program, and with it every build and step of it: a goroutine turns it into an
// error, by internal/rescue or a function of its package that is called guard.
func TestHostileR31_GoroutinesRecover(t *testing.T) {
	found := map[string]bool{}
	all := sources(t)
	functions := map[string]*ast.FuncDecl{} // by folder and name; methods of several types of one name count as one
	for _, s := range all {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && !s.test {
				functions[s.folder+"."+f.Name.Name] = f
			}
		}
	}
	for _, s := range all {
		if s.test || in(s.folder, "bench", "examples", "internal/registrytest", "internal/testexec", "internal/treetest", "internal/verdict", "internal/rescue") {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			for _, work := range started(f.Body) {
				name := s.path + ":" + f.Name.Name
				if recovers(s.folder, work, functions, 2) {
					continue
				}
				if found[name] = true; unguarded[name] == "" {
					t.Errorf("%s: the goroutine does not recover from a panic (internal/rescue)", s.position(work))
				}
			}
		}
	}
	for name := range unguarded {
		if !found[name] {
			t.Errorf("%s is in the list of goroutines that do not recover, but there is none", name)
		}
	}
}

// started are the functions that a body runs as goroutines: of go statements, and of methods called Go as errgroup and sync have them.
func started(body *ast.BlockStmt) (list []ast.Expr) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			list = append(list, n.Call)
		case *ast.CallExpr:
			if method, ok := n.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Go" && len(n.Args) == 1 {
				list = append(list, n.Args[0])
			}
		}
		return true
	})
	return list
}

// recovers says whether what a goroutine runs calls one of the functions that recover, itself or in a function of its package. Each of
// its statements that does something must be inside of such a call, or be one that cannot panic for want of a caller's bug.
func recovers(folder string, work ast.Node, functions map[string]*ast.FuncDecl, depth int) bool {
	guards := []string{"rescue.Do", "ownthread.Do", "guard"}
	ok := false
	ast.Inspect(work, func(n ast.Node) bool {
		call, is := n.(*ast.CallExpr)
		if !is || ok {
			return !ok
		}
		name := callee(call)
		ok = slices.Contains(guards, name)
		if f := functions[folder+"."+name[strings.LastIndexByte(name, '.')+1:]]; !ok && f != nil && f.Body != nil && depth > 0 {
			ok = recovers(folder, f.Body, functions, depth-1)
		}
		return !ok
	})
	if f, is := work.(*ast.SelectorExpr); is && !ok && depth > 0 { // a method as it is: group.Go(s.fill)
		if f := functions[folder+"."+f.Sel.Name]; f != nil && f.Body != nil {
			return recovers(folder, f.Body, functions, depth-1)
		}
	}
	return ok
}

// callee is the name of what a call calls: "f", "x.f", or of a longer one the last two parts.
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return f.Sel.Name
	}
	return ""
}
