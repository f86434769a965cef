package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/rootfs"
)

// stepRoot is the root file system of a step as its init sees it.
type stepRoot struct {
	tree    *rootfs.Root
	mount   int    // of the root itself
	mountID uint64 // of the same
	stubs   []stub
	parents map[string]*parentTimes
}

// stub is a mount point that was missing in the root and is removed after the step.
type stub struct {
	path string
	ino  uint64
	dir  bool
}

// parentTimes are the times of a directory of the image before and after stubs were made in it.
type parentTimes struct {
	atime, mtime unix.Timespec
	after        unix.Timespec
}

// enterRoot puts the root of the step together below the scratch root, and makes it the root.
func (c *child) enterRoot() error {
	r, err := openStepRoot(c.step.Root)
	if err != nil {
		return err
	}
	c.root = r
	if c.prep.OneID {
		r.tree.WithOwners(owners.Recorded())
		c.adaptPrograms(r)
	}
	if err := c.attachStandard(r); err != nil {
		return err
	}
	for i := range c.step.Mounts {
		if err := c.attachMount(r, i); err != nil {
			return err
		}
	}
	if c.step.ReadOnlyRoot {
		if err := setMountAttr(r.mount, 0, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
			return setupError("make root read-only", "", err)
		}
	}
	if name := c.step.Hostname; name != "" && name != defaultHostname {
		if err := c.setHostname(name)(); err != nil {
			return err
		}
	}
	if err := unix.Fchdir(int(r.tree.File().Fd())); err != nil {
		return setupError("enter root", "", err)
	}
	return pivotHere()
}

func openStepRoot(mount int) (*stepRoot, error) {
	if err := attachAt(mount, scratchRoot); err != nil {
		return nil, setupError("attach root", "", err)
	}
	fd, err := unix.Open(scratchRoot, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, setupError("open root", "", err)
	}
	r := &stepRoot{tree: rootfs.New(os.NewFile(uintptr(fd), "/")), mount: mount, parents: map[string]*parentTimes{}}
	r.mountID, err = mountID(fd)
	return r, inContext("read root", err)
}

func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// attachStandard moves /proc, /sys and /dev into the root. A root that has a link or a file there is refused: whatever is
// behind the link, it would not be what the step's masks protect.
func (c *child) attachStandard(r *stepRoot) error {
	if c.step.ShmSize > 0 && c.step.ShmSize != defaultShm {
		if err := resizeShm(c.step.ShmSize); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		st, err := r.tree.Lstat(dir)
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return &SetupError{Op: "mount", Path: dir, Kind: ErrBadRoot, Detail: "it is not a directory"}
		}
		target, err := r.target(dir, true)
		if err != nil {
			return err
		}
		err = unix.MoveMount(unix.AT_FDCWD, dir, int(target.Fd()), "", unix.MOVE_MOUNT_T_EMPTY_PATH)
		_ = target.Close()
		if err != nil {
			return setupError("mount", dir, err)
		}
	}
	return nil
}

// resizeShm replaces /dev/shm. One whose size was asked for is a place for programs too, as in the reference.
func resizeShm(size int64) error {
	if err := unix.Unmount("/dev/shm", unix.MNT_DETACH); err != nil {
		return setupError("unmount", "/dev/shm", err)
	}
	fd, err := newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|attrNoDev, "mode=1777", "size="+strconv.FormatInt(size, 10))
	return inContext("mount /dev/shm", attachNewAt(fd, err, "/dev/shm"))
}

func (c *child) attachMount(r *stepRoot, i int) error {
	m := &c.step.Mounts[i]
	name := m.Target
	mount, err := c.detachedMount(m, i)
	if err != nil {
		return setupError("prepare mount", name, err)
	}
	if m.FD < 0 {
		defer unix.Close(mount)
	}
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		return setupError("prepare mount", name, err)
	}
	target, err := r.mountTarget(name, st.Mode&unix.S_IFMT == unix.S_IFDIR, m.NoFollow)
	if err != nil {
		return setupError("mount", name, err)
	}
	defer target.Close()
	return inContextOf("mount", name, attach(mount, int(target.Fd())))
}

