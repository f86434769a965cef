package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const defaultHostname = "buildkitsandbox"

// The places in the scratch file system.
const (
	scratchRoot      = "/root"
	scratchFiles     = "/files"
	scratchEmptyFile = "/empty"
	scratchEmptyDir  = "/emptydir"
	scratchNodes     = "/nodes"
)

// maskedPaths are covered by something empty: what they say about the machine is not the step's business. readOnlyPaths change it.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// device is a node of /dev that every step has.
type device struct {
	name         string
	major, minor uint32
}

func devices() []device {
	return []device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

// prepare builds all of the step's world that does not depend on the step, on a scratch tmpfs that becomes the root: /proc,
// /sys and /dev as they will be moved into the step's own root. From here on nothing of the host's file systems is in reach.
func (c *child) prepare() error {
	unix.Umask(0)
	proc, err := c.takeProc()
	if err != nil {
		return err
	}
	c.userNS = inUserNS()
	if err := c.openOwn(); err != nil {
		return err
	}
	c.countLoops()
	groups, err := c.openCgroups()
	if err != nil {
		return err
	}
	// While the host's is in sight: a user namespace may show no more than that does.
	sys, err := c.openSys()
	if err != nil {
		return err
	}
	c.hold(sys)
	scratch, err := c.makeScratch()
	if err != nil {
		return err
	}
	nodes, err := c.makeNodes(scratch)
	if err != nil {
		return err
	}
	if err := c.moveToScratch(scratch); err != nil {
		return err
	}
	for _, build := range []func() error{
		func() error { return c.place(proc, "/proc") }, func() error { return c.place(sys, "/sys") },
		func() error { return c.mountCgroups(groups) }, func() error { return c.makeDev(nodes) }, c.maskPaths, c.setHostname(defaultHostname),
	} {
		if err := build(); err != nil {
			return err
		}
	}
	if !foreign(c.prep.Network) {
		if err := loopbackUp(); err != nil {
			return err
		}
		if err := c.prep.Link.setUp(); err != nil {
			return err
		}
	}
	return nil
}

// takeProc takes the procfs that the init has mounted over the host's, which is in sight again then.
func (c *child) takeProc() (int, error) {
	fd, err := cloneMount(unix.AT_FDCWD, "/proc", 0, attrPseudo, 0)
	if err != nil {
		return -1, setupError("mount proc", "", err)
	}
	return c.hold(fd), inContext("mount proc", unix.Unmount("/proc", unix.MNT_DETACH))
}

// openCgroups clones the cgroup directories of the step.
func (c *child) openCgroups() (map[string]int, error) {
	groups := map[string]int{}
	for _, g := range c.prep.Cgroups {
		fd, err := cloneMount(unix.AT_FDCWD, g.Path, 0, attrPseudo|c.readOnly(), 0)
		if err != nil {
			return nil, setupError("bind cgroup", g.Path, err)
		}
		groups[g.Name] = c.hold(fd)
	}
	return groups, nil
}

// makeScratch makes the file system that is the root until the step's own is.
func (c *child) makeScratch() (int, error) {
	tmp, err := newMount("tmpfs", attrPseudo, "mode=0755")
	if err != nil {
		return -1, err
	}
	return c.hold(tmp), inContextOf("make directory", scratchNodes, unix.Mkdirat(tmp, scratchNodes[1:], 0o755))
}

func (c *child) moveToScratch(tmp int) error {
	delete(c.held, tmp)
	// Any directory will do that is surely there; /proc is, since the init was started through it.
	if err := attachNewAt(tmp, nil, "/proc"); err != nil {
		return setupError("attach scratch", "", err)
	}
	if err := unix.Chdir("/proc"); err != nil {
		return setupError("enter scratch", "", err)
	}
	if err := pivotHere(); err != nil {
		return err
	}
	for _, dir := range []string{scratchRoot, scratchFiles, scratchEmptyDir, "/proc", "/sys", "/dev"} {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return setupError("make directory", dir, err)
		}
	}
	if err := makeFile(scratchEmptyFile, 0o444); err != nil {
		return err
	}
	var err error
	c.scratch, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return setupError("open scratch", "", err)
	}
	c.hold(c.scratch)
	return nil
}

// pivotHere makes the working directory the root and drops the old one with all that is mounted in it. Giving the same
// directory twice stacks the old root on the new (pivot_root(2), "pivot_root(".", ".")"), so nothing needs to be made for it.
func pivotHere() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return setupError("pivot_root", "", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return setupError("detach old root", "", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return setupError("enter root", "", err)
	}
	return nil
}

func makeFile(path string, mode uint32) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return setupError("make file", path, err)
	}
	return unix.Close(fd)
}

// readOnly is the attribute of mounts that only an insecure step may write to.
func (c *child) readOnly() uint64 {
	if c.prep.Privileges.Insecure {
		return 0
	}
	return unix.MOUNT_ATTR_RDONLY
}

// openSys makes a new sysfs, or where the network is not of this user namespace, and sysfs therefore refused, takes the host's.
func (c *child) openSys() (int, error) {
	fd, err := newMount("sysfs", attrPseudo|int(c.readOnly()))
	if errors.Is(err, unix.EPERM) && inUserNS() {
		fd, err = cloneMount(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, attrPseudo|c.readOnly(), 0)
	}
	return fd, inContext("mount sysfs", err)
}

