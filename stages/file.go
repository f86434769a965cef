package stages

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"gobuild/internal/imageref"
)

// ParseOptions are what the invoker decides about reading a Dockerfile.
type ParseOptions struct {
	BuildArgs    map[string]string // --build-arg: BUILDKIT_SYNTAX and BUILDKIT_DOCKERFILE_CHECK matter here
	IgnoreSyntax bool              // --ignore-syntax: a foreign syntax directive is no error
}

// File is a parsed Dockerfile. It does not change: any number of goroutines may
// plan it at once.
type File struct {
	name     string
	src      []byte
	escape   rune
	labs     bool // the syntax directive asks for the labs channel
	args     []instruction
	stages   []rawStage
	lint     *linter.Config
	warnings []Warning
}

// rawStage is a stage as written.
type rawStage struct {
	instructions.Stage
	pos      Position
	commands []instruction
}

// instruction is a parsed instruction and the tree it came from. The tree is
// kept because expanding a RUN's mounts changes the parsed form, which other
// plans of the same File read.
type instruction struct {
	node    *parser.Node
	cmd     instructions.Command
	pos     Position
	onBuild string // trigger text; pos is then the FROM that fired it
}

// Parse reads a Dockerfile. Errors are of type *Error; name appears in messages
// only. The text is checked as a whole, stages that no target needs included.
func Parse(name string, src []byte, opt ParseOptions) (*File, error) {
	if err := checkText(src); err != nil {
		return nil, err
	}
	f := &File{name: name, src: src}
	if err := f.readSyntax(src, opt); err != nil {
		return nil, err
	}
	if err := f.readCheck(src, opt); err != nil {
		return nil, err
	}
	tree, err := parseTree(src)
	if err != nil {
		return nil, err
	}
	f.escape = tree.EscapeToken
	lint := linter.New(&linter.Config{
		ExperimentalAll: f.lint.ExperimentalAll, ExperimentalRules: f.lint.ExperimentalRules,
		SkipAll: f.lint.SkipAll, SkipRules: f.lint.SkipRules, Warn: collect(&f.warnings),
	})
	for _, w := range tree.Warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL && w.Location != nil {
			lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	for _, node := range tree.AST.Children {
		if err := f.add(node, lint); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Warnings = f.warnings
			}
			return nil, err
		}
	}
	if len(f.stages) == 0 {
		return nil, &Error{Op: "parse " + name, Err: errors.New("no stages to build"), Hint: "start a stage with FROM"}
	}
	f.keepDocs()
	lintStageNames(f.stages, lint)
	lintCasing(f.stages, lint)
	return f, nil
}

// StageNames lists the names of the stages in file order, unnamed ones left out.
func (f *File) StageNames() []string {
	names := make([]string, 0, len(f.stages))
	for i := range f.stages {
		if n := f.stages[i].Name; n != "" {
			names = append(names, n)
		}
	}
	return names
}

// stageName is the name of stage i as shown (B3).
func (f *File) stageName(i int) string {
	switch {
	case f.stages[i].Name != "":
		return f.stages[i].Name
	case len(f.stages) == 1:
		return ""
	}
	return fmt.Sprintf("stage-%d", i)
}

// add appends one instruction to the file.
func (f *File) add(node *parser.Node, lint *linter.Linter) error {
	pos := Position{node.StartLine, node.EndLine}
	if !utf8.ValidString(node.Original) && len(f.warnings) < maxWarnings {
		f.warnings = append(f.warnings, Warning{Rule: NoticeNotUTF8, Pos: pos,
			Message: fmt.Sprintf("line %d is not valid UTF-8: each such byte becomes U+FFFD", pos.Start)})
	}
	v, err := parseInstruction(node, f.escape, lint)
	if err != nil {
		return err
	}
	if st, ok := v.(*instructions.Stage); ok {
		f.stages = append(f.stages, rawStage{Stage: *st, pos: pos})
		return nil
	}
	cmd, ok := v.(instructions.Command)
	if !ok {
		return newError(pos, strings.ToUpper(node.Value), errors.New("is not an instruction of a stage"))
	}
	in := instruction{node: node, cmd: cmd, pos: pos}
	if len(f.stages) > 0 {
		last := &f.stages[len(f.stages)-1]
		last.commands = append(last.commands, in)
		return nil
	}
	if _, ok := cmd.(*instructions.ArgCommand); !ok {
		return &Error{Pos: pos, Op: strings.ToUpper(node.Value), Err: errors.New("no build stage in current context"),
			Hint: "only ARG may stand before the first FROM"}
	}
	f.args = append(f.args, in)
	return nil
}

// checkText refuses what is no Dockerfile at all (A1, A2).
func checkText(src []byte) error {
	const op = "parse Dockerfile"
	switch {
	case len(src) == 0:
		return &Error{Op: op, Err: errors.New("the Dockerfile is empty")}
	case len(src) > maxDockerfile:
		return &Error{Op: op, Err: fmt.Errorf("the Dockerfile has %d bytes, more than the limit of %d", len(src), maxDockerfile)}
	case bytes.HasPrefix(src, []byte{0xff, 0xfe}) || bytes.HasPrefix(src, []byte{0xfe, 0xff}):
		return &Error{Pos: Position{1, 1}, Op: op, Err: errors.New("the text is UTF-16"), Hint: "save the Dockerfile as UTF-8"}
	}
	for line, rest := 1, src; len(rest) > 0; line++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if len(text) > maxLine {
			return &Error{Pos: Position{line, line}, Op: op,
				Err:  fmt.Errorf("the line has %d bytes, more than the limit of %d", len(text), maxLine),
				Hint: "split the line with continuations, or move the data to a file"}
		}
		if bytes.IndexByte(text, 0) >= 0 {
			return &Error{Pos: Position{line, line}, Op: op, Err: errors.New("the line contains a NUL byte"), Hint: "save the Dockerfile as UTF-8"}
		}
	}
	return nil
}

