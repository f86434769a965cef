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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/internal/atomicfile"
	"gobuild/internal/bytelock"
	"gobuild/snapshot"
)

// Usage is one row of gobuild du.
type Usage struct {
	Type        string    `json:"type"` // regular, exec.cachemount, image
	ID          string    `json:"id"`
	Size        int64     `json:"size"` // bytes on disk
	Reclaimable bool      `json:"reclaimable"`
	Shared      bool      `json:"shared"`  // several projects or several named images need it
	InUse       bool      `json:"inUse"`   // a build that goes on relies on it
	Mutable     bool      `json:"mutable"` // it changes in place
	Uses        int       `json:"uses"`    // builds of the history that need it
	LastUsed    time.Time `json:"lastUsed"`
	Description string    `json:"description,omitempty"`
	Projects    []string  `json:"projects,omitempty"` // whose builds need it: Dockerfile and folder
	Images      []string  `json:"images,omitempty"`   // by name, that need it
}

// The types of Usage (FEATURES I17).
const (
	usageRegular    = "regular"         // the directory of a step or of a base's layer
	usageCacheMount = "exec.cachemount" // what RUN --mount=type=cache keeps
	usageImage      = "image"           // a blob
	usageContext    = "source.local"    // what is remembered of a context's files
)

// contentsOf is everything in the state directory, and what refers to what.
type contentsOf struct {
	sizes   sizing
	rows    []Usage
	records map[string][]cache.Key        // by the id of the row that goes with them
	steps   map[snapshot.ID][]stepUse     // directories that step records name: several after a cut-off
	layers  map[digest.Digest][]cache.Key // blobs that a layer record names
	refs    []refUse                      // what base image names meant
	derived []recordUse                   // records that can be computed again, or only name what may be gone
	tagged  map[digest.Digest]bool        // blobs that a tag needs
	stamp   string                        // of the tags, when they were read
	used    map[digest.Digest]time.Time   // blobs: when what names them was last used
}

type stepUse struct {
	key   cache.Key
	slot  string
	used  time.Time
	bytes int64 // of the layer's files, as the record has it
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

// DiskUsage lists what the state directory holds, as far as the filter takes it.
func (b *Builder) DiskUsage(ctx context.Context, filter UsageFilter) ([]Usage, error) {
	c, _, err := b.usageFor(ctx, filter)
	if err != nil {
		return nil, classifyUsage(err)
	}
	return c.rows, nil
}

func classifyUsage(err error) error {
	return classify(fmt.Errorf("look through the state directory: %w", err), CategoryEnvironment)
}

// sizing says how the sizes of layers are found out.
type sizing int

const (
	sizesExact   sizing = iota // a layer that nobody has asked for yet is walked
	sizesAsKnown               // for that of a step, what its record says will do
)

func (b *Builder) inventory(ctx context.Context, sizes sizing) (*contentsOf, error) {
	c := &contentsOf{
		sizes:   sizes,
		records: map[string][]cache.Key{}, steps: map[snapshot.ID][]stepUse{}, layers: map[digest.Digest][]cache.Key{}, tagged: map[digest.Digest]bool{},
		used: map[digest.Digest]time.Time{},
	}
	for _, part := range []func(context.Context, *contentsOf) error{b.addTagged, b.addRecords, b.addSnapshots, b.addBlobs, b.addCacheMounts, b.addStatCaches} {
		if err := part(ctx, c); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	slices.SortStableFunc(c.rows, func(x, y Usage) int { return x.LastUsed.Compare(y.LastUsed) })
	return c, nil
}

func (b *Builder) addRecords(ctx context.Context, c *contentsOf) error {
	return b.cache.Walk(func(rec cache.Record, _ int64, used time.Time) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch rec.Key.Kind() {
		case "run", "copy", "workdir":
			var r stepRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.steps[r.ID] = append(c.steps[r.ID], stepUse{rec.Key, rec.Slot, used, r.Bytes})
			}
		case "layer":
			var r layerRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.layers[r.Desc.Digest] = append(c.layers[r.Desc.Digest], rec.Key)
				c.use(r.Desc.Digest, used)
			}
		case "http":
			var r httpRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.layers[r.Digest] = append(c.layers[r.Digest], rec.Key)
				c.use(r.Digest, used)
			}
		case "content", "image", "fingerprint":
			c.derived = append(c.derived, recordUse{rec.Key, used})
		case "ref":
			var r refRecord
			if json.Unmarshal(rec.Payload, &r) == nil {
				c.refs = append(c.refs, refUse{rec.Key, used, r})
				base := map[digest.Digest]bool{}
				b.mark(r.Manifest, base)
				for d := range base {
					c.use(d, used)
				}
			}
		}
		return nil
	})
}

// use notes that a blob was used when something was that names it.
func (c *contentsOf) use(d digest.Digest, at time.Time) {
	if at.After(c.used[d]) {
		c.used[d] = at
	}
}

func (b *Builder) addTagged(_ context.Context, c *contentsOf) error {
	c.stamp = b.store.TagStamp() // first: a tag that comes now is read twice rather than not at all
	tags, err := b.store.Tags()
	if err != nil {
		return err
	}
	for _, t := range tags {
		b.mark(t.Desc, c.tagged)
	}
	return nil
}

