package builder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// records counts the files below the cache's directory.
func (p *project) records() int {
	p.t.Helper()
	if _, err := os.Stat(filepath.Join(p.root, "cache")); errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	return len(filesBelow(p.t, filepath.Join(p.root, "cache")))
}

// rows: I17
func TestPruneKeepsWhatTagsNeed(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch AS a\nCOPY f /f\nFROM scratch\nCOPY --from=a /f /g\n", map[string]string{"f": "1"})
	p.opt.Tags = []string{"kept:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	gone, err := b.Prune(t.Context(), PruneOptions{DryRun: true})
	if err != nil || len(gone) == 0 || p.records() == 0 {
		t.Fatalf("dry run: %v, %v", gone, err)
	}
	if gone, err = b.Prune(t.Context(), PruneOptions{UnusedFor: time.Hour}); err != nil || len(gone) != 0 {
		t.Errorf("all was used a moment ago, but went: %v, %v", gone, err)
	}
	if _, err = b.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	rows, err := b.DiskUsage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Type != usageImage || r.Reclaimable {
			t.Errorf("left: %+v", r)
		}
	}
	if _, err := b.Inspect(t.Context(), "kept:1", ""); err != nil {
		t.Errorf("the tagged image: %v", err)
	}
	if _, err := b.Remove(t.Context(), []string{"kept:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err = b.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if rows, err = b.DiskUsage(t.Context(), nil); err != nil || len(rows) != 0 {
		t.Errorf("left after --all: %v, %v", rows, err)
	}
	for _, name := range filesBelow(t, filepath.Join(p.root, "cache")) {
		if strings.Contains(name, "records") {
			t.Errorf("record left: %s", name)
		}
	}
	if res, err := p.build(); err != nil || strings.Count(ran(res), "\n") != 1 {
		t.Errorf("the next build: %v", err)
	}
}

// A build under way keeps everything: prune says so and takes nothing.
//
// rows: I17
func TestPruneWaitsForNoBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY nothing* f /f/\n", map[string]string{"f": "1"})
	other := p.builder()
	var pruneErr error
	p.during = func(e Event) {
		if e.Type == EventWarning && pruneErr == nil {
			_, pruneErr = other.Prune(t.Context(), PruneOptions{All: true})
		}
	}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if pruneErr == nil || !strings.Contains(pruneErr.Error(), "is using the state directory") {
		t.Errorf("prune during a build: %v", pruneErr)
	}
}
