package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTests(t *testing.T) {
	t.Parallel()
	const (
		pass = `{"Action":"pass","Package":"gobuild/layer","Test":"TestA","Elapsed":0.1}` + "\n"
		skip = `{"Action":"output","Package":"gobuild/layer","Test":"TestB","Output":"    b_test.go:1: no overlay\n"}` + "\n" +
			`{"Action":"skip","Package":"gobuild/layer","Test":"TestB"}` + "\n"
		fail = `{"Action":"output","Package":"gobuild/layer","Test":"TestC","Output":"    c_test.go:1: got 1\n"}` + "\n" +
			`{"Action":"fail","Package":"gobuild/layer","Test":"TestC"}` + "\n" +
			`{"Action":"output","Package":"gobuild/layer","Output":"exit status 1\n"}` + "\n" +
			`{"Action":"fail","Package":"gobuild/layer"}` + "\n"
		none  = `{"Action":"skip","Package":"gobuild/empty"}` + "\n"
		build = `{"Action":"build-output","ImportPath":"gobuild/x [gobuild/x.test]","Output":"x.go:1: undefined: y\n"}` + "\n" +
			`{"Action":"fail","Package":"gobuild/x","FailedBuild":"gobuild/x [gobuild/x.test]"}` + "\n"
		crash = `{"Action":"output","Package":"gobuild/x","Output":"panic: out of range\n"}` + "\n" +
			`{"Action":"fail","Package":"gobuild/x"}` + "\n"
	)
	for _, tc := range []struct {
		name, skips, events string
		want                string
		bad                 bool
	}{
		{"all pass", "", pass + none, "1 passed, 0 failed, 0 skipped", false},
		{"a listed skip is allowed", "layer.TestB needs overlay", pass + skip, "1 passed, 0 failed, 1 skipped", false},
		{"an unlisted skip fails and shows its reason", "", pass + skip, "no overlay", true},
		{"a failed test counts once", "", pass + fail, "1 passed, 1 failed", true},
		{"a package that does not build counts and shows why", "", pass + build, "undefined: y", true},
		{"a package that crashed counts", "", pass + crash, "1 passed, 1 failed", true},
		{"text outside the protocol is passed on", "", "go: downloading x\n" + pass, "go: downloading x", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run([]string{"tests", write(t, tc.skips)}, strings.NewReader(tc.events), &out, "")
			if bad := errors.Is(err, errFailed); bad != tc.bad || (err != nil && !bad) {
				t.Errorf("error %v, want a failure: %v", err, tc.bad)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("output lacks %q:\n%s", tc.want, &out)
			}
		})
	}
}

func TestCases(t *testing.T) {
	t.Parallel()
	const (
		pass = `[{"case":"a","verdict":"passed","why":[]}]`
		fail = `[{"case":"a","verdict":"passed","why":[]},{"case":"b","verdict":"failed","why":[["result","status 1"]]}]`
		skip = `[{"case":"a","verdict":"passed","why":[]},{"case":"b","verdict":"skipped","why":[["skipped","needs git"]]}]`
	)
	for _, tc := range []struct {
		name, list, about, rows string
		want                    string
		bad                     bool
	}{
		{"all pass", "", "a B12", pass, "1 passed, 0 failed", false},
		{"a case outside the list fails", "", "a B12", fail, "FAILED b: result status 1", true},
		{"a listed failure is allowed", "b not built yet", "a B12", fail, "1 passed, 0 failed, 1 skipped", false},
		{"a listed case that passes fails", "a not built yet", "a B12", pass, "PASSES NOW", true},
		{"a listed case that is gone fails", "z not built yet", "a B12", pass, "NO SUCH CASE", true},
		{"a skipped case outside the list fails", "", "a B12", skip, "SKIPPED b: skipped needs git", true},
		{"a case said to show a row must exist", "", "a B12\nz C3", pass, "NO SUCH CASE", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run([]string{"cases", write(t, tc.list), write(t, tc.about), write(t, tc.rows)}, nil, &out, "")
			if bad := errors.Is(err, errFailed); bad != tc.bad || (err != nil && !bad) {
				t.Errorf("error %v, want a failure: %v", err, tc.bad)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("output lacks %q:\n%s", tc.want, &out)
			}
		})
	}
}

func TestNonsenseIsNotAPass(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no test ran":          {"tests", write(t, "")},
		"no case ran":          {"cases", write(t, ""), write(t, ""), write(t, "[]")},
		"results not written":  {"cases", write(t, ""), write(t, ""), filepath.Join(t.TempDir(), "missing")},
		"a skip has no reason": {"tests", write(t, "layer.TestB")},
		"listed twice":         {"tests", write(t, "a x\na y")},
		"unknown word":         {"judge"},
	} {
		if err := run(args, strings.NewReader(""), &strings.Builder{}, ""); err == nil || errors.Is(err, errFailed) {
			t.Errorf("%s: error %v, want one that says so", name, err)
		}
	}
}

func TestCountIsAppended(t *testing.T) {
	t.Parallel()
	results := write(t, "vet 1 0\n")
	rows := write(t, `[{"case":"a","verdict":"passed"},{"case":"b","verdict":"failed"}]`)
	if err := run([]string{"cases", write(t, ""), write(t, ""), rows}, nil, &strings.Builder{}, results); !errors.Is(err, errFailed) {
		t.Fatal(err)
	}
	got, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	if want := "vet 1 0\ncases 1 1\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
