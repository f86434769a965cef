package buildcontext

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// found lists the matches as "Parent|Name=Path".
func found(s *Selection) []string {
	var out []string
	for _, src := range s.Sources {
		for _, m := range src.Matches {
			kind := ""
			if m.Info.IsDir() {
				kind = "/"
			}
			out = append(out, m.Parent+"|"+m.Name+"="+m.Path+kind)
		}
	}
	return out
}

func TestB41_LiteralSources(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "d/e/f", "link -> d/e/f", "dirlink -> /d", "up -> ../../../../a", "d/back -> ..",
		"outside -> /etc/passwd", "etc/hosts", "hosts -> /etc/hosts", "sp ace", `b\s`, "br[ack")
	tree := open(t, dir, Options{})
	for _, c := range []struct{ rule, path, want string }{
		{"plain", "a", "|a=/a"},
		{"leading slash is ignored", "/a", "|a=/a"},
		{"cleaned", "./d//e/./f", "|f=/d/e/f"},
		{"dots stop at the root", "../../../a", "|a=/a"},
		{"trailing slash on a file", "a/", "|a=/a"},
		{"the root", ".", "|=//"},
		{"above the root", "..", "|=//"},
		{"directory", "d/", "|d=/d/"},
		{"named link leads to its target and keeps its own name", "link", "|link=/d/e/f"},
		{"absolute link lands inside", "dirlink/e", "|e=/d/e/"},
		{"link with too many dots stops at the root", "up", "|up=/a"},
		{"dots are taken before links, as text", "dirlink/../a", "|a=/a"},
		{"link back up", "d/back/d/e/f", "|f=/d/e/f"},
		{"absolute link to a name that exists inside", "hosts", "|hosts=/etc/hosts"},
		{"blanks", "sp ace", "|sp ace=/sp ace"},
		{"backslash as it is", `b\s`, `|b\s=/b\s`},
		{"escaped special", `br\[ack`, `|br[ack=/br[ack`},
	} {
		s, err := tree.Select(t.Context(), Query{Paths: []string{c.path}, FollowNamed: true})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		if got := found(s); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %q want %q", c.rule, got, c.want)
		}
	}
}

func TestB41_MissingSource(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "app.go", "Makefile", "src/main.go", "dist/app", "dist/keep/x", "lost -> nowhere", "loop -> loop2", "loop2 -> loop",
		"secret", "alias -> secret")
	opt := ignoring(t, "# comment", "dist", "!dist/keep", "secret", "Makefile")
	tree := open(t, dir, opt)
	for _, c := range []struct{ path, text, remedy string }{
		{"nope", `"nope" not found`, ""},
		{"app.Go", `"app.Go" not found`, `did you mean "app.go"?`},
		{"ap.go", `"ap.go" not found`, `did you mean "app.go"?`},
		{"scr/main.go", `"scr/main.go" not found`, `did you mean "src/main.go"?`},
		{"makefile", `"makefile" not found`, ""}, // what is ignored is not suggested
		{"app.go/x", `"app.go/x" not found`, ""},
		{"dist/app", `"dist/app" is excluded by .dockerignore:2 (dist)`, `add the line "!dist/app" at the end of .dockerignore`},
		{"alias", `"alias" is excluded by .dockerignore:4 (secret)`, `add the line "!alias" at the end of .dockerignore`},
		{"lost", `"lost" not found`, ""},
		{"loop", `"loop" not found: too many links: too many levels of symbolic links`, ""},
	} {
		_, err := tree.Select(t.Context(), Query{Paths: []string{c.path}, FollowNamed: true})
		var nf *NotFoundError
		if !errors.Is(err, ErrNotFound) || !errors.As(err, &nf) {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if err.Error() != c.text || nf.Remedy() != c.remedy {
			t.Errorf("%s: %q %q\nwant %q %q", c.path, err, nf.Remedy(), c.text, c.remedy)
		}
	}
	if got := found(sel(t, tree, Query{Paths: []string{"dist"}})); len(got) != 1 {
		t.Errorf("an ignored directory with something kept is there: %q", got)
	}
}

