package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
)

// annotationName carries the full name of a tagged image; containerd and BuildKit
// write it too. The image-spec's own ref.name holds only the tag.
const annotationName = "io.containerd.image.name"

// Tag is a name for a manifest or an index.
type Tag struct {
	Name string // full reference, such as docker.io/library/app:1
	Desc ocispec.Descriptor
}

// Tag gives a descriptor a full reference name. An equal name is replaced.
func (s *Store) Tag(name string, desc ocispec.Descriptor) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	if err := checkDigest(desc.Digest); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	err := s.updateIndex(func(idx *ocispec.Index) {
		idx.Manifests = slices.DeleteFunc(idx.Manifests, named(name))
		idx.Manifests = append(idx.Manifests, annotate(desc, name))
		slices.SortStableFunc(idx.Manifests, func(a, b ocispec.Descriptor) int {
			return strings.Compare(a.Annotations[annotationName], b.Annotations[annotationName])
		})
	})
	if err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return nil
}

// Untag removes a name and returns what it meant. The blobs stay.
func (s *Store) Untag(name string) (ocispec.Descriptor, error) {
	if _, err := s.Resolve(name); err != nil {
		return ocispec.Descriptor{}, err
	}
	var was *ocispec.Descriptor
	err := s.updateIndex(func(idx *ocispec.Index) {
		if i := slices.IndexFunc(idx.Manifests, named(name)); i >= 0 {
			d := bare(idx.Manifests[i])
			was = &d
			idx.Manifests = slices.DeleteFunc(idx.Manifests, named(name))
		}
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("untag %s: %w", name, err)
	}
	if was == nil {
		return ocispec.Descriptor{}, fmt.Errorf("untag %s: %w", name, ErrNotFound)
	}
	return *was, nil
}

// Resolve returns what a full reference name means, or ErrNotFound.
func (s *Store) Resolve(name string) (ocispec.Descriptor, error) {
	idx, err := s.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	if i := slices.IndexFunc(idx.Manifests, named(name)); i >= 0 && name != "" {
		return bare(idx.Manifests[i]), nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", name, ErrNotFound)
}

// Tags lists all names in order.
func (s *Store) Tags() ([]Tag, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	var tags []Tag
	for _, d := range idx.Manifests {
		if name := d.Annotations[annotationName]; name != "" {
			tags = append(tags, Tag{Name: name, Desc: bare(d)})
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return tags, nil
}

// TagStamp changes whenever a tag does.
func (s *Store) TagStamp() string {
	st, err := os.Stat(filepath.Join(s.dir, ocispec.ImageIndexFile))
	if err != nil {
		return ""
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(sys.Ino, " ", st.ModTime().UnixNano(), " ", sys.Ctim.Nano(), " ", st.Size())
}

// Fetch, Exists and Push make a store one end of a copy of a descriptor graph
// (image.Fetcher, image.Pusher).

// Fetch returns the verified blob.
func (s *Store) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := s.OpenVerified(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Exists says whether the blob is there in the size that desc promises.
func (s *Store) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	size, ok := s.Has(desc.Digest)
	return ok && size == desc.Size, nil
}

// Push is Put.
func (s *Store) Push(ctx context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error {
	return s.Put(ctx, desc, r)
}

func named(name string) func(ocispec.Descriptor) bool {
	return func(d ocispec.Descriptor) bool { return d.Annotations[annotationName] == name }
}

// annotate returns desc with the annotations that carry its name.
func annotate(desc ocispec.Descriptor, name string) ocispec.Descriptor {
	a := map[string]string{annotationName: name}
	for k, v := range desc.Annotations {
		if _, ok := a[k]; !ok {
			a[k] = v
		}
	}
	// The full name, not the tag alone as in an exported layout: other tools look images up by it, and a store has many
	// that are called "latest".
	a[ocispec.AnnotationRefName] = name
	desc.Annotations = a
	return desc
}

// bare returns desc without the annotations that annotate added.
func bare(desc ocispec.Descriptor) ocispec.Descriptor {
	a := map[string]string{}
	for k, v := range desc.Annotations {
		if k != annotationName && k != ocispec.AnnotationRefName {
			a[k] = v
		}
	}
	desc.Annotations = nil
	if len(a) > 0 {
		desc.Annotations = a
	}
	return desc
}

// checkName refuses what cannot be a reference and would garble a listing. The
// full grammar is the caller's (registry.ParseReference).
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name of %d bytes, allowed are 1 to %d", len(name), maxName)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return fmt.Errorf("name %q: only printable ASCII without spaces is allowed", name)
	}
	return nil
}

// readIndex reads index.json; a store without one has no tags.
func (s *Store) readIndex() (ocispec.Index, error) {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	b, err := readFile(filepath.Join(s.dir, ocispec.ImageIndexFile), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return idx, nil
	}
	if err != nil {
		return idx, err
	}
	if err := json.Unmarshal(b, &idx); err != nil {
		return idx, fmt.Errorf("read %s: %w (%w)", ocispec.ImageIndexFile, ErrNames, err)
	}
	return idx, nil
}

// setAside puts a list of names that cannot be read out of the way, for whoever can save something of it.
func (s *Store) setAside() error {
	damaged := filepath.Join(s.dir, ocispec.ImageIndexFile+".damaged")
	if err := os.Rename(filepath.Join(s.dir, ocispec.ImageIndexFile), damaged); err != nil {
		return err
	}
	if s.NamesLost != nil {
		s.NamesLost(damaged)
	}
	return nil
}

// updateIndex changes index.json under the store's lock, which is held for the
// time of one small write. The lock is on a file of its own, because index.json is replaced.
func (s *Store) updateIndex(change func(*ocispec.Index)) (err error) {
	if err := s.create(); err != nil {
		return err
	}
	lock, err := filelock.Lock(context.Background(), filepath.Join(s.dir, "index.lock"), filelock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	idx, err := s.readIndex()
	if errors.Is(err, ErrNames) {
		if err = s.setAside(); err == nil {
			idx, err = s.readIndex()
		}
	}
	if err != nil {
		return err
	}
	before, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	change(&idx)
	if idx.Manifests == nil {
		idx.Manifests = []ocispec.Descriptor{} // the field is required, and null is no list
	}
	b, err := json.Marshal(idx)
	if err != nil || bytes.Equal(b, before) {
		return err // a cached build tags the same image again, and need not wait for the disk
	}
	return atomicfile.Write(filepath.Join(s.dir, ocispec.ImageIndexFile), b, published)
}
