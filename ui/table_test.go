package ui

import (
	"strings"
	"testing"

	"gobuild/builder"
)

func TestTable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		table Table
		want  string
	}{
		{"columns start at one place", Table{Header: []string{"NAME", "SIZE"}, Rows: [][]string{{"a", "1"}, {"longer", "22"}}}, "NAME     SIZE\na        1\nlonger   22"},
		{"numbers end at one place", Table{Header: []string{"SIZE", "NAME"}, Right: []bool{true}, Rows: [][]string{{"1", "a"}, {"100kB", "b"}}}, " SIZE   NAME\n    1   a\n100kB   b"},
		{"cells cannot break a line or a terminal", Table{Rows: [][]string{{"a\nb\x1b[31m", "c"}}}, `a\nb\x1b[31m   c`},
		{"width counts characters", Table{Rows: [][]string{{"ää", "x"}, {"bb", "y"}}}, "ää   x\nbb   y"},
		{"no header", Table{Rows: [][]string{{"a", ""}}}, "a"},
		{"nothing", Table{}, ""},
	}
	for _, tt := range tests {
		if got := strings.Join(tt.table.Lines(), "\n"); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestN10_ChecksAsLines(t *testing.T) {
	t.Parallel()
	checks := []builder.Check{
		{Name: "RUN steps", State: builder.StateMissing, Found: "cannot run", Why: "not\nroot", Remedy: "sudo gobuild build ..."},
		{Name: "disk", State: builder.StateLimited, Found: "ext4", Why: "little is free"},
		{Name: "clock", State: builder.StateOK, Found: "2030"},
	}
	want := `missing  RUN steps  cannot run
         why:    not\nroot
         remedy: sudo gobuild build ...
limited  disk       ext4
         why:    little is free
ok       clock      2030`
	if got := strings.Join(Checks(checks, Theme{}), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Checks(checks, DefaultTheme())[0]; got != "\x1b[31mmissing\x1b[0m  RUN steps  cannot run" {
		t.Errorf("%q", got)
	}
}
