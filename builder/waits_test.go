package builder

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ticking is a clock that goes on by a second whenever somebody looks at it.
func ticking() func() time.Time {
	var mu sync.Mutex
	now := time.Unix(1_700_000_000, 0)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

func waitsFor(s StepResult) string {
	var list []string
	for _, w := range s.Waits {
		list = append(list, w.For)
	}
	return strings.Join(list, ", ")
}

func TestO9_WhatAStepWaitedFor(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, "FROM base\nCOPY f /f\nRUN true\n", map[string]string{"f": "1"})
	exe, err := os.Executable()
	must(t, err)
	b, err := Open(Config{Root: p.root, Executable: exe, Now: ticking()})
	must(t, err)
	defer b.Close()
	var done []Event
	opt := p.opt
	opt.Context = p.dir
	opt.Progress = func(e Event) {
		if e.Type == EventStepDone {
			done = append(done, e)
		}
	}
	res, err := b.Build(t.Context(), opt)
	must(t, err)
	last := res.Steps[len(res.Steps)-1]
	if got := waitsFor(last); got != "the same step elsewhere, layers, a free slot" {
		t.Errorf("RUN waited for %q", got)
	}
	if before := res.Steps[len(res.Steps)-2]; waitsFor(before) != "the same step elsewhere, layers" {
		t.Errorf("COPY waited for %q", waitsFor(before))
	}
	for _, w := range last.Waits {
		if w.Duration < time.Second || w.Duration > last.Duration {
			t.Errorf("%s took %s of %s", w.For, w.Duration, last.Duration)
		}
	}
	if e := done[len(done)-1]; !slices.Equal(e.Waits, last.Waits) || !slices.Equal(res.Record.Steps[len(res.Steps)-1].Waits, last.Waits) {
		t.Errorf("told %v, recorded %v", e.Waits, res.Record.Steps[len(res.Steps)-1].Waits)
	}
	res, err = b.Build(t.Context(), opt)
	must(t, err)
	for _, s := range res.Steps {
		if len(s.Waits) > 0 {
			t.Errorf("cached %s waited for %q", s.Text, waitsFor(s))
		}
	}
}