func TestB42_Wildcards(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a.go", "b.go", ".h.go", "c.txt", "d/x.go", "d/y.go", "d/s/z.go", "e/x.go", "w[1].txt",
		"l -> d", "f -> c.txt", "**lit/q", "gone.tmp -> nowhere")
	tree := open(t, dir, Options{})
	for _, c := range []struct {
		rule, pattern string
		want          []string
	}{
		{"star, leading dots too", "*.go", []string{"|.h.go=/.h.go", "|a.go=/a.go", "|b.go=/b.go"}},
		{"question mark and class", "[ab].?o", []string{"|a.go=/a.go", "|b.go=/b.go"}},
		{"negated class", "[^a.].go", []string{"|b.go=/b.go"}},
		{"does not cross slashes", "*/x.go", []string{"|x.go=/d/x.go", "|x.go=/e/x.go"}},
		{"two stars are one", "**/x.go", []string{"|x.go=/d/x.go", "|x.go=/e/x.go"}},
		{"no match is no error", "*.rs", nil},
		{"a file as directory is no error", "a.go/*", nil},
		{"a directory matches as a whole", "?", []string{"|d=/d/", "|e=/e/", "|f=/c.txt", "|l=/d/"}},
		{"links in the fixed part are followed", "l/*.go", []string{"|x.go=/d/x.go", "|y.go=/d/y.go"}},
		{"links matched in the middle are not", "[l]/x.go", nil},
		{"class as escape", "w[[]1].txt", []string{"|w[1].txt=/w[1].txt"}},
		{"backslash as escape", `w\[?].txt`, []string{"|w[1].txt=/w[1].txt"}},
		{"dots stop at the root", "../../[a]*.go", []string{"|a.go=/a.go"}},
		{"component order", "*/*", []string{"|q=/**lit/q", "|s=/d/s/", "|x.go=/d/x.go", "|y.go=/d/y.go", "|x.go=/e/x.go"}},
	} {
		s, err := tree.Select(t.Context(), Query{Paths: []string{c.pattern}, FollowNamed: true})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		if !s.Sources[0].Wildcard || fmt.Sprint(found(s)) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %q want %q", c.rule, found(s), c.want)
		}
	}
	_, err := tree.Select(t.Context(), Query{Paths: []string{"*.tmp"}, FollowNamed: true})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a matched link that leads nowhere: %v", err)
	}
	if _, err = tree.Select(t.Context(), Query{Paths: []string{"q/*"}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the directory before the wildcard is missing: %v", err)
	}
	for _, bad := range []string{"a[b", "[b-a]"} {
		var pe *PatternError
		if _, err = tree.Select(t.Context(), Query{Paths: []string{bad}}); !errors.As(err, &pe) {
			t.Errorf("malformed pattern %s: %v", bad, err)
		}
	}
}

func TestB42_WildcardsSeeWhatTheIgnoreFileLeaves(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a/keep", "a/drop", "b/drop", "c/x", "d.go", "e.go")
	tree := open(t, dir, ignoring(t, "a", "!a/keep", "b", "e.go", "!b/never"))
	equal(t, found(sel(t, tree, Query{Paths: []string{"*"}})), []string{"|a=/a/", "|c=/c/", "|d.go=/d.go"})
}

