package buildcontext

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func TestC3_Patterns(t *testing.T) {
	t.Parallel()
	cases := []struct {
		rule     string
		file     string
		ignored  []string
		included []string
	}{
		{"anchored at the root", "a", []string{"a", "a/b", "a/b/c"}, []string{"b/a", "ab", "b"}},
		{"cleaned", "./a\nb/\nc//d\nx/../y\n/z", []string{"a", "b", "b/q", "c/d", "y", "z"}, []string{"x", "c"}},
		{"star stops at slash", "a/*.go", []string{"a/x.go", "a/.go"}, []string{"a/b/x.go", "x.go"}},
		{"star matches leading dots", "*", []string{".git", ".git/config", "a"}, []string{"."}},
		{"question mark is one character but slash", "a?c", []string{"abc", "aéc"}, []string{"a/c", "ac", "abbc"}},
		{"**/ is zero or more directories", "**/x", []string{"x", "a/x", "a/b/x", "a/x/y"}, []string{"ax", "a/xy"}},
		{"**/ in the middle", "a/**/z", []string{"a/z", "a/b/z", "a/b/c/z"}, []string{"az", "z", "b/a/z"}},
		{"trailing ** is anything below, not the directory", "a/**", []string{"a/b", "a/b/c"}, []string{"a", "ab"}},
		{"** alone is everything", "**", []string{"a", "a/b", ".x"}, []string{"."}},
		{"**suffix crosses slashes", "**foo", []string{"foo", "xfoo", "a/b/xfoo"}, []string{"foox", "fo"}},
		{"extension at any depth", "**/*.o", []string{"x.o", "a/b/x.o", ".o"}, []string{"x.oo", "x.c", "o"}},
		{"double extension", "**/*.tar.gz", []string{"a.tar.gz", "b/a.tar.gz"}, []string{"a.gz", "tar.gz"}},
		{"class", "[a-c]x", []string{"ax", "cx"}, []string{"dx", "x"}},
		{"negated class", "[^a]x", []string{"bx"}, []string{"ax"}},
		{"exclamation in a class does not negate", "[!a]x", []string{"ax", "!x"}, []string{"bx"}},
		{"escape is literal", "a\\*b\n\\!c\n\\d", []string{"a*b", "!c", "d"}, []string{"aXb", "c", "0"}},
		{"expression characters are literal", "a.b+(c)|{d}$", []string{"a.b+(c)|{d}$"}, []string{"aXb+(c)|{d}$"}},
		{"also beside wildcards", "*|b\nq{2}*", []string{"a|b", "q{2}"}, []string{"b", "a", "qq"}},
		{"comment in column one only", "#a\n #b", []string{"#b"}, []string{"#a", "b"}},
		{"trimmed, CRLF, BOM", "\xef\xbb\xbfa\r\n  b  \r\n\t\n", []string{"a", "b"}, []string{"c"}},
		{"last match wins", "*.md\n!README.md\nREADME*", []string{"x.md", "README.md"}, []string{"x"}},
		{"negation brings back", "a\n!a/b", []string{"a", "a/c", "a/bb"}, []string{"a/b", "a/b/c"}},
		{"blank after the negation", "*\n! a", []string{"b"}, []string{"a", "a/x"}},
		{"a negated directory brings back what an earlier rule matched below", "**/*.md\n!docs", []string{"x.md"}, []string{"docs/x.md"}},
		{"repeating a rule after a negation", "a\n!a/x\na", []string{"a", "a/x"}, nil},
		{"case-sensitive", "Foo", []string{"Foo"}, []string{"foo"}},
		{"dot and outside match nothing", ".\n../x\n/", nil, []string{"x", ".x", "a"}},
		{"the root is never ignored", "*\n**\n.", []string{"a"}, []string{"", ".", "/"}},
	}
	for _, c := range cases {
		ig, err := ParseIgnore("f", []byte(c.file))
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		for _, p := range c.ignored {
			if got, _ := ig.Match(p); !got {
				t.Errorf("%s: %q should be ignored", c.rule, p)
			}
		}
		for _, p := range c.included {
			if got, _ := ig.Match(p); got {
				t.Errorf("%s: %q should not be ignored", c.rule, p)
			}
		}
	}
}

