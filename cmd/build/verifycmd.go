package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gobuild/builder"
	"gobuild/internal/tardiff"
	"gobuild/ui"
)

func verifyCommand() command {
	return command{
		name: "verify", group: "Images", args: "IMAGE [CONTEXT]", short: "Build an image again, and say what comes out otherwise",
		long: `Build an image again, without the cache, from its provenance or from the record of its build, and compare: the
digest, or else the layers, files and attributes that differ. Base images are those of that time, by digest.
The exit status is 0 if all images come out with the same digest, else 1.

  gobuild verify example.com/app:1 .                 by the provenance that is in the image's index
  gobuild verify app                                 by what gobuild history has of its build, if it has no provenance
  gobuild verify --record=meta.json app .            by the provenance in a --metadata-file
  gobuild verify docker://example.com/app:1 .        an image of a registry; oci://PATH and so on, too

With --provenance=mode=max the statement has the Dockerfile, build arguments and other options; with mode=min they are
taken from CONTEXT and the command line, which knows the flags of gobuild build. A context from git is fetched
at its commit when no CONTEXT is given. Secrets, entitlements, networks and devices are never taken from a statement.

  gobuild verify --key=cosign.pub example.com/app:1  is it signed with this key? Nothing is built; the status is 5 if not`,
		flags: verifyFlags,
		run:   (*app).verify, rights: func(f flags) rights {
			if f.str("key") != "" {
				return rightsOwn
			}
			return rightsSteps
		},
	}
}

// verifyFlags are those of build that say what is built, and how steps run.
func verifyFlags() []flagSpec {
	table := slices.DeleteFunc(append(whatFlags(), append(runFlags(), gcFlags()...)...), func(s flagSpec) bool {
		return slices.Contains([]string{
			"lock", "locked", "no-cache", "no-cache-filter", "cutoff", "cache-from", "cache-to", "provenance", "attest", "explain",
			"debug-on-failure", "with-secrets", "all-platforms", "arch", "os", "variant",
		}, s.name)
	})
	for i := range table {
		if table[i].name == "platform" {
			table[i].text = "of an index, only the images of these platforms (default all that this machine can run)"
		}
	}
	return append([]flagSpec{
		{name: "record", kind: kindString, arg: "BUILD|FILE", text: "the build that made it, as gobuild history names it, or the file of its --metadata-file (default the image's own provenance, else the build that made this digest)"},
		{name: "key", kind: kindString, arg: "FILE", text: "check the image's signature in its registry with this public key, in place of building it"},
		{name: "format", kind: kindString, arg: "FORMAT", text: "text (default) or json"},
		{name: "exit-code-from-step", kind: kindBool, text: "exit with the code of a failed RUN rather than 1"},
	}, table...)
}

// maxMetadata bounds a --metadata-file: a statement with a Dockerfile of 5 MiB.
const maxMetadata = 8 << 20

func (a *app) verify(ctx context.Context, args []string) (err error) {
	f := a.flags
	if len(args) == 0 || len(args) > 2 {
		return hint(usagef("gobuild verify takes an image and a build context, not %d arguments", len(args)), "gobuild verify IMAGE [CONTEXT]")
	}
	if err := checkFormat(f.str("format"), "text", "json"); err != nil {
		return err
	}
	if f.str("key") != "" {
		return a.verifySignature(ctx, args)
	}
	opt := builder.ReproduceOptions{Image: args[0], Platforms: splitLists(f.list("platform"))}
	if opt.Record, opt.Metadata, err = recordOf(f.str("record")); err != nil {
		return err
	}
	if opt.Build, err = a.buildOptions(f); err != nil {
		return err
	}
	if !f.given("source-date-epoch") && !f.given("timestamp") && !givenArg(f, "SOURCE_DATE_EPOCH") {
		// That of the environment is about the next build, not about this one.
		opt.Build.SourceDateEpoch = nil
		delete(opt.Build.BuildArgs, "SOURCE_DATE_EPOCH")
	}
	cleanup, err := a.verifyContext(&opt.Build, f, args[1:])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	var r *builder.Reproduction
	if err := a.withBuilder(func(b *builder.Builder) (err error) {
		r, err = b.Reproduce(ctx, opt)
		return err
	}); err != nil {
		return err
	}
	if f.str("format") == "json" {
		err = a.printJSON(r)
	} else {
		err = a.print(reproductionLines(r)...)
	}
	if r.Differs() > 0 {
		err = errors.Join(err, &statusError{exitStep})
	}
	return err
}

