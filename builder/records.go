package builder

import (
	"errors"
	"fmt"
	"time"

	"gobuild/cache"
	"gobuild/history"
)

// Builds lists the recorded builds, newest first.
func (b *Builder) Builds() ([]history.Record, error) {
	var list []history.Record
	err := b.builds.List(func(r history.Record) bool {
		list = append(list, r)
		return true
	})
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	return list, nil
}

// BuildRecord finds a build: by id, by enough of it, or as ^N, the Nth before the last; "" is the last.
func (b *Builder) BuildRecord(name string) (history.Record, error) {
	rec, err := b.builds.Get(name)
	if err == nil {
		return rec, nil
	}
	category := CategoryEnvironment
	if errors.Is(err, history.ErrNotFound) || errors.Is(err, history.ErrAmbiguous) {
		category = CategoryUsage
		err = &hinted{err: err, hint: "`gobuild history ls` lists the builds; ^1 is the one before the last"}
	}
	return rec, classify(err, category)
}

// BuildLog calls fn for everything that a build's steps printed.
func (b *Builder) BuildLog(rec history.Record, fn func(history.Chunk) error) error {
	return b.builds.ReadLog(rec.ID, fn)
}

// ForgetBuilds removes records and logs of builds. Cached results stay.
func (b *Builder) ForgetBuilds(ids []string) error {
	for _, id := range ids {
		if err := b.builds.Remove(id); err != nil {
			return classify(err, CategoryEnvironment)
		}
	}
	return nil
}

// Explanation is why the steps of a build ran, by cause.
type Explanation struct {
	Build   string        `json:"build"`
	Project string        `json:"project"`
	Begun   time.Time     `json:"begun"`
	Elapsed time.Duration `json:"elapsedNs"`
	Steps   int           `json:"steps"`
	Cached  int           `json:"cachedSteps"`
	Saved   time.Duration `json:"savedNs"` // what the cached steps took when they ran
	Chains  []Chain       `json:"chains"`
}

// Chain is a step that ran for reasons of its own, and the steps that ran because of it.
type Chain struct {
	Headline string         `json:"headline"` // the first cause, for people
	Step     history.Step   `json:"step"`
	Lost     []history.Step `json:"lost"`   // by cascade, in the order they ended
	Cost     time.Duration  `json:"costNs"` // of all of them
}

// ExplainBuild orders what ran by what made it run.
func ExplainBuild(rec history.Record) Explanation {
	e := Explanation{Build: rec.ID, Project: rec.Project, Begun: rec.Begun, Elapsed: rec.Elapsed, Steps: len(rec.Steps), Chains: []Chain{}}
	at := map[history.Place]int{}
	for _, s := range rec.Steps {
		if s.Cached {
			e.Cached++
			e.Saved += s.Saved
			continue
		}
		if s.Follows != nil {
			continue
		}
		at[s.Place] = len(e.Chains)
		e.Chains = append(e.Chains, Chain{Headline: s.Reason, Step: s, Lost: []history.Step{}, Cost: s.Duration})
	}
	for _, s := range rec.Steps {
		if s.Cached || s.Follows == nil {
			continue
		}
		i, ok := at[*s.Follows]
		if !ok { // its record is clipped or of another making: it stands for itself
			e.Chains = append(e.Chains, Chain{Headline: s.Reason, Step: s, Lost: []history.Step{}, Cost: s.Duration})
			continue
		}
		e.Chains[i].Lost = append(e.Chains[i].Lost, s)
		e.Chains[i].Cost += s.Duration
	}
	return e
}

// Comparison is what differs between two builds.
type Comparison struct {
	A           string          `json:"a"`
	B           string          `json:"b"`
	First       string          `json:"firstDifference,omitempty"` // the first cause, for people; "" if the steps are the same
	Step        *history.Step   `json:"step,omitempty"`            // of B, where it shows first
	Arguments   []history.Cause `json:"arguments"`
	Bases       []history.Cause `json:"bases"`
	Causes      []history.Cause `json:"causes"` // of that step
	Steps       []StepPair      `json:"steps"`
	Result      [2]string       `json:"results"` // image ids
	ElapsedA    time.Duration   `json:"elapsedANs"`
	ElapsedB    time.Duration   `json:"elapsedBNs"`
	SameResults bool            `json:"sameResult"`
}

// StepPair is one step in two builds; where it is in one alone the other is nil.
type StepPair struct {
	A    *history.Step `json:"a,omitempty"`
	B    *history.Step `json:"b,omitempty"`
	Same bool          `json:"sameKey"`
}