func TestB52_Parents(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "t/a/b/c/d/e/bay", "t/a/b/c/d/foo", "t/a/b2/c/d/e/bar", "t/a/b/c/d/e/baz", "top", "t/l -> a/b", "x/f -> ../top")
	tree := open(t, dir, Options{})
	for _, c := range []struct {
		rule, pattern string
		want          []string
	}{
		{"file", "top", []string{"|top=/top"}},
		{"path from the root", "/t/a/b/c/d/foo", []string{"t/a/b/c/d|foo=/t/a/b/c/d/foo"}},
		{"relative", "./t/a/b/c/d", []string{"t/a/b/c|d=/t/a/b/c/d/"}},
		{"trailing dot is no pivot", "/t/a/b/c/d/.", []string{"t/a/b/c|d=/t/a/b/c/d/"}},
		{"pivot", "/t/a/b/./c/d", []string{"c|d=/t/a/b/c/d/"}},
		{"first pivot only", "/t/a/./b/./c", []string{"b|c=/t/a/b/c/"}},
		{"a pivot may be a link before a wildcard", "t/l/./c/d/f*", []string{"c/d|foo=/t/a/b/c/d/foo"}},
		{"wildcard after the pivot", "/t/a/./*/c", []string{"b|c=/t/a/b/c/", "b2|c=/t/a/b2/c/"}},
		{"wildcard before the pivot", "/t/a/b*/./c/**/e", []string{"c/d|e=/t/a/b/c/d/e/", "c/d|e=/t/a/b2/c/d/e/"}},
		{"missing behind a wildcard pivot is no error", "/t/a/b*/./c/d/foo", []string{"c/d|foo=/t/a/b/c/d/foo"}},
		{"two stars at any depth", "**/ba?", []string{"t/a/b/c/d/e|bay=/t/a/b/c/d/e/bay", "t/a/b/c/d/e|baz=/t/a/b/c/d/e/baz", "t/a/b2/c/d/e|bar=/t/a/b2/c/d/e/bar"}},
		{"no match is no error", "t/q*", nil},
		{"dots stop at the pivot's root", "./../top", []string{"|top=/top"}},
		{"a link named last stays a link", "x/f", []string{"x|f=/x/f"}},
	} {
		s, err := tree.Select(t.Context(), Query{Paths: []string{c.pattern}, Parents: true, FollowNamed: true})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		if fmt.Sprint(found(s)) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %q want %q", c.rule, found(s), c.want)
		}
	}
}

func TestB52_ParentsThatAreErrors(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "t/a/b/foo", "t/l -> a/b", "!x")
	tree := open(t, dir, Options{})
	for _, c := range []struct {
		rule, pattern, exclude string
		missing                bool // else malformed
	}{
		{"missing", "t/nope", "", true},
		{"missing before a wildcard pivot", "q/*/./x", "", true},
		{"a link on the way", "t/l/foo", "", true},
		{"a link as pivot of a plain path", "t/l/./foo", "", true},
		{"excluded by name", "t/a/b", "t/a/b", true},
		{"nothing after the pivot", "t/a/./", "", false},
		{"the root itself", ".", "", false},
		{"a negation", "!x", "", false},
	} {
		q := Query{Paths: []string{c.pattern}, Parents: true, FollowNamed: true}
		if c.exclude != "" {
			q.Excludes = []string{c.exclude}
		}
		_, err := tree.Select(t.Context(), q)
		var malformed *PatternError
		if errors.Is(err, ErrNotFound) != c.missing || errors.As(err, &malformed) == c.missing {
			t.Errorf("%s: %v", c.rule, err)
		}
	}
}

func TestB52_EachPivotIsNamed(t *testing.T) {
	t.Parallel()
	tree := open(t, fill(t, t.TempDir(), "a1/x", "a2/y"), Options{})
	for pattern, want := range map[string]int{"a*/./z*": 2, "b*/./z*": 0, "nothing*": 1, "a1/./x": 1} {
		s := sel(t, tree, Query{Paths: []string{pattern}, Parents: true})
		if got := len(s.Sources[0].Pivots); got != want {
			t.Errorf("%s: %d pivots, want %d", pattern, got, want)
		}
	}
}