// verifySignature is verify --key.
func (a *app) verifySignature(ctx context.Context, args []string) error {
	if len(args) > 1 || a.flags.given("record") {
		return usagef("--key checks a signature and builds nothing: no CONTEXT and no --record belong to it")
	}
	key, err := a.publicKey()
	if err != nil {
		return err
	}
	return a.withBuilder(func(b *builder.Builder) error {
		v, err := b.VerifySignature(ctx, args[0], key)
		if err != nil {
			return err
		}
		if a.flags.str("format") == "json" {
			return a.printJSON(v)
		}
		var lines []string
		for _, s := range v.Signatures {
			lines = append(lines, ui.Line(fmt.Sprintf("%s is signed with this key, as %s", v.Digest, orNone(s.Repository))))
		}
		return a.print(lines...)
	})
}

// givenArg says that a build argument is on the command line.
func givenArg(f flags, name string) bool {
	return slices.ContainsFunc(f.list("build-arg"), func(arg string) bool { return arg == name || strings.HasPrefix(arg, name+"=") })
}

// recordOf reads a file of that name, if there is one; else it is the name of a build.
func recordOf(name string) (id string, metadata []byte, err error) {
	if st, err := os.Stat(name); name == "" || err != nil || !st.Mode().IsRegular() {
		return name, nil, nil //nolint:nilerr // a build, then
	}
	data, err := readBounded(name, maxMetadata)
	if err != nil {
		return "", nil, usagef("--record: %w", err)
	}
	return "", append([]byte{}, data...), nil
}

// verifyContext is fillContext for a context that need not be given.
func (a *app) verifyContext(opt *builder.Options, f flags, args []string) (cleanup func() error, err error) {
	if len(args) > 0 {
		return a.fillContext(opt, f, args)
	}
	cleanup = func() error { return nil }
	switch file := f.str("file"); {
	case file == "-":
		opt.DockerfileText, err = a.stdinDockerfile()
	case hasAnyPrefix(file, "http://", "https://"):
		opt.DockerfileURL = file
	default:
		opt.Dockerfile, err = existingFile("file", file)
	}
	return cleanup, err
}

// maxShownChanges bounds the lines for one layer; --format=json has all.
const maxShownChanges = 20

func reproductionLines(r *builder.Reproduction) []string {
	var lines []string
	for _, v := range r.Platforms {
		switch {
		case v.Skipped != "":
			lines = append(lines, ui.Line(fmt.Sprintf("%s %s was not built again: %s", v.Platform, v.Digest, v.Skipped)))
		case v.Same:
			lines = append(lines, ui.Line(fmt.Sprintf("%s %s comes out the same by %s", v.Platform, v.Digest, v.By)))
		default:
			lines = append(lines, ui.Line(fmt.Sprintf("%s %s comes out as %s by %s", v.Platform, v.Digest, v.Rebuilt, v.By)),
				ui.Line("  first difference: "+v.Difference.First()))
			lines = append(lines, discrepancyLines(v.Difference)...)
		}
	}
	return lines
}

func discrepancyLines(d *builder.Discrepancy) []string {
	var lines []string
	for _, l := range d.Layers {
		lines = append(lines, ui.Line(fmt.Sprintf("  layer %d: %s", l.Number, l.CreatedBy)))
		switch {
		case l.Old == "":
			lines = append(lines, "    it is new")
		case l.New == "":
			lines = append(lines, "    it is missing")
		case l.Packing != "":
			lines = append(lines, ui.Line("    the same files, packed otherwise: "+l.Packing))
		case l.Order:
			lines = append(lines, "    the same files in another order")
		case l.Header:
			lines = append(lines, "    the same files, with headers of another form")
		}
		lines = append(lines, changeLines(l.Diff)...)
	}
	for _, part := range []struct {
		name    string
		changes []builder.ConfigChange
	}{{"config", d.Config}, {"manifest", d.Manifest}} {
		for _, c := range part.changes {
			lines = append(lines, ui.Line(fmt.Sprintf("  %s %s: %s -> %s", part.name, c.Field, orNone(c.Old), orNone(c.New))))
		}
	}
	return lines
}

// changeLines has what differs in more than times first.
func changeLines(d tardiff.Diff) []string {
	var lines, times []string
	for _, c := range d.Changes {
		line := "    " + c.Path + " " + c.Kind
		for i, attr := range c.Attrs {
			sep := map[bool]string{true: ":", false: ","}[i == 0]
			line += fmt.Sprintf("%s %s %s -> %s", sep, attr.Name, orNone(attr.Old), orNone(attr.New))
		}
		if c.OnlyTimes() {
			times = append(times, ui.Line(line))
		} else {
			lines = append(lines, ui.Line(line))
		}
	}
	lines = append(lines, times...)
	if more := max(len(lines)-maxShownChanges, 0) + d.More; more > 0 {
		lines = append(lines[:min(len(lines), maxShownChanges)], fmt.Sprintf("    and %d more", more))
	}
	return lines
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
