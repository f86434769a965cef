package stages

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"gobuild/internal/lazyre"
)

// ErrNotAllowed is wrapped by the error of an instruction that asks for a
// privilege which the invoker has not granted with --allow.
var ErrNotAllowed = errors.New("not allowed")

// ErrUnsupported is wrapped by the error of an instruction that uses a feature
// of the Dockerfile language which gobuild does not have.
var ErrUnsupported = errors.New("not supported")

// Error is every error of this package.
type Error struct {
	Pos     Position // lines of the instruction; zero when no line is to blame
	Op      string   // what failed, such as "COPY" or "parse Dockerfile"
	Hint    string   // what the user can do about it, "" when that is unknown
	Err     error    // the cause
	OnBuild string   // trigger text, when the instruction is one of the base's; Pos is then the FROM

	Warnings []Warning // found before the error, when planning failed
}

// Error is the operation and the cause. The position, trigger and hint are for
// whoever shows the error.
func (e *Error) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Remedy is the hint, in the form in which callers look for one.
func (e *Error) Remedy() string { return e.Hint }

// hinted is an error on its way to becoming an Error: code that does not know
// the instruction attaches a hint with it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

func withHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{err, hint}
}

// newError makes the Error of an instruction, taking over a hint found in err.
// An err that is an Error already passes unchanged.
func newError(pos Position, op string, err error) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Pos: pos, Op: op, Err: err}
	var h *hinted
	if errors.As(err, &h) {
		e.Hint, e.Err = h.hint, h.error
	}
	return e
}

var didYouMeanSuffix = lazyre.New(` \(did you mean .*\?\)$`)

// cause reduces an error of the parser packages to its message: their wrappers
// carry stacks and positions that Error has in its own form, and a suggestion
// whose limits are not ours.
func cause(err error) error {
	msg := didYouMeanSuffix.ReplaceAllString(err.Error(), "")
	return errors.New(cut(strings.ReplaceAll(msg, "\n", " "), maxCause))
}

// quoteShort quotes a word for a message without repeating a megabyte of it.
func quoteShort(s string) string {
	s = cut(s, maxQuoted)
	if strings.ContainsAny(s, `"\\`) {
		return fmt.Sprintf("%#q", s) // in backquotes where that is possible: easier to read
	}
	return fmt.Sprintf("%q", s)
}

// cut shortens s to about n bytes at a character boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// span is the first and last line of the parser's ranges.
func span(ranges []parser.Range) Position {
	var p Position
	for _, r := range ranges {
		if p.Start == 0 || r.Start.Line < p.Start {
			p.Start = r.Start.Line
		}
		p.End = max(p.End, r.End.Line)
	}
	return p
}

// parserPosition finds the lines in an error of the parser, zero if it has none.
func parserPosition(err error) Position {
	var loc *parser.LocationError
	if !errors.As(err, &loc) || len(loc.Locations) == 0 {
		return Position{}
	}
	return span(loc.Locations[0])
}
