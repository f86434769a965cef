package builder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/bytelock"
	"gobuild/internal/filelock"
	"gobuild/internal/rootfs"
	"gobuild/layer"
)

// mountRecord is what an archive says of the cache mount that it was made of: which one it is, and what its folder is like.
type mountRecord struct {
	mountIdentity
	Folder folderAttr `json:"folder"`
}

type folderAttr struct {
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// mountRecordKey holds the record in a global header of the archive, which other programs pass over.
const mountRecordKey = "GOBUILD.cache-mount"

// archiveHead is how much of an archive is looked at for its record: two blocks of zstd, which may have 128 KiB each.
const archiveHead = 256 << 10

// CacheMountInfo says which cache mount a command was about.
type CacheMountInfo struct {
	Name string `json:"name"` // as gobuild du shows it
	ID   string `json:"id"`   // as the Dockerfile says
}

// ExportMount writes what a cache mount holds as a tar to file, or to w where file is "-". It waits for steps that use it.
func (b *Builder) ExportMount(ctx context.Context, id, file string, w io.Writer) error {
	err := b.exportMount(ctx, id, Output{Dest: file, Out: w})
	if err != nil {
		return classify(fmt.Errorf("export cache mount %s: %w", id, err), CategoryEnvironment)
	}
	return nil
}

func (b *Builder) exportMount(ctx context.Context, id string, o Output) error {
	leave, err := b.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	m, err := b.oneMount(id)
	if err != nil {
		return err
	}
	if err := b.holds.mounts.Hold(m.Name); err != nil {
		return fmt.Errorf("hold the cache: %w", err)
	}
	dir, err := filledCopy(b.mountPath(m.Name))
	if err != nil {
		return err
	}
	lock, err := b.lockMount(ctx, dir, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	root, err := b.openTree(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer root.Close()
	rec, err := b.recordOf(m, root)
	if err != nil {
		return err
	}
	return writeOutput(o, func(w io.Writer) error {
		if err := writeMountRecord(w, rec); err != nil {
			return err
		}
		return layer.Export(ctx, w, root, nil)
	})
}

// filledCopy is the mount itself, or the first of its private copies where no step shares it.
func filledCopy(dir string) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		return dir, nil
	}
	for n := range maxPrivate {
		own := filepath.Join(dir, fmt.Sprintf("private-%d", n))
		if _, err := os.Lstat(filepath.Join(own, "data")); err == nil {
			return own, nil
		}
	}
	return "", usage{errors.New("no step has used it yet")}
}

func (b *Builder) lockMount(ctx context.Context, dir, id string) (*filelock.File, error) {
	return filelock.Lock(ctx, filepath.Join(dir, "lock"), filelock.Exclusive, func(pid int) {
		b.notice(fmt.Sprintf("waiting for process %d, which is using the cache %s", pid, id))
	})
}

func (b *Builder) recordOf(m CacheMountInfo, root *rootfs.Root) (mountRecord, error) {
	rec := mountRecord{mountIdentity: mountIdentity{ID: m.ID}}
	data, err := os.ReadFile(filepath.Join(b.mountPath(m.Name), "identity"))
	if err == nil {
		err = json.Unmarshal(data, &rec.mountIdentity)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return rec, fmt.Errorf("read what cache it is: %w", err)
	}
	st, err := root.Lstat("/")
	if err == nil {
		err = root.FixOwner("/", &st)
	}
	rec.Folder = folderAttr{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)}
	return rec, err
}

// writeMountRecord begins an archive. The end that a tar writer would add is left to what follows.
func writeMountRecord(w io.Writer, rec mountRecord) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{mountRecordKey: string(text)}}); err != nil {
		return err
	}
	return t.Flush()
}

// readMountRecord looks for a record at the beginning of an archive of any compression.
func readMountRecord(head []byte) (rec mountRecord, ok bool, err error) {
	r, err := layer.Decompress(bytes.NewReader(head))
	if err != nil {
		return rec, false, nil //nolint:nilerr // Extract says what is wrong with it
	}
	defer r.Close()
	h, err := tar.NewReader(r).Next()
	if err != nil || h.Typeflag != tar.TypeXGlobalHeader || h.PAXRecords[mountRecordKey] == "" {
		return rec, false, nil //nolint:nilerr // Extract says what is wrong with it
	}
	if err := json.Unmarshal([]byte(h.PAXRecords[mountRecordKey]), &rec); err != nil {
		return rec, false, fmt.Errorf("read what cache the archive is of: %w", err)
	}
	return rec, true, nil
}

// ImportMount replaces what a cache mount holds by an archive, and makes the mount where there is none. It waits for steps that
// use it.
func (b *Builder) ImportMount(ctx context.Context, id string, archive io.Reader) (CacheMountInfo, error) {
	m, err := b.importMount(ctx, id, archive)
	if err != nil {
		return m, classify(fmt.Errorf("import cache mount %s: %w", id, err), CategoryEnvironment)
	}
	return m, nil
}

func (b *Builder) importMount(ctx context.Context, id string, archive io.Reader) (m CacheMountInfo, err error) {
	leave, err := b.enter(ctx)
	if err != nil {
		return m, err
	}
	defer leave()
	in := bufio.NewReaderSize(archive, archiveHead)
	head, err := in.Peek(archiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("read the archive: %w", err)
	}
	rec, ok, err := readMountRecord(head)
	if err != nil {
		return m, usage{err}
	}
	identity, err := b.importTarget(id, rec, ok)
	if err != nil {
		return m, err
	}
	dir, err := b.makeMount(identity)
	if err != nil {
		return m, err
	}
	folder := folderAttr{Mode: value(identity.Mode, 0o755) & 0o777, UID: int(value(identity.UID, 0)), GID: int(value(identity.GID, 0))}
	if ok {
		folder = rec.Folder
	}
	return CacheMountInfo{Name: filepath.Base(dir), ID: identity.ID}, b.replaceMount(ctx, dir, identity.ID, folder, in)
}

