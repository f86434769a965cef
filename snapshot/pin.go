package snapshot

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"gobuild/internal/bytelock"
)

// pinsName is the file whose bytes are locked for layers that somebody relies on: a stack of 400 layers must not need 400
// descriptors.
const pinsName = "pins"

func (s *Store) pinsPath() string { return filepath.Join(s.dir, pinsName) }

// Pins are layers that one owner relies on, whether they are there yet or not.
type Pins struct {
	s   *Store
	set *bytelock.Set
}

// Pins begins an empty set. One descriptor holds any number.
func (s *Store) Pins() *Pins { return &Pins{s, bytelock.Open(s.pinsPath())} }

// Has is Store.Has for a layer that nobody removes from now on, until Close.
func (p *Pins) Has(id ID) (bool, error) {
	if err := id.check(); err != nil {
		return false, err
	}
	if err := p.set.Hold(string(id)); err != nil {
		return false, fmt.Errorf("pin layer %s: %w", id, err)
	}
	// Looked for under the lock: no removal can come in between.
	return p.s.Has(id), nil
}

// Pinned says of each layer whether somebody has pinned it at this moment.
func (s *Store) Pinned(ids ...ID) ([]bool, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	held, err := bytelock.Held(s.pinsPath(), names...)
	if err != nil {
		return nil, fmt.Errorf("look for pinned layers: %w", err)
	}
	return held, nil
}

// Close lets all go.
func (p *Pins) Close() error { return p.set.Close() }

// Pin keeps layers from being removed until release is called or the process dies. It fails with
// fs.ErrNotExist if one is not there (or not trusted); then none is pinned.
func (s *Store) Pin(ids ...ID) (release func(), err error) {
	set := bytelock.Open(s.pinsPath())
	for _, id := range ids {
		if err := set.Hold(string(id)); err != nil {
			return nil, errors.Join(fmt.Errorf("pin layer %s: %w", id, err), set.Close())
		}
	}
	// Looked for under the lock: no Remove can come in between.
	if err := s.require(ids); err != nil {
		return nil, errors.Join(fmt.Errorf("pin: %w", err), set.Close())
	}
	var once sync.Once
	return func() { once.Do(func() { _ = set.Close() }) }, nil
}

// lockOut holds id against pinning while it is moved away: ErrInUse if it is pinned.
func (s *Store) lockOut(id ID) (unlock func(), err error) {
	unlock, err = bytelock.Exclude(s.pinsPath(), string(id))
	if errors.Is(err, bytelock.ErrHeld) {
		err = ErrInUse
	}
	return unlock, err
}
