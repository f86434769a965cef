package stages

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// TestGoldenPlans compares the plans of testdata/*/Dockerfile, made with the
// options of options.json, with plan.json.
func TestGoldenPlans(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden plans: %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			opt := amd64()
			if raw, err := os.ReadFile(filepath.Join(dir, "options.json")); err == nil {
				if err := json.Unmarshal(raw, &opt); err != nil {
					t.Fatal(err)
				}
			}
			plan, err := planOf(string(src), opt)
			if err != nil {
				t.Fatal(err)
			}
			checkPlan(t, plan)
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(plan); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join(dir, "plan.json")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("plan differs (-want +got), -update rewrites it:\n%s", diff)
			}
		})
	}
}
