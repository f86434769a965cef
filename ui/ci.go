package ui

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"gobuild/builder"
)

// CI is the system that shows the lines as a log with marks of its own (FEATURES O8).
type CI string

// The systems.
const (
	NoCI   CI = ""
	GitHub CI = "github" // Actions: groups, and errors beside the lines that they are about
	GitLab CI = "gitlab" // sections
)

// folds makes sections of lines that can be folded, of one step each. Neither system knows sections side by side, so a step whose
// lines come after another one's gets a new one.
type folds struct {
	ci     CI
	open   *builder.StepInfo
	name   string // of the open one
	opened int
}

// enter gives the lines that come before a line of a step's output.
func (f *folds) enter(step *builder.StepInfo, name string, at time.Time) []string {
	if f.ci == NoCI || f.open == step {
		return nil
	}
	lines := f.leave(at)
	f.open = step
	f.opened++
	f.name = fmt.Sprintf("gobuild_%d", f.opened)
	if f.ci == GitHub {
		return append(lines, "::group::"+name)
	}
	return append(lines, fmt.Sprintf("\x1b[0Ksection_start:%d:%s\r\x1b[0K%s", at.Unix(), f.name, name))
}

// leave gives the lines that come before any other line.
func (f *folds) leave(at time.Time) []string {
	if f.open == nil {
		return nil
	}
	f.open = nil
	if f.ci == GitHub {
		return []string{"::endgroup::"}
	}
	return []string{fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K", at.Unix(), f.name)}
}

// guard makes a line one that the system does not obey. GitHub's runner obeys a line that begins with :: after blanks, and, in an
// older form, one that has ##[ anywhere. GitLab's marks have control characters, which no line has by now.
func (ci CI) guard(line string) string {
	if ci != GitHub {
		return line
	}
	if trimmed := strings.TrimLeft(line, " "); strings.HasPrefix(trimmed, "::") {
		line = line[:len(line)-len(trimmed)] + `\` + trimmed
	}
	return strings.ReplaceAll(line, "##[", `#\#[`)
}

// annotation is what shows an error beside the lines of a Dockerfile that the system has.
func (ci CI) annotation(err error, dir string) []string {
	var be *builder.Error
	if ci != GitHub || !errors.As(err, &be) || be.Path == "" {
		return nil
	}
	var b strings.Builder
	annotate(&b, "error", shownPath(be.Path, dir), finding{rule: string(be.Category), message: errorText(err), start: be.Pos.Start, end: max(be.Pos.End, be.Pos.Start)})
	return []string{strings.TrimSuffix(b.String(), "\n")}
}

// Summary is what a build did, in Markdown: a table of its steps, and what it made. err is why it failed.
func Summary(res *builder.Result, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "### Build failed\n\n%s\n", markdown(cut(firstLine(err.Error()))))
	} else {
		b.WriteString("### Build\n\n")
	}
	if res == nil {
		return b.String()
	}
	for _, l := range resultLines(res) {
		fmt.Fprintf(&b, "- %s\n", markdown(l))
	}
	b.WriteString("\n| step | | time | size | why it ran |\n|-|-|-:|-:|-|\n")
	for _, s := range res.Steps {
		name := stepName(&builder.StepInfo{Stage: s.Stage, Platform: s.Platform, Number: s.Number, Total: s.Total}) + " " + cut(Line(s.Text))
		what, took := "ran", formatDuration(s.Duration)
		if s.Cached {
			what, took = "reused", ""
		}
		size := ""
		if s.Bytes > 0 {
			size = formatSize(s.Bytes)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", markdown(name), what, took, size, markdown(cut(Line(s.Reason))))
	}
	return b.String()
}

// markdown has a clean text mean itself, also within a table and where HTML is understood.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("\\`*_{}[]()#+-.!|~>@:", r):
			b.WriteString(`\` + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
