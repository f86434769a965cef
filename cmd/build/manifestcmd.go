package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"gobuild/builder"
)

func manifestCommand() command {
	return command{
		name: "manifest", group: "Registries", args: "create/add/annotate/remove/inspect/push/rm", short: "Put an index together from images",
		long: `Put an index (a manifest list) together from images that were built apart, as docker manifest and
buildah manifest do. It lies in the store, with the images in it.

  gobuild manifest create NAME IMAGE...          make an index of images, of the store or else of registries
  gobuild manifest add NAME IMAGE...             add images to it
  gobuild manifest annotate NAME IMAGE --arch=.. change what it says of an image; without IMAGE, of itself
  gobuild manifest remove NAME IMAGE             take an image out
  gobuild manifest inspect NAME                  its JSON, or that of any image
  gobuild manifest push NAME [DESTINATION]       push it with all images in it
  gobuild manifest rm NAME                       forget it

IMAGE may also be a digest in the index, where one is looked for, and a place as for gobuild copy.`,
		flags: manifestFlags,
		run:   (*app).manifest,
	}
}

// manifestVerbs have the flags that each takes.
func manifestVerbs() map[string]struct {
	flags []string
	do    func(a *app, ctx context.Context, args []string) error
} {
	type verb = struct {
		flags []string
		do    func(a *app, ctx context.Context, args []string) error
	}
	return map[string]verb{
		"create":   {[]string{"amend", "all", "annotation", "insecure"}, (*app).manifestCreate},
		"add":      {[]string{"all", "annotation"}, (*app).manifestAdd},
		"annotate": {[]string{"arch", "os", "variant", "os-version", "os-features", "annotation", "index"}, (*app).manifestAnnotate},
		"remove":   {nil, (*app).manifestRemove},
		"inspect":  {[]string{"verbose", "insecure"}, (*app).manifestInspect},
		"push":     {[]string{"all", "purge", "rm", "insecure", "push-chunk", "push-ignore-immutable-tag-errors", "sign"}, (*app).manifestPush},
		"rm":       {nil, (*app).manifestForget},
	}
}

func manifestFlags() []flagSpec {
	useHost := "name the registry: --insecure-registry HOST"
	return []flagSpec{
		{name: "amend", short: "a", kind: kindBool, text: "create: add to an index that is there"},
		{name: "all", kind: kindBool, text: "create, add: of an index all images (default the one for this machine); push always sends all"},
		{name: "annotation", kind: kindList, arg: "KEY=VALUE", text: "create, and annotate without IMAGE or with --index: of the index; add, annotate: of the entry"},
		{name: "index", kind: kindBool, text: "annotate: the annotations are the index's own"},
		{name: "arch", kind: kindString, arg: "ARCH", text: "annotate: architecture of the image"},
		{name: "os", kind: kindString, arg: "OS", text: "annotate: operating system of the image"},
		{name: "variant", kind: kindString, arg: "VARIANT", text: "annotate: variant of the architecture"},
		{name: "os-version", kind: kindString, arg: "VERSION", text: "annotate: version of the operating system"},
		{name: "os-features", kind: kindList, arg: "FEATURE", text: "annotate: features of the operating system"},
		{name: "purge", short: "p", kind: kindBool, text: "push: forget the index after that"},
		{name: "rm", kind: kindBool, text: "push: the same as --purge"},
		{name: "verbose", short: "v", kind: kindBool, does: noop, text: "the JSON has everything"},
		laterBool("insecure", useHost),
		pushChunkFlag(), immutableFlag(), signFlag(),
	}
}

func (a *app) manifest(ctx context.Context, args []string) error {
	verbs := manifestVerbs()
	if len(args) == 0 {
		return hint(usagef("gobuild manifest: a command is missing"), "gobuild manifest create NAME IMAGE...")
	}
	verb, ok := verbs[args[0]]
	if !ok {
		e := usagef("unknown command gobuild manifest %s", args[0])
		if near := nearest(args[0], sortedKeys(verbs)); near != "" {
			return hint(e, "did you mean "+near+"?")
		}
		return hint(e, "they are "+strings.Join(sortedKeys(verbs), ", "))
	}
	for _, s := range manifestFlags() {
		if a.flags.given(s.name) && !slices.Contains(verb.flags, s.name) {
			return usagef("--%s is not for gobuild manifest %s", s.name, args[0])
		}
	}
	return verb.do(a, ctx, args[1:])
}

// printDigest prints what a change of an index gave.
func (a *app) printDigest(change func(b *builder.Builder) (digest.Digest, error)) error {
	return a.withBuilder(func(b *builder.Builder) error {
		d, err := change(b)
		if err != nil {
			return err
		}
		return a.print(d.String())
	})
}

