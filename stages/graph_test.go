package stages

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPlanErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src string
		line      int
		text      string
		hint      string
	}{
		{"B1 empty base", "ARG BSAE=x\nFROM $BASE\n", 2, "is empty", "did you mean BSAE?"},
		{"B1 invalid base", "FROM busybox AS build\nFROM Build\n", 2, "invalid image name", "did you mean build?"},
		{"B1 unknown image", "FROM busybox AS builder\nFROM bilder\n", 2, "image not found", "did you mean builder?"},
		{"B1 unknown image of COPY", "FROM busybox AS builder\nCOPY --from=bulder /a /b\n", 2, "image not found", "did you mean builder?"},
		{"B1 unknown image of mount", "FROM busybox AS builder\nRUN --mount=from=bulder,target=/x y\n", 2, "image not found", "did you mean builder?"},
		{"B1 unknown image of a trigger", "FROM busybox\nFROM trigger-image\n", 2, "COPY from nosuch: image not found", ""},
		{"B2 empty platform", "FROM --platform=$TARGETPLATFROM busybox\n", 1, "platform is empty", "did you mean TARGETPLATFORM?"},
		{"B2 bad platform", "FROM --platform=a/b/c/d busybox\n", 1, "no platform", ""},
		{"B6 bad default", "ARG a=${b:?needed}\nFROM busybox\n", 1, "needed", ""},
		{"B11 bad epoch", "ARG SOURCE_DATE_EPOCH=yesterday\nFROM busybox\n", 1, "is not a time", "seconds"},
		{"B22 index", "FROM busybox AS a\nFROM busybox\nRUN --mount=from=0,target=/x y\n", 3, "by index", "FROM ... AS"},
		{"B50 own stage", "FROM busybox AS a\nCOPY --from=a x y\n", 2, "circular dependency", ""},
		{"B50 own stage by index", "FROM busybox\nCOPY --from=0 x y\n", 2, "circular dependency", ""},
		{"B50 later stage", "FROM busybox\nCOPY --from=b x y\nFROM busybox AS b\n", 2, "before it is used", "line 3"},
		{"B50 index too high", "FROM busybox\nCOPY --from=99 x y\n", 2, "no stage has the index 99", ""},
		{"B50 negative index", "FROM busybox\nCOPY --from=-1 x y\n", 2, "no stage has the index -1", ""},
		{"B50 variable", "FROM busybox\nCOPY --from=$x a b\n", 2, "variables are not expanded", "name a stage"},
		{"D1 unknown target", "FROM busybox AS build\n", 0, "no such stage", "did you mean build?"},
		{"D6 cycle", "FROM busybox AS a\nCOPY --from=b x y\nFROM busybox AS b\nRUN --mount=from=c,target=/x y\nFROM busybox AS c\nCOPY --from=a x y\n",
			6, "stage a (line 2) needs stage b (line 4) needs stage c (line 6) needs stage a", ""},
		{"expansion error has the line", "FROM busybox\nENV a=b\nENV c=${x:?m}\n", 3, "x: m", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			opt := amd64()
			if strings.HasPrefix(tc.name, "D1") {
				opt.Target = "Biuld"
			}
			if strings.HasPrefix(tc.name, "B50 later") || strings.HasPrefix(tc.name, "D6") {
				opt.AllStages = true
			}
			_, err := planOf(tc.src, opt)
			wantError(t, err, tc.line, tc.text, tc.hint)
		})
	}
}

func stageNames(plan *Plan) string {
	var names []string
	for _, st := range plan.Stages {
		names = append(names, st.Name)
	}
	return strings.Join(names, " ")
}

func TestD1D2_TargetAndPruning(t *testing.T) {
	t.Parallel()
	const src = `FROM busybox AS one
FROM busybox AS two
COPY --from=one /a /a
FROM nosuchimage AS broken
FROM two AS Three
RUN --mount=from=one,target=/x y
FROM broken
COPY --from=broken /a /a
`
	for _, tc := range []struct {
		target, want string
		needs        []int
	}{
		{"two", "one two", []int{0}},
		{"TWO", "one two", []int{0}},
		{"1", "one two", []int{0}},
		{"three", "one two three", []int{0, 1}},
	} {
		plan := mustPlan(t, src, target(tc.target))
		if got := stageNames(plan); got != tc.want {
			t.Errorf("target %s: stages %s, want %s", tc.target, got, tc.want)
		}
		if got := plan.Target().Needs; !reflect.DeepEqual(got, tc.needs) {
			t.Errorf("target %s: needs %v, want %v", tc.target, got, tc.needs)
		}
	}
	if _, err := planOf(src, amd64()); err == nil {
		t.Error("the default target needs an image that is missing")
	}
	opt := amd64()
	opt.Target, opt.AllStages = "one", true
	if _, err := planOf(src, opt); err == nil {
		t.Error("AllStages needs an image that is missing")
	}
	plan := mustPlan(t, "FROM busybox AS a\nFROM busybox AS b\nFROM a AS c\n", target("a"), func(o *Options) { o.AllStages = true })
	if got := stageNames(plan); got != "b c a" {
		t.Errorf("with AllStages the target is still last: %s", got)
	}
}

func TestD2_UnneededStagesHaveValidNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ src, text, hint string }{
		{"FROM BAD//x AS a", "invalid image name", ""},
		{"ARG N=Busybox\nFROM $N AS a", "has capitals", ""},
		{"FROM busybox AS x\nFROM X AS a", "has capitals", "did you mean x?"},
		{"FROM busybox AS a\nCOPY --from=Bad:Tag:x /a /a", "invalid image name", ""},
		{"FROM busybox AS a\nRUN --mount=from=BAD//x,target=/x y", "invalid image name", ""},
	} {
		_, err := planOf(tc.src+"\nFROM busybox\n", amd64())
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), tc.text) || !strings.Contains(e.Remedy(), tc.hint) {
			t.Errorf("%s: %v", tc.src, err)
		}
	}
	mustPlan(t, "FROM scratch AS a\nCOPY --from=scratch / /\nFROM nosuchimage AS b\nCOPY --from=nosuch /a /a\nFROM busybox\n")
}

func TestD3_NameLookup(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox AS x\nENV n=1\nFROM busybox AS x\nENV n=2\nFROM x\nFROM busybox AS x\nENV n=3\nFROM scratch AS end\nCOPY --from=X /a /a\n", target("2"))
	if st := plan.Target(); st.Base.Stage != 1 {
		t.Errorf("FROM means the latest earlier stage of the name, got %d", st.Base.Stage)
	}
	plan = mustPlan(t, "FROM busybox AS x\nFROM busybox AS x\nFROM scratch AS y\nCOPY --from=X /a /a\n")
	if c := firstCopy(t, plan); c.From.Stage != 1 {
		t.Errorf("--from means the last stage of the name in the file, got %d", c.From.Stage)
	}
	plan = mustPlan(t, "FROM busybox AS busybox\nFROM busybox\n")
	if st := plan.Target(); st.Base.Kind != SourceStage || plan.Stages[0].Base.Kind != SourceImage {
		t.Errorf("a stage shadows the image only after its FROM: %+v %+v", plan.Stages[0].Base, st.Base)
	}
	plan = mustPlan(t, "FROM busybox AS scratch\nFROM scratch\n")
	if st := plan.Target(); st.Base.Kind != SourceStage {
		t.Errorf("a stage may be called scratch (E15 warns): %+v", st.Base)
	}
}

func TestD7_StepNumbers(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox AS a\nENV x=1\nRUN one\nWORKDIR /\nWORKDIR /w\nCOPY a b\nFROM a\nRUN two\nCMD x\nFROM scratch AS c\nADD a b\n", func(o *Options) { o.AllStages = true })
	for _, tc := range []struct {
		stage, total int
		numbers      string
	}{{0, 4, "2 3 4"}, {1, 1, "1"}, {2, 1, "1"}} {
		st := plan.Stages[tc.stage]
		var got []string
		for _, s := range st.Steps {
			got = append(got, fmt.Sprint(s.Number))
		}
		if st.Total != tc.total || strings.Join(got, " ") != tc.numbers {
			t.Errorf("stage %d: %v of %d, want %s of %d", tc.stage, got, st.Total, tc.numbers, tc.total)
		}
	}
	if got := stageNames(plan); got != "a stage-1 c" {
		t.Errorf("names %q", got)
	}
	if got := mustPlan(t, "FROM busybox\n").Target().Name; got != "" {
		t.Errorf("a single unnamed stage is called %q", got)
	}
}

