package buildcontext

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
)

// statCache remembers entry digests by what stat says of the entry, so that an
// unchanged file is not read again.
//
// The file is a header, entries sorted by fingerprint, and the SHA-256 of all
// before it. An entry is a fingerprint, a digest, and the day it was last of
// use; the first halves of all fingerprints come first, close together for the
// processor's cache. Fingerprints are hashes and so spread evenly: an entry is
// found in the bytes as read, by interpolation, without building a table. A
// file that is torn or foreign counts as empty, so writing needs neither fsync
// nor lock; the last writer wins, after a merge with what it found.
type statCache struct {
	file string
	now  func() time.Time

	load sync.Once
	old  statTable // as read

	mu    sync.Mutex
	used  []uint64               // bitmap of the entries of old that were of use
	fresh map[fingerprint]record // learned now
}

type fingerprint [16]byte

type record struct {
	digest [sha256.Size]byte
	day    uint32
}

const (
	statMagic  = "gobuild stat cache 1\n"
	headSize   = 8 // of a fingerprint
	tailSize   = len(fingerprint{}) - headSize + sha256.Size + 4
	entrySize  = headSize + tailSize
	secondsDay = 24 * 60 * 60
	// Entries not of use for so many days are dropped: the file was changed or is gone.
	keepDays = 30
	// A file changed less than this before it was hashed may change again without its times
	// changing: clocks of file systems tick, some once in two seconds (FAT). As git's "racy" rule.
	racyWindow = 2 * time.Second
)

func newStatCache(file string, now func() time.Time) *statCache {
	return &statCache{file: file, now: now, fresh: map[fingerprint]record{}}
}

// fingerprintOf hashes all that stat says and a change of the content or
// attributes would change. The path is not in it: the inode is.
func fingerprintOf(i *Info) fingerprint {
	var b [96]byte
	buf := b[:0]
	for _, n := range [...]uint64{
		i.Dev, i.Ino, uint64(i.Mode)<<32 | uint64(i.UID), uint64(i.GID), uint64(i.Size), i.Rdev,
		uint64(i.Mtime.Sec), uint64(i.Mtime.Nsec), uint64(i.ctime.Sec), uint64(i.ctime.Nsec),
	} {
		buf = binary.LittleEndian.AppendUint64(buf, n)
	}
	sum := sha256.Sum256(buf)
	return fingerprint(sum[:16])
}

func (c *statCache) today() uint32 { return uint32(c.now().Unix() / secondsDay) }

