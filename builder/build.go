package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"sort"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gobuild/stages"
)

// build is one Build under way.
type build struct {
	*Builder
	opt      Options
	em       *emitter
	begun    time.Time
	src      dockerfile
	trees    *trees
	unpacked bool     // the context is a folder that was made for this build
	main     struct { // where such a context came from; neither for an archive on standard input
		repo gitSource
		rec  httpRecord
	}
	plan     *stages.Plan
	bases    map[stages.BaseRef]*base
	runs     map[int]*stageRun
	jobs     chan struct{} // one slot a RUN
	pack     *packer
	fetching flights
	form     layerForm

	background sync.WaitGroup // what close waits for
	syncing    sync.Once      // the first step that runs makes former builds' layers durable

	far    map[string]*remoteContext // named contexts that are fetched, by name
	shared shares                    // of --cache-from and --cache-to
	lock   *lockFile                 // of --lock; nil for none
	rec    *recorder                 // of a Build, nil for what only looks
	live   *register                 // of a Build, for gobuild ps

	early      *push    // what layers are sent to as soon as they are packed; nil for nothing
	origins    sync.Map // digest of a blob that only a registry has to its *fsLayer, for an image that goes to registries alone
	earlyNames []string

	mu    sync.Mutex
	steps []StepResult
	open  []io.Closer // what bases are read from
}