func TestB52_ParentDirectoriesAreVisitedOutermostFirst(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "p/a/b/f")
	check(t, os.Chmod(filepath.Join(dir, "p/a"), 0o711))
	tree := open(t, dir, Options{})
	var got []string
	for _, m := range sel(t, tree, Query{Paths: []string{"p/./a/b/f"}, Parents: true}).Sources[0].Matches {
		check(t, tree.WalkParents(m, func(e Entry) error {
			got = append(got, fmt.Sprintf("%s %s %o", e.Rel, e.Path, e.Info.Mode&0o7777))
			return nil
		}))
	}
	equal(t, got, []string{"a /p/a 711", "a/b /p/a/b 755"})
}

func TestB53_Excludes(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "s/a.go", "s/a.md", "s/d/b.md", "s/d/keep.md", "s/x/y/z", "r.md", "r.go", "s/s/q")
	tree := open(t, dir, Options{})
	for _, c := range []struct {
		rule     string
		paths    []string
		excludes []string
		parents  bool
		want     []string
	}{
		{"relative to the source directory", []string{"s"}, []string{"a.md", "d/b.md"}, false,
			[]string{"/", "a.go", "d/", "d/keep.md", "s/", "s/q", "x/", "x/y/", "x/y/z"}},
		{"the source directory's own name is not tested", []string{"s"}, []string{"s"}, false,
			[]string{"/", "a.go", "a.md", "d/", "d/b.md", "d/keep.md", "x/", "x/y/", "x/y/z"}},
		{"negation brings back, with the directory", []string{"s"}, []string{"*", "!d/keep.md"}, false, []string{"/", "d/", "d/keep.md"}},
		{"leading slash is dropped", []string{"s"}, []string{"/d", "s", "x"}, false, []string{"/", "a.go", "a.md"}},
		{"a file that a wildcard matched", []string{"r.*"}, []string{"*.md"}, false, []string{"r.go"}},
		{"a file that is named", []string{"r.md", "r.go"}, []string{"r.md"}, false, []string{"r.go"}},
		{"with parents relative to the pivot", []string{"s/d"}, []string{"s/d/b.md"}, true, []string{"s/d/", "s/d/keep.md"}},
		{"with parents not relative to the match", []string{"s/./d"}, []string{"b.md"}, true, []string{"d/", "d/b.md", "d/keep.md"}},
		{"with parents the match itself", []string{"s/*"}, []string{"s/[adx]*"}, true, []string{"s/s/", "s/s/q"}},
		{"with parents and negation", []string{"s"}, []string{"s", "!s/x/y"}, true, []string{"s/", "s/x/", "s/x/y/", "s/x/y/z"}},
	} {
		q := Query{Paths: c.paths, Excludes: c.excludes, Parents: c.parents}
		got := walked(t, tree, sel(t, tree, q), c.excludes...)
		if strings.Join(trimmed(got), " ") != strings.Join(trimmed(c.want), " ") {
			t.Errorf("%s:\ngot  %q\nwant %q", c.rule, got, c.want)
		}
	}
	var pe *PatternError
	if _, err := tree.Select(t.Context(), Query{Paths: []string{"s"}, Excludes: []string{"["}}); !errors.As(err, &pe) {
		t.Errorf("malformed: %v", err)
	}
}

