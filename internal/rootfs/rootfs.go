package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/retried"
)

var (
	// ErrNotRegular says that a path names something without bytes to read: a directory, link, device, FIFO or socket.
	ErrNotRegular = errors.New("not a regular file")
	// ErrLoop says that resolving a path met more than 40 links, the kernel's own limit (path_resolution(7)).
	ErrLoop = fmt.Errorf("too many links: %w", unix.ELOOP)
)

const (
	maxLinks = 40
	// openat2 returns EAGAIN when a rename raced the resolution of ".." (openat2(2)); a tree that is
	// renamed that often is being attacked.
	maxRetries = 128
)

// Root is a directory tree.
type Root struct {
	dir      *os.File
	fallback atomic.Bool // openat2 was refused once
	owners   owners.Keeper
}

// Open opens a directory named by a trusted host path.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return New(f), nil
}

// New takes ownership of an open directory, a detached mount for example.
func New(dir *os.File) *Root { return &Root{dir: dir} }

// Close closes the directory. Descriptors that were handed out stay valid.
func (r *Root) Close() error { return r.dir.Close() }

// WithOwners has the owners of the tree's files kept in another way than by the kernel. It is called before the Root is used.
func (r *Root) WithOwners(k owners.Keeper) *Root {
	r.owners = k
	return r
}

// Owners is how the owners of the tree's files are kept. What Stat and Lstat say of them is what the kernel says.
func (r *Root) Owners() owners.Keeper { return r.owners }

// FixOwner puts the owner of a path into what Lstat said of it.
func (r *Root) FixOwner(p string, st *unix.Stat_t) error {
	if !r.owners.Records() {
		return nil
	}
	if path.Clean("/"+p) == "/" {
		return r.owners.Fix(int(r.dir.Fd()), st)
	}
	dir, name, err := r.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.owners.FixAt(int(dir.Fd()), name, st)
}

// File is the root directory itself. It belongs to the Root.
func (r *Root) File() *os.File { return r.dir }

// Open opens a path with the flags of open(2); links are followed inside the
// root, the last one too unless flags has O_NOFOLLOW. O_CREAT is refused:
// objects are made through Parent.
func (r *Root) Open(p string, flags int) (*os.File, error) {
	if flags&unix.O_CREAT != 0 {
		return nil, &fs.PathError{Op: "open", Path: p, Err: unix.EINVAL}
	}
	fd, err := r.openat2(p, flags)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), p), nil
}

func (r *Root) openat2(p string, flags int) (int, error) {
	rel := relative(p)
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NOCTTY | unix.O_NONBLOCK
	}
	if r.fallback.Load() {
		return r.openWalking(rel, flags)
	}
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range maxRetries {
		fd, err := unix.Openat2(int(r.dir.Fd()), rel, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM) && !r.hasOpenat2():
			r.fallback.Store(true)
			return r.openWalking(rel, flags)
		case errors.Is(err, unix.ENXIO) && flags&unix.O_PATH == 0:
			return -1, ErrNotRegular // a socket, or a FIFO without a reader
		}
		return -1, err
	}
	return -1, unix.EAGAIN
}

// hasOpenat2 tells a filter that answers EPERM to every openat2 from a file that really refuses.
func (r *Root) hasOpenat2() bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(int(r.dir.Fd()), ".", &how)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

func (r *Root) openWalking(rel string, flags int) (int, error) {
	if flags&unix.O_NOFOLLOW != 0 && rel != "." {
		dir, err := pathrs.OpenatInRoot(r.dir, path.Dir(rel))
		if err != nil {
			return -1, errnoOf(err)
		}
		defer dir.Close()
		return retried.Openat(int(dir.Fd()), path.Base(rel), flags, 0)
	}
	handle, err := pathrs.OpenatInRoot(r.dir, rel)
	if err != nil {
		return -1, errnoOf(err)
	}
	defer handle.Close()
	if flags&unix.O_PATH != 0 {
		return unix.FcntlInt(handle.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	}
	// It is opened again by a link of procfs. What the flag forbids to follow cannot be there any more: this is the root itself.
	f, err := pathrs.Reopen(handle, flags&^unix.O_NOFOLLOW)
	if err != nil {
		return -1, errnoOf(err)
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}

func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// OpenRegular opens a regular file for reading. Anything else is ErrNotRegular
// and is not opened: opening a FIFO or a device has effects.
func (r *Root) OpenRegular(p string) (*os.File, unix.Stat_t, error) {
	st, err := r.Stat(p)
	if err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, &fs.PathError{Op: "open", Path: p, Err: ErrNotRegular}
	}
	f, err := r.Open(p, unix.O_RDONLY)
	if err != nil {
		return nil, st, err
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &now); err != nil {
		f.Close()
		return nil, st, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG { // replaced between the two calls
		f.Close()
		return nil, now, &fs.PathError{Op: "open", Path: p, Err: ErrNotRegular}
	}
	return f, now, nil
}

// Lstat describes a path; a link as last component is not followed.
func (r *Root) Lstat(p string) (unix.Stat_t, error) { return r.stat(p, unix.O_NOFOLLOW) }

// Stat describes what a path leads to, every link followed inside the root.
func (r *Root) Stat(p string) (unix.Stat_t, error) { return r.stat(p, 0) }

func (r *Root) stat(p string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.openat2(p, unix.O_PATH|flags)
	if err != nil {
		return st, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	return st, nil
}

// Readlink returns the target of the link that a path names.
func (r *Root) Readlink(p string) (string, error) {
	fd, err := r.openat2(p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: p, Err: err}
	}
	defer unix.Close(fd)
	target, err := readlinkat(fd, "")
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: p, Err: err}
	}
	return target, nil
}

