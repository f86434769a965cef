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
		name: "cache", group: "State", args: "verify", short: "Check what the state directory holds",
		long: `Hash every blob and check each layer and record of the state directory, beside builds that go
on. What is wrong is reported with what helps; --repair removes it, so that the next build makes
it again. The exit status is 0 if nothing is wrong or all of it was repaired, else 3.

gobuild cache du and gobuild cache prune are gobuild du and gobuild prune.`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "repair", kind: kindBool, text: "remove what is wrong"},
				{name: "format", kind: kindString, arg: "FORMAT", text: "text or json"},
				{name: "json", kind: kindBool, text: "the same as --format=json"},
			}
		},
		run: (*app).cacheVerify,
	}
}

func (a *app) cacheVerify(ctx context.Context, args []string) error {
	f := a.flags
	if len(args) != 1 || args[0] != "verify" {
		return hint(usagef("gobuild cache takes verify"), "gobuild cache verify")
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
