package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	filemode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/retried"
	"gobuild/internal/rootfs"
	"gobuild/stages"
)

// copier writes what one COPY or ADD selects into a root file system (FEATURES B40-B54).
//
// Times: a directory that the copy makes or merges gets its source's time, one that it only writes into keeps its own.
// So the layer of a COPY depends on the files alone, not on when it ran.
type copier struct {
	ctx    context.Context //nolint:containedctx // a copier lives for one call
	dst    *rootfs.Root
	c      *stages.Copy
	owner  *owner
	mode   func(mode uint32, dir bool) uint32 // --chmod
	made   uint32                             // mode of directories that no source gives
	now    unix.Timespec                      // time of what has no source: heredocs
	stamps map[string]unix.Timespec           // times to set at the end, by canonical directory
	links  map[inode]string                   // where the first name of a file with several was written, of one source
	above  map[string]bool                    // directories that --parents has seen to, of one source

	dirPath string // directory that dir has open
	dir     *os.File
	files   *fileWriters // of the tree being walked
}

type owner struct{ uid, gid int }

type inode struct{ dev, ino uint64 }

func newCopier(ctx context.Context, dst *rootfs.Root, c *stages.Copy, epoch *time.Time, now time.Time) (*copier, error) {
	cp := &copier{
		ctx: ctx, dst: dst, c: c, made: 0o755, stamps: map[string]unix.Timespec{}, links: map[inode]string{}, above: map[string]bool{},
		mode: func(mode uint32, _ bool) uint32 { return mode },
	}
	if epoch != nil {
		now = *epoch
	}
	cp.now = unix.NsecToTimespec(now.UnixNano())
	if err := cp.setChmod(); err != nil {
		return nil, usage{fmt.Errorf("--chmod=%s: %w", c.Chmod, err)}
	}
	var err error
	cp.owner, err = ownerOf(dst, c)
	return cp, err
}

func (cp *copier) setChmod() error {
	spec := cp.c.Chmod
	if spec == "" {
		return nil
	}
	if octal, err := strconv.ParseUint(spec, 8, 32); err == nil {
		cp.made = uint32(octal) & 0o777 // BuildKit gives directories that it makes no special bits
		cp.mode = func(uint32, bool) uint32 { return uint32(octal) }
		return nil
	}
	set, err := filemode.ParseWithUmask(spec, 0)
	if err != nil {
		return err
	}
	cp.mode = func(mode uint32, dir bool) uint32 { return fromFileMode(set.Apply(toFileMode(mode, dir))) }
	return nil
}

func toFileMode(mode uint32, dir bool) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, to := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= to
		}
	}
	if dir {
		m |= fs.ModeDir
	}
	return m
}

func fromFileMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for to, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&to != 0 {
			mode |= bit
		}
	}
	return mode
}

// checkSeveral refuses several sources for one path: BuildKit lets the last win, its documentation wants a folder (B43).
func (cp *copier) checkSeveral(sel *buildcontext.Selection) error {
	n := len(cp.c.Files)
	for _, s := range sel.Sources {
		n += max(len(s.Matches), 1)
	}
	return cp.checkCount(n)
}

func (cp *copier) checkCount(n int) error {
	if n < 2 || cp.c.Parents || strings.HasSuffix(cp.c.Dest, "/") {
		return nil
	}
	if st, err := cp.dst.Stat(cp.c.Dest); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	return usage{&hinted{
		err:  fmt.Errorf("%d sources, but the destination %s is not a folder", n, cp.c.Dest),
		hint: "end the destination with a slash: " + cp.c.Dest + "/",
	}}
}

// begin starts a source: files stay linked to each other within one (B47), not from source to source, and with --parents
// the destination is made for the directories that were searched, whatever was found in them.
func (cp *copier) begin(source buildcontext.Source) error {
	clear(cp.links)
	clear(cp.above)
	for _, pivot := range source.Pivots {
		if _, err := cp.mergeInto(cp.c.Dest, pivot.Mtime); err != nil {
			return err
		}
	}
	return nil
}

