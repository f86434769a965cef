package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
	"gobuild/internal/owners"
	"gobuild/internal/retried"
	"gobuild/internal/rootfs"
)

// ID names a committed layer directory: 16 to 128 lower-case hexadecimal digits, chosen by the caller.
type ID string

// check is called for each layer of a stack with each step: a regular expression would be seen in the time of long builds.
func (id ID) check() error {
	good := len(id) >= 16 && len(id) <= 128
	for i := 0; good && i < len(id); i++ {
		good = '0' <= id[i] && id[i] <= '9' || 'a' <= id[i] && id[i] <= 'f'
	}
	if !good {
		return fmt.Errorf("layer id %q: not 16 to 128 hexadecimal digits", string(id))
	}
	return nil
}

// Errors to decide on.
var (
	// ErrInUse is what Remove returns for a layer that a build has pinned.
	ErrInUse = errors.New("layer is in use")
	// ErrNoOverlay says that this kernel, container or file system gives us no overlay mount; the text
	// around it has the kernel's words.
	ErrNoOverlay = errors.New("overlay cannot be mounted here")
)

// Config is what Open cannot find out by itself. The zero value is for root on a host.
type Config struct {
	// UserXattr keeps overlay's own attributes under user.overlay.*: required in a user namespace
	// (overlayfs.rst, "userxattr", Linux 5.11).
	UserXattr bool
	// Owners keeps the owners of files: the zero value is the kernel itself. It is the same for every user of the directory.
	Owners owners.Keeper
	// BootID names the period over which the page cache kept what was written: empty is the running
	// kernel's boot. A test of power cuts that remounts a file system gives each mount its own.
	BootID string
}

// Store is a directory of committed layers and of work in progress. Its methods are safe for concurrent
// use, also by other processes.
type Store struct {
	dir    string
	cfg    Config
	trust  trust
	mounts mounter
	folds  foldPins
	roots  sync.Map // of ID to *rootOf
	spares spares
	used   workDirs

	committed atomic.Bool // something since the last Sync, by anybody
}

// Info is what List tells about a layer.
type Info struct {
	Used    time.Time // last, to the hour, as far as Touch was told; or when it was committed
	Trusted bool      // false: a power cut may have taken bytes of it; Has denies it, a new Commit replaces it
}

// Open uses (and makes, if missing) the store below dir, as root on a host does.
func Open(dir string) (*Store, error) { return OpenConfig(dir, Config{}) }

// OpenConfig is Open with a Config.
func OpenConfig(dir string, cfg Config) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &Store{dir: dir, cfg: cfg}
	for _, d := range []string{dir, s.layersDir(), s.workDir(), s.emptyDir()} {
		if err := atomicfile.Mkdir(d); err != nil {
			return nil, fmt.Errorf("open snapshots %s: %w", dir, err)
		}
	}
	if err := s.trust.open(dir, cfg.BootID); err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", dir, err)
	}
	s.committed.Store(s.hasLayers()) // others may have committed them, and nobody knows whether they synced
	return s, nil
}

