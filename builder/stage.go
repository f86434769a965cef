package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	buildcontext "gobuild/context"
	"gobuild/history"
	"gobuild/snapshot"
	"gobuild/stages"
)

// stageRun is one stage under way.
type stageRun struct {
	*lane
	stage  *stages.Stage
	shared bool          // by lanes of several platforms
	packed bool          // the image is made of its layers
	done   chan struct{} // closed when final and err are set

	final  state
	err    error
	from   *base          // base image, nil for scratch and stages
	added  []*fsLayer     // one a step, in order
	seeded *fsLayer       // layer made of a named context that is a folder, nil otherwise
	root   *history.Place // what made the first step run that was not cached; nil: all were

	followed string // the shared cache whose result of a step was taken in place of the own one

	foreseen []ForecastStep // of a dry run
}

// errNeeded says that a stage cannot go on because one that it reads failed; that one's error is shown.
var errNeeded = errors.New("a stage that it needs failed")

func (sr *stageRun) run(ctx context.Context) error {
	s, err := sr.base(ctx)
	if err != nil {
		return err
	}
	if sr.packed && sr.seeded != nil {
		sr.pack.start(sr.seeded, nil)
	}
	for i := range sr.stage.Steps {
		if s, err = sr.step(ctx, s, i); err != nil {
			return err
		}
	}
	sr.final = s
	return nil
}

// base is the state that the first step starts from.
func (sr *stageRun) base(ctx context.Context) (state, error) {
	switch src := sr.stage.Base; src.Kind {
	case stages.SourceScratch:
		return emptyState, nil
	case stages.SourceStage:
		return sr.stateOf(ctx, src.Stage)
	case stages.SourceImage, stages.SourceContext:
		sr.from = sr.baseOf(src)
		if sr.from != nil && !sr.from.dir {
			return baseState(sr.from), nil
		}
		return sr.seed(ctx, src)
	case stages.SourceInline, stages.SourceHTTP, stages.SourceGit, stages.SourceMixed:
	}
	return state{}, fmt.Errorf("stage cannot start from %s", sr.stage.Base.Kind)
}

func (bd *build) baseOf(src stages.Source) *base { return bd.bases[src.Image] }

// seedSlot is the slot of what a stage starts from, where that is a folder.
const seedSlot = "seed"

// seed makes the root file system of FROM a folder: what `COPY . /` on scratch would give.
func (sr *stageRun) seed(ctx context.Context, src stages.Source) (state, error) {
	name := seedName(src)
	step := &stages.Step{
		Pos: sr.stage.Pos, Text: "FROM " + name,
		Copy: &stages.Copy{From: stages.Source{Kind: stages.SourceContext, Name: name}, Paths: []string{"/"}, Dest: "/"},
	}
	if sr.dry {
		return sr.foresee(ctx, emptyState, step, seedSlot)
	}
	out, err := sr.do(ctx, emptyState, step, seedSlot)
	if err != nil {
		return state{}, err
	}
	sr.seeded = out.layer
	return emptyState.with(out.layer, out.key), nil
}

// seedName is the named context that a stage starts from.
func seedName(src stages.Source) string {
	if src.Kind == stages.SourceImage {
		return src.Image.Context
	}
	return src.Name
}

// stateOf waits for a stage and gives its result.
func (ln *lane) stateOf(ctx context.Context, index int) (state, error) {
	sr := ln.runs[index]
	if sr == nil {
		return state{}, fmt.Errorf("stage %d is not in the plan", index)
	}
	select {
	case <-sr.done:
	case <-ctx.Done():
		return state{}, context.Cause(ctx)
	}
	if sr.err != nil {
		return state{}, errNeeded
	}
	return sr.final, nil
}

// outcome is what a step gave.
type outcome struct {
	layer    *fsLayer
	key      digest.Digest
	as       digest.Digest // what the next step's key says of this one, where it is not key (--cutoff)
	cached   bool
	reason   string        // why it was cached, or not
	miss     miss          // of a step that was not cached
	saved    time.Duration // what a cached step took when it ran
	start    time.Duration // since the build began
	duration time.Duration
	usage    usageOf
	waits    []history.Wait
}

// usageOf is the accounting of a RUN.
type usageOf struct {
	cpu  time.Duration
	peak int64
	more StepUsage
}

