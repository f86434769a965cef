package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attr is what an entry says about its object, checked.
type attr struct {
	mode   uint32
	uid    int
	gid    int
	mtime  int64
	device int
	xattrs []xattr
}

type xattr struct{ name, value string }

// attrOf checks the numbers of a header: none is cut to fit.
func (u *unpacker) attrOf(h *tar.Header) (attr, error) {
	a := attr{
		mode:  uint32(h.Mode & 0o7777),
		uid:   given(u.uid, h.Uid),
		gid:   given(u.gid, h.Gid),
		mtime: h.ModTime.Unix(),
	}
	if h.ModTime.IsZero() {
		a.mtime = 0
	}
	switch {
	case h.Uid < 0 || int64(h.Uid) > maxID || h.Gid < 0 || int64(h.Gid) > maxID:
		return a, fmt.Errorf("%w: owner %d:%d out of range", ErrCorrupt, h.Uid, h.Gid)
	case a.mtime < minTime || a.mtime > maxTime:
		return a, fmt.Errorf("%w: time %d out of range", ErrCorrupt, a.mtime)
	}
	if !u.layer && (a.mtime < 0 || a.mtime > maxArchiveTime) {
		a.mtime = 0
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		const majors, minors = 1 << 12, 1 << 20 // dev_t as the kernel stores it
		if h.Devmajor < 0 || h.Devmajor >= majors || h.Devminor < 0 || h.Devminor >= minors {
			return a, fmt.Errorf("%w: device %d:%d out of range", ErrCorrupt, h.Devmajor, h.Devminor)
		}
		a.device = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		if h.Typeflag == tar.TypeChar && a.device == 0 {
			return a, fmt.Errorf("%w: character device 0:0 means a deletion to overlayfs", ErrCorrupt)
		}
	}
	return a, u.xattrsOf(h, &a)
}

func (u *unpacker) xattrsOf(h *tar.Header, a *attr) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || strings.HasPrefix(name, "system.") {
			continue // ACLs are the file system's own form; the reference drops them too
		}
		if isOverlayXattr(name) {
			u.say("overlay", fmt.Sprintf("%s: attribute %s is for overlayfs or gobuild alone and was dropped", h.Name, name))
			continue
		}
		if name == "" || strings.ContainsRune(name, 0) {
			return fmt.Errorf("%w: bad attribute name", ErrCorrupt)
		}
		a.xattrs = append(a.xattrs, xattr{name, value})
	}
	slices.SortFunc(a.xattrs, func(x, y xattr) int { return strings.Compare(x.name, y.name) })
	return nil
}

// say passes on a notice, one of each kind.
func (u *unpacker) say(kind, text string) {
	if u.notice == nil || u.noticed[kind] {
		return
	}
	u.noticed[kind] = true
	u.notice(text)
}

// applyAt makes the object of an entry in the current directory.
func (u *unpacker) applyAt(h *tar.Header, name, base string, a attr) error {
	u.tree.touch(base)
	switch h.Typeflag {
	case tar.TypeDir:
		return u.applyDir(name, base, a)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.applyFile(base, h.Size, a)
	case tar.TypeLink:
		return u.applyLink(base, h.Linkname)
	case tar.TypeSymlink:
		return u.applySymlink(base, h.Linkname, a)
	case tar.TypeFifo:
		return u.applyNode(base, unix.S_IFIFO, a)
	case tar.TypeChar:
		return u.applyNode(base, unix.S_IFCHR, a)
	case tar.TypeBlock:
		return u.applyNode(base, unix.S_IFBLK, a)
	}
	return fmt.Errorf("%w: entry of unknown type %q", ErrCorrupt, h.Typeflag)
}

// inPlace makes an object by a call that refuses to replace; what is in the way
// is removed, whatever it is.
func (u *unpacker) inPlace(base string, create func(dir int) error) error {
	at := u.tree.top()
	at.dirty = true
	err := retry(func() error { return create(at.fd) })
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := removeAll(at.fd, base); err != nil {
		return err
	}
	return retry(func() error { return create(at.fd) })
}

