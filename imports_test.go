package houserules

import (
	"go/ast"
	"strings"
	"testing"
)

// leaves are the parts round the builder. They meet in types that none of them owns.
var leaves = []string{"stages", "context", "cache", "snapshot", "sandbox", "layer", "image", "store", "registry", "remote", "history", "sbom"}

// mayImport is the star: the folders of this module that each folder may import. A leaf may import internal packages alone.
var mayImport = map[string][]string{
	"cmd/build": append([]string{"ui", "builder", "internal"}, leaves...),
	"ui":        {"builder", "internal"},
	"builder":   append([]string{"internal"}, leaves...),
	"internal":  {"internal"},
	"bench":     {},
	"":          {},
}

// testsMayImport is what tests need beside that: builder's events and errors have positions of package stages in
// them, and whole builds need a registry.
var testsMayImport = map[string][]string{"ui": {"stages"}, "acceptance": {"internal/registrytest"}}

// onlyIn keeps what a dependency decides in one place: import path prefix to the folders that may import it. The first that fits
// an import decides.
var onlyIn = []struct {
	prefix  string
	folders []string
	why     string
}{
	{"github.com/moby/buildkit", []string{"stages"}, "the meaning of a Dockerfile is decided in stages"},
	{"github.com/spf13/cobra", []string{"cmd/build"}, "flags are the business of cmd/build"},
	{"github.com/spf13/pflag", []string{"cmd/build"}, "flags are the business of cmd/build"},
	{"github.com/regclient/regclient", []string{"registry"}, "types of the registry client stop at registry"},
	{"github.com/opencontainers/cgroups", []string{"sandbox"}, "limits are set in sandbox"},
	{"github.com/elastic/go-seccomp-bpf", []string{"sandbox"}, "the system call filter is made in sandbox"},
	{"github.com/moby/profiles", []string{"sandbox"}, "the system call filter is made in sandbox"},
	{"github.com/moby/sys/capability", []string{"sandbox"}, "privileges are dropped in sandbox"},
	{"github.com/klauspost/pgzip", []string{"layer"}, "the bytes of a layer are decided in layer"},
	{"golang.org/x/term", []string{"ui", "cmd/build"}, "only these know a terminal"},
	{"log/slog", []string{"registry"}, "what users see goes through builder events; registry hands its client a logger that discards"},
	{"log", []string{"bench"}, "what users see goes through builder events"},
}

// testOnly are modules that must not get into the binary.
var testOnly = []string{
	"github.com/google/go-cmp", "github.com/rogpeppe/go-internal/testscript", "go.uber.org/goleak", "testing",
}

func TestImports_star(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for imp, node := range s.imports() {
			folder, ours := strings.CutPrefix(imp, module+"/")
			if !ours || in(folder, s.folder) && s.test {
				continue // an external test imports its own package
			}
			allowed, leaf := allowedFor(s.folder)
			if in(folder, allowed...) || s.test && in(folder, testsMayImport[s.folder]...) {
				continue
			}
			rule := "may import only: " + strings.Join(allowed, ", ")
			if leaf {
				rule = "is a leaf, and a leaf never imports a sibling: it may import only internal packages"
			}
			t.Errorf("%s: imports %q, but %s %s", s.position(node), imp, s.folder, rule)
		}
	}
}

// allowedFor returns what the folder may import of this module. Parts of a leaf may see each other: context/git may import context.
func allowedFor(folder string) (allowed []string, leaf bool) {
	for _, l := range leaves {
		if in(folder, l) {
			return []string{"internal", l}, true
		}
	}
	for f, allowed := range mayImport {
		if f != "" && in(folder, f) {
			return allowed, false
		}
	}
	return mayImport[folder], false
}

