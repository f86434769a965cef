package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

func duCommand() command {
	return command{
		name: "du", group: "State", short: "Show what the state directory holds",
		long: `Show what the state directory holds: every layer, blob and cache mount, or what each build,
step or cache mount takes (--by). Sizes are blocks on the disk. Shared is what several projects
or several named images need.

  gobuild du --by=build                              what each build of the history needs, alone and with others
  gobuild du --by=step --filter unused-for=24h       the steps that cost most, and were not used for a day
  gobuild du --format '{{.ID}} {{size .Size}}'       a line for each, as a Go template`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "by", kind: kindString, arg: "WHAT", text: "add up by build, step or mount"},
				{name: "verbose", kind: kindBool, text: "everything that is known of each entry, in full"},
				{name: "format", kind: kindString, arg: "FORMAT", text: "table, json or a Go template for each entry"},
				usageFilterFlag(),
			}
		},
		run: (*app).du, rights: always(rightsLayers),
	}
}

func (a *app) du(ctx context.Context, args []string) error {
	f := a.flags
	format, by := f.str("format"), f.str("by")
	row, err := rowTemplate(format)
	if err != nil {
		return err
	}
	if row == nil {
		err = checkFormat(format, "table", "json")
	}
	if err = errors.Join(noArgs("du", args), err); err != nil {
		return err
	}
	if f.is("verbose") && (by != "" || format != "" && format != "table") {
		return usagef("--verbose is for the table of all entries")
	}
	filter, err := usageFilter(f)
	if err != nil {
		return err
	}
	return a.withBuilder(func(b *builder.Builder) error {
		switch by {
		case "":
			list, err := b.DiskUsage(ctx, filter)
			return showRows(a, row, list, err, func() error { return a.usage(list, "Total") })
		case "build":
			list, err := b.UsageByBuild(ctx, filter)
			return showRows(a, row, list, err, func() error { return a.usageByBuild(list) })
		case "step":
			list, err := b.UsageByStep(ctx, filter)
			return showRows(a, row, list, err, func() error { return a.usageByStep(list) })
		case "mount":
			list, err := b.UsageByMount(ctx, filter)
			return showRows(a, row, list, err, func() error { return a.usageByMount(list) })
		}
		return hint(usagef("--by=%s: unknown", by), "use build, step or mount")
	})
}

// showRows prints a list by a template, as JSON, or as a table.
func showRows[T any](a *app, row *rowFormat, list []T, err error, table func() error) error {
	switch {
	case err != nil:
		return err
	case row != nil:
		return a.printRows(row, anys(list))
	case a.flags.str("format") == "json":
		return a.printJSON(append([]T{}, list...))
	}
	return table()
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

func usageFilterFlag() flagSpec {
	return flagSpec{name: "filter", kind: kindList, arg: "FILTER", text: "id, type or description with =, != or ~=, unused-for=DURATION, until=DURATION, inuse, mutable, shared, private; all must hold"}
}

func usageFilter(f flags) (builder.UsageFilter, error) {
	filter, err := builder.ParseUsageFilter(f.list("filter"))
	if err != nil {
		return nil, hint(usagef("--filter: %w", err), "use id, type or description with =, != or ~=, unused-for=DURATION, until=DURATION, inuse, mutable, shared or private")
	}
	return filter, nil
}

// usage lists what du or prune found, with the sum.
func (a *app) usage(list []builder.Usage, total string) error {
	var sum, reclaimable, shared int64
	var rows [][]string
	for _, u := range list {
		sum += u.Size
		if u.Reclaimable {
			reclaimable += u.Size
		}
		if u.Shared {
			shared += u.Size
		}
		rows = append(rows, []string{
			shortDigest(u.ID, false), u.Type, yesNo(u.Reclaimable), yesNo(u.Shared), size(u.Size), ago(u.LastUsed), fmt.Sprint(u.Uses), u.Description,
		})
	}
	var err error
	switch {
	case a.flags["verbose"] != nil && a.flags.is("verbose"):
		err = a.usageInFull(list)
	case len(rows) > 0:
		err = a.table([]string{"ID", "TYPE", "RECLAIMABLE", "SHARED", "SIZE", "LAST USED", "USES", "DESCRIPTION"}, rows)
	}
	if err != nil {
		return err
	}
	line := total + ": " + size(sum)
	if total == "Total" {
		line += ", reclaimable " + size(reclaimable) + ", shared " + size(shared)
	}
	return a.print(line)
}

// usageInFull has a paragraph for each entry.
func (a *app) usageInFull(list []builder.Usage) error {
	var lines []string
	for _, u := range list {
		for _, field := range [][2]string{
			{"ID", u.ID}, {"Type", u.Type}, {"Description", u.Description}, {"Size", fmt.Sprintf("%s (%d bytes)", size(u.Size), u.Size)},
			{"Reclaimable", yesNo(u.Reclaimable)}, {"In use", yesNo(u.InUse)}, {"Mutable", yesNo(u.Mutable)}, {"Shared", yesNo(u.Shared)},
			{"Last used", u.LastUsed.UTC().Format(time.RFC3339) + " (" + ago(u.LastUsed) + ")"}, {"Builds", fmt.Sprint(u.Uses)},
			{"Projects", strings.Join(u.Projects, ", ")}, {"Images", strings.Join(u.Images, ", ")},
		} {
			if field[1] != "" {
				lines = append(lines, fmt.Sprintf("%-14s%s", field[0]+":", ui.Line(field[1])))
			}
		}
		lines = append(lines, "")
	}
	if len(lines) == 0 {
		return nil
	}
	return a.print(lines...)
}

func (a *app) usageByBuild(list []builder.BuildUsage) error {
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{u.Build, u.Project, size(u.Size), size(u.Own), size(u.Shared), ago(u.Begun), strings.Join(u.Tags, ", ")})
	}
	return a.groups("builds", []string{"BUILD", "PROJECT", "SIZE", "OWN", "SHARED", "BEGUN", "IMAGES"}, rows)
}

func (a *app) usageByStep(list []builder.StepUsageRow) error {
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{shortDigest(u.ID, false), size(u.Size), size(u.Files), size(u.Packed), yesNo(u.Shared), fmt.Sprint(u.Uses), ago(u.LastUsed), u.Step})
	}
	return a.groups("steps", []string{"ID", "SIZE", "FILES", "PACKED", "SHARED", "USES", "LAST USED", "STEP"}, rows)
}

func (a *app) usageByMount(list []builder.MountUsage) error {
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{shortDigest(u.Name, false), size(u.Size), yesNo(u.InUse), ago(u.LastUsed), u.Namespace, u.ID})
	}
	return a.groups("cache mounts", []string{"NAME", "SIZE", "IN USE", "LAST USED", "NAMESPACE", "ID"}, rows)
}

// groups prints a table, or says that there is nothing to print.
func (a *app) groups(what string, header []string, rows [][]string) error {
	if len(rows) == 0 {
		return a.print("No " + what + ".")
	}
	return a.table(header, rows)
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
