package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"gobuild/builder"
	"gobuild/history"
	"gobuild/ui"
)

func reportCommand() command {
	return command{
		name: "report", group: "State", args: "[BUILD]", short: "Write what a build did as a page",
		long: `Write what a build did as a page: one HTML file that needs nothing else and asks nobody, with the times of
its steps, what reads what, why steps ran, what they printed, sizes and warnings. Builds are named as for
gobuild history; without a name the last one is meant. It is gobuild history report.`,
		flags: func() []flagSpec {
			return []flagSpec{{name: "output", short: "o", kind: kindString, arg: "FILE", text: "where to: .html, or .json for the record; - or nothing is standard output"}}
		},
		run: func(a *app, _ context.Context, args []string) error { return a.reportBuild(args) },
	}
}

func recordCommand() command {
	return command{
		name: "record", group: "State", args: "[BUILD]", short: "Show what is recorded of a build, as JSON",
		long: "Show what is recorded of a build, as JSON. Builds are named as for gobuild history; without a name the last one is meant. It is gobuild history inspect.",
		run: func(a *app, _ context.Context, args []string) error {
			if err := atMost("record", 1, args); err != nil {
				return err
			}
			return a.oneBuild(args, func(_ *builder.Builder, rec history.Record) error { return a.printJSON(rec) })
		},
	}
}

func (a *app) reportBuild(args []string) error {
	if err := atMost("report", 1, args); err != nil {
		return err
	}
	out := a.flags.str("output")
	toStdout := out == "" || out == "-"
	if toStdout && isTerminal(a.stdout) {
		return hint(usagef("gobuild report writes a page, which is nothing for a terminal"), "gobuild report -o FILE.html")
	}
	path := ""
	if !toStdout {
		var err error
		if path, err = reportPath("output", out); err != nil {
			return err
		}
	}
	return a.oneBuild(args, func(b *builder.Builder, rec history.Record) error {
		if !toStdout {
			return writeReportFile(b, rec, path)
		}
		data, err := reportOf(b, rec, "")
		if err != nil {
			return err
		}
		return a.printBytes(data)
	})
}

func writeReportFile(b *builder.Builder, rec history.Record, path string) error {
	data, err := reportOf(b, rec, filepath.Ext(path))
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

// reportPath is where a report goes; its form follows from the end of its name.
func reportPath(flag, path string) (string, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".html", ".htm", ".json":
		return outputPath(flag, path)
	}
	return "", hint(usagef("--%s=%s: a report is a page or JSON", flag, path), "want FILE.html or FILE.json")
}

// reportOf makes the report of a build.
func reportOf(b *builder.Builder, rec history.Record, ext string) ([]byte, error) {
	if strings.EqualFold(ext, ".json") {
		return ui.JSON(rec, "  ")
	}
	logs := newReportLogs(rec)
	if err := b.BuildLog(rec, func(c history.Chunk) error {
		logs.add(c.Line, c.Data)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("report of build %s: %w", rec.ID, err)
	}
	var page bytes.Buffer
	if err := writeReport(&page, rec, logs); err != nil {
		return nil, fmt.Errorf("report of build %s: %w", rec.ID, err)
	}
	return page.Bytes(), nil
}
