package builder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/stages"
)

// lane is what a build has for each platform of its result: the plan, and the stages that carry it out. Stages that are the
// same for several platforms are one stageRun in all their lanes.
type lane struct {
	*build
	platform      ocispec.Platform // of the result, as asked for
	plan          *stages.Plan
	runs          map[int]*stageRun
	predicateText json.RawMessage // the predicate of its provenance, nil if there is none
}

// target is the stage whose result is the image.
func (ln *lane) target() *stageRun { return ln.runs[ln.plan.Target().Index] }

// folder is the platform's place in outputs that have one for each (FEATURES K2): linux_arm_v7.
func (ln *lane) folder() string { return strings.ReplaceAll(platformText(ln.platform), "/", "_") }

// several says whether the result has more than one platform.
func (bd *build) several() bool { return len(bd.opt.Platforms) > 1 }

// makeRuns gives each stage of each plan a run. A stage whose plan does not differ from that of another platform, nor those
// of the stages it reads, has that one's: FROM --platform=$BUILDPLATFORM is done once (FEATURES L2, D5).
func (bd *build) makeRuns() error {
	known := map[string]*stageRun{}
	for _, ln := range bd.lanes {
		ln.runs = map[int]*stageRun{}
		texts := map[int]string{}
		for _, s := range ln.plan.Stages { // each follows what it reads
			text, err := stageText(s, texts)
			if err != nil {
				return err
			}
			texts[s.Index] = text
			sr := known[text]
			if sr == nil {
				sr = &stageRun{lane: ln, stage: s, done: make(chan struct{})}
				known[text] = sr
				bd.all = append(bd.all, sr)
			} else {
				sr.shared = true
			}
			ln.runs[s.Index] = sr
		}
	}
	return nil
}

// stageText is all that a plan says of a stage and of those it reads: equal texts give equal results.
func stageText(s *stages.Stage, texts map[int]string) (string, error) {
	own, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("compare the plans of stage %s: %w", s.Name, err)
	}
	parts := []string{string(own)}
	for _, i := range s.Needs {
		parts = append(parts, texts[i])
	}
	all, err := json.Marshal(parts) // quoted: the parts cannot run into each other
	if err != nil {
		return "", err
	}
	return digest.FromBytes(all).String(), nil
}

// where names the platform of a step in a build for several: that of the result, and of its commands if it is another. Steps
// that several platforms share have that of their commands alone.
func (sr *stageRun) where() string {
	if !sr.several() {
		return ""
	}
	on, to := platformText(sr.stage.Platform), platformText(sr.platform)
	if sr.shared || on == to {
		return on
	}
	return on + "->" + to
}

// info names a step to the user.
func (sr *stageRun) info(step *stages.Step) *StepInfo {
	return &StepInfo{
		Stage: sr.stage.Name, Platform: sr.where(), Number: step.Number, Total: sr.stage.Total, Text: step.Text, Line: step.Pos.Start,
	}
}

// warnings are those of all plans, each once.
func (bd *build) warnings() []stages.Warning {
	var list []stages.Warning
	for _, ln := range bd.lanes {
		for _, w := range ln.plan.Warnings {
			same := func(o stages.Warning) bool { return o.Rule == w.Rule && o.Message == w.Message && o.Pos == w.Pos }
			if !slices.ContainsFunc(list, same) {
				list = append(list, w)
			}
		}
	}
	return list
}

// slotName keeps the platforms of a stage apart where --explain compares builds.
func (sr *stageRun) slotName() string {
	if at := sr.where(); at != "" {
		return sr.stage.Name + " " + at
	}
	return sr.stage.Name
}
