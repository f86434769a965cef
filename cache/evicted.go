package cache

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"gobuild/internal/atomicfile"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Eviction is who removed a record, and when.
type Eviction struct {
	By string // as given to NoteEvicted
	At time.Time
}

// NoteEvicted remembers that somebody removes these keys, so that Evicted can say why they are missed. by is a word or a few.
// Two processes that do so at once both get their lines in, unless one of them cuts the list meanwhile.
func (s *Store) NoteEvicted(by string, keys ...Key) error {
	if len(keys) == 0 {
		return nil
	}
	var text bytes.Buffer
	for _, k := range keys {
		fmt.Fprintf(&text, "%d %s %s\n", s.now().Unix(), k.Digest(), strconv.QuoteToASCII(by))
	}
	if err := s.appendEvicted(text.Bytes()); err != nil {
		return fmt.Errorf("note what is removed: %w", err)
	}
	return nil
}

func (s *Store) appendEvicted(lines []byte) error {
	f, err := openSlot(s.evicted, unix.O_WRONLY|unix.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Write(s.evicted, lines, atomicfile.Options{})
	}
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	st, serr := f.Stat()
	if err = errors.Join(err, serr, f.Close()); err != nil || st.Size() < evictedBytes {
		return err
	}
	data, err := readTail(s.evicted, evictedBytes)
	if err != nil {
		return err
	}
	_, newer, _ := bytes.Cut(data[len(data)/2:], []byte("\n"))
	return atomicfile.Write(s.evicted, newer, atomicfile.Options{})
}

// Evicted tells of each of these keys whether and when it was last removed. It reads one list of bounded length.
func (s *Store) Evicted(keys ...digest.Digest) (map[digest.Digest]Eviction, error) {
	data, err := readTail(s.evicted, evictedBytes)
	if err != nil {
		return nil, fmt.Errorf("look for what was removed: %w", err)
	}
	wanted := make(map[string]digest.Digest, len(keys))
	for _, k := range keys {
		wanted[k.String()] = k
	}
	found := map[digest.Digest]Eviction{}
	for in := bufio.NewScanner(bytes.NewReader(data)); in.Scan(); {
		when, rest, _ := strings.Cut(in.Text(), " ")
		name, quoted, _ := strings.Cut(rest, " ")
		key, ok := wanted[name]
		secs, err := strconv.ParseInt(when, 10, 64)
		by, quoteErr := strconv.Unquote(quoted)
		if ok && err == nil && quoteErr == nil { // torn lines are passed over
			found[key] = Eviction{By: by, At: time.Unix(secs, 0)}
		}
	}
	return found, nil
}