// Build runs the whole walk of DESIGN section 3. Every error is an *Error.
func (b *Builder) Build(ctx context.Context, opt Options) (*Result, error) {
	bd := b.newBuild(opt)
	defer b.during(bd.em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	defer leave()
	defer bd.close()
	if err := b.sweepWork(ctx); err != nil {
		b.notice(fmt.Sprintf("what an interrupted build left could not be removed: %v", err))
	}
	bd.rec = newRecorder(bd)
	bd.em.keep = bd.rec.output
	bd.live = newRegister(ctx, bd)
	defer bd.live.close()
	res, err := bd.walk(ctx)
	if err != nil {
		err = classify(err, CategoryEnvironment)
		res = bd.partial()
	}
	res.Record = bd.rec.finish(res, err)
	bd.collect(ctx, err)
	return res, err
}

func (b *Builder) newBuild(opt Options) *build {
	jobs := opt.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	bd := &build{
		Builder: b, opt: opt, em: newEmitter(opt.Progress, b.cfg.Now), begun: b.cfg.Now(),
		bases: map[stages.BaseRef]*base{}, runs: map[int]*stageRun{}, jobs: make(chan struct{}, jobs),
		far: map[string]*remoteContext{},
	}
	bd.pack = newPacker(bd)
	return bd
}

func (bd *build) close() {
	bd.pack.wait()
	if bd.early != nil {
		bd.early.busy.Wait()
	}
	bd.background.Wait()
	for _, f := range bd.open {
		_ = f.Close() // read only
	}
	if bd.trees != nil {
		bd.trees.close(bd.em)
	}
}

func (bd *build) walk(ctx context.Context) (*Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	bd.pack.ctx = ctx
	if err := bd.prepare(ctx); err != nil {
		return nil, err
	}
	for _, w := range bd.plan.Warnings {
		bd.em.emit(Event{Type: EventWarning, Text: w.Message, Rule: w.Rule, Line: w.Pos.Start})
	}
	if err := bd.runStages(ctx); err != nil {
		return nil, err
	}
	if err := bd.lock.save(); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	res, err := bd.deliver(ctx)
	if err != nil {
		return nil, err
	}
	bd.em.emit(Event{Type: EventDone, Result: res})
	return res, nil
}

// prepare checks the outputs, reads the Dockerfile, resolves bases and plans: all that can go wrong before work begins.
func (bd *build) prepare(ctx context.Context) error {
	var err error
	if bd.form, err = formOf(bd.opt); err != nil {
		return classify(err, CategoryUsage)
	}
	if bd.lock, err = openLock(bd.opt.Lock); err != nil {
		return classify(err, CategoryEnvironment)
	}
	if err = bd.readInputs(ctx); err != nil {
		return err
	}
	bd.live.read(bd.project(), bd.folder())
	if bd.plan, err = bd.makePlan(ctx); err != nil {
		return err
	}
	if err := bd.failOnWarnings(bd.plan); err != nil {
		return err
	}
	bd.importShares(ctx)
	if err := bd.beginPush(); err != nil {
		return classify(err, CategoryUsage)
	}
	return nil
}

// readInputs fetches a context that is elsewhere, and reads the Dockerfile and the ignore files.
func (bd *build) readInputs(ctx context.Context) error {
	var err error
	if err = bd.unpackContext(ctx); err != nil {
		return err
	}
	if bd.src, err = readDockerfile(bd.opt); err != nil {
		return classify(usage{err}, CategoryUsage)
	}
	if bd.trees, err = openTrees(bd); err != nil {
		return classify(err, CategoryUsage)
	}
	return nil
}

// makePlan resolves bases until the plan lacks none: ONBUILD triggers of a base may bring new ones.
func (bd *build) makePlan(ctx context.Context) (*stages.Plan, error) {
	file, err := stages.Parse(bd.src.name, bd.src.text, stages.ParseOptions{BuildArgs: bd.opt.BuildArgs, IgnoreSyntax: bd.opt.IgnoreSyntax})
	if err != nil {
		return nil, bd.planError(err)
	}
	opt, err := bd.planOptions()
	if err != nil {
		return nil, classify(err, CategoryUsage)
	}
	if err := bd.settleEpoch(ctx, file, &opt); err != nil {
		return nil, err
	}
	known := map[stages.BaseRef]stages.Base{}
	for {
		plan, missing, err := file.Plan(opt, known)
		if err != nil {
			return nil, bd.planError(err)
		}
		if plan == nil {
			if err := bd.resolveBases(ctx, file, opt, missing, known); err != nil {
				return nil, err
			}
			continue
		}
		if !bd.wildcardFacts(ctx, plan, &opt.Facts) {
			return plan, nil
		}
		plan, _, err = file.Plan(opt, known)
		if err != nil {
			return nil, bd.planError(err)
		}
		return plan, nil
	}
}

func (bd *build) planError(err error) error {
	e := classify(err, CategoryUsage)
	var se *stages.Error
	if errors.As(err, &se) && se.Pos.Start > 0 {
		return bd.src.locate(e, se.Pos)
	}
	return e
}

func (bd *build) planOptions() (stages.Options, error) {
	target, host, err := platformsOf(bd.opt.Platform)
	if err != nil {
		return stages.Options{}, err
	}
	contexts := map[string]stages.Context{}
	for name, value := range bd.opt.Contexts {
		c, err := parseContextValue(value)
		if err != nil {
			return stages.Options{}, fmt.Errorf("--build-context %s=%s: %w", name, value, err)
		}
		contexts[name] = c
	}
	return stages.Options{
		Target: bd.opt.Target, BuildArgs: bd.opt.BuildArgs, Labels: bd.opt.Labels,
		TargetPlatform: target, PlatformGiven: bd.opt.Platform != "", BuildPlatform: host,
		Contexts: contexts, Network: bd.opt.Run.Network, Allow: bd.opt.Allow, Ignore: bd.trees.ignorePatterns(), IgnoreSyntax: bd.opt.IgnoreSyntax,
		Best: stages.BestBuild, Facts: bd.contextFacts(),
	}, nil
}

func (bd *build) resolveBases(ctx context.Context, file *stages.File, opt stages.Options, missing []stages.BaseRef, known map[stages.BaseRef]stages.Base) error {
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	before := maps.Clone(known)
	for _, ref := range missing {
		group.Go(func() error {
			found, err := bd.resolve(ctx, ref)
			if err != nil {
				return bd.baseError(file.BaseError(opt, before, ref, err), err)
			}
			mu.Lock()
			defer mu.Unlock()
			bd.bases[ref] = found
			known[ref] = stages.Base{Digest: found.manifest.Digest, Image: found.image, Dir: found.dir}
			return nil
		})
	}
	return group.Wait()
}

// baseError shows the line that needs an image; the category is that of the cause, not of the line.
func (bd *build) baseError(located, cause error) error {
	e := *classify(located, CategoryRemote)
	e.Category = categoryOf(cause, CategoryRemote)
	var se *stages.Error
	if errors.As(located, &se) {
		if e.Hint == "" {
			e.Hint = classify(cause, CategoryRemote).Hint
		}
		return bd.src.locate(&e, se.Pos)
	}
	return &e
}

// runStages starts each stage; a stage waits for what it reads. The first failure cancels the others and is the error.
func (bd *build) runStages(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, s := range bd.plan.Stages {
		bd.runs[s.Index] = &stageRun{build: bd, stage: s, done: make(chan struct{})}
	}
	bd.markPacked()
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, s := range bd.plan.Stages {
		sr := bd.runs[s.Index]
		wg.Go(func() {
			defer close(sr.done)
			if sr.err = guard(func() error { return sr.run(ctx) }); sr.err != nil {
				once.Do(func() { first = sr.err; cancel(errStopped) })
			}
		})
	}
	wg.Wait()
	if first == nil {
		return nil
	}
	return bd.withOthers(first)
}

// errStopped is why the stages that did not fail end.
var errStopped = errors.New("another stage failed")

// guard turns a panic of a part into an error: no trace reaches a user, and other goroutines clean up (HOSTILE R-31).
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Category: CategoryEnvironment, Op: "internal error", Err: fmt.Errorf("%v", p), Hint: "please report this with the Dockerfile that caused it"}
		}
	}()
	return f()
}

// withOthers adds real failures of other stages; those that were only stopped say nothing.
func (bd *build) withOthers(first error) error {
	e := classify(first, CategoryEnvironment)
	for _, sr := range bd.runs {
		if sr.err != nil && !errors.Is(sr.err, first) && !isCancel(sr.err) && !errors.Is(sr.err, errStopped) && !errors.Is(sr.err, errNeeded) {
			e.Others = append(e.Others, sr.err)
		}
	}
	sort.Slice(e.Others, func(i, j int) bool { return e.Others[i].Error() < e.Others[j].Error() })
	return e
}

// partial is what is known of a build that failed: its steps, for the metadata file.
func (bd *build) partial() *Result {
	bd.mu.Lock()
	defer bd.mu.Unlock()
	return &Result{Steps: bd.steps, Elapsed: bd.cfg.Now().Sub(bd.begun)}
}

func (bd *build) record(r StepResult) {
	bd.mu.Lock()
	defer bd.mu.Unlock()
	bd.steps = append(bd.steps, r)
}
