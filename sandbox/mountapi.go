package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// fsContext configures a new file system instance (fsopen(2)).
type fsContext struct {
	fd   int
	name string
}

func openFS(name string) (*fsContext, error) {
	fd, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &SetupError{Op: "mount " + name, Errno: errno(err)}
	}
	return &fsContext{fd: fd, name: name}, nil
}

func (c *fsContext) close() { _ = unix.Close(c.fd) }

func (c *fsContext) set(key, value string) error {
	return c.check("set "+key, unix.FsconfigSetString(c.fd, key, value))
}

// option sets "key=value" or a flag.
func (c *fsContext) option(o string) error {
	key, value, hasValue := strings.Cut(o, "=")
	if hasValue {
		return c.set(key, value)
	}
	return c.check("set "+key, unix.FsconfigSetFlag(c.fd, key))
}

func (c *fsContext) setFD(key string, fd int) error {
	return c.check("set "+key, unix.FsconfigSetFd(c.fd, key, fd))
}

// mount makes the instance and a detached mount of it with MOUNT_ATTR_* flags.
func (c *fsContext) mount(attrs int) (int, error) {
	if err := c.check("", unix.FsconfigCreate(c.fd)); err != nil {
		return -1, err
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attrs)
	return fd, c.check("", err)
}

// check adds what the kernel logged about the file system to an error: the errno alone is mostly EINVAL.
func (c *fsContext) check(what string, err error) error {
	if err == nil {
		return nil
	}
	var why []string
	if what != "" {
		why = append(why, what)
	}
	for range maxFSLog {
		buf := make([]byte, maxFSLog)
		n, err := unix.Read(c.fd, buf)
		if err != nil || n == 0 {
			break
		}
		// "e overlay: text": a letter for error, warning or info.
		why = append(why, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	if len(why) == 0 && errors.Is(err, unix.EINVAL) {
		why = []string{kernelLog}
	}
	return &SetupError{Op: "mount " + c.name, Detail: strings.Join(why, ": "), Errno: errno(err)}
}

// kernelLog is what can be said where the kernel tells only its log.
const kernelLog = "the kernel's log (dmesg) has the reason"

// newMount makes a detached mount of a new file system instance. Options are "key=value" or flags.
func newMount(name string, attrs int, options ...string) (int, error) {
	c, err := openFS(name)
	if err != nil {
		return -1, err
	}
	defer c.close()
	for _, o := range options {
		if err := c.option(o); err != nil {
			return -1, err
		}
	}
	return c.mount(attrs)
}

// The mount attributes that everything but /dev's own nodes has, and those of pseudo file systems.
const (
	attrNoDev  = unix.MOUNT_ATTR_NODEV
	attrPseudo = unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
)

// cloneMount makes a detached copy of what is mounted at a path, or is open as dir when path is empty, with attributes set and
// cleared. flags may have AT_RECURSIVE and AT_SYMLINK_NOFOLLOW.
func cloneMount(dir int, path string, flags uint, set, clear uint64) (int, error) {
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dir, path, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	if err := setMountAttr(fd, flags&unix.AT_RECURSIVE, set, clear); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setMountAttr(fd int, flags uint, set, clear uint64) error {
	attr := unix.MountAttr{Attr_set: set, Attr_clr: clear}
	if err := unix.MountSetattr(fd, "", flags|unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// attach puts a detached mount onto an open directory or file.
func attach(mount, target int) error {
	err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// attachAt puts a detached mount onto a path that the caller made.
func attachAt(mount int, path string) error {
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount %s: %w", path, err)
	}
	return nil
}

// attachNewAt is attachAt for a mount that is not needed otherwise.
func attachNewAt(mount int, err error, path string) error {
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return attachAt(mount, path)
}

func errno(err error) unix.Errno {
	e, _ := err.(unix.Errno) //nolint:errorlint // straight from a system call
	return e
}