func TestImports_onlyIn(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for imp, node := range s.imports() {
			for _, rule := range onlyIn {
				if !in(imp, rule.prefix) {
					continue
				}
				if !in(s.folder, rule.folders...) && !s.test {
					t.Errorf("%s: imports %q, which only %s may: %s", s.position(node), imp, strings.Join(rule.folders, ", "), rule.why)
				}
				break
			}
			if in(imp, testOnly...) && !s.test && !testSupport(s.folder) {
				t.Errorf("%s: imports %q, which is for tests", s.position(node), imp)
			}
		}
	}
}

// testSupport reports whether the folder holds helpers for tests: internal/treetest, internal/testenv.
func testSupport(folder string) bool {
	name := strings.TrimPrefix(folder, "internal/")
	return name != folder && (strings.HasPrefix(name, "test") || strings.HasSuffix(name, "test"))
}

func TestImports_contextIsNamed(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		node, ok := s.imports()[module+"/context"]
		if ok && (node.Name == nil || node.Name.Name != "buildcontext") {
			t.Errorf("%s: import it as buildcontext, so that no reader takes it for the standard library's", s.position(node))
		}
	}
}

// programs are the folders with a main of their own beside cmd/build: they may print, exit and read the environment.
var programs = []string{"cmd/build", "bench", "internal/verdict"}

// calls says where a function may be called. An empty list means nowhere.
var calls = []struct {
	name  string // package.function
	where []string
	tests bool // tests may, too
	why   string
}{
	{"os.Exit", programs, true, "only main ends the process; return an error"},
	{"os.Create", nil, true, "it truncates what is there and follows links; use os.OpenFile with O_EXCL, or internal/atomicfile"},
	{"os.Getenv", programs, true, "the environment is read in cmd/build and handed down as options"},
	{"os.LookupEnv", programs, true, "the environment is read in cmd/build and handed down as options"},
	// The sandbox child is a process of its own; where it executes itself again it hands its environment on, unread.
	{"os.Environ", append([]string{"sandbox"}, programs...), true, "the environment is read in cmd/build and handed down as options"},
	{"unix.Exit", []string{"sandbox"}, true, "only main ends the process, and the sandbox child its own"},
	{"syscall.Exit", nil, true, "only main ends the process; return an error"},
	{"os.ExpandEnv", programs, true, "the environment is read in cmd/build and handed down as options"},
	{"os.Setenv", programs, false, "the environment belongs to the process, not to a package; tests use t.Setenv"},
	{"os.Unsetenv", programs, false, "the environment belongs to the process, not to a package"},
	{"os.UserHomeDir", programs, true, "it reads the environment; take the directory as an option"},
	{"os.UserCacheDir", programs, true, "it reads the environment; take the directory as an option"},
	{"os.UserConfigDir", programs, true, "it reads the environment; take the directory as an option"},
	{"os.TempDir", programs, true, "it reads the environment; take the directory as an option"},
	{"os.Getwd", programs, true, "take the directory as an option"},
	{"fmt.Print", append([]string{"ui"}, programs...), false, "below ui nothing prints; a warning is an event"},
	{"fmt.Printf", append([]string{"ui"}, programs...), false, "below ui nothing prints; a warning is an event"},
	{"fmt.Println", append([]string{"ui"}, programs...), false, "below ui nothing prints; a warning is an event"},
	{"filepath.EvalSymlinks", []string{"cmd/build"}, true, "paths inside a root are resolved by internal/rootfs"},
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				checkCall(t, s, n)
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s: calls %s, which writes to stderr past ui", s.position(n), f.Name)
				}
			}
			return true
		})
	}
}

// checkCall looks at any mention, so that a function passed as a value counts as called. Example tests may print: they must.
func checkCall(t *testing.T, s source, n *ast.SelectorExpr) {
	t.Helper()
	pkg, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	for _, c := range calls {
		if pkg.Name+"."+n.Sel.Name != c.name || in(s.folder, c.where...) || s.test && (c.tests || strings.HasPrefix(c.name, "fmt.")) {
			continue
		}
		t.Errorf("%s: %s: %s", s.position(n), c.name, c.why)
	}
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init runs in every start of the binary, the sandbox child's too; call it from main", s.position(f))
			}
		}
	}
}
