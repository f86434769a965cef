package builder

import (
	"context"
	"sync"
	"time"

	"gobuild/history"
)

// What a step waits for before it is done (FEATURES O9). Other stages are not among them: a step begins when these are done.
const (
	waitLock   = "the same step elsewhere" // in another process, or in another stage
	waitSlot   = "a free slot"             // of --jobs
	waitLayers = "layers"                  // of what it is made upon, to be fetched and unpacked
)

// Wait is what a step waited for.
type Wait = history.Wait

// leastWait is too short to be a wait: every lock takes some microseconds.
const leastWait = 10 * time.Millisecond

// waits are those of one step.
type waits struct {
	mu   sync.Mutex
	list []history.Wait
}

type waitsKey struct{}

// withWaits lets what runs below note what it waited for.
func withWaits(ctx context.Context) (context.Context, *waits) {
	w := &waits{}
	return context.WithValue(ctx, waitsKey{}, w), w
}

// waited notes a wait that began at a time and is over now.
func (bd *build) waited(ctx context.Context, what string, since time.Time) {
	w, _ := ctx.Value(waitsKey{}).(*waits)
	d := bd.cfg.Now().Sub(since)
	if w == nil || d < leastWait {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.list {
		if w.list[i].For == what { // once more, as when a file changed meanwhile
			w.list[i].Duration += d
			return
		}
	}
	w.list = append(w.list, history.Wait{For: what, Duration: d})
}

func (w *waits) all() []history.Wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.list
}
