package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"gobuild/internal/retried"
	"gobuild/internal/rootfs"
)

// CopyTo copies a match into an empty directory: a directory's contents, or
// anything else under its Name. Ignored files are left out, which is what a
// bind mount of a filtered context must show (H-20). Files share their blocks
// with the source where the file system can (reflink), never their inode, so
// that writing to the copy cannot reach the source.
func (t *Tree) CopyTo(ctx context.Context, m Match, dst *rootfs.Root) error {
	c := &copier{t: t, dst: dst, name: m.Name}
	if err := t.Walk(ctx, m, nil, c.entry); err != nil {
		return fmt.Errorf("copy %s: %w", m.Path, err)
	}
	// Inside out: filling a directory changes its time, and its mode may forbid it.
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := c.finishDir(c.dirs[i]); err != nil {
			return fmt.Errorf("copy %s: %w", m.Path, err)
		}
	}
	return nil
}

type copier struct {
	t    *Tree
	dst  *rootfs.Root
	name string
	dirs []copiedDir
}

type copiedDir struct {
	path string
	info Info
}

func (c *copier) entry(e Entry) error {
	to := e.Rel
	if to == "" {
		if e.Info.IsDir() {
			c.dirs = append(c.dirs, copiedDir{path: "/", info: e.Info})
			return c.copyXattrs(e, int(c.dst.File().Fd()))
		}
		to = path.Join("/", c.name)
	}
	dir, name, err := c.dst.Parent(to)
	if err != nil {
		return err
	}
	defer dir.Close()
	at := int(dir.Fd())
	switch e.Info.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.directory(e, at, name, to)
	case unix.S_IFREG:
		err = c.regular(e, at, name)
	case unix.S_IFLNK:
		if err = unix.Symlinkat(e.Link, at, name); err == nil {
			err = c.settle(e, at, name)
		}
	default:
		if err = unix.Mknodat(at, name, e.Info.Mode&unix.S_IFMT|0o600, int(e.Info.Rdev)); err == nil {
			err = c.settle(e, at, name)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

func (c *copier) directory(e Entry, at int, name, to string) error {
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return err
	}
	fd, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	c.dirs = append(c.dirs, copiedDir{path: to, info: e.Info})
	return c.copyXattrs(e, fd)
}

func (c *copier) finishDir(d copiedDir) error {
	f, err := c.dst.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := c.chown(fd, "", d.info, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, d.info.Mode&0o7777); err != nil {
		return err
	}
	return setMtime(fd, "", d.info, unix.AT_EMPTY_PATH)
}

func (c *copier) regular(e Entry, at int, name string) (err error) {
	src, err := e.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	fd, err := retried.Openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := copyContent(dst, src, e.Info.Size); err != nil {
		return err
	}
	if err := e.CheckUnchanged(src); err != nil {
		return err
	}
	// Owner first: chown clears setuid and security.capability.
	if err := c.chown(fd, "", e.Info, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := c.copyXattrs(e, fd); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, e.Info.Mode&0o7777); err != nil {
		return err
	}
	return setMtime(fd, "", e.Info, unix.AT_EMPTY_PATH)
}

func copyContent(dst, src *os.File, size int64) error {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	n, err := io.Copy(dst, io.LimitReader(src, size+1)) // copy_file_range where it works
	if err == nil && n != size {
		err = ErrChanged
	}
	return err
}

// settle gives links and nodes their owner, mode and time.
func (c *copier) settle(e Entry, at int, name string) error {
	if err := c.chown(at, name, e.Info, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !e.Info.IsSymlink() {
		// The directory is ours and the node was made a moment ago: no link is followed.
		if err := unix.Fchmodat(at, name, e.Info.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return setMtime(at, name, e.Info, unix.AT_SYMLINK_NOFOLLOW)
}

// chown sets the owner. Without privilege, files that should read as 0:0 stay
// the invoker's: in the invoker's user namespace that is 0:0.
func (c *copier) chown(fd int, name string, i Info, flags int) error {
	if k := c.dst.Owners(); k.Records() {
		if name == "" {
			return k.Set(fd, int(i.UID), int(i.GID))
		}
		return k.SetAt(fd, name, int(i.UID), int(i.GID))
	}
	err := unix.Fchownat(fd, name, int(i.UID), int(i.GID), flags)
	if errors.Is(err, unix.EPERM) && !c.t.opt.Owner {
		return nil
	}
	return err
}

func setMtime(fd int, name string, i Info, flags int) error {
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, i.Mtime}, flags)
}

// copyXattrs sets attributes as far as the destination takes them (B47).
func (c *copier) copyXattrs(e Entry, fd int) error {
	xattrs, err := e.Xattrs()
	if err != nil {
		return err
	}
	for key, value := range xattrs {
		if err := unix.Fsetxattr(fd, key, value, 0); err != nil {
			c.t.notice("%s: xattr %s not copied: %v", e.Path, key, err)
		}
	}
	return nil
}
