package builder

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oneShell makes the smallest image in which something can run.
const oneShell = "FROM scratch AS base\nCOPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n"

// What is in the key of a RUN, and what is not: each case changes one thing between two builds.
func TestI3I4I8_KeyOfRun(t *testing.T) {
	t.Parallel()
	edit := func(old, with string) func(p *project) {
		return func(p *project) {
			text := strings.Replace(p.dockerfile, old, with, 1)
			if text == p.dockerfile {
				p.t.Fatalf("the Dockerfile does not have %q", old)
			}
			p.write("Dockerfile", text)
		}
	}
	run := func(change func(*RunOptions)) func(p *project) { return func(p *project) { change(&p.opt.Run) } }
	secret := func(value string) func(p *project) {
		return func(p *project) { p.opt.Secrets = map[string]SecretSource{"s": {Data: []byte(value)}} }
	}
	epoch := func(p *project) {
		at := time.Unix(5, 0)
		p.opt.SourceDateEpoch, p.opt.BuildArgs = &at, map[string]string{"SOURCE_DATE_EPOCH": "5"}
	}
	shared := newShellProjectOf(t, oneShell, nil)
	for i, tc := range []struct {
		name, dockerfile string
		change           func(p *project)
		runs             bool
	}{
		{"I3 the command", "RUN true\n", edit("true", "true 1"), true},
		{"I3 a heredoc's body", "RUN <<E\ntrue\nE\n", edit("true\n", "true 1\n"), true},
		{"I3 ENV that the command does not use", "ENV a=1\nRUN true\n", edit("a=1", "a=2"), true},
		{"I3 ENV after it", "RUN true\nENV a=1\n", edit("a=1", "a=2"), false},
		{"I3 a declared ARG that the command does not use", "ARG a=1\nRUN true\n", func(p *project) { p.opt.BuildArgs = map[string]string{"a": "2"} }, true},
		{"I3 an ARG that only other instructions see", "RUN true\nARG a=1\nLABEL l=$a\n", func(p *project) { p.opt.BuildArgs = map[string]string{"a": "2"} }, false},
		{"I3 an undeclared build argument", "RUN true\n", func(p *project) { p.opt.BuildArgs = map[string]string{"a": "2"} }, false},
		{"I3 USER", "USER 1\nRUN true\n", edit("USER 1", "USER 2"), true},
		{"I3 WORKDIR", "WORKDIR /\nRUN true\n", edit("WORKDIR /", "WORKDIR /bin"), true},
		{"I3 SHELL", "RUN true\n", edit(`"sh", "-c"`, `"sh", "-ec"`), true},
		{"I3 --network", "RUN --network=none true\n", edit("RUN --network=none", "RUN --network=host"), true},
		{"I3 --network that is the build's", "RUN true\n", edit("RUN", "RUN --network=none"), false},
		{"I3 LABEL", "LABEL a=1\nRUN true\n", edit("a=1", "a=2"), false},
		{"I3 the host name", "RUN true\n", run(func(o *RunOptions) { o.Hostname = "other" }), true},
		{"I3 the size of /dev/shm", "RUN true\n", run(func(o *RunOptions) { o.ShmSize = 1 << 20 }), true},
		{"I3 --ulimit", "RUN true\n", run(func(o *RunOptions) { o.Ulimits = []Ulimit{{"nofile", 100, 100}} }), true},
		{"I3 a name of --add-host", "RUN true\n", run(func(o *RunOptions) { o.AddHosts = []string{"web:10.0.0.1", "db:10.0.0.2"} }), true},
		{"I3 not its address", "RUN true\n", run(func(o *RunOptions) { o.AddHosts = []string{"web:10.9.9.9"} }), false},
		{"I3 not limits", "RUN true\n", run(func(o *RunOptions) { o.PidsLimit, o.CPUs, o.MemoryBytes = 50, 1, 1<<30 }), false},
		{"I3 not name servers", "RUN true\n", run(func(o *RunOptions) { o.DNS = []string{"10.0.0.9"} }), false},
		{"I3 not proxies", "RUN true\n", func(p *project) { p.opt.ProxyArgs = map[string]string{"HTTP_PROXY": "http://p"} }, false},
		{"I3 a declared proxy", "ARG HTTP_PROXY\nRUN true\n", func(p *project) { p.opt.BuildArgs = map[string]string{"HTTP_PROXY": "http://p"} }, true},
		{"I4 not the value of a secret", "RUN --mount=type=secret,id=s true\n", secret("other"), false},
		{"I4 the id of a secret", "RUN --mount=type=secret,id=s,target=/s true\n", edit("id=s", "id=t"), true},
		{"I4 the variable of a secret", "RUN --mount=type=secret,id=s,env=A true\n", edit("env=A", "env=B"), true},
		{"I4 a file of a bind", "RUN --mount=source=d,target=/m true\n", func(p *project) { p.write("d/f", "changed") }, true},
		{"I4 not a file beside it", "RUN --mount=source=d,target=/m true\n", func(p *project) { p.write("e", "changed") }, false},
		{"I4 the target of a bind", "RUN --mount=source=d,target=/m true\n", edit("/m", "/n"), true},
		{"I4 a bind that is writable", "RUN --mount=source=d,target=/m true\n", edit("/m", "/m,rw"), true},
		{"I4 the target of a cache", "RUN --mount=type=cache,id=c,target=/m true\n", edit("/m", "/n"), true},
		{"I4 not the id or sharing of a cache", "RUN --mount=type=cache,id=c,target=/m true\n", edit("id=c", "id=d,sharing=locked"), false},
		{"I4 the size of a tmpfs", "RUN --mount=type=tmpfs,target=/m,size=1m true\n", edit("1m", "2m"), true},
		{"I8 not the epoch", "RUN true\n", epoch, false},
		{"I8 an epoch that is declared", "ARG SOURCE_DATE_EPOCH\nRUN true\n", epoch, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// One state directory for all, so that the base is made once; the variable keeps the cases apart.
			p := &project{t: t, dir: shared.dir, root: shared.root, dockerfile: oneShell + "ENV case=" + strconv.Itoa(i) + "\n" + tc.dockerfile}
			p.opt.Run.Network, p.opt.Allow = "none", []string{"network.host"}
			p.opt.Run.AddHosts = []string{"web:10.0.0.1"}
			p.opt.Secrets = map[string]SecretSource{"s": {Data: []byte("value")}, "t": {Data: []byte("value")}}
			p.opt.Outputs = []Output{{Type: "cacheonly"}}
			p.write("Dockerfile", p.dockerfile)
			p.write("d/f", "1")
			p.write("e", "1")
			if _, err := p.build(); err != nil {
				t.Fatalf("%v\n%s", err, p.output())
			}
			tc.change(p)
			res, err := p.build()
			if err != nil {
				t.Fatalf("%v\n%s", err, p.output())
			}
			if got := strings.Contains(ran(res), "RUN"); got != tc.runs {
				t.Errorf("it ran again: %v, want %v; steps that ran:\n%s", got, tc.runs, ran(res))
			}
		})
	}
}

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
