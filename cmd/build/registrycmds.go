package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gobuild/builder"
	"gobuild/ui"
)

// placesText says how the commands that take images from anywhere name them.
const placesText = "docker://NAME is an image of a registry, store://NAME of the store, oci://PATH[:TAG] a layout (a folder or a tar), oci-archive://FILE[:TAG] and docker-archive://FILE[:NAME] are archives."

func platformFlag(text string) flagSpec {
	return flagSpec{name: "platform", kind: kindString, arg: "OS/ARCH", text: text}
}

// pushChunkFlag is also a flag of builds.
func pushChunkFlag() flagSpec {
	return flagSpec{name: "push-chunk", kind: kindString, arg: "SIZE", text: "upload larger blobs in chunks of this size, e.g. 16m, for proxies that limit requests (default: whole, and in chunks when that fails)"}
}

// immutableFlag is also a flag of builds.
func immutableFlag() flagSpec {
	return flagSpec{name: "push-ignore-immutable-tag-errors", kind: kindBool, text: "push by digest, with a notice, where a tag is there and the registry lets nobody move it"}
}

func copyCommand() command {
	return command{
		name: "copy", group: "Registries", args: "SOURCE DESTINATION", short: "Copy an image from one place to another",
		long: "Copy an image or an index from one place to another, with its digest.\n" + placesText + "\nA name without a scheme is of a registry.",
		flags: func() []flagSpec {
			return append(gcFlags(),
				platformFlag("of an index, copy the image of this platform alone (default the whole index)"),
				pushChunkFlag(), immutableFlag(),
				flagSpec{name: "quiet", short: "q", kind: kindBool, text: "print only the digest"},
			)
		},
		run: func(a *app, ctx context.Context, args []string) error {
			if len(args) != 2 {
				return hint(usagef("gobuild copy takes a source and a destination, not %d arguments", len(args)), "e.g. gobuild copy alpine:3.20 oci://alpine:3.20")
			}
			return a.withBuilder(func(b *builder.Builder) error {
				d, err := b.Copy(ctx, builder.CopyOptions{From: args[0], To: args[1], Platform: a.flags.str("platform"), Progress: a.printer.Event})
				if err != nil {
					return err
				}
				return a.print(d.String())
			})
		},
	}
}

func tagsCommand() command {
	return command{
		name: "tags", group: "Registries", args: "REPOSITORY", short: "List the tags of a repository in its registry",
		flags: func() []flagSpec { return []flagSpec{linesFlag()} },
		run: func(a *app, ctx context.Context, args []string) error {
			return a.remoteList(ctx, "tags", "REPOSITORY", args, (*builder.Builder).Tags)
		},
	}
}

func catalogCommand() command {
	return command{
		name: "catalog", group: "Registries", args: "HOST", short: "List the repositories of a registry",
		long:  "List the repositories of a registry. Many registries do not offer that.",
		flags: func() []flagSpec { return []flagSpec{linesFlag()} },
		run: func(a *app, ctx context.Context, args []string) error {
			return a.remoteList(ctx, "catalog", "HOST", args, (*builder.Builder).Catalog)
		},
	}
}

func linesFlag() flagSpec {
	return flagSpec{name: "format", kind: kindString, arg: "FORMAT", text: "lines (default) or json"}
}

func (a *app) remoteList(ctx context.Context, name, what string, args []string, get func(*builder.Builder, context.Context, string) ([]string, error)) error {
	if len(args) != 1 {
		return hint(usagef("gobuild %s takes one argument, not %d", name, len(args)), "gobuild "+name+" "+what)
	}
	if err := checkFormat(a.flags.str("format"), "lines", "json"); err != nil {
		return err
	}
	return a.withBuilder(func(b *builder.Builder) error {
		list, err := get(b, ctx, args[0])
		switch {
		case err != nil:
			return err
		case a.flags.str("format") == "json":
			return a.printJSON(append([]string{}, list...))
		case len(list) == 0:
			return nil
		}
		return a.print(list...)
	})
}

