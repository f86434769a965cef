package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/ownthread"
	"gobuild/internal/retried"
	"gobuild/internal/rootfs"
)

// overlayOptions make an overlay whose upper directory alone is the layer: no redirects or metadata-only copies in it, and no
// index that ties it to its lower directories. xino=off keeps inode numbers of one-file-system stacks as they are.
// volatile skips every sync: whoever keeps the upper directory syncs it (overlayfs.rst, "Volatile mount").
func overlayOptions(userNS bool) []string {
	o := []string{"metacopy=off", "redirect_dir=off", "index=off", "xino=off", "volatile"}
	if userNS {
		// overlayfs.rst, "User xattr": trusted.* cannot be written there, and rm would fail. Off may mean to follow redirects
		// that are there (CONFIG_OVERLAY_FS_REDIRECT_ALWAYS_FOLLOW), which is refused beside userxattr.
		o[slices.Index(o, "redirect_dir=off")] = "redirect_dir=nofollow"
		o = append(o, "userxattr")
	}
	return o
}

// mountRoot makes the root of a step as a detached mount: an overlay, or the upper directory itself if it has nothing below.
func mountRoot(s *Spec, stubs string) (int, error) {
	fd, err := mountRootWithoutDevices(s, stubs)
	if err == nil && s.Insecure {
		if err = setMountAttr(fd, 0, 0, attrNoDev); err != nil {
			_ = unix.Close(fd)
			return -1, setupError("let devices work in root", "", err)
		}
	}
	return fd, err
}

func mountRootWithoutDevices(s *Spec, stubs string) (int, error) {
	if len(s.Lower) > 0 {
		lower := s.Lower
		if stubs != "" && len(lower) < maxLower {
			lower = append(slices.Clone(lower), stubs)
		}
		return mountOverlay(lower, s.Upper, s.Work)
	}
	fd, err := cloneMount(unix.AT_FDCWD, s.Upper, 0, attrNoDev, 0)
	if err != nil {
		return -1, setupError("bind root", s.Upper, err)
	}
	return fd, nil
}

// makeStubDir fills the directory that has the mount points which every step needs.
func makeStubDir(dir string) error {
	if dir == "" {
		return nil
	}
	for _, name := range []string{"", "proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return setupError("make mount points", dir, err)
		}
	}
	for _, name := range []string{"etc/hosts", "etc/resolv.conf"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return setupError("make mount points", dir, err)
		}
		if err := f.Close(); err != nil {
			return setupError("make mount points", dir, err)
		}
	}
	// A step that writes below an /etc that the image lacks copies this one up: with times that say nothing.
	for _, name := range []string{"etc/hosts", "etc/resolv.conf", "etc", "proc", "sys", "dev", ""} {
		if err := os.Chtimes(filepath.Join(dir, name), time.Unix(0, 0), time.Unix(0, 0)); err != nil {
			return setupError("make mount points", dir, err)
		}
	}
	return nil
}

// mountOverlay stacks directories, topmost first, below a writable one.
func mountOverlay(lower []string, upper, work string) (int, error) {
	fd, err := overlayByFD(lower, upper, work)
	var setup *SetupError
	if errors.As(err, &setup) && olderInterface(setup.Errno) {
		// Before Linux 6.7 there is no "lowerdir+", before 6.13 it takes no descriptors.
		classic, classicErr := overlayByMount(lower, upper, work)
		if classicErr == nil || setup.Errno != unix.EINVAL || !errors.Is(classicErr, unix.EINVAL) {
			return classic, classicErr
		}
		// Both say that something is wrong with the directories, and the newer one has the kernel's words.
	}
	return fd, err
}

// olderInterface says whether an errno is how a kernel says that it does not know fsconfig(2) with descriptors for overlays. A file
// system that has not been converted to it answers with EOPNOTSUPP; overlayfs was, in Linux 6.5.
func olderInterface(e unix.Errno) bool {
	return e == unix.EINVAL || e == unix.ENOSYS || e == unix.EBADF || e == unix.EOPNOTSUPP
}

