package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

// withBuilder opens the builder for one command and closes it after.
func (a *app) withBuilder(do func(*builder.Builder) error) error {
	b, err := a.open()
	if err != nil {
		return err
	}
	defer suspendable(b, a.printer)()
	return errors.Join(do(b), b.Close())
}

// table writes rows to standard output in aligned columns. Cells come from images and are escaped.
func (a *app) table(header []string, rows [][]string) error {
	var buf bytes.Buffer
	w := tabwriter.NewWriter(&buf, 0, 8, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, ui.Line(cell))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var lines []string
	for _, l := range strings.Split(strings.TrimRight(buf.String(), "\n"), "\n") {
		lines = append(lines, strings.TrimRight(l, " "))
	}
	return a.print(lines...)
}

func formatFlag() flagSpec {
	return flagSpec{name: "format", kind: kindString, arg: "FORMAT", text: "table or json"}
}

func filterFlag() flagSpec {
	return flagSpec{name: "filter", kind: kindList, arg: "FILTER", does: later, text: "use --format=json and a filter program"}
}

func imagesCommand() command {
	return command{
		name: "images", group: "Images", short: "List the images of the store",
		flags: func() []flagSpec {
			return []flagSpec{
				formatFlag(), filterFlag(),
				{name: "digests", kind: kindBool, text: "show the digests of the manifests"},
				{name: "no-trunc", kind: kindBool, text: "show whole ids"},
				{name: "quiet", short: "q", kind: kindBool, text: "print only the ids"},
			}
		},
		run: (*app).images,
	}
}

func (a *app) images(ctx context.Context, args []string) error {
	f := a.flags
	if err := errors.Join(noArgs("images", args), checkFormat(f.str("format"), "table", "json")); err != nil {
		return err
	}
	var list []builder.ImageInfo
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		list, err = b.Images(ctx)
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case f.str("format") == "json":
		return a.printJSON(append([]builder.ImageInfo{}, list...))
	case f.is("quiet"):
		var ids []string
		for _, i := range list {
			if id := i.ID.String(); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		return a.print(ids...)
	}
	header := []string{"NAME", "ID", "CREATED", "SIZE"}
	if f.is("digests") {
		header = []string{"NAME", "DIGEST", "ID", "CREATED", "SIZE"}
	}
	var rows [][]string
	for _, i := range list {
		row := []string{i.Name}
		if f.is("digests") {
			row = append(row, i.Digest.String())
		}
		rows = append(rows, append(row, shortDigest(i.ID.String(), f.is("no-trunc")), ago(i.Created), units.HumanSizeWithPrecision(float64(i.Size), 3)))
	}
	return a.table(header, rows)
}

func shortDigest(d string, whole bool) string {
	if whole {
		return d
	}
	_, hex, ok := strings.Cut(d, ":")
	if !ok {
		hex = d
	}
	return hex[:min(len(hex), 12)]
}

// ago is a time as people see it.
func ago(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

func inspectCommand() command {
	return command{
		name: "inspect", group: "Images", args: "IMAGE", short: "Describe an image as JSON",
		long: "Describe an image of the store, or of another place, as JSON.\n" + placesText,
		flags: func() []flagSpec {
			return []flagSpec{
				platformFlag("of an index, describe the image of this platform (default this machine's)"),
				{name: "format", kind: kindString, arg: "FORMAT", text: "json"},
				{name: "raw", kind: kindBool, text: "print the manifest or index as it is stored"},
			}
		},
		run: (*app).inspect,
	}
}

func (a *app) lookup(ctx context.Context, ref string) (*builder.Inspection, error) {
	var i *builder.Inspection
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		i, err = b.Inspect(ctx, ref, a.flags.str("platform"))
		return err
	})
	return i, err
}

func (a *app) inspect(ctx context.Context, args []string) error {
	if err := errors.Join(oneImage("inspect", args), checkFormat(a.flags.str("format"), "json")); err != nil {
		return err
	}
	i, err := a.lookup(ctx, args[0])
	if err != nil {
		return err
	}
	if a.flags.is("raw") { // byte for byte, so that its digest can be checked
		return a.printBytes(i.Manifest)
	}
	var manifest any = json.RawMessage(i.Manifest)
	if len(i.Manifest) == 0 {
		manifest = nil
	}
	return a.printJSON(struct {
		*builder.Inspection
		Manifest any `json:"manifest,omitempty"`
	}{i, manifest})
}

