package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

func filesCommand() command {
	return command{
		name: "files", group: "Images", args: "IMAGE", short: "List the files of an image, and what its layers waste",
		long: "List the files of an image of the store, or of another place, with the layer that each is from; then the bytes that lower layers hold of files that were replaced or removed later.\n" + placesText,
		flags: func() []flagSpec {
			return []flagSpec{
				platformFlag("of an index, look at the image of this platform (default this machine's)"),
				{name: "layer", kind: kindString, arg: "NUMBER|DIGEST", text: "only the files that are from this layer, counted from 1 at the bottom"},
				{name: "wasted", kind: kindBool, text: "only what is wasted"},
				formatFlag(),
			}
		},
		run: (*app).files,
	}
}

func (a *app) files(ctx context.Context, args []string) error {
	f := a.flags
	if err := firstError(oneImage("files", args), checkFormat(f.str("format"), "table", "json")); err != nil {
		return err
	}
	var list *builder.FileList
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		list, err = b.Files(ctx, args[0], f.str("platform"))
		return err
	})
	if err != nil {
		return err
	}
	if f.given("layer") {
		n, err := layerNumber(list, f.str("layer"))
		if err != nil {
			return err
		}
		list.Files = slices.DeleteFunc(list.Files, func(x builder.FileInfo) bool { return x.Layer != n })
	}
	if f.is("wasted") {
		list.Files = []builder.FileInfo{}
	}
	if f.str("format") == "json" {
		return a.printJSON(list)
	}
	return a.filesTable(list)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// layerNumber finds a layer by its number from 1 or by the beginning of one of its digests.
func layerNumber(list *builder.FileList, want string) (int, error) {
	if n, err := strconv.Atoi(want); err == nil && n >= 1 && n <= len(list.Layers) && len(want) < 6 {
		return n - 1, nil
	}
	hex := strings.TrimPrefix(want, "sha256:")
	for i, l := range list.Layers {
		if len(hex) >= 6 && (strings.HasPrefix(l.Digest.Encoded(), hex) || strings.HasPrefix(l.DiffID.Encoded(), hex)) {
			return i, nil
		}
	}
	return 0, hint(usagef("--layer=%s: the image has no such layer", want), fmt.Sprintf("it has the layers 1 to %d", len(list.Layers)))
}

func (a *app) filesTable(list *builder.FileList) error {
	if len(list.Files) > 0 {
		var rows [][]string
		for _, x := range list.Files {
			name := x.Path
			if x.Link != "" {
				name += " -> " + x.Link
			}
			rows = append(rows, []string{modeText(x), fmt.Sprintf("%d:%d", x.UID, x.GID), sizeText(x.Size), strconv.Itoa(x.Layer + 1), name})
		}
		if err := a.table([]string{"MODE", "OWNER", "SIZE", "LAYER", "PATH"}, rows); err != nil {
			return err
		}
	}
	if len(list.Waste) > 0 {
		var rows [][]string
		for _, w := range list.Waste {
			rows = append(rows, []string{sizeText(w.Bytes), strconv.Itoa(w.Times), "/" + w.Path})
		}
		if err := a.table([]string{"WASTED", "TIMES", "PATH"}, rows); err != nil {
			return err
		}
	}
	return a.print(fmt.Sprintf("%s in files, %s wasted in lower layers", sizeText(list.Bytes), sizeText(list.Wasted)))
}

func modeText(x builder.FileInfo) string {
	letters := map[string]string{"file": "-", "directory": "d", "symlink": "l", "fifo": "p", "device": "c"}
	return fmt.Sprintf("%s%04o", letters[x.Type], x.Mode)
}

func sizeText(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func diffCommand() command {
	return command{
		name: "diff", group: "Images", args: "IMAGE IMAGE", short: "Compare two images: configuration, layers, files",
		long: "Compare two images of the store, or of other places: configuration, layers and files. Times of files are no difference.\n" + placesText,
		flags: func() []flagSpec {
			return []flagSpec{
				platformFlag("of an index, compare the image of this platform (default this machine's)"),
				{name: "format", kind: kindString, arg: "FORMAT", text: "text (default) or json"},
			}
		},
		run: func(a *app, ctx context.Context, args []string) error {
			if len(args) != 2 {
				return hint(usagef("gobuild diff takes two images, not %d", len(args)), "gobuild diff OLD NEW")
			}
			if err := checkFormat(a.flags.str("format"), "text", "json"); err != nil {
				return err
			}
			return a.withBuilder(func(b *builder.Builder) error {
				d, err := b.Diff(ctx, args[0], args[1], a.flags.str("platform"))
				if err != nil {
					return err
				}
				if a.flags.str("format") == "json" {
					return a.printJSON(d)
				}
				return a.print(diffLines(d)...)
			})
		},
	}
}

// diffLines is a difference for people: - is of the first image, + of the second, ~ of both.
func diffLines(d *builder.Difference) []string {
	if d.Old == d.New {
		return []string{"the images are the same: " + d.Old.String()}
	}
	lines := []string{"- " + d.Old.String(), "+ " + d.New.String()}
	for _, c := range d.Config {
		if c.Old != "" {
			lines = append(lines, ui.Line("- config "+c.Field+" "+c.Old))
		}
		if c.New != "" {
			lines = append(lines, ui.Line("+ config "+c.Field+" "+c.New))
		}
	}
	if d.Shared > 0 {
		lines = append(lines, fmt.Sprintf("  %d layers are the same", d.Shared))
	}
	for sign, layers := range [][]builder.LayerInfo{d.Layers.Old, d.Layers.New} {
		for _, l := range layers {
			lines = append(lines, ui.Line(fmt.Sprintf("%s layer %s %s %s", "-+"[sign:sign+1], shortDigest(l.Digest.String(), false), sizeText(l.Size), l.CreatedBy)))
		}
	}
	for _, c := range d.Files {
		switch c.Change {
		case "added":
			lines = append(lines, ui.Line(fmt.Sprintf("+ %s %s %s", modeText(*c.New), sizeText(c.New.Size), c.Path)))
		case "removed":
			lines = append(lines, ui.Line(fmt.Sprintf("- %s %s %s", modeText(*c.Old), sizeText(c.Old.Size), c.Path)))
		default:
			lines = append(lines, ui.Line(fmt.Sprintf("~ %s %s %s (%s)", modeText(*c.New), sizeText(c.New.Size), c.Path, strings.Join(c.What, ", "))))
		}
	}
	if len(d.Files) == 0 {
		lines = append(lines, "  the files are the same")
	}
	return lines
}