// match copies one source, or what a wildcard found of it, to where it belongs.
func (cp *copier) match(ctx context.Context, tree *buildcontext.Tree, m buildcontext.Match) error {
	if cp.c.Parents {
		return cp.matchParents(ctx, tree, m)
	}
	clear(cp.links) // each match of a wildcard is a source of its own
	if m.Info.IsDir() {
		dir, err := cp.mergeInto(cp.c.Dest, m.Info.Mtime)
		if err != nil {
			return err
		}
		return cp.tree(ctx, tree, m, dir, true)
	}
	target, err := cp.fileTarget(m.Name, m.Info.Mtime)
	if err != nil {
		return err
	}
	return cp.tree(ctx, tree, m, target, false)
}

// matchParents keeps the path of the source below the destination (B52).
func (cp *copier) matchParents(ctx context.Context, tree *buildcontext.Tree, m buildcontext.Match) error {
	base, err := cp.folder(cp.c.Dest, cp.made, m.Info.Mtime)
	if err != nil {
		return err
	}
	err = tree.WalkParents(m, func(e buildcontext.Entry) error { return cp.parentEntry(e, path.Join(base, e.Rel)) })
	if err != nil {
		return err
	}
	return cp.tree(ctx, tree, m, path.Join(base, m.Parent, m.Name), false)
}

// parentEntry makes a directory above what --parents copies, with its source's metadata. One that exists takes the
// source's mode, and keeps its owner and time: only what is copied belongs to the copy.
func (cp *copier) parentEntry(e buildcontext.Entry, target string) error {
	if cp.above[target] {
		return nil
	}
	cp.above[target] = true
	st, err := cp.dst.Lstat(target)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return cp.entry(e, target)
	}
	dir, err := cp.dst.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Fchmod(int(dir.Fd()), e.Info.Mode&0o7777)
}

// tree copies a match and what is below it; a merged directory's own entry is left out.
func (cp *copier) tree(ctx context.Context, tree *buildcontext.Tree, m buildcontext.Match, target string, merge bool) error {
	cp.files = cp.startWriters()
	err := tree.Walk(ctx, m, cp.c.Excludes, func(e buildcontext.Entry) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if e.Rel == "" && merge {
			return nil
		}
		if err := cp.entry(e, path.Join(target, e.Rel)); err != nil {
			return fmt.Errorf("copy %s: %w", e.Path, err)
		}
		return nil
	})
	// The writers' error comes first: the walk may only have noticed that they failed.
	return cmp.Or(cp.files.stop(), err)
}

// archiveFolder is the mode of folders that are made for an archive to be unpacked in (B55).
const archiveFolder = 0o755

// mergeInto gives the canonical path of the directory that a directory's contents go to, made if missing (B45). It takes
// the source's time even if it existed.
func (cp *copier) mergeInto(dest string, mtime unix.Timespec) (string, error) {
	full, err := cp.folder(dest, cp.made, mtime)
	if err == nil {
		cp.stamps[full] = mtime
	}
	return full, err
}

// folder gives the canonical path of a directory, made if missing; mtime is for what is made.
func (cp *copier) folder(dest string, mode uint32, mtime unix.Timespec) (string, error) {
	full, err := cp.dst.Resolve(dest)
	if err != nil {
		return "", err
	}
	st, err := cp.dst.Lstat(full)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", usage{fmt.Errorf("the destination %s is not a folder, but the source is", dest)}
	}
	return full, cp.mkdirs(full, mode, mtime)
}

// fileTarget gives the canonical path that a file is copied to (B44).
func (cp *copier) fileTarget(name string, mtime unix.Timespec) (string, error) {
	full, err := cp.dst.Resolve(cp.c.Dest)
	if err != nil {
		return "", err
	}
	st, err := cp.dst.Lstat(full)
	exists := err == nil
	isDir := exists && st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case isDir:
		return path.Join(full, name), nil
	case strings.HasSuffix(cp.c.Dest, "/"):
		if exists {
			return "", usage{fmt.Errorf("the destination %s is not a folder", cp.c.Dest)}
		}
		return path.Join(full, name), cp.mkdirs(full, cp.made, mtime)
	}
	return full, cp.mkdirs(path.Dir(full), cp.made, mtime)
}