// The images that name the frontend which is built in here (A5).
var knownFrontends = map[string]bool{
	"docker.io/docker/dockerfile":          true,
	"docker.io/docker/dockerfile-upstream": true,
}

// readSyntax interprets the syntax directive: nothing is ever fetched for it.
func (f *File) readSyntax(src []byte, opt ParseOptions) error {
	ref, _, loc, found := parser.DetectSyntax(src)
	pos := Position{}
	if found {
		pos = span(loc)
		pos.Start, pos.End = max(1, pos.Start), max(1, pos.End)
	}
	if v, ok := opt.BuildArgs["BUILDKIT_SYNTAX"]; ok {
		ref, found, pos = v, v != "", Position{}
	}
	if !found || ref == "dockerfile.v0" {
		return nil
	}
	named, err := imageref.Parse(ref)
	if err == nil && knownFrontends[named.Name()] {
		f.labs = strings.Contains(named.Tag, "labs")
		return nil
	}
	if opt.IgnoreSyntax {
		return nil
	}
	return &Error{Pos: pos, Op: "syntax " + quoteShort(ref), Err: fmt.Errorf("frontend %w: only docker/dockerfile is built in", ErrUnsupported),
		Hint: "use --ignore-syntax to read the file as an ordinary Dockerfile"}
}

// readCheck interprets the check directive (E2).
func (f *File) readCheck(src []byte, opt ParseOptions) error {
	_, text, loc, _ := parser.ParseDirective("check", src)
	pos := span(loc)
	if v, ok := opt.BuildArgs["BUILDKIT_DOCKERFILE_CHECK"]; ok {
		text, pos = v, Position{}
	}
	conf, err := linter.ParseLintOptions(text)
	if err != nil {
		return &Error{Pos: pos, Op: "check directive", Err: cause(err), Hint: "the options are skip=, error= and experimental="}
	}
	f.lint = conf
	return nil
}

// parseTree runs the line parser, after making sure that it can bear the text.
func parseTree(src []byte) (*parser.Result, error) {
	const op = "parse Dockerfile"
	if err := checkNesting(src); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		if strings.HasSuffix(err.Error(), "file with no instructions") {
			return nil, &Error{Op: op, Err: errors.New("the Dockerfile has no instructions"), Hint: "start it with FROM"}
		}
		pos := parserPosition(err)
		if msg := err.Error(); strings.HasPrefix(msg, "only one ") || strings.HasPrefix(msg, "invalid escape token") {
			pos = Position{pos.Start + 1, pos.Start + 1} // the parser counts a directive's line from 0
		}
		return nil, &Error{Pos: pos, Op: op, Err: cause(err), Hint: syntaxHint("", cause(err).Error())}
	}
	if n := len(tree.AST.Children); n > maxInstructions {
		at := tree.AST.Children[maxInstructions].StartLine
		return nil, &Error{Pos: Position{at, at}, Op: op, Err: fmt.Errorf("%d instructions, more than the limit of %d", n, maxInstructions)}
	}
	return tree, nil
}

// checkNesting bounds the number of ${ in each instruction that may hold a
// heredoc: looking for them, the line parser expands the instruction's text,
// recursively and with a copy at each level. Groups of lines are taken too large
// rather than too small: what is inside a heredoc is not known here.
func checkNesting(src []byte) error {
	escape := escapeOf(src)
	var logical strings.Builder
	start, line, inside := 1, 1, false
	for rest := src; len(rest) > 0; line++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte{'\n'})
		trimmed := bytes.TrimLeftFunc(text, unicode.IsSpace)
		if inside && (len(trimmed) == 0 || trimmed[0] == '#') {
			continue // dropped from the middle of an instruction
		}
		if !inside {
			if err := checkLexed(logical.String(), Position{start, line - 1}); err != nil {
				return err
			}
			logical.Reset()
			start = line
		}
		text = bytes.TrimRight(text, " \t\r")
		inside = bytes.HasSuffix(text, []byte{escape})
		logical.Write(bytes.TrimSuffix(text, []byte{escape}))
	}
	return checkLexed(logical.String(), Position{start, line - 1})
}

func checkLexed(text string, pos Position) error {
	if strings.Contains(text, "<<") && strings.Count(text, "${") > maxLexed {
		return &Error{Pos: pos, Op: "parse Dockerfile", Err: fmt.Errorf("%w: more than %d variables beside a heredoc", errNesting, maxLexed)}
	}
	return nil
}

// escapeOf finds the escape directive as the line parser does. A directive that
// it will refuse does not matter here.
func escapeOf(src []byte) byte {
	var p parser.DirectiveParser
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	for len(src) > 0 {
		var text []byte
		text, src, _ = bytes.Cut(src, []byte{'\n'})
		d, err := p.ParseLine(bytes.TrimLeftFunc(bytes.TrimRight(text, "\r"), unicode.IsSpace))
		if err != nil || d == nil {
			break
		}
		if d.Name == "escape" && d.Value == "`" {
			return '`'
		}
	}
	return '\\'
}

// collect returns a warning sink for the linter.
func collect(to *[]Warning) linter.LintWarnFunc {
	return func(rule, description, url, message string, location []parser.Range) {
		if len(*to) < maxWarnings {
			*to = append(*to, Warning{Rule: rule, Description: description, URL: url, Message: message, Pos: span(location)})
		}
	}
}
