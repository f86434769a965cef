package ui

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"gobuild/builder"
)

// remedier is an error that knows what to do about it.
type remedier interface{ Remedy() string }

// remedy is the hint of the outermost error that has one.
func remedy(err error) string {
	for err != nil {
		var r remedier
		if !errors.As(err, &r) {
			return ""
		}
		if hint := r.Remedy(); hint != "" {
			return hint
		}
		next, ok := r.(error)
		if !ok {
			return ""
		}
		err = errors.Unwrap(next)
	}
	return ""
}

// errorBlock is the one block that ends a failed command (FEATURES F1).
func errorBlock(err error, opt *Options) []string {
	lines := indentRest("error: ", err.Error())
	lines[0] = opt.Color.paint(opt.Color.Error, "error:") + strings.TrimPrefix(lines[0], "error:")

	var be *builder.Error
	if !errors.As(err, &be) {
		be = &builder.Error{}
	}
	lines = append(lines, excerpt(be, opt)...)
	if hint := remedy(err); hint != "" {
		lines = append(lines, indentRest("hint: ", hint)...)
	}
	if be.Step != nil && be.ExitCode != 0 {
		lines = append(lines, failedRun(be, opt)...)
	}
	for _, other := range be.Others {
		lines = append(lines, "also failed: "+cut(firstLine(other.Error())))
	}
	return lines
}

// indentRest gives the lines of a text from outside, the first behind a prefix
// and the others indented, so that none of them looks like a line of gobuild.
func indentRest(prefix, s string) []string {
	lines := strings.Split(strings.TrimRight(Text(s), "\n"), "\n")
	for i, l := range lines {
		if i == 0 {
			lines[i] = prefix + cut(l)
		} else {
			lines[i] = "  " + cut(l)
		}
	}
	return lines
}

// excerpt shows the failing lines of the Dockerfile and some around them.
func excerpt(e *builder.Error, opt *Options) []string {
	if e.File == "" || e.Pos.Start <= 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%s:%d", Line(shownPath(e.File, opt.Dir)), e.Pos.Start)}
	end := max(e.Pos.End, e.Pos.Start)
	last := len(e.Source)
	if last > end && e.Source[last-1] == "" { // what follows the last newline is no line
		last--
	}
	from, to := max(e.Pos.Start-excerptAround, 1), min(end+excerptAround, last)
	width := len(strconv.Itoa(to))
	for n := from; n <= to; n++ {
		failing := n >= e.Pos.Start && n <= end
		if failing && n == e.Pos.Start+maxExcerpt && end-n > 1 {
			lines = append(lines, fmt.Sprintf(">>> %*s | (%d more lines)", width, "", end-n+1))
			n = end
			continue
		}
		mark := "   "
		if failing {
			mark = opt.Color.paint(opt.Color.Error, ">>>")
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s %*d | %s", mark, width, n, cut(Line(e.Source[n-1]))), " "))
	}
	return lines
}

// shownPath is file relative to dir when it lies below it.
func shownPath(file, dir string) string {
	if dir == "" || !filepath.IsAbs(file) {
		return file
	}
	rel, err := filepath.Rel(dir, file)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return file
	}
	return rel
}

// failedRun repeats the end of a RUN's output, and names the step and its exit code.
func failedRun(e *builder.Error, opt *Options) []string {
	tail := e.Tail[max(len(e.Tail)-maxTail, 0):]
	var lines []string
	if len(tail) > 0 {
		lines = append(lines, fmt.Sprintf("last output of step %s:", stepName(e.Step)))
	}
	c := cleaner{color: opt.Color.Enabled(), emit: func(l string) {
		lines = append(lines, strings.TrimRight("  | "+l, " "))
	}}
	for _, l := range tail {
		c.Write([]byte(l))
		c.Write([]byte("\n"))
		c.state = ground // a sequence left open must not swallow the next line
	}
	return append(lines, fmt.Sprintf("step %s %s: exit code %d", stepName(e.Step), cut(Line(e.Step.Text)), e.ExitCode))
}