// lookup finds the digest of an entry that stat describes.
func (c *statCache) lookup(f fingerprint) ([sha256.Size]byte, bool) {
	c.load.Do(func() {
		c.old = readStatFile(c.file)
		c.used = make([]uint64, (c.old.len()+63)/64)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.fresh[f]; ok {
		return r.digest, true
	}
	i, ok := c.old.find(f)
	if !ok {
		return [sha256.Size]byte{}, false
	}
	c.used[i/64] |= 1 << (i % 64)
	_, r := c.old.at(i)
	return r.digest, true
}

// racy says whether an entry hashed at a time is too young to be remembered. A
// change time in the future is a clock set back: it proves nothing.
func racy(i *Info, hashed time.Time) bool {
	limit := hashed.Add(-racyWindow)
	mtime := asTime(i.Mtime)
	return asTime(i.ctime).After(limit) || mtime.After(limit) && mtime.Before(hashed.Add(racyWindow))
}

// remember keeps a digest; hashed is the time before reading began.
func (c *statCache) remember(i *Info, f fingerprint, digest [sha256.Size]byte, hashed time.Time) {
	if racy(i, hashed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fresh) < maxStatEntries {
		c.fresh[f] = record{digest: digest, day: c.today()}
	}
}

// statTable is the entries of a file, sorted by fingerprint.
type statTable struct {
	heads []byte // first halves of the fingerprints
	tails []byte // the rest of each entry
}

func (t statTable) len() int { return len(t.heads) / headSize }

func (t statTable) head(i int) uint64 { return binary.BigEndian.Uint64(t.heads[i*headSize:]) }

func (t statTable) at(i int) (fingerprint, record) {
	var f fingerprint
	copy(f[:headSize], t.heads[i*headSize:])
	e := t.tails[i*tailSize:]
	e = e[copy(f[headSize:], e):]
	return f, record{digest: [sha256.Size]byte(e), day: binary.LittleEndian.Uint32(e[sha256.Size:])}
}

func (t statTable) find(f fingerprint) (int, bool) {
	want := binary.BigEndian.Uint64(f[:])
	for i := t.first(want); i < t.len() && t.head(i) == want; i++ {
		if bytes.Equal(t.tails[i*tailSize:i*tailSize+len(f)-headSize], f[headSize:]) {
			return i, true
		}
	}
	return 0, false
}

// first returns the first entry whose head is at least want.
func (t statTable) first(want uint64) int {
	lo, hi := 0, t.len() // the answer is in [lo, hi]
	low, high := uint64(0), ^uint64(0)
	for steps := 0; lo < hi; steps++ {
		at := lo + (hi-lo)/2
		if steps < 6 && high > low { // evenly spread: a few guesses land beside it
			at = min(hi-1, lo+int(float64(want-low)/float64(high-low)*float64(hi-lo)))
		}
		if have := t.head(at); have < want {
			lo, low = at+1, have
		} else {
			hi, high = at, have
		}
	}
	return lo
}

// readStatFile returns the entries of a file, none when it is not whole.
func readStatFile(name string) (t statTable) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return t
	}
	defer f.Close()
	const frame = len(statMagic) + sha256.Size
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() < int64(frame) || st.Size() > int64(frame+maxStatEntries*entrySize) {
		return t
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return t
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if have := sha256.Sum256(body); !bytes.Equal(have[:], sum) || !bytes.HasPrefix(body, []byte(statMagic)) {
		return t
	}
	entries := body[len(statMagic):]
	if len(entries)%entrySize != 0 {
		return t
	}
	heads := len(entries) / entrySize * headSize
	return statTable{heads: entries[:heads], tails: entries[heads:]}
}

// save writes the file when there is something new in it. Another process may
// have written it meanwhile: its entries are kept.
func (c *statCache) save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	today := c.today()
	refresh := c.stale(today)
	if len(c.fresh) == 0 && !refresh {
		return nil
	}
	merged := c.fresh
	c.fresh = map[fingerprint]record{}
	for i := range c.old.len() {
		if f, r := c.old.at(i); c.used[i/64]&(1<<(i%64)) != 0 {
			r.day = today
			putRecord(merged, f, r)
		}
	}
	now := readStatFile(c.file)
	for i := range now.len() {
		if f, r := now.at(i); r.day+keepDays >= today && r.day <= today+1 {
			putRecord(merged, f, r)
		}
	}
	return writeStatFile(c.file, merged)
}

func putRecord(m map[fingerprint]record, f fingerprint, r record) {
	if _, ok := m[f]; !ok {
		m[f] = r
	}
}

// stale says whether used entries carry an old date. The date is renewed a few
// times within keepDays only, so that an ordinary no-op build writes nothing.
func (c *statCache) stale(today uint32) bool {
	for i := range c.old.len() {
		if c.used[i/64]&(1<<(i%64)) == 0 {
			continue
		}
		if _, r := c.old.at(i); r.day+keepDays/4 < today {
			return true
		}
	}
	return false
}

func writeStatFile(name string, m map[fingerprint]record) error {
	keys := make([]fingerprint, 0, len(m))
	for f := range m {
		keys = append(keys, f)
	}
	if len(keys) > maxStatEntries { // the longest unused go first
		slices.SortFunc(keys, func(a, b fingerprint) int { return cmp.Compare(m[b].day, m[a].day) })
		keys = keys[:maxStatEntries]
	}
	slices.SortFunc(keys, func(a, b fingerprint) int { return bytes.Compare(a[:], b[:]) })
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("write stat cache: %w", err)
	}
	err := atomicfile.WriteFunc(name, atomicfile.Options{}, func(out io.Writer) error {
		sum := sha256.New()
		w := bufio.NewWriterSize(io.MultiWriter(out, sum), 64<<10) // keeps the first error
		_, _ = w.WriteString(statMagic)
		for _, f := range keys {
			_, _ = w.Write(f[:headSize])
		}
		for _, f := range keys {
			r := m[f]
			_, _ = w.Write(f[headSize:])
			_, _ = w.Write(r.digest[:])
			_, _ = w.Write(binary.LittleEndian.AppendUint32(nil, r.day))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, err := out.Write(sum.Sum(nil))
		return err
	})
	if err != nil {
		return fmt.Errorf("write stat cache: %w", err)
	}
	return nil
}
