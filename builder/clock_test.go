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

// TestHostileF19_TrimSparesWhatIsLive: whatever the clock of the clean-up says, it takes nothing from a build that goes on under another,
// nor what has a name; keys do not depend on the clock.
func TestHostileF19_TrimSparesWhatIsLive(t *testing.T) {
	t.Parallel()
	years := func(n int) func() time.Time { return func() time.Time { return time.Now().AddDate(n, 0, 0) } }
	clocks := map[string]func() time.Time{"now": time.Now, "early": years(-10), "late": years(10), "1970": func() time.Time { return time.Unix(1, 0) }}
	var keys string
	for built, clock := range clocks {
		for cleaned, other := range clocks {
			p := newProject(t, "FROM scratch AS a\nCOPY f /f\nWORKDIR /w\nFROM scratch\nCOPY --from=a / /a\nCOPY g /g\n", map[string]string{"f": "1", "g": "1"})
			p.opt.GC.Off = true
			p.opt.Tags = []string{"kept:1"}
			first := buildAt(p, clock)
			p.write("g", "2")
			var gcErr error
			p.during = func(e Event) {
				if e.Type == EventCache && e.Step != nil && e.Step.Text == "COPY g /g" {
					_, gcErr = p.at(other).gc(t.Context(), tight)
				}
			}
			p.opt.Tags = nil
			second := buildAt(p, clock)
			p.during = nil
			if again := buildAt(p, clock); gcErr != nil || ran(second) != "COPY g /g" || ran(again) != "" {
				t.Errorf("built at %s, cleaned at %s: ran %q, afterwards %q: %v", built, cleaned, ran(second), ran(again), gcErr)
			}
			if _, err := p.at(other).Inspect(t.Context(), "kept:1", ""); err != nil {
				t.Errorf("built at %s, cleaned at %s: %v", built, cleaned, err)
			}
			var now string
			for _, s := range append(first.Steps, second.Steps...) {
				now += s.Text + " " + s.Key.String() + "\n"
			}
			if keys == "" {
				keys = now
			}
			if now != keys {
				t.Errorf("built at %s: the keys are\n%s\nat another time\n%s", built, now, keys)
			}
		}
	}
}

// at opens the project's state under a clock.
func (p *project) at(clock func() time.Time) *Builder {
	p.t.Helper()
	exe, err := os.Executable()
	must(p.t, err)
	b, err := Open(Config{Root: p.root, Executable: exe, Now: clock})
	must(p.t, err)
	p.t.Cleanup(func() { must(p.t, b.Close()) })
	return b
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
	opt.Progress = p.during
	res, err := b.Build(p.t.Context(), opt)
	must(p.t, err)
	return res
}
