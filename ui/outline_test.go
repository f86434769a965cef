package ui

import (
	"testing"

	"gobuild/builder"
	"gobuild/stages"
)

func outlined() *builder.Outline {
	app := stages.Target{Name: "app", Description: "is\x1b[31m it", Base: "b$X", Platform: "$P", Default: true, Pos: stages.Position{Start: 2, End: 3}}
	return &builder.Outline{
		Text: []byte("FROM x\n"), Target: app, Targets: []stages.Target{{Base: "scratch", Pos: stages.Position{Start: 1, End: 1}}, app},
		Args:    []stages.Arg{{Name: "A", Pos: stages.Position{Start: 1, End: 1}}, {Name: "LONGER", Value: "a\nb", Description: "is long", Pos: stages.Position{Start: 4, End: 4}}},
		Secrets: []stages.Need{{ID: "s", Required: true, Pos: stages.Position{Start: 5, End: 5}}},
		SSH:     []stages.Need{{ID: "default", Pos: stages.Position{Start: 6, End: 6}}},
	}
}

// rows: A8 N2
func TestA8_OutlineAndTargets(t *testing.T) {
	t.Parallel()
	golden(t, "outline_text", OutlineText(outlined()))
	golden(t, "targets_text", TargetsText(outlined()))
	if got := OutlineText(&builder.Outline{}); got != "" {
		t.Errorf("nothing to say, but %q", got)
	}
	unnamed := &builder.Outline{Target: stages.Target{Description: "x"}, Targets: []stages.Target{{Default: true}}}
	if got := OutlineText(unnamed) + TargetsText(unnamed); got != "TARGET:        (default)\nDESCRIPTION:   x\nTARGET      DESCRIPTION\n(default)\n" {
		t.Errorf("unnamed: %q", got)
	}
	for name, fn := range map[string]func(*builder.Outline) ([]byte, error){"outline_json": OutlineJSON, "targets_json": TargetsJSON} {
		got, err := fn(outlined())
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, string(got))
	}
}
