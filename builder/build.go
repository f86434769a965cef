package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"gobuild/internal/rescue"
	"gobuild/sandbox"
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
	dry      bool     // nothing is done: DryRun
	main     struct { // where such a context came from; neither for an archive on standard input
		repo gitSource
		rec  httpRecord
	}
	lanes    []*lane     // one a platform
	all      []*stageRun // of all of them
	bases    map[stages.BaseRef]*base
	jobs     chan struct{} // one slot a RUN
	pack     *packer
	fetching flights
	asDirs   sync.Map // snapshot.ID of each layer that is a directory, and held
	form     layerForm

	background sync.WaitGroup // what close waits for
	syncing    sync.Once      // the first step that runs makes former builds' layers durable

	far       map[string]*remoteContext // named contexts that are fetched, by name
	shared    shares                    // of --cache-from and --cache-to
	generator *generator                // of bills of materials, nil: gobuild itself
	leaks     *leakWatch                // nil: no secret is looked for
	lock      *lockFile                 // of --lock, and what names meant; nil for what only looks
	rec       *recorder                 // of a Build, nil for what only looks
	shell     debugger                  // of Options.Debug
	live      *register                 // of a Build, for gobuild ps

	early      *push    // what layers are sent to as soon as they are packed; nil for nothing
	origins    sync.Map // digest of a blob that only a registry has to its *fsLayer, for an image that goes to registries alone
	earlyNames []string

	mu    sync.Mutex
	steps []StepResult
	open  []io.Closer // what bases are read from, and the emulation

	emulation *sandbox.Emulation // set before the first step runs, as are
	emulated  []string           // the architectures that it is for
}

// Build runs the whole walk of DESIGN section 3. Every error is an *Error.
func (b *Builder) Build(ctx context.Context, opt Options) (*Result, error) {
	bd := b.newBuild(opt)
	defer b.during(bd.em)()
	b.limitTo(opt.GC)
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
	opt.Index = opt.Index || opt.Attest.wanted()
	bd := &build{
		Builder: b, opt: opt, em: newEmitter(opt.Progress, b.cfg.Now), begun: b.cfg.Now(),
		bases: map[stages.BaseRef]*base{}, jobs: make(chan struct{}, jobs),
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
	if err := bd.checkEmulators(); err != nil {
		return nil, err
	}
	for _, w := range bd.warnings() {
		bd.em.emit(Event{Type: EventWarning, Text: w.Message, Rule: w.Rule, Line: w.Pos.Start})
	}
	if err := bd.runStages(ctx); err != nil {
		return nil, err
	}
	if err := bd.debugged(); err != nil {
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
	if err = bd.opt.checkSign(); err != nil {
		return classify(err, CategoryUsage)
	}
	if bd.lock, err = openLock(bd.opt.Lock); err != nil {
		return classify(err, CategoryEnvironment)
	}
	bd.lock.pins = bd.opt.pins
	if bd.leaks, err = newLeakWatch(bd); err != nil {
		return classify(usage{err}, CategoryUsage)
	}
	if err = bd.readInputs(ctx); err != nil {
		return err
	}
	bd.live.read(bd.project(), bd.folder())
	if err = bd.makePlans(ctx); err != nil {
		return err
	}
	for _, l := range bd.lanes {
		if err := bd.failOnWarnings(l.plan); err != nil {
			return err
		}
	}
	if err := bd.openGenerator(ctx); err != nil {
		return err
	}
	if err := bd.findDebugStep(); err != nil {
		return err
	}
	bd.importShares(ctx)
	if bd.dry {
		return nil
	}
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

func (bd *build) planError(err error) error {
	e := classify(err, CategoryUsage)
	var se *stages.Error
	if errors.As(err, &se) && se.Pos.Start > 0 {
		return bd.src.locate(e, se.Pos)
	}
	return e
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
	if err := bd.makeRuns(); err != nil {
		return err
	}
	if !bd.dry {
		bd.markPacked()
	}
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, sr := range bd.all {
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
func guard(f func() error) error {
	err := rescue.Do(f)
	var p *rescue.Panic
	var known *Error
	if !errors.As(err, &p) || errors.As(err, &known) {
		return err
	}
	return &Error{Category: CategoryEnvironment, Op: "internal error", Err: errors.New(strings.TrimPrefix(err.Error(), "internal error: ")), Hint: "please report this with the Dockerfile that caused it"}
}

// withOthers adds real failures of other stages; those that were only stopped say nothing.
func (bd *build) withOthers(first error) error {
	e := classify(first, CategoryEnvironment)
	for _, sr := range bd.all {
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
