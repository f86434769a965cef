package builder

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/stages"
)

// sharedMount is a cache mount in a shared cache (FEATURES I13): its archive is what gobuild cache export-mount writes.
type sharedMount struct {
	Mount  mountIdentity      `json:"mount"`
	Folder folderAttr         `json:"folder"`
	Layer  ocispec.Descriptor `json:"layer"`
}

const mountMediaType = "application/vnd.gobuild.cache-mount.v1.tar+zstd"

// maxSharedMounts bounds the cache mounts of one shared cache; the oldest go first.
const maxSharedMounts = 256

// plausible refuses what would not be ours; the bytes are checked when they are unpacked.
func (m sharedMount) plausible() bool {
	return m.Mount.ID != "" && m.Layer.MediaType == mountMediaType && m.Layer.Digest.Validate() == nil && m.Layer.Size >= 0
}

// importedMount is one that this build may fill a new cache mount with.
type importedMount struct {
	sharedMount
	from  string
	fetch fetcher
}

// importMounts notes the cache mounts of a shared cache that the user wants.
func (bd *build) importMounts(idx shareIndex, from CacheShare, blobs fetcher) {
	for _, m := range idx.Mounts {
		if !m.plausible() {
			bd.notice(fmt.Sprintf("cache %s has a cache mount that is not well-formed; it is not used", from))
			continue
		}
		if name := m.Mount.name(); bd.shared.mounts[name].fetch == nil {
			bd.shared.mounts[name] = importedMount{m, from.String(), blobs}
		}
	}
}

// fillShared fills the folder of a new cache mount from a shared cache that has it, and says whether it did. What cannot be had is
// a notice, and leaves the folder empty: a cache is no source.
func (bd *build) fillShared(ctx context.Context, name, fresh string) (bool, error) {
	m, ok := bd.shared.mounts[name]
	if !ok {
		return false, nil
	}
	err := bd.unpackShared(ctx, m, fresh)
	if err == nil || ctx.Err() != nil {
		return true, err
	}
	bd.notice(fmt.Sprintf("cache mount %s is not taken from %s: %v", m.Mount.ID, m.from, err))
	if err := bd.takeAway(ctx, fresh); err != nil {
		return false, err
	}
	return false, os.Mkdir(fresh, 0o700)
}

func (bd *build) unpackShared(ctx context.Context, m importedMount, fresh string) error {
	written, err := bd.reserve(ctx, m.Layer.Size, "")
	if err != nil {
		return err
	}
	defer written()
	r, err := m.fetch(ctx, m.Layer)
	if err != nil {
		return err
	}
	defer r.Close()
	in := bufio.NewReaderSize(r, archiveHead)
	if err := bd.fillMount(ctx, fresh, m.Folder, in); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // to its end, where the digest is compared
	return err
}

// exportsMounts says whether a cache wants the cache mounts of this build.
func (bd *build) exportsMounts() bool {
	return slices.ContainsFunc(bd.opt.CacheTo, func(c CacheShare) bool { return c.Mounts })
}

// noteMounts remembers which cache mounts a RUN has, whether it runs or not.
func (set *mountSet) noteMounts(ctx context.Context) error {
	bd := set.sr.build
	if !bd.exportsMounts() {
		return nil
	}
	for i := range set.mounts {
		if set.mounts[i].Type != stages.MountCache {
			continue
		}
		identity, err := set.identity(ctx, &set.mounts[i])
		if err != nil {
			return err
		}
		bd.mu.Lock()
		bd.shared.usedMounts[identity.name()] = identity
		bd.mu.Unlock()
	}
	return nil
}

// packMounts makes an archive of each cache mount that this build's steps have, and that is here.
func (bd *build) packMounts(ctx context.Context) ([]sharedMount, error) {
	bd.mu.Lock()
	var used []mountIdentity
	for _, identity := range bd.shared.usedMounts {
		used = append(used, identity)
	}
	bd.mu.Unlock()
	slices.SortFunc(used, func(x, y mountIdentity) int {
		return cmp.Or(strings.Compare(x.ID, y.ID), strings.Compare(x.name(), y.name()))
	})
	var list []sharedMount
	for _, identity := range used {
		m, ok, err := bd.packMount(ctx, identity)
		if err != nil {
			return nil, fmt.Errorf("cache mount %s: %w", identity.ID, err)
		}
		if ok {
			list = append(list, m)
		}
	}
	return list, nil
}

func (bd *build) packMount(ctx context.Context, identity mountIdentity) (m sharedMount, ok bool, err error) {
	if err := bd.holds.mounts.Hold(identity.name()); err != nil {
		return m, false, fmt.Errorf("hold the cache: %w", err)
	}
	dir, err := filledCopy(bd.mountPath(identity.name()))
	if err != nil {
		return m, false, nil //nolint:nilerr // no step has used it here
	}
	lock, err := bd.lockMount(ctx, dir, identity.ID)
	if err != nil {
		return m, false, err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	root, err := bd.openTree(filepath.Join(dir, "data"))
	if err != nil {
		return m, false, err
	}
	defer root.Close()
	rec, err := bd.recordOf(CacheMountInfo{Name: identity.name(), ID: identity.ID}, root)
	if err != nil {
		return m, false, err
	}
	size, _, err := bd.mountSize(ctx, identity.name())
	if err != nil {
		return m, false, err
	}
	written, err := bd.reserve(ctx, size, "")
	if err != nil {
		return m, false, err
	}
	defer written()
	d, n, err := bd.writeMount(ctx, rec, root)
	return sharedMount{identity, rec.Folder, ocispec.Descriptor{MediaType: mountMediaType, Digest: d, Size: n}}, err == nil, err
}

// writeMount puts the archive of a cache mount into the store.
func (bd *build) writeMount(ctx context.Context, rec mountRecord, root *rootfs.Root) (digest.Digest, int64, error) {
	out, err := bd.store.Writer()
	if err != nil {
		return "", 0, err
	}
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := guard(func() error {
			if err := writeMountRecord(w, rec); err != nil {
				return err
			}
			return layer.Export(ctx, w, root, nil)
		})
		return errors.Join(err, w.CloseWithError(err))
	})
	var packed layer.Packed
	group.Go(func() (err error) {
		err = guard(func() (err error) {
			packed, err = layer.Recompress(ctx, out, r, layer.PackOptions{Compression: layer.Zstd})
			return err
		})
		return errors.Join(err, r.CloseWithError(err))
	})
	if err := group.Wait(); err != nil {
		return "", 0, errors.Join(err, out.Abort())
	}
	return packed.Digest, packed.Size, bd.commitBlob(out, packed.Digest, packed.Size)
}
