package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is a node of the machine that a step may use.
type Device struct {
	Path         string // in the root, below /dev as a rule
	Block        bool
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     int
	Access       string // of "rwm"; less than both of r and w needs a filter of the step's cgroup
}

// deviceRule lets a step use devices. A number below zero is any.
type deviceRule struct {
	block        bool
	major, minor int64
	access       string // of "rwm"
}

// String is the rule as a line of version 1 (cgroup-v1/devices.rst).
func (r deviceRule) String() string {
	kind := "c"
	if r.block {
		kind = "b"
	}
	number := func(n int64) string {
		if n < 0 {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return kind + " " + number(r.major) + ":" + number(r.minor) + " " + r.access
}

func (d *Device) check() error {
	clean := filepath.Clean(d.Path)
	if !filepath.IsAbs(d.Path) || clean == "/" || clean == "/dev" || d.Access == "" || strings.Trim(d.Access, "rwm") != "" {
		return &SetupError{Op: "give device", Path: d.Path, Kind: ErrInvalid, Detail: fmt.Sprintf("path or access %q", d.Access)}
	}
	return nil
}

// deviceRules are all that a step with devices can use, in one order.
func deviceRules(list []Device) []deviceRule {
	if len(list) == 0 {
		return nil
	}
	const anyNumber = -1
	rules := []deviceRule{
		{false, anyNumber, anyNumber, "m"}, {true, anyNumber, anyNumber, "m"}, // any node may be made
		{false, 5, 2, "rwm"}, {false, 136, anyNumber, "rwm"}, // ptmx and pts
	}
	for _, d := range devices() {
		rules = append(rules, deviceRule{false, int64(d.major), int64(d.minor), "rwm"})
	}
	var own []deviceRule
	for i := range list {
		own = append(own, deviceRule{list[i].Block, int64(list[i].Major), int64(list[i].Minor), list[i].Access})
	}
	slices.SortFunc(own, func(a, b deviceRule) int { return strings.Compare(a.String(), b.String()) })
	return append(rules, slices.Compact(own)...)
}

// filtered says whether devices cannot be had without the filter.
func filtered(list []Device) bool {
	return slices.ContainsFunc(list, func(d Device) bool {
		return !strings.Contains(d.Access, "r") || !strings.Contains(d.Access, "w")
	})
}

// makeFilter makes the group of version 1 that lets exactly these devices through.
func makeFilter(dir string, rules []deviceRule) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "devices.deny"), []byte("a"), 0); err != nil {
		return err
	}
	for _, rule := range rules {
		if err := os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(rule.String()), 0); err != nil {
			return fmt.Errorf("%w: %s", err, rule)
		}
	}
	return nil
}

// deviceMounts makes nodes on a file system of their own and gives mounts of them: a node in a step's root or /dev would be of
// no use there.
func deviceMounts(list []Device) (mounts []stepMount, fds []int, err error) {
	if len(list) == 0 {
		return nil, nil, nil
	}
	tmp, err := newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "mode=0700")
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(tmp)
	// Attached on a thread of its own: before Linux 6.15 nothing is cloned of a mount that is attached nowhere.
	_, err = onPrivateThread(func() (int, error) {
		if err := attachAt(tmp, "/sys"); err != nil {
			return -1, setupError("attach nodes", "", err)
		}
		for i := range list {
			d := &list[i]
			fd, err := d.mount(tmp, strconv.Itoa(i))
			if err != nil {
				return -1, setupError("give device", d.Path, err)
			}
			fds = append(fds, fd)
			mounts = append(mounts, stepMount{Target: d.Path})
		}
		return -1, nil
	})
	return mounts, fds, err
}

func (d *Device) mount(tmp int, name string) (int, error) {
	kind := uint32(unix.S_IFCHR)
	if d.Block {
		kind = unix.S_IFBLK
	}
	if err := unix.Mknodat(tmp, name, kind|0o600, int(unix.Mkdev(d.Major, d.Minor))); err != nil {
		return -1, fmt.Errorf("mknod: %w", err)
	}
	if err := unix.Fchownat(tmp, name, d.UID, d.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmodat(tmp, name, d.Mode&0o777, 0); err != nil {
		return -1, fmt.Errorf("chmod: %w", err)
	}
	return cloneMount(tmp, name, 0, 0, 0)
}