// step makes one step's layer, from the cache or by doing it, and tells the user.
func (sr *stageRun) step(ctx context.Context, s state, i int) (state, error) {
	step := &sr.stage.Steps[i]
	if sr.dry {
		return sr.foresee(ctx, s, step, fmt.Sprint(i))
	}
	info := sr.info(step)
	sr.em.emit(Event{Type: EventStepStart, Step: info})
	begun := sr.cfg.Now()
	within, waits := withWaits(withStep(ctx, info))
	out, err := sr.do(within, s, step, fmt.Sprint(i))
	out.waits = waits.all()
	out.start = begun.Sub(sr.begun)
	if err != nil {
		err = sr.stepError(err, step, info)
		if errors.Is(err, errStopped) {
			err = errStopped // whatever it interrupted says nothing
		}
		out.duration = sr.cfg.Now().Sub(begun)
		sr.rec.fail(sr, info, out)
		sr.em.emit(Event{Type: EventStepDone, Step: info, Err: err, Duration: sr.cfg.Now().Sub(begun)})
		return s, err
	}
	out.duration = sr.cfg.Now().Sub(begun)
	sr.report(info, out)
	sr.added = append(sr.added, out.layer)
	next := s.with(out.layer, cmp.Or(out.as, out.key))
	if sr.packed {
		sr.pack.start(out.layer, s.layers)
	}
	return next, nil
}

func (sr *stageRun) report(info *StepInfo, out outcome) {
	if !out.cached && sr.root == nil {
		here := sr.place(info)
		sr.root = cmp.Or(out.miss.follows, &here)
	}
	if out.cached && sr.opt.Explain {
		sr.em.emit(Event{Type: EventCache, Step: info, Cached: true, Text: out.reason})
	}
	sr.em.emit(Event{Type: EventStepDone, Step: info, Cached: out.cached, Duration: out.duration, Digest: string(out.layer.id)[:12], Bytes: out.layer.bytes, Usage: &out.usage.more, Waits: out.waits})
	sr.record(StepResult{
		Stage: info.Stage, Platform: info.Platform, Number: info.Number, Total: info.Total, Text: info.Text, Line: info.Line, Cached: out.cached,
		Reason: out.reason, Key: out.key, Start: out.start, Duration: out.duration, CPU: out.usage.cpu, PeakMem: out.usage.peak,
		Bytes: out.layer.bytes, StepUsage: out.usage.more, Waits: out.waits,
		Index: sr.stage.Index, Causes: out.miss.causes, Follows: out.miss.follows, Saved: out.saved,
	})
}

// stepError gives an error its place: Dockerfile lines, instruction, step.
func (sr *stageRun) stepError(err error, step *stages.Step, info *StepInfo) error {
	if errors.Is(err, errNeeded) || errors.Is(err, errStopped) || isCancel(err) {
		return err
	}
	e := classify(err, CategoryEnvironment)
	if e.Step == nil {
		located := *e
		located.Step = info
		if located.Op == "" {
			located.Op = step.Text
		}
		e = sr.src.locate(&located, step.Pos)
	}
	return e
}

// stepRecord is what the cache keeps of a step.
type stepRecord struct {
	ID       snapshot.ID   `json:"id"`
	Lineage  string        `json:"lineage,omitempty"` // of the layers below, "" for COPY --link
	Created  time.Time     `json:"created"`
	Duration time.Duration `json:"durationNs"`
	Bytes    int64         `json:"bytes,omitempty"` // of the layer's files
	As       digest.Digest `json:"as,omitempty"`    // key of the step whose result this is, where it was made for another (--cutoff)
}

// do is attempt, once more if a file of the context changed meanwhile (HOSTILE H-13): the key is then another.
func (sr *stageRun) do(ctx context.Context, s state, step *stages.Step, slot string) (outcome, error) {
	if sr.opt.Debug.Step != "" && slot != seedSlot && sr.debugsAt(sr.stage, step) {
		return outcome{}, sr.debugBefore(ctx, s, step)
	}
	out, err := sr.attempt(ctx, s, step, slot)
	if errors.Is(err, buildcontext.ErrChanged) {
		out, err = sr.attempt(ctx, s, step, slot)
	}
	return out, err
}

