package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gobuild/internal/atomicfile"

	"golang.org/x/sys/unix"
)

// Walk calls fn for each record with its size on disk (bytes of blocks) and time of last use (to the
// hour), in the order of their digests. Records that come or go meanwhile may be left out; damaged ones
// are removed. fn may Delete records; its first error ends the walk and is returned as it is. One
// record is in memory at a time.
func (s *Store) Walk(fn func(rec Record, size int64, lastUsed time.Time) error) error {
	return eachFile(s.records, func(path string) error {
		rec, f, err := readRecord(path)
		if f != nil {
			defer f.Close()
		}
		if err == nil && filepath.Base(path) != rec.Key.Digest().Encoded() {
			err = errDamaged
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, errDamaged):
			removeDamaged(path)
			return nil
		case err != nil:
			return fmt.Errorf("walk cache: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return fmt.Errorf("walk cache: stat %s: %w", path, err)
		}
		return fn(rec, st.Blocks*512, time.Unix(st.Mtim.Unix()))
	})
}

// Sweep removes what killed processes left, unfinished files, the locks of former versions, and the lists of
// slots none of whose records is left. It belongs where no build runs. It reads all directories, so it belongs to trimming, not to a build.
func (s *Store) Sweep() error {
	for _, top := range []string{s.records, s.slots} {
		dirs, err := os.ReadDir(top)
		if err != nil {
			return fmt.Errorf("sweep cache: %w", err)
		}
		for _, d := range dirs {
			if !d.IsDir() {
				continue // nothing of ours
			}
			if err := atomicfile.Sweep(filepath.Join(top, d.Name())); err != nil {
				return fmt.Errorf("sweep cache: %w", err)
			}
		}
	}
	if err := os.RemoveAll(s.former); err != nil {
		return fmt.Errorf("sweep cache: %w", err)
	}
	return eachFile(s.slots, s.sweepSlot)
}

// sweepSlot removes a slot's list when no key in it has a record any more.
func (s *Store) sweepSlot(path string) error {
	recent, err := recentOf(path)
	if err != nil {
		return fmt.Errorf("sweep cache: %w", err)
	}
	for _, d := range recent {
		if _, err := os.Lstat(fanOut(s.records, d.Encoded())); err == nil {
			return nil
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sweep cache: %w", err)
	}
	return nil
}

// eachFile calls fn for each finished file of a fanned-out directory, holding one 256th of the names at a time.
func eachFile(top string, fn func(path string) error) error {
	dirs, err := os.ReadDir(top)
	if err != nil {
		return fmt.Errorf("walk cache: %w", err)
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue // nothing of ours
		}
		dir := filepath.Join(top, d.Name())
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("walk cache: %w", err)
		}
		for _, e := range entries {
			if atomicfile.IsTemp(e.Name()) {
				continue
			}
			if err := fn(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