func TestC3_DecidingLine(t *testing.T) {
	t.Parallel()
	ig, err := ParseIgnore("f", []byte("# c\n\n*.md\n!README.md\nd\n!d/keep\n"))
	check(t, err)
	for _, c := range []struct {
		path    string
		ignored bool
		line    int
		pattern string
	}{
		{"x.md", true, 3, "*.md"}, {"README.md", false, 4, "!README.md"}, {"x", false, 0, ""},
		{"d/x", true, 5, "d"}, {"d/keep/y", false, 6, "!d/keep"},
	} {
		ignored, line := ig.Match(c.path)
		pattern, _ := ig.Explain(c.path)
		if ignored != c.ignored || line != c.line || pattern != c.pattern {
			t.Errorf("%s: %v line %d %q", c.path, ignored, line, pattern)
		}
	}
	if got := strings.Join(ig.Patterns(), " "); got != "*.md !README.md d !d/keep" {
		t.Error(got)
	}
}

func TestC3_MalformedPatternNamesItsLine(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"[", "a[", "[]a]x[", "!", "! ", "a\\", "[b-a]", strings.Repeat("a", maxPatternBytes+1), strings.Repeat("?*", maxPatternWildcards)} {
		_, err := ParseIgnore("f", []byte("ok\n"+bad+"\n"))
		var ie *IgnoreError
		if !errors.As(err, &ie) || ie.Line != 2 || !strings.Contains(err.Error(), "f:2: ") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestC3_NilIgnoresNothing(t *testing.T) {
	t.Parallel()
	var ig *Ignore
	if got, _ := ig.Match("a/b"); got || ig.Patterns() != nil {
		t.Error("nil ignores")
	}
}

// oracle is the reference's answer; ok false when it cannot be asked.
func oracle(tb testing.TB, patterns []string, p string) (ignored, ok bool) {
	tb.Helper()
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return false, false
	}
	got, err := pm.MatchesOrParentMatches(p)
	return got, err == nil
}

// walkOracle asks the reference as a walk does, directory by directory.
func walkOracle(patterns []string, p string) (ignored, ok bool) {
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return false, false
	}
	var info patternmatcher.MatchInfo
	parts := strings.Split(p, "/")
	for i := range parts {
		ignored, info, err = pm.MatchesUsingParentResults(path.Join(parts[:i+1]...), info)
		if err != nil {
			return false, false
		}
	}
	return ignored, true
}