func (u *unpacker) applyDir(name, base string, a attr) error {
	at := u.tree.top()
	u.tree.last = nowhere
	fd, err := openDirAt(at.fd, base)
	switch {
	case err == nil:
		err = u.tree.push(fd, base, false)
	case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		if err = unlink(at.fd, base); err == nil {
			err = u.tree.mkdir(base, &a)
		}
	case errors.Is(err, unix.ENOENT):
		err = u.tree.mkdir(base, &a)
	}
	if err != nil {
		return err
	}
	u.tree.last = name
	u.tree.touchHere()
	return u.finishDir(a)
}

// finishDir gives the current directory the attributes of its entry; its time
// is set when it is left.
func (u *unpacker) finishDir(a attr) error {
	at := u.tree.top()
	at.mtime, at.dirty = unix.Timespec{Sec: a.mtime}, true
	return u.finish(at.fd, a)
}

// finish sets owner, mode and attributes, in this order: chown takes the setuid
// bit and capabilities away.
func (u *unpacker) finish(fd int, a attr) error {
	if err := u.tree.owners.Set(fd, a.uid, a.gid); err != nil {
		return ownerError(err, a)
	}
	if err := unix.Fchmod(fd, a.mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	for _, x := range a.xattrs {
		if err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0); err != nil {
			if err := u.xattrFailed(x.name, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func ownerError(err error, a attr) error {
	return fmt.Errorf("set owner %d:%d: %w", a.uid, a.gid, err)
}

// xattrFailed decides what an attribute that cannot be set means: programs that
// lost their capability fail later and elsewhere, so that is an error for root.
func (u *unpacker) xattrFailed(name string, err error) error {
	if name == capabilityXattr && os.Geteuid() == 0 {
		return fmt.Errorf("set %s: %w", name, err)
	}
	u.say("xattr "+name, fmt.Sprintf("attribute %s cannot be set here: %v", name, err))
	return nil
}

func (u *unpacker) applyFile(base string, size int64, a attr) error {
	fd := -1
	err := u.inPlace(base, func(dir int) (err error) {
		fd, err = openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}()
	if err := u.copyContent(fd, size); err != nil {
		return err
	}
	if err := u.finish(fd, a); err != nil {
		return err
	}
	if err := futimens(fd, unix.Timespec{Sec: a.mtime}); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	// NFS and quotas report a failed write here.
	err = unix.Close(fd)
	fd = -1
	return err
}

// holeBlock is the unit in which zeros become holes: the block size of most
// file systems.
const holeBlock = 4 << 10

// copyContent writes the content of the current entry. Blocks of zeros are left
// out, so that a sparse file is sparse again and a bomb of zeros costs nothing.
func (u *unpacker) copyContent(fd int, size int64) error {
	if size == 0 {
		return nil
	}
	sparse := false
	for at := int64(0); at < size; {
		n := int(min(size-at, int64(len(u.buf))))
		before := u.src.position()
		if err := u.src.cancelled(); err != nil { // a sparse entry reads nothing for long
			return err
		}
		if _, err := io.ReadFull(u.tar, u.buf[:n]); err != nil {
			return u.tarError(unexpected(err))
		}
		holes, err := writeSolid(fd, u.buf[:n], at)
		if err != nil {
			return err
		}
		at += int64(n)
		// Holes that a sparse entry only describes were no bytes of the stream.
		u.src.holes += min(holes, u.src.position()-before)
		sparse = holes > 0 && isZero(u.buf[n-1:n])
	}
	if !sparse {
		return nil
	}
	return retry(func() error { return unix.Ftruncate(fd, size) })
}

func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // ReadFull's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeSolid writes what is not zeros of p at an offset, and returns how many
// bytes it left out. The position is where the write before ended, so a run
// without holes needs no seek.
func writeSolid(fd int, p []byte, at int64) (holes int64, err error) {
	for len(p) > 0 {
		solid := solidRun(p)
		if solid > 0 {
			if err := pwriteFull(fd, p[:solid], at); err != nil {
				return holes, err
			}
		}
		p, at = p[solid:], at+int64(solid)
		empty := zeroRun(p)
		holes += int64(empty)
		p, at = p[empty:], at+int64(empty)
	}
	return holes, nil
}

// solidRun is the length of the run of blocks at the start of p that are not
// all zeros; a last part of a block counts as solid unless it is zeros too.
func solidRun(p []byte) int {
	n := 0
	for n < len(p) {
		end := min(n+holeBlock, len(p))
		if isZero(p[n:end]) {
			break
		}
		n = end
	}
	return n
}

func zeroRun(p []byte) int {
	n := 0
	for n < len(p) {
		end := min(n+holeBlock, len(p))
		if !isZero(p[n:end]) {
			break
		}
		n = end
	}
	return n
}

func pwriteFull(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// applyLink makes a hard link. Its target is resolved inside the root, and not
// followed if it is a link itself: linkat(2) without AT_SYMLINK_FOLLOW.
func (u *unpacker) applyLink(base, target string) error {
	if target == "" {
		return fmt.Errorf("%w: hard link to nothing", ErrCorrupt)
	}
	dir, name, err := u.root.Parent(u.clamp(target))
	if err != nil {
		return linkError(target, err)
	}
	defer dir.Close()
	at := u.tree.top()
	var have, want unix.Stat_t
	if err := lstatat(int(dir.Fd()), name, &want); err != nil {
		return linkError(target, err)
	}
	err = lstatat(at.fd, base, &have)
	if err == nil && have.Dev == want.Dev && have.Ino == want.Ino {
		return nil // a link to itself, or to another name it has already
	}
	err = u.inPlace(base, func(fd int) error {
		return unix.Linkat(int(dir.Fd()), name, fd, base, 0)
	})
	return linkError(target, err)
}

func linkError(target string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EINVAL),
		errors.Is(err, unix.ELOOP), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: hard link to %s: %w", ErrCorrupt, target, err)
	}
	return fmt.Errorf("hard link to %s: %w", target, err)
}

func (u *unpacker) applySymlink(base, target string, a attr) error {
	if target == "" || len(target) >= unix.PathMax {
		return fmt.Errorf("%w: bad link target", ErrCorrupt)
	}
	err := u.inPlace(base, func(dir int) error { return unix.Symlinkat(target, dir, base) })
	if err != nil {
		return err
	}
	return u.finishNode(base, a)
}

func (u *unpacker) applyNode(base string, kind uint32, a attr) error {
	err := u.inPlace(base, func(dir int) error {
		return unix.Mknodat(dir, base, kind|a.mode, a.device)
	})
	if errors.Is(err, unix.EPERM) && kind != unix.S_IFIFO {
		return &deviceError{err}
	}
	if err != nil {
		return err
	}
	if err := u.finishNode(base, a); err != nil {
		return err
	}
	// Last: chown took setuid bits away, and the umask others before.
	return chmodNode(u.tree.top().fd, base, a)
}

// finishNode sets owner, attributes and time of something that is not opened.
func (u *unpacker) finishNode(base string, a attr) error {
	dir := u.tree.top().fd
	if err := u.tree.owners.SetAt(dir, base, a.uid, a.gid); err != nil {
		return ownerError(err, a)
	}
	if len(a.xattrs) > 0 {
		if err := u.setNodeXattrs(dir, base, a); err != nil {
			return err
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: a.mtime}}
	if err := unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// setNodeXattrs goes through the magic link of an O_PATH descriptor: no call
// before setxattrat (Linux 6.13) takes a descriptor of a link or device.
func (u *unpacker) setNodeXattrs(dir int, base string, a attr) error {
	return u.byMagicLink(dir, base, func(magic string) error {
		for _, x := range a.xattrs {
			if err := unix.Setxattr(magic, x.name, []byte(x.value), 0); err != nil {
				if err := u.xattrFailed(x.name, err); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (u *unpacker) byMagicLink(dir int, base string, use func(magic string) error) error {
	fd, err := openat(dir, base, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return use(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// chmodNode sets the mode of a FIFO or device: fchmodat2 where the kernel has
// it (Linux 6.6). Before, the name is used: nothing else touches the tree, so
// it still is the node that was made.
func chmodNode(dir int, base string, a attr) error {
	err := unix.Fchmodat(dir, base, a.mode, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = unix.Fchmodat(dir, base, a.mode, 0)
	}
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// deviceError is a device node that this user may not make.
type deviceError struct{ err error }

func (e *deviceError) Error() string { return "make device node: " + e.err.Error() }

func (e *deviceError) Unwrap() error { return e.err }

// Remedy is what the user can do.
func (e *deviceError) Remedy() string {
	return "run gobuild as root: a user namespace may not make device nodes"
}