// mkdirs makes missing directories with the attributes of B46.
func (cp *copier) mkdirs(full string, mode uint32, mtime unix.Timespec) error {
	if _, ok := cp.stamps[full]; ok {
		return nil
	}
	st, err := cp.dst.Lstat(full)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	// The first existing parent keeps its time: it is written into.
	for at := path.Dir(full); ; at = path.Dir(at) {
		if st, err := cp.dst.Lstat(at); err == nil {
			cp.keep(at, st.Mtim)
			break
		}
		if at == "/" {
			break
		}
	}
	attr := rootfs.Attr{Mode: mode, GID: rootfs.AnyGroup}
	if cp.owner != nil {
		attr.UID, attr.GID = cp.owner.uid, cp.owner.gid
	}
	created, err := cp.dst.MkdirAll(full, attr)
	for _, d := range created {
		cp.stamps[d] = mtime
	}
	if errors.Is(err, unix.ENOTDIR) {
		return usage{fmt.Errorf("make folder %s: something on the way is not a folder", full)}
	}
	return err
}

// keep remembers a directory's time from before it was written into.
func (cp *copier) keep(dir string, mtime unix.Timespec) {
	if _, ok := cp.stamps[dir]; !ok {
		cp.stamps[dir] = mtime
	}
}

// parent opens the directory that holds a target; the last one stays open, since a walk stays in a directory for long.
func (cp *copier) parent(target string) (fd int, name string, err error) {
	dir := path.Dir(target)
	if cp.dir == nil || cp.dirPath != dir {
		if err := cp.openDir(dir); err != nil {
			return -1, "", err
		}
	}
	return int(cp.dir.Fd()), path.Base(target), nil
}

func (cp *copier) openDir(dir string) error {
	if cp.dir != nil {
		_ = cp.dir.Close() // read only
		cp.dir = nil
	}
	f, err := cp.dst.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		// Excludes may bring back a file whose directory they took.
		if err := cp.mkdirs(dir, cp.made, cp.now); err != nil {
			return err
		}
		f, err = cp.dst.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return err
	}
	cp.keep(dir, st.Mtim)
	cp.dir, cp.dirPath = f, dir
	return nil
}

// finish sets the times of directories, which every write into them had changed.
func (cp *copier) finish() error {
	if cp.dir != nil {
		defer cp.dir.Close()
	}
	for dir, mtime := range cp.stamps {
		f, err := cp.dst.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("set time of %s: %w", dir, err)
		}
		err = unix.UtimesNanoAt(int(f.Fd()), ".", times(mtime), 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("set time of %s: %w", dir, err)
		}
	}
	return nil
}

func times(mtime unix.Timespec) []unix.Timespec {
	return []unix.Timespec{mtime, mtime} // the access time is in no layer; a fixed one spares a difference between machines
}

// entry copies one thing of any kind.
func (cp *copier) entry(e buildcontext.Entry, target string) error {
	fd, name, err := cp.parent(target)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, ".wh.") {
		return usage{fmt.Errorf("a name that starts with .wh. cannot be stored in a layer, where it would mean a deletion")}
	}
	switch e.Info.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return cp.dirEntry(e, fd, name, target)
	case unix.S_IFREG:
		return cp.fileEntry(e, name, target)
	case unix.S_IFLNK:
		return cp.replacing(fd, name, func() error { return unix.Symlinkat(e.Link, fd, name) }, func() error { return cp.attributes(e, fd, name) })
	}
	mode := e.Info.Mode&unix.S_IFMT | 0o600
	return cp.replacing(fd, name, func() error { return unix.Mknodat(fd, name, mode, int(e.Info.Rdev)) }, func() error { return cp.attributes(e, fd, name) })
}

// replacing makes an object, removing another of that name first (B44: a new inode; a link is itself replaced).
func (cp *copier) replacing(fd int, name string, create, finish func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(fd, name, 0); err != nil {
			if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
				return usage{fmt.Errorf("%s is a folder in the image, and cannot be replaced by something else", path.Join(cp.dirPath, name))}
			}
			return err
		}
		err = create()
	}
	if err != nil {
		return err
	}
	return finish()
}

