package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"gobuild/builder"
	"gobuild/ui"
)

func untagCommand() command {
	return command{
		name: "untag", group: "Images", args: "IMAGE [NAME...]", short: "Take names from an image, all if none are given",
		long: "Take names from an image of the store, all of them if none are given. The image stays: it is found by its id until the next gobuild prune.",
		run: func(a *app, ctx context.Context, args []string) error {
			if len(args) == 0 {
				return hint(usagef("gobuild untag takes an image"), "gobuild untag IMAGE [NAME...]")
			}
			return a.withBuilder(func(b *builder.Builder) error {
				gone, err := b.Untag(ctx, args[0], args[1:])
				for _, g := range gone {
					if printed := a.print("Untagged: " + ui.Line(g)); printed != nil {
						return printed
					}
				}
				return err
			})
		},
	}
}

func saveCommand() command {
	return command{
		name: "save", group: "Images", args: "IMAGE", short: "Write an image of the store to an archive",
		long: "Write an image of the store to an archive: one that docker load and podman load read, or an OCI layout. gobuild copy writes from and to other places, too.",
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "output", short: "o", kind: kindString, arg: "FILE", text: "where to; - or nothing is standard output"},
				{name: "format", kind: kindString, arg: "FORMAT", text: "docker (default), oci, or oci-dir: a folder; podman's docker-archive and oci-archive are the same"},
				platformFlag("of an index, write the image of this platform alone"),
			}
		},
		run: (*app).save,
	}
}

func (a *app) save(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return hint(usagef("gobuild save takes one image, not %d", len(args)), "gobuild save -o FILE IMAGE, once for each image")
	}
	opt := builder.SaveOptions{Image: args[0], Format: a.flags.str("format"), Platform: a.flags.str("platform"), Dest: "-", Out: a.stdout, Progress: a.printer.Event}
	switch opt.Format {
	case "docker-archive":
		opt.Format = "docker"
	case "oci-archive":
		opt.Format = "oci"
	}
	if out := a.flags.str("output"); out != "" && out != "-" {
		opt.Dest = out
	} else if isTerminal(a.stdout) {
		return hint(usagef("gobuild save writes an archive, which is nothing for a terminal"), "gobuild save -o FILE "+ui.Line(args[0]))
	}
	a.printer.Sync()
	return a.withBuilder(func(b *builder.Builder) error {
		_, err := b.Save(ctx, opt)
		return err
	})
}

func loadCommand() command {
	return command{
		name: "load", group: "Images", short: "Put the images of an archive into the store",
		long: `Put the images of an archive into the store, with their names: one of docker save or podman save, an OCI
layout as a tar, or a folder with one. An image without a full name is found by its id. Every blob is
checked against its digest.`,
		flags: func() []flagSpec {
			return append(gcFlags(),
				flagSpec{name: "input", short: "i", kind: kindString, arg: "FILE", text: "the archive or the folder; - or nothing is standard input"},
				flagSpec{name: "quiet", short: "q", kind: kindBool, text: "print only the result"},
			)
		},
		run: (*app).loadArchive,
	}
}

func (a *app) loadArchive(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return hint(usagef("gobuild load takes no arguments"), "gobuild load -i "+ui.Line(args[0]))
	}
	path := a.flags.str("input")
	if path == "" || path == "-" {
		if isTerminal(a.stdin) {
			return hint(usagef("gobuild load reads an archive, and standard input is a terminal"), "gobuild load -i FILE")
		}
		spool, err := a.spoolInput()
		if err != nil {
			return err
		}
		defer spool.Close()
		path = fmt.Sprintf("/proc/self/fd/%d", spool.Fd())
	}
	return a.withBuilder(func(b *builder.Builder) error {
		list, err := b.Load(ctx, path, a.printer.Event)
		for _, l := range list {
			text := "Loaded image: " + ui.Line(l.Name)
			if l.Name == "" {
				text = "Loaded image ID: " + l.ID.String()
			}
			if printed := a.print(text); printed != nil {
				return printed
			}
		}
		return err
	})
}

// spoolInput puts standard input into a file without a name: an archive is read in any order.
func (a *app) spoolInput() (*os.File, error) {
	spool, err := os.CreateTemp(a.env.tempDir(), "gobuild-load-*")
	if err != nil {
		return nil, environmentf("read archive: %w", err)
	}
	if err := os.Remove(spool.Name()); err != nil {
		_ = spool.Close() // nothing was written
		return nil, environmentf("read archive: %w", err)
	}
	if _, err := io.Copy(spool, a.stdin); err != nil {
		_ = spool.Close() // it is gone with that
		return nil, environmentf("read archive from standard input: %w", err)
	}
	return spool, nil
}
