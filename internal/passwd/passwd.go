package passwd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

var (
	// ErrUnknown says that a user or group name has no entry.
	ErrUnknown = errors.New("no such user or group")
	// ErrInvalid says that a number is out of range or written in another form than plain decimal, or that the entry
	// found has such a number.
	ErrInvalid = errors.New("invalid user or group number")
	// ErrTooLarge says that a file or one of its lines is longer than the package reads.
	ErrTooLarge = errors.New("file too large")
)

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// User is an identity that a process can take.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups, sorted, GID among them
	Home     string   // from passwd by uid; "/" without an entry
	Name     string   // from passwd; "" without an entry
}

// Lookup resolves "", "user", "uid", "user:group" in any mix of names and numbers, as the USER instruction means them. Empty
// is user 0 with the groups that the files give it, none where they cannot be read. Two numbers are taken as they are. A name, or a number alone, gets its primary and supplementary groups from the
// files, and a number that has no entry gets group 0. An explicit group replaces both.
//
// Errors wrap ErrUnknown, ErrInvalid, ErrTooLarge or rootfs.ErrNotRegular.
func Lookup(root *rootfs.Root, spec string) (User, error) {
	user, group, _ := strings.Cut(spec, ":")
	uid, numeric, err := number(user)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	u := User{UID: uid, Home: "/"}
	switch {
	case spec == "":
		u.fillRoot(root)
	case user == "", numeric && isNumber(group):
		u.identify(root)
	case numeric:
		err = u.fill(root, func(e entry) bool { return e.uidIs(uid) }, false)
	default:
		err = u.fill(root, func(e entry) bool { return e.name == user }, true)
	}
	if err == nil && group != "" {
		u.Groups = nil
		u.GID, err = lookupGroup(root, group)
	}
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	u.Groups = append(u.Groups, u.GID)
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u, nil
}

// identify fills in the name and home of a uid where there is an entry. They decide nothing but HOME, so a passwd file that
// cannot be read is no error here.
func (u *User) identify(root *rootfs.Root) {
	e, found, err := find(root, passwdFile, func(e entry) bool { return e.uidIs(u.UID) })
	if err == nil && found {
		u.Name, u.Home = e.name, e.home()
	}
}

// fillRoot makes the user 0 that runs what no USER stands before: as "0", but files that cannot be read are no error.
func (u *User) fillRoot(root *rootfs.Root) {
	full := *u
	if err := full.fill(root, func(e entry) bool { return e.uidIs(0) }, false); err == nil {
		*u = full
		return
	}
	u.identify(root)
}

// fill takes a whole identity from the first passwd entry that matches.
func (u *User) fill(root *rootfs.Root, match func(entry) bool, required bool) error {
	e, found, err := find(root, passwdFile, match)
	if err != nil {
		return err
	}
	if !found {
		if required {
			return fmt.Errorf("%w in %s", ErrUnknown, passwdFile)
		}
		return nil
	}
	if u.UID, err = e.number(2); err != nil {
		return err
	}
	if u.GID, err = e.number(3); err != nil {
		return err
	}
	u.Name, u.Home = e.name, e.home()
	u.Groups, err = memberships(root, e.name)
	return err
}

// memberships lists the groups that name the user as a member.
func memberships(root *rootfs.Root, name string) ([]uint32, error) {
	var gids []uint32
	err := scan(root, groupFile, func(e entry) (bool, error) {
		if len(e.fields) < 4 || !slices.Contains(strings.Split(e.fields[3], ","), name) {
			return true, nil
		}
		gid, err := e.number(2)
		if err != nil {
			return false, err
		}
		if len(gids) == maxGroups-1 {
			return false, fmt.Errorf("more than %d groups in %s: %w", maxGroups, groupFile, ErrTooLarge)
		}
		gids = append(gids, gid)
		return true, nil
	})
	return gids, err
}

// Owner resolves the value of --chown: "user", "uid", "user:group". A number alone is user and group both, a name alone brings
// its primary group. root may be nil where there is no file system: then only numbers and "root", which is 0, are known.
//
// Errors wrap ErrUnknown, ErrInvalid, ErrTooLarge or rootfs.ErrNotRegular.
func Owner(root *rootfs.Root, spec string) (uid, gid uint32, err error) {
	user, group, _ := strings.Cut(spec, ":")
	uid, gid, err = ownerUser(root, user)
	if err == nil && group != "" {
		gid, err = ownerGroup(root, group)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("owner %q: %w", spec, err)
	}
	return uid, gid, nil
}

