package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Scan calls fn for each file among the records, whole or not, and removes none. file is its name, for RemoveDamaged. One record
// is in memory at a time; fn's first error ends the scan.
func (s *Store) Scan(fn func(file string, rec Record, whole bool) error) error {
	return eachFile(s.records, func(path string) error {
		rec, err := readNamed(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil && !errors.Is(err, errDamaged) {
			return fmt.Errorf("scan cache: %w", err)
		}
		return fn(filepath.Base(path), rec, err == nil)
	})
}

// RemoveDamaged removes a file that Scan called damaged, unless it is whole by now.
func (s *Store) RemoveDamaged(file string) error {
	if len(file) < 2 || filepath.Base(file) != file {
		return fmt.Errorf("remove damaged record %q: %w", file, fs.ErrInvalid)
	}
	path := fanOut(s.records, file)
	if _, err := readNamed(path); errors.Is(err, errDamaged) {
		removeDamaged(path)
	}
	return nil
}

// readNamed reads a record that must be the one its file name says.
func readNamed(path string) (Record, error) {
	rec, f, err := readRecord(path)
	if f != nil {
		_ = f.Close()
	}
	if err == nil && filepath.Base(path) != rec.Key.Digest().Encoded() {
		err = errDamaged
	}
	return rec, err
}