// comparableLine leaves out what the reference gets wrong by its own
// documentation, or does by accident of its expressions: "\d" is a class
// there, "^" outside of brackets an anchor, specials inside brackets are
// expanded, newlines are not matched by "**", invalid UTF-8 is printed about,
// and ".." is cleaned together with "!".
func comparableLine(line string) bool {
	in := false
	for i, r := range line {
		switch {
		case r == '\\' && (in || i+1 < len(line) && strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/<>`'_\u0080", rune(line[i+1]))):
			return false
		case r == '\\' && i+1 < len(line) && line[i+1] >= 0x80:
			return false
		case r == '[' && in, in && strings.ContainsRune(".+()|{}$*?&~:-^", r):
			return false
		case r == '[':
			in = true
		case r == ']':
			in = false
		case strings.ContainsRune("|{}", r): // the reference forgets to escape them
			return false
		case r == '^' || r == 0 || r == 0xFFFD || r == 0xFEFF:
			return false
		}
	}
	clean := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "!"))
	return !strings.Contains(line, "..") && !strings.HasPrefix(path.Clean(clean), "!") && clean != "/"
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.go\n!a.go\n", "a/b.go")
	f.Add("**/x\n!**/y/x\nz/**\n", "a/y/x")
	f.Add("a/**/b*\n**/*.md\n!docs/*.md", "docs/a.md")
	f.Add("[a-c]?/**\n\\*x\n*a*b", "b1/q")
	f.Add("**b\n**b/c\n***\n?**", "a/xb")
	f.Add("a**\n!a**/b\n**/a/b", "ab/b")
	f.Fuzz(func(t *testing.T, file, name string) {
		ig, err := ParseIgnore("f", []byte(file))
		if err != nil {
			return
		}
		name = strings.TrimPrefix(path.Clean("/"+name), "/")
		got, _ := ig.Match(name)
		checkPrune(t, ig, name)
		if name == "" || strings.ContainsAny(name, "\n\x00") || strings.ToValidUTF8(name, "") != name {
			return
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(file))
		if err != nil {
			return
		}
		negated := false
		for line := range strings.Lines(file) {
			if !comparableLine(line) {
				return
			}
		}
		for _, p := range patterns {
			negated = negated || strings.HasPrefix(p, "!")
		}
		if want, ok := oracle(t, patterns, name); ok && got != want {
			t.Errorf("%q with %q: got %v, reference %v", name, patterns, got, want)
		}
		if want, ok := walkOracle(patterns, name); ok && !negated && got != want {
			t.Errorf("%q with %q: got %v, reference walk %v", name, patterns, got, want)
		}
	})
}

// checkPrune: a path that is kept is never below a directory that a walk would not enter.
func checkPrune(t *testing.T, ig *Ignore, name string) {
	t.Helper()
	if ignored, _ := ig.Match(name); ignored || name == "" {
		return
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		dir := name[:i]
		if state := ig.lookup(dir); ig.ignores(state) && !ig.mayKeepBelow(state, dir) {
			t.Errorf("%q is kept, but %q would be pruned (%q)", name, dir, ig.Patterns())
		}
	}
}

// manyPatterns is the mix that the reference needs minutes for.
func manyPatterns(n int) string {
	var b strings.Builder
	for i := range n / 5 {
		fmt.Fprintf(&b, "dir%d/sub\n**/name%d\n**/*.ext%d\nlogs%d/*.log\n**/build%d/**\n", i, i, i, i, i)
	}
	return b.String()
}

func TestHostileH18_ManyPatternsManyPaths(t *testing.T) {
	t.Parallel()
	hostile := manyPatterns(100_000) + strings.Repeat("*a*a*a*b\n", 1000) + strings.Repeat("**/", 100) + "x\n"
	for i := range 1000 {
		hostile += fmt.Sprintf("!dir%d/sub/keep%d\n!**/k%d/*\n", i, i, i)
	}
	began := time.Now()
	ig, err := ParseIgnore("f", []byte(hostile))
	check(t, err)
	parsed := time.Since(began)
	n := 0
	for i := range 100_000 {
		if ok, _ := ig.Match(fmt.Sprintf("src/pkg%d/dir%d/file%d.go", i%100, i%1000, i)); ok {
			n++
		}
	}
	t.Logf("parse %v, match %v", parsed, time.Since(began)-parsed)
	if n != 0 {
		t.Errorf("%d ignored", n)
	}
	if limit := 20 * time.Second; time.Since(began) > limit { // 2 s on a quiet machine
		t.Errorf("took %v", time.Since(began))
	}
}

func BenchmarkIgnore1000Patterns(b *testing.B) {
	ig, err := ParseIgnore("f", []byte(manyPatterns(1000)))
	check(b, err)
	paths := make([]string, 4096)
	for i := range paths {
		paths[i] = fmt.Sprintf("src/pkg%d/dir%d/file%d.go", i%100, i%10, i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ig.Match(paths[i%len(paths)])
	}
}