func overlayByFD(lower []string, upper, work string) (int, error) {
	c, err := openFS("overlay")
	if err != nil {
		return -1, err
	}
	defer c.close()
	for _, dir := range lower {
		if err := c.setDir("lowerdir+", dir); err != nil {
			return -1, err
		}
	}
	if err := c.setDir("upperdir", upper); err != nil {
		return -1, err
	}
	if err := c.setDir("workdir", work); err != nil {
		return -1, err
	}
	for _, o := range overlayOptions(inUserNS()) {
		if err := c.option(o); err != nil {
			return -1, err
		}
	}
	return c.mount(attrNoDev)
}

// setDir gives a directory by descriptor: names with colons, commas and backslashes need no escaping, and there is no limit on
// the length of all together.
func (c *fsContext) setDir(key, dir string) error {
	fd, err := retried.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return setupError("open "+strings.TrimSuffix(key, "+"), dir, err)
	}
	defer unix.Close(fd)
	err = c.setFD(key, fd)
	var setup *SetupError
	if errors.As(err, &setup) {
		setup.Path = dir
	}
	return err
}

// overlayByMount is the same with mount(2), for kernels without the newer interface. Its options are a string of at most a
// page, so directories are named by descriptor numbers, relative to /proc/self/fd. The mount is made in a namespace of a thread
// that is thrown away, and cloned out of it.
func overlayByMount(lower []string, upper, work string) (int, error) {
	return onPrivateThread(func() (int, error) {
		// Opened in the new namespace: overlayfs takes no directories of another one.
		dirs := append(append([]string{}, lower...), upper, work)
		names := make([]string, 0, len(dirs))
		defer func() {
			for _, name := range names {
				if fd, err := strconv.Atoi(name); err == nil {
					_ = unix.Close(fd)
				}
			}
		}()
		for _, dir := range dirs {
			fd, err := retried.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return -1, setupError("open directory of overlay", dir, err)
			}
			names = append(names, strconv.Itoa(fd))
		}
		return classicMount(names, upper)
	})
}

// classicMount mounts an overlay of directories named relative to /proc/self/fd, the last two of them upper and work.
func classicMount(names []string, upper string) (int, error) {
	n := len(names) - 2
	options := append(overlayOptions(inUserNS()),
		"lowerdir="+strings.Join(names[:n], ":"), "upperdir="+names[n], "workdir="+names[n+1])
	data := strings.Join(options, ",")
	if len(data) >= os.Getpagesize() {
		return -1, &SetupError{Op: "mount overlay", Detail: fmt.Sprintf("%d lower directories are too many for this kernel", n)}
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return -1, setupError("enter", "/proc/self/fd", err)
	}
	// On the upper directory itself: no other place needs to be found or made, and nobody else sees it.
	if err := unix.Mount("overlay", upper, "overlay", unix.MS_NODEV, data); err != nil {
		e := setupError("mount overlay", upper, err)
		if e.Errno == unix.EINVAL {
			e.Detail = kernelLog
		}
		return -1, e
	}
	fd, err := cloneMount(unix.AT_FDCWD, upper, 0, attrNoDev, 0)
	if err != nil {
		return -1, setupError("clone overlay", upper, err)
	}
	return fd, nil
}

// onPrivateThread runs f on a thread with a mount namespace and a working directory of its own, which ends afterwards.
func onPrivateThread(f func() (int, error)) (fd int, err error) {
	fd = -1
	err = ownthread.Do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return setupError("unshare mount namespace", "", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return setupError("make mounts private", "", err)
		}
		fd, err = f()
		return err
	})
	return fd, err
}

