package sbom

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// tomlLock reads the lock files that are lists of [[package]]: those of Cargo, Poetry, uv and PDM.
func tomlLock(kind string) tell {
	return func(s *scan, name string, f *os.File, size int64) error {
		data, err := whole(f, size, maxListFile)
		if err != nil {
			return err
		}
		var lock struct {
			Package []struct {
				Name     string `toml:"name"`
				Version  string `toml:"version"`
				Checksum any    `toml:"checksum"` // of Cargo: SHA-256
			} `toml:"package"`
		}
		if err := toml.Unmarshal(data, &lock); err != nil {
			return err
		}
		for _, e := range lock.Package {
			p := library(kind, e.Name, e.Version)
			if sum, ok := e.Checksum.(string); ok && isSHA256(sum) {
				p.Checksums = []Sum{{"SHA256", sum}}
			}
			if err := s.add(name, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func isSHA256(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && text == strings.ToLower(text)
}

// pipfileLock reads Pipfile.lock. An entry without an exact version is one of a folder or a repository.
func (s *scan) pipfileLock(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxListFile)
	if err != nil {
		return err
	}
	type list map[string]struct {
		Version string `json:"version"`
	}
	var lock struct {
		Default list `json:"default"`
		Develop list `json:"develop"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return err
	}
	for _, l := range []list{lock.Default, lock.Develop} {
		for _, base := range slices.Sorted(maps.Keys(l)) {
			version, exact := strings.CutPrefix(l[base].Version, "==")
			if !exact {
				continue
			}
			if err := s.add(name, library("pypi", base, version)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pythonMetadata reads the description of an installed Python package (Core metadata specifications).
func (s *scan) pythonMetadata(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxListFile) // the description of the project follows, however long
	if err != nil {
		return err
	}
	got := header(data, "Name", "Version", "License", "License-Expression", "Home-page", "Author", "Author-email")
	p := library("pypi", got["Name"], got["Version"])
	if p.License = got["License-Expression"]; p.License == "" {
		p.License = got["License"]
	}
	p.Homepage, p.Supplier = got["Home-page"], got["Author"]
	return s.add(name, p)
}

// composerLock reads composer.lock, and installed.json, which Composer leaves in vendor/composer.
func (s *scan) composerLock(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxListFile)
	if err != nil {
		return err
	}
	type list []struct {
		Name    string          `json:"name"`
		Version string          `json:"version"`
		License json.RawMessage `json:"license"`
	}
	var lock struct {
		Packages list `json:"packages"`
		Dev      list `json:"packages-dev"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		if json.Unmarshal(data, &lock.Packages) != nil { // Composer 1: the list alone
			return err
		}
	}
	for _, e := range append(lock.Packages, lock.Dev...) {
		if !strings.Contains(e.Name, "/") {
			continue // another tool's installed.json
		}
		p := library("composer", e.Name, e.Version)
		var licenses []string
		if json.Unmarshal(e.License, &licenses) == nil {
			p.License = strings.Join(licenses, " OR ")
		}
		if err := s.add(name, p); err != nil {
			return err
		}
	}
	return nil
}

// gemfileLock reads the gems of a Gemfile.lock: lines of four spaces, NAME (VERSION) or NAME (VERSION-PLATFORM).
func (s *scan) gemfileLock(name string, f *os.File, size int64) error {
	section := ""
	return s.lines(f, size, maxListFile, func(line string) error {
		if line != "" && line[0] != ' ' {
			section = strings.TrimSpace(line)
			return nil
		}
		rest, ok := strings.CutPrefix(line, "    ")
		if !ok || section != "GEM" && section != "GIT" || rest == "" || rest[0] == ' ' {
			return nil
		}
		base, version, ok := strings.Cut(strings.TrimSuffix(rest, ")"), " (")
		if !ok {
			return nil
		}
		version, _, _ = strings.Cut(version, "-") // a version of a gem has no hyphen
		return s.add(name, library("gem", base, version))
	})
}

// gradleLock reads gradle.lockfile: GROUP:NAME:VERSION=CONFIGURATIONS.
func (s *scan) gradleLock(name string, f *os.File, size int64) error {
	return s.lines(f, size, maxListFile, func(line string) error {
		coordinates, _, _ := strings.Cut(line, "=")
		parts := strings.Split(coordinates, ":")
		if strings.HasPrefix(line, "#") || len(parts) != 3 {
			return nil
		}
		return s.addMaven(name, parts[0], parts[1], parts[2])
	})
}

func (s *scan) addMaven(name, group, artifact, version string) error {
	p := Package{Kind: "maven", Name: group + ":" + artifact, Version: version, PURL: purl("maven", group, artifact, version)}
	if group == "" || artifact == "" {
		return nil
	}
	return s.add(name, p)
}

// dotnetDeps reads NAME.deps.json, which .NET has beside each program: the packages that it was built with.
func (s *scan) dotnetDeps(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxListFile)
	if err != nil {
		return err
	}
	var deps struct {
		Libraries map[string]struct {
			Type string `json:"type"`
		} `json:"libraries"`
	}
	if err := json.Unmarshal(data, &deps); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(deps.Libraries)) {
		base, version, ok := strings.Cut(key, "/")
		if !ok || deps.Libraries[key].Type != "package" {
			continue
		}
		if err := s.add(name, library("nuget", base, version)); err != nil {
			return err
		}
	}
	return nil
}
