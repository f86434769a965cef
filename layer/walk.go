package layer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/rootfs"
)

const (
	whiteoutPrefix = ".wh."
	// Levels of directories that are held open; those above are closed and
	// opened again through "..", so that depth does not cost descriptors.
	openLevels = 24
	direntBuf  = 32 << 10
)

// dirRef is an open directory that the walk and the readers share.
type dirRef struct {
	fd       int
	dev, ino uint64
	refs     atomic.Int32
}

func newDirRef(fd int, st *unix.Stat_t) *dirRef {
	d := &dirRef{fd: fd, dev: st.Dev, ino: st.Ino}
	d.refs.Store(1)
	return d
}

func (d *dirRef) hold() *dirRef {
	d.refs.Add(1)
	return d
}

func (d *dirRef) drop() {
	if d.refs.Add(-1) == 0 {
		_ = unix.Close(d.fd)
	}
}

// frame is a directory being walked.
type frame struct {
	up     *dirRef // nil while closed because it is far above
	lo     *dirRef // the same directory in the lower tree; nil: none there
	loLost bool    // lo was there and is closed because it is far above
	upID   fileID
	loID   fileID
	path   string // without slashes at the ends; "" is the root
	entry  *entry // its own entry, not nil until that is written
	list   names
	opaque bool // hides what lo has
}

// walker walks an upper tree beside its lower tree and tells emit, in path
// order, what a layer has to say.
type walker struct {
	ctx    context.Context //nolint:containedctx // of the one call that it is made for
	opt    PackOptions
	plain  bool // an export: .wh. names are plain names
	owners owners.Keeper
	emit   func(*entry) error
	meter  meter
	frames []*frame
	links  map[[2]uint64]*linkSource // dev, ino
	epoch  int64
	clamp  bool
	dirent []byte
	count  int
	// Buffers of sameContent, made when first needed.
	compare [2][]byte
}

// linkSource is the entry that holds the data of a file with several names.
type linkSource struct {
	dir, name string
	left      uint64 // names not seen yet
}

func newWalker(ctx context.Context, opt PackOptions, emit func(*entry) error) *walker {
	w := &walker{
		ctx:    ctx,
		opt:    opt,
		emit:   emit,
		meter:  meter{limits: opt.Limits},
		links:  map[[2]uint64]*linkSource{},
		dirent: make([]byte, direntBuf),
	}
	if opt.Epoch != nil {
		w.clamp, w.epoch = true, opt.Epoch.Unix()
	}
	return w
}

// walk visits the whole tree.
func (w *walker) walk(upper, lower *rootfs.Root) error {
	defer w.closeAll()
	w.owners = upper.Owners()
	if err := w.pushRoot(upper, lower); err != nil {
		return err
	}
	for len(w.frames) > 0 {
		if err := w.ctx.Err(); err != nil {
			return context.Cause(w.ctx)
		}
		top := w.frames[len(w.frames)-1]
		name, flag, ok := top.list.take()
		if !ok {
			if err := w.pop(); err != nil {
				return err
			}
			continue
		}
		if err := w.visit(top, string(name), flag); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) pushRoot(upper, lower *rootfs.Root) error {
	up, st, err := openRef(int(upper.File().Fd()), ".")
	if err != nil {
		return fmt.Errorf("open tree: %w", err)
	}
	f := &frame{up: up, upID: idOf(&st)}
	w.frames = append(w.frames, f)
	if lower != nil {
		lo, lst, err := openRef(int(lower.File().Fd()), ".")
		if err != nil {
			return fmt.Errorf("open lower tree: %w", err)
		}
		f.lo, f.loID = lo, idOf(&lst)
	}
	return w.list(f, w.opt.Replaces)
}

// openRef opens a directory by one plain name and describes it.
func openRef(dir int, name string) (*dirRef, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openDirAt(dir, name)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, st, err
	}
	return newDirRef(fd, &st), st, nil
}