func trimmed(in []string) []string {
	var out []string
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func TestC3_IgnoredDirectoryComesBackWithWhatIsKept(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a/b/c/keep", "a/b/c/drop", "a/z/drop", "n/drop", "k/x.go", "k/l/y.go", "k/l/y.c")
	for _, c := range []struct {
		rules []string
		want  []string
	}{
		{[]string{"a", "!a/b/c/keep", "n", "k"}, []string{"/", "a/", "a/b/", "a/b/c/", "a/b/c/keep"}},
		{[]string{"*", "!**/*.go"}, []string{"/", "k/", "k/l/", "k/l/y.go", "k/x.go"}},
		{[]string{"*"}, []string{"/"}},
		{[]string{"*", "!k", "k/l"}, []string{"/", "k/", "k/x.go"}},
		{[]string{"!a", "a", "n", "k"}, []string{"/"}},
	} {
		tree := open(t, dir, ignoring(t, c.rules...))
		equal(t, walked(t, tree, sel(t, tree, Query{Paths: []string{"."}})), c.want)
		if !tree.Filtered() {
			t.Error("Filtered is false")
		}
	}
	if open(t, dir, ignoring(t, "# nothing")).Filtered() || open(t, dir, Options{}).Filtered() {
		t.Error("Filtered without rules")
	}
}

func TestC4_WhichIgnoreFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule, dockerfile, override string
		files                      []string
		want                       string
	}{
		{"none", "Dockerfile", "", nil, ""},
		{"root", "Dockerfile", "", []string{".dockerignore", ".containerignore"}, ".dockerignore"},
		{"containerignore counts when there is no other", "Dockerfile", "", []string{".containerignore"}, ".containerignore"},
		{"beside the Dockerfile first", "sub/x", "", []string{".dockerignore", "sub/x.dockerignore"}, "sub/x.dockerignore"},
		{"of another Dockerfile does not count", "sub/y", "", []string{".dockerignore", "sub/x.dockerignore"}, ".dockerignore"},
		{"flag first", "Dockerfile", "mine", []string{".dockerignore", "mine"}, "mine"},
		{"an empty one still counts", "sub/x", "", []string{".dockerignore", "sub/x.dockerignore = "}, "sub/x.dockerignore"},
		{"a link inside is followed", "sub/x", "", []string{"sub/x.dockerignore -> ../real", "real"}, "sub/x.dockerignore"},
	} {
		dir := fill(t, t.TempDir(), c.files...)
		override := c.override
		if override != "" {
			override = filepath.Join(dir, override)
		}
		got, _, err := FindIgnore(filepath.Join(dir, c.dockerfile), dir, override)
		want := c.want
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if err != nil || got != want {
			t.Errorf("%s: %q %v", c.rule, got, err)
		}
	}
	dir := t.TempDir()
	if _, _, err := FindIgnore("", dir, filepath.Join(dir, "nope")); err == nil {
		t.Error("a missing --ignorefile is accepted")
	}
	outside := fill(t, t.TempDir(), "Dockerfile", "Dockerfile.dockerignore")
	if got, src, err := FindIgnore(filepath.Join(outside, "Dockerfile"), dir, ""); err != nil || len(src) == 0 {
		t.Errorf("Dockerfile outside of the context: %q %v", got, err)
	}
}

func TestHostileH19_IgnoreFileThatIsNone(t *testing.T) {
	t.Parallel()
	canary := fill(t, t.TempDir(), "canary = secret")
	for _, c := range []struct {
		rule string
		make func(p string) error
	}{
		{"FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"device", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"absolute link", func(p string) error { return os.Symlink(filepath.Join(canary, "canary"), p) }},
		{"link upward", func(p string) error { return os.Symlink("../"+filepath.Base(canary)+"/canary", p) }},
		{"link nowhere", func(p string) error { return os.Symlink("nope", p) }},
		{"link to itself", func(p string) error { return os.Symlink(filepath.Base(p), p) }},
		{"too long", func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, maxIgnoreBytes+1))
		}},
	} {
		for _, name := range []string{".dockerignore", "Dockerfile.dockerignore"} {
			dir := t.TempDir()
			err := c.make(filepath.Join(dir, name))
			if errors.Is(err, unix.EPERM) {
				t.Logf("%s: cannot be made here", c.rule)
				continue
			}
			check(t, err)
			_, src, err := FindIgnore(filepath.Join(dir, "Dockerfile"), dir, "")
			var ie *IgnoreError
			if !errors.As(err, &ie) || src != nil {
				t.Errorf("%s as %s: %q, %v", c.rule, name, src, err)
			}
		}
	}
	dir := t.TempDir()
	fifo(t, filepath.Join(dir, "f"))
	if _, _, err := FindIgnore("", dir, filepath.Join(dir, "f")); !errors.Is(err, rootfs.ErrNotRegular) {
		t.Errorf("--ignorefile FIFO: %v", err)
	}
}