// attempt finds the step in the cache, waits for the process that is at it, or does it.
func (sr *stageRun) attempt(ctx context.Context, s state, step *stages.Step, slot string) (out outcome, err error) {
	job, err := sr.jobFor(ctx, s, step)
	if err != nil {
		return outcome{}, err
	}
	defer job.close()
	out = outcome{key: job.key.Digest()}
	defer func() {
		if err == nil && out.layer != nil && out.key == job.key.Digest() { // neither after an error nor in a panic, nor of a step that was entered
			sr.give(sr.gift(s, job, &out))
		}
	}()
	slot = fmt.Sprintf("%s|%s|%s|%s", sr.project(), sr.slotName(), slot, job.verb)
	lineage := lineageOf(s, job)
	hit, why, found := sr.lookup(job, lineage)
	if found {
		out.layer, out.as, out.saved, out.cached, out.reason = hit.layer, hit.as, hit.took, true, cmp.Or(hit.from, "same key")
		return out, nil
	}
	asked := sr.cfg.Now()
	lock, err := sr.cache.Lock(ctx, job.key, sr.waiting("running this step"))
	sr.waited(ctx, waitLock, asked)
	if err != nil {
		return out, fmt.Errorf("wait for step: %w", err)
	}
	defer lock.Release()
	if hit, _, ok := sr.lookup(job, lineage); ok { // it was being done, and is now
		out.layer, out.as, out.saved, out.cached, out.reason = hit.layer, hit.as, hit.took, true, "it has just been built"
		return out, nil
	}
	if out.miss = why; len(why.causes) == 0 {
		out.miss = sr.explain(slot, step, job)
	}
	out.reason = out.miss.reason()
	if info := stepOf(ctx); info != nil {
		sr.em.emit(Event{Type: EventCache, Step: info, Text: out.reason, Lines: out.miss.details()})
	}
	return sr.execute(ctx, s, step, job, slot, lineage, out)
}

// perform does a step's work, within the limits of the state directory.
func (sr *stageRun) perform(ctx context.Context, j *job, work *snapshot.Work) (usageOf, error) {
	defer sr.watchRoom(ctx)()
	return j.exec(ctx, work)
}

func (sr *stageRun) execute(ctx context.Context, s state, step *stages.Step, job *job, slot, lineage string, out outcome) (_ outcome, err error) {
	begun := sr.cfg.Now()
	defer sr.live.step(stepOf(ctx))()
	former := sr.formerResult(step, job, slot, lineage)
	sr.warmSandbox(step)
	sr.syncOnce(ctx)
	below := s
	if job.alone {
		below = emptyState
	}
	asked := sr.cfg.Now()
	if err := sr.materialize(ctx, below); err != nil {
		return out, err
	}
	sr.waited(ctx, waitLayers, asked)
	if err := sr.roomForStep(ctx, slot, job); err != nil {
		return out, err
	}
	work, err := sr.snapshots.New(below.stack())
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, work.Discard()) }() // does nothing after Commit
	if n := len(sr.stage.Steps); n > 0 && step != &sr.stage.Steps[n-1] {
		sr.snapshots.Prepare() // what depends on this step misses too
	}
	if out.usage, err = sr.perform(ctx, job, work); err != nil {
		return out, err
	}
	rec := stepRecord{ID: newID(), Lineage: lineage, Created: sr.createdNow(), Duration: sr.cfg.Now().Sub(begun)}
	if rec.Bytes, err = work.Size(); err != nil {
		return out, err
	}
	if sr.live.entered(stepOf(ctx)) {
		return sr.keepEntered(job, work, rec, out)
	}
	if former != nil && sr.sameFiles(ctx, below, work, rec, former.rec) {
		return sr.cutOff(ctx, job, slot, former, out)
	}
	if _, err := sr.hasLayer(rec.ID); err != nil {
		return out, err
	}
	if err := work.Commit(rec.ID); err != nil {
		return out, err
	}
	if err := sr.cache.Put(job.key, slot, rec); err != nil {
		return out, fmt.Errorf("record step: %w", err)
	}
	sr.noteFiles(job)
	out.layer = &fsLayer{id: rec.ID, created: rec.Created, bytes: rec.Bytes, alone: job.alone}
	return out, nil
}

// lineageOf is what a step's record must say lies below it: nothing for COPY --link.
func lineageOf(s state, job *job) string {
	if job.alone {
		return ""
	}
	return s.lineage()
}

// hit is a step that need not run.
type hit struct {
	layer *fsLayer
	as    digest.Digest // as in stepRecord
	from  string        // the shared cache it comes from, "" for the own one
	took  time.Duration // when it ran
}

// lookup asks the local cache, then those of --cache-from. A miss that it does not explain is explained by the key.
func (sr *stageRun) lookup(job *job, lineage string) (hit, miss, bool) {
	if why, asked := sr.asked(); asked {
		return hit{}, why, false
	}
	if h, ok := sr.follow(job, lineage); ok {
		return h, miss{}, true
	}
	h, why, found := sr.lookupLocal(job, lineage)
	if found {
		return h, miss{}, true
	}
	if h, ok := sr.adopt(job, lineage); ok {
		return h, miss{}, true
	}
	return hit{}, why, false
}

