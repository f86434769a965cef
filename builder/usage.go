package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/internal/filelock"
	"gobuild/snapshot"
)

// Usage is one row of gobuild du.
type Usage struct {
	Type        string    `json:"type"` // regular, exec.cachemount, image
	ID          string    `json:"id"`
	Size        int64     `json:"size"` // bytes on disk
	Reclaimable bool      `json:"reclaimable"`
	LastUsed    time.Time `json:"lastUsed"`
	Description string    `json:"description,omitempty"`
}

// The types of Usage (FEATURES I17).
const (
	usageRegular    = "regular"         // the directory of a step or of a base's layer
	usageCacheMount = "exec.cachemount" // what RUN --mount=type=cache keeps
	usageImage      = "image"           // a blob
)

// contentsOf is everything in the state directory, and what refers to what.
type contentsOf struct {
	rows    []Usage
	records map[string][]cache.Key        // by the id of the row that goes with them
	steps   map[snapshot.ID]stepUse       // directories that a step record names
	layers  map[digest.Digest][]cache.Key // blobs that a layer record names
	refs    []refUse                      // what base image names meant
	derived []recordUse                   // records that can be computed again, or only name what may be gone
	tagged  map[digest.Digest]bool        // blobs that a tag needs
}

type stepUse struct {
	key  cache.Key
	slot string
	used time.Time
}

type recordUse struct {
	key  cache.Key
	used time.Time
}

type refUse struct {
	key  cache.Key
	used time.Time
	rec  refRecord
}

// DiskUsage lists what the state directory holds.
func (b *Builder) DiskUsage(ctx context.Context) ([]Usage, error) {
	c, err := b.inventory(ctx)
	if err != nil {
		return nil, classify(fmt.Errorf("look through the state directory: %w", err), CategoryEnvironment)
	}
	return c.rows, nil
}

func (b *Builder) inventory(ctx context.Context) (*contentsOf, error) {
	c := &contentsOf{
		records: map[string][]cache.Key{}, steps: map[snapshot.ID]stepUse{}, layers: map[digest.Digest][]cache.Key{}, tagged: map[digest.Digest]bool{},
	}
	for _, part := range []func(context.Context, *contentsOf) error{b.addRecords, b.addTagged, b.addSnapshots, b.addBlobs, b.addCacheMounts} {
		if err := part(ctx, c); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	sort.Slice(c.rows, func(i, j int) bool { return c.rows[i].LastUsed.Before(c.rows[j].LastUsed) })
	return c, nil
}

func (b *Builder) addRecords(_ context.Context, c *contentsOf) error {
	return b.cache.Walk(func(rec cache.Record, _ int64, used time.Time) error {
		switch rec.Key.Kind() {
		case "run", "copy", "workdir":
			var r stepRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.steps[r.ID] = stepUse{rec.Key, rec.Slot, used}
			}
		case "layer":
			var r layerRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.layers[r.Desc.Digest] = append(c.layers[r.Desc.Digest], rec.Key)
			}
		case "content", "image":
			c.derived = append(c.derived, recordUse{rec.Key, used})
		case "ref":
			var r refRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.refs = append(c.refs, refUse{rec.Key, used, r})
			}
		}
		return nil
	})
}

func (b *Builder) addTagged(ctx context.Context, c *contentsOf) error {
	tags, err := b.store.Tags()
	if err != nil {
		return err
	}
	for _, t := range tags {
		b.mark(t.Desc, c.tagged)
	}
	return nil
}

// mark adds an image's blobs to a set; an image whose documents are gone holds nothing.
func (b *Builder) mark(desc ocispec.Descriptor, set map[digest.Digest]bool) {
	set[desc.Digest] = true
	m, _, err := b.read(desc)
	if err != nil {
		return
	}
	set[m.Config.Digest] = true
	for _, l := range m.Layers {
		set[l.Digest] = true
	}
}

