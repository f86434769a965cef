package builder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	buildcontext "gobuild/context"
	"gobuild/layer"
	"gobuild/stages"
)

// checkBaseTimeout bounds how long a check waits for the configuration of its base images: it can do without.
const checkBaseTimeout = 15 * time.Second

// maxCheckSources bounds the sources of COPY and ADD that a check looks up in the context: each costs a few system calls.
const maxCheckSources = 1000

// CheckResult is what Check found.
type CheckResult struct {
	File     string // the Dockerfile as the user would write it
	Path     string // on the host; "" when its text came from elsewhere
	Text     []byte
	Warnings []stages.Warning // in the order of their lines; notices left out
	Strict   bool             // "# check=error=true": warnings are errors
	Refusal  *Error           // what that makes of the warnings in a build, nil when it builds
	Err      *Error           // why the Dockerfile cannot be built at all, nil when it can
}

// Check reads a Dockerfile and reports what the lint rules say of it (FEATURES section E), without running a step or pulling a layer: of all
// stages, or of those that Options.Target needs. Base images whose configuration cannot be had are a notice. An error in the
// Dockerfile is part of the result; the error returned is about everything else.
func (b *Builder) Check(ctx context.Context, opt Options) (*CheckResult, error) {
	bd, end, err := b.begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer end()
	if err = bd.readInputs(ctx); err != nil {
		return nil, err
	}
	res := &CheckResult{File: bd.src.name, Path: bd.src.path, Text: bd.src.text}
	plan, err := bd.checkPlan(ctx)
	var se *stages.Error
	switch {
	case err == nil:
		res.Warnings, res.Strict = plan.Warnings, plan.FailOnWarnings
		res.Refusal = bd.refusal(plan)
	case errors.As(err, &se):
		res.Warnings, res.Err = se.Warnings, classify(bd.planError(err), CategoryUsage)
	default:
		return nil, classify(err, CategoryEnvironment)
	}
	res.Warnings = bd.sayNotices(res.Warnings)
	return res, nil
}

// ReadDockerfile is the Dockerfile that a check of opt would read, unchecked. The context must be a directory, or opt hold the text.
func ReadDockerfile(opt Options) (*CheckResult, error) {
	src, err := readDockerfile(opt)
	if err != nil {
		return nil, classify(err, CategoryUsage)
	}
	return &CheckResult{File: src.name, Path: src.path, Text: src.text}, nil
}

// sayNotices takes the notices out of the warnings: they are no findings.
func (bd *build) sayNotices(warnings []stages.Warning) []stages.Warning {
	kept := make([]stages.Warning, 0, len(warnings))
	for _, w := range warnings {
		if isNotice(w) {
			bd.notice(w.Message)
			continue
		}
		kept = append(kept, w)
	}
	return kept
}

func isNotice(w stages.Warning) bool {
	switch w.Rule {
	case stages.NoticeUnusedBuildArg, stages.NoticeLabsFeature, stages.NoticeNotUTF8:
		return true
	}
	return false
}

// checkPlan plans with every rule on. It plans once more when the context turns out to hold something that rules need to know.
func (bd *build) checkPlan(ctx context.Context) (*stages.Plan, error) {
	file, err := stages.Parse(bd.src.name, bd.src.text, stages.ParseOptions{BuildArgs: bd.opt.BuildArgs, IgnoreSyntax: bd.opt.IgnoreSyntax})
	if err != nil {
		return nil, err
	}
	opt, err := bd.readOptions()
	if err != nil {
		return nil, usage{err}
	}
	opt.AllStages, opt.Best = bd.opt.Target == "", stages.BestAll
	known := map[stages.BaseRef]stages.Base{}
	plan, err := bd.readPlan(ctx, file, &opt, known, "rules that need it say nothing")
	if err != nil {
		return nil, err
	}
	more, err := bd.copyFacts(ctx, plan, &opt.Facts)
	if err != nil || !more {
		return plan, err
	}
	plan, _, err = file.Plan(opt, known)
	return plan, err
}

// readPlan makes a plan that is to be read, not run: base images may stay unknown.
// without says what they are missed for.
func (bd *build) readPlan(ctx context.Context, file *stages.File, opt *stages.Options, known map[stages.BaseRef]stages.Base, without string) (*stages.Plan, error) {
	opt.Allow = []string{"network.host", "security.insecure", "device", "onbuild.secret", "onbuild.ssh"} // whether they are granted is a matter of the build
	for {
		plan, missing, err := file.Plan(*opt, known)
		if err != nil || plan != nil {
			return plan, err
		}
		if err := bd.lookUpBases(ctx, missing, known, without); err != nil {
			return nil, err
		}
	}
}

// lookUpBases fetches configurations. What cannot be had counts as unknown, and is said: a check must work offline.
func (bd *build) lookUpBases(ctx context.Context, missing []stages.BaseRef, known map[stages.BaseRef]stages.Base, without string) error {
	within, cancel := context.WithTimeout(ctx, checkBaseTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	for _, ref := range missing {
		wg.Go(func() {
			found, err := bd.resolve(within, ref)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				known[ref] = stages.Base{Digest: found.manifest.Digest, Image: found.image, Dir: found.dir}
			case ctx.Err() != nil:
				failed = ctx.Err()
			case ref.Context != "" && categoryOf(err, CategoryRemote) == CategoryUsage:
				failed = usage{fmt.Errorf("--build-context %s: %w", ref.Context, err)}
			default:
				bd.notice(fmt.Sprintf("the configuration of %s is not known, so %s: %v", ref.Name, without, err))
				known[ref] = stages.Base{Unknown: true}
			}
		})
	}
	wg.Wait()
	return failed
}

