package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gobuild/builder"
	"gobuild/ui"
)

// dryRun says on standard output what a build would do (FEATURES I15).
func (a *app) dryRun(ctx context.Context, opt builder.Options, args []string, asJSON bool) (err error) {
	cleanup, err := a.fillContext(&opt, a.flags, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	if err := stdinTaken(&opt, a.flags, a.stdin); err != nil {
		return err
	}
	var f *builder.Forecast
	err = a.withBuilder(func(b *builder.Builder) (err error) {
		f, err = b.DryRun(ctx, opt)
		return err
	})
	if err = because(ctx, err); err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(f)
	}
	return a.print(forecastLines(f, opt.Explain)...)
}

// forecastLines is the form for people: every step with what would become of it, with --explain all the causes.
func forecastLines(f *builder.Forecast, explain bool) []string {
	var lines []string
	for _, stage := range f.Stages {
		name := stage.Name
		if name == "" {
			name = fmt.Sprint(stage.Index)
		}
		lines = append(lines, fmt.Sprintf("stage %s from %s (%s)", ui.Line(name), ui.Line(sourceName(stage.Base)), stage.Platform))
		for _, s := range stage.Steps {
			lines = append(lines, fmt.Sprintf("  Step %d/%d : %s (line %d)", s.Number, s.Total, ui.Line(s.Text), s.Line), "    "+verdictLine(s))
			if explain {
				for _, c := range s.Causes[min(1, len(s.Causes)):] {
					lines = append(lines, "      "+ui.Line(c.Text))
				}
			}
		}
	}
	sum := fmt.Sprintf("%d cached, %d would run, %d unknown", f.Cached, f.Run, f.Unknown)
	if f.Expected > 0 {
		sum += fmt.Sprintf("; those that are not cached took %s in the last build", elapsed(f.Expected))
	}
	return append(lines, sum)
}

func verdictLine(s builder.ForecastStep) string {
	var words []string
	switch s.Verdict {
	case builder.VerdictCached:
		if s.Reason != "same key" {
			words = append(words, ui.Line(s.Reason))
		}
	case builder.VerdictRun, builder.VerdictUnknown:
		words = append(words, ui.Line(s.Reason))
	}
	if s.Expected >= time.Second {
		words = append(words, "took "+elapsed(s.Expected))
	}
	text := string(s.Verdict)
	if s.Verdict == builder.VerdictRun {
		text = "would run"
	}
	if len(words) == 0 {
		return text
	}
	return text + ": " + strings.Join(words, "; ")
}
