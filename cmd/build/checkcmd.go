package main

import (
	"context"
	"errors"
	"os"

	"gobuild/builder"
	"gobuild/stages"
	"gobuild/ui"
)

func checkCommand() command {
	return command{
		name: "check", group: "Building", args: "CONTEXT", short: "Check a Dockerfile without building it",
		long: `Report what the lint rules say of a Dockerfile: no step runs, and no layer is pulled.

  gobuild check .                          all stages
  gobuild check --target app .             one stage and what it needs
  gobuild check --format=sarif . > x.sarif for code scanning
  gobuild check --fix=diff .               what --fix would rewrite

docs/lint.md describes the rules. "# check=skip=RULE" at the top of a Dockerfile, or above an
instruction, switches one off. --fix rewrites what only concerns the form: casing, ENV and LABEL
without =, MAINTAINER, blank lines in continuations, the order of package lists. Exits with 1 when there is a warning, with 2 when the Dockerfile
cannot be built. gobuild lint, gobuild build --check and --call=check are the same.`,
		flags: checkFlags,
		run: func(a *app, ctx context.Context, args []string) error {
			return a.check(ctx, args, call{method: callCheck, format: a.flags.str("format")})
		},
	}
}

// lintCommand is check under the name that others have for it.
func lintCommand() command {
	c := checkCommand()
	c.name, c.short = "lint", "The same as check"
	return c
}

// checkFlags are those of build, so that a pasted command line works, with a --format of its own.
func checkFlags() []flagSpec {
	table := buildFlags()
	for i := range table {
		switch table[i].name {
		case "format": // buildah's is about images
			table[i] = flagSpec{name: "format", kind: kindString, arg: "FORMAT", text: "text, json (as BuildKit writes it) or sarif"}
		case "call", "check":
			table[i].does = noop
			table[i].decide = nil
			table[i].text = "gobuild check does nothing else"
		}
	}
	return append(table, fixFlags()...)
}

// lintFlags are the flags of build about checking.
func lintFlags() []flagSpec {
	return []flagSpec{
		{name: "check", kind: kindBool, text: "only check the Dockerfile, as gobuild check does"},
		{name: "call", kind: kindString, arg: "METHOD", text: "build, check, outline or targets, with [,format=json] and [,ignorestatus]", decide: callVerdict},
		{name: "error-level", kind: kindString, arg: "LEVEL", text: "what makes a check fail: warning (default) or error"},
	}
}

// check is gobuild check and build --check.
func (a *app) check(ctx context.Context, args []string, c call) (err error) {
	format := c.format
	if err := checkFormat(format, "text", "json", "sarif"); err != nil {
		return err
	}
	level := a.flags.str("error-level")
	if level != "" && level != "warning" && level != "error" {
		return usagef("--error-level=%s: want warning or error", level)
	}
	opt, err := a.buildOptions(a.flags)
	if err != nil {
		return err
	}
	cleanup, err := a.fillContext(&opt, a.flags, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	if done, err := a.fix(opt, format); done || err != nil {
		return err
	}
	res, err := a.runCheck(ctx, opt)
	if err != nil {
		return err
	}
	if err := a.report(res, format); err != nil {
		return err
	}
	switch {
	case c.ignoreStatus && res.Err != nil:
		a.printer.Fail(res.Err)
	case c.ignoreStatus:
	case res.Err != nil:
		return res.Err
	case len(res.Warnings) > 0 && (level != "error" || res.Strict):
		return &statusError{exitStep}
	}
	return nil
}

func (a *app) runCheck(ctx context.Context, opt builder.Options) (*builder.CheckResult, error) {
	b, err := a.open()
	if err != nil {
		return nil, err
	}
	res, err := b.Check(ctx, opt)
	return res, errors.Join(err, b.Close())
}

// report writes the findings to standard output.
func (a *app) report(res *builder.CheckResult, format string) error {
	opt := ui.CheckOptions{Version: buildVersion().Version, URL: stages.RuleURL}
	opt.Dir, _ = os.Getwd() // only shortens what is shown
	switch format {
	case "json":
		return a.reportBytes(ui.CheckJSON(res, opt))
	case "sarif":
		return a.reportBytes(ui.CheckSARIF(res, opt))
	}
	if a.flags.is("quiet") {
		return nil // the exit code says it
	}
	if opt.Color = (&app{env: a.env, stderr: a.stdout}).theme(); a.flags.is("no-color") {
		opt.Color = ui.Theme{}
	}
	text := ui.CheckText(res, opt)
	if a.env.ci() == ui.GitHub {
		text += ui.CheckAnnotations(res, opt)
	}
	return a.printBytes([]byte(text))
}

func (a *app) reportBytes(data []byte, err error) error {
	if err != nil {
		return err
	}
	return a.printBytes(data)
}
