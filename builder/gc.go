package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
)

// GCOptions say what is removed by itself after a build (FEATURES I16). The zero value is what the row says.
type GCOptions struct {
	Off      bool
	MaxUsed  Space         // what the state directory may take; default the smaller of 80 % and 100 GB
	Reserved Space         // below that nothing is removed for room; default the smaller of 10 % and 10 GB
	MinFree  Space         // what stays free on the file system; default 20 %
	Budget   time.Duration // how long it may take; default a second
}

// Space is bytes, or a part of the file system. The zero value is a default.
type Space struct {
	Given   bool
	Bytes   int64
	Percent int64 // when not 0
}

func (s Space) of(disk, otherwise int64) int64 {
	switch {
	case !s.Given:
		return otherwise
	case s.Percent != 0:
		return disk / 100 * s.Percent
	}
	return s.Bytes
}

// The rules of FEATURES I16.
const (
	gcEvery       = 10 * time.Minute
	gcAgedEvery   = 24 * time.Hour // how often age is looked at where room is not short
	gcBudget      = time.Second
	gcMounts      = 512 << 20 // cache mounts may take so much in all before those unused for gcMountsIdle go
	gcMountsIdle  = 48 * time.Hour
	gcIdle        = 60 * 24 * time.Hour
	gcSettled     = 2 * time.Hour // younger things are left: times of last use are known to the hour
	gcMaxUsed     = 100 << 30
	gcReserved    = 10 << 30
	sweepBudget   = 500 * time.Millisecond
	gcEvictorName = "the automatic clean-up"
)

// sweepWork removes what interrupted builds left, as far as that is not felt.
func (b *Builder) sweepWork(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepBudget)
	defer cancel()
	return errors.Join(b.store.Sweep(), b.snapshots.Sweep(ctx))
}

// collect makes room after a build, beside others that go on. It says what it did; it never fails a build.
func (bd *build) collect(ctx context.Context, failure error) {
	opt := bd.opt.GC
	full := errors.Is(failure, unix.ENOSPC) || errors.Is(failure, unix.EDQUOT)
	budget := bd.ceiling.remaining() // what was spent before writes is not spent again
	if full {
		budget = cmp.Or(opt.Budget, gcBudget)
	}
	if opt.Off || ctx.Err() != nil || budget <= 0 || !full && bd.since("gc") < gcEvery {
		return
	}
	within, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	gone, err := bd.gc(within, opt)
	bd.sayFreed(gone)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errNotLookedThrough):
		bd.sayTooLarge()
	case err != nil && within.Err() == nil:
		bd.notice(fmt.Sprintf("making room in the state directory: %v", err))
	}
}

// errNotLookedThrough: the time was over before it was known what there is.
var errNotLookedThrough = errors.New("not looked through")

// since is how long ago a stamp was set; very long if it never was, or if the clock went back.
func (b *Builder) since(name string) time.Duration {
	st, err := os.Stat(b.stamp(name))
	if err != nil {
		return gcIdle
	}
	if age := b.cfg.Now().Sub(st.ModTime()); age >= 0 {
		return age
	}
	return gcIdle
}

func (b *Builder) stamp(name string) string { return filepath.Join(b.cfg.Root, name+".stamp") }

func (b *Builder) setStamp(name string) error {
	return atomicfile.Write(b.stamp(name), nil, atomicfile.Options{Mtime: b.cfg.Now()})
}

// gc applies the rules. One process does it at a time; others go without.
func (b *Builder) gc(ctx context.Context, opt GCOptions) ([]Usage, error) {
	lock, err := filelock.TryLock(filepath.Join(b.cfg.Root, "gc"), filelock.Exclusive)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	if err := b.setStamp("gc"); err != nil {
		return nil, err
	}
	room, err := b.room(opt)
	if err != nil {
		return nil, err
	}
	if !room.short() && b.since("aged") < gcAgedEvery {
		return nil, nil // the file system as a whole holds less than we may: nothing need be looked through
	}
	c, err := b.inventory(ctx, sizesExact)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, errNotLookedThrough
	}
	if err != nil {
		return nil, err
	}
	col := newCollection(b, c, room)
	col.settled = gcSettled
	err = col.run(ctx)
	b.keepUse(col.used, col.room.taken)
	if err != nil {
		return col.gone, err
	}
	return col.gone, errors.Join(b.forgetIdle(ctx, c), b.setStamp("aged"))
}