func (b *Builder) addSnapshots(_ context.Context, c *contentsOf) error {
	return b.snapshots.List(func(id snapshot.ID, info snapshot.Info) error {
		size, err := b.snapshots.Size(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		row := Usage{Type: usageRegular, ID: string(id), Size: size, Reclaimable: true, LastUsed: info.Created, Description: "layer of a base image"}
		if use, ok := c.steps[id]; ok {
			row.LastUsed, row.Description = use.used, describeSlot(use.slot)
			c.records[row.ID] = append(c.records[row.ID], use.key)
			if use.key.Kind() == "copy" {
				c.records[row.ID] = append(c.records[row.ID], filesKey(use.key.Digest()))
			}
		}
		c.rows = append(c.rows, row)
		return nil
	})
}

// describeSlot words a slot, which is file|stage|index|instruction.
func describeSlot(slot string) string {
	parts := strings.Split(slot, "|")
	if len(parts) != 4 {
		return slot
	}
	if parts[1] == "" {
		return fmt.Sprintf("%s in %s", parts[3], parts[0])
	}
	return fmt.Sprintf("%s in stage %s of %s", parts[3], parts[1], parts[0])
}

func (b *Builder) addBlobs(_ context.Context, c *contentsOf) error {
	return b.store.WalkBlobs(func(d digest.Digest, size int64, mtime time.Time) error {
		row := Usage{Type: usageImage, ID: d.String(), Size: size, LastUsed: mtime, Reclaimable: !c.tagged[d]}
		if c.tagged[d] {
			row.Description = "of a tagged image"
		}
		c.records[row.ID] = append(c.records[row.ID], c.layers[d]...)
		c.rows = append(c.rows, row)
		return nil
	})
}

func (b *Builder) addCacheMounts(_ context.Context, c *contentsOf) error {
	top := filepath.Join(b.cfg.Root, "mounts")
	dirs, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		dir := filepath.Join(top, d.Name())
		size, used, err := diskSize(dir)
		if err != nil {
			return err
		}
		about, err := os.ReadFile(filepath.Join(dir, "about"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		c.rows = append(c.rows, Usage{Type: usageCacheMount, ID: d.Name(), Size: size, Reclaimable: true, LastUsed: used, Description: strings.TrimSpace(string(about))})
	}
	return nil
}

// diskSize adds up blocks; the tree is live, so what vanishes meanwhile is passed over.
func diskSize(dir string) (size int64, newest time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			size += st.Blocks * 512
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	return size, newest, err
}

// PruneOptions choose what goes. The zero value removes what only saves time:
// layers of steps, and blobs that neither a tag nor a remembered base image needs.
type PruneOptions struct {
	All         bool          // also cache mounts, and base images that no tag holds
	UnusedFor   time.Duration // only what was not used for that long
	KeepStorage int64         // stop when at most that many bytes remain; 0: no floor
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
	c, err := b.inventory(ctx)
	if err != nil {
		return nil, err
	}
	keep := b.kept(c, opt)
	total := int64(0)
	for _, row := range c.rows {
		total += row.Size
	}
	var gone []Usage
	for _, row := range c.rows {
		if !b.prunable(row, opt, keep) || opt.KeepStorage > 0 && total <= opt.KeepStorage {
			continue
		}
		if !opt.DryRun {
			if err := b.drop(row, c.records[row.ID]); errors.Is(err, snapshot.ErrInUse) {
				continue
			} else if err != nil {
				return gone, fmt.Errorf("remove %s %s: %w", row.Type, row.ID, err)
			}
		}
		total -= row.Size
		gone = append(gone, row)
	}
	if opt.DryRun {
		return gone, nil
	}
	return gone, errors.Join(b.forgetRefs(c, opt), b.forgetDerived(c, opt), b.sweep())
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
	if opt.UnusedFor > 0 && b.cfg.Now().Sub(row.LastUsed) < opt.UnusedFor {
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

// drop removes a row, its records first: a record must never name what is gone.
func (b *Builder) drop(row Usage, records []cache.Key) error {
	if err := b.forgetKeys("gobuild prune", records); err != nil {
		return err
	}
	switch row.Type {
	case usageImage:
		return b.store.Remove(digest.Digest(row.ID))
	case usageCacheMount:
		return os.RemoveAll(filepath.Join(b.cfg.Root, "mounts", row.ID))
	}
	return b.snapshots.Remove(snapshot.ID(row.ID))
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
	return errors.Join(b.snapshots.Sweep(), b.cache.Sweep(), b.store.Sweep())
}
