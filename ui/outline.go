package ui

import (
	"strings"

	"gobuild/builder"
)

// OutlineText is what a target takes, for people: its build arguments with the
// values in force, its secrets and its SSH agents.
func OutlineText(o *builder.Outline) string {
	var blocks []string
	add := func(lines []string) { blocks = append(blocks, strings.Join(lines, "\n")+"\n") }
	if t := o.Target; t.Name != "" || t.Description != "" {
		rows := [][]string{{"TARGET:", targetName(t)}}
		if t.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", t.Description})
		}
		add(Table{Rows: rows}.Lines())
	}
	if len(o.Args) > 0 {
		t := Table{Header: []string{"BUILD ARG", "VALUE", "DESCRIPTION"}}
		for _, a := range o.Args {
			t.Rows = append(t.Rows, []string{a.Name, a.Value, a.Description})
		}
		add(t.Lines())
	}
	for _, kind := range []struct {
		title string
		needs []builder.OutlineNeed
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		if len(kind.needs) == 0 {
			continue
		}
		t := Table{Header: []string{kind.title, "REQUIRED"}}
		for _, n := range kind.needs {
			required := ""
			if n.Required {
				required = "true"
			}
			t.Rows = append(t.Rows, []string{n.ID, required})
		}
		add(t.Lines())
	}
	return strings.Join(blocks, "\n")
}

func targetName(t builder.OutlineTarget) string {
	if t.Name == "" {
		return "(default)"
	}
	return t.Name
}

// TargetsText lists targets for people.
func TargetsText(o *builder.Outline) string {
	t := Table{Header: []string{"TARGET", "DESCRIPTION"}}
	for _, target := range o.Targets {
		name := target.Name
		if target.Default {
			name = strings.TrimSpace(name + " (default)")
		}
		t.Rows = append(t.Rows, []string{name, target.Description})
	}
	return strings.Join(t.Lines(), "\n") + "\n"
}

// The types of OutlineJSON and TargetsJSON have the shape of BuildKit's
// result.json of the outline and targets subrequests, version 1.0.0.
type outlineReport struct {
	Name        string        `json:"name,omitempty"`
	Description string        `json:"description,omitempty"`
	Args        []outlineArg  `json:"args,omitempty"`
	Secrets     []outlineNeed `json:"secrets,omitempty"`
	SSH         []outlineNeed `json:"ssh,omitempty"`
	Sources     [][]byte      `json:"sources,omitempty"` // in base64
}

type outlineArg struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Value       string           `json:"value,omitempty"`
	Location    *outlineLocation `json:"location,omitempty"`
}

type outlineNeed struct {
	Name     string           `json:"name"`
	Required bool             `json:"required,omitempty"`
	Location *outlineLocation `json:"location,omitempty"`
}

type targetsReport struct {
	Targets []outlineTarget `json:"targets"`
	Sources [][]byte        `json:"sources"`
}

type outlineTarget struct {
	Name        string           `json:"name,omitempty"`
	Default     bool             `json:"default,omitempty"`
	Description string           `json:"description,omitempty"`
	Base        string           `json:"base,omitempty"`
	Platform    string           `json:"platform,omitempty"`
	Location    *outlineLocation `json:"location,omitempty"`
}

// outlineLocation has fewer fields than that of a check: what is zero is left out.
type outlineLocation struct {
	Ranges []outlineRange `json:"ranges,omitempty"`
}

type outlineRange struct {
	Start outlineLine `json:"start"`
	End   outlineLine `json:"end"`
}

type outlineLine struct {
	Line int `json:"line"`
}

func outlineAt(pos builder.Lines) *outlineLocation {
	loc := &outlineLocation{}
	for _, r := range location(pos.Start, pos.End).Ranges {
		loc.Ranges = append(loc.Ranges, outlineRange{outlineLine{r.Start.Line}, outlineLine{r.End.Line}})
	}
	return loc
}

// OutlineJSON is OutlineText for programs, in BuildKit's form.
func OutlineJSON(o *builder.Outline) ([]byte, error) {
	needs := func(list []builder.OutlineNeed) (out []outlineNeed) {
		for _, n := range list {
			out = append(out, outlineNeed{n.ID, n.Required, outlineAt(n.Pos)})
		}
		return out
	}
	report := outlineReport{
		Name: o.Target.Name, Description: o.Target.Description,
		Secrets: needs(o.Secrets), SSH: needs(o.SSH), Sources: [][]byte{o.Text},
	}
	for _, a := range o.Args {
		report.Args = append(report.Args, outlineArg{a.Name, a.Description, a.Value, outlineAt(a.Pos)})
	}
	return JSON(report, "  ")
}

// TargetsJSON is TargetsText for programs, in BuildKit's form.
func TargetsJSON(o *builder.Outline) ([]byte, error) {
	report := targetsReport{Targets: []outlineTarget{}, Sources: [][]byte{o.Text}}
	for _, t := range o.Targets {
		report.Targets = append(report.Targets, outlineTarget{t.Name, t.Default, t.Description, t.Base, t.Platform, outlineAt(t.Pos)})
	}
	return JSON(report, "  ")
}
