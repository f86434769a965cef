package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
)

const (
	capabilityXattr = "security.capability"
	// archive/tar hands attributes out, and takes them, under this prefix.
	paxXattr = "SCHILY.xattr."
)

// Both spellings of the attributes that overlayfs keeps its own notes in
// (overlayfs.rst, "userxattr": user.overlay.* replaces trusted.overlay.* in a
// user namespace).
var overlayPrefixes = [...]string{"trusted.overlay.", "user.overlay."}

// isOverlayXattr is also for the notes that gobuild itself keeps.
func isOverlayXattr(name string) bool {
	for _, prefix := range overlayPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasPrefix(name, owners.Prefix)
}

// noXattr says that an error means "there is none", not "it cannot be read".
func noXattr(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP)
}

// getXattr reads one attribute of an open file; nil when there is none.
func getXattr(fd int, name string) ([]byte, error) {
	// A capability has 12 to 24 bytes: one call with a small buffer settles
	// nearly every file.
	var small [64]byte
	n, err := unix.Fgetxattr(fd, name, small[:])
	if err == nil {
		return bytes.Clone(small[:n]), nil
	}
	if noXattr(err) {
		return nil, nil
	}
	if !errors.Is(err, unix.ERANGE) {
		return nil, fmt.Errorf("read attribute %s: %w", name, err)
	}
	big := make([]byte, maxXattr)
	n, err = unix.Fgetxattr(fd, name, big)
	if err != nil {
		return nil, fmt.Errorf("read attribute %s: %w", name, err)
	}
	return bytes.Clone(big[:n]), nil
}

// storedXattrs returns the attributes of an open file that a layer carries, as
// PAX records; nil when there are none.
func storedXattrs(fd int, regular, user bool) (map[string]string, error) {
	var found map[string]string
	add := func(name string) error {
		value, err := getXattr(fd, name)
		if err != nil || value == nil {
			return err
		}
		if found == nil {
			found = map[string]string{}
		}
		found[paxXattr+name] = string(value)
		return nil
	}
	if regular {
		if err := add(capabilityXattr); err != nil {
			return nil, err
		}
	}
	if !user {
		return found, nil
	}
	names, err := userXattrs(fd)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// userXattrs lists the user.* attributes of an open file.
func userXattrs(fd int) ([]string, error) {
	list := make([]byte, maxXattr)
	n, err := unix.Flistxattr(fd, list)
	if noXattr(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	var names []string
	for _, name := range strings.Split(string(list[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") || isOverlayXattr(name) {
			continue
		}
		if strings.Contains(name, "=") {
			// PAX ends the keyword at the first "=".
			return nil, fmt.Errorf("attribute %q cannot be stored in a layer", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// isOpaque says that a directory of an upper hides what the lower layers have
// under its name.
func isOpaque(fd int) (bool, error) {
	for _, prefix := range overlayPrefixes {
		value, err := getXattr(fd, prefix+"opaque")
		if err != nil {
			return false, err
		}
		if string(value) == "y" {
			return true, nil
		}
	}
	return false, nil
}