// list reads the names of a directory, with the whiteouts that belong to it.
func (w *walker) list(f *frame, opaque bool) error {
	if f.lo != nil && !opaque {
		var err error
		if opaque, err = isOpaque(f.up.fd); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	f.opaque = opaque
	err := readNames(f.up.fd, w.dirent, func(name []byte, kind byte) error {
		gone, err := w.isGone(f, name, kind)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", join(f.path, string(name)), err)
		case !gone:
			f.list.add("", name, 0)
		case f.lo != nil && !opaque: // an opaque directory's are added below
			f.list.add(whiteoutPrefix, name, nameIsWhiteout)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read directory %s: %w", shown(f.path), err)
	}
	f.list.sort()
	if opaque && f.lo != nil {
		return w.listHidden(f)
	}
	return nil
}

// listHidden adds a whiteout for each child that an opaque directory hides
// (OCI image-spec layer.md, "Opaque Whiteout": implementations SHOULD write
// explicit whiteouts).
func (w *walker) listHidden(f *frame) error {
	var hidden names
	err := readNames(f.lo.fd, w.dirent, func(name []byte, _ byte) error {
		if !f.list.has(name) {
			hidden.add(whiteoutPrefix, name, nameIsWhiteout)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read lower directory %s: %w", shown(f.path), err)
	}
	for _, i := range hidden.index {
		name, flag := hidden.at(i)
		f.list.add("", name, flag)
	}
	f.list.sort()
	return nil
}

// isGone says that a name of the upper directory is not there as far as a layer
// goes: a whiteout (overlayfs.rst, "whiteouts and opaque directories": a
// character device 0:0), or a socket, which tar cannot hold.
func (w *walker) isGone(f *frame, name []byte, kind byte) (bool, error) {
	switch kind {
	case unix.DT_SOCK:
		return true, nil
	case unix.DT_CHR, unix.DT_UNKNOWN:
	default:
		return false, nil
	}
	var st unix.Stat_t
	if err := lstatat(f.up.fd, string(name), &st); err != nil {
		return false, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return true, nil
	case unix.S_IFCHR:
		return st.Rdev == 0, nil
	}
	return false, nil
}

func (w *walker) visit(f *frame, name string, flag byte) error {
	if flag&nameIsWhiteout != 0 {
		return w.visitWhiteout(f, name)
	}
	path := join(f.path, name)
	if strings.HasPrefix(name, whiteoutPrefix) && !w.plain {
		return fmt.Errorf("%s: %w", path, ErrWhiteoutName)
	}
	if len(path) > w.opt.Limits.Path {
		return fmt.Errorf("%w: path longer than %d bytes, starting %s", ErrBound, w.opt.Limits.Path, path[:min(len(path), 64)])
	}
	var st unix.Stat_t
	if err := lstatat(f.up.fd, name, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if err := w.owners.FixAt(f.up.fd, name, &st); err != nil {
		return fmt.Errorf("read owner of %s: %w", path, err)
	}
	e := w.describe(path, &st)
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.visitDir(f, name, e, &st)
	case unix.S_IFREG:
		e.size, e.dir, e.base, e.seen = st.Size, f.up, name, idOf(&st)
	case unix.S_IFLNK:
		e.link, err = readlinkat(f.up.fd, name)
	case unix.S_IFSOCK: // it came between listing and looking
		return nil
	}
	if err == nil {
		err = w.visitLeaf(f, name, e, &st)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// describe makes the entry of an object, but for what depends on its type.
func (w *walker) describe(path string, st *unix.Stat_t) *entry {
	e := &entry{
		name:  path,
		mode:  st.Mode & 0o7777,
		uid:   st.Uid,
		gid:   st.Gid,
		mtime: st.Mtim.Sec,
	}
	if w.clamp && e.mtime > w.epoch {
		e.mtime = w.epoch
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.kind, e.name = '5', path+"/"
	case unix.S_IFLNK:
		e.kind = '2'
	case unix.S_IFIFO:
		e.kind = '6'
	case unix.S_IFCHR, unix.S_IFBLK:
		e.kind = '3'
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.kind = '4'
		}
		e.major, e.minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	default:
		e.kind = '0'
	}
	return e
}

func (w *walker) visitWhiteout(f *frame, name string) error {
	var st unix.Stat_t
	err := lstatat(f.lo.fd, strings.TrimPrefix(name, whiteoutPrefix), &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	path := join(f.path, name)
	if err != nil {
		return fmt.Errorf("stat lower %s: %w", path, err)
	}
	return w.write(&entry{name: path, kind: '0'})
}

func (w *walker) visitLeaf(f *frame, name string, e *entry, st *unix.Stat_t) error {
	// Each name for itself, as the reference does: one that the lower tree has just so is left out, even if the file got
	// another name, which is then a file of its own (FEATURES H11 before H9).
	if f.lo != nil {
		same, err := w.unchanged(f, name, st)
		if err != nil || same {
			return err
		}
	}
	if st.Nlink > 1 {
		w.linkTo(f.path, name, e, st)
	}
	return w.write(e)
}

// linkTo turns the entry into a link to the first name of the same file, if that was written.
func (w *walker) linkTo(dir, name string, e *entry, st *unix.Stat_t) {
	key := [2]uint64{st.Dev, st.Ino}
	source := w.links[key]
	if source == nil {
		w.links[key] = &linkSource{dir: dir, name: name, left: nlink(st) - 1}
		return
	}
	if source.left--; source.left == 0 {
		delete(w.links, key)
	}
	e.kind, e.link, e.size, e.dir = '1', join(source.dir, source.name), 0, nil
	e.major, e.minor = 0, 0
}

// nlink is wider on some architectures than on others.
func nlink(st *unix.Stat_t) uint64 {
	return uint64(st.Nlink) //nolint:unconvert // 32 bits on arm64
}

func (w *walker) visitDir(f *frame, name string, e *entry, st *unix.Stat_t) error {
	up, now, err := openRef(f.up.fd, name)
	if err != nil {
		return fmt.Errorf("open %s: %w", e.name, err)
	}
	child := &frame{up: up, upID: idOf(&now), path: strings.TrimSuffix(e.name, "/"), entry: e}
	w.frames = append(w.frames, child)
	if now.Dev != st.Dev || now.Ino != st.Ino {
		return fmt.Errorf("%s: %w", e.name, ErrChanged)
	}
	if w.opt.UserXattrs {
		if e.pax, err = storedXattrs(up.fd, false, true); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	same := false
	if f.lo != nil {
		if same, err = w.pairDir(f, child, name, st); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if !same {
		if err := w.writeParents(); err != nil {
			return err
		}
	}
	// What is below an opaque directory is not merged with the lower tree
	// either, though only the topmost directory carries the mark.
	if err := w.list(child, f.opaque); err != nil {
		return err
	}
	w.closeFar()
	return nil
}

// pairDir finds the lower directory of the same name, and says whether the
// upper one differs from it in itself.
func (w *walker) pairDir(f, child *frame, name string, st *unix.Stat_t) (same bool, err error) {
	lo, lst, err := openRef(f.lo.fd, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open in lower tree: %w", err)
	}
	child.lo, child.loID = lo, idOf(&lst)
	if err := w.owners.Fix(lo.fd, &lst); err != nil {
		return false, fmt.Errorf("read owner in lower tree: %w", err)
	}
	if !sameOwnerAndMode(st, &lst) {
		return false, nil
	}
	return w.sameUserXattrs(child.up.fd, lo.fd)
}

func (w *walker) pop() error {
	child := w.frames[len(w.frames)-1]
	w.frames = w.frames[:len(w.frames)-1]
	defer child.drop()
	if len(w.frames) == 0 {
		return nil
	}
	return w.frames[len(w.frames)-1].reopen(child)
}

// closeFar closes the directory that became too far above the current one. The
// lower half of it is kept while the child has none to come back through: that
// happens once in a path.
func (w *walker) closeFar() {
	far := len(w.frames) - openLevels - 1
	if far < 0 {
		return
	}
	f := w.frames[far]
	if f.up != nil {
		f.up.drop()
		f.up = nil
	}
	if f.lo != nil && w.frames[far+1].lo != nil {
		f.lo.drop()
		f.lo, f.loLost = nil, true
	}
}

// reopen opens a closed directory again, from its child.
func (f *frame) reopen(child *frame) error {
	if f.up == nil {
		up, st, err := openRef(child.up.fd, "..")
		if err != nil {
			return fmt.Errorf("open %s again: %w", shown(f.path), err)
		}
		f.up = up
		if st.Dev != f.upID.dev || st.Ino != f.upID.ino {
			return fmt.Errorf("%s: %w", shown(f.path), ErrChanged)
		}
	}
	if f.loLost {
		lo, st, err := openRef(child.lo.fd, "..")
		if err != nil {
			return fmt.Errorf("open lower %s again: %w", shown(f.path), err)
		}
		f.lo, f.loLost = lo, false
		if st.Dev != f.loID.dev || st.Ino != f.loID.ino {
			return fmt.Errorf("lower %s: %w", shown(f.path), ErrChanged)
		}
	}
	return nil
}

func (f *frame) drop() {
	if f.up != nil {
		f.up.drop()
	}
	if f.lo != nil {
		f.lo.drop()
	}
}

func (w *walker) closeAll() {
	for _, f := range w.frames {
		f.drop()
	}
	w.frames = nil
}

// writeParents writes the directories on the way that were not written, since
// each layer holds the parents of its changes. The root has no entry.
func (w *walker) writeParents() error {
	first := len(w.frames)
	for first > 0 && w.frames[first-1].entry != nil {
		first--
	}
	for _, f := range w.frames[first:] {
		e := f.entry
		f.entry = nil
		if err := w.pass(e); err != nil {
			return err
		}
	}
	return nil
}

// write passes on the entry of something that is not a directory.
func (w *walker) write(e *entry) error {
	if err := w.writeParents(); err != nil {
		return err
	}
	return w.pass(e)
}

func (w *walker) pass(e *entry) error {
	if err := w.meter.entry(e.size); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	w.count++
	return w.emit(e)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// shown is a directory's path for people: the root has none.
func shown(path string) string {
	if path == "" {
		return "/"
	}
	return path
}
