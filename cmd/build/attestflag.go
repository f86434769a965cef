package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
)

// fillAttest reads --provenance, --sbom and --attest (FEATURES M1, M3, M4). Of several for one type the last counts, and --provenance
// and --sbom before --attest, as in buildx.
func (a *app) fillAttest(opt *builder.Options, f flags) error {
	if f.given("provenance") {
		p, err := provenanceOf(f.str("provenance"))
		if err != nil {
			return hint(usagef("--provenance=%s: %w", f.str("provenance"), err), "want true, false, or mode=min or mode=max with further keys")
		}
		opt.Attest.Provenance = p
	}
	if f.given("sbom") {
		s, err := sbomOf(f.str("sbom"))
		if err != nil {
			return hint(usagef("--sbom=%s: %w", f.str("sbom"), err), "want true or false")
		}
		opt.Attest.SBOM = s
	}
	for _, text := range f.list("attest") {
		if err := addAttest(opt, text, f); err != nil {
			return hint(usagef("--attest=%s: %w", text, err), "want type=provenance[,mode=max] or type=sbom")
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

// sbomOf reads true, false or keys.
func sbomOf(text string) (*builder.SBOMOptions, error) {
	if on, err := strconv.ParseBool(text); err == nil {
		text = "disabled=" + strconv.FormatBool(!on)
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, err
	}
	return sbomFrom(fields)
}

func sbomFrom(fields []string) (*builder.SBOMOptions, error) {
	off := false
	for _, field := range fields {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "disabled":
			var err error
			if off, err = strconv.ParseBool(value); err != nil {
				return nil, usagef("disabled=%s: want true or false", value)
			}
		case "generator":
			return nil, usagef("images that make bills of materials are not run (generator=%s): gobuild looks itself", value)
		default:
			return nil, usagef("unknown key %q", key)
		}
	}
	if off {
		return nil, nil //nolint:nilnil // none is wanted
	}
	return &builder.SBOMOptions{Tool: "gobuild-" + buildVersion().Version}, nil
}

func addAttest(opt *builder.Options, text string, f flags) error {
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
	switch kind {
	case "provenance":
		p, err := provenanceFrom(rest)
		if err == nil && !f.given("provenance") {
			opt.Attest.Provenance = p
		}
		return err
	case "sbom":
		s, err := sbomFrom(rest)
		if err == nil && !f.given("sbom") {
			opt.Attest.SBOM = s
		}
		return err
	}
	return usagef("type=%q is no attestation", kind)
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