func readlinkat(fd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Parent opens the directory that holds the last component of a path, links in
// the directory part resolved, and returns that component's name. The root
// itself has no parent: EINVAL.
func (r *Root) Parent(p string) (*os.File, string, error) {
	rel := relative(p)
	name := path.Base(rel)
	if rel == "." || name == ".." {
		return nil, "", &fs.PathError{Op: "open parent of", Path: p, Err: unix.EINVAL}
	}
	dir, err := r.Open(path.Dir(rel), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, "", err
	}
	return dir, name, nil
}

// Resolve returns the canonical absolute path of p inside the root: every link
// followed, the last one too. From the first component that does not exist on,
// the path is kept as written (".." removed).
func (r *Root) Resolve(p string) (string, error) {
	todo := strings.Split(relative(p), "/")
	done := "/"
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		st, err := r.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return path.Join(next, path.Join(todo...)), nil
		}
		if errors.Is(err, unix.ENOTDIR) {
			return path.Join(next, path.Join(todo...)), nil
		}
		if err != nil {
			return "", err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: ErrLoop}
		}
		target, err := r.Readlink(next)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// Attr is what a new directory gets. A zero Mtime leaves the time alone.
type Attr struct {
	Mode     uint32 // permission bits with setuid, setgid, sticky; setgid also where the directory above has it, as for mkdir(2)
	UID, GID int    // a GID of AnyGroup is the kernel's choice
	Mtime    unix.Timespec
}

// AnyGroup leaves a new directory the group that mkdir(2) gives: in a setgid directory that one's.
const AnyGroup = -1

// MkdirAll makes the directories of p that are missing, links in the existing
// part followed inside the root, and returns their canonical paths, outermost
// first. Existing directories are left as they are; another kind of object in
// the way is ENOTDIR.
func (r *Root) MkdirAll(p string, a Attr) ([]string, error) {
	full, err := r.Resolve(p)
	if err != nil {
		return nil, err
	}
	var missing []string
	at := full
	for {
		st, err := r.Lstat(at)
		if err == nil {
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return nil, &fs.PathError{Op: "mkdir", Path: at, Err: unix.ENOTDIR}
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return nil, err
		}
		missing = append(missing, at)
		at = path.Dir(at)
	}
	var created []string
	for i := len(missing) - 1; i >= 0; i-- {
		if err := r.mkdir(missing[i], a); err != nil {
			return created, err
		}
		created = append(created, missing[i])
	}
	// Times last and inside out: making a child changes its parent's.
	if a.Mtime != (unix.Timespec{}) {
		for i := len(created) - 1; i >= 0; i-- {
			if err := r.setMtime(created[i], a.Mtime); err != nil {
				return created, err
			}
		}
	}
	return created, nil
}

func (r *Root) mkdir(p string, a Attr) error {
	dir, name, err := r.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	if err := unix.Mkdirat(fd, name, 0o700); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: p, Err: err}
	}
	if a, err = r.inherit(fd, a); err != nil {
		return &fs.PathError{Op: "stat parent of", Path: p, Err: err}
	}
	if err := r.owners.SetAt(fd, name, a.UID, a.GID); err != nil {
		return &fs.PathError{Op: "chown", Path: p, Err: err}
	}
	// By descriptor: the umask does not matter, and fchmodat has no NOFOLLOW before Linux 6.6.
	child, err := retried.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: p, Err: err}
	}
	defer unix.Close(child)
	var st unix.Stat_t
	if err := unix.Fstat(child, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	if err := unix.Fchmod(child, a.Mode&0o7777|st.Mode&unix.S_ISGID); err != nil {
		return &fs.PathError{Op: "chmod", Path: p, Err: err}
	}
	return nil
}

// inherit finds the group that the kernel would give to what is made in a directory, where the kernel does not keep it.
func (r *Root) inherit(parent int, a Attr) (Attr, error) {
	if a.GID != AnyGroup || !r.owners.Records() {
		return a, nil
	}
	a.GID = 0
	var st unix.Stat_t
	if err := unix.Fstat(parent, &st); err != nil || st.Mode&unix.S_ISGID == 0 {
		return a, err
	}
	own, err := owners.Of(parent)
	a.GID = int(own.GID)
	return a, err
}

func (r *Root) setMtime(p string, t unix.Timespec) error {
	dir, name, err := r.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}
	if err := unix.UtimesNanoAt(int(dir.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "set time of", Path: p, Err: err}
	}
	return nil
}

// relative makes any slash path relative to the root; ".." at the start is
// clamped by the kernel as well, cleaning only keeps the paths short. A
// trailing slash keeps its meaning (the thing must be a directory) by "/.".
func relative(p string) string {
	rel := strings.TrimLeft(p, "/")
	if rel == "" {
		return "."
	}
	return rel
}
