package sbom

import (
	"fmt"
	"os"

	"golang.org/x/mod/modfile"
)

// goMod reads the requirements of a go.mod: since Go 1.17 it names every module that its packages are built from.
func (s *scan) goMod(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxManifest)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	replaced := map[[2]string]*modfile.Replace{} // by path and version; no version: every one
	for _, r := range mod.Replace {
		replaced[[2]string{r.Old.Path, r.Old.Version}] = r
	}
	for _, r := range mod.Require {
		path, version := r.Mod.Path, r.Mod.Version
		by := replaced[[2]string{path, version}]
		if by == nil {
			by = replaced[[2]string{path, ""}]
		}
		if by != nil && by.New.Version != "" { // not a folder
			path, version = by.New.Path, by.New.Version
		}
		if err := s.add(name, library("golang", path, version)); err != nil {
			return err
		}
	}
	return nil
}
