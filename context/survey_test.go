package buildcontext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// surveyOf makes files and lists what Survey says of them, "path rule" with "-" before what is ignored.
func surveyOf(t *testing.T, ignore string, files ...string) (lines []string, rules []Rule) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ig, err := ParseIgnore(".dockerignore", []byte(ignore))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Open(dir, Options{Ignore: ig})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	rules, err = tree.Survey(t.Context(), func(e Surveyed) error {
		sign := "+"
		if e.Ignored {
			sign = "-"
		}
		lines = append(lines, fmt.Sprintf("%s%s %d", sign, e.Path, e.Rule))
		// It must agree with what Match says of the path alone, which the walk of a build goes by.
		ignored, line := ig.Match(e.Path)
		if ignored != e.Ignored || e.Rule >= 0 && line != rules0(ig, e.Rule) {
			t.Errorf("%s: survey says %v by rule %d, match says %v by line %d", e.Path, e.Ignored, e.Rule, ignored, line)
		}
		return nil
	}, func(p string) { t.Errorf("unreadable: %s", p) })
	if err != nil {
		t.Fatal(err)
	}
	if tree.hashed.Load() != 0 {
		t.Error("content was read")
	}
	return lines, rules
}

func rules0(ig *Ignore, n int) int { return ig.rules[n].line }

func TestPain30_SurveySeesWhatIsIgnored(t *testing.T) {
	t.Parallel()
	got, rules := surveyOf(t, "# comment\nnode_modules\n!node_modules/keep\n**/*.log\nnever\n", "a.go", "b.log", "node_modules/x/y", "node_modules/keep/z", "node_modules/keep/w.log")
	want := []string{
		"+/ -1", "+/a.go -1", "-/b.log 2", "-/node_modules 0", "+/node_modules/keep 1", "-/node_modules/keep/w.log 2",
		"+/node_modules/keep/z 1", "-/node_modules/x 0", "-/node_modules/x/y 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantRules := []Rule{
		{Pattern: "node_modules", Line: 2, Matched: true}, {Pattern: "!node_modules/keep", Line: 3, Keeps: true, Matched: true},
		{Pattern: "**/*.log", Line: 4, Matched: true}, {Pattern: "never", Line: 5},
	}
	if diff := cmp.Diff(wantRules, rules); diff != "" {
		t.Error(diff)
	}
}

func TestPain30_ARuleThatALaterOneOverrulesIsMatched(t *testing.T) {
	t.Parallel()
	_, rules := surveyOf(t, "*.go\n*\n", "a.go")
	if !rules[0].Matched || !rules[1].Matched {
		t.Errorf("%+v", rules)
	}
}

func TestPain30_ManyRulesAreNotSearched(t *testing.T) {
	t.Parallel()
	_, rules := surveyOf(t, strings.Repeat("never\n", maxUnusedSearch+1), "a")
	if !rules[0].Matched {
		t.Error("more rules than are tried must not be said to match nothing")
	}
}

func TestPain30_NoIgnoreFile(t *testing.T) {
	t.Parallel()
	got, rules := surveyOf(t, "", "d/a")
	if diff := cmp.Diff([]string{"+/ -1", "+/d -1", "+/d/a -1"}, got); diff != "" || len(rules) != 0 {
		t.Errorf("%s %v", diff, rules)
	}
}

func TestPain30_ADirectoryThatCannotBeReadIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"closed", "open"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	tree, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	// Root reads everything; this thread does not while its file system user is another (setfsuid(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.SetfsuidRetUid(0)
	}
	var told, seen []string
	_, err = tree.Survey(t.Context(), func(e Surveyed) error {
		seen = append(seen, e.Path)
		return nil
	}, func(p string) { told = append(told, p) })
	if err != nil || !slices.Equal(told, []string{"/closed"}) || !slices.Equal(seen, []string{"/", "/closed", "/open", "/open/below"}) {
		t.Errorf("told %v, seen %v, %v", told, seen, err)
	}
	w := &walker{t: tree, ctx: t.Context(), fn: func(Entry) error { return nil }}
	if err := w.walk(Match{Path: "/"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a walk of a build must not leave it out: %v", err)
	}
}

func TestPain30_SurveyEndsWithTheErrorOfTheCallback(t *testing.T) {
	t.Parallel()
	tree, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	stop := errors.New("stop")
	if _, err := tree.Survey(t.Context(), func(Surveyed) error { return stop }, nil); !errors.Is(err, stop) {
		t.Error(err)
	}
}
