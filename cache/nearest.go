package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"gobuild/internal/atomicfile"
	"gobuild/internal/retried"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Nearest returns, of the last few records put under slot, the one whose key differs from k in the
// fewest lines (the latest of equals), to explain why k missed. Records of others are compared too,
// whatever their slot: a step that moved has its former key in another one. k's own record is left out.
// The work is bounded: at most sixteen records of at most 1 MiB are read.
func (s *Store) Nearest(slot string, k Key, others ...digest.Digest) (Record, bool, error) {
	recent, err := s.recent(slot)
	if err != nil {
		return Record{}, false, fmt.Errorf("look for a record near %s: %w", k.Digest(), err)
	}
	others = others[:min(len(others), recentKeys)]
	var best Record
	var found bool
	fewest := 0
	for i, d := range slices.Concat(others, recent) {
		if d == k.Digest() || d.Validate() != nil {
			continue
		}
		rec, ok := s.readSmall(d)
		if !ok || i >= len(others) && rec.Slot != slot || rec.Key.Kind() != k.Kind() {
			continue
		}
		if n := len(Diff(rec.Key, k)); !found || n < fewest {
			best, fewest, found = rec, n, true
		}
	}
	return best, found, nil
}

// Read returns the record of a key of which only the digest is known, for people to look at. It counts as no use; whatever is
// wrong with a record, it is not there.
func (s *Store) Read(d digest.Digest) (Record, bool, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return Record{}, false, fmt.Errorf("read record %q: %w", string(d), digest.ErrDigestInvalidFormat)
	}
	rec, f, err := readRecord(fanOut(s.records, d.Encoded()))
	if f != nil {
		_ = f.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged), err == nil && rec.Key.Digest() != d:
		return Record{}, false, nil
	case err != nil:
		return Record{}, false, fmt.Errorf("read record %s: %w", d, err)
	}
	return rec, true, nil
}

// readSmall reads a record for comparison. Whatever is wrong with it, it is only not compared with.
func (s *Store) readSmall(d digest.Digest) (Record, bool) {
	path := fanOut(s.records, d.Encoded())
	if st, err := os.Lstat(path); err != nil || st.Size() > maxNearest {
		return Record{}, false
	}
	rec, f, err := readRecord(path)
	if f != nil {
		_ = f.Close()
	}
	return rec, err == nil && rec.Key.Digest() == d
}

// remember appends k to the slot's list. Two processes that do so at once both get their line in
// (O_APPEND); one that cuts the list at the same time may lose the other's, which only makes an
// explanation poorer.
func (s *Store) remember(slot string, k Key) error {
	path := fanOut(s.slots, hashName(slot))
	line := k.Digest().String() + "\n"
	f, err := openSlot(path, unix.O_WRONLY|unix.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		return writeInFanOut(path, []byte(line), s.now())
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	st, serr := f.Stat()
	if err = errors.Join(err, serr, f.Close()); err != nil || st.Size() < slotBytes {
		return err
	}
	recent, err := s.recent(slot)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, d := range slices.Backward(recent) {
		b.WriteString(d.String() + "\n")
	}
	return atomicfile.Write(path, []byte(b.String()), atomicfile.Options{Mtime: s.now()})
}

func (s *Store) recent(slot string) ([]digest.Digest, error) {
	return recentOf(fanOut(s.slots, hashName(slot)))
}

// readTail reads the end of a list, twice its bound: only that matters, should it have grown past the bound. A list that is not
// there is empty.
func readTail(path string, bound int64) ([]byte, error) {
	f, err := openSlot(path, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-2*bound), 2*bound))
}

// recentOf lists the last keys in a slot file, newest first, each once. Lines that are no digest are passed over.
func recentOf(path string) ([]digest.Digest, error) {
	data, err := readTail(path, slotBytes)
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for _, line := range slices.Backward(strings.Split(string(data), "\n")) {
		d, err := digest.Parse(line)
		if err != nil || d.Algorithm() != digest.SHA256 || slices.Contains(out, d) {
			continue
		}
		if out = append(out, d); len(out) == recentKeys {
			break
		}
	}
	return out, nil
}

// openSlot opens a slot file; what is in its place but no file of ours is removed and reported as missing.
func openSlot(path string, flags int) (*os.File, error) {
	fd, err := retried.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		f := os.NewFile(uintptr(fd), path)
		if st, serr := f.Stat(); serr == nil && st.Mode().IsRegular() {
			return f, nil
		}
		_ = f.Close()
		err = unix.ELOOP
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
		removeDamaged(path)
		err = unix.ENOENT
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: err}
}
