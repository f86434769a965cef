package stages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestN9_PlanFormats compares the drawings of the golden plan "formats".
func TestN9_PlanFormats(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/formats/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planOf(string(src), amd64())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"tree": plan.Tree(), "dot": plan.Dot(), "mermaid": plan.Mermaid()} {
		golden := filepath.Join("testdata/formats", "plan."+name)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s differs (-want +got), -update rewrites it:\n%s", name, diff)
		}
		if got != map[string]string{"tree": plan.Tree(), "dot": plan.Dot(), "mermaid": plan.Mermaid()}[name] {
			t.Errorf("%s is not stable", name)
		}
	}
}

func TestN9_TextCannotLeaveItsLabel(t *testing.T) {
	t.Parallel()
	hostile := "a\"];\nevil [label=\"\\\" `<b>&#1;"
	if got := dotText([]string{hostile, "two"}); got != `"a\"]; evil [label=\"\\\" `+"`"+`<b>&#1;\ntwo"` {
		t.Errorf("dot: %s", got)
	}
	got := mermaidText([]string{hostile})
	if strings.Count(got, `"`) != 2 || strings.ContainsAny(got, "\n<>`") {
		t.Errorf("mermaid: %s", got)
	}
}