// detachedMount gives what is to be mounted: what came with the step, or a new tmpfs or file of our own.
func (c *child) detachedMount(m *stepMount, i int) (int, error) {
	attrs, clear := unix.MOUNT_ATTR_NOSUID|attrNoDev, uint64(unix.MOUNT_ATTR_NOEXEC) // the scratch mount has it
	if m.NoExec {
		attrs, clear = attrs|unix.MOUNT_ATTR_NOEXEC, 0
	}
	switch {
	case m.FD >= 0:
		return m.FD, nil
	case m.IsFile:
		name := scratchFiles + "/" + strconv.Itoa(i)
		if c.prep.OneID {
			m.UID, m.GID = 0, 0 // whoever the step's user is
		}
		if err := writeFile(name, m); err != nil {
			return -1, err
		}
		return cloneMount(unix.AT_FDCWD, name, 0, uint64(attrs)|unix.MOUNT_ATTR_RDONLY, clear)
	}
	options := []string{"mode=1777"}
	if m.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(m.Size, 10))
	}
	if m.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	return newMount("tmpfs", attrs, options...)
}

func writeFile(name string, m *stepMount) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(m.Data)
	// The owner first: chown takes setuid bits away.
	err = errors.Join(err, f.Chown(m.UID, m.GID), unix.Fchmod(int(f.Fd()), m.Mode&0o7777), f.Close())
	return err
}

// mountTarget opens the place of one of the step's own mounts, making it if it is missing. Everything is found by the one
// resolver, inside the root with all earlier mounts in place, and mounted on by descriptor: what else happens in a shared cache
// mount at the same time cannot lead out.
func (r *stepRoot) mountTarget(name string, dir, noFollow bool) (*os.File, error) {
	if clean := path.Clean("/" + name); clean == "/" || clean == "/proc" || strings.HasPrefix(clean, "/proc/") {
		return nil, &SetupError{Op: "mount", Path: name, Kind: ErrMountTarget}
	}
	if noFollow && !dir {
		// A file can be mounted over a link itself, which leaves nothing to clean up behind it.
		f, err := r.tree.Open(name, unix.O_PATH|unix.O_NOFOLLOW)
		if err == nil && isLink(f) {
			return f, nil
		}
		if err == nil {
			_ = f.Close()
		}
	}
	full, err := r.tree.Resolve(name)
	if err != nil {
		return nil, err
	}
	if full == "/" {
		return nil, &SetupError{Op: "mount", Path: name, Kind: ErrMountTarget, Detail: "it leads to the root"}
	}
	f, err := r.target(full, dir)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type == unix.PROC_SUPER_MAGIC {
		_ = f.Close()
		return nil, &SetupError{Op: "mount", Path: name, Kind: ErrMountTarget, Detail: "it leads into /proc"}
	}
	return f, nil
}

