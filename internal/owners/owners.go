package owners

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Prefix begins the names of the attributes that have records.
const Prefix = "user.gobuild."

const (
	ownAttr   = Prefix + "owner"  // of a file or directory: "uid:gid"
	linksAttr = Prefix + "owners" // of a directory: what is in it and takes no attribute itself
)

// Keeper sets and reads owners. The zero value is the kernel itself.
type Keeper struct{ recorded bool }

// Recorded is a Keeper that writes owners down.
func Recorded() Keeper { return Keeper{recorded: true} }

// Records says whether owners are written down.
func (k Keeper) Records() bool { return k.recorded }

// Owner is a user and a group.
type Owner struct{ UID, GID uint32 }

func (o Owner) String() string {
	return strconv.FormatUint(uint64(o.UID), 10) + ":" + strconv.FormatUint(uint64(o.GID), 10)
}

var errRecord = errors.New("its recorded owner makes no sense")

func parse(text string) (Owner, error) {
	u, g, ok := strings.Cut(text, ":")
	uid, err1 := strconv.ParseUint(u, 10, 32)
	gid, err2 := strconv.ParseUint(g, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return Owner{}, fmt.Errorf("%w: %.40q", errRecord, text)
	}
	return Owner{uint32(uid), uint32(gid)}, nil
}

// Set gives an open file or directory its owner.
func (k Keeper) Set(fd, uid, gid int) error {
	if !k.recorded {
		return unix.Fchown(fd, uid, gid)
	}
	if uid == 0 && gid == 0 {
		err := unix.Fremovexattr(fd, ownAttr)
		if none(err) {
			return nil
		}
		return err
	}
	return Record(fd, Owner{uint32(uid), uint32(gid)})
}

// Record writes down the owner of an open file or directory, also if that is root: then nobody else claims it.
func Record(fd int, o Owner) error { return unix.Fsetxattr(fd, ownAttr, []byte(o.String()), 0) }

// SetAt is Set for what has a name in an open directory, and follows no link.
func (k Keeper) SetAt(dir int, name string, uid, gid int) error {
	if !k.recorded {
		return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !takesAttributes(st.Mode) {
		return RecordLink(dir, name, Owner{uint32(uid), uint32(gid)})
	}
	fd, err := openAt(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return k.Set(fd, uid, gid)
}

func openAt(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

func takesAttributes(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG || mode&unix.S_IFMT == unix.S_IFDIR
}

// Fix puts the owner of an open file or directory into what stat says of it.
func (k Keeper) Fix(fd int, st *unix.Stat_t) error {
	if !k.recorded {
		return nil
	}
	o, err := Of(fd)
	st.Uid, st.Gid = o.UID, o.GID
	return err
}

// FixAt is Fix for what has a name in an open directory.
func (k Keeper) FixAt(dir int, name string, st *unix.Stat_t) error {
	if !k.recorded {
		return nil
	}
	o, err := ofName(dir, name, st.Mode)
	st.Uid, st.Gid = o.UID, o.GID
	return err
}

func ofName(dir int, name string, mode uint32) (Owner, error) {
	if !takesAttributes(mode) {
		return OfLink(dir, name)
	}
	var buf [64]byte
	n, err := unix.Lgetxattr("/proc/self/fd/"+strconv.Itoa(dir)+"/"+name, ownAttr, buf[:])
	return read(buf[:], n, err)
}

// Of is the recorded owner of an open file or directory, root where none is.
func Of(fd int) (Owner, error) {
	var buf [64]byte
	n, err := unix.Fgetxattr(fd, ownAttr, buf[:])
	return read(buf[:], n, err)
}

func read(buf []byte, n int, err error) (Owner, error) {
	switch {
	case none(err):
		return Owner{}, nil
	case errors.Is(err, unix.ERANGE):
		return Owner{}, errRecord
	case err != nil:
		return Owner{}, err
	}
	return parse(string(buf[:n]))
}

// none says that there is no record: or none can be, as on procfs.
func none(err error) bool { return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) }