// contextFacts is what the rules of every build need to know of the context; two look-ups at most.
func (bd *build) contextFacts() stages.ContextFacts {
	facts := stages.ContextFacts{NoIgnoreFile: bd.trees.ignore == nil}
	if !facts.NoIgnoreFile {
		return facts
	}
	tree, err := bd.trees.get("")
	if err != nil {
		return facts // told when something is copied from it
	}
	for _, name := range []string{".git", "node_modules"} {
		if _, err := tree.Root().Lstat(name); err == nil {
			facts.Clutter = append(facts.Clutter, name)
		}
	}
	return facts
}

// copyFacts looks at what the plan copies from the context, and reports whether that is anything that a rule asks for.
func (bd *build) copyFacts(ctx context.Context, plan *stages.Plan, facts *stages.ContextFacts) (bool, error) {
	tree, err := bd.trees.get("")
	if err != nil {
		return false, err
	}
	for source := range contextSources(plan) {
		if err := sourceFacts(ctx, tree, source, facts); err != nil {
			return false, err
		}
	}
	return len(facts.Unmatched)+len(facts.Directories)+len(facts.Archives) > 0, nil
}

// wildcardFacts looks for wildcards in the plan that match nothing of the context, which a build warns of, and reports whether there are any. An
// error is told when the files are copied.
func (bd *build) wildcardFacts(ctx context.Context, plan *stages.Plan, facts *stages.ContextFacts) bool {
	for source := range contextSources(plan) {
		if !strings.ContainsAny(source.Path, `*?[`) {
			continue
		}
		tree, err := bd.trees.get("")
		if err != nil {
			return false
		}
		sel, err := tree.Select(ctx, buildcontext.Query{Paths: []string{source.Path}, Parents: source.Parents, FollowNamed: true})
		if err == nil && sel.Sources[0].Wildcard && len(sel.Sources[0].Matches) == 0 {
			facts.Unmatched = append(facts.Unmatched, source)
		}
	}
	return len(facts.Unmatched) > 0
}

// contextSources are the sources of COPY and ADD in the build context, each once.
func contextSources(plan *stages.Plan) iter.Seq[stages.ContextSource] {
	return func(yield func(stages.ContextSource) bool) {
		seen := map[stages.ContextSource]bool{}
		for _, st := range plan.Stages {
			for _, step := range st.Steps {
				c := step.Copy
				if c == nil || !isContext(c.From) {
					continue
				}
				for _, p := range c.Paths {
					source := stages.ContextSource{Path: p, Parents: c.Parents}
					if seen[source] || len(seen) == maxCheckSources {
						continue
					}
					seen[source] = true
					if !yield(source) {
						return
					}
				}
			}
		}
	}
}

// isContext says that a source is the main build context.
func isContext(s stages.Source) bool { return s.Kind == stages.SourceContext && s.Name == "" }

// sourceFacts looks at one source. A missing one is no finding: the context of a check may be another than that of the build.
func sourceFacts(ctx context.Context, tree *buildcontext.Tree, from stages.ContextSource, facts *stages.ContextFacts) error {
	name := from.Path
	sel, err := tree.Select(ctx, buildcontext.Query{Paths: []string{name}, Parents: from.Parents, FollowNamed: true})
	if err != nil {
		return ctx.Err()
	}
	for _, source := range sel.Sources {
		switch {
		case source.Wildcard && len(source.Matches) == 0:
			facts.Unmatched = append(facts.Unmatched, from)
		case len(source.Matches) == 1 && source.Matches[0].Info.IsDir() && !source.Wildcard:
			facts.Directories = append(facts.Directories, name)
		case anyArchive(tree, source.Matches):
			facts.Archives = append(facts.Archives, name)
		}
	}
	return nil
}

func anyArchive(tree *buildcontext.Tree, matches []buildcontext.Match) bool {
	const enough = 20 // of a wildcard
	for _, m := range matches[:min(len(matches), enough)] {
		if !m.Info.IsRegular() {
			continue
		}
		f, _, err := tree.Root().OpenRegular(m.Path)
		if err != nil {
			continue
		}
		is, err := layer.IsArchive(f)
		_ = f.Close() // read only
		if err == nil && is {
			return true
		}
	}
	return false
}

// failOnWarnings is the error that "# check=error=true" makes of warnings (FEATURES E2), after it has shown them. Notices do not count.
func (bd *build) failOnWarnings(plan *stages.Plan) error {
	if e := bd.refusal(plan); e != nil {
		bd.sayWarnings(plan)
		return e
	}
	return nil
}

// refusal is the error of failOnWarnings, nil when there is none. A file that the reference builds is not refused: rules of
// our own do not count.
func (bd *build) refusal(plan *stages.Plan) *Error {
	if !plan.FailOnWarnings {
		return nil
	}
	var first stages.Position
	var rules []string
	seen := map[string]bool{}
	for _, w := range plan.Warnings {
		if isNotice(w) || stages.IsOwnRule(w.Rule) {
			continue
		}
		if len(seen) == 0 {
			first = w.Pos
		}
		if !seen[w.Rule] {
			seen[w.Rule] = true
			rules = append(rules, w.Rule)
		}
	}
	if len(rules) == 0 {
		return nil
	}
	e := &Error{
		Category: CategoryUsage, Op: "check=error=true", Err: fmt.Errorf("lint violation found for rules: %s", strings.Join(rules, ", ")),
		Hint: "docs/lint.md says how to fix them; `# check=skip=RULE` above an instruction excepts it",
	}
	return bd.src.locate(e, first)
}

// sayWarnings shows the warnings of a plan.
func (bd *build) sayWarnings(plan *stages.Plan) {
	for _, w := range plan.Warnings {
		bd.em.emit(Event{Type: EventWarning, Text: w.Message, Rule: w.Rule, Line: w.Pos.Start})
	}
}
