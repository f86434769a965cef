package owners

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Claim gives what was made in an upper directory of an overlay the owner of who made it, where nothing else was recorded: the group
// is that of the directory where that has the setgid bit, as for open(2) and mkdir(2). What the overlay copied up is not new. The
// tree must be at rest; of its directories one is open at a time, so it may be of any depth. It closes dir.
func Claim(dir *os.File, o Owner) error {
	c := &claim{owner: o, at: dir}
	defer func() { _ = c.at.Close() }() // attributes alone are written through it
	if err := c.enter(); err != nil {
		return err
	}
	for len(c.above) > 0 {
		top := &c.above[len(c.above)-1]
		if len(top.names) == 0 {
			if err := c.leave(); err != nil {
				return err
			}
			continue
		}
		name := top.names[0]
		top.names = top.names[1:]
		if err := c.one(name, top.in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

type claim struct {
	owner Owner
	at    *os.File
	above []claimLevel // directories from the first to the one that is open
}

type claimLevel struct {
	names []string // still to be seen
	in    Owner    // of what is made there
}

// enter looks at the directory that is open now.
func (c *claim) enter() error {
	level := claimLevel{in: c.owner}
	var st unix.Stat_t
	fd := int(c.at.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID != 0 {
		own, err := Of(fd)
		if err != nil {
			return err
		}
		level.in.GID = own.GID
	}
	var err error
	level.names, err = c.at.Readdirnames(-1)
	c.above = append(c.above, level)
	return err
}

func (c *claim) leave() error {
	c.above = c.above[:len(c.above)-1]
	if len(c.above) == 0 {
		return nil
	}
	return c.open("..")
}

func (c *claim) open(name string) error {
	fd, err := openAt(int(c.at.Fd()), name)
	if err != nil {
		return err
	}
	_ = c.at.Close()
	c.at = os.NewFile(uintptr(fd), name)
	return nil
}

// one sees to a name in the open directory, and enters it if that is a directory.
func (c *claim) one(name string, in Owner) error {
	dir := int(c.at.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFCHR && st.Rdev == 0, kind == unix.S_IFSOCK: // a deletion; what is in no layer
		return nil
	case kind == unix.S_IFDIR:
		if err := c.open(name); err != nil {
			return err
		}
		return errors.Join(claimFile(int(c.at.Fd()), in), c.enter())
	case in == Owner{}:
		return nil
	case kind == unix.S_IFREG:
		fd, err := openAt(dir, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return claimFile(fd, in)
	}
	known, err := OfLink(dir, name)
	if err != nil || known != (Owner{}) {
		return err
	}
	return RecordLink(dir, name, in)
}

func claimFile(fd int, o Owner) error {
	if o == (Owner{}) {
		return nil
	}
	var list [maxNames]byte
	n, err := unix.Flistxattr(fd, list[:])
	if err != nil {
		return err
	}
	names := strings.Split(string(list[:n]), "\x00")
	if slices.Contains(names, ownAttr) || slices.Contains(names, "user.overlay.origin") || slices.Contains(names, "trusted.overlay.origin") {
		return nil
	}
	return Record(fd, o)
}
