package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

func cacheCommand() command {
	return command{
		name: "cache", group: "State", args: "verify/export-mount/import-mount/rm-mount", short: "Check the state directory, carry cache mounts elsewhere",
		long: `gobuild cache verify hashes every blob and checks each layer and record of the state
directory, beside builds that go on. What is wrong is reported with what helps; --repair
removes it, so that the next build makes it again. The exit status is 0 if nothing is wrong
or all of it was repaired, else 3.

gobuild cache export-mount ID FILE writes what a RUN --mount=type=cache keeps as a tar,
gobuild cache import-mount ID FILE replaces it by one, and gobuild cache rm-mount ID...
removes it. ID is the id of the mount, which is its target where the Dockerfile gives none, or
the beginning of what gobuild du shows under ID. FILE may be - for standard output or input.

gobuild cache du and gobuild cache prune are gobuild du and gobuild prune.`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "repair", kind: kindBool, text: "verify: remove what is wrong"},
				{name: "format", kind: kindString, arg: "FORMAT", text: "verify: text or json"},
				{name: "json", kind: kindBool, text: "verify: the same as --format=json"},
			}
		},
		run: (*app).cacheRun, rights: always(rightsLayers),
	}
}

// cacheCommands are the words after gobuild cache that are no commands of their own.
func cacheCommands() []string { return []string{"verify", "export-mount", "import-mount", "rm-mount"} }

func (a *app) cacheRun(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return hint(usagef("gobuild cache: a command is missing"), "gobuild cache verify")
	}
	if args[0] != "verify" {
		for _, name := range []string{"repair", "format", "json"} {
			if a.flags.given(name) {
				return usagef("--%s is for gobuild cache verify", name)
			}
		}
	}
	switch args[0] {
	case "export-mount":
		return a.exportMount(ctx, args[1:])
	case "import-mount":
		return a.importMount(ctx, args[1:])
	case "rm-mount":
		return a.removeMounts(ctx, args[1:])
	default:
		return a.cacheVerify(ctx, args)
	}
}

func (a *app) cacheVerify(ctx context.Context, args []string) error {
	f := a.flags
	if len(args) != 1 || args[0] != "verify" {
		return hint(usagef("gobuild cache verify takes no arguments"), "gobuild cache verify")
	}
	if err := checkFormat(f.str("format"), "text", "json"); err != nil {
		return err
	}
	var v *builder.Verification
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		v, err = b.VerifyCache(ctx, f.is("repair"))
		return err
	})
	if err != nil {
		return err
	}
	if f.is("json") || f.str("format") == "json" {
		v.Problems = append([]builder.Problem{}, v.Problems...)
		err = a.printJSON(v)
	} else {
		err = a.print(verifyLines(v)...)
	}
	if v.Bad() > 0 {
		err = errors.Join(err, &statusError{exitEnvironment})
	}
	return err
}

func verifyLines(v *builder.Verification) []string {
	var lines []string
	repaired := 0
	for _, p := range v.Problems {
		line := fmt.Sprintf("%s %s: %s", p.Kind, ui.Line(p.ID), ui.Line(p.What))
		if p.Repaired {
			repaired++
			lines = append(lines, line+"; removed")
			continue
		}
		lines = append(lines, line, "  "+ui.Line(p.Remedy))
	}
	return append(lines, fmt.Sprintf("%d blobs (%s), %d layers, %d records and %d images checked: %d problems, %d repaired",
		v.Blobs, units.HumanSizeWithPrecision(float64(v.Bytes), 3), v.Layers, v.Records, v.Images, len(v.Problems), repaired))
}