func historyCommand() command {
	return command{
		name: "history", group: "Images", args: "IMAGE or ls/inspect/logs/compare/export/report/rm", short: "Show the instructions that made an image, or the builds of the past",
		long: `With an image, show the instructions that made it, as docker history does; docker://NAME, oci://PATH
and so on name images elsewhere, see gobuild inspect. Else look at the
builds of the past: the last hundred are recorded, for thirty days, with all that their steps
printed. A build is named by its id, by enough of its beginning, by its last eight digits, or
as ^1, the one before the last; without a name the last one is meant.

  gobuild history IMAGE                  the instructions of an image
  gobuild history ls                     the builds, newest first
  gobuild history inspect [BUILD]        what is recorded of a build, as JSON
  gobuild history logs [BUILD [LINE]]    what its steps printed, or the one at a line
  gobuild history compare A [B]          what differs between two builds, the first cause first
  gobuild history export [BUILD] -o FILE a tar of record and log
  gobuild history report [BUILD] -o FILE a page of what it did, or with .json the record
  gobuild history rm BUILD...|--all      forget builds; what they made stays

An image that is called like one of these words is named with its tag: ls:latest.`,
		flags: historyFlags,
		run:   (*app).history,
	}
}

// historyRow is one entry of an image's history with the layer it made.
type historyRow struct {
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"createdBy"`
	Comment   string     `json:"comment,omitempty"`
	Empty     bool       `json:"emptyLayer,omitempty"`
	Layer     string     `json:"layer,omitempty"`
	Size      int64      `json:"size"`
}

func (a *app) history(ctx context.Context, args []string) error {
	f := a.flags
	if len(args) > 0 {
		if do := buildVerbs()[args[0]]; do != nil {
			return do(a, args[1:])
		}
	}
	if err := errors.Join(oneImage("history", args), checkFormat(f.str("format"), "table", "json")); err != nil {
		return err
	}
	i, err := a.lookup(ctx, args[0])
	if err != nil {
		return err
	}
	list := historyRows(i)
	if f.str("format") == "json" {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, h := range slices.Backward(list) { // newest first, as in Docker
		created := "-"
		if h.Created != nil {
			created = ago(*h.Created)
		}
		by := h.CreatedBy
		if !f.is("no-trunc") && len(by) > 60 {
			by = strings.ToValidUTF8(by[:57], "") + "..."
		}
		rows = append(rows, []string{created, units.HumanSizeWithPrecision(float64(h.Size), 3), by, h.Comment})
	}
	return a.table([]string{"CREATED", "SIZE", "CREATED BY", "COMMENT"}, rows)
}

// historyRows joins the history with the layers, oldest first.
func historyRows(i *builder.Inspection) []historyRow {
	rows := []historyRow{}
	next := 0
	for _, h := range i.Image.History {
		row := historyRow{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment, Empty: h.EmptyLayer}
		if !h.EmptyLayer && next < len(i.Layers) {
			row.Layer, row.Size = i.Layers[next].Digest.String(), i.Layers[next].Size
			next++
		}
		rows = append(rows, row)
	}
	for ; next < len(i.Layers); next++ { // a history may be missing or short
		rows = append(rows, historyRow{Layer: i.Layers[next].Digest.String(), Size: i.Layers[next].Size})
	}
	return rows
}

func tagCommand() command {
	return command{
		name: "tag", group: "Images", args: "IMAGE NAME...", short: "Give an image another name",
		run: func(a *app, ctx context.Context, args []string) error {
			if len(args) < 2 {
				return hint(usagef("gobuild tag takes an image and its new names"), "gobuild tag IMAGE NAME")
			}
			names := make([]string, 0, len(args)-1)
			for _, n := range args[1:] {
				name, err := imageName(n)
				if err != nil {
					return err
				}
				names = append(names, name)
			}
			return a.withBuilder(func(b *builder.Builder) error {
				for _, n := range names {
					if err := b.Tag(ctx, args[0], n); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func forceFlag() flagSpec {
	return flagSpec{name: "force", short: "f", kind: kindBool, does: noop, text: "nothing is asked"}
}
