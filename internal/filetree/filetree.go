package filetree

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Sides are the images that a layer belongs to.
type Sides [2]bool

// ErrTooLarge says that an image has more paths or bytes than are looked at.
var ErrTooLarge = errors.New("image is too large to be looked through")

// ErrMalformed says that a layer is no tar.
var ErrMalformed = errors.New("layer is not a tar archive")

// Entry is a file of an image.
type Entry struct {
	Type     byte // as in archive/tar
	Mode     int64
	UID, GID int
	Size     int64
	Link     string // of symbolic links
	Digest   [sha256.Size]byte
	Time     time.Time
	Layer    int  // that brought it
	linked   bool // a further name of a file: its bytes are counted with the first
}

// SameContent says whether two entries differ in times and layers at most.
func (e *Entry) SameContent(o *Entry) bool {
	return e.Type == o.Type && e.Mode == o.Mode && e.UID == o.UID && e.GID == o.GID && e.Size == o.Size && e.Link == o.Link && e.Digest == o.Digest
}

// Waste is what a path costs in layers although the image does not need it.
type Waste struct {
	Path  string
	Bytes int64 // of all its versions that are hidden
	Times int   // how often it was replaced or removed
}

// Tree is the files of two images. The zero value is not usable.
type Tree struct {
	root   *node
	paths  int
	wasted map[string]*Waste
}

type node struct {
	children map[string]*node
	entry    [2]*Entry
	live     [2]int // entries at and below
}

// New returns an empty tree.
func New() *Tree { return &Tree{root: &node{}, wasted: map[string]*Waste{}} }

// Apply adds a layer, a plain tar, to the images that have it. Layers come from the bottom up.
func (t *Tree) Apply(ctx context.Context, r io.Reader, sides Sides, layer int) error {
	tr := tar.NewReader(io.LimitReader(r, maxLayer))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if n > maxPaths {
			return fmt.Errorf("a layer of more than %d entries: %w", maxPaths, ErrTooLarge)
		}
		if err := t.add(tr, h, sides, layer); err != nil {
			return err
		}
	}
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (t *Tree) add(r io.Reader, h *tar.Header, sides Sides, layer int) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if len(name) > maxPath {
		return fmt.Errorf("a path of %d bytes: %w", len(name), ErrTooLarge)
	}
	dir, base := path.Split(name)
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		for s := range sides {
			if sides[s] {
				t.hide(strings.TrimSuffix(dir, "/"), hidden, base == opaque, s, layer)
			}
		}
		return nil
	}
	e := &Entry{Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size, Time: h.ModTime, Layer: layer}
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.Link = h.Linkname
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type = tar.TypeReg
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		}
		sum.Sum(e.Digest[:0])
	case tar.TypeLink:
		for s := range sides {
			if first := t.find(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")); sides[s] && first != nil && first.entry[s] != nil {
				*e = *first.entry[s]
				e.Layer, e.linked = layer, true
			}
		}
	}
	return t.set(name, e, sides)
}

// find is the node of a path, nil for none.
func (t *Tree) find(name string) *node {
	n := t.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// set puts an entry where it belongs. What is not a folder hides what was below it.
func (t *Tree) set(name string, e *Entry, sides Sides) error {
	chain := []*node{t.root}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		n := chain[len(chain)-1]
		child := n.children[part]
		if child == nil {
			if t.paths++; t.paths > maxPaths {
				return fmt.Errorf("more than %d paths: %w", maxPaths, ErrTooLarge)
			}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{}
			n.children[part] = child
		}
		chain = append(chain, child)
	}
	last := chain[len(chain)-1]
	for s := range sides {
		if !sides[s] {
			continue
		}
		if e.Type != tar.TypeDir {
			gone := 0
			for _, part := range slices.Sorted(maps.Keys(last.children)) {
				gone += t.clear(last.children[part], path.Join(name, part), s, e.Layer+1)
			}
			last.live[s] -= gone
			addLive(chain[:len(chain)-1], s, -gone)
		}
		if old := last.entry[s]; old == nil {
			addLive(chain, s, 1)
		} else if old.Type == tar.TypeReg && s == 0 {
			t.waste(name, old)
		}
		last.entry[s] = e
	}
	return nil
}

func addLive(chain []*node, side, by int) {
	for _, n := range chain {
		n.live[side] += by
	}
}

// hide removes what lower layers have at dir/name, or all below dir.
func (t *Tree) hide(dir, name string, all bool, side, layer int) {
	chain := []*node{t.root}
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" {
			continue
		}
		n := chain[len(chain)-1].children[part]
		if n == nil {
			return
		}
		chain = append(chain, n)
	}
	parent := chain[len(chain)-1]
	gone := 0
	for _, part := range slices.Sorted(maps.Keys(parent.children)) {
		if all || part == name {
			gone += t.clear(parent.children[part], path.Join(dir, part), side, layer)
		}
	}
	addLive(chain, side, -gone)
}

// clear drops the entries of layers below layer, and says how many there were.
func (t *Tree) clear(n *node, name string, side, layer int) int {
	if n.live[side] == 0 {
		return 0
	}
	gone := 0
	if e := n.entry[side]; e != nil && e.Layer < layer {
		if e.Type == tar.TypeReg && side == 0 {
			t.waste(name, e)
		}
		n.entry[side] = nil
		gone++
	}
	for _, part := range slices.Sorted(maps.Keys(n.children)) {
		gone += t.clear(n.children[part], path.Join(name, part), side, layer)
	}
	n.live[side] -= gone
	return gone
}

// waste notes a version of a file that nobody sees. It is counted for the first image.
func (t *Tree) waste(name string, e *Entry) {
	w := t.wasted[name]
	if w == nil {
		w = &Waste{Path: name}
		t.wasted[name] = w
	}
	w.Times++
	if !e.linked {
		w.Bytes += e.Size
	}
}

// Wasted lists the paths of the first image that have hidden versions, the most bytes first.
func (t *Tree) Wasted() []Waste {
	var list []Waste
	for _, w := range t.wasted {
		list = append(list, *w)
	}
	slices.SortFunc(list, func(a, b Waste) int {
		if a.Bytes != b.Bytes {
			return int(min(max(b.Bytes-a.Bytes, -1), 1))
		}
		return strings.Compare(a.Path, b.Path)
	})
	return list
}

// Walk calls f with every path that one of the images has, in order; an entry is nil where an image lacks it.
func (t *Tree) Walk(f func(path string, first, second *Entry) error) error {
	return walk(t.root, "", f)
}

func walk(n *node, name string, f func(string, *Entry, *Entry) error) error {
	if name != "" && (n.entry[0] != nil || n.entry[1] != nil) {
		if err := f(name, n.entry[0], n.entry[1]); err != nil {
			return err
		}
	}
	for _, part := range slices.Sorted(maps.Keys(n.children)) {
		if err := walk(n.children[part], path.Join(name, part), f); err != nil {
			return err
		}
	}
	return nil
}