func TestB4_FromStage(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, `FROM busybox AS a
ARG one=1
ENV e=x
SHELL ["/sh"]
USER u
WORKDIR /w
LABEL l=1
ONBUILD ENV fired=yes
FROM a AS b
LABEL l=2 m=3
RUN x
FROM b
RUN y
`)
	a, b, c := plan.Stages[0], plan.Stages[1], plan.Stages[2]
	r := b.Steps[0].Run
	if r.Args[0] != "/sh" || r.User != "u" || r.Dir != "/w" {
		t.Errorf("run %+v", r)
	}
	if v, _ := lookupEnv(r.Env, "one"); v != "1" {
		t.Error("ARGs are inherited")
	}
	if v, _ := lookupEnv(b.Image.Config.Env, "fired"); v != "yes" {
		t.Error("ONBUILD of a stage fires in its child")
	}
	if got := b.History[0].CreatedBy; got != "ENV fired=yes" {
		t.Errorf("the trigger comes first, got %s", got)
	}
	if got := b.History[2].CreatedBy; got != "RUN |1 one=1 /sh x # buildkit" {
		t.Errorf("history %q", got)
	}
	if a.Image.Config.Labels["l"] != "1" || len(a.Image.Config.Labels) != 1 || b.Image.Config.Labels["l"] != "2" {
		t.Errorf("labels are shared: %v %v", a.Image.Config.Labels, b.Image.Config.Labels)
	}
	if len(b.Image.Config.OnBuild) != 0 || len(a.Image.Config.OnBuild) != 1 {
		t.Error("the list of triggers is not inherited")
	}
	if len(c.History) != 1 || len(c.Steps) != 1 {
		t.Error("triggers do not fire in a grandchild")
	}
}

