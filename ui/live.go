package ui

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gobuild/builder"
)

// liveView is what a terminal shows of a build (FEATURES O4): lines that stay, which are one for each step that ran, remarks, results
// and all that a failed step printed; and below them what goes on. It is guarded by Printer.mu.
type liveView struct {
	opt   *Options
	marks marks
	kept  []keptLine // not written yet

	since     time.Time // the first event
	steps     []*liveStep
	known     map[*builder.StepInfo]*liveStep
	transfers []*liveTransfer
	ran       int
	reused    int
	ended     bool // nothing goes on any more
}

// keptLine stays on the terminal: a line, or everything a step has printed.
type keptLine struct {
	at    time.Time
	text  string // cut where there is a right part that has to be in sight
	right string
	sgr   string // its colour
	log   *overflow
}

// liveStep is a running step.
type liveStep struct {
	info    *builder.StepInfo
	name    string // "[stage 3/9]"
	since   time.Time
	reason  string // why it runs
	streams map[string]*cleaner
	last    []string // its last lines
	log     *overflow
}

// liveTransfer is a running transfer.
type liveTransfer struct {
	text        string
	since       time.Time
	from        int64 // bytes that were there at since
	bytes, size int64
}

// marks are the pictures of the view.
type marks struct{ done, failed, running, output, more string }

func newLiveView(opt *Options) liveView {
	v := liveView{opt: opt, known: map[*builder.StepInfo]*liveStep{}, marks: marks{"✔", "✘", "=>", "│", "…"}}
	if opt.ASCII {
		v.marks = marks{"*", "!", "=>", "|", "..."}
	}
	return v
}

func (v *liveView) event(e builder.Event) {
	if v.since.IsZero() {
		v.since = e.Time
	}
	switch e.Type {
	case builder.EventStepStart:
		v.step(e)
	case builder.EventOutput:
		v.output(e)
	case builder.EventStepDone:
		v.stepDone(e)
	case builder.EventCache:
		v.cache(e)
	case builder.EventTransfer:
		v.transfer(e)
	case builder.EventNotice:
		v.keep(e.Time, noticeText(e))
	case builder.EventWarning:
		v.keep(e.Time, warningText(e, v.opt.Color))
	case builder.EventDone:
		v.end()
		if e.Result != nil {
			v.keep(e.Time, strings.Join(resultLines(e.Result), "\n"))
		}
	}
}

// keep adds lines that stay.
func (v *liveView) keep(at time.Time, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		v.kept = append(v.kept, keptLine{at: at, text: line})
	}
}

// step returns the view of an event's step.
func (v *liveView) step(e builder.Event) *liveStep {
	v.ended = false
	if st, ok := v.known[e.Step]; ok {
		return st
	}
	st := &liveStep{info: e.Step, since: e.Time, name: "[no step]", streams: map[string]*cleaner{}, log: newOverflow(v.opt.SpoolDir)}
	if e.Step != nil {
		st.name = stepName(e.Step)
		v.steps = append(v.steps, st)
	}
	v.known[e.Step] = st
	return st
}

func (v *liveView) output(e builder.Event) {
	st := v.step(e)
	c := st.streams[e.Stream]
	if c == nil {
		c = &cleaner{color: v.opt.Color.Enabled(), emit: func(line string) { v.line(st, line) }}
		st.streams[e.Stream] = c
	}
	c.Write(e.Data)
}

// line takes a line of a step's output.
func (v *liveView) line(st *liveStep, line string) {
	full := strings.TrimRight(st.name+" "+line, " ")
	if st.info == nil { // nothing ends it, so it is shown at once
		v.keep(v.opt.Now(), full)
		return
	}
	st.log.add(append([]byte(full), '\n'))
	if strings.TrimSpace(line) == "" {
		return
	}
	st.last = append(st.last, line)
	if extra := len(st.last) - v.opt.LogLines; extra > 0 {
		st.last = slices.Delete(st.last, 0, extra)
	}
}

