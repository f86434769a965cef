package stages

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// planner makes one plan.
type planner struct {
	file     *File
	opt      Options
	bases    map[BaseRef]Base
	x        *expander
	lint     *linter.Linter
	warnings []Warning
	target   ocispec.Platform
	build    ocispec.Platform
	globals  *environ // ARGs before the first FROM, and the predefined ones
	uses     argUse
	known    []string // names that a FROM may use, see fromNames
	contexts map[string]namedContext
	ignore   *patternmatcher.PatternMatcher
	stages   []*stage
	byName   map[string]int // the last stage of each name
	missing  map[BaseRef]struct{}
	lines    []string // of the Dockerfile, see sourceLines
}

// Plan expands everything for one target and platform. It is called with the
// bases known so far. When a base is needed that is not among them, it returns
// the missing ones, sorted, and no plan: the caller resolves those and calls
// again. It may take several rounds, as a base's ONBUILD may need more.
func (f *File) Plan(opt Options, bases map[BaseRef]Base) (*Plan, []BaseRef, error) {
	p := f.newPlanner(opt)
	p.bases = bases
	plan, err := p.plan()
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Warnings = p.warnings
		}
		return nil, nil, err
	}
	return plan, p.missingRefs(), nil
}

// plan makes the plan, nil when bases are missing.
func (p *planner) plan() (*Plan, error) {
	if err := p.prepare(); err != nil {
		return nil, err
	}
	target, err := p.findTarget()
	if err != nil {
		return nil, err
	}
	if err := p.reach(target); err != nil || len(p.missing) > 0 {
		return nil, err
	}
	return p.evaluate(target)
}

// BaseError is the error to show when ref, as Plan asked for it with the same
// opt and bases, cannot be had because of cause: it has the position of the first
// instruction that uses it, and suggests a stage when the name looks like a
// misspelt one (B1).
func (f *File) BaseError(opt Options, bases map[BaseRef]Base, ref BaseRef, cause error) error {
	hint := f.stageHint(ref.Name)
	p := f.newPlanner(opt)
	p.bases = bases
	if _, err := p.plan(); err == nil {
		for _, st := range p.stages {
			if e := p.baseError(st, ref, cause); st.reached && e != nil {
				e.Hint = hint
				return e
			}
		}
	}
	return &Error{Op: ref.Name, Err: cause, Hint: hint}
}

// baseError is the error of the instruction of st that reads ref, nil if none.
func (p *planner) baseError(st *stage, ref BaseRef, cause error) *Error {
	if st.base < 0 {
		if _, got, err := p.baseSource(st); err == nil && got == ref {
			return &Error{Pos: st.raw.pos, Op: "FROM " + cut(ref.Name, maxQuoted), Err: cause}
		}
	}
	for _, c := range st.commands {
		for _, o := range c.origins {
			if o.stage >= 0 || o.name == "" {
				continue
			}
			if _, got, err := p.imageSource(o.name, p.target); err == nil && got == ref {
				op := strings.ToUpper(c.cmd.Name()) + " from " + cut(ref.Name, maxQuoted)
				return &Error{Pos: c.pos, Op: op, Err: cause, OnBuild: c.onBuild}
			}
		}
	}
	return nil
}

func (f *File) newPlanner(opt Options) *planner {
	p := &planner{file: f, opt: opt, x: newExpander(f.escape), byName: map[string]int{}, missing: map[BaseRef]struct{}{}}
	p.warnings = slices.Clone(f.warnings)
	conf := *f.lint
	conf.Warn = collect(&p.warnings)
	p.lint = linter.New(&conf)
	p.build = platforms.Normalize(opt.BuildPlatform)
	p.target = platforms.Normalize(opt.TargetPlatform)
	if opt.TargetPlatform.OS == "" && opt.TargetPlatform.Architecture == "" {
		p.target = p.build
	}
	p.contexts = namedContexts(opt.Contexts)
	return p
}

// prepare does what does not depend on the target or the bases.
func (p *planner) prepare() error {
	if len(p.opt.Ignore) > 0 {
		m, err := patternmatcher.New(p.opt.Ignore)
		if err != nil {
			return &Error{Op: "ignore patterns", Err: err}
		}
		p.ignore = m
	}
	predefined, err := p.predefinedChecked()
	if err != nil {
		return err
	}
	p.lintDefaults(predefined.fork())
	if err := p.setGlobals(predefined); err != nil {
		return err
	}
	if err := p.useEpoch(); err != nil {
		return err
	}
	for i := range p.file.stages {
		st, err := p.newStage(i)
		if err != nil {
			return err
		}
		p.stages = append(p.stages, st)
		if st.raw.Name != "" {
			p.byName[st.raw.Name] = i
		}
	}
	for _, st := range p.stages {
		if err := p.link(st); err != nil {
			return err
		}
	}
	if err := p.checkCycles(); err != nil {
		return err
	}
	return nil
}

// predefinedChecked is predefined, once the named contexts are known to be good.
func (p *planner) predefinedChecked() (*environ, error) {
	if err := p.findTargets(); err != nil {
		return nil, err
	}
	return p.predefined(), nil
}

