package tardiff

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors to decide on.
var (
	ErrMalformed = errors.New("layer is not a tar archive")
	ErrTooLarge  = errors.New("layers are too large or too different to be compared")
)

// Diff is how two archives differ. The zero value: in nothing.
type Diff struct {
	Changes []Change `json:"changes"`          // by path
	More    int      `json:"more,omitempty"`   // changes beyond those
	Order   bool     `json:"order,omitempty"`  // the same entries are in another order
	Header  bool     `json:"header,omitempty"` // nothing but the way that headers are written is left as a reason
}

// The kinds of changes.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is a path that differs.
type Change struct {
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Attrs []Attr `json:"attributes,omitempty"` // of one that changed
}

// OnlyTimes says that a file is the same but for when it was changed.
func (c Change) OnlyTimes() bool {
	return c.Kind == Changed && !slices.ContainsFunc(c.Attrs, func(a Attr) bool { return a.Name != "mtime" })
}

// Attr is an attribute with both values as text; "" where there is none.
type Attr struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// entry is what counts of a file, each attribute as text.
type entry struct {
	name  string
	attrs map[string]string
}

// Compare reads both archives to their ends.
func Compare(ctx context.Context, old, now io.Reader) (Diff, error) {
	c := &comparison{}
	sides := [2]*tar.Reader{tar.NewReader(&bounded{r: old, left: maxArchive}), tar.NewReader(&bounded{r: now, left: maxArchive})}
	for done := [2]bool{}; !done[0] || !done[1]; {
		if err := context.Cause(ctx); err != nil {
			return Diff{}, err
		}
		var pair [2]*entry
		for s := range sides {
			if done[s] {
				continue
			}
			e, err := next(sides[s])
			if errors.Is(err, io.EOF) {
				done[s] = true
				continue
			}
			if err != nil {
				return Diff{}, err
			}
			pair[s] = e
		}
		if err := c.take(pair); err != nil {
			return Diff{}, err
		}
	}
	return c.result(), nil
}

// bounded ends a stream with an error, not with an end that looks like one.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, ErrTooLarge
	}
	return n, err
}

// next reads one entry with its content; io.EOF at the end.
func next(r *tar.Reader) (*entry, error) {
	h, err := r.Next()
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, readError(err)
	}
	e := &entry{name: path.Clean("/" + h.Name), attrs: map[string]string{
		"type": kindOf(h.Typeflag), "mode": fmt.Sprintf("%04o", h.Mode), "owner": fmt.Sprintf("%d:%d", h.Uid, h.Gid),
		"mtime": h.ModTime.UTC().Format(time.RFC3339Nano), "link": h.Linkname,
	}}
	set := func(name, value string) {
		if value != "" {
			e.attrs[name] = value
		}
	}
	if h.Uname != "" || h.Gname != "" {
		set("owner names", h.Uname+":"+h.Gname)
	}
	if h.Devmajor != 0 || h.Devminor != 0 {
		set("device", fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor))
	}
	for key, value := range h.PAXRecords {
		if x, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			set("xattr "+x, strconv.QuoteToASCII(value))
		}
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
		sum := sha256.New()
		n, err := io.Copy(sum, r)
		if err != nil {
			return nil, readError(err)
		}
		e.attrs["content"] = fmt.Sprintf("%s (%d bytes)", hex.EncodeToString(sum.Sum(nil)), n)
	}
	return e, nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

func kindOf(flag byte) string {
	kinds := map[byte]string{
		tar.TypeReg: "file", tar.TypeGNUSparse: "file", tar.TypeLink: "hard link", tar.TypeSymlink: "symlink", tar.TypeDir: "directory",
		tar.TypeChar: "character device", tar.TypeBlock: "block device", tar.TypeFifo: "fifo",
	}
	return cmp.Or(kinds[flag], "type "+strconv.QuoteRune(rune(flag)))
}

// comparison is what one archive has had and the other has not, and what differs.
type comparison struct {
	pending [2]map[string][]*entry
	waiting int
	changes []Change
	more    int
	order   bool
}

func (c *comparison) take(pair [2]*entry) error {
	if pair[0] != nil && pair[1] != nil && pair[0].name == pair[1].name && c.waiting == 0 {
		c.compare(pair[0], pair[1])
		return nil
	}
	for s, e := range pair {
		if e == nil {
			continue
		}
		other := c.pending[1-s][e.name]
		if len(other) == 0 {
			if err := c.wait(s, e); err != nil {
				return err
			}
			continue
		}
		c.waiting--
		if c.pending[1-s][e.name] = other[1:]; len(other) == 1 {
			delete(c.pending[1-s], e.name)
		}
		both := [2]*entry{e, e}
		both[1-s] = other[0]
		c.compare(both[0], both[1])
	}
	return nil
}

func (c *comparison) wait(s int, e *entry) error {
	if c.waiting++; c.waiting > maxPending {
		return fmt.Errorf("more than %d files that are only in one of them: %w", maxPending, ErrTooLarge)
	}
	if c.pending[s] == nil {
		c.pending[s] = map[string][]*entry{}
	}
	c.pending[s][e.name] = append(c.pending[s][e.name], e)
	c.order = true
	return nil
}

// compare notes the attributes that differ, content first.
func (c *comparison) compare(old, now *entry) {
	var attrs []Attr
	for _, name := range []string{"content", "type", "link", "device", "mode", "owner", "owner names"} {
		attrs = add(attrs, name, old, now)
	}
	names := maps.Clone(old.attrs)
	maps.Copy(names, now.attrs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if strings.HasPrefix(name, "xattr ") {
			attrs = add(attrs, name, old, now)
		}
	}
	if attrs = add(attrs, "mtime", old, now); len(attrs) > 0 {
		c.note(Change{old.name, Changed, attrs})
	}
}

func add(attrs []Attr, name string, old, now *entry) []Attr {
	if old.attrs[name] == now.attrs[name] {
		return attrs
	}
	return append(attrs, Attr{name, clip(old.attrs[name]), clip(now.attrs[name])})
}

func clip(s string) string {
	if len(s) > maxValue {
		return s[:maxValue] + "…"
	}
	return s
}

// note keeps the changes that are not of times alone before those that are: an image that is built at another time has many of these.
func (c *comparison) note(change Change) {
	if len(c.changes) < maxChanges {
		c.changes = append(c.changes, change)
		return
	}
	c.more++
	if change.OnlyTimes() {
		return
	}
	if i := slices.IndexFunc(c.changes, Change.OnlyTimes); i >= 0 {
		c.changes[i] = change
	}
}

func (c *comparison) result() Diff {
	for s, kind := range []string{Removed, Added} {
		for _, name := range slices.Sorted(maps.Keys(c.pending[s])) {
			c.note(Change{Path: name, Kind: kind})
		}
	}
	slices.SortStableFunc(c.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	d := Diff{Changes: c.changes, More: c.more}
	if len(c.changes) == 0 {
		d.Order, d.Header = c.order, !c.order
	}
	return d
}
