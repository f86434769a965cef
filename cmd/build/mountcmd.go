package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gobuild/builder"
)

// mountArgs takes the ID and the FILE of a command.
func mountArgs(verb string, args []string) (id, file string, err error) {
	if len(args) != 2 || args[0] == "" || args[1] == "" {
		return "", "", hint(usagef("gobuild cache %s takes an id and a file", verb), "gobuild cache "+verb+" ID FILE")
	}
	return args[0], args[1], nil
}

// exportMount writes what a cache mount holds (FEATURES I13).
func (a *app) exportMount(ctx context.Context, args []string) error {
	id, file, err := mountArgs("export-mount", args)
	if err != nil {
		return err
	}
	return a.withBuilder(func(b *builder.Builder) error { return b.ExportMount(ctx, id, file, a.stdout) })
}

// importMount replaces what a cache mount holds.
func (a *app) importMount(ctx context.Context, args []string) error {
	id, file, err := mountArgs("import-mount", args)
	if err != nil {
		return err
	}
	in := a.stdin
	if file == "-" {
		if isTerminal(in) {
			return hint(usagef("standard input is a terminal"), "gobuild cache import-mount ID FILE")
		}
	} else {
		f, err := os.Open(file)
		if err != nil {
			return environmentf("import cache mount %s: %w", id, err)
		}
		defer f.Close()
		in = f
	}
	var m builder.CacheMountInfo
	err = a.withBuilder(func(b *builder.Builder) (err error) {
		m, err = b.ImportMount(ctx, id, in)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(m.Name)
}

// removeMounts removes cache mounts by id, and prints the names of those that went.
func (a *app) removeMounts(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return hint(usagef("gobuild cache rm-mount takes an id"), "gobuild cache rm-mount ID...")
	}
	var lines []string
	err := a.withBuilder(func(b *builder.Builder) error {
		var errs []error
		for _, id := range ids {
			gone, err := b.RemoveMount(ctx, id)
			for _, m := range gone {
				lines = append(lines, fmt.Sprintf("%s %s", m.Name, m.ID))
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if len(lines) > 0 {
		err = errors.Join(a.print(lines...), err)
	}
	return err
}
