package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gobuild/builder"
	"gobuild/history"
	"gobuild/internal/atomicfile"
	"gobuild/ui"
)

// buildVerbs are the words after gobuild history that are about builds rather than an image (FEATURES P1).
func buildVerbs() map[string]func(*app, []string) error {
	return map[string]func(*app, []string) error{
		"ls": (*app).buildsList, "inspect": (*app).buildInspect, "logs": (*app).buildLogs, "compare": (*app).buildCompare, "diff": (*app).buildCompare,
		"export": (*app).buildExport, "report": (*app).reportBuild, "rm": (*app).buildsRemove,
	}
}

func historyFlags() []flagSpec {
	return []flagSpec{
		{name: "format", kind: kindString, arg: "FORMAT", text: "table or json; of compare text or json"},
		platformFlag("with an image that is an index: show that of this platform (default this machine's)"),
		{name: "no-trunc", kind: kindBool, text: "show whole instructions"},
		{name: "quiet", short: "q", kind: kindBool, text: "ls: print only the ids"},
		{name: "output", short: "o", kind: kindString, arg: "FILE", text: "export, report: where to; - is standard output"},
		{name: "all", short: "a", kind: kindBool, text: "rm: all builds"},
	}
}

func (a *app) buildsList(args []string) error {
	f := a.flags
	if err := errors.Join(noArgs("history ls", args), checkFormat(f.str("format"), "table", "json")); err != nil {
		return err
	}
	var list []history.Record
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		list, err = b.Builds()
		return err
	})
	if err != nil {
		return err
	}
	if f.str("format") == "json" {
		return a.printJSON(append([]history.Record{}, list...))
	}
	var rows [][]string
	for _, r := range list {
		if f.is("quiet") {
			if err := a.print(r.ID); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{r.ID, named(r), ago(r.Begun), elapsed(r.Elapsed), reused(r.Steps), outcomeText(r)})
	}
	if f.is("quiet") {
		return nil
	}
	return a.table([]string{"BUILD", "PROJECT", "BEGUN", "TOOK", "REUSED", "RESULT"}, rows)
}

