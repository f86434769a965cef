package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Walk visits a match and, when it is a directory, all below it that is neither
// ignored nor excluded. A directory comes before what is in it; names of one
// directory come in byte order, so paths are ordered component by component
// ("a/z" before "a.b"), as BuildKit's walk does. A directory that is ignored
// but has something kept below is visited just before that. Sockets are
// skipped with a notice. An error of fn ends the walk and is returned as it is.
//
// Directories are entered by descriptor without following links: whatever is
// renamed meanwhile, nothing outside the tree is reached.
func (t *Tree) Walk(ctx context.Context, m Match, excludes []string, fn func(Entry) error) error {
	exc, err := parsePatterns(excludes)
	if err != nil {
		return err
	}
	w := &walker{t: t, ctx: ctx, ignore: t.opt.Ignore, exclude: exc, fn: fn}
	return w.walk(m)
}

// walker is one walk. It keeps a frame per level instead of recursing, and the
// descriptors of the deepest maxOpenDirs levels only.
type walker struct {
	t       *Tree
	ctx     context.Context //nolint:containedctx // lives as long as the call of Walk
	ignore  *Ignore
	exclude *Ignore
	fn      func(Entry) error
	filter  func(rel string) (emit, enter bool) // nil: everything; looked at before anything is read
	denied  func(path string, err error) bool   // says that a directory that cannot be opened is left out; nil: it is an error

	frames []frame
	path   []byte // absolute path of the entry at hand
	top    int    // path[top:] is the path below the match, with its slash
	base   string // path that excludes see for the match itself
	buf    []byte // for getdents

	at    position // of the entry at hand, for Xattrs
	xattr func() (map[string][]byte, error)
}

type position struct {
	dir   *os.File
	name  string
	shown string
}

// frame is a directory being read.
type frame struct {
	dir      *os.File // nil while closed to save descriptors
	name     string   // in its parent
	info     Info
	names    []dirent
	pathLen  int  // of w.path for the directory itself
	ignored  int  // state of the ignore rules
	excluded int  // state of the excludes
	hidden   bool // ignored or excluded; visited only when something below is kept
}

func (w *walker) walk(m Match) (err error) {
	w.base = m.base
	w.xattr = func() (map[string][]byte, error) {
		return readXattrs(int(w.at.dir.Fd()), w.at.name, w.at.shown)
	}
	defer func() {
		for i := range w.frames {
			w.closeFrame(i)
		}
	}()
	if err := w.start(m); err != nil {
		return err
	}
	for len(w.frames) > 0 {
		if err := w.next(); err != nil {
			return err
		}
	}
	return nil
}

// start visits the match itself, and opens it when it is a directory.
func (w *walker) start(m Match) error {
	clean := path.Clean("/" + m.Path)
	if clean != "/" {
		w.path = append(w.path, clean...)
	}
	w.top = len(w.path)
	dir, name := w.t.root.File(), "."
	if clean != "/" {
		d, n, err := w.t.root.Parent(clean)
		if err != nil {
			return err
		}
		defer d.Close()
		dir, name = d, n
	}
	var st unix.Stat_t
	if err := lstatat(int(dir.Fd()), name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: clean, Err: err}
	}
	if m.Info.Mode != 0 && m.Info.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return fmt.Errorf("%s: %w", clean, ErrChanged)
	}
	info, err := w.t.describe(int(dir.Fd()), name, &st)
	if err != nil {
		return err
	}
	v := visit{dir: dir, name: name, info: info, emit: true, enter: true}
	v.ignored = w.ignore.lookup(clean)
	v.excluded = w.exclude.lookup(w.base)
	if w.filter != nil {
		v.emit = false
	}
	return w.visit(v)
}

// next takes one name from the deepest directory, or leaves it.
func (w *walker) next() error {
	f := &w.frames[len(w.frames)-1]
	w.path = w.path[:f.pathLen]
	if len(f.names) == 0 {
		return w.leave()
	}
	d := f.names[0]
	f.names = f.names[1:]
	if len(w.path)+1+len(d.name) > maxPathBytes {
		return fmt.Errorf("%.100s...: %w: path longer than %d bytes", w.path, ErrTooLarge, maxPathBytes)
	}
	w.path = append(append(w.path, '/'), d.name...)
	return w.child(f, d)
}

