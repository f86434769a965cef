package builder

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a command is stopped does not count for its time.
func TestG15G21_AStoppedStepHasNoClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c stepClocks
		late := errors.New("late")
		ctx, cancel := c.within(t.Context(), 10*time.Second, late)
		defer cancel()
		for range 2 {
			time.Sleep(3 * time.Second)
			c.pause()
			time.Sleep(time.Hour)
			during, over := c.within(t.Context(), time.Second, late) // begins while all are stopped
			time.Sleep(time.Hour)
			if ctx.Err() != nil || during.Err() != nil {
				t.Fatal("it ended while it was stopped")
			}
			c.resume()
			time.Sleep(999 * time.Millisecond)
			if synctest.Wait(); during.Err() != nil {
				t.Error("too early")
			}
			over()
		}
		time.Sleep(2 * time.Second) // 3 + 0.999 + 3 + 0.999 + 2 s
		if synctest.Wait(); ctx.Err() != nil {
			t.Error("before its time")
		}
		time.Sleep(3 * time.Millisecond)
		if synctest.Wait(); !errors.Is(context.Cause(ctx), late) {
			t.Errorf("after its time: %v", context.Cause(ctx))
		}
		if len(c.running) != 1 {
			t.Errorf("%d clocks are kept", len(c.running))
		}
	})
}

// TestHostileF37_AStopThatNobodyTellsOf: what gobuild itself did not run, as after SIGSTOP, does not count either, but for two ticks.
func TestHostileF37_AStopThatNobodyTellsOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c stepClocks
		ctx, cancel := c.within(t.Context(), 10*time.Second, errors.New("late"))
		defer cancel()
		for range 3 { // of 10 s they take 6 s
			c.mu.Lock()
			for s := range c.running {
				s.since = s.since.Add(-time.Hour) // as if the tick came so late
			}
			c.mu.Unlock()
			time.Sleep(stepTick)
			synctest.Wait()
		}
		time.Sleep(4*time.Second - time.Millisecond)
		if synctest.Wait(); ctx.Err() != nil {
			t.Error("before its time")
		}
		time.Sleep(time.Second)
		if synctest.Wait(); ctx.Err() == nil {
			t.Error("it does not end")
		}
	})
}
