package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/history"
	"gobuild/internal/bytelock"
	"gobuild/snapshot"
)

// useIndex says which builds and images need what is in the state directory, as far as records of builds and tags tell.
type useIndex struct {
	c        *contentsOf
	byKey    map[digest.Digest][]string // key of a step to its rows
	packed   map[string][]digest.Digest // directory to the blobs that were packed of it
	folder   map[string]string          // row of a blob to that of the directory it was packed of
	chains   map[digest.Digest][]string // manifest of a base to its rows
	builds   []buildUse                 // newest first
	projects map[string]map[string]bool // row to the projects whose builds need it
	images   map[string]map[string]bool // row to the names of the images that need it
	bases    map[string]map[string]bool // row to the names of the base images that it belongs to
	uses     map[string]int             // row to the number of builds
}

// buildUse is a build of the history with the rows that it needs.
type buildUse struct {
	rec  history.Record
	rows map[string]bool
}

// annotate says of each row whether it is shared, in use, and by how many builds.
func (b *Builder) annotate(ctx context.Context, c *contentsOf) (*useIndex, error) {
	u, err := b.indexUses(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := b.markInUse(c); err != nil {
		return nil, err
	}
	for i := range c.rows {
		row := &c.rows[i]
		row.Uses = u.uses[row.name()]
		row.Shared = len(u.projects[row.name()]) > 1 || len(u.images[row.name()]) > 1
		row.Projects, row.Images = sortedNames(u.projects[row.name()]), sortedNames(u.images[row.name()])
		row.Reclaimable = row.Reclaimable && !row.InUse
		row.Mutable = row.mutable()
		if names := sortedNames(u.bases[row.name()]); len(names) > 0 && row.Type == usageRegular && len(c.steps[snapshot.ID(row.ID)]) == 0 {
			row.Description = "layer of the base image " + strings.Join(names, ", ")
		}
	}
	return u, nil
}

func sortedNames(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// name tells a row from all others.
func (u Usage) name() string { return u.Type + " " + u.ID }

func rowOfLayer(id snapshot.ID) string { return usageRegular + " " + string(id) }
func rowOfBlob(d digest.Digest) string { return usageImage + " " + d.String() }

func (b *Builder) indexUses(ctx context.Context, c *contentsOf) (*useIndex, error) {
	u := &useIndex{
		c: c, byKey: map[digest.Digest][]string{}, packed: map[string][]digest.Digest{}, folder: map[string]string{}, chains: map[digest.Digest][]string{},
		projects: map[string]map[string]bool{}, images: map[string]map[string]bool{}, bases: map[string]map[string]bool{}, uses: map[string]int{},
	}
	for d, keys := range c.layers {
		for _, k := range keys {
			if dir := keyWord(k, "directory"); dir != "" {
				u.packed[dir] = append(u.packed[dir], d)
				u.folder[rowOfBlob(d)] = rowOfLayer(snapshot.ID(dir))
			}
		}
	}
	for id, uses := range c.steps {
		for _, use := range uses {
			u.byKey[use.key.Digest()] = append(u.byKey[use.key.Digest()], u.rowsOfLayer(id)...)
		}
	}
	tags, err := b.store.Tags()
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		for _, row := range b.rowsOfImage(t.Desc) {
			note(u.images, row, t.Name)
		}
	}
	err = b.builds.List(func(rec history.Record) bool {
		b.indexBuild(u, rec)
		return ctx.Err() == nil
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return u, err
}

// keyWord is the value of a line of a key that has one.
func keyWord(k cache.Key, name string) string {
	for _, line := range k.Lines() {
		if line.Name == name && len(line.Values) == 1 {
			return line.Values[0]
		}
	}
	return ""
}

func note(m map[string]map[string]bool, row, name string) {
	if m[row] == nil {
		m[row] = map[string]bool{}
	}
	m[row][name] = true
}

// rowsOfLayer are a step's directory and the blobs that were packed of it.
func (u *useIndex) rowsOfLayer(id snapshot.ID) []string {
	rows := []string{rowOfLayer(id)}
	for _, d := range u.packed[string(id)] {
		rows = append(rows, rowOfBlob(d))
	}
	return rows
}

// rowsOfImage are the blobs of an image, and the directories of its layers where it is a base.
func (b *Builder) rowsOfImage(desc ocispec.Descriptor) []string {
	blobs := map[digest.Digest]bool{}
	b.mark(desc, blobs)
	var rows []string
	for d := range blobs {
		rows = append(rows, rowOfBlob(d))
	}
	m, img, err := b.read(desc)
	if err != nil { // of an index without this machine's platform, or of an image whose documents are gone
		return rows
	}
	layers, err := baseLayers(m, img, nil)
	if err != nil {
		return rows
	}
	for _, l := range layers {
		rows = append(rows, rowOfLayer(l.id))
	}
	return rows
}

func (b *Builder) indexBuild(u *useIndex, rec history.Record) {
	use := buildUse{rec: rec, rows: map[string]bool{}}
	for _, s := range rec.Steps {
		for _, row := range u.byKey[s.Key] {
			use.rows[row] = true
		}
	}
	for _, base := range rec.Bases {
		for _, row := range b.rowsOfBase(u, base.Digest) {
			use.rows[row] = true
			note(u.bases, row, base.Name)
		}
	}
	for _, row := range b.rowsOfBase(u, rec.Manifest) {
		use.rows[row] = true
		if dir := u.folder[row]; dir != "" { // of FROM a folder, which is no step of the record
			use.rows[dir] = true
		}
	}
	project := rec.Project + " " + rec.Context
	for row := range use.rows {
		note(u.projects, row, strings.TrimSpace(project))
		u.uses[row]++
	}
	u.builds = append(u.builds, use)
}

// rowsOfBase is rowsOfImage for a manifest or index of which only the digest is known, looked through once.
func (b *Builder) rowsOfBase(u *useIndex, d digest.Digest) []string {
	if rows, ok := u.chains[d]; ok || d == "" {
		return rows
	}
	raw, err := b.store.ReadAll(d, maxDocument)
	if err == nil {
		u.chains[d] = b.rowsOfImage(ocispec.Descriptor{MediaType: mediaTypeOf(raw), Digest: d, Size: int64(len(raw))})
	} else {
		u.chains[d] = nil // it is gone
	}
	return u.chains[d]
}

// markInUse asks for the locks that running builds hold.
func (b *Builder) markInUse(c *contentsOf) error {
	var layers []snapshot.ID
	var blobs []digest.Digest
	var mounts []string
	for _, row := range c.rows {
		switch row.Type {
		case usageRegular:
			layers = append(layers, snapshot.ID(row.ID))
		case usageImage:
			blobs = append(blobs, digest.Digest(row.ID))
		case usageCacheMount:
			mounts = append(mounts, row.ID)
		}
	}
	heldLayers, err := b.snapshots.Pinned(layers...)
	if err != nil {
		return err
	}
	heldBlobs, err := b.store.Pinned(blobs...)
	if err != nil {
		return err
	}
	heldMounts, err := bytelock.Held(b.mountPins(), mounts...)
	if err != nil {
		return fmt.Errorf("look for cache mounts in use: %w", err)
	}
	next := map[string][]bool{usageRegular: heldLayers, usageImage: heldBlobs, usageCacheMount: heldMounts}
	for i := range c.rows {
		if held := next[c.rows[i].Type]; len(held) > 0 {
			c.rows[i].InUse, next[c.rows[i].Type] = held[0], held[1:]
		}
	}
	return nil
}
