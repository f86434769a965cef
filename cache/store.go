package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gobuild/internal/atomicfile"
	"gobuild/internal/bytelock"
	"gobuild/internal/retried"

	"golang.org/x/sys/unix"
)

// ErrTooLarge is what Put returns for a record that could not be read back within its bounds.
var ErrTooLarge = errors.New("cache record too large")

// Store is a directory of records. Its methods are safe for concurrent use, also by other processes.
type Store struct {
	records, slots string
	keys           string // locks of keys
	evicted        string // list of what was removed
	former         string // locks, as former versions kept them
	now            func() time.Time
}

// Open uses (and makes, if missing) the store below dir. now gives the time for Created and last use;
// it is never used to decide whether a record is valid. Nothing is read.
func Open(dir string, now func() time.Time) (*Store, error) {
	v1 := filepath.Join(dir, "v1")
	s := &Store{
		records: filepath.Join(v1, "records"),
		slots:   filepath.Join(v1, "slots"),
		keys:    filepath.Join(v1, "keys"),
		former:  filepath.Join(v1, "locks"),
		evicted: filepath.Join(v1, "evicted"),
		now:     now,
	}
	for _, d := range []string{dir, v1, s.records, s.slots} {
		if err := atomicfile.Mkdir(d); err != nil {
			return nil, fmt.Errorf("open cache %s: %w", dir, err)
		}
	}
	return s, nil
}

// Lookup finds what k produced and decodes the payload into payload (as json.Unmarshal; nil leaves it in
// the Record). Absent, damaged and foreign records are misses, not errors; a payload that does not fit
// the caller's type is a miss too. An error means that the disk could not be read.
func (s *Store) Lookup(k Key, payload any) (Record, bool, error) {
	path := s.recordPath(k)
	rec, f, err := readRecord(path)
	if f != nil {
		defer f.Close()
	}
	if err == nil && rec.Key != k {
		err = errDamaged
	}
	if err == nil && payload != nil && json.Unmarshal(rec.Payload, payload) != nil {
		err = errDamaged
	}
	switch {
	case err == nil:
		s.touch(f)
		return rec, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, false, nil
	case errors.Is(err, errDamaged):
		removeDamaged(path)
		return Record{}, false, nil
	default:
		return Record{}, false, fmt.Errorf("look up %s: %w", k.Digest(), err)
	}
}

// Put records what k produced: payload is encoded as JSON. It is the last write of a step, after what the
// payload names is in place. An existing record of k is replaced. slot names the step for Nearest; it
// may be any text up to 4 KiB.
func (s *Store) Put(k Key, slot string, payload any) error {
	if err := s.put(k, slot, payload); err != nil {
		return fmt.Errorf("record %s: %w", k.Digest(), err)
	}
	return nil
}

func (s *Store) put(k Key, slot string, payload any) error {
	if k.IsZero() {
		return errors.New("the key is empty")
	}
	raw, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	now := s.now()
	data := encodeRecord(Record{Key: k, Slot: slot, Created: now, Payload: raw})
	if len(k.Text()) > maxKeyText || len(data) > maxRecord || len(slot) > maxSlotText {
		return ErrTooLarge
	}
	if err := writeInFanOut(s.recordPath(k), data, now); err != nil {
		return err
	}
	return s.remember(slot, k)
}

// Delete forgets k. A record that is not there is fine.
func (s *Store) Delete(k Key) error {
	if err := os.Remove(s.recordPath(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", k.Digest(), err)
	}
	return nil
}

// Lock is the right to produce the result of one key.
type Lock struct{ held *bytelock.Lock }

// Lock waits until no other process and no other goroutine holds k. waiting, when not nil, is called
// once if it is held, with the holder's pid (0 when unknown; our own when it is another goroutine).
// When ctx ends first, its cause is returned. Look the key up again once the lock is held.
func (s *Store) Lock(ctx context.Context, k Key, waiting func(pid int)) (*Lock, error) {
	held, err := bytelock.Take(ctx, s.keys, k.name(), waiting)
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", k.Digest(), err)
	}
	return &Lock{held}, nil
}

// Release lets the next one in. Calling it again does nothing.
func (l *Lock) Release() {
	if l.held != nil {
		l.held.Release()
		l.held = nil
	}
}

// touch keeps the time of last use, without a write for records used within the hour. It is a hint for
// trimming: a read-only store still serves its records.
func (s *Store) touch(f *os.File) {
	st, err := f.Stat()
	if err != nil {
		return
	}
	now := s.now()
	if age := now.Sub(st.ModTime()); age > lastUseGrain || age < -lastUseGrain { // negative: the clock went back
		_ = atomicfile.Touch(f, now)
	}
}

func (s *Store) recordPath(k Key) string {
	return fanOut(s.records, k.name())
}

func fanOut(dir, name string) string { return filepath.Join(dir, name[:2], name) }

// writeInFanOut writes a file, making its directory when it is the first there.
func writeInFanOut(path string, data []byte, mtime time.Time) error {
	o := atomicfile.Options{Mtime: mtime}
	err := atomicfile.Write(path, data, o)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := atomicfile.Mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	return atomicfile.Write(path, data, o)
}

// readRecord reads and checks one file. The open file is returned where there is one, for the caller to close.
func readRecord(path string) (Record, *os.File, error) {
	// A link, FIFO or device is not ours: do not follow it, do not wait for it.
	fd, err := retried.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return Record{}, nil, errDamaged
	}
	if err != nil {
		return Record{}, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	st, err := f.Stat()
	if err != nil {
		return Record{}, f, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxRecord {
		return Record{}, f, errDamaged
	}
	var buf bytes.Buffer
	buf.Grow(int(st.Size()) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(f, maxRecord+1)); err != nil {
		return Record{}, f, err
	}
	rec, err := decodeRecord(buf.Bytes())
	return rec, f, err
}

// removeDamaged clears the way for a new record. Should a good one have come by rename since, that one
// is lost, which costs a step and no correctness; should the removal not succeed, the file stays a miss.
func removeDamaged(path string) { _ = os.RemoveAll(path) }

func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
