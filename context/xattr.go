package buildcontext

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
)

// keptXattr says which attributes belong to a file's content (C7, I6): all but
// those of the machine it lies on. Of "security." only file capabilities are
// a property of the file; labels of SELinux or IMA are the host's policy.
// "overlay." attributes and gobuild's own would steer the overlay that the copy ends up in.
func keptXattr(name string) bool {
	switch {
	case name == "security.capability":
		return true
	case strings.HasPrefix(name, "security."), strings.HasPrefix(name, "system."),
		strings.HasPrefix(name, "com.apple."), strings.HasPrefix(name, "user.com.apple."),
		strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."),
		strings.HasPrefix(name, owners.Prefix):
		return false
	}
	return true
}

// readXattrs reads the kept attributes of dir/name without following a link.
// There is no lgetxattrat before Linux 6.13; the path through the descriptor is
// resolved by the kernel to that very directory.
func readXattrs(dir int, name, shown string) (map[string][]byte, error) {
	p := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
	var stack [512]byte
	list := stack[:]
	n, err := unix.Llistxattr(p, list)
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, maxXattrList)
		n, err = unix.Llistxattr(p, list)
	}
	switch {
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM) && n <= 0:
		return nil, nil
	case errors.Is(err, unix.ENOENT):
		var st unix.Stat_t
		if lstatat(dir, name, &st) == nil {
			return nil, fmt.Errorf("list xattrs of %s: /proc is not mounted: %w", shown, err)
		}
		return nil, fmt.Errorf("%s: %w", shown, ErrChanged)
	case err != nil:
		return nil, &fs.PathError{Op: "list xattrs of", Path: shown, Err: err}
	case n == 0:
		return nil, nil
	}
	var out map[string][]byte
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !keptXattr(key) {
			continue
		}
		value, err := readXattr(p, key)
		if errors.Is(err, unix.ENODATA) {
			return nil, fmt.Errorf("%s: %w", shown, ErrChanged)
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read xattr " + key + " of", Path: shown, Err: err}
		}
		if out == nil {
			out = map[string][]byte{}
		}
		out[key] = value
	}
	return out, nil
}

func readXattr(p, key string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(p, key, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxXattrValue)
		n, err = unix.Lgetxattr(p, key, buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n:n], nil
}