// hasLayers is true unless there is nothing that a Sync could make durable.
func (s *Store) hasLayers() bool {
	d, err := openDir(s.layersDir())
	if err != nil {
		return true
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	return err == nil
}

func (s *Store) layersDir() string { return filepath.Join(s.dir, "layers") }
func (s *Store) workDir() string   { return filepath.Join(s.dir, "work") }
func (s *Store) emptyDir() string  { return filepath.Join(s.dir, "empty") }
func (s *Store) home(id ID) string { return filepath.Join(s.layersDir(), string(id)) }

// Dir is the host path of a layer's directory.
func (s *Store) Dir(id ID) string { return filepath.Join(s.home(id), fsName) }

// Has tells whether id is committed and all its bytes are certain to be there.
func (s *Store) Has(id ID) bool { return s.find(id) == nil }

// find is nil for a layer that is there and trusted, fs.ErrNotExist for one that must be made again, and what the disk said if that
// cannot be known.
func (s *Store) find(id ID) error {
	if err := id.check(); err != nil {
		return err
	}
	path := filepath.Join(s.home(id), metaName)
	if _, ok := s.trust.sure.Load(id); ok {
		var st unix.Stat_t
		return unix.Lstat(path, &st) // it may have been removed
	}
	m, err := readMeta(path)
	if errors.Is(err, errBadMeta) || err == nil && !s.trust.covers(m) {
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	if ok, err := s.bearsMark(id, m); err != nil || !ok {
		return cmp.Or(err, fs.ErrNotExist)
	}
	s.trust.sure.Store(id, true)
	return nil
}

// UpperOf opens a committed layer's own directory, without what lies below it.
func (s *Store) UpperOf(id ID) (*rootfs.Root, error) {
	if err := s.require([]ID{id}); err != nil {
		return nil, err
	}
	return s.kept(rootfs.Open(s.Dir(id)))
}

// kept is a tree with the owners of its files.
func (s *Store) kept(r *rootfs.Root, err error) (*rootfs.Root, error) {
	if err != nil {
		return nil, err
	}
	return r.WithOwners(s.cfg.Owners), nil
}

// require fails unless each layer is there and trusted.
func (s *Store) require(stack []ID) error {
	for _, id := range stack {
		if err := s.find(id); err != nil {
			return fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return nil
}

// Dirs are the host paths of a stack's layers, topmost first, folded where there are more than overlay
// takes: for whoever mounts them read-only by himself.
func (s *Store) Dirs(stack []ID) ([]string, error) {
	stack, err := s.folded(stack)
	if err != nil {
		return nil, err
	}
	return s.topmostFirst(stack), nil
}

func (s *Store) topmostFirst(stack []ID) []string {
	dirs := make([]string, 0, len(stack))
	for i := len(stack) - 1; i >= 0; i-- {
		dirs = append(dirs, s.Dir(stack[i]))
	}
	return dirs
}

// View opens the merged tree of a stack (bottom first), read-only. The caller closes it, which
// also unmounts it: it was never attached anywhere. An empty stack is an empty directory.
func (s *Store) View(stack []ID) (*rootfs.Root, error) {
	dirs, err := s.Dirs(stack)
	if err != nil {
		return nil, err
	}
	switch len(dirs) {
	case 0:
		return s.readOnly(s.emptyDir())
	case 1:
		return s.readOnly(dirs[0])
	}
	f, err := s.mounts.overlay(s.overlayOptions(dirs))
	if err != nil {
		return nil, fmt.Errorf("view %d layers: %w", len(stack), err)
	}
	return s.kept(rootfs.New(f), nil)
}

// Lower is View, but nil for an empty stack.
func (s *Store) Lower(stack []ID) (*rootfs.Root, error) {
	if len(stack) == 0 {
		return nil, nil // documented: no layers, no tree
	}
	return s.View(stack)
}

func (s *Store) readOnly(dir string) (*rootfs.Root, error) {
	f, err := cloneReadOnly(dir)
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", dir, err)
	}
	return s.kept(rootfs.New(f), nil)
}

func (s *Store) overlayOptions(lower []string) overlay {
	return overlay{lower: lower, userXattr: s.cfg.UserXattr, scratch: s.scratch}
}

// List calls fn for each committed layer; its first error ends the list and is returned as it is.
func (s *Store) List(fn func(ID, Info) error) error {
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, e := range entries {
		id := ID(e.Name())
		if id.check() != nil {
			continue
		}
		st, err := os.Lstat(filepath.Join(s.home(id), metaName))
		if errors.Is(err, fs.ErrNotExist) {
			if st, err = os.Lstat(s.home(id)); errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
		}
		if err != nil {
			return fmt.Errorf("list layers: %w", err)
		}
		if err := fn(id, Info{Used: st.ModTime(), Trusted: s.Has(id)}); err != nil {
			return err
		}
	}
	return nil
}

// Touch notes that a layer is used now, without a write if that is known to the hour. It is a hint for trimming.
func (s *Store) Touch(id ID, now time.Time) {
	path := filepath.Join(s.home(id), metaName)
	st, err := os.Lstat(path)
	if err != nil || st.ModTime().Sub(now).Abs() < time.Hour {
		return
	}
	_ = os.Chtimes(path, time.Time{}, now) // a store that cannot be written to is still read
}

// Size is what a layer takes on the disk, in bytes of blocks. A file with several links counts once in
// all: each link its share. The first call walks the layer, as long as ctx lives; the result is kept beside it.
func (s *Store) Size(ctx context.Context, id ID) (int64, error) {
	if err := id.check(); err != nil {
		return 0, err
	}
	if n, ok := s.KnownSize(id); ok {
		return n, nil
	}
	path := filepath.Join(s.home(id), sizeName)
	dir, err := os.Open(s.Dir(id))
	if err != nil {
		return 0, fmt.Errorf("size of layer %s: %w", id, err)
	}
	n, err := treeSize(ctx, dir) // closes dir
	if err != nil {
		return 0, fmt.Errorf("size of layer %s: %w", id, err)
	}
	// Not to have it kept (a full or read-only disk) costs the next caller a walk and nothing else.
	_ = atomicfile.Write(path, fmt.Appendf(nil, "%d\n", n), atomicfile.Options{})
	return n, nil
}

// KnownSize is Size where that was found out before.
func (s *Store) KnownSize(id ID) (int64, bool) {
	if id.check() != nil {
		return 0, false
	}
	data, err := os.ReadFile(filepath.Join(s.home(id), sizeName))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(string(data), "\n"), 10, 64)
	return n, err == nil && n >= 0 && string(data) == fmt.Sprintf("%d\n", n)
}

// Remove deletes a committed layer, unless it is pinned (ErrInUse). One that is not there is fine. The
// layer is gone for others at once; what a kill leaves of it is swept.
func (s *Store) Remove(id ID) error {
	return s.Evict(context.Background(), id, nil)
}

// Evict is Remove for whoever has other things to take away with a layer: first does that, while nobody can pin the layer, and not
// at all when somebody has. When ctx ends, what is left of the removed layer is left to Sweep, and that is no error.
func (s *Store) Evict(ctx context.Context, id ID, first func() error) error {
	if err := s.evict(ctx, id, first); err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return nil
}

func (s *Store) evict(ctx context.Context, id ID, first func() error) error {
	if err := id.check(); err != nil {
		return err
	}
	unlock, err := s.lockOut(id)
	if err != nil {
		return err
	}
	name := randomName()
	if first != nil {
		err = first()
	}
	if err == nil {
		err = os.Rename(s.home(id), filepath.Join(s.workDir(), name))
	}
	unlock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.discardTree(ctx, filepath.Join(s.workDir(), name))
}

// Take moves a directory of somebody else's, on the same file system, to where Sweep removes it.
func (s *Store) Take(path string) error {
	if err := os.Rename(path, filepath.Join(s.workDir(), randomName())); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// discardTree removes what has no name any more, as far as there is time.
func (s *Store) discardTree(ctx context.Context, path string) error {
	err := removeTreeContext(ctx, path)
	if err != nil && ctx.Err() != nil {
		return nil //nolint:nilerr // Sweep goes on with it
	}
	return err
}

// Sweep removes the work of processes that died. It reads one directory, usually an empty one. When ctx ends, the rest is left
// to the next Sweep, and that is no error.
func (s *Store) Sweep(ctx context.Context) error {
	work, err := os.Open(s.workDir())
	if err != nil {
		return fmt.Errorf("sweep snapshots: %w", err)
	}
	defer work.Close()
	names, err := work.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("sweep snapshots: %w", err)
	}
	for _, name := range names {
		if err := s.sweepOne(ctx, name); err != nil {
			return fmt.Errorf("sweep snapshots: %w", err)
		}
	}
	return nil
}

func (s *Store) sweepOne(ctx context.Context, name string) error {
	path := filepath.Join(s.workDir(), name)
	dir, err := openDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // nothing of ours has this form
		return os.Remove(path)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	free, err := filelock.Try(dir, filelock.Exclusive)
	if err != nil || !free {
		return err
	}
	// By name, not through the descriptor: between our open and our lock the owner may have committed it. Then
	// the descriptor leads to a good layer, while the name is gone and nothing is removed.
	return s.discardTree(ctx, path)
}

// Sync makes what is committed so far survive a power cut: one syncfs, then a durable note. It can take as
// long as the machine needs to write its dirty pages, so it is called once, after a build has reported its
// result, and may be left out: layers not covered are built again after the next boot. When there were no layers when
// this Store was opened, or it has synced them, and it has committed nothing since, it returns at once.
func (s *Store) Sync(ctx context.Context) error {
	if !s.committed.Swap(false) {
		return nil
	}
	if err := s.trust.sync(ctx, s.dir); err != nil {
		s.committed.Store(true)
		return fmt.Errorf("sync snapshots: %w", err)
	}
	return nil
}

// randomName names things in the work directory. It only has to be unlikely to collide: mkdir and rename decide.
func randomName() string { return fmt.Sprintf("%016x", rand.Uint64()) } // not a secret

func openDir(path string) (*os.File, error) {
	fd, err := retried.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func sameFile(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	want, err := os.Lstat(path)
	return err == nil && os.SameFile(have, want)
}

// isOverlayXattr tells overlay's own bookkeeping from attributes of the file.
func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// Verify says what is wrong with a committed layer, "" if nothing is: its marker, what that promises, and its directory. The files
// in it are not read: nothing says what they should be.
func (s *Store) Verify(id ID) (string, error) {
	if err := id.check(); err != nil {
		return "", err
	}
	if _, err := os.Lstat(s.home(id)); errors.Is(err, fs.ErrNotExist) {
		return "", nil // removed meanwhile
	}
	m, err := readMeta(filepath.Join(s.home(id), metaName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "its marker is missing", nil
	case err != nil:
		return "its marker is torn or damaged", nil //nolint:nilerr // that is the finding
	case !s.trust.covers(m):
		return "the machine went down before it was certain to be on the disk", nil
	}
	st, err := os.Lstat(s.Dir(id))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return "its files are gone", nil
	}
	ok := true
	if err == nil {
		ok, err = s.bearsMark(id, m)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("verify layer %s: %w", id, err)
	case !ok:
		return "it was copied here without its extended attributes, so it counts as absent", nil
	}
	return "", nil
}
