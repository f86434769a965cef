package main

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"gobuild/builder"
)

// rows: M1 M3
func TestM3_ProvenanceFlags(t *testing.T) {
	t.Parallel()
	def := builder.ProvenanceOptions{Version: "v1", Filename: "provenance.json"}
	with := func(f func(*builder.ProvenanceOptions)) *builder.ProvenanceOptions {
		p := def
		f(&p)
		return &p
	}
	for _, tc := range []struct {
		args string
		want *builder.ProvenanceOptions
		err  string
	}{
		{args: ""},
		{args: "--provenance", want: &def},
		{args: "--provenance=true", want: &def},
		{args: "--provenance=false"},
		{args: "--provenance=max", want: with(func(p *builder.ProvenanceOptions) { p.Max = true })},
		{args: "--provenance=mode=max,version=v0.2,builder-id=https://ci,reproducible=true,inline-only=true,filename=p.json", want: &builder.ProvenanceOptions{
			Max: true, Version: "v0.2", BuilderID: "https://ci", Reproducible: true, InlineOnly: true, Filename: "p.json"}},
		{args: "--attest=type=provenance,mode=max", want: with(func(p *builder.ProvenanceOptions) { p.Max = true })},
		{args: "--attest=type=provenance,disabled=true"},
		{args: "--provenance=false --attest=type=provenance"},
		{args: "--provenance=mode=mid", err: "want min or max"},
		{args: "--provenance=mode=min,mode=max", err: "twice"},
		{args: "--provenance=version=v2", err: "want v1 or v0.2"},
		{args: "--provenance=reproducible=yes", err: "want true or false"},
		{args: "--provenance=filename=../p", err: "without a folder"},
		{args: "--provenance=colour=blue", err: "unknown key"},
		{args: "--attest=type=sign", err: "no attestation"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			attest, err := attestOf(t, tc.args)
			switch got := attest.Provenance; {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
			case err != nil:
				t.Error(err)
			case (got == nil) != (tc.want == nil) || got != nil && *got != *tc.want:
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// rows: M1 M4
func TestM4_BillOfMaterialsFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args       string
		want       bool
		err        string
		generator  string
		network    bool
		parameters string
	}{
		{args: ""},
		{args: "--sbom", want: true},
		{args: "--sbom=true", want: true},
		{args: "--sbom=false"},
		{args: "--attest=type=sbom", want: true},
		{args: "--attest=type=sbom,disabled=true"},
		{args: "--attest type=sbom --attest type=sbom,disabled=true"},
		{args: "--sbom=false --attest=type=sbom"},
		{args: "--sbom=generator=scanner:1", want: true, generator: "scanner:1"},
		{args: "--attest=type=sbom,generator=scanner:1,network=true,SELECT=all", want: true, generator: "scanner:1", network: true, parameters: "map[SELECT:all]"},
		{args: "--sbom=generator=", err: "names no image"},
		{args: "--sbom=SELECT=all", err: "unknown key \"SELECT\""},
		{args: "--sbom=network=true", err: "without generator"},
		{args: "--sbom=generator=a,SOURCE=/", err: "gobuild itself sets BUILDKIT_SCAN_SOURCE"},
		{args: "--sbom=generator=a,A-B=1", err: "want letters"},
		{args: "--sbom=maybe", err: "unknown key"},
		{args: "--attest=type=sbom,disabled=1x", err: "want true or false"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			attest, err := attestOf(t, tc.args)
			switch got := attest.SBOM; {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
			case err != nil:
				t.Error(err)
			case (got != nil) != tc.want || got != nil && !strings.HasPrefix(got.Tool, "gobuild-"):
				t.Errorf("got %+v, want %v", got, tc.want)
			case got != nil && (got.Generator != tc.generator || got.Network != tc.network || fmt.Sprint(got.Parameters) != cmp.Or(tc.parameters, "map[]")):
				t.Errorf("got %+v", got)
			}
		})
	}
}

// attestOf is what flags ask for.
func attestOf(t *testing.T, args string) (builder.AttestOptions, error) {
	t.Helper()
	f, _, err := judgeArgs(t, nil, strings.Fields(args)...)
	if err != nil {
		t.Fatal(err)
	}
	var opt builder.Options
	err = (&app{}).fillAttest(&opt, f)
	return opt.Attest, err
}
