package main

import (
	"testing"

	"gobuild/builder"
)

func TestI16_SizesAndParts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]builder.Space{
		"10GB": {Given: true, Bytes: 10_000_000_000}, "0": {Given: true}, "0%": {Given: true}, "80%": {Given: true, Percent: 80}, "100%": {Given: true, Percent: 100},
	} {
		if got, err := parseSpace(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "101%", "-1", "-1%", "1.5%", "x"} {
		if got, err := parseSpace(text); err == nil {
			t.Errorf("%q is accepted as %+v", text, got)
		}
	}
}