// importTarget finds out which mount an archive is for: the one it was made of, under the id that the user says.
func (b *Builder) importTarget(id string, rec mountRecord, recorded bool) (mountIdentity, error) {
	found, err := b.findMounts(id)
	var none *noMountError
	if err != nil && !errors.As(err, &none) {
		return mountIdentity{}, err
	}
	isID := len(found) == 0 || found[0].ID == id // else the name of one that is here
	switch {
	case recorded && isID:
		identity := rec.mountIdentity
		identity.ID = id
		return identity, nil
	case len(found) == 0:
		return mountIdentity{ID: id}, nil
	}
	m, err := b.oneMount(id)
	if err != nil {
		return mountIdentity{}, err
	}
	return b.identityOf(m)
}

func (b *Builder) identityOf(m CacheMountInfo) (mountIdentity, error) {
	data, err := os.ReadFile(filepath.Join(b.mountPath(m.Name), "identity"))
	if err != nil {
		return mountIdentity{}, err
	}
	var identity mountIdentity
	if err := json.Unmarshal(data, &identity); err != nil {
		return identity, fmt.Errorf("read what cache it is: %w", err)
	}
	return identity, nil
}

// replaceMount unpacks beside what is there, and changes the two when nothing can fail any more.
func (b *Builder) replaceMount(ctx context.Context, dir, id string, folder folderAttr, archive io.Reader) error {
	lock, err := b.lockMount(ctx, dir, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	fresh := filepath.Join(dir, "imported")
	if err := b.takeAway(ctx, fresh); err != nil { // of a process that was killed here
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := b.fillMount(ctx, fresh, folder, archive); err != nil {
		return errors.Join(err, b.takeAway(context.WithoutCancel(ctx), fresh))
	}
	data := filepath.Join(dir, "data")
	if err := b.takeAway(ctx, data); err != nil {
		return err
	}
	if err := os.Rename(fresh, data); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "size")); err != nil && !errors.Is(err, fs.ErrNotExist) { // du counts anew
		return err
	}
	return nil
}

func (b *Builder) takeAway(ctx context.Context, path string) error {
	if err := b.snapshots.Take(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return b.snapshots.Sweep(ctx)
}

func (b *Builder) fillMount(ctx context.Context, dir string, folder folderAttr, archive io.Reader) error {
	root, err := b.openTree(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := layer.Extract(ctx, archive, root, "/", layer.ExtractOptions{}); err != nil {
		return err
	}
	fd := int(root.File().Fd())
	if err := root.Owners().Set(fd, folder.UID, folder.GID); err != nil {
		return fmt.Errorf("set the owner of the folder: %w", err)
	}
	return unix.Fchmod(fd, folder.Mode&0o7777)
}

// RemoveMount removes every cache mount of this id, and says which they were. One that a build uses stays, and is an error.
func (b *Builder) RemoveMount(ctx context.Context, id string) ([]CacheMountInfo, error) {
	gone, err := b.removeMount(ctx, id)
	if err != nil {
		return gone, classify(fmt.Errorf("remove cache mount %s: %w", id, err), CategoryEnvironment)
	}
	return gone, nil
}

func (b *Builder) removeMount(ctx context.Context, id string) ([]CacheMountInfo, error) {
	leave, err := b.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := b.findMounts(id)
	if err != nil {
		return nil, err
	}
	var gone []CacheMountInfo
	for _, m := range found {
		err := b.dropMount(ctx, m.Name)
		if errors.Is(err, bytelock.ErrHeld) {
			return gone, &hinted{err: errors.New("a build is using it"), hint: "run it again when the build has ended"}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return gone, err
		}
		gone = append(gone, m)
	}
	return gone, nil
}

// noMountError: there is no cache mount of that id.
type noMountError struct{ id string }

func (e *noMountError) Error() string { return "there is no such cache mount" }

func (b *Builder) mountPath(name string) string { return filepath.Join(b.cfg.Root, "mounts", name) }

// findMounts finds the cache mounts of an id, or the one whose name, as du shows it, begins so.
func (b *Builder) findMounts(id string) ([]CacheMountInfo, error) {
	dirs, err := os.ReadDir(filepath.Join(b.cfg.Root, "mounts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var byID, byName []CacheMountInfo
	for _, d := range dirs {
		about, err := os.ReadFile(filepath.Join(b.mountPath(d.Name()), "about"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, or not made to its end
		}
		if err != nil {
			return nil, err
		}
		m := CacheMountInfo{Name: d.Name(), ID: strings.TrimSuffix(string(about), "\n")}
		if m.ID == id {
			byID = append(byID, m)
		} else if idForm(id) && strings.HasPrefix(m.Name, id) {
			byName = append(byName, m)
		}
	}
	if len(byID) > 0 {
		return byID, nil
	}
	if len(byName) == 0 {
		return nil, usage{&hinted{err: &noMountError{id}, hint: "`gobuild du` lists them: an id, or the beginning of what stands under ID"}}
	}
	return byName, nil
}

// oneMount is findMounts where there must be one.
func (b *Builder) oneMount(id string) (CacheMountInfo, error) {
	found, err := b.findMounts(id)
	if err != nil {
		return CacheMountInfo{}, err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var names []string
	for _, m := range found {
		names = append(names, m.Name)
	}
	return CacheMountInfo{}, usage{&hinted{
		err:  fmt.Errorf("%d cache mounts have this id, for different namespaces, first contents, modes or owners", len(found)),
		hint: "name one of them: " + strings.Join(names, ", "),
	}}
}