func (cp *copier) dirEntry(e buildcontext.Entry, fd int, name, target string) error {
	if err := unix.Mkdirat(fd, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	child, err := retried.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return usage{fmt.Errorf("%s is not a folder in the image, but the source is", target)}
	}
	if err != nil {
		return err
	}
	defer unix.Close(child)
	uid, gid := cp.ids(e.Info)
	if err := cp.dst.Owners().Set(child, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(child, cp.mode(e.Info.Mode&0o7777, true)); err != nil {
		return err
	}
	cp.stamps[target] = e.Info.Mtime
	return cp.xattrs(e, child)
}

func (cp *copier) ids(i buildcontext.Info) (uid, gid int) {
	if cp.owner != nil {
		return cp.owner.uid, cp.owner.gid
	}
	return int(i.UID), int(i.GID)
}

// attributes sets owner, mode and time of a link or node by name, never following it.
func (cp *copier) attributes(e buildcontext.Entry, fd int, name string) error {
	uid, gid := cp.ids(e.Info)
	if err := cp.dst.Owners().SetAt(fd, name, uid, gid); err != nil {
		return err
	}
	if e.Info.Mode&unix.S_IFMT != unix.S_IFLNK {
		// Just made by this process in a tree that nobody else writes: no link can be in its place.
		if err := unix.Fchmodat(fd, name, cp.mode(e.Info.Mode&0o7777, false), 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(fd, name, times(e.Info.Mtime), unix.AT_SYMLINK_NOFOLLOW)
}

func (cp *copier) link(first string, fd int, name string) error {
	from, old, err := cp.dst.Parent(first)
	if err != nil {
		return err
	}
	defer from.Close()
	return cp.replacing(fd, name, func() error { return unix.Linkat(int(from.Fd()), old, fd, name, 0) }, func() error { return nil })
}

// pour copies bytes; small files, which are most, in one read and one write.
func pour(ctx context.Context, out, in int, size int64, buf []byte) error {
	if size > int64(len(buf)) {
		copied, err := copyRange(ctx, out, in, size)
		if err != nil || copied == size {
			return err
		}
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := unix.Read(in, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if err := writeAll(out, buf[:n]); err != nil {
			return err
		}
		if n < len(buf) && size < int64(len(buf)) {
			return nil // CheckUnchanged finds a file that grew
		}
	}
}

// copyRange lets the kernel copy (or share, where the file system can) what it can; the rest is the caller's.
func copyRange(ctx context.Context, out, in int, size int64) (int64, error) {
	var done int64
	for done < size {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		n, err := unix.CopyFileRange(in, nil, out, nil, int(min(size-done, 64<<20)), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			if done == 0 && (errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
				return 0, nil
			}
			return done, err
		}
		if n == 0 {
			break
		}
		done += int64(n)
	}
	return done, nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		b = b[n:]
	}
	return nil
}

func futimens(fd int, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(fd, "", times(mtime), unix.AT_EMPTY_PATH)
}

// xattrs copies what a layer may carry from a directory; see copyXattrs.
func (cp *copier) xattrs(e buildcontext.Entry, fd int) error {
	all, err := e.Xattrs()
	if err != nil {
		return err
	}
	return setXattrs(all, fd)
}

// inline writes one heredoc (FEATURES A17).
func (cp *copier) inline(f stages.Inline) error {
	target, err := cp.fileTarget(f.Name, cp.now)
	if err != nil {
		return err
	}
	fd, name, err := cp.parent(target)
	if err != nil {
		return err
	}
	uid, gid := 0, 0
	if cp.owner != nil {
		uid, gid = cp.owner.uid, cp.owner.gid
	}
	return cp.create(fd, name, func(out int) error {
		return errors.Join(writeAll(out, []byte(f.Data)), cp.dst.Owners().Set(out, uid, gid), unix.Fchmod(out, cp.mode(0o644, false)), futimens(out, cp.now))
	})
}
