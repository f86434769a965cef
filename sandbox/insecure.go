package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The nodes that an insecure step has beside those of every step. They are made whether or not the machine has them: opening
// one may load its driver.
const (
	loopMajor = 7
	// moreLoops are beyond the first that is free, for steps that use several.
	moreLoops = 7
	// maxLoops bounds what a machine with very many loop devices shows of them.
	maxLoops = 256
)

func insecureDevices() []device {
	return []device{{"kmsg", 1, 11}, {"cuse", 10, 203}, {"fuse", 10, 229}, {"kvm", 10, 232}, {"net/tun", 10, 200}, {"loop-control", 10, 237}}
}

// countLoops asks the machine for its first free loop device, while that can be asked.
func (c *child) countLoops() {
	if !c.prep.Privileges.Insecure {
		return
	}
	c.loops = moreLoops
	fd, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return // no such driver, or none for us
	}
	defer unix.Close(fd)
	if free, err := unix.IoctlRetInt(fd, unix.LOOP_CTL_GET_FREE); err == nil {
		c.loops = min(free+moreLoops, maxLoops)
	}
}

// makeInsecureDevices fills /dev. A container around us may forbid it to make nodes: what is missing then is said.
func (c *child) makeInsecureDevices() error {
	if err := unix.Mkdir("/dev/net", 0o755); err != nil {
		return setupError("make directory", "/dev/net", err)
	}
	var refused error
	node := func(name string, mode uint32, major, minor uint32) error {
		path := filepath.Join("/dev", name)
		err := unix.Mknod(path, mode, int(unix.Mkdev(major, minor)))
		if errors.Is(err, unix.EPERM) {
			refused = err
			return nil
		}
		return inContextOf("make device", path, err)
	}
	for _, d := range insecureDevices() {
		if err := node(d.name, unix.S_IFCHR|0o666, d.major, d.minor); err != nil {
			return err
		}
	}
	for i := range c.loops + 1 {
		if err := node(fmt.Sprintf("loop%d", i), unix.S_IFBLK|0o660, loopMajor, uint32(i)); err != nil {
			return err
		}
	}
	if refused != nil {
		c.notices = append(c.notices, fmt.Sprintf("devices could not be made for an insecure step: %v", refused))
	}
	return nil
}
