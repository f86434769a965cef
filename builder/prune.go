package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/internal/bytelock"
	"gobuild/internal/filelock"
	"gobuild/snapshot"
	"gobuild/store"
)

// PruneOptions choose what goes. The zero value removes what only saves time:
// layers of steps, and blobs that neither a tag nor a remembered base image needs.
type PruneOptions struct {
	All         bool          // also cache mounts, and base images that no tag holds
	UnusedFor   time.Duration // only what was not used for that long
	Filter      UsageFilter   // only rows that it takes
	KeepStorage int64         // stop when at most that many bytes remain; 0: no floor
	MaxUsed     Space         // when given: only until no more than that remains
	MinFree     Space         // when given: only until that is free on the file system
	DryRun      bool
}

// Prune removes cache entries, snapshots and blobs, unless a build is under way. It returns what went (or would go).
func (b *Builder) Prune(ctx context.Context, opt PruneOptions) ([]Usage, error) {
	gone, err := b.prune(ctx, opt)
	if err != nil {
		return gone, classify(fmt.Errorf("prune: %w", err), CategoryEnvironment)
	}
	return gone, nil
}

func (b *Builder) prune(ctx context.Context, opt PruneOptions) ([]Usage, error) {
	lock, err := filelock.TryLock(filepath.Join(b.cfg.Root, "inuse"), filelock.Exclusive)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, &hinted{err: errors.New("a build is using the state directory"), hint: "run it again when the build has ended"}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	c, err := b.inventory(ctx, sizesExact)
	if err != nil {
		return nil, err
	}
	if _, err := b.annotate(ctx, c); err != nil {
		return nil, err
	}
	keep := b.kept(c, opt)
	total := int64(0)
	for _, row := range c.rows {
		total += row.Size
	}
	target, err := b.pruneTarget(opt, total)
	if err != nil {
		return nil, err
	}
	var gone []Usage
	for _, row := range c.rows {
		if !b.prunable(row, opt, keep) || total <= target {
			continue
		}
		if !opt.DryRun {
			if err := b.drop(ctx, c, row, "gobuild prune"); errors.Is(err, errKept) {
				continue
			} else if err != nil {
				return gone, fmt.Errorf("remove %s %s: %w", row.Type, row.ID, err)
			}
		}
		total -= row.Size
		gone = append(gone, row)
	}
	if opt.DryRun || len(opt.Filter) > 0 { // a filter chooses rows, and these records are in none
		return gone, nil
	}
	return gone, errors.Join(b.forgetRefs(c, opt), b.forgetDerived(c, opt), b.sweep())
}

// pruneTarget is down to how many bytes rows are removed, of total that there are; -1 when nothing bounds it.
func (b *Builder) pruneTarget(opt PruneOptions, total int64) (int64, error) {
	target := int64(-1)
	if opt.KeepStorage > 0 {
		target = opt.KeepStorage
	}
	if !opt.MaxUsed.Given && !opt.MinFree.Given {
		return target, nil
	}
	room, err := b.room(GCOptions{MaxUsed: opt.MaxUsed, MinFree: opt.MinFree})
	if err != nil {
		return 0, err
	}
	limit := total // what is to be there in the end, so that both limits hold
	if opt.MaxUsed.Given {
		limit = min(limit, room.maxUsed)
	}
	if opt.MinFree.Given {
		limit = min(limit, total-(room.minFree-room.free))
	}
	return max(target, limit), nil
}

// kept are the blobs that stay: of tags, and of base images unless --all.
func (b *Builder) kept(c *contentsOf, opt PruneOptions) map[digest.Digest]bool {
	keep := map[digest.Digest]bool{}
	for d := range c.tagged {
		keep[d] = true
	}
	if !opt.All {
		for _, r := range c.refs {
			b.mark(r.rec.Manifest, keep)
		}
	}
	return keep
}

