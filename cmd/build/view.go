package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"gobuild/ui"
)

// uiOptions are what the flags and the environment say about the view. They are usable beside an error.
func (a *app) uiOptions(f flags) (ui.Options, error) {
	opt := ui.Options{Explain: explained(f), Timestamps: f.is("log-timestamp"), SpoolDir: a.env.tempDir()}
	opt.Dir, _ = os.Getwd() // only shortens what is shown
	var errs []error
	switch f.str("error-format") {
	case "", "text":
	case "json":
		opt.ErrorJSON = true
	default:
		errs = append(errs, usagef("--error-format=%s: want text or json", f.str("error-format")))
	}
	switch f.str("log-level") {
	case "", "info":
	case "debug", "trace":
		errs = append(errs, hint(usagef("--log-level=%s is not supported", f.str("log-level")), "--debug and --explain say more"))
	case "warn", "warning":
		opt.Level = ui.LevelWarn
	case "error":
		opt.Level = ui.LevelError
	default:
		errs = append(errs, usagef("--log-level=%s: want info, warn or error", f.str("log-level")))
	}
	mode, err := a.progressMode(f)
	opt.Mode = mode
	if err != nil {
		errs = append(errs, err)
	}
	if mode == ui.Plain {
		opt.CI = a.env.ci()
	}
	if mode == ui.TTY {
		opt.Size, opt.ASCII = func() (int, int) { return terminalSize(a.stderr) }, !a.env.utf8()
		if opt.LogLines, err = a.env.logLines(); err != nil {
			errs = append(errs, err)
		}
	}
	if opt.Color = a.theme(); f.is("no-color") {
		opt.Color = ui.Theme{}
	}
	if colors := a.env["BUILDKIT_COLORS"]; colors != "" && opt.Color.Enabled() {
		if opt.Color, err = opt.Color.ParseColors(colors); err != nil {
			errs = append(errs, usagef("BUILDKIT_COLORS: %w", err))
		}
	}
	return opt, errors.Join(errs...)
}

// progressMode is --progress, $GOBUILD_PROGRESS or $BUILDKIT_PROGRESS, in this order; -q is quiet.
func (a *app) progressMode(f flags) (ui.Mode, error) {
	value, from := f.str("progress"), "--progress"
	if value == "" {
		value, from = a.env["BUILDKIT_PROGRESS"], "BUILDKIT_PROGRESS"
	}
	if f.is("quiet") {
		if f.given("progress") && f["progress"].origin == fromFlag && value != "quiet" && value != "none" {
			return ui.Quiet, usagef("-q and --progress=%s exclude each other", value)
		}
		return ui.Quiet, nil
	}
	switch value {
	case "", "auto":
		if a.viewFits() {
			return ui.TTY, nil
		}
		return ui.Plain, nil
	case "plain", "plain-buildkit", "rawjson", "quiet", "none":
		return ui.Mode(value), nil
	case "tty":
		if isTerminal(a.stderr) {
			return ui.TTY, nil
		}
		if !f.given("progress") || f["progress"].origin != fromFlag { // a default for where there is one
			return ui.Plain, nil
		}
		return ui.Plain, hint(usagef("--progress=tty: standard error is no terminal"), "leave it away: a terminal is noticed")
	}
	e := usagef("%s=%s: unknown mode", from, value)
	if near := nearest(value, []string{"auto", "plain", "plain-buildkit", "tty", "rawjson", "quiet", "none"}); near != "" {
		return ui.Plain, hint(e, "did you mean "+near+"?")
	}
	return ui.Plain, hint(e, "the modes are auto, plain, plain-buildkit, tty, rawjson, quiet and none")
}

// theme decides on colour (FEATURES O7): NO_COLOR, then CLICOLOR_FORCE, then the terminal.
func (a *app) theme() ui.Theme {
	switch {
	case a.env["NO_COLOR"] != "":
		return ui.Theme{}
	case a.env["CLICOLOR_FORCE"] != "" && a.env["CLICOLOR_FORCE"] != "0", a.env["FORCE_COLOR"] != "" && a.env["FORCE_COLOR"] != "0":
		return ui.DefaultTheme()
	case a.env["TERM"] == "dumb", !isTerminal(a.stderr):
		return ui.Theme{}
	}
	return ui.DefaultTheme()
}

// viewFits says that standard error shows a view that changes: a terminal of some size, which no CI system reads as a log (FEATURES O2).
func (a *app) viewFits() bool {
	const leastColumns, leastRows = 40, 10
	if kind := a.env["TERM"]; kind == "" || kind == "dumb" || a.env["CI"] != "" || !isTerminal(a.stderr) {
		return false
	}
	columns, rows := terminalSize(a.stderr)
	return columns >= leastColumns && rows >= leastRows
}

// ci is the system whose log standard error is, by its variables alone (FEATURES O8).
func (e environ) ci() ui.CI {
	set := func(name string) bool { return e[name] != "" && e[name] != "false" }
	switch {
	case set("GITHUB_ACTIONS"):
		return ui.GitHub
	case set("GITLAB_CI"):
		return ui.GitLab
	}
	return ui.NoCI
}

// utf8 says that the terminal shows more than ASCII.
func (e environ) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(e[name]); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// logLines is BUILDKIT_TTY_LOG_LINES.
func (e environ) logLines() (int, error) {
	value := e["BUILDKIT_TTY_LOG_LINES"]
	if value == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return 0, usagef("BUILDKIT_TTY_LOG_LINES=%s: want a number of lines", value)
	}
	return int(n), nil
}

// isTerminal says that a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := plainStream(stream).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalSize is 0, 0 where it is not known.
func terminalSize(stream any) (columns, rows int) {
	f, ok := plainStream(stream).(*os.File)
	if !ok {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}
