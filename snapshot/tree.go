package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
)

// Inode flags that forbid removal (linux/fs.h, FS_IMMUTABLE_FL and FS_APPEND_FL).
const (
	flagImmutable = 0x10
	flagAppend    = 0x20
)

// removeTree removes a directory and everything in it by descriptors: it never follows a link, whatever the
// modes and the depth. What others remove meanwhile is fine.
func removeTree(path string) error { return removeTreeContext(context.Background(), path) }

// removeTreeContext ends with the context's cause, wherever it is by then.
func removeTreeContext(ctx context.Context, path string) error {
	parent, err := openDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	r := remover{stopped: func() error { return context.Cause(ctx) }}
	return r.remove(parent, filepath.Base(path), 0)
}

// removeAt removes one entry of a directory, with everything in it.
func removeAt(parent *os.File, name string) error {
	r := remover{stopped: func() error { return nil }}
	return r.remove(parent, name, 0)
}

// remover flattens: a directory found too deep is renamed to the top of the tree, where the top's own loop finds it.
type remover struct {
	top     *os.File // the outermost directory that is removed
	moved   int
	stopped func() error // why to give up, nil while there is time
}

func (r *remover) remove(parent *os.File, name string, depth int) error {
	err := r.unlink(parent, name, 0)
	if err == nil || !errors.Is(err, unix.EISDIR) {
		return err
	}
	if err := r.unlink(parent, name, unix.AT_REMOVEDIR); err == nil || !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	if depth >= maxOpenDepth {
		return r.moveUp(parent, name)
	}
	dir, err := r.open(parent, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if depth == 0 {
		r.top = dir
	}
	for {
		found, err := r.empty(dir, depth)
		if err != nil {
			return err
		}
		err = r.unlink(parent, name, unix.AT_REMOVEDIR)
		if found == 0 || !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		// Again: removing while reading may skip entries, and deep directories arrive at the top meanwhile.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// empty removes the entries that one reading of dir finds, and says how many those were.
func (r *remover) empty(dir *os.File, depth int) (found int, err error) {
	for {
		names, err := dir.Readdirnames(nameBatch)
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) { // the latter: others removed dir itself
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found += len(names)
		if err := r.stopped(); err != nil {
			return found, err
		}
		for _, name := range names {
			if err := r.remove(dir, name, depth+1); err != nil {
				return found, err
			}
		}
	}
}

func (r *remover) moveUp(parent *os.File, name string) error {
	for {
		r.moved++
		err := unix.Renameat(int(parent.Fd()), name, int(r.top.Fd()), fmt.Sprintf("deep-%d", r.moved))
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, fs.ErrExist), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.ENOTDIR):
			continue // the tree has such a name itself
		case errors.Is(err, fs.ErrPermission) && r.unprotect(parent, name):
			continue
		}
		return &fs.PathError{Op: "move", Path: filepath.Join(parent.Name(), name), Err: err}
	}
}

func (r *remover) unlink(parent *os.File, name string, flags int) error {
	for retried := false; ; retried = true {
		err := unix.Unlinkat(int(parent.Fd()), name, flags)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, unix.EEXIST): // POSIX allows it for ENOTEMPTY
			err = unix.ENOTEMPTY
		case errors.Is(err, fs.ErrPermission) && !retried && r.unprotect(parent, name):
			continue
		}
		return &fs.PathError{Op: "remove", Path: filepath.Join(parent.Name(), name), Err: err}
	}
}

func (r *remover) open(parent *os.File, name string) (*os.File, error) {
	dir, err := openDirAt(parent, name)
	if errors.Is(err, fs.ErrPermission) && r.unprotect(parent, name) {
		return openDirAt(parent, name)
	}
	return dir, err
}

// unprotect lifts what keeps an owner from removing name: a directory without w and x, or the immutable and
// append-only flags of either. It reports whether anything was tried.
func (r *remover) unprotect(parent *os.File, name string) bool {
	tried := clearFlags(int(parent.Fd()))
	tried = parent.Chmod(0o700) == nil || tried
	fd, err := retried.Openat(int(parent.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return tried
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return tried
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd) // the object itself, not the name again
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		tried = unix.Chmod(self, 0o700) == nil || tried
	case unix.S_IFREG:
	default:
		return tried // opening a device or FIFO has effects, and these have no flags to lift
	}
	data, err := retried.Open(self, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return tried
	}
	defer unix.Close(data)
	return clearFlags(data) || tried
}

// clearFlags removes the immutable and append-only flags (ioctl_iflags(2)).
func clearFlags(fd int) bool {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(flagImmutable|flagAppend) == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^(flagImmutable|flagAppend))) == nil
}

func openDirAt(parent *os.File, name string) (*os.File, error) {
	path := parent.Name() + "/" + name
	if len(path) > unix.PathMax { // only for messages; do not let it grow with the depth
		path = ".../" + name
	}
	fd, err := retried.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// treeSize adds up the disk blocks of a tree. It holds one directory open at a time and goes back by "..",
// checking that it gets where it came from, so the depth of the tree does not matter. It closes dir.
func treeSize(ctx context.Context, dir *os.File) (int64, error) {
	blocks, err := sumTree(ctx, dir, func(st *unix.Stat_t) float64 { return float64(st.Blocks) })
	return int64(math.Round(blocks)) * 512, err
}

// treeContent adds up the lengths of the files of a tree. It closes dir.
func treeContent(dir *os.File) (int64, error) {
	bytes, err := sumTree(context.Background(), dir, func(st *unix.Stat_t) float64 {
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			return float64(st.Size)
		}
		return 0
	})
	return int64(math.Round(bytes)), err
}

