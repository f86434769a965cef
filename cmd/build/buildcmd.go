package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gobuild/builder"
	"gobuild/stages"
	"gobuild/ui"
)

func buildCommand() command {
	return command{
		name: "build", group: "Building", args: "CONTEXT", short: "Build an image from a Dockerfile",
		long: `Build an image from the Dockerfile of a context directory.

  gobuild -t example.com/app .                        keep the image under a name
  gobuild -f deploy/Dockerfile -t app --push .        build and push
  gobuild -o type=oci,dest=app.tar .                  write an OCI archive
  gobuild -o out --target binaries .                  write the files of a stage
  gobuild --explain .                                 say why each step ran

Every flag may also be set as GOBUILD_<FLAG>. Flags of docker build, buildx, buildah
and kaniko are known: those that cannot be obeyed say what to use.`,
		flags:  buildFlags,
		run:    (*app).build,
		rights: buildRights,
	}
}

// buildRights: what only reads needs none.
func buildRights(f flags) rights {
	c, err := callWanted(f)
	switch {
	case err != nil || c.method != callBuild:
		return rightsOwn
	case f.is("dry-run"):
		return rightsLayers
	}
	return rightsSteps
}

// build is gobuild build.
func (a *app) build(ctx context.Context, args []string) error {
	f := a.flags
	switch c, err := callWanted(f); {
	case err != nil:
		return err
	case c.method == callCheck:
		return a.check(ctx, args, c)
	case c.method != callBuild:
		return a.outline(ctx, args, c)
	}
	opt, err := a.buildOptions(f)
	if err != nil {
		return err
	}
	stdoutTaken, err := a.fillOutputs(&opt, f)
	if err != nil {
		return err
	}
	if f.str("explain") == "json" && stdoutTaken {
		return hint(usagef("--explain=json and the output both want standard output"), "write the output to a file")
	}
	if f.is("dry-run") {
		return a.dryRun(ctx, opt, args, f.str("explain") == "json")
	}
	if opt.SignKey, err = a.signKey(ctx); err != nil {
		return err
	}
	load, err := a.fillLoad(ctx, &opt, f)
	if err != nil {
		return err
	}
	files, err := a.resultFiles(f)
	if err != nil {
		return err
	}
	res, err := a.buildInContext(ctx, opt, args, load, files.report)
	err = because(ctx, err)
	err = errors.Join(err, files.write(res, err))
	if f.str("explain") == "json" && res != nil {
		return errors.Join(err, a.printJSON(builder.ExplainBuild(res.Record)))
	}
	if err != nil || stdoutTaken {
		return err
	}
	if id := res.ID(); id != "" {
		return a.print(id.String())
	}
	return nil
}

// buildInContext settles the context and builds.
func (a *app) buildInContext(ctx context.Context, opt builder.Options, args []string, load *loader, report string) (res *builder.Result, err error) {
	cleanup, err := a.fillContext(&opt, a.flags, args)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	if err := stdinTaken(&opt, a.flags, a.stdin); err != nil {
		return nil, err
	}
	return a.buildAndLoad(ctx, opt, load, report)
}

// buildAndLoad builds, waits for the program of --load, if any, and writes the report, also of a build that failed.
func (a *app) buildAndLoad(ctx context.Context, opt builder.Options, load *loader, report string) (*builder.Result, error) {
	b, err := a.open()
	if err != nil {
		return nil, err
	}
	end := suspendable(b, a.printer)
	res, err := b.Build(ctx, opt)
	end()
	if load != nil {
		err = errors.Join(err, load.finish(err))
	}
	if report != "" && res != nil && res.Record.ID != "" {
		err = errors.Join(err, writeReportFile(b, res.Record, report))
	}
	if cerr := b.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if err == nil && res == nil {
		err = errors.New("build gave no result")
	}
	return res, err
}

