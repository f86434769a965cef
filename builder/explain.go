package builder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/history"
	"gobuild/stages"
)

// maxExplained bounds the files and lines named for one miss (FEATURES I14).
const maxExplained = 20

func (sr *stageRun) filtered() bool {
	return slices.ContainsFunc(sr.opt.NoCacheFilter, func(name string) bool { return strings.EqualFold(name, sr.stage.Name) })
}

// miss is why a step runs. Its first cause is the headline.
type miss struct {
	causes  []history.Cause
	follows *history.Place // the step whose change made this one run; nil when the causes are its own
}

func (m miss) reason() string {
	if len(m.causes) == 0 {
		return ""
	}
	return m.causes[0].Text
}

// details are the causes as lines, for --explain.
func (m miss) details() []string {
	var lines []string
	for _, c := range m.causes {
		lines = append(lines, c.Text)
	}
	return lines
}

func missOf(kind, text string) miss { return miss{causes: []history.Cause{{Kind: kind, Text: text}}} }

// explain says why a key has no record: who removed it, or what differs from the nearest one that this step had before.
func (sr *stageRun) explain(slot string, step *stages.Step, j *job) miss {
	former := sr.formerKeys(step)
	gone, err := sr.cache.Evicted(append(former, j.key.Digest())...)
	if err != nil {
		gone = nil // an explanation is worth no failure
	}
	if e, ok := gone[j.key.Digest()]; ok {
		return missOf("evicted", "its result was removed by "+sr.evictedBy(e))
	}
	old, ok, err := sr.cache.Nearest(slot, j.key, former...)
	if err != nil || !ok {
		return sr.unheardOf(step, former, gone)
	}
	before := old.Key
	if len(former) == 0 {
		if was, ok := sr.lastInPlace(step, before); ok {
			if before, ok = sr.keyOfKind(was, j.key.Kind()); !ok {
				return instructionMiss(was.Text, sr.rec.mask(step.Text))
			}
		}
	}
	if m, ok := sr.instructionChanged(step, before, j.key); ok {
		return m
	}
	return sr.differing(step, j, before)
}

// lastInPlace is the instruction of the last build in whose place this one is, where the nearest key is of an older build: what has
// changed since the last one is what the user wants to know.
func (sr *stageRun) lastInPlace(step *stages.Step, nearest cache.Key) (history.Step, bool) {
	last := sr.lastBuild()
	if slices.ContainsFunc(last.Steps, func(s history.Step) bool { return s.Key == nearest.Digest() }) {
		return history.Step{}, false
	}
	i := slices.IndexFunc(last.Steps, func(s history.Step) bool {
		return s.Stage == sr.stage.Name && s.Number == step.Number && !sr.inPlan(s.Text)
	})
	if i < 0 {
		return history.Step{}, false
	}
	return last.Steps[i], true
}

// keyOfKind is the key of a recorded step, if it can be compared with one of that kind.
func (sr *stageRun) keyOfKind(s history.Step, kind string) (cache.Key, bool) {
	key, ok, err := sr.keyOf(&s)
	return key, ok && err == nil && key.Kind() == kind
}

