package main

import (
	_ "embed" // the template
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gobuild/history"
	"gobuild/ui"
)

// reportTemplate is a page without scripts that may load nothing. html/template escapes what it is given by where it stands.
//
//go:embed report.html
var reportTemplate string

// reportPage is what the template shows. Text of people and programs goes through ui.Line, so that no control character or change of
// direction is left in it.
type reportPage struct {
	Project, Name, Image, ID, Begun, Elapsed, Saved, Reused, Revision, Platform, Target, Arguments, Version string

	Tags, Pushed, BuildArgs, Warnings []string
	Error                             *history.Failure
	Bases                             []history.Base
	Steps                             []reportStep
	Graph                             *reportGraph
	OtherLog                          string
	LogClipped                        bool
}

type reportStep struct {
	Index, Line                  int
	Label, Text, Why, Log, Class string
	Duration, CPU, Memory, Layer string
	Left, Width                  string // percent of the timeline
	Causes                       []string
}

func writeReport(w io.Writer, rec history.Record, logs *reportLogs) error {
	t, err := template.New("report").Parse(reportTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, newReportPage(rec, logs))
}

func newReportPage(rec history.Record, logs *reportLogs) reportPage {
	p := reportPage{
		Project: ui.Line(rec.Project), Name: ui.Line(rec.Name), ID: rec.ID, Begun: rec.Begun.Format(time.RFC3339), Elapsed: elapsed(rec.Elapsed), Reused: reused(rec.Steps),
		Revision: rec.Revision, Platform: ui.Line(rec.Platform), Target: ui.Line(rec.Target), Arguments: ui.Line(strings.Join(rec.Arguments, " ")), Version: buildVersion().Version,
		Image: rec.Config.String(), Tags: shownLines(rec.Tags), Pushed: shownLines(rec.Pushed), Warnings: shownLines(rec.Warnings), Graph: stageGraph(rec.Stages), LogClipped: rec.LogClipped,
	}
	for _, name := range sortedKeys(rec.BuildArgs) {
		p.BuildArgs = append(p.BuildArgs, ui.Line(name+"="+rec.BuildArgs[name]))
	}
	for _, b := range rec.Bases {
		b.Stage, b.Name = ui.Line(b.Stage), ui.Line(b.Name)
		p.Bases = append(p.Bases, b)
	}
	if rec.Error != nil {
		e := *rec.Error
		e.Message, e.Hint = ui.Text(e.Message), ui.Line(e.Hint)
		if e.Step != nil {
			e.Step = &history.Place{Line: e.Step.Line, Text: ui.Line(e.Step.Text)}
		}
		p.Error = &e
	}
	var saved time.Duration
	shown := map[int]bool{} // lines whose log stands there already: several platforms have one
	for i, s := range rec.Steps {
		step := newReportStep(i, s, rec.Elapsed)
		if !shown[s.Line] {
			step.Log, shown[s.Line] = logs.text(s.Line), true
		}
		saved += s.Saved
		p.Steps = append(p.Steps, step)
	}
	if saved > 0 {
		p.Saved = elapsed(saved)
	}
	if !shown[0] {
		p.OtherLog = logs.text(0)
	}
	return p
}

func shownLines(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, ui.Line(s))
	}
	return out
}

func newReportStep(i int, s history.Step, total time.Duration) reportStep {
	out := reportStep{Index: i + 1, Line: s.Line, Text: ui.Line(s.Text), Label: stepLabel(s), Duration: elapsed(s.Duration), Class: "ran", Why: ui.Line(s.Reason)}
	switch {
	case s.Failed:
		out.Class = "failed"
	case s.Cached:
		out.Class, out.Why = "cached", "reused: "+out.Why
		if s.Saved > 0 {
			out.Why += "; it took " + elapsed(s.Saved) + " when it ran"
		}
	}
	for _, w := range s.Waits {
		out.Why += "; waited " + elapsed(w.Duration) + " for " + ui.Line(w.For)
	}
	for _, c := range s.Causes {
		out.Causes = append(out.Causes, ui.Line(c.Text))
	}
	if s.CPU > 0 {
		out.CPU = elapsed(s.CPU)
	}
	if s.PeakMem > 0 {
		out.Memory = units.HumanSizeWithPrecision(float64(s.PeakMem), 3)
	}
	if s.Bytes > 0 {
		out.Layer = units.HumanSizeWithPrecision(float64(s.Bytes), 3)
	}
	out.Left, out.Width = percent(s.Start, total), percent(s.Duration, total)
	return out
}

// stepLabel is how a step is called in the output of a build.
func stepLabel(s history.Step) string {
	label := fmt.Sprintf("%d/%d", s.Number, s.Total)
	if s.Stage != "" {
		label = ui.Line(s.Stage) + " " + label
	}
	return label
}

func percent(part, whole time.Duration) string {
	if whole <= 0 || part < 0 {
		return "0"
	}
	return strconv.FormatFloat(min(100, 100*float64(part)/float64(whole)), 'f', 2, 64)
}
