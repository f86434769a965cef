package builder

import (
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// TestHostileF19_AClockThatIsWrong: years off in both directions, before 1970, going back during a build: digests and keys do not notice,
// and what was made under one clock counts under the others.
func TestHostileF19_AClockThatIsWrong(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var hours atomic.Int64
	clocks := map[string]func() time.Time{
		"ten years early": func() time.Time { return now.AddDate(-10, 0, 0) },
		"ten years late":  func() time.Time { return now.AddDate(10, 0, 0) },
		"1970":            func() time.Time { return time.Unix(1, 0) },
		"before 1970":     func() time.Time { return time.Unix(-1e9, 0) },
	}
	const dockerfile = "FROM scratch AS one\nCOPY file /file\nWORKDIR /w\nFROM scratch\nCOPY --from=one /file /copy\n"
	epoch := time.Unix(0, 0)
	for name, clock := range clocks {
		p := newProject(t, dockerfile, map[string]string{"file": "text"})
		p.opt.SourceDateEpoch = &epoch
		first := buildAt(p, time.Now)
		if ran(first) == "" {
			t.Fatalf("%s: nothing ran at first", name)
		}
		if res := buildAt(p, clock); res.ID() != first.ID() || ran(res) != "" {
			t.Errorf("%s: %s and %s; ran again: %s", name, res.ID(), first.ID(), ran(res))
		}
		if clock().Before(epoch) {
			continue // times are clamped to the epoch from above alone: what is made before it says so
		}
		p.opt.NoCache = true
		back := func() time.Time { return now.Add(-time.Duration(hours.Add(1)) * time.Hour) }
		for _, c := range []func() time.Time{clock, back} {
			if res := buildAt(p, c); res.ID() != first.ID() {
				t.Errorf("%s, without cache: %s, before %s", name, res.ID(), first.ID())
			}
		}
	}
}

// buildAt builds under a clock.
func buildAt(p *project, clock func() time.Time) *Result {
	p.t.Helper()
	exe, err := os.Executable()
	must(p.t, err)
	b, err := Open(Config{Root: p.root, Executable: exe, Now: clock})
	must(p.t, err)
	defer func() { must(p.t, b.Close()) }()
	opt := p.opt
	opt.Context = p.dir
	res, err := b.Build(p.t.Context(), opt)
	must(p.t, err)
	return res
}