// predefined is the environment of B8.
func (p *planner) predefined() *environ {
	env := newEnviron(nil)
	target := p.file.stageNameOf(p.opt.Target)
	if target == "" {
		target = "default"
	}
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", platforms.Format(p.build)},
		{"BUILDOS", p.build.OS},
		{"BUILDOSVERSION", p.build.OSVersion},
		{"BUILDARCH", p.build.Architecture},
		{"BUILDVARIANT", p.build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(p.target)},
		{"TARGETOS", p.target.OS},
		{"TARGETOSVERSION", p.target.OSVersion},
		{"TARGETARCH", p.target.Architecture},
		{"TARGETVARIANT", p.target.Variant},
		{"TARGETSTAGE", target},
	} {
		value := kv[1]
		if v, ok := p.opt.BuildArgs[kv[0]]; ok {
			value = v
		}
		env.set(kv[0], value)
	}
	return env
}

// setGlobals adds the ARGs before the first FROM (B5, B6).
func (p *planner) setGlobals(env *environ) error {
	for _, in := range p.file.args {
		for _, arg := range in.cmd.(*instructions.ArgCommand).Args {
			value, given := p.opt.BuildArgs[arg.Key]
			var deps map[string]struct{}
			if !given && arg.Value != nil {
				res, err := p.x.word(*arg.Value, env)
				if err != nil {
					return newError(in.pos, "ARG "+cut(arg.Key, maxQuoted), err)
				}
				value, given, deps = res.Result, true, res.Matched
			}
			p.uses.declare(arg, value, in.pos, deps)
			if !given {
				continue
			}
			if err := p.x.budget.spend(len(value) + entryCost*env.set(arg.Key, value)); err != nil {
				return newError(in.pos, "ARG", err)
			}
		}
	}
	p.globals = env
	return nil
}

// epochPosition is where a global ARG of that name is declared.
func (f *File) epochPosition() Position {
	for _, in := range f.args {
		for _, arg := range in.cmd.(*instructions.ArgCommand).Args {
			if arg.Key == argEpoch {
				return in.pos
			}
		}
	}
	return Position{}
}

// lintDefaults is E25: it reads the FROMs with the defaults of the ARGs alone.
func (p *planner) lintDefaults(env *environ) {
	quiet := newExpander(p.file.escape)
	word := func(w string) (shell.ProcessWordResult, error) { return quiet.word(w, env) }
	for _, in := range p.file.args {
		for _, arg := range in.cmd.(*instructions.ArgCommand).Args {
			if arg.Value == nil {
				continue
			}
			res, err := word(*arg.Value)
			if err != nil {
				return // reported where it matters, if it does
			}
			env.set(arg.Key, res.Result)
		}
	}
	for _, st := range p.file.stages {
		res, err := word(st.BaseName)
		if err != nil {
			return
		}
		lintDefaultBase(st, res.Result, p.lint)
	}
}

// Build arguments that mean something without an ARG.
var knownBuildArgs = map[string]bool{
	"SOURCE_DATE_EPOCH": true, "BUILDKIT_SYNTAX": true, "BUILDKIT_CONTEXT_KEEP_GIT_DIR": true, "BUILDKIT_CACHE_MOUNT_NS": true,
	"BUILDKIT_MULTI_PLATFORM": true, "BUILDKIT_SANDBOX_HOSTNAME": true, "BUILDKIT_INLINE_CACHE": true,
	"BUILDKIT_DOCKERFILE_CHECK": true, argScanContext: true, argScanStage: true, "BUILDKIT_BUILD_NAME": true,
}

// Arguments that are never part of a RUN's environment (B10).
const (
	argScanContext = "BUILDKIT_SBOM_SCAN_CONTEXT"
	argScanStage   = "BUILDKIT_SBOM_SCAN_STAGE"
)

func isProxyArg(key string) bool {
	switch strings.ToUpper(key) {
	case "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY":
		return true
	}
	return false
}

// noticeBuildArgs warns of build arguments that no ARG declares (B7).
func (p *planner) noticeBuildArgs() {
	declared := map[string]bool{}
	add := func(in instruction) {
		if c, ok := in.cmd.(*instructions.ArgCommand); ok {
			for _, arg := range c.Args {
				declared[arg.Key] = true
			}
		}
	}
	for _, in := range p.file.args {
		add(in)
	}
	for i, st := range p.file.stages {
		for _, in := range st.commands {
			add(in)
		}
		for _, c := range p.stages[i].commands { // triggers
			add(c.instruction)
		}
	}
	names := sortedKeys(declared)
	for _, key := range sortedKeys(p.opt.BuildArgs) {
		_, predefined := p.globals.Get(key)
		if declared[key] || predefined || knownBuildArgs[key] || isProxyArg(key) {
			continue
		}
		msg := fmt.Sprintf("build argument %q is not declared by any ARG", key)
		if s := Suggest(key, names); s != "" {
			msg += fmt.Sprintf(" (did you mean %s?)", s)
		}
		p.notice(NoticeUnusedBuildArg, msg, Position{})
	}
}