// manifestAnnotations are those of --annotation.
func manifestAnnotations(f flags) (map[string]string, error) {
	all := map[string]string{}
	for _, text := range f.list("annotation") {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usagef("--annotation=%s: want KEY=VALUE", text)
		}
		all[key] = value
	}
	return all, nil
}

func (a *app) manifestCreate(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return hint(usagef("gobuild manifest create takes a name and images"), "gobuild manifest create NAME IMAGE...")
	}
	annotations, err := manifestAnnotations(a.flags)
	if err != nil {
		return err
	}
	return a.printDigest(func(b *builder.Builder) (digest.Digest, error) {
		return b.CreateManifest(ctx, builder.ManifestOptions{
			Name: args[0], Images: args[1:], Amend: a.flags.is("amend"), All: a.flags.is("all"), Annotations: annotations, Progress: a.printer.Event,
		})
	})
}

// manifestAdd annotates the entries that it adds, so it is create with what annotate does.
func (a *app) manifestAdd(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return hint(usagef("gobuild manifest add takes a name and images"), "gobuild manifest add NAME IMAGE...")
	}
	annotations, err := manifestAnnotations(a.flags)
	if err != nil {
		return err
	}
	return a.printDigest(func(b *builder.Builder) (digest.Digest, error) {
		return b.AddToManifest(ctx, builder.ManifestOptions{Name: args[0], Images: args[1:], All: a.flags.is("all"), Annotations: annotations, Progress: a.printer.Event})
	})
}

func (a *app) manifestAnnotate(ctx context.Context, args []string) error {
	f := a.flags
	if len(args) == 0 || len(args) > 2 {
		return hint(usagef("gobuild manifest annotate takes a name and an image in it"), "gobuild manifest annotate NAME IMAGE")
	}
	annotations, err := manifestAnnotations(f)
	if err != nil {
		return err
	}
	opt := builder.AnnotateOptions{
		Name: args[0], OS: f.str("os"), Arch: f.str("arch"), Variant: f.str("variant"), OSVersion: f.str("os-version"), OSFeatures: splitLists(f.list("os-features")),
		Annotations: annotations,
	}
	ofEntry := opt.OS+opt.Arch+opt.Variant+opt.OSVersion != "" || len(opt.OSFeatures) > 0
	switch {
	case f.is("index") && ofEntry:
		return usagef("--index is about annotations alone: a platform is that of an image")
	case f.is("index"):
	case len(args) == 2:
		opt.Image = args[1]
	case ofEntry:
		return hint(usagef("which image is of that platform?"), "gobuild manifest annotate NAME IMAGE")
	}
	return a.printDigest(func(b *builder.Builder) (digest.Digest, error) { return b.AnnotateManifest(ctx, opt) })
}

func (a *app) manifestRemove(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return hint(usagef("gobuild manifest remove takes a name and an image in it"), "gobuild manifest remove NAME IMAGE")
	}
	return a.printDigest(func(b *builder.Builder) (digest.Digest, error) { return b.RemoveFromManifest(ctx, args[0], args[1]) })
}

func (a *app) manifestInspect(ctx context.Context, args []string) error {
	if err := oneImage("manifest inspect", args); err != nil {
		return err
	}
	return a.withBuilder(func(b *builder.Builder) error {
		raw, err := b.ManifestText(ctx, args[0])
		if err != nil {
			return err
		}
		return a.printJSON(json.RawMessage(raw))
	})
}

func (a *app) manifestPush(ctx context.Context, args []string) error {
	f := a.flags
	if len(args) == 0 || len(args) > 2 {
		return hint(usagef("gobuild manifest push takes a name and perhaps where to"), "gobuild manifest push NAME [DESTINATION]")
	}
	name := args[0]
	if len(args) == 2 && f.given("sign") {
		return hint(usagef("--sign signs what is pushed under its own name"), "gobuild tag, then gobuild manifest push without DESTINATION")
	}
	key, err := a.signKey(ctx)
	if err != nil {
		return err
	}
	return a.printDigest(func(b *builder.Builder) (d digest.Digest, err error) {
		if _, err := b.ManifestIndex(name); err != nil {
			return "", err
		}
		if len(args) == 2 {
			d, err = b.Copy(ctx, builder.CopyOptions{From: "store://" + name, To: args[1], Progress: a.printer.Event})
		} else {
			d, err = b.Push(ctx, name, key, a.printer.Event)
		}
		if err == nil && (f.is("purge") || f.is("rm")) {
			_, err = b.Remove(ctx, []string{name})
		}
		return d, err
	})
}

func (a *app) manifestForget(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return hint(usagef("gobuild manifest rm takes names"), "gobuild manifest rm NAME...")
	}
	return a.withBuilder(func(b *builder.Builder) error {
		var errs []error
		for _, name := range args {
			if _, err := b.ManifestIndex(name); err != nil {
				errs = append(errs, err)
				continue
			}
			_, err := b.Remove(ctx, []string{name})
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}
