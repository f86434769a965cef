package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
)

// fillAttest reads --provenance and --attest (FEATURES M1, M3). Of several for one type the last counts, and --provenance before
// --attest, as in buildx.
func (a *app) fillAttest(opt *builder.Options, f flags) error {
	if f.given("provenance") {
		p, err := provenanceOf(f.str("provenance"))
		if err != nil {
			return hint(usagef("--provenance=%s: %w", f.str("provenance"), err), "want true, false, or mode=min or mode=max with further keys")
		}
		opt.Attest.Provenance = p
	}
	for _, text := range f.list("attest") {
		if err := addAttest(opt, text, f.given("provenance")); err != nil {
			return hint(usagef("--attest=%s: %w", text, err), "want type=provenance[,mode=max]")
		}
	}
	return nil
}

// provenanceOf reads true, false, min, max or keys.
func provenanceOf(text string) (*builder.ProvenanceOptions, error) {
	if on, err := strconv.ParseBool(text); err == nil {
		if !on {
			return nil, nil //nolint:nilnil // none is wanted
		}
		text = "mode=min"
	}
	if text == "min" || text == "max" {
		text = "mode=" + text
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, err
	}
	return provenanceFrom(fields)
}

func addAttest(opt *builder.Options, text string, chosen bool) error {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return err
	}
	kind := ""
	var rest []string
	for _, field := range fields {
		if v, ok := strings.CutPrefix(field, "type="); ok {
			kind = v
			continue
		}
		rest = append(rest, field)
	}
	if kind != "provenance" {
		if kind == "sbom" {
			return usagef("type=sbom is not supported yet: %s", noSBOM)
		}
		return usagef("type=%q is no attestation", kind)
	}
	p, err := provenanceFrom(rest)
	if err == nil && !chosen {
		opt.Attest.Provenance = p
	}
	return err
}

func provenanceFrom(fields []string) (*builder.ProvenanceOptions, error) {
	p := &builder.ProvenanceOptions{Version: "v1", Filename: "provenance.json"}
	seen := map[string]bool{}
	off := false
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok || seen[key] {
			return nil, usagef("%q is not KEY=VALUE, or is there twice", field)
		}
		seen[key] = true
		if key == "disabled" {
			b, err := strconv.ParseBool(value)
			if err != nil {
				return nil, usagef("disabled=%s: want true or false", value)
			}
			off = b
			continue
		}
		if err := setProvenance(p, key, value); err != nil {
			return nil, err
		}
	}
	if off {
		return nil, nil //nolint:nilnil // none is wanted
	}
	return p, nil
}

func setProvenance(p *builder.ProvenanceOptions, key, value string) error {
	var err error
	switch key {
	case "mode":
		if value != "min" && value != "max" {
			return usagef("mode=%s: want min or max", value)
		}
		p.Max = value == "max"
	case "version":
		if value != "v1" && value != "v0.2" {
			return usagef("version=%s: want v1 or v0.2", value)
		}
		p.Version = value
	case "builder-id":
		p.BuilderID = value
	case "reproducible":
		p.Reproducible, err = strconv.ParseBool(value)
	case "inline-only":
		p.InlineOnly, err = strconv.ParseBool(value)
	case "filename":
		if value == "" || value == "." || value == ".." || filepath.Base(value) != value {
			return usagef("filename=%s: want the name of a file, without a folder", value)
		}
		p.Filename = value
	default:
		return usagef("unknown key %q", key)
	}
	if err != nil {
		return usagef("%s=%s: want true or false", key, value)
	}
	return nil
}
