package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	buildcontext "gobuild/context"
	"gobuild/history"
	"gobuild/stages"
)

// Forecast is what a build would do, found out without doing it (FEATURES I15).
type Forecast struct {
	Stages   []ForecastStage `json:"stages"` // as they are carried out; one that several platforms share is there once
	Cached   int             `json:"cached"`
	Run      int             `json:"run"`
	Unknown  int             `json:"unknown"`
	Expected time.Duration   `json:"expectedNs"` // of the steps that are not cached, one after the other, as far as the last build says
}

// ForecastStage is a stage of it.
type ForecastStage struct {
	Name     string         `json:"name,omitempty"`
	Index    int            `json:"index"`
	Platform string         `json:"platform"` // of its commands
	Base     stages.Source  `json:"base"`
	Steps    []ForecastStep `json:"steps"`
}

// ForecastStep is a step of it.
type ForecastStep struct {
	Number   int             `json:"number"`
	Total    int             `json:"total"`
	Line     int             `json:"line"`
	Text     string          `json:"text"`
	Verdict  Verdict         `json:"verdict"`
	Reason   string          `json:"reason,omitempty"`
	Causes   []history.Cause `json:"causes,omitempty"`  // of a step that would run
	Follows  *history.Place  `json:"follows,omitempty"` // the step whose result decides, of an unknown one
	Key      digest.Digest   `json:"key,omitempty"`     // where it can be known
	Expected time.Duration   `json:"expectedNs,omitempty"`
}

// Verdict says what would become of a step.
type Verdict string

// The verdicts.
const (
	VerdictCached  Verdict = "cached"
	VerdictRun     Verdict = "run"
	VerdictUnknown Verdict = "unknown" // it depends on files that are not there before another step has run
)

// DryRun plans a build and asks the cache for each step, as Build does. No step runs, nothing is unpacked, and no image, record
// or output is written; what servers are asked for (base images, URLs, commits) stays for the build.
func (b *Builder) DryRun(ctx context.Context, opt Options) (*Forecast, error) {
	bd, end, err := b.begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer end()
	bd.dry = true
	bd.rec = newRecorder(bd) // it knows the last build, and masks; nothing of this one is recorded
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	bd.pack.ctx = ctx
	if err := bd.prepare(ctx); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	if err := bd.checkEmulators(); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	if err := bd.runStages(ctx); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	return bd.forecast(), nil
}

func (bd *build) forecast() *Forecast {
	f := &Forecast{Stages: []ForecastStage{}}
	for _, sr := range bd.all {
		stage := ForecastStage{
			Name: sr.stage.Name, Index: sr.stage.Index, Platform: platformText(sr.stage.Platform), Base: sr.stage.Base,
			Steps: append([]ForecastStep{}, sr.foreseen...),
		}
		for _, s := range stage.Steps {
			switch s.Verdict {
			case VerdictCached:
				f.Cached++
				continue
			case VerdictRun:
				f.Run++
			case VerdictUnknown:
				f.Unknown++
			}
			f.Expected += s.Expected
		}
		f.Stages = append(f.Stages, stage)
	}
	return f
}

// foresee is step for a dry run: the state after a step that is not cached is unknown.
func (sr *stageRun) foresee(ctx context.Context, s state, step *stages.Step, slot string) (state, error) {
	info := sr.info(step)
	f := ForecastStep{Number: info.Number, Total: info.Total, Line: info.Line, Text: sr.rec.mask(info.Text)}
	next, err := sr.look(withStep(ctx, info), s, step, slot, &f)
	if errors.Is(err, buildcontext.ErrChanged) { // as do does
		next, err = sr.look(withStep(ctx, info), s, step, slot, &f)
	}
	if err != nil {
		return s, sr.stepError(err, step, info)
	}
	if slot != seedSlot {
		if f.Verdict != VerdictCached {
			f.Expected = sr.lastTime(step)
		}
		f.Reason = sr.rec.mask(f.Reason)
		sr.foreseen = append(sr.foreseen, f)
	}
	return next, nil
}

