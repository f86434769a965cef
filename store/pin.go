package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/atomicfile"
	"gobuild/internal/bytelock"
)

// pinsName is the file whose bytes are locked for blobs that somebody relies on. An image layout may hold it beside its own
// (image-layout.md, "Content").
const pinsName = "pins"

// ErrInUse is what Evict returns for a blob that somebody has pinned.
var ErrInUse = errors.New("blob is in use")

// Pins are blobs that one owner relies on, whether they are there yet or not.
type Pins struct {
	s   *Store
	set *bytelock.Set
}

// Pins begins an empty set. One descriptor holds any number.
func (s *Store) Pins() *Pins { return &Pins{s, bytelock.Open(filepath.Join(s.dir, pinsName))} }

// Has is Store.Has for a blob that Evict does not remove from now on, until Close. Whoever is about to write a blob asks first,
// and then finds it there.
func (p *Pins) Has(d digest.Digest) (size int64, ok bool, err error) {
	if checkDigest(d) != nil {
		return 0, false, nil //nolint:nilerr // what is no digest is not there
	}
	err = p.set.Hold(d.String())
	if errors.Is(err, fs.ErrNotExist) { // the first blob of a new store
		if err = atomicfile.Mkdir(p.s.dir); err == nil {
			err = p.set.Hold(d.String())
		}
	}
	if err != nil {
		return 0, false, fmt.Errorf("pin blob %s: %w", d, err)
	}
	size, ok = p.s.Has(d)
	return size, ok, nil
}

// Pinned says of each blob whether somebody has pinned it at this moment.
func (s *Store) Pinned(list ...digest.Digest) ([]bool, error) {
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = d.String()
	}
	held, err := bytelock.Held(filepath.Join(s.dir, pinsName), names...)
	if err != nil {
		return nil, fmt.Errorf("look for pinned blobs: %w", err)
	}
	return held, nil
}

// Close lets all go.
func (p *Pins) Close() error { return p.set.Close() }

// Evict removes a blob unless somebody has pinned it (ErrInUse). first, which may be nil, takes away what names the blob, while
// nobody can pin it.
func (s *Store) Evict(d digest.Digest, first func() error) error {
	if err := checkDigest(d); err != nil {
		return fmt.Errorf("remove blob: %w", err)
	}
	release, err := bytelock.Exclude(filepath.Join(s.dir, pinsName), d.String())
	if errors.Is(err, bytelock.ErrHeld) {
		err = ErrInUse
	}
	if err != nil {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	defer release()
	if first != nil {
		if err := first(); err != nil {
			return fmt.Errorf("remove blob %s: %w", d, err)
		}
	}
	return s.Remove(d)
}

// Damaged hashes a blob and says whether its content is not what its name says. Unlike Verify it removes nothing.
func (s *Store) Damaged(ctx context.Context, d digest.Digest) (bool, error) {
	f, err := s.Open(d)
	if err != nil {
		return false, err
	}
	defer f.Close()
	v := d.Verifier()
	if _, err := copyContext(ctx, v, f); err != nil {
		return false, fmt.Errorf("verify blob %s: %w", d, err)
	}
	return !v.Verified(), nil
}
