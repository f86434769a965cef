package builder

import (
	"os"
	"strings"
	"testing"

	"gobuild/history"
)

// explained builds again after a change and gives the reasons of the steps that ran, and what each follows, a line each.
func (p *project) explained() string {
	p.t.Helper()
	res, err := p.build()
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, s := range res.Record.Steps {
		if s.Cached {
			continue
		}
		line := s.Text + ": " + s.Reason
		if s.Follows != nil {
			line += " <- " + s.Follows.Text
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestI14_TheHeadlineIsTheFirstCauseAndTheRestFollows(t *testing.T) {
	const dockerfile = "FROM scratch AS a\nARG V=1\nCOPY --chmod=$V src /src\nWORKDIR /w\nFROM scratch\nCOPY --from=a /src/main /main\nWORKDIR /x\n"
	for _, tc := range []struct {
		name   string
		change func(p *project)
		want   string
	}{
		{"a file's size", func(p *project) { p.write("src/main", "12345") }, lines(
			"COPY --chmod=1 src /src: main changed: 1 bytes -> 5 bytes, sha256:",
			"WORKDIR /w: follows the miss at line 3 <- COPY --chmod=1 src /src",
			"COPY --from=a /src/main /main: main changed: 1 bytes -> 5 bytes, sha256: <- COPY --chmod=1 src /src",
			"WORKDIR /x: follows the miss at line 3 <- COPY --chmod=1 src /src",
		)},
		{"a new file", func(p *project) { p.write("src/new", "12") }, lines(
			"COPY --chmod=1 src /src: new is new (2 bytes, mode 0644)",
			"WORKDIR /w: follows the miss at line 3 <- COPY --chmod=1 src /src",
		)},
		{"an instruction that is inserted does not blame those behind it", func(p *project) {
			p.write("Dockerfile", strings.Replace(dockerfile, "WORKDIR /x", "WORKDIR /new\nWORKDIR /x", 1))
		}, lines(
			"WORKDIR /new: the instruction is new",
			"WORKDIR /x: follows the miss at line 7 <- WORKDIR /new",
		)},
		{"an instruction that is another", func(p *project) {
			p.write("Dockerfile", strings.Replace(dockerfile, "WORKDIR /x", "WORKDIR /y", 1))
		}, "WORKDIR /y: the instruction changed: WORKDIR /x -> WORKDIR /y"},
		{"--no-cache", func(p *project) { p.opt.NoCacheFilter = []string{"stage-1"} }, lines(
			"COPY --from=a /src/main /main: --no-cache-filter names this stage",
			"WORKDIR /x: --no-cache-filter names this stage",
		)},
		{"prune", func(p *project) {
			if _, err := p.builder().Prune(p.t.Context(), PruneOptions{All: true}); err != nil {
				p.t.Fatal(err)
			}
		}, lines(
			"COPY --chmod=1 src /src: its result was removed by gobuild prune",
			"WORKDIR /w: its result was removed by gobuild prune",
			"COPY --from=a /src/main /main: its result was removed by gobuild prune",
			"WORKDIR /x: its result was removed by gobuild prune",
		)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, dockerfile, map[string]string{"src/main": "1"})
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			tc.change(p)
			got := strings.Split(p.explained(), "\n")
			want := strings.Split(tc.want, "\n")
			if len(got) != len(want) {
				t.Fatalf("got:\n%s", strings.Join(got, "\n"))
			}
			for i := range got {
				begin, end, _ := strings.Cut(want[i], " <- ")
				if !strings.HasPrefix(got[i], begin) || !strings.HasSuffix(got[i], end) {
					t.Errorf("got:  %s\nwant: %s", got[i], want[i])
				}
			}
		})
	}
}

func TestP1_ExplainBuildChargesTheCauseWithWhatFollows(t *testing.T) {
	t.Parallel()
	first := history.Place{Line: 2, Text: "COPY . ."}
	e := ExplainBuild(history.Record{Steps: []history.Step{
		{Place: history.Place{Line: 1}, Cached: true, Saved: 7},
		{Place: first, Reason: "x changed", Duration: 10},
		{Place: history.Place{Line: 9}, Reason: "new", Duration: 1},
		{Place: history.Place{Line: 3}, Follows: &first, Duration: 100},
	}})
	if len(e.Chains) != 2 || e.Chains[0].Cost != 110 || len(e.Chains[0].Lost) != 1 || e.Chains[0].Headline != "x changed" || e.Chains[1].Cost != 1 || e.Cached != 1 || e.Saved != 7 {
		t.Errorf("%+v", e)
	}
}

// A build that fails is recorded too, with the step that failed; what the record says of secrets is masked.
func TestP1_AFailedBuildIsRecordedAndSecretsAreMasked(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nARG API_TOKEN\nARG PLAIN\nCOPY $API_TOKEN $PLAIN /x/\n", map[string]string{".git/HEAD": "ref: refs/heads/main\n", ".git/refs/heads/main": strings.Repeat("ab", 20) + "\n"})
	p.opt.BuildArgs = map[string]string{"API_TOKEN": "hunter22", "PLAIN": "https://me:pw@host/a?sig=1"}
	p.opt.BuildArgs["PLAIN"] = "plainfile"
	if _, err := p.build(); err == nil {
		t.Fatal("no error")
	}
	b := p.builder()
	rec, err := b.BuildRecord("")
	if err != nil {
		t.Fatal(err)
	}
	if rec.Error == nil || rec.Error.Category != "usage" || rec.BuildArgs["PLAIN"] != "plainfile" || rec.Revision != strings.Repeat("ab", 20) || len(rec.Steps) != 1 || !rec.Steps[0].Failed {
		t.Errorf("%+v", rec)
	}
	for _, name := range filesBelow(t, p.root+"/history") {
		if got := readFile(t, name); strings.Contains(got, "hunter22") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestP1_MaskedValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[[2]string]string{
		{"NPM_TOKEN", "x"}: "***", {"V", "1.2"}: "1.2", {"U", "https://me:pw@host/a?sig=1#f"}: "https://***@host/a?***#f",
		{"", "repo=https://tok@host/a.git"}: "repo=https://***@host/a.git", {"", "docker-image://app@sha256:00"}: "docker-image://app@sha256:00",
	} {
		if got := MaskValue(in[0], in[1]); got != want {
			t.Errorf("%v: %q, want %q", in, got, want)
		}
	}
}

func TestP1_CompareNamesTheFirstDifference(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nARG V=1\nCOPY a b /src/\nWORKDIR /w\n", map[string]string{"a": "1", "b": "2"})
	for range 2 {
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		p.write("b", "333")
	}
	b := p.builder()
	z, err := b.BuildRecord("^0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.BuildRecord("^1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.CompareBuilds(a, z)
	if err != nil || !strings.HasPrefix(c.First, "b changed: 1 bytes -> 3 bytes") || c.Step == nil || c.Step.Line != 3 || c.SameResults {
		t.Errorf("%v, %+v", err, c)
	}
	if c, err = b.CompareBuilds(a, a); err != nil || c.Step != nil || c.First != "" || !c.SameResults {
		t.Errorf("a build and itself: %v, %+v", err, c)
	}
	if _, err := b.BuildRecord("nothing"); err == nil || classify(err, "").Category != CategoryUsage {
		t.Errorf("an unknown build: %v", err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestI14_WhatChangedSinceTheLastBuildIsNamed: not what differs from a build long ago, though that is nearer.
func TestI14_WhatChangedSinceTheLastBuildIsNamed(t *testing.T) {
	t.Parallel()
	p := newProject(t, "", map[string]string{"f/g": "1"})
	for i, tc := range []struct{ dockerfile, want string }{
		{"COPY f /x/", "COPY f /x/: never built here"},
		{"COPY --chown=7 f /x/", `COPY --chown=7 f /x/: chown changed: "" -> 7`},
		{"COPY --link --chown=7 f /x/", "COPY --link --chown=7 f /x/: link changed: false -> true"},
		{"COPY --parents f /x/", "COPY --parents f /x/: the instruction changed: COPY --link --chown=7 f /x/ -> COPY --parents f /x/"},
		{"COPY --exclude=h f /x/", "COPY --exclude=h f /x/: the instruction changed: COPY --parents f /x/ -> COPY --exclude=h f /x/"},
		{"WORKDIR /w", "WORKDIR /w: the instruction changed: COPY --exclude=h f /x/ -> WORKDIR /w"},
		{"COPY --chmod=600 f /x/", "COPY --chmod=600 f /x/: the instruction changed: WORKDIR /w -> COPY --chmod=600 f /x/"},
		{"WORKDIR /v", "WORKDIR /v: the instruction changed: COPY --chmod=600 f /x/ -> WORKDIR /v"},
		{"WORKDIR /v\nCOPY --chown=7 f /z/", "COPY --chown=7 f /z/: the instruction is new"},
	} {
		p.write("Dockerfile", "FROM scratch\n"+tc.dockerfile+"\n")
		if got := p.explained(); got != tc.want {
			t.Errorf("build %d: %s, want %s", i, got, tc.want)
		}
	}
}
