package acceptance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is what the calls of a build make of its state directory, twice: what a process sees, and what is certain to be there when
// the power is gone. POSIX promises no more than this: fsync of a file keeps its bytes, fsync of a directory keeps its entries, syncfs
// keeps everything. All else may have arrived or not, in any order, and bytes may have arrived in part.
type disk struct{ top *node }

type node struct {
	mode uint32

	dir         bool
	names, sure map[string]*node // a directory's entries: now, and those that were synced

	data, safe []byte // a file's bytes: now, and those that were synced
	kept       bool   // safe counts

	// A tree that a step has made, or a cache mount: its inside is not followed, but for these two.
	tree    bool
	whole   bool // all of it was synced
	damaged bool // something was removed from it where it counts, in a layer
}

func newDir(mode uint32) *node {
	return &node{mode: mode, dir: true, names: map[string]*node{}, sure: map[string]*node{}}
}

func newDisk() *disk { return &disk{top: newDir(0o700)} }

// insides are the trees that are not followed, below the state directory.
var insides = regexp.MustCompile(`^((?:snapshots/(?:layers|work)/[^/]+/(?:fs|work[0-9]+)|mounts/[^/]+/(?:data|fresh)))(/.*)?$`)

// find is the node of a path below the state directory, as a process sees it. inside tells that the path leads into a tree.
func (d *disk) find(path string) (n *node, inside bool) {
	if m := insides.FindStringSubmatch(path); m != nil {
		path, inside = m[1], m[2] != ""
	}
	n = d.top
	if path == "." {
		return n, false
	}
	for name := range strings.SplitSeq(path, "/") {
		if n == nil || !n.dir {
			return nil, inside
		}
		n = n.names[name]
	}
	return n, inside
}

// make is mkdir, and open with O_CREAT.
func (d *disk) make(path string, made *node) {
	parent, _ := d.find(filepath.Dir(path))
	_, inside := d.find(path)
	if name := filepath.Base(path); name != "." && !inside && parent != nil && parent.dir && parent.names[name] == nil {
		made.tree = insides.MatchString(path)
		parent.names[name] = made
	}
}

func (d *disk) unlink(path string) {
	n, inside := d.find(path)
	if inside {
		if n != nil && strings.HasPrefix(path, "snapshots/layers/") {
			n.damaged = true
		}
		return
	}
	parent, _ := d.find(filepath.Dir(path))
	if n == nil || parent == nil || n.dir && !n.tree && len(n.names) > 0 {
		return // it fails
	}
	delete(parent.names, filepath.Base(path))
}

func (d *disk) rename(from, to string) {
	n, inside := d.find(from)
	if old, _ := d.find(to); inside || n == nil || old != nil && old.dir && len(old.names) > 0 {
		return // in a tree, or it fails
	}
	source, _ := d.find(filepath.Dir(from))
	target, _ := d.find(filepath.Dir(to))
	if target == nil {
		return
	}
	delete(source.names, filepath.Base(from))
	target.names[filepath.Base(to)] = n
	n.tree = n.tree || insides.MatchString(to)
}

func (d *disk) write(path string, at int64, data []byte) {
	n, inside := d.find(path)
	if inside || n == nil || n.dir {
		return
	}
	if at < 0 {
		at = int64(len(n.data))
	}
	grown := make([]byte, max(int64(len(n.data)), at+int64(len(data)))) // a new one: safe may be the old one
	copy(grown, n.data)
	copy(grown[at:], data)
	n.data = grown
}

func (d *disk) truncate(path string, size int64) {
	if n, inside := d.find(path); !inside && n != nil && !n.dir {
		n.data = slices.Clone(n.data[:min(size, int64(len(n.data)))])
	}
}

func (n *node) sync() {
	if n.dir {
		n.sure = maps.Clone(n.names)
		return
	}
	n.safe, n.kept = n.data, true
}

// syncAll is syncfs. Only a tree that is finished is whole afterwards.
func (d *disk) syncAll() { syncBelow(d.top, "") }

func syncBelow(n *node, path string) {
	n.sync()
	n.whole = n.whole || n.tree && strings.HasPrefix(path, "/snapshots/layers/")
	for name, below := range n.names {
		syncBelow(below, path+"/"+name)
	}
}

// A fate decides what of the unsynced has reached the disk. One order is kept, since file systems with a journal keep it: what was
// done in a directory after it got a new name has not arrived where that name has not.
type fate struct {
	name  string
	entry func(*rand.Rand) bool               // of a directory: as it is now, rather than as it was synced
	data  func(*rand.Rand, *node) []byte      // of a file that has changed
	tree  func(*rand.Rand) (kept, whole bool) // of a tree: its entries; and their bytes
}

func always(*rand.Rand) bool { return true }
func never(*rand.Rand) bool  { return false }

var fates = []fate{
	{"nothing but what was synced", never, func(_ *rand.Rand, n *node) []byte { return n.safe }, func(*rand.Rand) (bool, bool) { return false, false }},
	{"names in order, no bytes", always, func(_ *rand.Rand, n *node) []byte { return n.safe }, func(*rand.Rand) (bool, bool) { return true, false }},
	{"names in order, zeros", always, func(_ *rand.Rand, n *node) []byte { return make([]byte, len(n.data)) }, func(*rand.Rand) (bool, bool) { return false, false }},
	{"anything, torn", func(r *rand.Rand) bool { return r.IntN(2) == 0 }, func(r *rand.Rand, n *node) []byte {
		switch r.IntN(4) {
		case 0:
			return n.safe
		case 1:
			return n.data[:len(n.data)/2]
		case 2:
			return append(slices.Clone(n.data[:len(n.data)/2]), make([]byte, len(n.data)-len(n.data)/2)...)
		}
		return n.data
	}, func(r *rand.Rand) (bool, bool) { return r.IntN(2) == 0, r.IntN(2) == 0 }},
}

