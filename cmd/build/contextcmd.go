package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

func contextCommand() command {
	return command{
		name: "context", group: "Building", args: "[PATH...]", short: "Show what of the context a build can use, and what is ignored",
		long: `Show what the build context holds after the ignore file. Without a path: how much is in and
how much is ignored by which pattern, the patterns that match nothing, the size of each
folder and the largest files. With paths, which are relative to the context: for each of
them whether it is in, and the line of the ignore file that decides.

  gobuild context                       the context is the working directory
  gobuild context --dir app src/a.go    is app/src/a.go in?`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "dir", kind: kindString, arg: "DIR", text: "context directory (default .)"},
				{name: "file", short: "f", kind: kindString, arg: "FILE", text: "Dockerfile, whose name may have an ignore file of its own"},
				{name: "ignorefile", kind: kindString, arg: "FILE", text: "ignore file in place of .dockerignore"},
				{name: "json", kind: kindBool, text: "as JSON"},
			}
		},
		run: (*app).showContext,
	}
}

func (a *app) showContext(ctx context.Context, args []string) error {
	f := a.flags
	var opt builder.Options
	dir := "."
	if f.given("dir") {
		dir = f.str("dir")
	}
	var err error
	if opt.Context, err = contextDirectory(dir); err != nil {
		return err
	}
	switch file := f.str("file"); {
	case file == "-":
		opt.DockerfileText = []byte{} // its text does not matter, and it has no neighbours
	case file != "":
		if opt.Dockerfile, err = existingFile("file", file); err != nil {
			return err
		}
	}
	if opt.IgnoreFile, err = existingFile("ignorefile", f.str("ignorefile")); err != nil {
		return err
	}
	info, err := builder.DescribeContext(ctx, opt, args)
	if err != nil {
		return err
	}
	switch {
	case f.is("json"):
		return a.printJSON(info)
	case len(args) > 0:
		return a.print(pathLines(info)...)
	}
	return a.print(contextLines(info)...)
}

// pathLines answer about paths.
func pathLines(info *builder.ContextInfo) []string {
	t := ui.Table{Header: []string{"STATE", "PATH", "RULE", "BELOW"}}
	for _, p := range info.Paths {
		state, name, rule, below := p.State, p.Path, "-", ""
		if p.State == builder.PathMissing && p.Ignored {
			state = "missing, ignored"
		}
		if p.Real != "" {
			name += " -> " + p.Real
		}
		if p.Pattern != "" {
			rule = fmt.Sprintf("%s:%d: %s", shortPath(info, info.IgnoreFile), p.Line, p.Pattern)
		}
		if p.Below != nil {
			below = fmt.Sprintf("%d in, %d ignored", p.Below.In.Files, p.Below.Ignored.Files)
		}
		t.Rows = append(t.Rows, []string{state, name, rule, below})
	}
	return append(t.Lines(), unreadableLines(info)...)
}

// maxFolderLines bounds the folders shown to people; --json has all.
const maxFolderLines = 20

func contextLines(info *builder.ContextInfo) []string {
	head := "Context " + ui.Line(info.Context)
	if info.IgnoreFile != "" {
		head += ", ignore file " + ui.Line(shortPath(info, info.IgnoreFile))
	} else {
		head += ", no ignore file"
	}
	total := ui.Table{Right: []bool{false, true, true}, Header: []string{"", "FILES", "SIZE"}, Rows: [][]string{
		append([]string{"in"}, amount(info.In)...), append([]string{"ignored"}, amount(info.Ignored)...),
	}}
	lines := append([]string{head, ""}, total.Lines()...)
	lines = append(lines, ruleLines(info)...)
	lines = append(lines, section("Folders", folderTable(info))...)
	if hidden := len(info.Folders) - maxFolderLines; hidden > 0 {
		lines = append(lines, fmt.Sprintf("and %d more folders (--json has all)", hidden))
	}
	largest := ui.Table{Header: []string{"SIZE", "PATH"}, Right: []bool{true}}
	for _, f := range info.Largest {
		largest.Rows = append(largest.Rows, []string{byteSize(f.Bytes), f.Path})
	}
	lines = append(lines, section("Largest files", largest)...)
	return append(lines, unreadableLines(info)...)
}

// ruleLines are the patterns by what they do.
func ruleLines(info *builder.ContextInfo) []string {
	header, right := []string{"FILES", "SIZE", "LINE", "PATTERN"}, []bool{true, true, true}
	ignore, keep := ui.Table{Header: header, Right: right}, ui.Table{Header: header, Right: right}
	overruled, unused := ui.Table{Header: header[2:], Right: right[2:]}, ui.Table{Header: header[2:], Right: right[2:]}
	for _, r := range info.Rules {
		short := []string{fmt.Sprint(r.Line), r.Pattern}
		long := append(amount(r.Amount), short...)
		switch {
		case !r.Matched:
			unused.Rows = append(unused.Rows, short)
		case r.Files == 0:
			overruled.Rows = append(overruled.Rows, short)
		case r.Keeps:
			keep.Rows = append(keep.Rows, long)
		default:
			ignore.Rows = append(ignore.Rows, long)
		}
	}
	lines := section("Ignored by", ignore)
	lines = append(lines, section("Kept by", keep)...)
	lines = append(lines, section("Patterns that decide on no file: later ones do, or the folder is empty", overruled)...)
	return append(lines, section("Patterns that match nothing", unused)...)
}

// section is a table with a title; an empty one is left out.
func section(title string, t ui.Table) []string {
	if len(t.Rows) == 0 {
		return nil
	}
	return append([]string{"", title}, t.Lines()...)
}

func folderTable(info *builder.ContextInfo) ui.Table {
	t := ui.Table{Header: []string{"FILES", "SIZE", "IGNORED", "FOLDER"}, Right: []bool{true, true, true}}
	for _, f := range info.Folders[:min(len(info.Folders), maxFolderLines)] {
		t.Rows = append(t.Rows, append(amount(f.In), byteSize(f.Ignored.Bytes), f.Name))
	}
	return t
}

func unreadableLines(info *builder.ContextInfo) []string {
	var lines []string
	for _, dir := range info.Unreadable {
		lines = append(lines, "not counted, for it cannot be read: "+ui.Line(dir))
	}
	return lines
}

func amount(a builder.Amount) []string { return []string{fmt.Sprint(a.Files), byteSize(a.Bytes)} }

func byteSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// shortPath is a path relative to the context where it lies in it.
func shortPath(info *builder.ContextInfo, path string) string {
	if rel, err := filepath.Rel(info.Context, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