// mark adds an image's blobs to a set, of an index those of every platform; an image whose documents are gone holds nothing.
func (b *Builder) mark(desc ocispec.Descriptor, set map[digest.Digest]bool) {
	b.markDeep(desc, set, maxIndexDepth)
}

func (b *Builder) markDeep(desc ocispec.Descriptor, set map[digest.Digest]bool, depth int) {
	set[desc.Digest] = true
	raw, err := b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		return
	}
	if isIndex(desc.MediaType) {
		idx, err := image.ParseIndex(raw, desc.MediaType)
		if err != nil || depth == 0 {
			return
		}
		for _, child := range idx.Manifests {
			b.markDeep(child, set, depth-1)
		}
		return
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return
	}
	set[m.Config.Digest] = true
	for _, l := range m.Layers {
		set[l.Digest] = true
	}
}

func (b *Builder) addSnapshots(ctx context.Context, c *contentsOf) error {
	return b.snapshots.List(func(id snapshot.ID, info snapshot.Info) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		size, err := b.layerSize(ctx, c, id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		row := Usage{Type: usageRegular, ID: string(id), Size: size, Reclaimable: true, LastUsed: info.Used, Description: "layer of a base image"}
		for _, use := range c.steps[id] {
			row.Description = describeSlot(use.slot)
			if use.used.After(row.LastUsed) {
				row.LastUsed = use.used
			}
			c.records[row.ID] = append(c.records[row.ID], use.key)
			if use.key.Kind() == "copy" {
				c.records[row.ID] = append(c.records[row.ID], filesKey(use.key.Digest()))
			}
		}
		c.rows = append(c.rows, row)
		return nil
	})
}

func (b *Builder) layerSize(ctx context.Context, c *contentsOf, id snapshot.ID) (int64, error) {
	if c.sizes == sizesAsKnown {
		if size, ok := b.snapshots.KnownSize(id); ok {
			return size, nil
		}
		if uses := c.steps[id]; len(uses) > 0 && uses[0].bytes > 0 {
			return uses[0].bytes, nil
		}
	}
	return b.snapshots.Size(ctx, id)
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
		if at := c.used[d]; at.After(mtime) {
			row.LastUsed = at
		}
		c.records[row.ID] = append(c.records[row.ID], c.layers[d]...)
		c.rows = append(c.rows, row)
		return nil
	})
}

func (b *Builder) addCacheMounts(ctx context.Context, c *contentsOf) error {
	top := filepath.Join(b.cfg.Root, "mounts")
	dirs, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		dir := filepath.Join(top, d.Name())
		about, err := os.ReadFile(filepath.Join(dir, "about"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		size, used, err := b.mountSize(ctx, d.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		c.rows = append(c.rows, Usage{Type: usageCacheMount, ID: d.Name(), Size: size, Reclaimable: true, LastUsed: used, Description: strings.TrimSpace(string(about))})
	}
	return nil
}

// mountSize is what a cache mount takes, and when it was last used. The size is kept beside it, and counts until the mount is used
// again; one that is in use is looked through each time.
func (b *Builder) mountSize(ctx context.Context, name string) (size int64, used time.Time, err error) {
	dir := filepath.Join(b.cfg.Root, "mounts", name)
	info, err := os.Stat(filepath.Join(dir, "about"))
	if errors.Is(err, fs.ErrNotExist) {
		return diskSize(ctx, dir) // of a process that was killed while it made it
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	used = info.ModTime()
	kept := filepath.Join(dir, "size")
	if st, err := os.Stat(kept); err == nil && st.ModTime().After(used) {
		if data, err := os.ReadFile(kept); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n >= 0 {
				return n, used, nil
			}
		}
	}
	release, held := bytelock.Exclude(b.mountPins(), name)
	if held == nil {
		defer release()
	}
	now := b.cfg.Now()
	if size, _, err = diskSize(ctx, dir); err != nil || held != nil {
		return size, used, err
	}
	// Not to have it kept costs the next caller a walk and nothing else.
	_ = atomicfile.Write(kept, fmt.Appendf(nil, "%d\n", size), atomicfile.Options{Mtime: now})
	return size, used, nil
}

// addStatCaches lists what is remembered of contexts.
func (b *Builder) addStatCaches(_ context.Context, c *contentsOf) error {
	files, err := os.ReadDir(filepath.Join(b.cfg.Root, "statcache"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // removed meanwhile, or nothing of ours
		}
		row := Usage{Type: usageContext, ID: f.Name(), Size: blocks(info), Reclaimable: true, LastUsed: info.ModTime(), Description: "digests of a context's files"}
		c.rows = append(c.rows, row)
	}
	return nil
}

func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// diskSize is what a folder takes on disk; one that has gone takes nothing. Steps may be at work in it.
func diskSize(ctx context.Context, dir string) (size int64, newest time.Time, err error) {
	size, newest, err = snapshot.DiskUsage(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, newest, nil
	}
	return size, newest, err
}
