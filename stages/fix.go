package stages

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Change is one thing that Fix rewrote.
type Change struct {
	Rule string
	Line int    // of the text before
	What string // for people, one line
}

// maxFixRounds is how often the rules are applied: what one makes of a line may
// concern another, but nothing concerns the same one twice.
const maxFixRounds = 5

// Fix rewrites what some rules find where that decides nothing: casing, blank
// lines in continuations, ENV and LABEL without =, MAINTAINER, and the order of
// package lists (FEATURES E4). What a comment or the directive skips stays. The
// text around it is kept byte for byte: comments, line ends, heredocs, a byte order
// mark. Fix of its own result changes nothing.
func (f *File) Fix() ([]byte, []Change, error) {
	fx := &fixer{file: f, src: f.src, lines: lineNumbers(f.src)}
	if err := fx.round((*fixer).blankLines); err != nil {
		return nil, nil, err
	}
	for range maxFixRounds {
		before := len(fx.changes)
		if err := fx.round((*fixer).rewrites); err != nil {
			return nil, nil, err
		}
		if len(fx.changes) == before {
			break
		}
	}
	if err := f.sameAs(fx.src); err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(fx.changes, func(a, b Change) int { return a.Line - b.Line })
	return fx.src, fx.changes, nil
}

// fixer is a text on its way.
type fixer struct {
	file    *File
	src     []byte
	lines   []int // for each line of src its number in the text before
	starts  []int // for each line of src its offset
	nodes   []*parser.Node
	edits   []edit
	changes []Change
}

// edit replaces the bytes from start to end.
type edit struct {
	start, end int
	text       string
}

func lineNumbers(src []byte) []int {
	numbers := make([]int, bytes.Count(src, []byte("\n"))+1)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}

// round parses the text, lets find collect edits, and applies them.
func (fx *fixer) round(find func(*fixer)) error {
	tree, err := parseTree(fx.src)
	if err != nil {
		return err
	}
	fx.nodes, fx.edits, fx.starts = tree.AST.Children, nil, fx.starts[:0]
	for at := 0; at >= 0 && at <= len(fx.src); {
		fx.starts = append(fx.starts, at)
		next := bytes.IndexByte(fx.src[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	find(fx)
	slices.SortFunc(fx.edits, func(a, b edit) int { return a.start - b.start })
	var out []byte
	at := 0
	for _, e := range fx.edits {
		out = append(append(out, fx.src[at:e.start]...), e.text...)
		at = e.end
	}
	fx.src = append(out, fx.src[at:]...)
	return nil
}

// blankLines is the fix of E12. It is a round of its own, as it changes the
// numbers of lines.
func (fx *fixer) blankLines() {
	kept := slices.Clone(fx.lines)
	for _, node := range fx.nodes {
		l, ok := fx.layout(node)
		if !ok || !fx.wanted(linter.RuleNoEmptyContinuation.Name, node) {
			continue
		}
		for _, n := range l.blank {
			end := len(fx.src)
			if n < len(fx.starts) {
				end = fx.starts[n]
			}
			fx.edits = append(fx.edits, edit{fx.starts[n-1], end, ""})
			fx.say(linter.RuleNoEmptyContinuation.Name, n, "removed the blank line")
			kept[n-1] = 0
		}
	}
	fx.lines = slices.DeleteFunc(kept, func(n int) bool { return n == 0 })
}

func (fx *fixer) say(rule string, line int, what string) {
	fx.changes = append(fx.changes, Change{rule, fx.lines[line-1], cut(what, maxCause)})
}

// wanted says that a rule is not skipped for an instruction.
func (fx *fixer) wanted(rule string, node *parser.Node) bool {
	asked := false
	conf := *fx.file.lint
	conf.Warn = func(_, _, _, _ string, _ []parser.Range) { asked = true }
	linter.New(&conf).WithMergedConfigFromComments(node.PrevComment).Run(anyRule(rule), nil)
	return asked
}

// anyRule is a rule of which only the name matters.
type anyRule string

func (r anyRule) RuleName() string     { return string(r) }
func (r anyRule) IsDeprecated() bool   { return false }
func (r anyRule) IsExperimental() bool { return false }

func (r anyRule) Run(warn linter.LintWarnFunc, location []parser.Range, _ ...string) {
	warn(string(r), "", "", "", location)
}

// layout is an instruction as the line parser joins it, and where it came from.
type layout struct {
	text  string // the logical line: comments, blank lines and continuations dropped
	at    []int  // for each byte of text its offset in the file
	blank []int  // numbers of the blank lines inside
}

// layout finds it; ok is false where that is not surely what the parser saw.
func (fx *fixer) layout(node *parser.Node) (l layout, ok bool) {
	escape := byte(fx.file.escape)
	var text strings.Builder
	for n := node.StartLine; n <= node.EndLine && n <= len(fx.starts); n++ {
		start := fx.starts[n-1]
		line := fx.src[start:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i]
		}
		if n == 1 {
			bare := bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			start, line = start+len(line)-len(bare), bare
		}
		line = bytes.TrimRight(line, "\r\n")
		inner := bytes.TrimLeftFunc(line, isSpace)
		if n == node.StartLine {
			start, line = start+len(line)-len(inner), inner
		} else if len(inner) == 0 {
			l.blank = append(l.blank, n)
			continue
		} else if inner[0] == '#' {
			continue
		}
		line, more := cutContinuation(line, escape)
		text.Write(line)
		for i := range line {
			l.at = append(l.at, start+i)
		}
		if !more {
			break
		}
	}
	l.text = text.String()
	return l, l.text == node.Original
}

// cutContinuation is A10.
func cutContinuation(line []byte, escape byte) (rest []byte, more bool) {
	trimmed := bytes.TrimRight(line, " \t")
	n := len(trimmed)
	if n == 0 || trimmed[n-1] != escape || n > 1 && trimmed[n-2] == escape {
		return line, false
	}
	return trimmed[:n-1], true
}

// edit is the replacement of text[from:to], which must stand in one piece.
func (l *layout) edit(from, to int, text string) (edit, bool) {
	switch {
	case from == to && from > 0:
		at := l.at[from-1] + 1
		return edit{at, at, text}, true
	case from >= to || l.at[to-1]-l.at[from] != to-1-from:
		return edit{}, false
	}
	return edit{l.at[from], l.at[to-1] + 1, text}, true
}

var errFixDiffers = errors.New("the rewritten Dockerfile would not mean the same")

// sameAs checks what Fix promises of its result.
func (f *File) sameAs(src []byte) error {
	fail := func(err error) error {
		return &Error{Op: "fix " + f.name, Err: err, Hint: "nothing was changed; please report this Dockerfile as a bug"}
	}
	before, err := parseTree(f.src)
	if err != nil {
		return fail(err)
	}
	after, err := parseTree(src)
	if err != nil {
		return fail(err)
	}
	if len(before.AST.Children) != len(after.AST.Children) || before.EscapeToken != after.EscapeToken {
		return fail(errFixDiffers)
	}
	for i, node := range before.AST.Children {
		if !sameInstruction(node, after.AST.Children[i], f.escape) {
			return fail(errFixDiffers)
		}
	}
	return nil
}
