package buildcontext

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what stat says of an entry, with the owner that a copy of it gets.
type Info struct {
	Mode     uint32 // st_mode, type included
	UID, GID uint32 // 0:0 unless Options.Owner
	Size     int64
	Mtime    unix.Timespec
	Rdev     uint64 // of device nodes
	Ino, Dev uint64
	Nlink    uint64

	ctime unix.Timespec
}

// describe is info of what has a name in an open directory, with its owner where one is recorded.
func (t *Tree) describe(dir int, name string, st *unix.Stat_t) (Info, error) {
	if t.opt.Owner {
		if err := t.root.Owners().FixAt(dir, name, st); err != nil {
			return Info{}, fmt.Errorf("read owner of %s: %w", name, err)
		}
	}
	return t.info(st), nil
}

func (t *Tree) info(st *unix.Stat_t) Info {
	i := Info{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, Mtime: st.Mtim,
		Rdev: st.Rdev, Ino: st.Ino, Dev: st.Dev, Nlink: uint64(st.Nlink), //nolint:unconvert // uint32 on arm64
		ctime: st.Ctim,
	}
	if !t.opt.Owner {
		i.UID, i.GID = 0, 0
	}
	return i
}

// IsDir says whether the entry is a directory.
func (i Info) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular says whether the entry is a regular file.
func (i Info) IsRegular() bool { return i.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink says whether the entry is a symbolic link.
func (i Info) IsSymlink() bool { return i.Mode&unix.S_IFMT == unix.S_IFLNK }

func (i Info) isSocket() bool { return i.Mode&unix.S_IFMT == unix.S_IFSOCK }

// leadsToOthers says whether another process may be at the other end.
func (i Info) leadsToOthers() bool { return i.isSocket() || i.Mode&unix.S_IFMT == unix.S_IFIFO }

func asTime(ts unix.Timespec) time.Time { return time.Unix(ts.Sec, ts.Nsec) }
