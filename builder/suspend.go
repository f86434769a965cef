package builder

import (
	"context"
	"sync"
	"time"

	"gobuild/sandbox"
)

// Suspend stops the steps that run, calls stopped, and lets them go on when that returns. The time in between does not count for
// RunOptions.StepTimeout. An error says that not all could be stopped.
func (b *Builder) Suspend(stopped func()) error {
	b.clocks.pause()
	defer b.clocks.resume()
	frozen, err := sandbox.Freeze()
	stopped()
	if frozen != nil {
		frozen.Thaw()
	}
	return err
}

// stepClocks are the clocks of the commands that run.
type stepClocks struct {
	mu      sync.Mutex
	paused  bool
	running map[*stepClock]bool
}

// stepClock ends a command after a time, of which what it is stopped is no part.
type stepClock struct {
	timer *time.Timer
	since time.Time // the timer was set
	left  time.Duration
}

// within gives a context that ends with cause when a command has run for d.
func (c *stepClocks) within(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stepClock{since: time.Now(), left: d}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.timer = time.AfterFunc(d, func() { cancel(cause) })
	if c.paused {
		s.timer.Stop()
	}
	if c.running == nil {
		c.running = map[*stepClock]bool{}
	}
	c.running[s] = true
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.timer.Stop()
		delete(c.running, s)
		cancel(context.Canceled)
	}
}

func (c *stepClocks) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = true
	for s := range c.running {
		if s.timer.Stop() {
			s.left -= time.Since(s.since)
		} else {
			s.left = 0 // it has struck
		}
	}
}

func (c *stepClocks) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
	for s := range c.running {
		s.since = time.Now()
		s.timer.Reset(max(s.left, 0))
	}
}
