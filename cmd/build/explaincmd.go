package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"gobuild/builder"
	"gobuild/history"
	"gobuild/ui"
)

func explainCommand() command {
	return command{
		name: "explain", group: "State", args: "[BUILD [BUILD]]", short: "Say why the steps of a build ran",
		long: `Say of the last build, or of another one, why its steps were not taken from the cache: first
the cause, with what was there before and what is there now, then the steps that ran because
of it and the time that each cost. With two builds, say what first differs between them.
Builds are named as for gobuild history.`,
		flags: func() []flagSpec {
			return []flagSpec{{name: "format", kind: kindString, arg: "FORMAT", text: "text or json"}}
		},
		run: func(a *app, _ context.Context, args []string) error {
			if err := errors.Join(atMost("explain", 2, args), checkFormat(a.flags.str("format"), "text", "json")); err != nil {
				return err
			}
			if len(args) == 2 {
				return a.buildCompare(args)
			}
			return a.oneBuild(args, func(_ *builder.Builder, rec history.Record) error {
				e := builder.ExplainBuild(rec)
				if a.flags.str("format") == "json" {
					return a.printJSON(e)
				}
				return a.print(explainLines(e)...)
			})
		},
	}
}

// explainLines is the form for people: a cause, what else differs, what was lost by it.
func explainLines(e builder.Explanation) []string {
	head := fmt.Sprintf("build %s of %s, %s: %d of %d steps reused, %s", e.Build, ui.Line(e.Project), ago(e.Begun), e.Cached, e.Steps, elapsed(e.Elapsed))
	if e.Saved > 0 {
		head += fmt.Sprintf(" (the cache saved %s)", elapsed(e.Saved))
	}
	lines := []string{head}
	for _, c := range e.Chains {
		lines = append(lines, "", stepLine("", c.Step), "  "+ui.Line(cmp.Or(c.Headline, "it ran")))
		for _, also := range c.Step.Causes[min(1, len(c.Step.Causes)):] {
			lines = append(lines, "  "+ui.Line(also.Text))
		}
		if len(c.Lost) == 0 {
			continue
		}
		lines = append(lines, fmt.Sprintf("  and because of it, %s in all:", elapsed(c.Cost)))
		for _, s := range c.Lost {
			lines = append(lines, stepLine("    ", s))
			if len(s.Causes) > 0 && s.Causes[0].Kind != "upon" {
				lines = append(lines, "      "+ui.Line(s.Reason))
			}
		}
	}
	return lines
}

func stepLine(indent string, s history.Step) string {
	text := ui.Line(s.Text)
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:57], "") + "..."
	}
	line := fmt.Sprintf("%sline %d  %s  %s", indent, s.Line, text, elapsed(s.Duration))
	if s.Failed {
		line += "  failed"
	}
	return line
}

func (a *app) buildCompare(args []string) error {
	if len(args) == 0 {
		return hint(usagef("gobuild history compare takes a build or two"), "gobuild history compare ^1")
	}
	if err := errors.Join(atMost("history compare", 2, args), checkFormat(a.flags.str("format"), "text", "table", "json")); err != nil {
		return err
	}
	return a.oneBuild(args, func(b *builder.Builder, first history.Record) error {
		second := ""
		if len(args) == 2 {
			second = args[1]
		}
		other, err := b.BuildRecord(second)
		if err != nil {
			return err
		}
		c, err := b.CompareBuilds(first, other)
		if err != nil {
			return err
		}
		if a.flags.str("format") == "json" {
			return a.printJSON(c)
		}
		return a.print(compareLines(c)...)
	})
}

// compareLines is the form for people, the first cause first.
func compareLines(c builder.Comparison) []string {
	lines := []string{fmt.Sprintf("build %s (%s) and build %s (%s)", c.A, elapsed(c.ElapsedA), c.B, elapsed(c.ElapsedB))}
	switch {
	case c.Step != nil:
		lines = append(lines, "first difference: "+stepLine("", *c.Step), "  "+ui.Line(cmp.Or(c.First, "its key differs")))
		for _, also := range c.Causes[min(1, len(c.Causes)):] {
			lines = append(lines, "  "+ui.Line(also.Text))
		}
	case c.First != "":
		lines = append(lines, "first difference: "+ui.Line(c.First))
	default:
		lines = append(lines, "their steps have the same keys")
	}
	for _, list := range [][]history.Cause{c.Arguments, c.Bases} {
		for _, d := range list {
			lines = append(lines, ui.Line(d.Text))
		}
	}
	if c.SameResults {
		return append(lines, "the same image: "+cmp.Or(c.Result[0], "none"))
	}
	return append(lines, fmt.Sprintf("images: %s and %s", cmp.Or(c.Result[0], "none"), cmp.Or(c.Result[1], "none")))
}

// maskArguments is a command line as a record may keep it (FEATURES P1): without values that may be secret.
func maskArguments(args []string) []string {
	pairs := map[string]bool{"--build-arg": true, "--env": true, "--label": true, "--annotation": true}
	whole := map[string]bool{"--creds": true, "--decryption-key": true}
	out := make([]string, 0, len(args))
	previous := ""
	for _, arg := range args {
		flag, value, joined := strings.Cut(arg, "=")
		if !joined || !strings.HasPrefix(arg, "--") {
			flag, value = previous, arg
		}
		prefix := strings.TrimSuffix(arg, value)
		switch {
		case whole[flag]:
			value = "***"
		case pairs[flag]:
			if name, v, ok := strings.Cut(value, "="); ok {
				value = name + "=" + builder.MaskValue(name, v)
			}
		default:
			value = builder.MaskValue("", value)
		}
		out = append(out, prefix+value)
		previous = ""
		if strings.HasPrefix(arg, "--") && !joined {
			previous = arg
		}
	}
	return out
}