func (w *walker) child(f *frame, d dirent) error {
	v := visit{dir: f.dir, name: d.name, emit: true, enter: true, ignored: f.ignored, excluded: f.excluded}
	full := string(w.path)
	if w.filter != nil {
		v.emit, v.enter = w.filter(full[w.top+1:])
	}
	notDir := d.typ != unix.DT_DIR && d.typ != unix.DT_UNKNOWN
	if !v.emit && (!v.enter || notDir) {
		return nil
	}
	// The rules are looked at before the entry is: most of a context is often ignored, and stat is the cost of a walk.
	v.ignored = w.ignore.step(f.ignored, full[1:])
	if w.exclude != nil {
		v.excluded = w.exclude.step(f.excluded, w.excludePath(full))
	}
	if notDir && w.hides(v) {
		return nil
	}
	var st unix.Stat_t
	err := lstatat(int(f.dir.Fd()), d.name, &st)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", full, ErrChanged)
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: full, Err: err}
	}
	if v.info, err = w.t.describe(int(f.dir.Fd()), d.name, &st); err != nil {
		return err
	}
	v.full = full
	return w.visit(v)
}

// excludePath is the path that excludes are about: below the match, or below
// the pivot of --parents.
func (w *walker) excludePath(full string) string {
	rel := full[w.top+1:]
	if w.base == "" {
		return rel
	}
	return w.base + "/" + rel
}

// visit is an entry on its way to the caller.
type visit struct {
	dir               *os.File
	name              string
	full              string
	info              Info
	ignored, excluded int
	emit, enter       bool
}

func (w *walker) hides(v visit) bool {
	return w.ignore.ignores(v.ignored) || w.exclude.ignores(v.excluded)
}

func (w *walker) visit(v visit) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	hidden := w.hides(v)
	if hidden && (!v.info.IsDir() || !w.mayKeepBelow(v)) {
		return nil
	}
	if v.info.leadsToOthers() {
		w.t.special.Store(true)
	}
	if v.info.isSocket() {
		w.t.notice("%s: socket skipped", w.path)
		return nil
	}
	if v.emit && (!hidden || w.filter != nil) { // a search decides on hidden directories itself
		if err := w.emit(v); err != nil {
			return err
		}
	}
	if !v.enter || !v.info.IsDir() {
		return nil
	}
	return w.enter(v, hidden)
}

func (w *walker) mayKeepBelow(v visit) bool {
	if w.ignore.ignores(v.ignored) && len(w.path) > 0 && !w.ignore.mayKeepBelow(v.ignored, string(w.path[1:])) {
		return false
	}
	if !w.exclude.ignores(v.excluded) {
		return true
	}
	name := w.base
	if len(w.path) > w.top {
		name = w.excludePath(string(w.path))
	}
	return w.exclude.mayKeepBelow(v.excluded, name)
}

func (w *walker) emit(v visit) error {
	if w.filter == nil {
		if err := w.emitPending(); err != nil {
			return err
		}
	}
	return w.call(v.dir, v.name, v.full, v.info)
}

// call hands one entry to the caller.
func (w *walker) call(dir *os.File, name, full string, info Info) error {
	if full == "" { // the match itself, or a directory that was kept back
		full = string(w.path)
	}
	e := Entry{Path: full, Info: info, Dir: dir, Name: name, Xattrs: w.xattr}
	if len(full) > w.top {
		e.Rel = full[w.top+1:]
	}
	if full == "" {
		e.Path = "/"
	}
	if info.IsSymlink() {
		target, err := readlinkat(int(dir.Fd()), name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s: %w", e.Path, ErrChanged)
		}
		if err != nil {
			return &fs.PathError{Op: "readlink", Path: e.Path, Err: err}
		}
		e.Link = target
	}
	w.at = position{dir: dir, name: name, shown: e.Path}
	return w.fn(e)
}

// enter opens a directory and reads its names.
func (w *walker) enter(v visit, hidden bool) error {
	shown := string(w.path)
	fd, err := openat(int(v.dir.Fd()), v.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %w", shown, ErrChanged)
	case err != nil && w.denied != nil && w.denied(shown, err):
		return nil
	case err != nil:
		return &fs.PathError{Op: "open directory", Path: shown, Err: err}
	}
	dir := os.NewFile(uintptr(fd), shown)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != v.info.Ino || st.Dev != v.info.Dev {
		return errors.Join(fmt.Errorf("%s: %w", shown, ErrChanged), err, dir.Close())
	}
	if w.buf == nil {
		w.buf = make([]byte, 64<<10)
	}
	names, err := readNames(fd, w.buf)
	if errors.Is(err, errDirTooBig) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return errors.Join(&fs.PathError{Op: "read directory", Path: shown, Err: err}, dir.Close())
	}
	w.frames = append(w.frames, frame{
		dir: dir, name: v.name, info: v.info, names: names, pathLen: len(w.path),
		ignored: v.ignored, excluded: v.excluded, hidden: hidden,
	})
	if far := len(w.frames) - 1 - maxOpenDirs; far >= 0 {
		w.closeFrame(far)
	}
	return nil
}

func (w *walker) closeFrame(i int) {
	if f := &w.frames[i]; f.dir != nil {
		_ = f.dir.Close() // nothing was written
		f.dir = nil
	}
}

