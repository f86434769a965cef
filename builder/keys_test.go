package builder

import (
	"slices"
	"strings"
	"testing"
)

// oneShell makes the smallest image in which something can run.
const oneShell = "FROM scratch AS base\nCOPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n"

// The layers of a base are in the key of what is built on it, its name and configuration are not; a rebuilt but equal parent
// keeps what follows.
func TestI1I2_WhatCountsOfTheBase(t *testing.T) {
	t.Parallel()
	p := newShellProjectOf(t, oneShell+"CMD [\"x\"]\n", map[string]string{"f": "1"})
	save := func(name, dockerfile string) *Result {
		t.Helper()
		p.write("Dockerfile", dockerfile)
		p.opt.Tags = []string{name}
		res, err := p.build()
		if err != nil {
			t.Fatalf("%v\n%s", err, p.output())
		}
		return res
	}
	save("one", oneShell+"CMD [\"x\"]\n")
	save("two", oneShell+"LABEL other=1\n")
	save("three", oneShell+"COPY f /\n")
	const step = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN true\n"
	if got := ran(save("app", "FROM one\n"+step)); got != "RUN true" {
		t.Fatalf("the first build ran %q", got)
	}
	if got := ran(save("app", "FROM two\n"+step)); got != "" {
		t.Errorf("another name and configuration of the same layers: %q ran", got)
	}
	if got := ran(save("app", "FROM three\n"+step)); got != "RUN true" {
		t.Errorf("other layers: %q ran, want the step", got)
	}
	save("parent", oneShell+"RUN true # 1\nCOPY f /g\n")
	if got := ran(save("parent", oneShell+"RUN true # 2\nCOPY f /g\n")); !strings.HasPrefix(got, "RUN true # 2") {
		t.Errorf("a changed step before: %q ran", got)
	}
}

// rows: I9 D5
func TestI9_NoCacheFilter(t *testing.T) {
	t.Parallel()
	p := newShellProjectOf(t, oneShell+`FROM base AS One
RUN echo 1 > /one
FROM base AS two
RUN echo 2 > /two
FROM scratch
COPY --from=one /one /
COPY --from=two /two /
`, nil)
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	copies := 0
	for _, s := range res.Steps {
		if s.Text == "COPY busybox /bin/busybox" {
			copies++
		}
	}
	if copies != 1 {
		t.Errorf("D5: the stage that two others need was built %d times", copies)
	}
	p.opt.NoCacheFilter = []string{"ONE"}
	if res, err = p.build(); err != nil {
		t.Fatal(err)
	}
	if got := ran(res); got != "RUN echo 1 > /one" {
		t.Errorf("ran\n%s\nwant only the step of that stage: its result is the same, so what copies from it is cached", got)
	}
	p.opt.NoCacheFilter, p.opt.NoCache = nil, true
	if res, err = p.build(); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(res.Steps, func(s StepResult) bool { return s.Cached }) {
		t.Errorf("with --no-cache something was taken from the cache")
	}
}
