package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// check runs Check on a project.
func (p *project) check() (*CheckResult, error) {
	p.t.Helper()
	b := p.builder()
	defer b.Close()
	p.opt.Context = p.dir
	p.opt.Progress = func(e Event) { p.events = append(p.events, e) }
	return b.Check(p.t.Context(), p.opt)
}

// found lists what a check found: "rule line".
func found(res *CheckResult) []string {
	var list []string
	for _, w := range res.Warnings {
		list = append(list, fmt.Sprintf("%s %d", w.Rule, w.Pos.Start))
	}
	slices.Sort(list)
	return list
}

func (p *project) notices() string {
	var list []string
	for _, e := range p.events {
		if e.Type == EventNotice {
			list = append(list, e.Text)
		}
	}
	return strings.Join(list, "\n")
}

// tarOf is a tar archive with one empty file.
func tarOf(t *testing.T, name string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644}))
	must(t, w.Close())
	return b.String()
}

func TestE1_Check(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src string
		files     map[string]string
		opt       func(*Options)
		want      string
		notice    string
	}{
		{name: "clean", src: "FROM scratch\nRUN false\nUSER 1\n"},
		{name: "all stages", src: "FROM scratch AS A\nMAINTAINER x\nFROM scratch\nUSER 1\n", want: "MaintainerDeprecated 2, StageNameCasing 1"},
		{
			name: "the target's stages", src: "FROM scratch AS a\nUSER 1\nFROM scratch AS b\nCMD x\nRUN sudo x\n", want: "",
			opt: func(o *Options) { o.Target = "a" },
		},
		{
			name: "a base that cannot be had", src: "FROM nosuch.invalid/x:1\nENV A=$OF_BASE\nCMD x\nUSER 1\n", want: "JSONArgsRecommended 3",
			opt: func(o *Options) { o.Pull = PullNever }, notice: "the configuration of nosuch.invalid/x:1 is not known",
		},
		{
			name: "grants are a matter of the build", src: "FROM scratch\nRUN --network=host --security=insecure x\nUSER 1\n",
		},
		{
			name: "a build argument that nothing declares is a notice", src: "FROM scratch\nUSER 1\n",
			opt: func(o *Options) { o.BuildArgs = map[string]string{"X": "1"} }, notice: `"X" is not declared`,
		},
		{
			name: "what the context holds", src: "FROM scratch\nCOPY *.none *.txt /a/\nCOPY --chmod=644 conf /b/\nADD root /c/\nADD a.txt /c/\nCOPY . /\nUSER 1\n",
			files: map[string]string{"a.txt": "x", "conf/x": "x", "root": tarOf(t, "x"), ".git/HEAD": "x"},
			want:  "BestChmodParents 3, BestEmptyWildcard 2, BestMissingIgnore 6, BestUseCopy 5",
		},
		{
			name: "an ignore file", src: "FROM scratch\nCOPY . /\nCOPY a.txt /\nUSER 1\n", want: "CopyIgnoredFile 3",
			files: map[string]string{".git/HEAD": "x", ".dockerignore": "a.txt\n", "a.txt": ""},
		},
		{
			name: "a missing file is no finding", src: "FROM scratch\nCOPY nosuch /\nUSER 1\n",
		},
		{
			name: "the build argument wins over the directive", src: "# check=skip=all\nFROM scratch\nMAINTAINER x\nUSER 1\n", want: "MaintainerDeprecated 3",
			opt: func(o *Options) { o.BuildArgs = map[string]string{"BUILDKIT_DOCKERFILE_CHECK": "skip=BestSudo"} },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.src, tc.files)
			if tc.opt != nil {
				tc.opt(&p.opt)
			}
			res, err := p.check()
			if err != nil || res.Err != nil {
				t.Fatalf("%v %v", err, res)
			}
			if got := strings.Join(found(res), ", "); got != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
			if n := p.notices(); !strings.Contains(n, tc.notice) || tc.notice == "" && n != "" {
				t.Errorf("notices %q, want %q", n, tc.notice)
			}
		})
	}
}

func TestE1_CheckOfWhatCannotBeBuilt(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch AS A\nMAINTAINER x\nCOPY --chmod=9 a /\n", nil)
	res, err := p.check()
	if err != nil || res.Err == nil {
		t.Fatalf("%v %+v", err, res)
	}
	if res.Err.Category != CategoryUsage || res.Err.Pos.Start != 3 || res.Err.File != "Dockerfile" {
		t.Errorf("error %+v", res.Err)
	}
	if got := strings.Join(found(res), ", "); got != "MaintainerDeprecated 2, StageNameCasing 1" {
		t.Errorf("found %q", got)
	}

	p = newProject(t, "FROM scratch\n", nil)
	p.opt.Dockerfile = p.dir + "/nosuch"
	if res, err := p.check(); res != nil || classify(err, CategoryStep).Category != CategoryUsage {
		t.Errorf("a missing Dockerfile: %v %v", res, err)
	}
	p = newProject(t, "FROM x\n", nil)
	p.opt.Contexts = map[string]string{"x": "oci-layout:///nosuch"}
	if _, err := p.check(); err == nil || !strings.Contains(err.Error(), "--build-context x") {
		t.Errorf("a context of the user's that is not there: %v", err)
	}
}

