package sandbox

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// endWriting ends all writing to the root. The step's processes are dead, but a descriptor outlives them where it was sent through a socket
// that others can reach, in a cache mount that steps share for example: through one of a directory a layer would change after it has
// been recorded. So the mount becomes read-only for whoever has it, and is refused for that while a file is open for writing. What
// is still to be removed goes by a mount of our own.
//
// A step that may mount can have taken its root out of the namespace, where the kernel refuses all of that (EINVAL), and an insecure
// one may leave a file open in the kernel, as a loop device: such steps are not kept from changing their layers later.
func (c *child) endWriting() error {
	r := c.root
	if len(r.stubs) > 0 {
		if err := r.takeOwnMount(); err != nil && !errors.Is(err, unix.EINVAL) {
			return setupError("clone root", "", err)
		}
	}
	deadline := time.Now().Add(maxSettle)
	for {
		err := setMountAttr(r.mount, 0, unix.MOUNT_ATTR_RDONLY, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY) && c.prep.Privileges.Insecure {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return inContext("make root read-only", err)
		}
		if time.Now().After(deadline) {
			return &SetupError{Op: "end step", Kind: ErrOpenFiles}
		}
		time.Sleep(time.Millisecond) // the kernel closes what was on its way through a socket after its processes have ended
	}
}

// takeOwnMount has the tree reached by a mount that nobody else has, and that can be written to.
func (r *stepRoot) takeOwnMount() error {
	mount, err := cloneMount(r.mount, "", 0, 0, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = r.tree.Close() // read only
	r.tree = rootfs.New(os.NewFile(uintptr(fd), "/"))
	return nil
}
