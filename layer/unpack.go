package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

const (
	opaqueName = whiteoutPrefix + whiteoutPrefix + ".opq"
	aufsPrefix = whiteoutPrefix + whiteoutPrefix
)

// Unpack applies a layer, of any compression that Decompress reads, to root, a
// writable merged view of what lies below, and returns the digest of the tar:
// the diffID, which the caller compares with the one expected. Whiteouts and
// opaque marks hide what was there before, never what the same layer brings.
// Names that would leave the root are clamped inside it. On an error the tree
// is left half unpacked. Errors name the entry; the caller says which layer it
// is of.
func Unpack(ctx context.Context, r io.Reader, root *rootfs.Root, opt UnpackOptions) (digest.Digest, error) {
	u, err := newUnpacker(ctx, r, root, opt.Limits, opt.Notice, true)
	if err != nil {
		return "", err
	}
	defer u.close()
	if err := u.run(); err != nil {
		return "", err
	}
	// What follows the end of the tar belongs to the diffID.
	if _, err := u.src.drain(); err != nil {
		return "", err
	}
	return u.src.digest(), nil
}

// Extract unpacks an archive below dir, a canonical path inside root that is
// made (0755) if it is missing. Directories merge, anything else that is in the
// way is replaced, whiteout names are plain names, links are followed inside
// the root. A name that leaves dir is ErrUnsafe; an archive that is cut short
// or has something behind its end is ErrCorrupt. Directories that no entry
// describes belong to root whatever the options say, as with the reference.
func Extract(ctx context.Context, r io.Reader, root *rootfs.Root, dir string, opt ExtractOptions) error {
	u, err := newUnpacker(ctx, r, root, opt.Limits, opt.Notice, false)
	if err != nil {
		return fmt.Errorf("extract archive: %w", err)
	}
	defer u.close()
	u.uid, u.gid = opt.UID, opt.GID
	u.base = strings.Trim(path.Clean("/"+dir), "/")
	if err := u.tree.enter(u.base, true); err != nil {
		return fmt.Errorf("extract archive to %s: %w", dir, err)
	}
	if err := u.run(); err != nil {
		return fmt.Errorf("extract archive: %w", err)
	}
	zeros, err := u.src.drain()
	if err == nil && !zeros {
		err = fmt.Errorf("%w: data after the end of the archive", ErrCorrupt)
	}
	if err == nil && !u.ended {
		err = fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("extract archive: %w", err)
	}
	return nil
}

func given(id *int, otherwise int) int {
	if id == nil {
		return otherwise
	}
	return *id
}

// unpacker applies the entries of one archive.
type unpacker struct {
	src     *source
	blocks  blockReader
	tar     *tar.Reader
	root    *rootfs.Root
	tree    *tree
	layer   bool   // whiteouts have their meaning, names are clamped
	base    string // names are below this path
	uid     *int
	gid     *int
	meter   meter
	notice  func(string)
	noticed map[string]bool
	buf     []byte
	dirent  []byte
	ended   bool // the blocks that end a tar were seen
}

func newUnpacker(ctx context.Context, r io.Reader, root *rootfs.Root, limits Limits, notice func(string), layer bool) (*unpacker, error) {
	limits = limits.withDefaults()
	u := &unpacker{
		root:    root,
		layer:   layer,
		meter:   meter{limits: limits},
		notice:  notice,
		noticed: map[string]bool{},
		buf:     make([]byte, chunkSize),
		dirent:  make([]byte, direntBuf),
	}
	var own *ownership
	mode := followLinks
	if layer {
		mode = replaceLower
		empty, err := isEmpty(root, u.dirent)
		if err != nil {
			return nil, err
		}
		if !empty { // else all there is will be the layer's own
			own = newOwnership()
		}
	}
	var err error
	if u.tree, err = newTree(root, own, mode); err != nil {
		return nil, err
	}
	if u.src, err = openSource(ctx, r, limits, layer); err != nil {
		u.tree.abandon()
		return nil, err
	}
	u.blocks.r = u.src
	u.tar = tar.NewReader(&u.blocks)
	return u, nil
}

func isEmpty(root *rootfs.Root, buf []byte) (bool, error) {
	fd, err := openDirAt(int(root.File().Fd()), ".")
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	empty := true
	err = readNames(fd, buf, func([]byte, byte) error {
		empty = false
		return io.EOF
	})
	if err != nil && empty {
		return false, err
	}
	return empty, nil
}

func (u *unpacker) close() {
	u.src.Close()
	u.tree.abandon()
}

// blockReader tells whether archive/tar met the end of the archive, or merely
// the end of the file.
type blockReader struct {
	r     io.Reader
	zeros bool // the last full block read was zeros
}

func (b *blockReader) Read(p []byte) (int, error) {
	if len(p) != blockSize {
		b.zeros = false
		return b.r.Read(p)
	}
	n, err := io.ReadFull(b.r, p)
	if n > 0 {
		b.zeros = n == blockSize && isZero(p)
	}
	return n, err
}

