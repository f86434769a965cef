package ui

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
)

// plainView turns events into lines (FEATURES O3). It is guarded by Printer.mu.
type plainView struct {
	opt       *Options
	out       []string // clean lines ready to be written
	steps     map[*builder.StepInfo]*stepView
	last      *builder.StepInfo    // step of the line printed last, nil when it was no step's
	transfers map[string]time.Time // when each running transfer was shown last
	unnamed   builder.StepInfo     // stands for the step of events that have none
	folds     folds
	now       time.Time // of the event
}

// stepView is one running step.
type stepView struct {
	name    string // "[stage 3/9]"
	streams map[string]*cleaner
	order   []string // streams as they appeared
}

func (v *plainView) event(e builder.Event) {
	v.now = e.Time
	if e.Step == nil {
		e.Step = &v.unnamed
	}
	switch e.Type {
	case builder.EventStepStart:
		v.step(e.Step)
	case builder.EventOutput:
		v.output(e)
	case builder.EventStepDone:
		v.stepDone(e)
	case builder.EventCache:
		v.cache(e)
	case builder.EventTransfer:
		v.transfer(e)
	case builder.EventNotice:
		v.remark(noticeText(e))
	case builder.EventWarning:
		v.remark(warningText(e, v.opt.Color))
	case builder.EventDone:
		v.done(e.Result)
	}
}

// step returns the view of a step, and prints its header when it is new.
func (v *plainView) step(s *builder.StepInfo) *stepView {
	if st, ok := v.steps[s]; ok {
		return st
	}
	if s == &v.unnamed {
		v.steps[s] = &stepView{name: "[no step]", streams: map[string]*cleaner{}}
		return v.steps[s]
	}
	stage := ""
	if name := stageName(s); name != "" {
		stage = "[" + name + "] "
	}
	st := &stepView{name: stepName(s), streams: map[string]*cleaner{}}
	v.steps[s] = st
	v.add(v.opt.Color.paint(v.opt.Color.Run, fmt.Sprintf("Step %d/%d %s: %s", s.Number, s.Total, stage, cut(Line(s.Text)))))
	v.last = s
	return st
}

// add adds lines that are no output of a step.
func (v *plainView) add(lines ...string) {
	v.out = append(v.out, v.folds.leave(v.now)...)
	for _, l := range lines {
		v.out = append(v.out, v.opt.CI.guard(l))
	}
}

// stepName is the prefix of a step's output lines: "[stage 3/9]".
func stepName(s *builder.StepInfo) string {
	name := stageName(s)
	if name == "" {
		return fmt.Sprintf("[%d/%d]", s.Number, s.Total)
	}
	return fmt.Sprintf("[%s %d/%d]", name, s.Number, s.Total)
}

// stageName is a step's stage, after its platform in a build for several: "linux/arm64 build".
func stageName(s *builder.StepInfo) string {
	return strings.TrimSpace(Line(s.Platform) + " " + Line(s.Stage))
}

func (v *plainView) output(e builder.Event) {
	st := v.step(e.Step)
	c := st.streams[e.Stream]
	if c == nil {
		c = &cleaner{color: v.opt.Color.Enabled(), emit: func(line string) {
			v.out = append(v.out, v.folds.enter(e.Step, v.opt.CI.guard(st.name+" "+cut(Line(e.Step.Text))), v.now)...)
			v.out = append(v.out, v.opt.CI.guard(strings.TrimRight(st.name+" "+line, " ")))
			v.last = e.Step
		}}
		st.streams[e.Stream] = c
		st.order = append(st.order, e.Stream)
	}
	c.Write(e.Data)
}

// result adds a line of gobuild's own about a step. It starts with the arrow,
// which no output line can; when another step printed in between, it names the step.
func (v *plainView) result(s *builder.StepInfo, st *stepView, text string) {
	arrow := " ---> "
	if v.last != s {
		arrow += st.name + " "
	}
	v.add(arrow + text)
	v.last = s
}

func (v *plainView) stepDone(e builder.Event) {
	st := v.step(e.Step)
	st.flush()
	delete(v.steps, e.Step)
	switch {
	case e.Err != nil:
		v.result(e.Step, st, v.opt.Color.paint(v.opt.Color.Error,
			fmt.Sprintf("failed after %s: %s", formatDuration(e.Duration), cut(firstLine(cause(e.Err))))))
	case e.Cached:
		v.result(e.Step, st, "Using cache")
	default:
		text := strings.TrimLeft(shortID(e.Digest)+" "+formatDuration(e.Duration), " ")
		if e.Bytes > 0 { // of a layer that is not packed yet the size is not known
			text += " +" + formatSize(e.Bytes)
		}
		v.result(e.Step, st, text+waitText(e))
	}
}

