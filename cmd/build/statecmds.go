package main

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
)

func pruneCommand() command {
	return command{
		name: "prune", group: "State", short: "Remove what no image needs",
		long: "Remove cache entries, snapshots and blobs that no name holds. Nothing is asked; --dry-run shows what would go.",
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "format", kind: kindString, arg: "FORMAT", text: "table, json or a Go template for each entry"},
				{name: "all", short: "a", kind: kindBool, text: "cache mounts too, and everything that no name holds"},
				{name: "unused-for", kind: kindString, arg: "DURATION", text: "only what was not used for that long, e.g. 24h"},
				usageFilterFlag(),
				{name: "keep-storage", kind: kindString, arg: "SIZE", text: "stop when no more than this remains, e.g. 10GB"},
				{name: "reserved-space", kind: kindString, arg: "SIZE", text: "the same as --keep-storage"},
				{name: "max-used-space", kind: kindString, arg: "SIZE|PERCENT", text: "only until the state directory takes no more than this"},
				{name: "min-free-space", kind: kindString, arg: "SIZE|PERCENT", text: "only until this is free on the file system"},
				{name: "dry-run", kind: kindBool, text: "only say what would be removed"},
				forceFlag(),
			}
		},
		run: (*app).prune, rights: always(rightsLayers),
	}
}

func (a *app) prune(ctx context.Context, args []string) error {
	row, err := rowTemplate(a.flags.str("format"))
	if err != nil {
		return err
	}
	if row == nil {
		err = checkFormat(a.flags.str("format"), "table", "json")
	}
	if err = errors.Join(noArgs("prune", args), err); err != nil {
		return err
	}
	opt, err := pruneOptions(a.flags)
	if err != nil {
		return err
	}
	var list []builder.Usage
	err = a.withBuilder(func(b *builder.Builder) (err error) {
		list, err = b.Prune(ctx, opt)
		return err
	})
	total := "Freed"
	if opt.DryRun {
		total = "Would free"
	}
	return showRows(a, row, list, err, func() error { return a.usage(list, total) })
}

func pruneOptions(f flags) (builder.PruneOptions, error) {
	opt := builder.PruneOptions{All: f.is("all"), DryRun: f.is("dry-run")}
	filter, err := usageFilter(f)
	if err != nil {
		return opt, err
	}
	opt.Filter = filter
	unused := f.str("unused-for")
	if unused != "" {
		d, err := time.ParseDuration(unused)
		if err != nil || d < 0 {
			return opt, usagef("unused-for=%s: want a duration like 24h", unused)
		}
		opt.UnusedFor = d
	}
	for _, name := range []string{"reserved-space", "keep-storage"} {
		if !f.given(name) {
			continue
		}
		n, err := units.FromHumanSize(f.str(name))
		if err != nil || n < 0 {
			return opt, usagef("--%s=%s: want a size like 10GB", name, f.str(name))
		}
		opt.KeepStorage = n
	}
	for name, space := range map[string]*builder.Space{"max-used-space": &opt.MaxUsed, "min-free-space": &opt.MinFree} {
		if !f.given(name) {
			continue
		}
		if *space, err = parseSpace(f.str(name)); err != nil {
			return opt, usagef("--%s=%s: want a size like 10GB, or a part like 20%%", name, f.str(name))
		}
	}
	return opt, nil
}

func runCommand() command {
	return command{
		name: "run", group: "Building", args: "IMAGE [ARG...]", short: "Try an image's command in the build sandbox",
		long: `Start the command of an image of the store in the sandbox that RUN steps have, on a
throw-away copy of its files, and exit with its code. It is a way to try an image, not a
container engine: there is no terminal, no port is opened, nothing is kept.`,
		argsEndFlags: true,
		flags:        runFlags,
		run:          (*app).runImage, rights: always(rightsSteps),
	}
}

func (a *app) runImage(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return hint(usagef("gobuild run takes an image"), "gobuild run IMAGE [ARG...]")
	}
	opt, err := runOptions(a.flags)
	if err != nil {
		return err
	}
	view := newPassThrough(a)
	code := 0
	err = a.withBuilder(func(b *builder.Builder) (err error) {
		code, err = b.RunImage(ctx, args[0], args[1:], opt, view.event)
		return err
	})
	if err = errors.Join(err, view.close()); err != nil {
		return err
	}
	if code != 0 {
		return &statusError{code}
	}
	return nil
}

func versionCommand() command {
	return command{
		name: "version", group: "State", short: "Show the version",
		flags: func() []flagSpec {
			return []flagSpec{{name: "json", kind: kindBool, text: "as JSON"}}
		},
		run: func(a *app, _ context.Context, args []string) error {
			if err := noArgs("version", args); err != nil {
				return err
			}
			v := buildVersion()
			if a.flags.is("json") {
				return a.printJSON(v)
			}
			line := "gobuild " + v.Version
			if v.Commit != "" {
				line += " (" + v.Commit + ")"
			}
			return a.print(line + " " + v.Go + " " + v.Platform)
		},
	}
}

// versionInfo is what version --json prints.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion is what the Go toolchain recorded in the binary.
func buildVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