// leave closes the deepest directory; its parent is opened again through ".."
// when its descriptor was given up.
func (w *walker) leave() error {
	n := len(w.frames) - 1
	defer func() {
		w.closeFrame(n)
		w.frames = w.frames[:n]
	}()
	if n == 0 || w.frames[n-1].dir != nil {
		return nil
	}
	dir, err := w.climb(w.frames[n].dir, n-1)
	if err != nil {
		return err
	}
	w.frames[n-1].dir = dir
	return nil
}

// climb opens frame i from an open directory of frame i+1.
func (w *walker) climb(below *os.File, i int) (*os.File, error) {
	return w.openFrame(below, "..", &w.frames[i])
}

// openFrame opens a directory of the walk once more and proves that it is the
// one the walk came from: a directory moved meanwhile has another "..".
func (w *walker) openFrame(at *os.File, name string, f *frame) (*os.File, error) {
	shown := string(w.path[:f.pathLen])
	fd, err := openat(int(at.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, &fs.PathError{Op: "open directory", Path: shown, Err: err}
	}
	dir := os.NewFile(uintptr(fd), shown)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != f.info.Ino || st.Dev != f.info.Dev {
		return nil, errors.Join(fmt.Errorf("%s: %w", shown, ErrChanged), err, dir.Close())
	}
	return dir, nil
}

// emitPending visits the hidden directories above the entry at hand, outermost
// first. Descriptors on the way may have been given up: the first is found by
// climbing, the others by going down again, so that the cost is linear.
func (w *walker) emitPending() error {
	last := len(w.frames) - 1
	first := last + 1
	for first > 0 && w.frames[first-1].hidden {
		first--
	}
	if first > last {
		return nil
	}
	saved := len(w.path)
	defer func() { w.path = w.path[:saved] }()
	dir, name, release, err := w.parentOf(first)
	if err != nil {
		return err
	}
	for i := first; ; i++ {
		f := &w.frames[i]
		w.path = w.path[:f.pathLen]
		f.hidden = false
		err := w.call(dir, name, "", f.info)
		if err != nil || i == last {
			release()
			return err
		}
		dir, release, err = w.descend(dir, release, f)
		if err != nil {
			return err
		}
		name = w.frames[i+1].name
	}
}

func keep() {}

// parentOf opens the directory that holds frame i. release gives it back.
func (w *walker) parentOf(i int) (dir *os.File, name string, release func(), err error) {
	if i == 0 {
		p := string(w.path[:w.frames[0].pathLen])
		if p == "" {
			return w.t.root.File(), ".", keep, nil
		}
		dir, name, err := w.t.root.Parent(p)
		if err != nil {
			return nil, "", nil, err
		}
		return dir, name, func() { _ = dir.Close() }, nil
	}
	name = w.frames[i].name
	if dir := w.frames[i-1].dir; dir != nil {
		return dir, name, keep, nil
	}
	open := i
	for w.frames[open].dir == nil {
		open++
	}
	dir, release = w.frames[open].dir, keep
	for k := open - 1; k >= i-1; k-- {
		up, err := w.climb(dir, k)
		release()
		if err != nil {
			return nil, "", nil, err
		}
		dir, release = up, func() { _ = up.Close() }
	}
	return dir, name, release, nil
}

// descend gives back dir and returns the directory of frame f, which dir holds.
func (w *walker) descend(dir *os.File, release func(), f *frame) (*os.File, func(), error) {
	defer release()
	if f.dir != nil {
		return f.dir, keep, nil
	}
	down, err := w.openFrame(dir, f.name, f)
	if err != nil {
		return nil, nil, err
	}
	return down, func() { _ = down.Close() }, nil
}

// WalkParents visits the directories of m.Parent, outermost first, with Rel
// relative to the pivot: with --parents they are made with the metadata of the
// source's (B52).
func (t *Tree) WalkParents(m Match, fn func(Entry) error) error {
	if m.Parent == "" {
		return nil
	}
	names := strings.Split(m.Parent, "/")
	pivot := m.Path
	for range len(names) + 1 {
		pivot = path.Dir(pivot)
	}
	for i := range names {
		rel := path.Join(names[:i+1]...)
		if err := t.visitOne(path.Join(pivot, rel), rel, fn); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) visitOne(p, rel string, fn func(Entry) error) error {
	dir, name, err := t.root.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := lstatat(int(dir.Fd()), name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	info, err := t.describe(int(dir.Fd()), name, &st)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w", p, ErrChanged)
	}
	return fn(Entry{
		Rel: rel, Path: p, Info: info, Dir: dir, Name: name,
		Xattrs: func() (map[string][]byte, error) { return readXattrs(int(dir.Fd()), name, p) },
	})
}
