package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A step may give its /dev/null another mode, owner or time, so the nodes are its own: they are made on the scratch file system, and
// each is bound to its place, since a /dev on which nodes work would have those work that the step makes, too. A user namespace or a
// container around us may not make nodes. There the machine's are bound, read-only, which keeps their attributes and not what is
// written to them.

// makeNodes makes the nodes of /dev, or clones the machine's while they are in reach.
func (c *child) makeNodes(scratch int) (map[string]int, error) {
	for _, d := range devices() {
		err := unix.Mknodat(scratch, filepath.Join(scratchNodes[1:], d.name), unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
		if errors.Is(err, unix.EPERM) {
			return c.openDevices()
		}
		if err != nil {
			return nil, setupError("make device", d.name, err)
		}
	}
	return nil, nil
}

// openDevices clones the mounts of the machine's nodes.
func (c *child) openDevices() (map[string]int, error) {
	nodes := map[string]int{}
	for _, d := range devices() {
		path := "/dev/" + d.name
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil, setupError("read device", path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(d.major, d.minor) {
			return nil, &SetupError{Op: "read device", Path: path, Detail: fmt.Sprintf("not the character device %d:%d", d.major, d.minor)}
		}
		fd, err := cloneMount(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, attrNode|unix.MOUNT_ATTR_RDONLY, unix.MOUNT_ATTR_NODEV)
		if err != nil {
			return nil, setupError("bind device", path, err)
		}
		nodes[d.name] = c.hold(fd)
	}
	return nodes, nil
}

// attrNode are the attributes of the mount of a node.
const attrNode = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// placeNodes binds the machine's nodes, or without those the step's own.
func (c *child) placeNodes(nodes map[string]int) error {
	for _, d := range devices() {
		path := "/dev/" + d.name
		if err := makeFile(path, 0o666); err != nil {
			return err
		}
		fd, theirs := nodes[d.name]
		if !theirs {
			var err error
			if fd, err = cloneMount(unix.AT_FDCWD, filepath.Join(scratchNodes, d.name), 0, attrNode, unix.MOUNT_ATTR_NODEV); err != nil {
				return setupError("bind device", path, err)
			}
		}
		if err := c.place(fd, path); err != nil {
			return setupError("mount device", path, err)
		}
	}
	return nil
}