// mountCgroups shows the step's cgroup directories: the unified one itself, or one directory per hierarchy of version 1.
func (c *child) mountCgroups(groups map[string]int) error {
	const dir = "/sys/fs/cgroup"
	if len(groups) == 0 {
		return nil
	}
	if fd, ok := groups[""]; ok {
		return inContext("mount cgroup", c.place(fd, dir))
	}
	tmp, err := newMount("tmpfs", attrPseudo, "mode=0755")
	if err != nil {
		return err
	}
	defer unix.Close(tmp)
	if err := attachAt(tmp, dir); err != nil {
		return setupError("mount cgroup", dir, err)
	}
	for name, fd := range groups {
		path := filepath.Join(dir, name)
		if err := unix.Mkdir(path, 0o755); err != nil {
			return setupError("make directory", path, err)
		}
		if err := c.place(fd, path); err != nil {
			return setupError("mount cgroup", path, err)
		}
	}
	return inContext("mount cgroup", setMountAttr(tmp, 0, c.readOnly(), 0))
}

func (c *child) makeDev(nodes map[string]int) error {
	attrs := unix.MOUNT_ATTR_NOSUID | attrNoDev
	if c.prep.Privileges.Insecure {
		attrs = unix.MOUNT_ATTR_NOSUID
	}
	fd, err := newMount("tmpfs", attrs, "mode=0755", "size=64m")
	if err := attachNewAt(fd, err, "/dev"); err != nil {
		return setupError("mount /dev", "", err)
	}
	if err := c.placeNodes(nodes); err != nil {
		return err
	}
	for link, target := range map[string]string{
		"/dev/ptmx": "pts/ptmx", "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := unix.Symlink(target, link); err != nil {
			return setupError("make link", link, err)
		}
	}
	for _, m := range []struct {
		path, fs string
		attrs    int
		options  []string
	}{
		{"/dev/pts", "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, c.ptsOptions()},
		{"/dev/shm", "tmpfs", attrPseudo, []string{"mode=1777", fmt.Sprintf("size=%d", defaultShm)}},
		{"/dev/mqueue", "mqueue", attrPseudo, nil},
	} {
		if err := unix.Mkdir(m.path, 0o755); err != nil {
			return setupError("make directory", m.path, err)
		}
		fd, err := newMount(m.fs, m.attrs, m.options...)
		if err := attachNewAt(fd, err, m.path); err != nil {
			return setupError("mount "+m.path, "", err)
		}
	}
	if c.prep.Privileges.Insecure {
		return c.makeInsecureDevices()
	}
	return nil
}

// ptsOptions give terminals to the group tty, where there is one.
func (c *child) ptsOptions() []string {
	options := []string{"newinstance", "ptmxmode=0666", "mode=0620"}
	if c.prep.OneID {
		return options
	}
	return append(options, "gid=5")
}

// maskPaths covers and write-protects parts of /proc and /sys, with things of our own: the image's /dev/null may be anything
// (CVE-2025-31133).
func (c *child) maskPaths() error {
	if c.prep.Privileges.Insecure {
		return nil
	}
	for _, path := range maskedPaths() {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			return setupError("mask", path, err)
		}
		empty := scratchEmptyFile
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			empty = scratchEmptyDir
		}
		fd, err := cloneMount(unix.AT_FDCWD, empty, 0, attrPseudo|unix.MOUNT_ATTR_RDONLY, 0)
		if err := attachNewAt(fd, err, path); err != nil {
			return setupError("mask", path, err)
		}
	}
	for _, path := range readOnlyPaths() {
		fd, err := cloneMount(unix.AT_FDCWD, path, unix.AT_RECURSIVE, attrPseudo|unix.MOUNT_ATTR_RDONLY, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err := attachNewAt(fd, err, path); err != nil {
			return setupError("write-protect", path, err)
		}
	}
	return nil
}

// openOwn opens what is needed of the host's /proc while that is in reach.
func (c *child) openOwn() error {
	const counts = "/proc/thread-self/net/dev"
	var err error
	if c.net, err = unix.Open(counts, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return setupError("open", counts, err)
	}
	c.hold(c.net)
	if c.caps, c.lastCap, err = heldCaps(); err != nil {
		return setupError("read capabilities", "", err)
	}
	if c.watch != nil {
		if err := c.watch.open(c); err != nil {
			return err
		}
	}
	data, err := readLine("/proc/self/oom_score_adj")
	if err != nil {
		return nil //nolint:nilerr // then commands keep the score that gobuild has
	}
	if own, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
		c.badness = strconv.Itoa(min(own+oomScoreAdj, 1000))
	}
	return nil
}

func (c *child) setHostname(name string) func() error {
	return func() error {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return setupError("set host name", name, err)
		}
		return nil
	}
}

// loopbackUp starts the only interface of a new network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return setupError("start loopback", "", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return setupError("start loopback", "", err)
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return setupError("start loopback", "", err)
	}
	return nil
}

func inContext(op string, err error) error {
	if err == nil {
		return nil
	}
	return setupError(op, "", err)
}
