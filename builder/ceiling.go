package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
)

// ceiling keeps what one process writes below the limits of GCOptions: it is asked before each large write, and removes what was
// used longest ago where the write would pass them. All that a command waits for this is GCOptions.Budget.
type ceiling struct {
	opt  GCOptions
	turn chan struct{} // one at a time looks through the state directory and removes

	mu      sync.Mutex
	left    time.Duration // of the budget
	pending int64         // bytes that are being written
	told    bool          // that a limit cannot be kept

	// Guarded by turn.
	col  *collection // what there is, once it was looked through
	kept *use        // as in the file, once it was written
}

// limitTo sets the limits for what this command will write.
func (b *Builder) limitTo(opt GCOptions) {
	b.ceiling = &ceiling{opt: opt, turn: make(chan struct{}, 1), left: cmp.Or(opt.Budget, gcBudget)}
}

// spend takes the time since begun off what is left for making room.
func (c *ceiling) spend(spent time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left -= spent
}

func (c *ceiling) remaining() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

func (c *ceiling) add(size int64) (pending int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending += size
	return c.pending
}

// reserve makes room for size bytes that are about to be written below the state directory; release is called when they are
// written, or will not be. Where limits cannot be kept, it says so once and lets the write go on. It fails where what, unless it
// is "", is larger than what the file system has left: nothing then begins that cannot end.
func (b *Builder) reserve(ctx context.Context, size int64, what string) (release func(), err error) {
	c := b.ceiling
	pending := c.add(size)
	var once sync.Once
	release = func() { once.Do(func() { c.add(-size) }) }
	if err := b.makeRoom(ctx, size, pending, what); err != nil {
		release()
		return func() {}, err
	}
	return release, nil
}

func (b *Builder) makeRoom(ctx context.Context, size, pending int64, what string) error {
	c := b.ceiling
	room, err := b.room(c.opt)
	if err != nil {
		return err
	}
	short := what != "" && size > room.unused
	if !c.opt.Off && (short || b.mayPass(room, pending)) {
		if err := b.freeFor(ctx, pending); err != nil {
			return err
		}
		if room, err = b.room(c.opt); err != nil {
			return err
		}
	}
	if what != "" && size > room.unused {
		return fmt.Errorf("%s takes %s, and the file system of %s has %s left: %w", what, human(size), b.cfg.Root, human(room.unused), unix.ENOSPC)
	}
	return nil
}

// mayPass says whether a write might pass a limit, from what costs nothing to know.
func (b *Builder) mayPass(room room, size int64) bool {
	if room.free-size < room.minFree && (b.ceiling.opt.wordOf(room, size) || b.usedAtMost(room) >= room.reserved) {
		return true // else nothing would be removed, and nothing said
	}
	return room.taken+size > room.maxUsed && b.usedAtMost(room)+size > room.maxUsed
}

// usedAtMost is a bound on what the state directory takes: what it took when it was looked through last, and all that the file
// system took since.
func (b *Builder) usedAtMost(room room) int64 {
	used, taken, ok := b.keptUse()
	if !ok {
		return room.taken
	}
	return min(room.taken, used+max(0, room.taken-taken))
}

// freeFor removes what was used longest ago until size more bytes are within the limits, as far as the budget allows. It fails
// only when ctx ends.
func (b *Builder) freeFor(ctx context.Context, size int64) error {
	c := b.ceiling
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	left := c.remaining()
	if left <= 0 {
		return nil
	}
	begun := b.cfg.Now()
	within, cancel := context.WithTimeout(ctx, left)
	gone, err := b.freeWithin(within, size)
	cancel()
	c.spend(b.cfg.Now().Sub(begun))
	b.sayFreed(gone)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded) && c.col == nil:
		b.sayTooLarge()
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		b.notice(fmt.Sprintf("making room in the state directory: %v", err))
	}
	return nil
}