func ownerUser(root *rootfs.Root, user string) (uid, gid uint32, err error) {
	if user == "" {
		return 0, 0, nil
	}
	id, numeric, err := number(user)
	if err != nil || numeric {
		return id, id, err
	}
	var u User
	err = u.fill(root, func(e entry) bool { return e.name == user }, true)
	if errors.Is(err, ErrUnknown) && user == "root" {
		return 0, 0, nil
	}
	return u.UID, u.GID, err
}

func ownerGroup(root *rootfs.Root, group string) (uint32, error) {
	gid, err := lookupGroup(root, group)
	if errors.Is(err, ErrUnknown) && group == "root" {
		return 0, nil
	}
	return gid, err
}

func lookupGroup(root *rootfs.Root, group string) (uint32, error) {
	gid, numeric, err := number(group)
	if err != nil || numeric {
		return gid, err
	}
	e, found, err := find(root, groupFile, func(e entry) bool { return e.name == group })
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("group %q: %w in %s", group, ErrUnknown, groupFile)
	}
	return e.number(2)
}

// number parses what is written as a number. Signs, prefixes and values out of range are errors rather than names: a passwd
// file may well have a user called "4294967296" or "-1" with uid 0.
func number(s string) (id uint32, numeric bool, err error) {
	if plain, err := strconv.ParseUint(s, 10, 32); err == nil && plain <= maxID && s[0] != '+' {
		return uint32(plain), true, nil
	}
	_, err = strconv.ParseInt(s, 0, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return 0, false, fmt.Errorf("%w: %s is not a decimal number from 0 to %d", ErrInvalid, s, maxID)
	}
	return 0, false, nil
}

func isNumber(s string) bool {
	_, numeric, _ := number(s)
	return numeric
}

// entry is one line of passwd or group.
type entry struct {
	file   string
	name   string
	fields []string // name included
}

func (e entry) number(field int) (uint32, error) {
	if field < len(e.fields) {
		if id, numeric, err := number(e.fields[field]); err == nil && numeric {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%w in the entry of %q in %s", ErrInvalid, e.name, e.file)
}

func (e entry) uidIs(uid uint32) bool {
	id, err := e.number(2)
	return err == nil && id == uid
}

func (e entry) home() string {
	if len(e.fields) > 5 && strings.HasPrefix(e.fields[5], "/") {
		return e.fields[5]
	}
	return "/"
}

func find(root *rootfs.Root, file string, match func(entry) bool) (e entry, found bool, err error) {
	err = scan(root, file, func(candidate entry) (bool, error) {
		if match(candidate) {
			e, found = candidate, true
		}
		return !found, nil
	})
	return e, found, err
}

// scan calls each for the entries of a file until it returns false. A file that does not exist has no entries.
func scan(root *rootfs.Root, file string, each func(entry) (bool, error)) error {
	if root == nil {
		return nil
	}
	f, st, err := root.OpenRegular(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	if st.Size > maxFile {
		return fmt.Errorf("read %s: %w: %d bytes, %d are read", file, ErrTooLarge, st.Size, maxFile)
	}
	// The size may change while it is read.
	lines := bufio.NewScanner(io.LimitReader(f, maxFile))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		e, ok := parse(file, lines.Text())
		if !ok {
			continue
		}
		if more, err := each(e); err != nil || !more {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("read %s: %w: a line of more than %d bytes", file, ErrTooLarge, maxLine)
	}
	if lines.Err() != nil {
		return fmt.Errorf("read %s: %w", file, lines.Err())
	}
	return nil
}

// parse splits a line; comments, blanks and the "+" and "-" lines of NIS (nsswitch.conf(5)) name nobody.
func parse(file, line string) (entry, bool) {
	line = strings.TrimSpace(line)
	if line == "" || strings.ContainsRune("#+-", rune(line[0])) {
		return entry{}, false
	}
	fields := strings.Split(line, ":")
	return entry{file: file, name: fields[0], fields: fields}, fields[0] != ""
}