// DiskUsage is what a folder and all below it take on disk, and the newest time of a change in it. Others may change the tree meanwhile:
// no link of it is followed, and what is moved or removed is passed over.
func DiskUsage(ctx context.Context, path string) (size int64, newest time.Time, err error) {
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, newest, err
	}
	blocks, err := sumTree(ctx, dir, func(st *unix.Stat_t) float64 {
		if t := time.Unix(st.Mtim.Unix()); t.After(newest) {
			newest = t
		}
		return float64(st.Blocks)
	})
	if errors.Is(err, errMoved) {
		err = nil
	}
	return int64(math.Round(blocks)) * 512, newest, err
}

// errMoved says that a walk cannot go back to where it came from.
var errMoved = errors.New("a directory was moved meanwhile")

// sumTree adds up what count says of each file, and gives what it has when a directory is moved under it.
func sumTree(ctx context.Context, dir *os.File, count func(*unix.Stat_t) float64) (float64, error) {
	w := sizeWalk{dir: dir, count: count}
	defer func() { _ = w.dir.Close() }()
	if err := w.enter(dir); err != nil {
		return 0, err
	}
	for len(w.stack) > 0 {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err := w.step(); err != nil {
			return w.total, err
		}
	}
	return w.total, nil
}

type sizeWalk struct {
	dir   *os.File
	stack []sizeFrame
	count func(*unix.Stat_t) float64
	total float64
}

type sizeFrame struct {
	dev, ino uint64
	names    []string // entries not yet visited
}

func (w *sizeWalk) enter(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	w.total += w.count(&st)
	w.stack = append(w.stack, sizeFrame{dev: st.Dev, ino: st.Ino, names: names})
	return nil
}

func (w *sizeWalk) step() error {
	f := &w.stack[len(w.stack)-1]
	if len(f.names) == 0 {
		w.stack = w.stack[:len(w.stack)-1]
		if len(w.stack) == 0 {
			return nil
		}
		return w.back(w.stack[len(w.stack)-1])
	}
	name := f.names[0]
	f.names = f.names[1:]
	var st unix.Stat_t
	err := unix.Fstatat(int(w.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: w.dir.Name() + "/" + name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		w.total += w.count(&st) / float64(max(1, st.Nlink))
		return nil
	}
	sub, err := openDirAt(w.dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // something else is there by now
	}
	if err != nil {
		return err
	}
	_ = w.dir.Close()
	w.dir = sub
	return w.enter(sub)
}

func (w *sizeWalk) back(to sizeFrame) error {
	up, err := openDirAt(w.dir, "..")
	if err != nil {
		return err
	}
	_ = w.dir.Close()
	w.dir = up
	var st unix.Stat_t
	if err := unix.Fstat(int(up.Fd()), &st); err != nil {
		return err
	}
	if st.Dev != to.dev || st.Ino != to.ino {
		return errMoved
	}
	return nil
}

// copyDirAttributes gives one directory the owner, mode, extended attributes (without overlay's own) and
// times of another.
func copyDirAttributes(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: from.Name(), Err: err}
	}
	if err := to.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil { // after chown, which may clear setgid
		return &fs.PathError{Op: "chmod", Path: to.Name(), Err: err}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	if err := unix.UtimesNanoAt(int(to.Fd()), "", times, unix.AT_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "set time of", Path: to.Name(), Err: err}
	}
	return nil
}

func copyXattrs(from, to *os.File) error {
	has, err := xattrNames(from)
	if err != nil {
		return err
	}
	had, err := xattrNames(to)
	if err != nil {
		return err
	}
	for _, name := range had {
		if err := unix.Fremovexattr(int(to.Fd()), name); err != nil && !errors.Is(err, unix.ENODATA) {
			return &fs.PathError{Op: "remove attribute " + name + " of", Path: to.Name(), Err: err}
		}
	}
	value := make([]byte, maxXattr)
	for _, name := range has {
		n, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err != nil {
			return &fs.PathError{Op: "read attribute " + name + " of", Path: from.Name(), Err: err}
		}
		if err := unix.Fsetxattr(int(to.Fd()), name, value[:n], 0); err != nil {
			return &fs.PathError{Op: "set attribute " + name + " of", Path: to.Name(), Err: err}
		}
	}
	return nil
}

// xattrNames lists a directory's attributes without overlay's own. A file system without attributes has none.
func xattrNames(f *os.File) ([]string, error) {
	list := make([]byte, maxXattr)
	n, err := unix.Flistxattr(int(f.Fd()), list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list attributes of", Path: f.Name(), Err: err}
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		// security.selinux is given by the host's policy to each file by its place, not carried along.
		if name != "" && !isOverlayXattr(name) && name != "security.selinux" {
			names = append(names, name)
		}
	}
	return names, nil
}

// isOpaque tells whether a directory of a layer hides those below (overlayfs.rst, "whiteouts and opaque directories").
func isOpaque(dir *os.File) (bool, error) {
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		n, err := unix.Fgetxattr(int(dir.Fd()), name, value[:])
		switch {
		case err == nil && n == 1 && value[0] == 'y':
			return true, nil
		case err == nil, errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ERANGE):
		default:
			return false, &fs.PathError{Op: "read attribute " + name + " of", Path: dir.Name(), Err: err}
		}
	}
	return false, nil
}