func (b *Builder) freeWithin(ctx context.Context, size int64) ([]Usage, error) {
	c := b.ceiling
	room, err := b.room(c.opt)
	if err != nil {
		return nil, err
	}
	if c.col == nil {
		found, err := b.inventory(ctx, sizesAsKnown)
		if err != nil {
			return nil, err
		}
		c.col = newCollection(b, found, room)
	} else {
		c.col.used += max(0, room.taken-c.col.room.taken)
		c.col.room = room
	}
	c.col.need = size
	begun := len(c.col.gone)
	if size <= room.maxUsed && size <= room.unused+c.col.used { // else nothing that could be removed would help, and sizes are claims
		err = c.col.apply(ctx, c.col.forRoom)
	}
	if after, rerr := b.room(c.opt); rerr == nil {
		c.col.room = after
	}
	if now := (use{c.col.used, c.col.room.taken}); c.changed(now) {
		b.keepUse(now.used, now.taken)
	}
	if err == nil {
		b.sayLimit(c.col, size)
	}
	return c.col.gone[begun:], err
}

// useGrain is by how much the directory may grow before that is written again.
const useGrain = 64 << 20

// changed says whether others would learn something from what is known now. They go by the difference: a step before which nothing was
// removed costs no write.
func (c *ceiling) changed(now use) bool {
	if c.kept != nil && now.used-now.taken == c.kept.used-c.kept.taken && now.used < c.kept.used+useGrain {
		return false
	}
	c.kept = &now
	return true
}

func (b *Builder) sayFreed(gone []Usage) {
	var freed int64
	for _, row := range gone {
		freed += row.Size
	}
	if freed > 0 {
		b.notice(fmt.Sprintf("made room in the state directory: %s that had not been used since %s (--gc=off keeps everything)",
			human(freed), gone[len(gone)-1].LastUsed.UTC().Format(time.DateTime)))
	}
}

// sayLimit tells once that nothing more can go. A limit that nobody asked for is worth a word only where room is really short.
func (b *Builder) sayLimit(col *collection, size int64) {
	c, room := b.ceiling, col.room
	text := ""
	switch {
	case col.used+size > room.maxUsed && c.opt.MaxUsed.Given:
		text = fmt.Sprintf("the state directory takes more than %s (--gc-max-used-space)", human(room.maxUsed))
	case room.free-size < room.minFree && c.opt.wordOf(room, size):
		text = fmt.Sprintf("less than %s stays free on the file system of the state directory (--gc-min-free-space)", human(room.minFree))
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.told {
		c.told = true
		b.notice(text + ": what is left is in use, has a name or is within --gc-reserved-space; `gobuild du` shows it, `gobuild prune` removes more")
	}
}

// wordOf says whether a user wants to hear that the file system has less left than it should.
func (opt *GCOptions) wordOf(room room, size int64) bool {
	return opt.MinFree.Given || room.free-size < room.disk/20
}

// sayTooLarge tells that the limits cannot be kept by what a user waits for.
func (b *Builder) sayTooLarge() {
	b.notice("the state directory has too many entries to be looked through while a build waits, so nothing was removed: run `gobuild prune --unused-for=48h`, " +
		"which takes the time it needs; `gobuild du` shows what there is")
}

// use is what the state directory takes, and what the whole file system does at that time.
type use struct{ used, taken int64 }

// keepUse remembers what the state directory takes, beside what the whole file system did at that time. Without it the next
// process looks through the directory earlier than it must.
func (b *Builder) keepUse(used, taken int64) {
	_ = atomicfile.Write(filepath.Join(b.cfg.Root, "use"), fmt.Appendf(nil, useForm, used, taken), atomicfile.Options{})
}

const useForm = "gobuild use 1\nused %d\ntaken %d\n"

func (b *Builder) keptUse() (used, taken int64, ok bool) {
	data, err := os.ReadFile(filepath.Join(b.cfg.Root, "use"))
	if err != nil {
		return 0, 0, false
	}
	n, err := fmt.Sscanf(string(data), useForm, &used, &taken)
	return used, taken, n == 2 && err == nil && used >= 0 && taken >= 0
}

func human(size int64) string { return units.HumanSizeWithPrecision(float64(size), 3) }