// asked says whether the user wants the steps of this stage to run, whatever the cache holds.
func (sr *stageRun) asked() (miss, bool) {
	switch {
	case sr.opt.NoCache:
		return missOf("asked", "--no-cache"), true
	case sr.filtered():
		return missOf("asked", "--no-cache-filter names this stage"), true
	}
	return miss{}, false
}

// lookupLocal takes a step from the cache if its layer is still there and was made upon the layers that lie below now.
func (sr *stageRun) lookupLocal(job *job, lineage string) (hit, miss, bool) {
	var rec stepRecord
	_, ok, err := sr.cache.Lookup(job.key, &rec)
	if err != nil || !ok {
		return hit{}, miss{}, false // a damaged record is a miss
	}
	if rec.Lineage != lineage {
		if sr.followed != "" {
			return hit{}, missOf("upon", "a step before it is now another machine's, from "+sr.followed), false
		}
		return hit{}, sr.after(missOf("upon", "a step before it was built again")), false
	}
	h := hit{layer: &fsLayer{id: rec.ID, created: rec.Created, bytes: rec.Bytes, alone: job.alone}, as: rec.As, took: rec.Duration}
	if ok, err := sr.hasLayer(rec.ID); ok && err == nil {
		return h, miss{}, true
	}
	if _, ok, err := sr.packedBefore(h.layer); ok && err == nil {
		return h, miss{}, true
	}
	return hit{}, missOf("evicted", "its layer is gone from the state directory"), false
}

// createdNow is the time of a step in image history: whole seconds would lose the order, so nanoseconds stay, as Docker does.
func (bd *build) createdNow() time.Time { return bd.cfg.Now().UTC() }

// job is a step ready to be looked up and done.
type job struct {
	key   cache.Key
	verb  string        // instruction, for the slot
	files []contentFile // what it reads, for explanations
	alone bool          // COPY --link
	exec  func(ctx context.Context, work *snapshot.Work) (usageOf, error)
	close func()
}

func (sr *stageRun) jobFor(ctx context.Context, s state, step *stages.Step) (*job, error) {
	switch {
	case step.Run != nil:
		return sr.runJob(ctx, s, step)
	case step.Copy != nil:
		return sr.copyJob(ctx, s, step)
	case step.Workdir != nil:
		return sr.workdirJob(s, step), nil
	}
	return nil, fmt.Errorf("step %q has nothing to do", step.Text)
}

type stepKey struct{}

// withStep lets what runs below name the step in its events.
func withStep(ctx context.Context, info *StepInfo) context.Context {
	return context.WithValue(ctx, stepKey{}, info)
}

func stepOf(ctx context.Context) *StepInfo {
	info, _ := ctx.Value(stepKey{}).(*StepInfo)
	return info
}

// warmSandbox starts a sandbox child while this step is done, when a RUN follows it: that one will miss too.
// Nothing is lost if it cannot be started here: the RUN tries again and says why.
func (sr *stageRun) warmSandbox(step *stages.Step) {
	for i := range sr.stage.Steps {
		if sr.stage.Steps[i].Run == nil || sr.stage.Steps[i].Pos.Start < step.Pos.Start {
			continue
		}
		if runner, err := sr.sandboxRunner(sr.opt.Run); err == nil {
			runner.Prepare(sr.networkMode(sr.stage.Steps[i].Run))
		}
		return
	}
}

// syncOnce makes what former builds committed survive a power cut, beside the first step that runs: the kernel has
// written most of it by then, and nobody waits. Layers of this very build are covered by the next one; until then their
// blobs, which are on the disk, stand in for those of the image.
func (bd *build) syncOnce(ctx context.Context) {
	bd.syncing.Do(func() {
		bd.background.Go(func() {
			if err := guard(func() error { return bd.snapshots.Sync(ctx) }); err != nil && ctx.Err() == nil {
				bd.notice(fmt.Sprintf("layers could not be made durable, and are built again after a power cut: %v", err))
			}
		})
	})
}

// project names a Dockerfile in slots, which --explain compares within: never its place on this machine.
func (bd *build) project() string {
	dir := bd.opt.Context
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Base(dir) + "/" + filepath.Base(bd.src.name)
}