// waitText says what of a step's time was waiting, if people would notice it.
func waitText(e builder.Event) string {
	var parts []string
	for _, w := range e.Waits {
		if w.Duration >= shownWait {
			parts = append(parts, formatDuration(w.Duration)+" for "+w.For)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ", waited " + strings.Join(parts, " and ")
}

// shownWait is the shortest wait that a line tells of.
const shownWait = 500 * time.Millisecond

// cause is what an error says beyond the step it happened in, whose line is in sight.
func cause(err error) string {
	var be *builder.Error
	switch {
	case !errors.As(err, &be):
		return err.Error()
	case be.ExitCode != 0:
		return fmt.Sprintf("exit code %d", be.ExitCode)
	case be.Err != nil:
		return be.Err.Error()
	}
	return err.Error()
}

// flush emits the unfinished lines of a step.
func (st *stepView) flush() {
	for _, name := range st.order {
		st.streams[name].Flush()
	}
}

// flushAll emits what steps that will not end have left, so that nothing they printed is lost.
func (v *plainView) flushAll() {
	for s, st := range v.steps {
		st.flush()
		delete(v.steps, s)
	}
}

func (v *plainView) cache(e builder.Event) {
	st := v.step(e.Step)
	v.result(e.Step, st, cacheText(e))
	if v.opt.Explain {
		v.add(cacheDetails(e)...)
	}
}

// cacheText is what became of a step's key.
func cacheText(e builder.Event) string {
	text := "MISS"
	if e.Cached {
		text = "HIT"
	}
	if e.Text != "" {
		text += ": " + cut(Line(e.Text))
	}
	return text
}

// cacheDetails are what --explain shows besides.
func cacheDetails(e builder.Event) []string {
	lines := make([]string, 0, len(e.Lines))
	for _, l := range e.Lines {
		lines = append(lines, "        "+cut(Line(l)))
	}
	return lines
}

// transferEvery is how often a running transfer is reported.
const transferEvery = 5 * time.Second

func (v *plainView) transfer(e builder.Event) {
	shown, known := v.transfers[e.Text]
	done := e.Total > 0 && e.Bytes >= e.Total
	if known && !done && e.Time.Sub(shown) < transferEvery {
		return
	}
	if done {
		delete(v.transfers, e.Text)
	} else {
		if len(v.transfers) >= maxTransfers {
			clear(v.transfers)
		}
		v.transfers[e.Text] = e.Time
	}
	size := formatSize(e.Bytes)
	switch {
	case e.Cached:
		size += ", exists"
	case done:
		size += ", done"
	case e.Total > 0:
		size += " of " + formatSize(e.Total)
	}
	v.remark(cut(Line(e.Text)) + ": " + size)
}

func noticeText(e builder.Event) string { return "notice: " + Text(e.Text) }

func warningText(e builder.Event, theme Theme) string {
	text := "warning: "
	if e.Rule != "" {
		text += Line(e.Rule) + ": "
	}
	text += Text(e.Text)
	if e.Line > 0 {
		text += fmt.Sprintf(" (line %d)", e.Line)
	}
	return theme.paint(theme.Warning, text)
}

// remark adds lines that belong to no step.
func (v *plainView) remark(text string) {
	v.add(strings.Split(text, "\n")...)
	v.last = nil
}

func (v *plainView) done(r *builder.Result) {
	v.flushAll()
	if r != nil {
		v.remark(strings.Join(resultLines(r), "\n"))
	}
}

// resultLines say what a build made.
func resultLines(r *builder.Result) (lines []string) {
	if id := r.ID(); id != "" {
		lines = append(lines, "Successfully built "+shortID(string(id)))
	}
	for _, t := range r.Tags {
		lines = append(lines, "Successfully tagged "+Line(t))
	}
	for _, p := range r.Pushed {
		lines = append(lines, "Successfully pushed "+Line(p))
	}
	return append(lines, summary(r))
}

// summary is the line of FEATURES O9.
func summary(r *builder.Result) string {
	cached, peak := 0, int64(0)
	for _, s := range r.Steps {
		if s.Cached {
			cached++
		}
		peak = max(peak, s.PeakMem)
	}
	text := fmt.Sprintf("Total %s, cached %d/%d", formatDuration(r.Elapsed), cached, len(r.Steps))
	if len(r.Pushed) > 0 {
		text += fmt.Sprintf(", pushed %d", len(r.Pushed))
	}
	if peak > 0 {
		text += ", peak memory " + formatSize(peak)
	}
	if n := len(r.Warnings); n == 1 {
		text += ", 1 warning"
	} else if n > 1 {
		text += fmt.Sprintf(", %d warnings", n)
	}
	return text
}

// shortID is the form of a digest in a log: the first twelve hex digits.
func shortID(d string) string {
	_, hex, ok := strings.Cut(d, ":")
	if !ok {
		hex = d
	}
	return Line(hex[:min(len(hex), 12)])
}

func formatDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func formatSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return Line(first)
}

// cut shortens a line of a message that nobody would read to its end.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xc0 == 0x80 { // not inside a UTF-8 sequence
		n--
	}
	return s[:n] + "..."
}