func isLink(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// target opens a canonical path to mount on, a directory or not, and makes it if it is missing.
func (r *stepRoot) target(full string, dir bool) (*os.File, error) {
	f, err := r.tree.Open(full, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.makeStub(full, dir); err != nil {
			return nil, setupError("make mount point", full, err)
		}
		f, err = r.tree.Open(full, unix.O_PATH|unix.O_NOFOLLOW)
	}
	if err != nil {
		return nil, setupError("open mount point", full, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		_ = f.Close()
		return nil, setupError("read mount point", full, err)
	}
	if (st.Mode&unix.S_IFMT == unix.S_IFDIR) != dir {
		_ = f.Close()
		e := &SetupError{Op: "mount", Path: full, Kind: ErrMountTarget, Detail: "a directory cannot be mounted over a file"}
		if !dir {
			e.Detail = "a file cannot be mounted over a directory"
		}
		return nil, e
	}
	return f, nil
}

// makeStub makes a mount point with its parents. In the step's root itself they are remembered; in another mount they stay.
func (r *stepRoot) makeStub(full string, dir bool) error {
	existing, err := r.nearest(path.Dir(full))
	if err != nil {
		return err
	}
	anchor, err := r.tree.Open(existing, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer anchor.Close()
	id, err := mountID(int(anchor.Fd()))
	if err != nil {
		return err
	}
	before, err := times(anchor)
	if err != nil {
		return err
	}
	created, err := r.make(full, dir)
	if err != nil || id != r.mountID {
		return err
	}
	after, err := times(anchor)
	if err != nil {
		return err
	}
	if known := r.parents[existing]; known != nil && known.after == before.mtime {
		known.after = after.mtime
	} else {
		r.parents[existing] = &parentTimes{before.atime, before.mtime, after.mtime}
	}
	for _, p := range created {
		st, err := r.tree.Lstat(p)
		if err != nil {
			return err
		}
		r.stubs = append(r.stubs, stub{path: p, ino: st.Ino, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR})
	}
	return nil
}

// nearest finds the closest directory at or above a canonical path that exists.
func (r *stepRoot) nearest(p string) (string, error) {
	for {
		_, err := r.tree.Lstat(p)
		if err == nil || p == "/" || !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
		p = path.Dir(p)
	}
}

func (r *stepRoot) make(full string, dir bool) ([]string, error) {
	if dir {
		return r.tree.MkdirAll(full, rootfs.Attr{Mode: 0o755})
	}
	created, err := r.tree.MkdirAll(path.Dir(full), rootfs.Attr{Mode: 0o755})
	if err != nil {
		return nil, err
	}
	parent, name, err := r.tree.Parent(full)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	// Not opened: a descriptor for writing, of which a process that gobuild starts just then has a copy until it executes, would
	// keep the root from being made read-only.
	if err := unix.Mknodat(int(parent.Fd()), name, unix.S_IFREG|0o644, 0); err != nil {
		return nil, err
	}
	return append(created, full), nil
}

func times(f *os.File) (parentTimes, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return parentTimes{atime: st.Atim, mtime: st.Mtim}, err
}

// dropRoot unmounts the root. In a user namespace the root of its mount namespace is locked, and pivot_root hands the lock on to
// each new root: there another root takes its place first, over /proc, which every step has.
func (c *child) dropRoot() error {
	err := unix.Unmount("/", unix.MNT_DETACH)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return setupError("unmount root", "", err)
	}
	if !c.userNS {
		return nil // a step that may mount has done it already
	}
	tmp, err := newMount("tmpfs", attrPseudo)
	if err := attachNewAt(tmp, err, "/proc"); err != nil {
		return setupError("replace root", "", err)
	}
	if err := unix.Chdir("/proc"); err != nil {
		return setupError("replace root", "", err)
	}
	return pivotHere()
}

// leaveRoot takes the step's root apart when all its processes are dead: nothing can write to it any more, it is unmounted, mount
// points that were made for the step are removed, and the overlay ends, so that its upper directory is at rest when the parent hears
// of the result.
func (c *child) leaveRoot() error {
	if err := c.endWriting(); err != nil {
		return err
	}
	if err := c.dropRoot(); err != nil {
		return err
	}
	if err := unix.Fchdir(c.scratch); err != nil {
		return setupError("leave root", "", err)
	}
	if err := unix.Chroot("."); err != nil {
		return setupError("leave root", "", err)
	}
	if err := c.root.removeStubs(); err != nil {
		return err
	}
	return c.root.tree.Close()
}

// removeStubs removes what makeStub made, if it is still that and still empty, innermost first.
func (r *stepRoot) removeStubs() error {
	for i := len(r.stubs) - 1; i >= 0; i-- {
		if err := r.removeStub(&r.stubs[i]); err != nil {
			return setupError("remove mount point", r.stubs[i].path, err)
		}
	}
	return nil
}

func (r *stepRoot) removeStub(s *stub) error {
	dir, name, err := r.tree.Parent(s.path)
	if err != nil {
		return ignoreGone(err)
	}
	defer dir.Close()
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return ignoreGone(err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Ino != s.ino || isDir != s.dir || !isDir && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0) {
		return nil // the step put something else there
	}
	now, err := times(dir)
	if err != nil {
		return err
	}
	flags := 0
	if s.dir {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(fd, name, flags); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EBUSY) {
			return nil // the step has filled it or, having the right to mount, made all read-only or put the root elsewhere
		}
		return err
	}
	// What the step itself did to the directory stays visible in its time.
	restore := []unix.Timespec{now.atime, now.mtime}
	parent := path.Dir(s.path)
	if p := r.parents[parent]; p != nil && p.after == now.mtime {
		restore = []unix.Timespec{p.atime, p.mtime}
		p.after = p.mtime // the next stub of this directory finds it so
	}
	return unix.UtimesNanoAt(fd, "", restore, unix.AT_EMPTY_PATH)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

func inContextOf(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return setupError(op, path, err)
}
