package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/internal/filelock"
	"gobuild/registry"
)

// maxShareTries bounds how often an export begins again because another has written meanwhile.
const maxShareTries = 8

// exportShare adds this build's steps to a shared cache. Many may write to it: of a folder one at a time, by a lock; a registry
// has none, nor a way to replace a tag only if it still is what was read. So all goes there by digest first; the tag is moved if
// nobody else has moved it since it was read, and looked at once more; who was overtaken begins again with what is there now.
func (bd *build) exportShare(ctx context.Context, to CacheShare) error {
	own, err := bd.ownIndex(ctx, to)
	if err != nil {
		return err
	}
	if to.Type == "local" {
		return bd.exportToFolder(ctx, to, own)
	}
	ref, err := registry.ParseReference(to.Ref)
	if err != nil {
		return err
	}
	for range maxShareTries {
		done, err := bd.exportToRegistry(ctx, to, ref, own)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("others wrote to it %d times while this build did", maxShareTries)
}

func (bd *build) exportToFolder(ctx context.Context, to CacheShare, own shareIndex) (err error) {
	if err := os.MkdirAll(to.Dir, 0o755); err != nil {
		return err
	}
	if to.Mounts {
		if own.Mounts, err = bd.packMounts(ctx); err != nil {
			return err
		}
	}
	lock, err := filelock.Lock(ctx, filepath.Join(to.Dir, ".cache.lock"), filelock.Exclusive, bd.waiting("writing to the cache "+to.Dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	merged, blobs := own, fetcher(nil)
	// A cache that is not there yet, or not ours, is begun anew.
	if old, from, err := bd.readShare(ctx, to); err == nil && !to.Reset {
		if bd.member(to) {
			own = own.yield(old)
		}
		merged, blobs = own.merge(old), from
	}
	desc, _, m, err := bd.putShare(merged)
	if err != nil {
		return err
	}
	for _, l := range m.Layers { // the copy reads all of them in the store
		_, ok, err := bd.hasBlob(l.Digest)
		if err == nil && !ok && blobs != nil {
			err = bd.importBlob(ctx, l, blobs)
		}
		if err != nil {
			return err
		}
	}
	return image.WriteLayout(ctx, to.Dir, bd.store, desc, []string{"cache:" + cmp.Or(to.Tag, "latest")}, nil)
}

// repack gives a step that is to be shared the compression that the cache asks for. One that came from another cache keeps its
// own, unless force says otherwise; a layer that was compressed so before is found by its record.
func (bd *build) repack(ctx context.Context, l *fsLayer, step *sharedStep, form layerForm, force bool) error {
	if step.Form == form.text() || l.packing == nil && !force {
		return nil
	}
	key := cache.NewKey("layer").Add("blob", step.Layer.Desc.Digest.String()).Add("compression", string(form.compression), strconv.Itoa(form.level)).Key()
	var rec layerRecord
	if _, ok, err := bd.cache.Lookup(key, &rec); err == nil && ok {
		if size, ok, err := bd.hasBlob(rec.Desc.Digest); err == nil && ok && size == rec.Desc.Size {
			step.Layer, step.Form = rec, form.text()
			return nil
		}
	}
	if l.packing == nil {
		if err := bd.ensureBlob(ctx, l, nil); err != nil {
			return err
		}
	}
	desc, err := bd.recompress(ctx, step.Layer.Desc, form)
	if err != nil {
		return err
	}
	step.Layer, step.Form = layerRecord{Desc: desc, DiffID: step.Layer.DiffID}, form.text()
	return bd.cache.Put(key, "layer", step.Layer)
}

// importBlob takes a layer over that another build has exported.
func (bd *build) importBlob(ctx context.Context, l ocispec.Descriptor, blobs fetcher) error {
	written, err := bd.reserve(ctx, l.Size, "layer "+short(l.Digest))
	if err != nil {
		return err
	}
	defer written()
	return bd.fetchBlob(ctx, l, blobs, nil)
}

// exportToRegistry is one attempt; it is not done when another has moved the tag meanwhile and does not have these steps.
func (bd *build) exportToRegistry(ctx context.Context, to CacheShare, ref registry.Reference, own shareIndex) (done bool, err error) {
	merged := own
	raw, was, src, err := bd.shareManifest(ctx, to, bd.registry.ResolveOrigin)
	if err == nil {
		if err := notAnImage(raw, was); err != nil {
			return false, err
		}
		var old shareIndex
		if old, _, err = bd.readSteps(ctx, raw, was, src); err == nil {
			if bd.member(to) {
				if own = own.yield(old); len(own.Steps) == 0 {
					return true, nil
				}
			}
			merged = own.merge(old)
		}
	}
	if errors.Is(err, registry.ErrUnavailable) { // what others have put there may be there still: it is not written over unread
		return false, err
	}
	desc, raw, _, err := bd.putShare(merged)
	if err != nil || desc.Digest == was.Digest {
		return true, err
	}
	byDigest := ref
	byDigest.Tag, byDigest.Digest = "", desc.Digest
	if err := bd.pushTo(ctx, byDigest.String(), desc, bd.em); err != nil {
		return false, err
	}
	if now, err := bd.registry.ResolveOrigin(ctx, ref); err == nil && now.Digest != was.Digest {
		return false, nil
	}
	if err := bd.registry.PushManifest(ctx, ref, desc, raw); err != nil {
		return false, err
	}
	now, err := bd.registry.ResolveOrigin(ctx, ref)
	if err != nil || now.Digest == desc.Digest {
		return true, err
	}
	raw, was, src, err = bd.shareManifest(ctx, to, bd.registry.ResolveOrigin)
	if err != nil {
		return false, err
	}
	theirs, _, err := bd.readSteps(ctx, raw, was, src)
	if bd.member(to) {
		own = own.yield(theirs)
	}
	return err == nil && theirs.has(own), nil //nolint:nilerr // what took the place is no cache: try again
}

// notAnImage keeps an export from taking the tag of an image away.
func notAnImage(raw []byte, desc ocispec.Descriptor) error {
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil || m.ArtifactType != "" || !image.IsConfig(m.Config.MediaType) {
		return nil //nolint:nilerr // a cache, or what nobody can run
	}
	return errors.New("there is an image by this name: give the cache a name or a tag of its own, or use type=inline")
}

// putShare puts the artifact of a list into the store.
func (bd *build) putShare(idx shareIndex) (desc ocispec.Descriptor, raw []byte, m ocispec.Manifest, err error) {
	m, config, err := idx.manifest()
	if err != nil {
		return desc, nil, m, err
	}
	if raw, err = json.Marshal(m); err != nil {
		return desc, nil, m, err
	}
	if len(raw) > maxDocument || len(config) > maxDocument {
		return desc, nil, m, fmt.Errorf("the list of steps is larger than %d MiB: begin a new cache", maxDocument>>20)
	}
	if _, err := bd.putBytes(config); err != nil {
		return desc, nil, m, err
	}
	d, err := bd.putBytes(raw)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(raw)), ArtifactType: shareArtifact}, raw, m, err
}

// merge is this list with the entries of an older one that it lacks, newest first, within the bound.
func (idx shareIndex) merge(old shareIndex) shareIndex {
	idx.Steps, idx.Contents = slices.Clone(idx.Steps), slices.Clone(idx.Contents)
	have := idx.keys()
	old.Steps = slices.Clone(old.Steps)
	sort.SliceStable(old.Steps, func(i, j int) bool { return old.Steps[i].Record.Created.After(old.Steps[j].Record.Created) })
	for _, s := range old.Steps {
		if !have[s.Key] && len(idx.Steps) < maxShared {
			idx.Steps = append(idx.Steps, s)
		}
	}
	for _, m := range old.Mounts {
		same := func(o sharedMount) bool { return o.Mount.name() == m.Mount.name() }
		if !slices.ContainsFunc(idx.Mounts, same) && len(idx.Mounts) < maxSharedMounts {
			idx.Mounts = append(slices.Clip(idx.Mounts), m)
		}
	}
	for _, r := range old.Contents {
		if !have[r.Key] && len(idx.Contents) < maxShared {
			idx.Contents = append(idx.Contents, r)
		}
	}
	return idx
}

func (idx shareIndex) keys() map[string]bool {
	keys := map[string]bool{}
	for _, s := range idx.Steps {
		keys[s.Key] = true
	}
	for _, r := range idx.Contents {
		keys[r.Key] = true
	}
	return keys
}

// has says whether every step of another list is in this one.
func (idx shareIndex) has(own shareIndex) bool {
	keys := idx.keys()
	return !slices.ContainsFunc(own.Steps, func(s sharedStep) bool { return !keys[s.Key] })
}