func (p *planner) notice(rule, message string, pos Position) {
	if len(p.warnings) < maxWarnings {
		p.warnings = append(p.warnings, Warning{Rule: rule, Message: message, Pos: pos})
	}
}

// findTarget is D1.
func (p *planner) findTarget() (int, error) {
	i, ok := p.file.findStage(p.opt.Target)
	if ok {
		return i, nil
	}
	return 0, &Error{Op: "target " + quoteShort(p.opt.Target), Err: fmt.Errorf("no such stage"),
		Hint: didYouMean(strings.ToLower(p.opt.Target), p.file.StageNames())}
}

// findStage finds a stage by name in any case, the last of that name, or by index.
func (f *File) findStage(target string) (int, bool) {
	if target == "" {
		return len(f.stages) - 1, true
	}
	for i := len(f.stages) - 1; i >= 0; i-- {
		if f.stages[i].Name != "" && strings.EqualFold(f.stages[i].Name, target) {
			return i, true
		}
	}
	i, err := strconv.Atoi(target)
	return i, err == nil && i >= 0 && i < len(f.stages)
}

// stageNameOf is the name of a target for TARGETSTAGE: as given, unless it was
// given by index or not at all.
func (f *File) stageNameOf(target string) string {
	if i, ok := f.findStage(target); ok && !strings.EqualFold(f.stages[i].Name, target) {
		return f.stages[i].Name
	}
	return target
}

func (p *planner) missingRefs() []BaseRef {
	if len(p.missing) == 0 {
		return nil
	}
	refs := make([]BaseRef, 0, len(p.missing))
	for r := range p.missing {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b BaseRef) int {
		return strings.Compare(a.Name+"\x00"+a.Context+"\x00"+a.Platform, b.Name+"\x00"+b.Context+"\x00"+b.Platform)
	})
	return refs
}

// evaluate makes the plan of the stages that were reached.
func (p *planner) evaluate(target int) (*Plan, error) {
	plan := &Plan{Platform: p.target, FailOnWarnings: p.file.lint.ReturnAsError}
	if p.file.epochPosition() != (Position{}) {
		plan.Epoch, _ = p.globals.Get(argEpoch)
	}
	p.noticeBuildArgs()
	var last *Stage
	for _, st := range p.stages {
		if !st.reached {
			continue
		}
		out, err := p.run(st)
		if err != nil {
			return nil, err
		}
		p.lintBest(st, st.index == target)
		if st.index == target {
			last = out
			continue
		}
		plan.Stages = append(plan.Stages, out)
	}
	if err := p.finish(last, p.stages[target]); err != nil {
		return nil, err
	}
	plan.Stages = append(plan.Stages, last)
	plan.Args = p.argsOf(target)
	plan.Warnings = p.warnings
	slices.SortStableFunc(plan.Warnings, func(a, b Warning) int { return a.Pos.Start - b.Pos.Start })
	return plan, nil
}

// finishEnv applies --unsetenv and --env, in this order (H18). No step sees them.
func (p *planner) finishEnv(out *Stage, st *stage) {
	if len(p.opt.Env)+len(p.opt.Unset.Env) == 0 {
		return
	}
	var env []string
	for _, kv := range out.Image.Config.Env {
		if name, _, _ := strings.Cut(kv, "="); !slices.Contains(p.opt.Unset.Env, name) {
			env = append(env, kv)
		}
	}
	for _, kv := range p.opt.Env {
		name, value, _ := strings.Cut(kv, "=")
		if i := slices.IndexFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") }); i >= 0 {
			env[i] = name + "=" + value
		} else {
			env = append(env, name+"="+value)
		}
		st.size += len(kv)
	}
	out.Image.Config.Env = env
}

// finish applies what the invoker decides about the result alone (B13, H1).
func (p *planner) finish(out *Stage, st *stage) error {
	p.finishEnv(out, st)
	if len(p.opt.Labels)+len(p.opt.Unset.Labels) > 0 {
		labels := make(map[string]string, len(out.Image.Config.Labels)+len(p.opt.Labels))
		for k, v := range out.Image.Config.Labels {
			if !slices.Contains(p.opt.Unset.Labels, k) {
				labels[k] = v
			}
		}
		for k, v := range p.opt.Labels {
			labels[k] = v
			st.size += len(k) + len(v)
		}
		if out.Image.Config.Labels = labels; len(labels) == 0 {
			out.Image.Config.Labels = nil
		}
	}
	if st.size > maxConfig {
		return &Error{Pos: st.raw.pos, Op: "image configuration", Err: errConfigSize}
	}
	img := &out.Image
	if p.opt.PlatformGiven {
		same := p.target.OS == img.OS && p.target.Architecture == img.Architecture
		img.OS, img.Architecture = p.target.OS, p.target.Architecture
		if p.target.Variant != "" || !same {
			img.Variant = p.target.Variant
		}
		if p.target.OSVersion != "" || !same {
			img.OSVersion = p.target.OSVersion
		}
		if p.target.OSFeatures != nil {
			img.OSFeatures = slices.Clone(p.target.OSFeatures)
		}
	}
	img.Platform = platforms.Normalize(img.Platform)
	return nil
}
