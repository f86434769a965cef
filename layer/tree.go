package layer

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/rootfs"
)

// tree is the place in a directory tree where an archive is being unpacked: the
// open directories from the root down to the current one. Archives are mostly
// in path order, so the way to the next entry is short.
//
// It goes down one plain name at a time and never through a link by the kernel:
// in a layer, links of lower layers are not followed but replaced (see below),
// which no path resolution of the kernel can tell apart. Links that are followed
// are followed here, inside the root.
type tree struct {
	levels []level
	last   string // the path that led here, as asked for; "" is the root
	own    *ownership
	mode   linkMode
	owners owners.Keeper
	// implied is the time of directories that no entry describes; they belong to root.
	implied impliedTime
}

type linkMode int

const (
	// An archive is unpacked into the tree as it is: links are followed.
	followLinks linkMode = iota
	// A layer is unpacked as if alone, then laid over the lower layers: only
	// its own links are followed, and a lower link, or file, that stands where
	// the layer has a directory is replaced. (overlayfs does the same when a
	// layer is unpacked to a directory of its own, as containerd does.)
	replaceLower
)

// nowhere is a last path that none equals: the current directory is not where a
// path led.
const nowhere = "/"

type impliedTime struct {
	mtime int64
	timed bool
}

// level is an open directory. Levels far above the current one are closed.
type level struct {
	fd      int // -1 while closed
	name    string
	dev     uint64
	ino     uint64
	hash    uint64
	clear   bool // nothing of a lower layer is in it
	touched bool // noted in the ownership
	// Unpacking into a directory does not change its time: the one it had, or
	// was given by its own entry, is set when it is left.
	mtime unix.Timespec
	dirty bool
}

func newTree(root *rootfs.Root, own *ownership, mode linkMode) (*tree, error) {
	// The root may be an O_PATH descriptor, as fsmount(2) makes them.
	fd, err := openDirAt(int(root.File().Fd()), ".")
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	t := &tree{own: own, mode: mode, owners: root.Owners()}
	t.levels = append(t.levels, level{
		fd: fd, dev: st.Dev, ino: st.Ino, hash: rootHash, mtime: st.Mtim,
		clear: own == nil,
	})
	return t, nil
}

func (t *tree) top() *level { return &t.levels[len(t.levels)-1] }

// enter makes dir the current directory, with what of it is missing if create
// is set; dir is a clean path without slashes at its ends, "" for the root.
func (t *tree) enter(dir string, create bool) error {
	if dir == t.last {
		return nil
	}
	depth := 0
	rest := dir
	for rest != "" && depth+1 < len(t.levels) {
		name, after, _ := strings.Cut(rest, "/")
		if t.levels[depth+1].name != name {
			break
		}
		depth++
		rest = after
	}
	t.last = nowhere
	if err := t.leaveTo(depth); err != nil {
		return err
	}
	if err := t.descend(rest, create); err != nil {
		return err
	}
	t.last = dir
	return nil
}

// descend goes down the components of a path, and those of the links met.
func (t *tree) descend(path string, create bool) error {
	links := 0
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		path = rest
		switch name {
		case "", ".":
			continue
		case "..": // of a link's target: the entry's own name is clean
			if err := t.leaveTo(max(0, len(t.levels)-2)); err != nil {
				return err
			}
			continue
		}
		if len(name) > maxName {
			return fmt.Errorf("%w: %w", ErrCorrupt, errPath)
		}
		target, err := t.step(name, create)
		if err != nil {
			return err
		}
		if target == "" {
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%w: %w", ErrCorrupt, rootfs.ErrLoop)
		}
		if target[0] == '/' {
			if err := t.leaveTo(0); err != nil {
				return err
			}
		}
		path = target + "/" + path
	}
	return nil
}

// step goes down one name. If that is a link to follow, it stays and returns
// the link's target.
func (t *tree) step(name string, create bool) (target string, err error) {
	at := t.top()
	fd, err := openDirAt(at.fd, name)
	switch {
	case err == nil:
		return "", t.push(fd, name, false)
	case errors.Is(err, unix.ENOENT) && create:
		return "", t.mkdir(name, nil)
	case !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP):
		return "", err
	}
	var st unix.Stat_t
	if err := lstatat(at.fd, name, &st); err != nil {
		return "", err
	}
	own := t.mode == followLinks || t.isOwn(name)
	switch {
	case own && st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return readlinkat(at.fd, name)
	case own || !create:
		return "", unix.ENOTDIR
	}
	return "", t.replaceByDir(name)
}

// replaceByDir puts a directory where a lower layer has a link or file.
func (t *tree) replaceByDir(name string) error {
	at := t.top()
	if err := retry(func() error { return unix.Unlinkat(at.fd, name, 0) }); err != nil {
		return err
	}
	at.dirty = true
	return t.mkdir(name, nil)
}