func TestE2_ErrorFailsTheBuildAfterPlanning(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, want string }{
		{"a warning", "# check=error=true\nFROM scratch AS A\nMAINTAINER x\n", "StageNameCasing, MaintainerDeprecated"},
		{"none", "# check=error=true\nFROM scratch\n", ""},
		{"skipped", "# check=skip=MaintainerDeprecated;error=true\nFROM scratch\nMAINTAINER x\n", ""},
		{"no rule of our own: the reference builds the file", "# check=error=true\nFROM scratch\nCOPY *.none /a/\nSHELL [\"a\"]\nCMD ['a', 'b']\n", ""},
		{"not asked for", "FROM scratch\nMAINTAINER x\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.src, nil)
			p.opt.BuildArgs = map[string]string{"UNUSED": "1"} // a notice
			_, err := p.build()
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Category != CategoryUsage || e.Pos.Start != 2+strings.Count(tc.want, "Best")/2 || !strings.Contains(e.Error(), tc.want) {
				t.Fatalf("got %+v", err)
			}
			shown := 0
			for _, ev := range p.events {
				if ev.Type == EventWarning && ev.Rule != "UnusedBuildArg" {
					shown++
				}
			}
			if shown != 2 {
				t.Errorf("%d warnings are shown", shown)
			}
		})
	}
}

// rows: E52
func TestE52_BuildsWarnOfWildcardsThatMatchNothing(t *testing.T) {
	t.Parallel()
	src := "FROM scratch AS other\nFROM scratch\nCOPY *.none *.txt named.none /a/\nCOPY --parents d/**/x.c /b/\nCOPY --parents d/**/y.c /b/\n" +
		"# check=skip=BestEmptyWildcard\nCOPY *.none2 /c/\nADD z[0-9] /d/\nCOPY --from=other *.none /e/\n"
	p := newProject(t, src, map[string]string{"a.txt": "x", "named.none": "", "d/e/f/x.c": "y", ".dockerignore": "*.none\n!named.none\n"})
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range p.events {
		if ev.Type == EventWarning {
			got = append(got, fmt.Sprintf("%s %d %s", ev.Rule, ev.Line, ev.Text))
		}
	}
	want := []string{
		`BestEmptyWildcard 5 "d/**/y.c" matches nothing in the build context`,
		`BestEmptyWildcard 8 "z[0-9]" matches nothing in the build context`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// rows: E2 E3
func TestE2_CheckSaysWhatErrorMakesOfWarnings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, want string }{
		{"a rule of the reference", "# check=error=true\nFROM scratch AS A\nUSER 1\n", "lint violation found for rules: StageNameCasing"},
		{"one that builds do not warn of", "# check=error=true\nFROM scratch\n", ""},
		{"not asked for", "FROM scratch AS A\nUSER 1\n", ""},
	} {
		res, err := newProject(t, tc.src, nil).check()
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Warnings) == 0 || (res.Refusal != nil) != (tc.want != "") || tc.want != "" && !strings.Contains(res.Refusal.Error(), tc.want) {
			t.Errorf("%s: %v %+v", tc.name, res.Refusal, res.Warnings)
		}
	}
}

func TestE1_CheckOfAnArchive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "FROM scratch AS A\nCOPY *.none x /\nUSER 1\n"
	must(t, w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write([]byte(text))
	must(t, errors.Join(err, w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644}), w.Close()))
	p := newProject(t, "", nil)
	builder := p.builder()
	defer builder.Close()
	p.opt.ContextTar = &b
	res, err := builder.Check(t.Context(), p.opt)
	if err != nil || res.Err != nil {
		t.Fatalf("%v %+v", err, res)
	}
	if got := strings.Join(found(res), ", "); got != "BestEmptyWildcard 2, StageNameCasing 1" || res.Path != "" {
		t.Errorf("found %q in %q", got, res.Path)
	}
}

func TestE49_BuildsWarnToo(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY . /\n", map[string]string{"node_modules/x": "y"})
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, ev := range p.events {
		if ev.Type == EventWarning {
			rules = append(rules, ev.Rule)
		}
	}
	if !slices.Equal(rules, []string{"BestMissingIgnore"}) {
		t.Errorf("got %q", rules)
	}
}