// look asks the cache for one step.
func (sr *stageRun) look(ctx context.Context, s state, step *stages.Step, slot string, f *ForecastStep) (state, error) {
	here := sr.place(sr.info(step))
	apart := step.Copy != nil && step.Copy.Link // from what lies below
	if why, asked := sr.asked(); asked {
		return sr.wouldRun(s, here, why, f), nil
	}
	if s.unknown != nil && !apart {
		return sr.notKnown(s, &unforeseenError{*s.unknown, fmt.Sprintf("follows line %d, which is not cached", s.unknown.Line)}, f), nil
	}
	job, err := sr.jobFor(ctx, s, step)
	var unforeseen *unforeseenError
	if errors.As(err, &unforeseen) {
		if unforeseen.place.Line == 0 {
			unforeseen.place = here
		}
		return sr.notKnown(s, unforeseen, f), nil
	}
	if err != nil {
		return s, err
	}
	defer job.close()
	f.Key = job.key.Digest()
	found, why, ok := sr.lookup(job, lineageOf(s, job))
	if ok {
		f.Verdict, f.Reason, f.Expected = VerdictCached, cmp.Or(found.from, "same key"), found.took
		next := s.with(found.layer, cmp.Or(found.as, job.key.Digest()))
		next.unknown = s.unknown
		return next, nil
	}
	if len(why.causes) == 0 {
		why = sr.explain(fmt.Sprintf("%s|%s|%s|%s", sr.project(), sr.slotName(), slot, job.verb), step, job)
	}
	return sr.wouldRun(s, here, why, f), nil
}

func (sr *stageRun) wouldRun(s state, here history.Place, why miss, f *ForecastStep) state {
	f.Verdict, f.Reason, f.Causes = VerdictRun, why.reason(), why.causes
	if sr.root == nil {
		sr.root = cmp.Or(why.follows, &here)
	}
	if s.unknown == nil {
		s.unknown = &here
	}
	return s
}

func (sr *stageRun) notKnown(s state, why *unforeseenError, f *ForecastStep) state {
	f.Verdict, f.Reason, f.Follows = VerdictUnknown, why.why, &why.place
	if s.unknown == nil {
		s.unknown = &why.place
	}
	return s
}

// lastTime is what a step took when it ran last, as far as the last build knows.
func (sr *stageRun) lastTime(step *stages.Step) time.Duration {
	for _, s := range sr.lastBuild().Steps {
		if s.Stage == sr.stage.Name && s.Text == sr.rec.mask(step.Text) && !s.Failed {
			return cmp.Or(s.Saved, s.Duration)
		}
	}
	return 0
}

// unforeseenError is that a step's key needs files which a dry run does not have.
type unforeseenError struct {
	place history.Place // the step that would make them; the step itself where that is none
	why   string
}

func (e *unforeseenError) Error() string { return e.why }

// foreseeable says, for a dry run, whether files can be looked at: those of a stage whose steps are cached, and of an image, as
// far as they are unpacked.
func (t *sourceTree) foreseeable() error {
	if !t.bd.dry || t.dir != nil || t.far != nil {
		return nil
	}
	if place := t.st.unknown; place != nil {
		return &unforeseenError{*place, fmt.Sprintf("reads what line %d makes, which is not cached", place.Line)}
	}
	return nil
}

// unpacked says, for a dry run, whether files are there to be looked at.
func (t *sourceTree) unpacked() error {
	if !t.bd.dry || t.dir != nil || t.far != nil {
		return nil
	}
	for _, l := range t.st.layers {
		have, err := t.bd.hasLayer(l.id)
		if err != nil {
			return err
		}
		if !have {
			return &unforeseenError{why: "it reads files of an image or stage that is not unpacked here"}
		}
	}
	return nil
}
