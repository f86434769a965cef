package main

import (
	"path/filepath"
	"strings"

	"gobuild/builder"
)

// fillEmulators is --emulator.
func (a *app) fillEmulators(opt *builder.Options, f flags) error {
	for _, text := range f.list("emulator") {
		arch, path, named := strings.Cut(text, "=")
		if !named {
			arch, path = builder.EmulatedBy(text), text
		}
		switch {
		case path == "":
			return usagef("--emulator=%s: want FILE or ARCH=FILE", text)
		case arch == "":
			return hint(usagef("--emulator=%s: the name does not tell for which architecture it is", text), "--emulator ARCH="+text)
		}
		full, err := filepath.Abs(path)
		if err != nil {
			return environmentf("--emulator=%s: %w", text, err)
		}
		opt.Emulators = append(opt.Emulators, builder.Emulator{Arch: arch, Path: full})
	}
	return nil
}