// room is the state of the file system and the limits, in bytes.
type room struct {
	disk, taken, free          int64 // of the file system; free for everybody
	unused                     int64 // of it; only root may take all
	maxUsed, reserved, minFree int64
}

func (b *Builder) room(opt GCOptions) (room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.cfg.Root, &st); err != nil {
		return room{}, &os.PathError{Op: "statfs", Path: b.cfg.Root, Err: err}
	}
	block := st.Bsize
	disk := int64(st.Blocks) * block
	return room{
		disk: disk, taken: disk - int64(st.Bfree)*block, free: int64(st.Bavail) * block, unused: int64(st.Bfree) * block,
		maxUsed:  opt.MaxUsed.of(disk, min(disk/100*80, gcMaxUsed)),
		reserved: opt.Reserved.of(disk, min(disk/100*10, gcReserved)),
		minFree:  opt.MinFree.of(disk, disk/100*20),
	}, nil
}

// short says whether there might be too little room, from what costs nothing to know.
func (r room) short() bool { return r.taken > r.maxUsed || r.free < r.minFree }

// collection is one run of the rules over what there is.
type collection struct {
	b       *Builder
	c       *contentsOf
	room    room
	now     time.Time
	settled time.Duration   // what was used since is left
	need    int64           // bytes that are about to be written
	used    int64           // what is left
	mounts  int64           // of it, cache mounts
	tried   map[string]bool // gone, or not to be had
	gone    []Usage
}

func newCollection(b *Builder, c *contentsOf, room room) *collection {
	col := &collection{b: b, c: c, room: room, now: b.cfg.Now(), tried: map[string]bool{}}
	for _, row := range c.rows {
		col.used += row.Size
		if row.Type == usageCacheMount {
			col.mounts += row.Size
		}
	}
	return col
}

func (col *collection) run(ctx context.Context) error {
	rules := []func(Usage) bool{
		func(row Usage) bool {
			return row.Type == usageCacheMount && col.mounts > gcMounts && col.idle(row) >= gcMountsIdle
		},
		func(row Usage) bool { return col.idle(row) >= gcIdle },
		col.forRoom,
	}
	for _, rule := range rules {
		if err := col.apply(ctx, rule); err != nil {
			return err
		}
	}
	return nil
}

func (col *collection) idle(row Usage) time.Duration { return col.now.Sub(row.LastUsed) }

// forRoom is the rule for when there is too little room: what was used longest ago goes, down to the reserve.
func (col *collection) forRoom(row Usage) bool {
	over := col.used+col.need > col.room.maxUsed || col.room.free-col.need < col.room.minFree
	return over && col.used-row.Size >= col.room.reserved
}

// apply removes what a rule names, the longest unused first, as long as there is time.
func (col *collection) apply(ctx context.Context, rule func(Usage) bool) error {
	for _, row := range col.c.rows {
		name := row.Type + " " + row.ID
		if col.tried[name] || !row.Reclaimable || col.idle(row) < col.settled || !rule(row) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		col.tried[name] = true
		err := col.b.drop(ctx, col.c, row, gcEvictorName)
		if errors.Is(err, errKept) {
			continue
		}
		if err != nil {
			return fmt.Errorf("remove %s %s: %w", row.Type, row.ID, err)
		}
		col.used -= row.Size
		if row.Type == usageCacheMount {
			col.mounts -= row.Size
		}
		col.room.free += row.Size
		col.gone = append(col.gone, row)
	}
	return nil
}

// forgetIdle drops records that name nothing of size, and would pile up.
func (b *Builder) forgetIdle(ctx context.Context, c *contentsOf) error {
	for _, r := range c.derived {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if b.cfg.Now().Sub(r.used) < gcIdle {
			continue
		}
		if err := b.cache.Delete(r.key); err != nil {
			return err
		}
	}
	return nil
}
