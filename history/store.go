package history

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
	"gobuild/internal/lazyre"
	"gobuild/internal/retried"
)

// Errors to decide on.
var (
	ErrNotFound  = errors.New("no such build")
	ErrAmbiguous = errors.New("several builds begin so")
	ErrTooLarge  = errors.New("build record too large")
)

// errDamaged marks a file that is no record of ours.
var errDamaged = errors.New("damaged build record")

// Store is a directory of records. Its methods are safe for concurrent use, also by other processes.
type Store struct {
	dir string
	now func() time.Time
}

// Open uses the store in dir. Nothing is made or read.
func Open(dir string, now func() time.Time) *Store { return &Store{dir: dir, now: now} }

const timeForm = "20060102-150405.000"

var idPattern = lazyre.New(`^[0-9]{8}-[0-9]{6}\.[0-9]{3}-[0-9a-f]{8}$`)

// NewID names a build that begins now. Names sort by time.
func (s *Store) NewID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	return s.now().UTC().Format(timeForm) + "-" + hex.EncodeToString(b[:])
}

func (s *Store) path(id, ext string) string { return filepath.Join(s.dir, id+ext) }

// Put keeps a record, replacing one of the same id, and removes what is over the bounds.
func (s *Store) Put(r Record) error {
	if !idPattern.MatchString(r.ID) {
		return fmt.Errorf("keep build record: %q is no id of a build", r.ID)
	}
	r.Version = version
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep build record: %w", err)
	}
	if len(data) > maxRecord {
		return fmt.Errorf("keep build record: %w: %d bytes", ErrTooLarge, len(data))
	}
	if err := s.write(r.ID, data); err != nil {
		return fmt.Errorf("keep build record: %w", err)
	}
	return s.trim()
}

func (s *Store) write(id string, data []byte) error {
	err := atomicfile.Write(s.path(id, ".json"), data, atomicfile.Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := atomicfile.Mkdir(s.dir); err != nil {
		return err
	}
	return atomicfile.Write(s.path(id, ".json"), data, atomicfile.Options{})
}

// trim removes the records and logs that are too many or too old. It reads one directory, which is as long as it leaves it.
func (s *Store) trim() error {
	all, logs, err := s.names()
	if err != nil {
		return fmt.Errorf("trim build records: %w", err)
	}
	oldest := s.now().Add(-maxAge).UTC().Format(timeForm)
	var errs []error
	for i, id := range all {
		if i >= maxRecords || id < oldest {
			errs = append(errs, s.remove(id))
		}
	}
	// Logs without a record are of builds under way, or of builds that were killed.
	for _, id := range logs {
		if id < oldest {
			errs = append(errs, s.remove(id))
		}
	}
	return errors.Join(errs...)
}

// names are the ids of the records, newest first, and those of logs without a record.
func (s *Store) names() (records, logs []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	have := map[string]bool{}
	for _, e := range slices.Backward(entries) {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && idPattern.MatchString(id) {
			records = append(records, id)
			have[id] = true
		}
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".log"); ok && idPattern.MatchString(id) && !have[id] {
			logs = append(logs, id)
		}
	}
	return records, logs, nil
}

// Remove forgets one build. One that is not there is fine.
func (s *Store) Remove(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("remove build record %q: %w", id, ErrNotFound)
	}
	return s.remove(id)
}

func (s *Store) remove(id string) error {
	for _, ext := range []string{".json", ".log"} {
		if err := os.Remove(s.path(id, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove build record: %w", err)
		}
	}
	return nil
}

// List calls fn for each record, newest first, until it says enough. Damaged records and those of another form are passed over.
func (s *Store) List(fn func(Record) (more bool)) error {
	ids, _, err := s.names()
	if err != nil {
		return fmt.Errorf("list build records: %w", err)
	}
	for _, id := range ids {
		r, err := s.read(id)
		if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list build records: %w", err)
		}
		if !fn(r) {
			return nil
		}
	}
	return nil
}

// Get finds a build: by id, by enough of its beginning, or as ^N, the Nth before the last; "" is the last.
func (s *Store) Get(name string) (Record, error) {
	ids, _, err := s.names()
	if err != nil {
		return Record{}, fmt.Errorf("find build: %w", err)
	}
	id, err := pick(ids, name)
	if err != nil {
		return Record{}, err
	}
	r, err := s.read(id)
	if err != nil {
		return Record{}, fmt.Errorf("read record of build %s: %w", id, err)
	}
	return r, nil
}

func pick(ids []string, name string) (string, error) {
	if name == "" {
		name = "^0"
	}
	if back, ok := strings.CutPrefix(name, "^"); ok {
		n, err := strconv.ParseUint("0"+back, 10, 16)
		if err != nil || n >= uint64(len(ids)) {
			return "", fmt.Errorf("build %s: %w: %d are recorded", name, ErrNotFound, len(ids))
		}
		return ids[n], nil
	}
	var found string
	for _, id := range ids {
		if id == name {
			return id, nil
		}
		// The end alone is what differs on a screen full of them.
		if !strings.HasPrefix(id, name) && !strings.HasSuffix(id, "-"+name) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("build %s: %w: %s, %s", name, ErrAmbiguous, found, id)
		}
		found = id
	}
	if found == "" {
		return "", fmt.Errorf("build %s: %w", name, ErrNotFound)
	}
	return found, nil
}

func (s *Store) read(id string) (Record, error) {
	f, err := openRegular(s.path(id, ".json"))
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if len(data) > maxRecord || json.Unmarshal(data, &r) != nil || r.Version != version || r.ID != id {
		return Record{}, errDamaged
	}
	return r, nil
}

// openRegular opens a file of ours: a link, FIFO or device is none.
func openRegular(path string) (*os.File, error) {
	fd, err := retried.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, errDamaged
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil, errDamaged
	}
	return f, nil
}
