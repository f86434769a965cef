package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/builder"
)

// buildkitView turns events into the lines that BuildKit's plain progress has (FEATURES O3), for programs that read those:
//
//	#7 [stage 3/9] RUN make
//	#7 0.412 text
//	#7 DONE 12.3s
//
// It is guarded by Printer.mu.
type buildkitView struct {
	opt    *Options
	out    []string
	number int // of the vertex that came last
	last   int // of the line before
	steps  map[*builder.StepInfo]*vertex
	moves  map[string]*vertex // running transfers
}

// vertex is what BuildKit numbers: a step, a transfer, a remark.
type vertex struct {
	number  int
	title   string
	since   time.Time
	shown   time.Time // a transfer was reported last
	streams map[string]*cleaner
	order   []string
}

func (v *buildkitView) event(e builder.Event) {
	switch e.Type {
	case builder.EventStepStart:
		v.step(e)
	case builder.EventOutput:
		v.output(e)
	case builder.EventStepDone:
		v.stepDone(e)
	case builder.EventCache:
		if v.opt.Explain {
			st := v.step(e)
			for _, l := range append([]string{cacheText(e)}, cacheDetails(e)...) {
				v.line(st, strings.TrimSpace(l))
			}
		}
	case builder.EventTransfer:
		v.transfer(e)
	case builder.EventNotice:
		v.remark(e, noticeText(e))
	case builder.EventWarning:
		v.remark(e, warningText(e, v.opt.Color))
	case builder.EventDone:
		v.flushAll()
		if e.Result != nil {
			v.remark(e, strings.Join(resultLines(e.Result), "\n"))
		}
	}
}

// vertex begins a new one.
func (v *buildkitView) vertex(at time.Time, title string) *vertex {
	v.number++
	n := &vertex{number: v.number, title: title, since: at, streams: map[string]*cleaner{}}
	v.line(n, title)
	return n
}

// line adds a line of a vertex. When another one's came before, a blank line and the title say that.
func (v *buildkitView) line(n *vertex, text string) {
	if v.last != 0 && v.last != n.number {
		v.out = append(v.out, "")
		if text != n.title {
			v.out = append(v.out, fmt.Sprintf("#%d %s", n.number, n.title))
		}
	}
	v.last = n.number
	v.out = append(v.out, fmt.Sprintf("#%d %s", n.number, text))
}

func (v *buildkitView) step(e builder.Event) *vertex {
	if st, ok := v.steps[e.Step]; ok {
		return st
	}
	title := "[no step]"
	if e.Step != nil {
		title = stepName(e.Step) + " " + cut(Line(e.Step.Text))
	}
	v.steps[e.Step] = v.vertex(e.Time, title)
	return v.steps[e.Step]
}

func (v *buildkitView) output(e builder.Event) {
	st := v.step(e)
	c := st.streams[e.Stream]
	if c == nil {
		c = &cleaner{color: v.opt.Color.Enabled()}
		st.streams[e.Stream] = c
		st.order = append(st.order, e.Stream)
	}
	c.emit = func(line string) {
		v.line(st, strings.TrimRight(fmt.Sprintf("%.3f %s", e.Time.Sub(st.since).Seconds(), line), " "))
	}
	c.Write(e.Data)
}

func (v *buildkitView) stepDone(e builder.Event) {
	st := v.step(e)
	st.flush()
	delete(v.steps, e.Step)
	switch {
	case e.Err != nil:
		v.line(st, v.opt.Color.paint(v.opt.Color.Error, "ERROR: "+cut(firstLine(cause(e.Err)))))
	case e.Cached:
		v.line(st, "CACHED")
	default:
		v.line(st, fmt.Sprintf("DONE %.1fs", e.Duration.Seconds()))
	}
}

func (n *vertex) flush() {
	for _, name := range n.order {
		n.streams[name].Flush()
	}
}

func (v *buildkitView) transfer(e builder.Event) {
	n := v.moves[e.Text]
	if n == nil {
		if len(v.moves) >= maxTransfers {
			clear(v.moves)
		}
		n = v.vertex(e.Time, cut(Line(e.Text)))
		v.moves[e.Text] = n
	}
	done := e.Total > 0 && e.Bytes >= e.Total
	if !done && e.Time.Sub(n.shown) < transferEvery {
		return
	}
	n.shown = e.Time
	seconds := e.Time.Sub(n.since).Seconds()
	switch {
	case done:
		delete(v.moves, e.Text)
		word := "done"
		if e.Cached {
			word = "exists"
		}
		v.line(n, fmt.Sprintf("%s %s", formatSize(e.Bytes), word))
		v.line(n, fmt.Sprintf("DONE %.1fs", seconds))
	case e.Total > 0:
		v.line(n, fmt.Sprintf("%s / %s %.1fs", formatSize(e.Bytes), formatSize(e.Total), seconds))
	}
}

// remark is a vertex of its own.
func (v *buildkitView) remark(e builder.Event, text string) {
	lines := strings.Split(text, "\n")
	n := v.vertex(e.Time, lines[0])
	for _, l := range lines[1:] {
		v.line(n, l)
	}
}

// flushAll emits what steps that will not end have left, so that nothing they printed is lost.
func (v *buildkitView) flushAll() {
	left := make([]*vertex, 0, len(v.steps))
	for _, st := range v.steps {
		left = append(left, st)
	}
	slices.SortFunc(left, func(a, b *vertex) int { return a.number - b.number })
	for _, st := range left {
		st.flush()
	}
	clear(v.steps)
}