// CompareBuilds says what differs between two builds, the first cause first.
func (b *Builder) CompareBuilds(a, z history.Record) (Comparison, error) {
	c := Comparison{
		A: a.ID, B: z.ID, Arguments: argChanges(a, z), Bases: baseChanges(a, z), Causes: []history.Cause{}, Steps: pairSteps(a.Steps, z.Steps),
		Result: [2]string{a.Config.String(), z.Config.String()}, ElapsedA: a.Elapsed, ElapsedB: z.Elapsed, SameResults: a.Config == z.Config,
	}
	for _, p := range c.Steps {
		if p.Same {
			continue
		}
		if c.Step = p.B; c.Step == nil {
			c.Step = p.A
		}
		var err error
		if c.Causes, err = b.pairCauses(p); err != nil {
			return c, classify(fmt.Errorf("compare builds: %w", err), CategoryEnvironment)
		}
		break
	}
	switch {
	case len(c.Causes) > 0 && c.Causes[0].Kind != "upon":
		c.First = c.Causes[0].Text
	case len(c.Bases) > 0:
		c.First = c.Bases[0].Text
	case len(c.Causes) > 0:
		c.First = c.Causes[0].Text
	}
	return c, nil
}

// pairCauses compares the keys of a step in two builds, as far as the cache still has them.
func (b *Builder) pairCauses(p StepPair) ([]history.Cause, error) {
	switch {
	case p.A == nil:
		return []history.Cause{{Kind: "new", New: p.B.Text, Text: "the instruction is new: " + clip(p.B.Text)}}, nil
	case p.B == nil:
		return []history.Cause{{Kind: "gone", Old: p.A.Text, Text: "the instruction is gone: " + clip(p.A.Text)}}, nil
	case p.A.Text != p.B.Text:
		return instructionMiss(p.A.Text, p.B.Text).causes, nil
	}
	was, okA, err := b.keyOf(p.A)
	if err != nil {
		return nil, err
	}
	is, okB, err := b.keyOf(p.B)
	if err != nil {
		return nil, err
	}
	if !okA || !okB {
		if len(p.B.Causes) > 0 {
			return p.B.Causes, nil // what was known when it ran
		}
		return missOf("evicted", "its key differs, and what it was made of is no longer in the cache").causes, nil
	}
	files := filePairs{before: b.filesOf(was), now: b.filesOf(is)}
	causes, _ := files.causes(was, is)
	if len(causes) == 0 {
		causes = missOf("upon", "what it is built upon changed").causes
	}
	return causes, nil
}

// keyOf is a step's key, if the cache still has it.
func (b *Builder) keyOf(s *history.Step) (cache.Key, bool, error) {
	if s.Key == "" { // it failed before it was known
		return cache.Key{}, false, nil
	}
	rec, ok, err := b.cache.Read(s.Key)
	return rec.Key, ok, err
}

func argChanges(a, z history.Record) []history.Cause {
	out := []history.Cause{}
	for _, name := range sortedUnion(a.BuildArgs, z.BuildArgs) {
		was, had := a.BuildArgs[name]
		is, has := z.BuildArgs[name]
		if had != has || was != is {
			out = append(out, history.Cause{Kind: "arg", Name: name, Old: was, New: is, Text: fmt.Sprintf("--build-arg %s: %s -> %s", name, orNone(was, had), orNone(is, has))})
		}
	}
	for _, o := range [][3]string{{"--target", a.Target, z.Target}, {"--platform", a.Platform, z.Platform}} {
		if o[1] != o[2] {
			text := fmt.Sprintf("%s: %s -> %s", o[0], orNone(o[1], o[1] != ""), orNone(o[2], o[2] != ""))
			out = append(out, history.Cause{Kind: "option", Name: o[0], Old: o[1], New: o[2], Text: text})
		}
	}
	return out
}

func baseChanges(a, z history.Record) []history.Cause {
	was := map[string]history.Base{}
	for _, b := range a.Bases {
		was[b.Name] = b
	}
	out := []history.Cause{}
	for _, b := range z.Bases {
		old, ok := was[b.Name]
		if ok && old.Digest == b.Digest {
			continue
		}
		text := fmt.Sprintf("base image %s changed: %s -> %s", b.Name, shortDigest(old.Digest), shortDigest(b.Digest))
		if !ok {
			text = "base image " + b.Name + " is new"
		}
		out = append(out, history.Cause{Kind: "base", Name: b.Name, Old: old.Digest.String(), New: b.Digest.String(), Text: text})
	}
	return out
}