// shown is what the view has of a step's output: its last lines, and those that are not ended.
func (st *liveStep) shown(n int) []string {
	lines := slices.Clone(st.last)
	for _, stream := range []string{"stdout", "stderr"} {
		if c := st.streams[stream]; c != nil && len(c.line) > 0 {
			lines = append(lines, c.pending())
		}
	}
	return lines[max(0, len(lines)-n):]
}

func (v *liveView) stepDone(e builder.Event) {
	st := v.step(e)
	for _, c := range st.streams {
		c.Flush()
	}
	delete(v.known, e.Step)
	v.steps = slices.DeleteFunc(v.steps, func(s *liveStep) bool { return s == st })
	theme, line := v.opt.Color, keptLine{at: e.Time, text: " " + st.title()}
	switch {
	case e.Err != nil && errors.Is(e.Err, context.Canceled): // another step failed, and its output is what counts
		line.text, line.right, line.sgr = v.marks.failed+line.text, "  canceled after "+formatDuration(e.Duration), theme.Cancel
	case e.Err != nil:
		v.kept = append(v.kept, keptLine{at: e.Time, log: st.log})
		line.text, line.sgr = v.marks.failed+line.text, theme.Error
		line.right = "  failed after " + formatDuration(e.Duration) + ": " + cut(firstLine(cause(e.Err)))
	case e.Cached:
		v.reused++
		st.log.close()
		return
	default:
		v.ran++
		line.text, line.right = v.marks.done+line.text, "  "+formatDuration(e.Duration)
		if e.Bytes > 0 { // of a layer that is not packed yet the size is not known
			line.right += " +" + formatSize(e.Bytes)
		}
		if st.reason != "" {
			line.right += "  (" + st.reason + ")"
		}
	}
	if len(v.kept) == 0 || v.kept[len(v.kept)-1].log != st.log {
		st.log.close()
	}
	v.kept = append(v.kept, line)
}

// reveal has what a step has printed so far stay.
func (v *liveView) reveal(info *builder.StepInfo) {
	if st := v.known[info]; st != nil {
		v.kept = append(v.kept, keptLine{at: v.opt.Now(), log: st.log})
		st.log, st.last = newOverflow(v.opt.SpoolDir), nil
	}
}

// title is a step on one line.
func (st *liveStep) title() string {
	if st.info == nil {
		return st.name
	}
	return st.name + " " + cut(Line(st.info.Text))
}

func (v *liveView) cache(e builder.Event) {
	st := v.step(e)
	if !e.Cached {
		st.reason = cut(Line(e.Text))
	}
	if v.opt.Explain {
		v.keep(e.Time, strings.Join(append([]string{st.name + " " + cacheText(e)}, cacheDetails(e)...), "\n"))
	}
}

func (v *liveView) transfer(e builder.Event) {
	i := slices.IndexFunc(v.transfers, func(t *liveTransfer) bool { return t.text == e.Text })
	if done := e.Total > 0 && e.Bytes >= e.Total; done {
		if i >= 0 {
			v.transfers = slices.Delete(v.transfers, i, i+1)
		}
		text := cut(Line(e.Text)) + ": " + formatSize(e.Bytes)
		if e.Cached {
			text += ", exists"
		} else if i >= 0 {
			text += ", done"
		}
		v.keep(e.Time, text)
		return
	}
	if i < 0 {
		v.ended = false
		v.transfers = append(v.transfers, &liveTransfer{text: e.Text, since: e.Time, from: e.Bytes})
		if i = len(v.transfers) - 1; i == maxTransfers {
			v.transfers, i = slices.Delete(v.transfers, 0, 1), i-1
		}
	}
	v.transfers[i].bytes, v.transfers[i].size = e.Bytes, e.Total
}

// end takes what goes on from the view. What steps that will not end have printed stays.
func (v *liveView) end() {
	for _, st := range v.steps {
		for _, c := range st.streams {
			c.Flush()
		}
		v.kept = append(v.kept, keptLine{at: v.opt.Now(), log: st.log})
	}
	clear(v.known)
	v.steps, v.transfers, v.ended = nil, nil, true
}