func planCommand() command {
	return command{
		name: "plan", group: "Building", args: "CONTEXT", short: "Show what a build would do, without doing it",
		long: `Show the stages and steps of a build with all values expanded. It takes the flags of build.

  gobuild plan --format=tree .                        what reads what, for people
  gobuild plan --format=dot . | dot -Tsvg -o plan.svg   the graph of the stages for Graphviz
  gobuild plan --format=json .                        everything, for programs
  gobuild plan --dry-run .                            what the cache has, and what would run`,
		flags: func() []flagSpec {
			out := flagSpec{name: "format", kind: kindString, arg: "FORMAT", text: "text (default), tree, json, dot or mermaid"}
			table := buildFlags()
			for i := range table {
				if table[i].name == out.name { // buildah's --format is about images
					table[i] = out
				}
			}
			return table
		},
		run: (*app).plan,
	}
}

func (a *app) plan(ctx context.Context, args []string) (err error) {
	format := a.flags.str("format")
	if err := checkFormat(format, "text", "tree", "json", "dot", "mermaid"); err != nil {
		return err
	}
	if c, err := callWanted(a.flags); c.method != callBuild || err != nil {
		return errors.Join(err, hint(usagef("gobuild plan does not check"), "use gobuild check, or gobuild build with --call"))
	}
	opt, err := a.buildOptions(a.flags)
	if err != nil {
		return err
	}
	if a.flags.is("dry-run") {
		if err := checkFormat(format, "text", "json"); err != nil {
			return err
		}
		return a.dryRun(ctx, opt, args, format == "json")
	}
	cleanup, err := a.fillContext(&opt, a.flags, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	b, err := a.open()
	if err != nil {
		return err
	}
	plan, err := b.Plan(ctx, opt)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	switch format {
	case "json":
		return a.printJSON(plan)
	case "tree":
		return a.printBytes([]byte(ui.Text(plan.Tree())))
	case "dot":
		return a.printBytes([]byte(ui.Text(plan.Dot())))
	case "mermaid":
		return a.printBytes([]byte(ui.Text(plan.Mermaid())))
	}
	return a.print(planLines(plan)...)
}

// planLines is the form of a plan for people.
func planLines(p *stages.Plan) []string {
	var lines []string
	for i, s := range p.Stages {
		name := s.Name
		if name == "" {
			name = fmt.Sprint(s.Index)
		}
		lines = append(lines, fmt.Sprintf("stage %s from %s (%s/%s)", ui.Line(name), ui.Line(sourceName(s.Base)), s.Platform.OS, s.Platform.Architecture))
		for _, step := range s.Steps {
			lines = append(lines, fmt.Sprintf("  Step %d/%d : %s (line %d)", step.Number, s.Total, ui.Line(step.Text), step.Pos.Start))
		}
		if i == len(p.Stages)-1 {
			lines = append(lines, "  image of this stage is the result")
		}
	}
	for _, w := range p.Warnings {
		lines = append(lines, fmt.Sprintf("warning: %s: %s (line %d)", ui.Line(w.Rule), ui.Line(w.Message), w.Pos.Start))
	}
	return lines
}

func sourceName(s stages.Source) string {
	switch s.Kind {
	case stages.SourceScratch:
		return "scratch"
	case stages.SourceStage:
		return fmt.Sprintf("stage %d", s.Stage)
	case stages.SourceImage:
		return s.Image.Name
	case stages.SourceContext:
		return "context " + s.Name
	case stages.SourceInline, stages.SourceHTTP, stages.SourceGit, stages.SourceMixed:
	}
	return string(s.Kind)
}

// checkFormat checks --format against what the command has; "" is its default.
func checkFormat(value string, allowed ...string) error {
	if value == "" {
		return nil
	}
	for _, v := range allowed {
		if v == value {
			return nil
		}
	}
	later := map[string]bool{"sarif": true}
	if later[value] || strings.Contains(value, "{{") {
		return hint(usagef("--format=%s is not supported yet", value), "use --format=json")
	}
	return hint(usagef("--format=%s: unknown format", value), "the formats are "+strings.Join(allowed[:len(allowed)-1], ", ")+" and "+allowed[len(allowed)-1])
}

// printJSON writes v to standard output, indented.
func (a *app) printJSON(v any) error {
	data, err := ui.JSON(v, "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.printBytes(data)
}