func (b *Builder) prunable(row Usage, opt PruneOptions, keep map[digest.Digest]bool) bool {
	now := b.cfg.Now()
	if opt.UnusedFor > 0 && now.Sub(row.LastUsed) < opt.UnusedFor || !opt.Filter.takes(row, now) {
		return false
	}
	switch row.Type {
	case usageImage:
		return !keep[digest.Digest(row.ID)]
	case usageCacheMount:
		return opt.All
	}
	return true
}

// errKept says that a row stays because somebody relies on it.
var errKept = errors.New("in use")

// drop removes a row, its records first, while nobody can take hold of it: a record must never name what is gone.
func (b *Builder) drop(ctx context.Context, c *contentsOf, row Usage, by string) error {
	forget := func() error { return b.forgetKeys(by, c.records[row.ID]) }
	var err error
	switch row.Type {
	case usageImage:
		err = b.dropBlob(c, digest.Digest(row.ID), forget)
	case usageCacheMount:
		err = b.dropMount(ctx, row.ID)
	case usageContext:
		err = os.Remove(filepath.Join(b.cfg.Root, "statcache", row.ID))
	default:
		err = b.snapshots.Evict(ctx, snapshot.ID(row.ID), forget)
	}
	switch {
	case errors.Is(err, snapshot.ErrInUse), errors.Is(err, store.ErrInUse), errors.Is(err, bytelock.ErrHeld):
		return errKept
	case errors.Is(err, fs.ErrNotExist):
		return nil // somebody else was quicker
	}
	return err
}

// dropBlob looks once more whether a tag needs the blob: whoever tags it held it before, so what is not tagged now and held by
// nobody will not be.
func (b *Builder) dropBlob(c *contentsOf, d digest.Digest, forget func() error) error {
	return b.store.Evict(d, func() error {
		if b.store.TagStamp() != c.stamp {
			if err := b.addTagged(context.Background(), c); err != nil {
				return err
			}
		}
		if c.tagged[d] {
			return errKept
		}
		return forget()
	})
}

// dropMount moves a cache mount away while nobody can take hold of it, and then removes it as far as there is time.
func (b *Builder) dropMount(ctx context.Context, name string) error {
	release, err := bytelock.Exclude(b.mountPins(), name)
	if err != nil {
		return err
	}
	err = b.snapshots.Take(filepath.Join(b.cfg.Root, "mounts", name))
	release()
	if err != nil {
		return err
	}
	return b.snapshots.Sweep(ctx)
}

// forgetKeys deletes records, and notes who did so for those that an explanation may ask for.
func (b *Builder) forgetKeys(by string, keys []cache.Key) error {
	var steps []cache.Key
	for _, k := range keys {
		if isStep(k) {
			steps = append(steps, k)
		}
	}
	if err := b.cache.NoteEvicted(by, steps...); err != nil {
		return err
	}
	for _, k := range keys {
		if err := b.cache.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func isStep(k cache.Key) bool { return slices.Contains([]string{"run", "copy", "workdir"}, k.Kind()) }

func (b *Builder) forgetRefs(c *contentsOf, opt PruneOptions) error {
	if !opt.All {
		return nil
	}
	for _, r := range c.refs {
		if opt.UnusedFor > 0 && b.cfg.Now().Sub(r.used) < opt.UnusedFor {
			continue
		}
		if err := b.cache.Delete(r.key); err != nil {
			return err
		}
	}
	return nil
}

// forgetDerived drops records that would otherwise pile up: no row of du goes with them.
func (b *Builder) forgetDerived(c *contentsOf, opt PruneOptions) error {
	for _, r := range c.derived {
		if opt.UnusedFor > 0 && b.cfg.Now().Sub(r.used) < opt.UnusedFor {
			continue
		}
		if err := b.cache.Delete(r.key); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what killed processes left unfinished.
func (b *Builder) sweep() error {
	return errors.Join(b.snapshots.Sweep(context.Background()), b.cache.Sweep(), b.store.Sweep())
}
