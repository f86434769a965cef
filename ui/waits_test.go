package ui

import (
	"strings"
	"testing"
	"time"

	"gobuild/builder"
)

func TestO9_WaitsThatPeopleWouldNotice(t *testing.T) {
	t.Parallel()
	step := &builder.StepInfo{Number: 1, Total: 1, Text: "RUN x"}
	e := builder.Event{Type: builder.EventStepDone, Step: step, Duration: 3 * time.Second, Digest: "abc"}
	for mode, want := range map[Mode]string{
		Plain:   "---> abc 3.0s, waited 1.2s for a free slot and 0.50s for layers\n",
		RawJSON: `"waits":[{"for":"a free slot","durationNs":1200000000},{"for":"layers","durationNs":500000000},{"for":"nothing much","durationNs":20000000}]`,
	} {
		var out strings.Builder
		p := New(&out, Options{Mode: mode})
		for _, w := range []struct {
			what string
			time time.Duration
		}{{"a free slot", 1200 * time.Millisecond}, {"layers", 500 * time.Millisecond}, {"nothing much", 20 * time.Millisecond}} {
			e.Waits = append(e.Waits, builder.Wait{For: w.what, Duration: w.time})
		}
		p.Event(e)
		p.Close()
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", mode, out.String())
		}
		e.Waits = nil
	}
}