// formerKeys are those that this very instruction had in the last build of the project.
func (sr *stageRun) formerKeys(step *stages.Step) []digest.Digest {
	var keys []digest.Digest
	for _, s := range sr.lastBuild().Steps {
		if s.Stage == sr.stage.Name && s.Text == sr.rec.mask(step.Text) && s.Key != "" {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

func (sr *stageRun) evictedBy(e cache.Eviction) string {
	ago := units.HumanDuration(max(sr.cfg.Now().Sub(e.At), 0))
	return fmt.Sprintf("%s %s ago (%s)", e.By, strings.ToLower(ago), e.At.UTC().Format(time.RFC3339))
}

// unheardOf is a miss with nothing to compare with.
func (sr *stageRun) unheardOf(step *stages.Step, former []digest.Digest, gone map[digest.Digest]cache.Eviction) miss {
	for _, k := range former {
		if e, ok := gone[k]; ok {
			m := missOf("evicted", "it changed, and what it was before is not known: that was removed by "+sr.evictedBy(e))
			return sr.after(m)
		}
	}
	last := sr.lastBuild()
	if last.ID != "" && len(former) == 0 {
		if text, ok := sr.replaced(step, last); ok {
			return instructionMiss(text, sr.rec.mask(step.Text))
		}
		return missOf("new", "the instruction is new")
	}
	return sr.after(missOf("new", "never built here"))
}

// after notes what a miss that has no cause of its own follows.
func (sr *stageRun) after(m miss) miss {
	m.follows = sr.root
	return m
}

// instructionChanged knows a step whose nearest key is that of another instruction.
func (sr *stageRun) instructionChanged(step *stages.Step, old, now cache.Key) (miss, bool) {
	last := sr.lastBuild()
	i := slices.IndexFunc(last.Steps, func(s history.Step) bool { return s.Key == old.Digest() })
	if i < 0 || last.Steps[i].Text == sr.rec.mask(step.Text) || !slices.ContainsFunc(cache.Diff(old, now), ofInstruction) {
		return miss{}, false
	}
	was := last.Steps[i].Text
	if sr.inPlan(was) { // it only moved
		return missOf("new", "the instruction is new"), true
	}
	return instructionMiss(was, sr.rec.mask(step.Text)), true
}

// ofInstruction says that a line of a key is what the Dockerfile says at the step. A text differs with the value of a variable
// too, which is then the better thing to name.
func ofInstruction(c cache.Change) bool {
	kind, _, _ := strings.Cut(c.Name, ":")
	return slices.Contains([]string{"command", "heredoc", "dest", "sources", "path"}, kind)
}

// replaced finds the instruction of the last build that stood where this one stands, and is gone.
func (sr *stageRun) replaced(step *stages.Step, last history.Record) (string, bool) {
	for _, s := range last.Steps {
		if s.Stage == sr.stage.Name && s.Number == step.Number && !sr.inPlan(s.Text) {
			return s.Text, true
		}
	}
	return "", false
}

func (sr *stageRun) inPlan(text string) bool {
	return slices.ContainsFunc(sr.stage.Steps, func(s stages.Step) bool { return sr.rec.mask(s.Text) == text })
}

func instructionMiss(was, is string) miss {
	return miss{causes: []history.Cause{{
		Kind: "instruction", Old: clip(was), New: clip(is), Text: fmt.Sprintf("the instruction changed: %s -> %s", clip(was), clip(is)),
	}}}
}

// differing names every difference of two keys of one instruction.
func (sr *stageRun) differing(step *stages.Step, j *job, old cache.Key) miss {
	var m miss
	var below bool
	m.causes, below = filePairs{now: j.files, before: sr.filesOf(old)}.causes(old, j.key)
	if root := sr.readFrom(step); root != nil && len(m.causes) > 0 {
		m.follows = root // what it copies was made again
	}
	if len(m.causes) > 0 || !below {
		if len(m.causes) == 0 {
			m = missOf("file", "what it reads changed")
		}
		return m
	}
	return sr.upon()
}

// upon is a miss because of what lies below the step alone.
func (sr *stageRun) upon() miss {
	if sr.root != nil {
		return sr.after(missOf("upon", fmt.Sprintf("follows the miss at line %d", sr.root.Line)))
	}
	if len(sr.added) == 0 {
		if c, ok := sr.baseChanged(); ok {
			return miss{causes: []history.Cause{c}}
		}
	}
	return missOf("upon", "what it is built upon changed")
}

// readFrom is what made the stages run again that a step copies or mounts from; nil when they did not.
func (sr *stageRun) readFrom(step *stages.Step) *history.Place {
	var from []stages.Source
	if step.Copy != nil {
		from = append(from, step.Copy.From)
	}
	if step.Run != nil {
		for _, m := range step.Run.Mounts {
			from = append(from, m.From)
		}
	}
	for _, src := range from {
		if src.Kind != stages.SourceStage {
			continue
		}
		// Finished: the key could not have been made before.
		if other := sr.runs[src.Stage]; other != nil && other.root != nil {
			return other.root
		}
	}
	return nil
}

// baseChanged compares the image of FROM with that of the last build.
func (sr *stageRun) baseChanged() (history.Cause, bool) {
	if sr.from == nil {
		return history.Cause{}, false
	}
	for _, b := range sr.lastBuild().Bases {
		switch now := sr.from.manifest.Digest; {
		case b.Stage != sr.stage.Name || b.Index != sr.stage.Index && b.Stage == "":
		case b.Name != sr.from.name:
			return history.Cause{Kind: "base", Name: sr.from.name, Old: b.Name, New: sr.from.name, Text: fmt.Sprintf("FROM changed: %s -> %s", b.Name, sr.from.name)}, true
		case b.Digest != now:
			text := fmt.Sprintf("base image %s changed: %s -> %s", b.Name, shortDigest(b.Digest), shortDigest(now))
			return history.Cause{Kind: "base", Name: b.Name, Old: b.Digest.String(), New: now.String(), Text: text}, true
		}
	}
	return history.Cause{Kind: "base", Name: sr.from.name, New: sr.from.manifest.Digest.String(), Text: fmt.Sprintf("base image %s changed", sr.from.name)}, true
}

func shortDigest(d digest.Digest) string {
	if d.Validate() != nil {
		return cmp.Or(d.String(), "none")
	}
	return d.Algorithm().String() + ":" + short(d)
}

// secretWords are those of lint SecretsUsedInArgOrEnv (FEATURES E24).
var secretWords = []string{"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}

// secretName says whether a variable's value should not be shown.
func secretName(name string) bool {
	return slices.ContainsFunc(strings.Split(strings.ToLower(name), "_"), func(word string) bool { return slices.Contains(secretWords, word) })
}

func clip(s string) string {
	const most = 200 // one line of a terminal or two
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
