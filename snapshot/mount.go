package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gobuild/internal/ownthread"
	"gobuild/internal/retried"
)

// How a kernel is told the layers. All three need no escaping of colons and commas in paths and
// leave nothing behind when the process is killed.
const (
	byDescriptor int32 = iota // fsconfig(2) "lowerdir+" with descriptors: Linux 6.13
	byName                    // the same with paths: Linux 6.7
	byMount                   // mount(2) in a mount namespace that ends with the call: before
)

// overlay says what to mount.
type overlay struct {
	lower       []string // topmost first
	upper, work string   // empty: read-only
	userXattr   bool
	scratch     func() (string, *os.File, error) // a directory for byMount
}

// mounter mounts overlays and remembers which way this kernel understands.
type mounter struct{ way atomic.Int32 }

// errWay says that this kernel does not understand this way.
var errWay = errors.New("not understood by this kernel")

// overlay mounts and returns the root directory, opened for reading. The mount is attached nowhere: it
// ends when the last descriptor into it is closed, by whatever means. ErrNoOverlay if it is refused on principle.
func (m *mounter) overlay(o overlay) (*os.File, error) {
	for {
		way := m.way.Load()
		f, err := o.mount(way)
		if err == nil && o.upper != "" {
			return o.writable(f)
		}
		if err == nil || !errors.Is(err, errWay) || way == byMount {
			return f, err
		}
		m.way.CompareAndSwap(way, way+1)
	}
}

// writable makes an error of an overlay that came up read-only: so it does, with a line in the kernel's log and nowhere
// else, when it cannot make a directory in its work directory. Making one ourselves tells why.
func (o overlay) writable(f *os.File) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		_ = f.Close()
		return nil, &fs.PathError{Op: "statfs", Path: "overlay", Err: err}
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return f, nil
	}
	_ = f.Close()
	if err := os.Mkdir(filepath.Join(o.work, "probe"), 0o700); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	return nil, fmt.Errorf("%w: the kernel mounted it read-only (its log may say why): %w", ErrNoOverlay, unix.EROFS)
}

func (o overlay) mount(way int32) (*os.File, error) {
	if way == byMount {
		return o.mountInNamespace()
	}
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return nil, errWay
	}
	if err != nil {
		return nil, refused(fmt.Errorf("fsopen overlay: %w", err))
	}
	defer unix.Close(fd) // a context, not data
	if err := o.configure(fd, way); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, refused(withLog(fd, "create overlay", err))
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, o.mountAttributes())
	if err != nil {
		return nil, refused(withLog(fd, "mount overlay", err))
	}
	// The mount's own descriptor is O_PATH. One opened through it keeps the mount alive just as well.
	defer unix.Close(mnt)
	return openMounted(mnt, "overlay")
}