// after writes what is found when the power is back. Trees are taken from a copy of the state directory.
func (d *disk) after(t *testing.T, r *rand.Rand, f fate, dir, trees string) {
	t.Helper()
	if err := d.top.write(r, f, dir, trees, "."); err != nil {
		t.Fatal(err)
	}
}

func (n *node) write(r *rand.Rand, f fate, dir, trees, path string) error {
	full := filepath.Join(dir, path)
	switch {
	case n.tree:
		return n.writeTree(r, f, full, filepath.Join(trees, path))
	case !n.dir:
		data := n.safe
		if !n.kept || string(n.safe) != string(n.data) {
			data = f.data(r, n)
		}
		return os.WriteFile(full, data, os.FileMode(n.mode&0o777))
	}
	if err := os.Mkdir(full, 0o700); err != nil {
		return err
	}
	all := maps.Clone(n.sure)
	maps.Copy(all, n.names)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		below, then := n.sure[name], f
		if now := n.names[name]; now != below {
			if f.entry(r) {
				below = now
			} else {
				then = fates[0]
			}
		}
		if below == nil {
			continue
		}
		if err := below.write(r, then, dir, trees, filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return os.Chmod(full, os.FileMode(n.mode&0o777))
}

// writeTree puts a tree there: as it was, or without its bytes, or without anything.
func (n *node) writeTree(r *rand.Rand, f fate, full, copied string) error {
	kept, bytes := true, true
	if !n.whole || n.damaged {
		kept, bytes = f.tree(r)
	}
	if _, err := os.Lstat(copied); err != nil || !kept {
		return os.Mkdir(full, os.FileMode(n.mode&0o777))
	}
	if out, err := exec.Command("cp", "-a", copied, full).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if bytes {
		return nil
	}
	return filepath.WalkDir(full, func(p string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return os.Truncate(p, 0)
	})
}

// change is one thing that a build does to its state directory.
type change struct {
	what string
	do   func(*disk)
}

// watched are the calls that change a disk; none of the others does it in a state directory, outside of trees.
var watched = []string{
	"openat", "openat2", "mkdirat", "renameat", "renameat2", "unlinkat", "linkat", "symlinkat", "write", "pwrite64", "fsync", "syncfs",
	"ftruncate", "copy_file_range", "sendfile",
}

// changeOf says what a call will do. Syncs are done here and now: the log has no moment at which one is half done.
func changeOf(c call, root string) (do func(*disk), a answer, err error) {
	rel, ours := strings.CutPrefix(c.path+"/", root+"/")
	path := filepath.Clean(rel)
	if !ours || !c.change || strings.HasSuffix(c.path, " (deleted)") {
		return nil, answer{}, nil
	}
	switch c.name {
	case "openat":
		fresh := &node{mode: uint32(c.args[3])} //nolint:gosec // a mode
		flags := c.args[2]
		return func(d *disk) {
			if d.make(path, fresh); flags&unix.O_TRUNC != 0 {
				d.truncate(path, 0)
			}
		}, answer{}, nil
	case "mkdirat":
		fresh := newDir(uint32(c.args[2])) //nolint:gosec // a mode
		return func(d *disk) { d.make(path, fresh) }, answer{}, nil
	case "unlinkat":
		return func(d *disk) { d.unlink(path) }, answer{}, nil
	case "renameat", "renameat2":
		from, inside := strings.CutPrefix(c.at(c.args[0], c.args[1]), root+"/")
		if !inside || c.name == "renameat2" && c.args[4]&^unix.RENAME_NOREPLACE != 0 {
			return nil, answer{}, fmt.Errorf("%s of %s to %s, flags %d, is not known here", c.name, from, path, c.args[4])
		}
		return func(d *disk) { d.rename(from, path) }, answer{}, nil
	case "write", "pwrite64":
		return c.writing(path)
	case "ftruncate":
		size := int64(c.args[1]) //nolint:gosec // a size
		return func(d *disk) { d.truncate(path, size) }, answer{}, nil
	case "fsync":
		return func(d *disk) {
			if n, inside := d.find(path); n != nil && !inside {
				n.sync()
			}
		}, answer{done: true}, nil
	case "syncfs":
		return func(d *disk) { d.syncAll() }, answer{done: true}, nil
	}
	if !insides.MatchString(path) {
		return nil, answer{}, fmt.Errorf("%s of %s is not known here", c.name, path)
	}
	return nil, answer{}, nil
}

// writing keeps the bytes of a write and where they go.
func (c *call) writing(path string) (func(*disk), answer, error) {
	if insides.MatchString(path) {
		return nil, answer{}, nil
	}
	at := int64(c.args[3]) //nolint:gosec // an offset
	if c.name == "write" {
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", c.pid, c.args[0]))
		var flags uint64
		if _, serr := fmt.Sscanf(string(info), "pos:\t%d\nflags:\t%o\n", &at, &flags); err != nil || serr != nil {
			return nil, answer{}, fmt.Errorf("where %s is written: %w, %w: %q", path, err, serr, info)
		}
		if flags&unix.O_APPEND != 0 {
			at = -1
		}
	}
	data := c.memory(c.args[1], int(c.args[2])) //nolint:gosec // a buffer of a process
	return func(d *disk) { d.write(path, at, data) }, answer{}, nil
}