func pushCommand() command {
	return command{
		name: "push", group: "Registries", args: "IMAGE", short: "Push an image of the store to its registry",
		flags: func() []flagSpec {
			return []flagSpec{pushChunkFlag(), immutableFlag(), signFlag(), {name: "quiet", short: "q", kind: kindBool, text: "print only the digest"}}
		},
		run: func(a *app, ctx context.Context, args []string) error {
			if err := oneImage("push", args); err != nil {
				return err
			}
			key, err := a.signKey(ctx)
			if err != nil {
				return err
			}
			return a.withBuilder(func(b *builder.Builder) error {
				d, err := b.Push(ctx, args[0], key, a.printer.Event)
				if err != nil {
					return err
				}
				return a.print(d.String())
			})
		},
	}
}

func pullCommand() command {
	return command{
		name: "pull", group: "Registries", args: "IMAGE", short: "Fetch an image into the store",
		flags: func() []flagSpec {
			return append([]flagSpec{
				{name: "platform", kind: kindList, arg: "OS/ARCH", text: "platform to fetch (default this machine's)"},
				{name: "all-platforms", short: "a", kind: kindBool, text: "fetch the whole index, with every image in it"},
				{name: "quiet", short: "q", kind: kindBool, text: "print only the digest"},
			}, gcFlags()...)
		},
		run: func(a *app, ctx context.Context, args []string) error {
			if err := oneImage("pull", args); err != nil {
				return err
			}
			var opt builder.Options
			if err := a.fillPlatform(&opt, a.flags); err != nil {
				return err
			}
			if a.flags.is("all-platforms") {
				if a.flags.given("platform") {
					return usagef("--platform and --all-platforms exclude each other")
				}
				return a.withBuilder(func(b *builder.Builder) error { return a.pullAll(ctx, b, args[0]) })
			}
			return a.withBuilder(func(b *builder.Builder) error {
				d, err := b.Pull(ctx, args[0], strings.Join(opt.Platforms, ","), a.printer.Event)
				if err != nil {
					return err
				}
				return a.print(d.String())
			})
		},
	}
}

// pullAll fetches what a name means as it is, under that name.
func (a *app) pullAll(ctx context.Context, b *builder.Builder, name string) error {
	d, err := b.Copy(ctx, builder.CopyOptions{From: "docker://" + name, To: "store://" + name, Progress: a.printer.Event})
	if err != nil {
		return err
	}
	return a.print(d.String())
}

func rmiCommand() command {
	return command{
		name: "rmi", group: "Images", args: "IMAGE...", short: "Remove names from the store",
		long: "Remove names from the store. Data that no name holds goes with the next gobuild prune.\n" +
			"With --remote, remove tags from their registries; NAME@DIGEST removes the manifest with all its tags.",
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "remote", kind: kindBool, text: "remove the names from their registries, not from the store"},
				forceFlag(),
			}
		},
		run: func(a *app, ctx context.Context, args []string) error {
			if len(args) == 0 {
				return hint(usagef("gobuild rmi takes the images to remove"), "gobuild rmi IMAGE...")
			}
			remove := (*builder.Builder).Remove
			if a.flags.is("remote") {
				remove = (*builder.Builder).RemoveRemote
			}
			return a.withBuilder(func(b *builder.Builder) error {
				gone, err := remove(b, ctx, args)
				for i, g := range gone {
					gone[i] = "Untagged: " + ui.Line(g)
				}
				if len(gone) > 0 {
					err = errors.Join(err, a.print(gone...))
				}
				return err
			})
		},
	}
}

// hostArgument is the registry that login and logout are about; the Hub when none is named.
func hostArgument(name string, args []string) (string, error) {
	switch len(args) {
	case 0:
		return "docker.io", nil
	case 1:
		return args[0], nil
	}
	return "", hint(usagef("gobuild %s takes one registry, not %d", name, len(args)), fmt.Sprintf("gobuild %s HOST", name))
}
