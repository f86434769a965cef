package ui

import (
	"strings"

	"gobuild/builder"
)

// Checks shows the rows of a diagnosis: state, name and what is there, and below it why that is not all, and what to do.
func Checks(checks []builder.Check, theme Theme) []string {
	name, state := 0, len(builder.StateLimited)
	for _, c := range checks {
		name = max(name, len(c.Name))
	}
	indent := strings.Repeat(" ", state+2)
	var lines []string
	for _, c := range checks {
		shown := theme.paint(stateColor(theme, c.State), string(c.State))
		lines = append(lines, shown+pad(string(c.State), state+2)+Line(c.Name)+pad(c.Name, name+2)+Line(c.Found))
		for _, more := range []struct{ label, text string }{{"why:    ", c.Why}, {"remedy: ", c.Remedy}} {
			if more.text != "" {
				lines = append(lines, indent+more.label+Line(more.text))
			}
		}
	}
	return lines
}

func pad(s string, width int) string { return strings.Repeat(" ", width-len(s)) }

func stateColor(t Theme, s builder.State) string {
	switch s {
	case builder.StateMissing:
		return t.Error
	case builder.StateLimited:
		return t.Warning
	case builder.StateOK:
	}
	return ""
}