func TestB69_TriggersOfAnImage(t *testing.T) {
	t.Parallel()
	const src = "FROM busybox AS tools\nFROM triggers AS mid\nENV own=1\n"
	f, err := Parse("Dockerfile", []byte(src), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bases := map[BaseRef]Base{}
	var rounds [][]string
	var plan *Plan
	for plan == nil {
		var missing []BaseRef
		if plan, missing, err = f.Plan(amd64(), bases); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range missing {
			names = append(names, m.Name)
			bases[m], _ = testBase(m)
		}
		rounds = append(rounds, names)
	}
	// COPY --from=tools of the trigger makes the first stage needed.
	if want := [][]string{{"triggers"}, {"busybox"}, nil}; !reflect.DeepEqual(rounds, want) {
		t.Errorf("asked for %q, want %q", rounds, want)
	}
	st := plan.Target()
	if got := strings.Join(createdBy(st), "\n"); got != "RUN /bin/sh -c echo from-trigger # buildkit\nENV TRIGGER=1\nCOPY /a /b # buildkit\nENV own=1" {
		t.Errorf("history\n%s", got)
	}
	if s := st.Steps[0]; s.OnBuild != "RUN echo from-trigger" || s.Pos != (Position{2, 2}) || s.Number != 2 || st.Total != 3 {
		t.Errorf("step %+v of %d", s, st.Total)
	}
	if len(st.Image.Config.OnBuild) != 0 {
		t.Error("fired triggers are not passed on")
	}

	_, err = planOf("FROM triggers AS tools\n", amd64())
	wantError(t, err, 1, "stage tools must be defined before it is used", "line 1")
	_, err = planOf("FROM busybox\nRUN x\nFROM badtrigger\n", amd64())
	if e := wantError(t, err, 3, "invalid --chmod", "octal"); e.OnBuild != "COPY --chmod=9z9 a b" {
		t.Errorf("trigger text %q", e.OnBuild)
	}
}

func TestB69_HeredocInTrigger(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox AS p\nONBUILD COPY <<E /x\nv=$v\nE\nFROM p\n")
	if c := firstCopy(t, plan); c.Files[0].Data != "v=\n" {
		t.Errorf("got %+v", c.Files)
	}
	if got := plan.Stages[0].Image.Config.OnBuild[0]; got != "COPY <<E /x\nv=$v\nE" {
		t.Errorf("stored as %q", got)
	}
}

func TestHostileH05_SyntaxInTriggerIsNoInstruction(t *testing.T) {
	t.Parallel()
	_, err := planOf("FROM busybox AS p\nONBUILD # syntax=evil.test/f\nFROM p\n", amd64())
	wantError(t, err, 3, "no instructions", "FROM")
}

func TestB8_PredefinedArgs(t *testing.T) {
	t.Parallel()
	const src = "FROM --platform=$BUILDPLATFORM busybox AS Last\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDARCH TARGETSTAGE TARGETOSVERSION\nRUN x\n"
	plan := mustPlan(t, src, func(o *Options) {
		o.TargetPlatform = ocispec.Platform{OS: "linux", Architecture: "armhf"}
		o.PlatformGiven = true
	})
	env := firstRun(t, plan).Env
	for k, want := range map[string]string{"TARGETPLATFORM": "linux/arm/v7", "TARGETARCH": "arm", "TARGETVARIANT": "v7", "BUILDPLATFORM": "linux/amd64",
		"BUILDARCH": "amd64", "TARGETSTAGE": "last", "TARGETOSVERSION": ""} {
		if got, ok := lookupEnv(env, k); !ok || got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	st := plan.Target()
	if st.Platform.Architecture != "amd64" || st.Base.Image.Platform != "linux/amd64" {
		t.Errorf("RUNs on %+v, base %+v", st.Platform, st.Base)
	}
	if st.Image.Architecture != "arm" || st.Image.Variant != "v7" {
		t.Errorf("H1: the image is %+v", st.Image.Platform)
	}
	plan = mustPlan(t, "FROM busybox\nARG TARGETSTAGE TARGETARCH\nRUN x\n", buildArgs("TARGETARCH", "riscv64"))
	if got, _ := lookupEnv(firstRun(t, plan).Env, "TARGETSTAGE"); got != "default" {
		t.Errorf("TARGETSTAGE %q", got)
	}
	if got, _ := lookupEnv(firstRun(t, plan).Env, "TARGETARCH"); got != "riscv64" {
		t.Errorf("a build argument overrides: %q", got)
	}
	for given, want := range map[string]string{"LAST": "LAST", "0": "last", "": "last"} {
		plan = mustPlan(t, src, target(given))
		if got, _ := lookupEnv(firstRun(t, plan).Env, "TARGETSTAGE"); got != want {
			t.Errorf("target %q: TARGETSTAGE %q, want %q", given, got, want)
		}
	}
}

// rows: L2
func TestH1_PlatformOfTheBase(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM arm\n")
	if got := plan.Target().Image.Platform; got.Architecture != "arm" || got.Variant != "v7" {
		t.Errorf("without --platform the base decides: %+v", got)
	}
	if plan.Warnings[0].Rule != "InvalidBaseImagePlatform" {
		t.Errorf("E27: %+v", plan.Warnings)
	}
	plan = mustPlan(t, "FROM --platform=aarch64 busybox\n")
	if got := plan.Target(); got.Base.Image.Platform != "linux/arm64" || got.Platform.Architecture != "arm64" {
		t.Errorf("B2: %+v", got)
	}
}

func TestC12_StagesAsNamedContexts(t *testing.T) {
	t.Parallel()
	with := func(name, target string) func(*Options) {
		return func(o *Options) { o.Contexts = map[string]Context{name: {Target: target}} }
	}
	// It is that stage, configuration and triggers included; nothing of its own is left.
	src := "FROM busybox AS a\nENV A=1\nONBUILD ENV B=2\nFROM nosuchimage AS x\nENV C=3\nFROM x\n"
	plan := mustPlan(t, src, with("x", "a"))
	if env := strings.Join(plan.Target().Image.Config.Env, " "); !strings.Contains(env, "A=1") || !strings.Contains(env, "B=2") || strings.Contains(env, "C=3") {
		t.Errorf("%s", env)
	}
	plan = mustPlan(t, src, with("x", "a"), target("x"))
	if got := plan.Target(); len(got.Image.Config.OnBuild) != 1 || got.Base != (Source{Kind: SourceStage}) || strings.Contains(strings.Join(got.Image.Config.Env, " "), "B=2") {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct {
		name, src  string
		ctx        func(*Options)
		line       int
		text, hint string
	}{
		{"no such stage", "FROM busybox AS builder\nFROM x\n", with("x", "bilder"), 0, "no stage", "builder"},
		{"a stage for itself", "FROM busybox AS x\n", with("x", "x"), 1, "does not stand before it", "above"},
		{"a later one as base", "FROM x\nFROM busybox AS b\n", with("x", "b"), 1, "stage b, which does not stand before it", "above"},
		{"a later one for --from", "FROM busybox\nCOPY --from=x a b\nFROM busybox AS b\n", with("x", "b"), 2, "must be defined before", "line 3"},
		{"round in a circle", "FROM busybox AS a\nCOPY --from=x a b\nFROM a AS b\nCOPY --from=a a b\n", with("x", "b"), 4, "circular dependency", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			opt := amd64()
			tc.ctx(&opt)
			opt.AllStages = true
			_, err := planOf(tc.src, opt)
			wantError(t, err, tc.line, tc.text, tc.hint)
		})
	}
}

func TestC12_NamedContexts(t *testing.T) {
	t.Parallel()
	with := func(kv ...string) func(*Options) {
		return func(o *Options) {
			o.Contexts = map[string]Context{}
			for i := 0; i < len(kv); i += 2 {
				c := Context{Dir: kv[i+1] == "dir", Image: strings.TrimPrefix(kv[i+1], "dir")}
				if target, ok := strings.CutPrefix(c.Image, "target:"); ok {
					c = Context{Target: target}
				}
				o.Contexts[kv[i]] = c
			}
		}
	}
	image := func(name, context string) Source {
		return Source{Kind: SourceImage, Image: BaseRef{Name: name, Context: context, Platform: "linux/amd64"}}
	}
	for _, tc := range []struct {
		name, src string
		ctx       func(*Options)
		base      Source
		copied    Source
	}{
		{"replaces a FROM image", "FROM docker.io/library/golang:latest\nCOPY a b\n", with("golang", "docker-image://busybox"),
			image("docker-image://busybox", "golang"), Source{Kind: SourceContext}},
		{"the tag counts", "FROM busybox:1\nCOPY a b\n", with("busybox", "docker-image://alpine"), image("busybox:1", ""), Source{Kind: SourceContext}},
		{"a platform is tried first", "FROM golang\nCOPY a b\n", with("golang", "docker-image://busybox", "golang::linux/amd64", "docker-image://alpine"),
			image("docker-image://alpine", "golang::linux/amd64"), Source{Kind: SourceContext}},
		{"replaces --from", "FROM busybox\nCOPY --from=x a b\n", with("x", "dir"), image("busybox", ""), Source{Kind: SourceContext, Name: "x"}},
		{"a stage comes before for --from", "FROM busybox AS x\nFROM busybox\nCOPY --from=x a b\n", with("y", "dir"), image("busybox", ""), Source{Kind: SourceStage}},
		{"replaces a whole stage", "FROM nosuchimage AS x\nRUN y\nFROM busybox\nCOPY --from=x a b\n", with("x", "dir"), image("busybox", ""), Source{Kind: SourceStage}},
		{"scratch cannot be replaced", "FROM scratch\nCOPY --from=scratch a b\n", with("scratch", "dir"), Source{Kind: SourceScratch}, Source{Kind: SourceScratch}},
		{"scratch as image", "FROM golang\nCOPY a b\n", with("golang", "docker-image://scratch"), Source{Kind: SourceScratch}, Source{Kind: SourceContext}},
		{"a stage for --from", "FROM busybox AS a\nFROM busybox\nCOPY --from=x a b\n", with("x", "target:A"), image("busybox", ""), Source{Kind: SourceStage}},
		{"a stage as base", "FROM busybox AS a\nFROM golang:1\nCOPY a b\n", with("golang:1", "target:a"), Source{Kind: SourceStage}, Source{Kind: SourceContext}},
		{"a stage for a whole stage", "FROM busybox AS a\nFROM nosuchimage AS x\nRUN y\nFROM busybox\nCOPY --from=x a b\n", with("x", "target:0"), image("busybox", ""), Source{Kind: SourceStage, Stage: 1}},
		{"a stage that is replaced", "FROM busybox AS a\nFROM busybox AS x\nFROM busybox\nCOPY --from=y a b\n", with("x", "dir", "y", "target:x"), image("busybox", ""), Source{Kind: SourceStage, Stage: 1}},
		{"a directory as base", "FROM golang\nCOPY a b\n", with("golang", "dir"), Source{Kind: SourceContext, Name: "golang"}, Source{Kind: SourceContext}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan := mustPlan(t, tc.src, tc.ctx)
			if got := plan.Target().Base; got != tc.base {
				t.Errorf("base %+v, want %+v", got, tc.base)
			}
			if got := firstCopy(t, plan).From; got != tc.copied {
				t.Errorf("copied from %+v, want %+v", got, tc.copied)
			}
		})
	}
	plan := mustPlan(t, "FROM nosuchimage AS x\nRUN y\nFROM x\nRUN z\n", with("x", "dir"))
	if st := plan.Stages[0]; st.Base.Kind != SourceContext || len(st.Steps) != 0 || st.Total != 0 {
		t.Errorf("replaced stage %+v", st)
	}
	plan = mustPlan(t, "FROM nosuchimage AS x\nONBUILD RUN y\nFROM x\nRUN z\n", with("x", "dir"))
	if n := len(plan.Target().Steps); n != 1 {
		t.Errorf("the triggers of a replaced stage do not fire: %d steps", n)
	}
}

func TestB7_UnusedBuildArg(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "ARG version\nFROM busybox AS a\nARG inner\nFROM triggers AS tools\nFROM busybox\n",
		buildArgs("verzion", "1", "inner", "2", "http_proxy", "x", "HTTPS_PROXY", "x", "BUILDKIT_INLINE_CACHE", "1", "TARGETARCH", "x",
			"SOURCE_DATE_EPOCH", "1", "BUILDKIT_UNKNOWN", "1"))
	var got []string
	for _, w := range plan.Warnings {
		if w.Rule == NoticeUnusedBuildArg {
			got = append(got, w.Message)
		}
	}
	want := []string{`build argument "BUILDKIT_UNKNOWN" is not declared by any ARG`,
		`build argument "verzion" is not declared by any ARG (did you mean version?)`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestB6_ArgValues(t *testing.T) {
	t.Parallel()
	const src = `ARG g=global
ARG over=default
ARG none
FROM busybox
ARG own=own-$g
ARG g
ARG over=inline
ARG none
ARG later=$g
RUN x
`
	env := firstRun(t, mustPlan(t, src, buildArgs("over", "given"))).Env
	for k, want := range map[string]string{"own": "own-", "g": "global", "over": "given", "later": "global"} {
		if got, _ := lookupEnv(env, k); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if _, ok := lookupEnv(env, "none"); ok {
		t.Error("an ARG without a value is unset, not empty")
	}
	got := createdBy(mustPlan(t, src).Target())
	want := []string{"ARG own=own-", "ARG g=global", "ARG over=inline", "ARG none", "ARG later=global",
		"RUN |5 own=own- g=global over=inline none= later=global /bin/sh -c x # buildkit"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("history\n%q\nwant\n%q", got, want)
	}
}

func TestH6_ArgValuesInForce(t *testing.T) {
	t.Parallel()
	st := mustPlan(t, "FROM busybox\nARG a=1 b=2\nENV a=3\nARG b=4\nRUN x\n").Target()
	if got := createdBy(st)[3]; got != "RUN |2 a=3 b=4 /bin/sh -c x # buildkit" {
		t.Errorf("history %q", got)
	}
}

func TestB11_EpochOfGlobalArg(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ src, given, want string }{
		{"ARG SOURCE_DATE_EPOCH=12\nFROM busybox\n", "", "12"},
		{"ARG SOURCE_DATE_EPOCH=12\nFROM busybox\n", "13", "13"},
		{"ARG SOURCE_DATE_EPOCH=context\nFROM busybox\n", "", "context"},
		{"ARG SOURCE_DATE_EPOCH=st\nFROM scratch AS St\nADD https://h/x /\n", "", "st"},
		{"FROM busybox\nARG SOURCE_DATE_EPOCH=12\n", "", ""},
		{"FROM busybox\n", "13", ""}, // the invoker knows it already
	} {
		var opts []func(*Options)
		if tc.given != "" {
			opts = append(opts, buildArgs("SOURCE_DATE_EPOCH", tc.given))
		}
		if got := mustPlan(t, tc.src, opts...).Epoch; got != tc.want {
			t.Errorf("%q with %q: got %q, want %q", tc.src, tc.given, got, tc.want)
		}
	}
}

func TestPlanDoesNotChangeFile(t *testing.T) {
	t.Parallel()
	f, err := Parse("Dockerfile", []byte("FROM busybox AS a\nARG v\nENV e=$v\nCOPY $v x\nRUN --mount=type=cache,target=/$v x\nEXPOSE 80 $v\nLABEL l=$v\n"), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 8)
	for i := range 8 {
		go func() {
			opt := amd64()
			v := fmt.Sprint(i)
			opt.BuildArgs = map[string]string{"v": v}
			ref := BaseRef{Name: "busybox", Platform: "linux/amd64"}
			base, _ := testBase(ref)
			plan, _, err := f.Plan(opt, map[BaseRef]Base{ref: base})
			if err != nil {
				done <- err.Error()
				return
			}
			st := plan.Target()
			got := fmt.Sprint(st.Steps[0].Copy.Paths, st.Steps[1].Run.Mounts[0].Target, st.Image.Config.Labels)
			if want := fmt.Sprint([]string{v}, "/"+v, map[string]string{"l": v}); got != want {
				done <- got + ", want " + want
				return
			}
			done <- ""
		}()
	}
	for range 8 {
		if msg := <-done; msg != "" {
			t.Error(msg)
		}
	}
}
