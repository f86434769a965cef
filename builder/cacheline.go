package builder

import (
	"cmp"
	"slices"

	"gobuild/registry"
	"gobuild/snapshot"
)

// Machines that run one step at the same moment make two layers of it, and what is made upon one is no use to the other (decision 5).
// Those that read and write one shared cache agree on the layer that was there first (docs/decisions/0008-shared-cache.md): an export
// yields to it, and who has another of its own follows it with its next build.

// samePlace says whether two caches are one.
func (c CacheShare) samePlace(other CacheShare) bool {
	if c.Type != other.Type {
		return false
	}
	switch c.Type {
	case "local":
		return c.Dir == other.Dir && cmp.Or(c.Tag, "latest") == cmp.Or(other.Tag, "latest")
	case "registry":
		a, errA := registry.ParseReference(c.Ref)
		b, errB := registry.ParseReference(other.Ref)
		return errA == nil && errB == nil && a.String() == b.String()
	}
	return false // what an image carries is that image's alone
}

// member says whether this build reads the cache and writes to it.
func (bd *build) member(c CacheShare) bool {
	return slices.ContainsFunc(bd.opt.CacheFrom, c.samePlace) && slices.ContainsFunc(bd.opt.CacheTo, c.samePlace)
}

// follow takes a step from a cache that this build is a member of although there is one here, if those are two results of one step
// upon the same layers.
func (sr *stageRun) follow(j *job, lineage string) (hit, bool) {
	s, ok := sr.build.shared.steps[j.key.Digest()]
	if !ok || !s.member || s.Record.Lineage != lineage {
		return hit{}, false
	}
	var own stepRecord
	if _, ok, err := sr.cache.Lookup(j.key, &own); err != nil || !ok || own.Lineage != lineage || own.ID == s.Record.ID {
		return hit{}, false
	}
	h, ok := sr.adopt(j, lineage)
	if ok {
		sr.followed = s.from
		h.from += ", which has it from another machine"
	}
	return h, ok
}

// gift is what a step gave, for export.
func (sr *stageRun) gift(s state, j *job, out *outcome) givenStep {
	_, asked := sr.asked()
	g := givenStep{key: j.key, l: out.layer, asked: asked}
	g.rec = stepRecord{ID: out.layer.id, Lineage: lineageOf(s, j), Created: out.layer.created, Bytes: out.layer.bytes, As: out.as}
	if !j.alone {
		g.below = s.stack()
	}
	return g
}

// yield is this list without the results of steps of which another machine's are there already, and without what was made upon
// those. What the user asked to run (--no-cache) is there to replace them.
func (idx shareIndex) yield(old shareIndex) shareIndex {
	there := map[string]stepRecord{}
	for _, s := range old.Steps {
		there[s.Key] = s.Record
	}
	left := map[snapshot.ID]bool{}
	own := idx.Steps
	idx.Steps = nil
	for _, s := range own { // in the order they were done: what a step is made upon comes before it
		theirs, ok := there[s.Key]
		twice := ok && !s.asked && theirs.Lineage == s.Record.Lineage && theirs.ID != s.Record.ID
		if twice || slices.ContainsFunc(s.below, func(id snapshot.ID) bool { return left[id] }) {
			left[s.Record.ID] = true
			continue
		}
		idx.Steps = append(idx.Steps, s)
	}
	return idx
}
