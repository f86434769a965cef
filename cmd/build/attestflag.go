package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
	"gobuild/internal/lazyre"
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
			return hint(usagef("--sbom=%s: %w", f.str("sbom"), err), "want true, false, or generator=IMAGE with further keys")
		}
		opt.Attest.SBOM = s
	}
	for _, text := range f.list("attest") {
		if err := addAttest(opt, text, f); err != nil {
			return hint(usagef("--attest=%s: %w", text, err), "want type=provenance[,mode=max] or type=sbom[,generator=IMAGE]")
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
	out := &builder.SBOMOptions{Tool: "gobuild-" + buildVersion().Version, Parameters: map[string]string{}}
	for _, field := range fields {
		var err error
		switch key, value, _ := strings.Cut(field, "="); key {
		case "disabled":
			off, err = strconv.ParseBool(value)
		case "network":
			out.Network, err = strconv.ParseBool(value)
		case "generator":
			if out.Generator = value; value == "" {
				return nil, usagef("generator= names no image")
			}
		default:
			out.Parameters[key] = value
		}
		if err != nil {
			return nil, usagef("%s: want true or false", field)
		}
	}
	if err := checkParameters(out); err != nil {
		return nil, err
	}
	if off {
		return nil, nil //nolint:nilnil // none is wanted
	}
	return out, nil
}

// checkParameters finds keys that nobody would read: gobuild itself knows none, and a generator gets each as a variable.
func checkParameters(o *builder.SBOMOptions) error {
	for _, key := range slices.Sorted(maps.Keys(o.Parameters)) {
		switch {
		case o.Generator == "":
			return usagef("unknown key %q", key)
		case !parameterName.MatchString(key):
			return usagef("key %q: want letters, digits and _, as it becomes the variable BUILDKIT_SCAN_KEY of the generator", key)
		case slices.Contains([]string{"DESTINATION", "SOURCE", "SOURCE_EXTRAS"}, key):
			return usagef("key %q: gobuild itself sets BUILDKIT_SCAN_%s", key, key)
		}
	}
	if o.Network && o.Generator == "" {
		return usagef("network=true without generator=IMAGE")
	}
	return nil
}

var parameterName = lazyre.New(`^[A-Za-z_][A-Za-z0-9_]*$`)

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