// bindLayers shows a part of a stack of directories, with an upper layer in memory.
func bindLayers(layers []string, name string, attrs uint64) (int, error) {
	tmp, err := newMount("tmpfs", attrNoDev, "mode=0700")
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	for _, dir := range []string{"upper", "work"} {
		if err := unix.Mkdirat(tmp, dir, 0o755); err != nil {
			return -1, setupError("make directory", dir, err)
		}
	}
	here := fmt.Sprintf("/proc/self/fd/%d/", tmp)
	tree, err := mountOverlay(layers, here+"upper", here+"work")
	if err != nil {
		return -1, err
	}
	defer unix.Close(tree)
	fd, err := subtree(tree, name)
	if err != nil {
		return -1, err
	}
	if err := setMountAttr(fd, 0, attrs, 0); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// subtree clones a part of a detached mount, which is used up. The mount is attached for that, where nobody else sees it:
// before Linux 6.15 open_tree takes no part of one that is attached nowhere.
func subtree(tree int, name string) (int, error) {
	return onPrivateThread(func() (int, error) {
		if err := attachAt(tree, "/sys"); err != nil {
			return -1, setupError("attach tree", "", err)
		}
		root, err := rootfs.Open("/sys")
		if err != nil {
			return -1, setupError("open tree", "", err)
		}
		defer root.Close()
		f, err := root.Open(name, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return -1, setupError("open mount source", name, err)
		}
		defer f.Close()
		return cloneMount(int(f.Fd()), "", unix.AT_RECURSIVE, 0, 0)
	})
}

// mountThrowAway makes an overlay of an open directory whose writes go to memory and end with it.
func mountThrowAway(dir int) (int, error) {
	tmp, err := newMount("tmpfs", attrNoDev, "mode=0700")
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	if err := makeScratch(dir, tmp); err != nil {
		return -1, err
	}
	fd, err := throwAwayOn(dir, tmp)
	var setup *SetupError
	if err == nil || !errors.As(err, &setup) || !olderInterface(setup.Errno) {
		return fd, err
	}
	// Before Linux 6.15 the layers must be attached somewhere in the namespace of the caller.
	source, err := cloneMount(dir, "", unix.AT_RECURSIVE, 0, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(source)
	return onPrivateThread(func() (int, error) { return throwAwayAttached(source, tmp) })
}

// The directories of a mount in memory that take what is written and thrown away.
const (
	scratchUpper = "u"
	scratchWork  = "w"
)

// makeScratch makes them. The root of an overlay has the attributes of its upper directory, so they are those of the source.
func makeScratch(dir, tmp int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return setupError("read source", "", err)
	}
	for _, name := range []string{scratchUpper, scratchWork} {
		if err := unix.Mkdirat(tmp, name, 0o700); err != nil {
			return setupError("make scratch directory", "", err)
		}
		err := errors.Join(unix.Fchownat(tmp, name, int(st.Uid), int(st.Gid), 0), unix.Fchmodat(tmp, name, st.Mode&0o7777, 0))
		if err != nil {
			return setupError("make scratch directory", "", err)
		}
	}
	return nil
}

// throwAwayAttached attaches both layers where no name has to be looked up afterwards, and takes the older interface where the
// kernel does not know the other.
func throwAwayAttached(source, tmp int) (int, error) {
	var fds [2]int
	for i, place := range []struct {
		mount int
		path  string
	}{{source, "/sys"}, {tmp, "/dev"}} {
		if err := attachAt(place.mount, place.path); err != nil {
			return -1, setupError("attach layer", "", err)
		}
		fd, err := retried.Open(place.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, setupError("open layer", "", err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	fd, err := throwAwayOn(fds[0], fds[1])
	var setup *SetupError
	if err == nil || !errors.As(err, &setup) || !olderInterface(setup.Errno) {
		return fd, err
	}
	scratch := strconv.Itoa(fds[1])
	names := []string{strconv.Itoa(fds[0]), scratch + "/" + scratchUpper, scratch + "/" + scratchWork}
	return classicMount(names, "/dev/"+scratchUpper)
}

func throwAwayOn(dir, tmp int) (int, error) {
	c, err := openFS("overlay")
	if err != nil {
		return -1, err
	}
	defer c.close()
	if err := c.setFD("lowerdir+", dir); err != nil {
		return -1, err
	}
	for key, name := range map[string]string{"upperdir": scratchUpper, "workdir": scratchWork} {
		sub, err := retried.Openat(tmp, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, setupError("open scratch directory", "", err)
		}
		err = c.setFD(key, sub)
		_ = unix.Close(sub)
		if err != nil {
			return -1, err
		}
	}
	if inUserNS() {
		if err := c.option("userxattr"); err != nil {
			return -1, err
		}
	}
	return c.mount(attrNoDev)
}

// InUserNamespace says that this process is in a user namespace, where overlay keeps its attributes under user.overlay.*.
func InUserNamespace() bool { return inUserNS() }

// inUserNS says whether this process is in a user namespace other than the first, whose map is the whole identity.
func inUserNS() bool {
	data, err := readLine("/proc/self/uid_map")
	if err != nil {
		return false
	}
	f := strings.Fields(string(data))
	return len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295"
}

// readLine reads the beginning of a file of /proc that has a line or two. os.ReadFile would ask first whether it can be waited for, and
// this is asked with each mount.
func readLine(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	return buf[:max(n, 0)], err
}