// mkdir makes a directory and goes down into it. Without an entry of its own it
// has the implied attributes.
func (t *tree) mkdir(name string, h *attr) error {
	at := t.top()
	if err := retry(func() error { return unix.Mkdirat(at.fd, name, 0o700) }); err != nil {
		return err
	}
	at.dirty = true
	fd, err := openDirAt(at.fd, name)
	if err != nil {
		return err
	}
	if err := t.push(fd, name, true); err != nil {
		return err
	}
	if h != nil {
		return nil
	}
	in := t.top()
	if err := t.owners.Set(fd, 0, 0); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, 0o755); err != nil {
		return err
	}
	if t.implied.timed {
		in.mtime, in.dirty = unix.Timespec{Sec: t.implied.mtime}, true
	}
	return nil
}

// down goes into a directory that is there.
func (t *tree) down(name string) error {
	t.last = nowhere
	fd, err := openDirAt(t.top().fd, name)
	if err != nil {
		return err
	}
	return t.push(fd, name, false)
}

// push makes an open directory the current one, and takes it over.
func (t *tree) push(fd int, name string, fresh bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return err
	}
	up := t.top()
	l := level{fd: fd, name: name, dev: st.Dev, ino: st.Ino, mtime: st.Mtim, clear: up.clear || fresh}
	if t.own != nil {
		l.hash = t.own.child(up.hash, name)
		if fresh && !up.clear {
			t.own.clear.add(l.hash)
		}
		l.clear = l.clear || t.own.clear.has(l.hash)
	}
	t.levels = append(t.levels, l)
	if far := len(t.levels) - openLevels - 1; far > 0 && t.levels[far].fd >= 0 {
		_ = unix.Close(t.levels[far].fd)
		t.levels[far].fd = -1
	}
	return nil
}

// leaveTo goes up until depth directories are below the root.
func (t *tree) leaveTo(depth int) error {
	for len(t.levels)-1 > depth {
		if err := t.leave(); err != nil {
			return err
		}
	}
	return nil
}

// leave goes up one directory.
func (t *tree) leave() error {
	child := *t.top()
	parent := &t.levels[len(t.levels)-2]
	if parent.fd < 0 {
		if err := parent.reopen(child.fd); err != nil {
			return err
		}
	}
	t.levels = t.levels[:len(t.levels)-1]
	err := child.settle()
	_ = unix.Close(child.fd)
	return err
}

// reopen opens a closed level from the directory below it.
func (l *level) reopen(child int) error {
	fd, err := openDirAt(child, "..")
	if err != nil {
		return err
	}
	l.fd = fd
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != l.dev || st.Ino != l.ino {
		return fmt.Errorf("directory %s: %w", l.name, ErrChanged)
	}
	return nil
}

// settle sets the time of a directory that was changed.
func (l *level) settle() error {
	if !l.dirty {
		return nil
	}
	l.dirty = false
	return futimens(l.fd, l.mtime)
}

// finish leaves all directories but the root.
func (t *tree) finish() error {
	if err := t.leaveTo(0); err != nil {
		return err
	}
	return t.top().settle()
}

// abandon closes the directories as they are.
func (t *tree) abandon() {
	for _, l := range t.levels {
		if l.fd >= 0 {
			_ = unix.Close(l.fd)
		}
	}
	t.levels = nil
}

// touch notes that the layer writes this name in the current directory.
func (t *tree) touch(name string) {
	if t.own == nil {
		return
	}
	t.touchHere()
	if at := t.top(); !at.clear {
		t.own.touched.add(t.own.child(at.hash, name))
	}
}

// touchHere notes the current directory and those above it.
func (t *tree) touchHere() {
	if t.own == nil {
		return
	}
	for i := len(t.levels) - 1; i > 0 && !t.levels[i].touched; i-- {
		t.levels[i].touched = true
		t.own.touched.add(t.levels[i].hash)
	}
}

// isOwn says whether the layer wrote this name in the current directory.
func (t *tree) isOwn(name string) bool {
	at := t.top()
	return at.clear || t.own.touched.has(t.own.child(at.hash, name))
}

// markClear notes that nothing of a lower layer is left in the current directory
// nor below it.
func (t *tree) markClear() {
	at := t.top()
	if !at.clear {
		at.clear = true
		t.own.clear.add(at.hash)
	}
}

// futimens sets the modification time of an open file.
func futimens(fd int, mtime unix.Timespec) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	// utimensat(2): a null path means the descriptor itself; x/sys has no call
	// for it that works before Linux 5.8.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