// Device nodes of a layer are never opened through our views; a read-only view is so by its mount, whatever
// the modes say.
func (o overlay) mountAttributes() int {
	attr := unix.MOUNT_ATTR_NODEV
	if o.upper == "" {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	return attr
}

// options are given in each way. They switch off what would make the upper directory depend on the lower
// ones (metacopy, redirects) or on inode numbers (index, xino), so that the upper directory alone is the layer.
// redirect_dir=nofollow is off and more: redirects that someone planted in a layer lead nowhere, and it is
// the one value that userxattr accepts ("off" may mean "follow", overlayfs.rst, "redirect_dir").
func (o overlay) options() []string {
	opts := []string{"metacopy=off", "redirect_dir=nofollow", "index=off", "xino=off"}
	if o.upper != "" {
		opts = append(opts, "volatile") // no syncfs when it is unmounted: trust.go sees to that
	}
	if o.userXattr {
		opts = append(opts, "userxattr")
	}
	return opts
}

func (o overlay) configure(fd int, way int32) error {
	if err := unix.FsconfigSetString(fd, "source", "overlay"); err != nil {
		return refused(withLog(fd, "configure overlay", err))
	}
	for _, dir := range o.lower {
		if err := setDir(fd, way, "lowerdir+", dir); err != nil {
			return err
		}
	}
	if o.upper != "" {
		if err := setDir(fd, way, "upperdir", o.upper); err != nil {
			return err
		}
		if err := setDir(fd, way, "workdir", o.work); err != nil {
			return err
		}
	}
	for _, opt := range o.options() {
		var err error
		if key, value, ok := strings.Cut(opt, "="); ok {
			err = unix.FsconfigSetString(fd, key, value)
		} else {
			err = unix.FsconfigSetFlag(fd, opt)
		}
		if err != nil {
			return refused(withLog(fd, "overlay option "+opt, err))
		}
	}
	return nil
}

func setDir(fd int, way int32, key, dir string) error {
	d, err := retried.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(d)
	if way == byDescriptor {
		err = unix.FsconfigSetFd(fd, key, d)
	} else {
		// Values are at most 255 bytes long and the state may lie deeper; this name is short and has no colon.
		err = unix.FsconfigSetString(fd, key, "/proc/self/fd/"+strconv.Itoa(d))
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		// Either the kernel does not know this form (an older one), or it does not want this directory. The
		// next way finds out: the last one reports what the kernel says.
		return fmt.Errorf("%w: %w", errWay, withLog(fd, "overlay option "+key+" "+dir, err))
	default:
		return refused(withLog(fd, "overlay option "+key+" "+dir, err))
	}
}

// mountInNamespace mounts with mount(2) where nobody sees it: a thread with a mount namespace of its own,
// which ends with the thread and leaves the mount to the descriptor.
func (o overlay) mountInNamespace() (*os.File, error) {
	home, lock, err := o.scratch()
	if err != nil {
		return nil, err
	}
	var f *os.File
	// The work takes the thread out of the process's mount namespace.
	err = ownthread.Do(func() (err error) {
		f, err = o.mountAt(home)
		return err
	})
	if cerr := errors.Join(removeTree(home), lock.Close()); cerr != nil && err == nil {
		_ = f.Close()
		return nil, cerr
	}
	return f, err
}

// mountAt names the directories by links in home and stands there, because mount(2) takes 4096 bytes of
// options: 500 layers fit by short names only.
func (o overlay) mountAt(home string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, refused(fmt.Errorf("unshare mount namespace: %w", err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, refused(fmt.Errorf("make mounts private: %w", err))
	}
	if err := unix.Chdir(home); err != nil {
		return nil, &fs.PathError{Op: "chdir", Path: home, Err: err}
	}
	target := filepath.Join(home, "m")
	if err := os.Mkdir(target, 0o700); err != nil {
		return nil, err
	}
	names := make([]string, len(o.lower))
	links := map[string]string{"u": o.upper, "w": o.work}
	for i, dir := range o.lower {
		names[i] = strconv.FormatInt(int64(i), 36)
		links["l"+names[i]] = dir
		names[i] = "l" + names[i]
	}
	for name, dir := range links {
		if dir == "" {
			continue
		}
		if err := os.Symlink(dir, filepath.Join(home, name)); err != nil {
			return nil, err
		}
	}
	opts := append([]string{"lowerdir=" + strings.Join(names, ":")}, o.options()...)
	flags := uintptr(unix.MS_NODEV)
	if o.upper == "" {
		flags |= unix.MS_RDONLY
	} else {
		opts = append(opts, "upperdir=u", "workdir=w")
	}
	if err := unix.Mount("overlay", target, "overlay", flags, strings.Join(opts, ",")); err != nil {
		return nil, refused(fmt.Errorf("mount overlay: %w", err))
	}
	f, err := openDir(target)
	// The descriptor keeps the mount; the namespace, should it live a moment longer, need not.
	if uerr := unix.Unmount(target, unix.MNT_DETACH); uerr != nil && err == nil {
		_ = f.Close()
		return nil, fmt.Errorf("detach overlay: %w", uerr)
	}
	return f, err
}

// cloneReadOnly opens a directory through a detached read-only mount of it. Where this process may not
// mount at all the directory itself is opened: one layer can be read without privilege.
func cloneReadOnly(dir string) (*os.File, error) {
	mnt, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return openDir(dir)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	defer unix.Close(mnt)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	err = unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &attr)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12
		return openDir(dir)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "mount_setattr", Path: dir, Err: err}
	}
	return openMounted(mnt, dir)
}

func openMounted(mnt int, name string) (*os.File, error) {
	fd, err := retried.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// refused marks the errors that mean "not here" rather than "not now".
func refused(err error) error {
	for _, errno := range []error{
		unix.EINVAL, unix.EPERM, unix.EACCES, unix.ENODEV, unix.ENOSYS, unix.EOPNOTSUPP, unix.ESTALE, unix.EREMOTE,
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", ErrNoOverlay, err)
		}
	}
	return err
}

// withLog adds what the kernel wrote to the context's log ("e overlay: …"): the only place where it says why.
func withLog(fd int, op string, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for range maxLog {
		n, rerr := unix.Read(fd, buf)
		if rerr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s: %s: %w", op, strings.Join(said, "; "), err)
}