func reused(steps []history.Step) string {
	n := 0
	for _, s := range steps {
		if s.Cached {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(steps))
}

func outcomeText(r history.Record) string {
	switch {
	case r.Error != nil && len(r.Error.Message) > 60:
		return "failed: " + strings.ToValidUTF8(r.Error.Message[:57], "") + "..."
	case r.Error != nil:
		return "failed: " + r.Error.Message
	case len(r.Tags) > 0:
		return shortDigest(r.Config.String(), false) + " " + strings.Join(r.Tags, " ")
	}
	return shortDigest(r.Config.String(), false)
}

// elapsed is a time span as people read it.
func elapsed(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// oneBuild is the build that the first argument names, "" the last.
func (a *app) oneBuild(args []string, do func(*builder.Builder, history.Record) error) error {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	return a.withBuilder(func(b *builder.Builder) error {
		rec, err := b.BuildRecord(name)
		if err != nil {
			return err
		}
		return do(b, rec)
	})
}

func atMost(command string, n int, args []string) error {
	if len(args) > n {
		return usagef("gobuild %s takes at most %d arguments, not %d", command, n, len(args))
	}
	return nil
}

func (a *app) buildInspect(args []string) error {
	if err := errors.Join(atMost("history inspect", 1, args), checkFormat(a.flags.str("format"), "json")); err != nil {
		return err
	}
	return a.oneBuild(args, func(_ *builder.Builder, rec history.Record) error { return a.printJSON(rec) })
}

func logsCommand() command {
	return command{
		name: "logs", group: "State", args: "[BUILD [LINE]]", short: "Show what the steps of a build printed",
		long:  "Show everything that the steps of a build printed, or the step at a line of the Dockerfile. Builds are named as for gobuild history. It is gobuild history logs.",
		flags: func() []flagSpec { return nil },
		run:   func(a *app, _ context.Context, args []string) error { return a.buildLogs(args) },
	}
}

func (a *app) buildLogs(args []string) error {
	if err := atMost("logs", 2, args); err != nil {
		return err
	}
	only := 0
	if len(args) == 2 {
		n, err := strconv.ParseUint(args[1], 10, 31)
		if err != nil || n == 0 {
			return usagef("gobuild logs %s %q: want the line of a step in the Dockerfile", args[0], ui.Line(args[1]))
		}
		only = int(n)
	}
	return a.oneBuild(args, func(b *builder.Builder, rec history.Record) error {
		found := false
		err := a.eachLog(b, rec, func(line int, data []byte) error {
			if only != 0 && line != only {
				return nil
			}
			found = true
			if isTerminal(a.stdout) {
				data = []byte(ui.Text(string(data)))
			}
			return a.printBytes(data)
		})
		if err == nil && !found && only != 0 {
			return hint(usagef("build %s printed nothing at line %d", rec.ID, only), "`gobuild history inspect "+rec.ID+"` lists its steps")
		}
		return err
	})
}

// eachLog gives a log piece by piece; pieces of line 0 are the headings of steps.
func (a *app) eachLog(b *builder.Builder, rec history.Record, fn func(line int, data []byte) error) error {
	texts := map[int]string{}
	for _, s := range rec.Steps {
		texts[s.Line] = s.Text
	}
	last := 0
	return b.BuildLog(rec, func(c history.Chunk) error {
		if c.Line != last {
			if err := fn(0, fmt.Appendf(nil, "--- line %d: %s\n", c.Line, ui.Line(texts[c.Line]))); err != nil {
				return err
			}
			last = c.Line
		}
		return fn(c.Line, c.Data)
	})
}

func (a *app) buildExport(args []string) error {
	out := a.flags.str("output")
	if err := atMost("history export", 1, args); err != nil {
		return err
	}
	if out == "" || out == "-" && isTerminal(a.stdout) {
		return hint(usagef("gobuild history export writes a tar"), "gobuild history export -o FILE")
	}
	return a.oneBuild(args, func(b *builder.Builder, rec history.Record) error {
		if out == "-" {
			a.printer.Sync()
			return a.exportTo(a.stdout, b, rec)
		}
		path, err := outputPath("output", out)
		if err != nil {
			return err
		}
		err = atomicfile.WriteFunc(path, atomicfile.Options{Mode: 0o600}, func(w io.Writer) error { return a.exportTo(w, b, rec) })
		if err != nil {
			return environmentf("export build %s: %w", rec.ID, err)
		}
		return nil
	})
}

// exportTo writes one folder: the record, and the log as text.
func (a *app) exportTo(w io.Writer, b *builder.Builder, rec history.Record) error {
	data, err := ui.JSON(rec, "  ")
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := addToTar(t, rec, "record.json", bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	// A tar wants the size first, and a log may be large: it goes through a file without a name.
	spool, err := os.CreateTemp(a.env.tempDir(), "gobuild-log-*")
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return err
	}
	err = a.eachLog(b, rec, func(_ int, data []byte) error {
		_, err := spool.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	size, err := spool.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return errors.Join(addToTar(t, rec, "log.txt", spool, size), t.Close())
}

func addToTar(t *tar.Writer, rec history.Record, name string, r io.Reader, size int64) error {
	h := &tar.Header{Name: filepath.ToSlash(filepath.Join("gobuild-"+rec.ID, name)), Mode: 0o644, Size: size, ModTime: rec.Begun, Format: tar.FormatPAX}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(t, r)
	return err
}

func (a *app) buildsRemove(args []string) error {
	all := a.flags.is("all")
	if all == (len(args) > 0) {
		return hint(usagef("gobuild history rm takes builds, or --all"), "gobuild history rm BUILD...")
	}
	return a.withBuilder(func(b *builder.Builder) error {
		var ids []string
		if all {
			list, err := b.Builds()
			if err != nil {
				return err
			}
			for _, r := range list {
				ids = append(ids, r.ID)
			}
		}
		for _, name := range args {
			rec, err := b.BuildRecord(name)
			if err != nil {
				return err
			}
			ids = append(ids, rec.ID)
		}
		if err := b.ForgetBuilds(ids); err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		return a.print(ids...)
	})
}

// named is what a record is of, after the name that the build was given.
func named(r history.Record) string {
	if r.Name == "" {
		return r.Project
	}
	return r.Name + ": " + r.Project
}
