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
	timer  *time.Timer
	since  time.Time // the timer was set
	left   time.Duration
	strike func()
}

// stepTick is how often a clock looks at the time. A tick that comes much later was kept from coming: this process was stopped
// (SIGSTOP, a frozen container), which nobody tells it, or the machine was. A command is not ended for that.
const stepTick = time.Second

// counted is what of the time since the last tick counts.
func counted(since time.Duration) time.Duration { return min(since, 2*stepTick) }

// set has the clock look again. Guarded by stepClocks.mu, as all of it.
func (s *stepClock) set(now time.Time) {
	s.since = now
	s.timer.Reset(max(min(s.left, stepTick), 0))
}

// tick takes off what has passed.
func (c *stepClocks) tick(s *stepClock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused || !c.running[s] {
		return
	}
	now := time.Now()
	if s.left -= counted(now.Sub(s.since)); s.left <= 0 {
		s.strike()
		return
	}
	s.set(now)
}

// within gives a context that ends with cause when a command has run for d.
func (c *stepClocks) within(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stepClock{left: d, strike: func() { cancel(cause) }}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.timer = time.AfterFunc(d, func() { c.tick(s) })
	if s.set(time.Now()); c.paused {
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
		s.timer.Stop()
		s.left -= counted(time.Since(s.since))
	}
}

func (c *stepClocks) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
	for s := range c.running {
		s.set(time.Now())
	}
}
