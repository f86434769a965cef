package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gobuild/internal/owners"
	"gobuild/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Names within a layer's home directory (work/<random> while it is made, layers/<id> when committed).
const (
	fsName   = "fs"   // the tree itself: overlay's upper directory
	metaName = "meta" // which boot wrote it, see trust.go
	sizeName = "size" // kept by Size
)

// Work is a new layer in the making. It belongs to one goroutine and ends with Commit or Discard.
type Work struct {
	store *Store
	home  string   // host path of work/<random>
	lock  *os.File // the home directory, held by flock while this process lives
	stack []ID     // bottom first, folded
	under string   // the upper directory of another Work, above stack; "" for most
	root  *rootfs.Root
	works []string // host paths of overlay work directories made for it
	fresh bool     // the last of them is unused
	done  bool
}

// New begins a layer above stack (bottom first), whose layers must be committed. Pin them first.
func (s *Store) New(stack []ID) (*Work, error) {
	stack, err := s.folded(stack)
	if err != nil {
		return nil, fmt.Errorf("new layer: %w", err)
	}
	w, err := s.newWork(stack)
	if err != nil {
		return nil, fmt.Errorf("new layer: %w", err)
	}
	return w, nil
}

func (s *Store) newWork(stack []ID) (*Work, error) {
	b, err := s.spares.take(s)
	if err != nil {
		return nil, err
	}
	w := &Work{store: s, home: b.home, lock: b.lock, stack: stack, works: []string{b.work}, fresh: true}
	if err := w.dressUpper(); err != nil {
		return nil, errors.Join(err, w.Discard())
	}
	return w, nil
}

// Above begins a layer above one in the making, whose view nobody may write to meanwhile: to look at what is there, and to try
// things. It cannot be committed, and is discarded first.
func (w *Work) Above() (*Work, error) {
	if err := w.closeView(); err != nil {
		return nil, err
	}
	b, err := w.store.begin()
	if err != nil {
		return nil, fmt.Errorf("new layer: %w", err)
	}
	above := &Work{store: w.store, home: b.home, lock: b.lock, stack: w.stack, under: w.upper(), works: []string{b.work}, fresh: true}
	if err := above.dressUpper(); err != nil {
		return nil, fmt.Errorf("new layer: %w", errors.Join(err, above.Discard()))
	}
	return above, nil
}

// lower are the directories below the layer, topmost first.
func (w *Work) lower() []string {
	dirs := w.store.topmostFirst(w.stack)
	if w.under != "" {
		dirs = append([]string{w.under}, dirs...)
	}
	return dirs
}

func (w *Work) upper() string { return filepath.Join(w.home, fsName) }

// dressUpper gives the top directory its attributes. The merged "/" has those of the topmost directory alone, so
// it starts with those of the layer below: a step that did not touch "/" must not change its mode.
func (w *Work) dressUpper() error {
	upper, err := openDir(w.upper())
	if err != nil {
		return err
	}
	defer upper.Close() // nothing is written through it but attributes
	lower := w.lower()
	if len(lower) == 0 {
		return upper.Chmod(0o755) // by descriptor: the umask does not matter
	}
	below, err := openDir(lower[0])
	if err != nil {
		return err
	}
	defer below.Close()
	return copyDirAttributes(below, upper)
}

func (w *Work) workDir() string { return w.works[len(w.works)-1] }

func (w *Work) makeWorkDir() error {
	dir, err := w.store.used.make(w.store)
	if err != nil {
		return err
	}
	w.works, w.fresh = append(w.works, dir), true
	return nil
}

// Dirs are what a sandbox needs to mount the view by itself: the lower directories, topmost first (none
// for an empty stack), the upper one, and an unused work directory. Not together with an open Root.
func (w *Work) Dirs() (lower []string, upper, work string) {
	if !w.fresh {
		// Not to get one is seen by whoever mounts it: the one that was used is refused.
		_ = w.makeWorkDir()
	}
	w.fresh = false
	return w.lower(), w.upper(), w.workDir()
}

