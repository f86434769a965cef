package builder

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// BuildUsage is a build of the history in gobuild du --by=build.
type BuildUsage struct {
	Build   string    `json:"build"`
	Name    string    `json:"name,omitempty"`
	Project string    `json:"project"`
	Begun   time.Time `json:"begun"`
	Tags    []string  `json:"tags,omitempty"`
	Size    int64     `json:"size"`   // of all that it needs and that is here
	Own     int64     `json:"own"`    // of what no other build of the history needs
	Shared  int64     `json:"shared"` // of the rest
}

// StepUsageRow is a step in gobuild du --by=step: what it left as files, and as blobs.
type StepUsageRow struct {
	ID       string    `json:"id"` // of its directory
	Step     string    `json:"step"`
	Files    int64     `json:"files"`  // bytes on disk of its directory
	Packed   int64     `json:"packed"` // of the blobs made of it
	Size     int64     `json:"size"`
	Shared   bool      `json:"shared"`
	InUse    bool      `json:"inUse"`
	Uses     int       `json:"uses"`
	LastUsed time.Time `json:"lastUsed"`
}

// MountUsage is a cache mount in gobuild du --by=mount.
type MountUsage struct {
	ID        string    `json:"id"`   // as the Dockerfile says
	Name      string    `json:"name"` // of its directory
	Namespace string    `json:"namespace,omitempty"`
	Seed      string    `json:"seed,omitempty"` // digest of its first content
	Private   int       `json:"private"`        // copies for steps at once
	Size      int64     `json:"size"`
	InUse     bool      `json:"inUse"`
	LastUsed  time.Time `json:"lastUsed"`
}

// usageFor looks through the state directory, and finds out who needs what.
func (b *Builder) usageFor(ctx context.Context, filter UsageFilter) (*contentsOf, *useIndex, error) {
	c, err := b.inventory(ctx, sizesExact)
	if err != nil {
		return nil, nil, err
	}
	u, err := b.annotate(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	now := b.cfg.Now()
	c.rows = slices.DeleteFunc(c.rows, func(row Usage) bool { return !filter.takes(row, now) })
	return c, u, nil
}

// UsageByBuild adds up, for each build of the history, what it needs, newest first. What several need counts in each.
func (b *Builder) UsageByBuild(ctx context.Context, filter UsageFilter) ([]BuildUsage, error) {
	c, u, err := b.usageFor(ctx, filter)
	if err != nil {
		return nil, classifyUsage(err)
	}
	list := make([]BuildUsage, 0, len(u.builds))
	for _, use := range u.builds {
		row := BuildUsage{Build: use.rec.ID, Name: use.rec.Name, Project: use.rec.Project, Begun: use.rec.Begun, Tags: use.rec.Tags}
		for _, r := range c.rows {
			switch {
			case !use.rows[r.name()]:
			case r.Uses == 1:
				row.Own += r.Size
			default:
				row.Shared += r.Size
			}
		}
		row.Size = row.Own + row.Shared
		list = append(list, row)
	}
	return list, nil
}

// UsageByStep adds up the directory of each step and the blobs that were packed of it, the largest first.
func (b *Builder) UsageByStep(ctx context.Context, filter UsageFilter) ([]StepUsageRow, error) {
	c, u, err := b.usageFor(ctx, filter)
	if err != nil {
		return nil, classifyUsage(err)
	}
	byName := map[string]Usage{}
	for _, r := range c.rows {
		byName[r.name()] = r
	}
	list := []StepUsageRow{}
	for id, uses := range c.steps {
		row := StepUsageRow{ID: string(id), Step: describeSlot(uses[0].slot)}
		for _, name := range u.rowsOfLayer(id) {
			r, ok := byName[name]
			if !ok {
				continue
			}
			if r.Type == usageRegular {
				row.Files += r.Size
			} else {
				row.Packed += r.Size
			}
			row.add(r)
		}
		if row.Size > 0 {
			list = append(list, row)
		}
	}
	slices.SortFunc(list, func(x, y StepUsageRow) int {
		return cmp.Or(cmp.Compare(y.Size, x.Size), strings.Compare(x.Step, y.Step), strings.Compare(x.ID, y.ID))
	})
	return list, nil
}

func (s *StepUsageRow) add(r Usage) {
	s.Size += r.Size
	s.Shared = s.Shared || r.Shared
	s.InUse = s.InUse || r.InUse
	s.Uses = max(s.Uses, r.Uses)
	if r.LastUsed.After(s.LastUsed) {
		s.LastUsed = r.LastUsed
	}
}

// UsageByMount lists the cache mounts, the largest first.
func (b *Builder) UsageByMount(ctx context.Context, filter UsageFilter) ([]MountUsage, error) {
	c, _, err := b.usageFor(ctx, filter)
	if err != nil {
		return nil, classifyUsage(err)
	}
	list := []MountUsage{}
	for _, r := range c.rows {
		if r.Type != usageCacheMount {
			continue
		}
		row := MountUsage{ID: r.Description, Name: r.ID, Size: r.Size, InUse: r.InUse, LastUsed: r.LastUsed}
		// One that is being made or removed says nothing of itself.
		if identity, err := b.identityOf(CacheMountInfo{Name: r.ID}); err == nil {
			row.ID, row.Namespace, row.Seed = identity.ID, identity.Namespace, identity.Seed
		}
		copies, err := filepath.Glob(filepath.Join(b.mountPath(r.ID), "private-*", "data"))
		if err == nil {
			row.Private = len(copies)
		}
		list = append(list, row)
	}
	slices.SortStableFunc(list, func(x, y MountUsage) int { return cmp.Compare(y.Size, x.Size) })
	return list, nil
}