func (u *unpacker) run() error {
	for {
		if err := u.src.cancelled(); err != nil {
			return err
		}
		u.blocks.zeros = false
		h, err := u.tar.Next()
		if err == io.EOF { //nolint:errorlint // archive/tar returns io.EOF itself
			u.ended = u.blocks.zeros
			return u.tree.finish()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return u.tarError(err)
		}
		if err := u.meter.entry(h.Size); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // git archive's commit id, for example
		}
		if err := u.apply(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// tarError tells errors of the stream from those of the tar in it.
func (u *unpacker) tarError(err error) error {
	if broken := u.src.broken(); broken != nil {
		return broken
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

func (u *unpacker) apply(h *tar.Header) error {
	name, err := u.place(h.Name)
	if err != nil {
		return err
	}
	a, err := u.attrOf(h)
	if err != nil {
		return err
	}
	u.tree.implied.mtime, u.tree.implied.timed = a.mtime, true
	if u.layer && strings.Contains(name, whiteoutPrefix) {
		if done, err := u.whiteout(name); done || err != nil {
			return err
		}
	}
	dir, base := split(name)
	if base == "" || name == u.base {
		return u.applyRoot(h, a)
	}
	if len(base) > maxName {
		return fmt.Errorf("%w: %w", ErrCorrupt, errPath)
	}
	if err := u.tree.enter(dir, true); err != nil {
		return u.fault(err)
	}
	return u.fault(u.applyAt(h, name, base, a))
}

// fault turns what the kernel says about a name into what that means here.
func (u *unpacker) fault(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrCorrupt):
		return err
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// place says where in the root an entry goes: a clean path without slashes at
// its ends, "" for the root.
func (u *unpacker) place(name string) (string, error) {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return "", fmt.Errorf("%w: bad name", ErrCorrupt)
	case len(name) > u.meter.limits.Path:
		return "", fmt.Errorf("%w: %w", ErrCorrupt, errPath)
	case !u.layer && leaves(name):
		return "", fmt.Errorf("%w: leaves the directory it is extracted to", ErrUnsafe)
	}
	return u.clamp(name), nil
}

func (u *unpacker) clamp(name string) string {
	clean := path.Clean("/" + name)[1:]
	switch {
	case u.base == "":
		return clean
	case clean == "":
		return u.base
	}
	return u.base + "/" + clean
}

// leaves says whether ".." leads above the start of a path.
func leaves(name string) bool {
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// applyRoot applies an entry for the root of the archive itself.
func (u *unpacker) applyRoot(h *tar.Header, a attr) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is not a directory", ErrCorrupt)
	}
	if !u.layer {
		return nil // the directory was there before, or made as asked
	}
	if err := u.tree.enter("", true); err != nil {
		return err
	}
	return u.finishDir(a)
}

// whiteout handles names that mark deletions; done is false for other names.
func (u *unpacker) whiteout(name string) (done bool, err error) {
	dir, base := split(name)
	for part := range strings.SplitSeq(dir, "/") {
		switch {
		case strings.HasPrefix(part, aufsPrefix):
			return true, nil // the inside of aufs's own directories
		case strings.HasPrefix(part, whiteoutPrefix):
			return true, fmt.Errorf("%w: a whiteout is not a directory", ErrCorrupt)
		}
	}
	if !strings.HasPrefix(base, whiteoutPrefix) {
		return false, nil
	}
	hidden := base[len(whiteoutPrefix):]
	if base != opaqueName && strings.HasPrefix(base, aufsPrefix) {
		return true, nil // .wh..wh.plnk and the like
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return true, fmt.Errorf("%w: whiteout of no plain name", ErrCorrupt)
	}
	if u.tree.own == nil {
		return true, nil // nothing is below
	}
	err = u.tree.enter(dir, false)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return true, nil
	}
	if err == nil && base == opaqueName {
		err = u.hideContent()
	} else if err == nil {
		err = u.hide(hidden)
	}
	return true, u.fault(err)
}

// hide removes what lower layers have under a name in the current directory.
func (u *unpacker) hide(name string) error {
	at := u.tree.top()
	if at.clear || len(name) > maxName {
		return nil
	}
	if !u.tree.isOwn(name) {
		at.dirty = true
		return removeAll(at.fd, name)
	}
	var st unix.Stat_t
	err := lstatat(at.fd, name, &st)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // the layer's own, and nothing below it
	}
	if err != nil {
		return err
	}
	if err := u.tree.down(name); err != nil {
		return err
	}
	return u.hideContent()
}

// hideContent removes what lower layers have in the current directory and, where
// the layer has written to them, in those below it. Each is marked as clear when
// that is done: looking again would be in vain, and quadratic.
func (u *unpacker) hideContent() error {
	var rest [][]string // of each directory on the way: those within that are left
	for {
		var within []string
		if !u.tree.top().clear {
			var err error
			if within, err = u.sweep(); err != nil {
				return err
			}
		}
		rest = append(rest, within)
		for len(rest[len(rest)-1]) == 0 {
			u.tree.markClear()
			rest = rest[:len(rest)-1]
			if len(rest) == 0 {
				return nil
			}
			if err := u.tree.leave(); err != nil {
				return err
			}
		}
		last := rest[len(rest)-1]
		rest[len(rest)-1] = last[1:]
		if err := u.tree.down(last[0]); err != nil {
			return err
		}
	}
}

// sweep removes from the current directory what is not the layer's own, and
// returns the directories in it that may have more of it.
func (u *unpacker) sweep() (within []string, err error) {
	at := u.tree.top()
	// Another descriptor: the position of this one may be anywhere.
	fd, err := openDirAt(at.fd, ".")
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var list names
	err = readNames(fd, u.dirent, func(name []byte, kind byte) error {
		list.add("", name, 0)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for {
		raw, _, ok := list.take()
		if !ok {
			break
		}
		name := string(raw)
		h := u.tree.own.child(at.hash, name)
		if !u.tree.own.touched.has(h) {
			at.dirty = true
			if err := removeAll(at.fd, name); err != nil {
				return nil, err
			}
			continue
		}
		var st unix.Stat_t
		if err := lstatat(at.fd, name, &st); err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR && !u.tree.own.clear.has(h) {
			within = append(within, name)
		}
	}
	return within, nil
}