// Root opens the merged view for writing; later calls give the same. It belongs to the Work, which closes
// it in Upper, Commit and Discard; to close it earlier is allowed.
func (w *Work) Root() (*rootfs.Root, error) {
	if w.root != nil {
		return w.root, nil
	}
	lower := w.lower()
	if len(lower) == 0 {
		return w.open(rootfs.Open(w.upper()))
	}
	if !w.fresh {
		if err := w.makeWorkDir(); err != nil {
			return nil, fmt.Errorf("open layer: %w", err)
		}
	}
	w.fresh = false
	o := w.store.overlayOptions(lower)
	o.upper, o.work = w.upper(), w.workDir()
	f, err := w.store.mounts.overlay(o)
	if err != nil {
		return nil, fmt.Errorf("open layer above %d: %w", len(w.stack), err)
	}
	return w.open(rootfs.New(f), nil)
}

func (w *Work) open(r *rootfs.Root, err error) (*rootfs.Root, error) {
	if r, err = w.store.kept(r, err); err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	w.root = r
	return r, nil
}

// Upper closes the view and opens the layer's own directory alone; the caller closes it.
func (w *Work) Upper() (*rootfs.Root, error) {
	if err := w.closeView(); err != nil {
		return nil, err
	}
	return w.store.kept(rootfs.Open(w.upper()))
}

// Claim gives what is new in the layer, and has no owner recorded, to whoever made it. It closes the view. Where the kernel keeps
// owners it does nothing.
func (w *Work) Claim(o owners.Owner) error {
	if !w.store.cfg.Owners.Records() {
		return nil
	}
	if err := w.closeView(); err != nil {
		return err
	}
	dir, err := openDir(w.upper())
	if err == nil {
		err = owners.Claim(dir, o) // closes it
	}
	if err != nil {
		return fmt.Errorf("record owners of new files: %w", err)
	}
	return nil
}

// Size is how many bytes the files of the layer have. It closes the view.
func (w *Work) Size() (int64, error) {
	if err := w.closeView(); err != nil {
		return 0, err
	}
	dir, err := os.Open(w.upper())
	if err != nil {
		return 0, fmt.Errorf("size of new layer: %w", err)
	}
	n, err := treeContent(dir) // closes dir
	if err != nil {
		return 0, fmt.Errorf("size of new layer: %w", err)
	}
	return n, nil
}

func (w *Work) closeView() error {
	if w.root == nil {
		return nil
	}
	err := w.root.Close()
	w.root = nil
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close view: %w", err)
	}
	return nil
}

// Commit closes the view and makes the layer available as id. When another process has committed id
// meanwhile, that one stays, for equal ids are equal content, and this one is dropped. After an error the
// Work still has to be discarded.
func (w *Work) Commit(id ID) error {
	if err := w.commit(id); err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

func (w *Work) commit(id ID) error {
	if w.done {
		return errors.New("the layer is committed or discarded already")
	}
	if w.under != "" {
		return errors.New("what lies below it is no layer")
	}
	if err := id.check(); err != nil {
		return err
	}
	if err := w.closeView(); err != nil {
		return err
	}
	if w.store.Has(id) {
		return w.Discard()
	}
	// After the last byte of the tree: the time in it says what a later sync covers.
	marked, err := w.store.mark(filepath.Join(w.home, fsName))
	if err != nil {
		return err
	}
	if err := w.store.trust.writeMeta(filepath.Join(w.home, metaName), marked); err != nil {
		return err
	}
	return w.publish(id)
}

// publish renames the home to its place. What may be there already is either trusted, and wins, or left
// by a power cut, and is swapped for ours.
func (w *Work) publish(id ID) error {
	target := w.store.home(id)
	for range maxNames {
		err := os.Rename(w.home, target) // fails on a directory that is not empty
		if err == nil {
			w.done = true
			w.store.committed.Store(true)
			w.store.used.over(w.works)
			return w.lock.Close()
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		if w.store.Has(id) {
			return w.Discard()
		}
		old := filepath.Join(w.store.workDir(), randomName())
		if err := os.Rename(target, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if err == nil {
			if err := removeTree(old); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%s: %w", target, fs.ErrExist)
}

// Discard closes the view and removes everything. After Commit, or a second time, it does nothing, so it
// can be deferred.
func (w *Work) Discard() error {
	if w.done {
		return nil
	}
	w.done = true
	err := w.closeView()
	err = errors.Join(err, removeTree(w.home), w.lock.Close())
	w.store.used.over(w.works)
	if err != nil {
		return fmt.Errorf("discard layer: %w", err)
	}
	return nil
}
