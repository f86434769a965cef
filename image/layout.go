package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotFound says that a layout has no such tag or blob.
var ErrNotFound = errors.New("not in the layout")

// Layout is an OCI image layout that is read: a directory, or an uncompressed tar of one, or an archive of docker save.
// It implements Fetcher; what it hands out is verified.
type Layout struct {
	name  string
	index ocispec.Index
	dir   string // of a directory
	tar   *os.File
	parts map[string]part // of a tar, by clean path
	links map[string]string

	// Of an archive that has no OCI index:
	made   map[digest.Digest][]byte // documents
	places map[digest.Digest]string // clean paths of layers
	layers map[string]ocispec.Descriptor
}

// part is where a file lies in an archive.
type part struct{ offset, size int64 }

// OpenLayout opens a layout and reads its index. Close it after use.
func OpenLayout(pathOrTar string) (*Layout, error) {
	l, err := openLayout(pathOrTar)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", pathOrTar, err)
	}
	return l, nil
}

func openLayout(p string) (*Layout, error) {
	l := &Layout{name: p}
	fi, err := os.Stat(p)
	switch {
	case err != nil:
		return nil, err
	case fi.IsDir():
		l.dir = p
	default:
		if l.tar, err = openRegular(p); err != nil {
			return nil, err
		}
		if err := l.scan(); err != nil {
			return nil, errors.Join(err, l.tar.Close())
		}
	}
	if err := l.readIndex(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// scan notes where the files of the archive lie. Their content is passed over by seeking.
func (l *Layout) scan() error {
	var magic [6]byte
	if n, _ := l.tar.ReadAt(magic[:], 0); n >= 4 {
		if kind := compression(magic[:n]); kind != "" {
			return fmt.Errorf("compressed with %s: decompress it first", kind)
		}
	}
	l.parts, l.links = map[string]part{}, map[string]string{}
	tr := tar.NewReader(l.tar)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w: %w", ErrMalformed, err)
		}
		if n >= maxArchiveEntries {
			return fmt.Errorf("more than %d archive entries: %w", maxArchiveEntries, ErrTooLarge)
		}
		if h.Typeflag == tar.TypeSymlink {
			l.links[cleanName(h.Name)] = h.Linkname
		}
		if h.Typeflag != tar.TypeReg {
			continue // directories; links have no place in a layout archive
		}
		// The reader takes whole header blocks and no more, so the file stands at the data.
		// Sparse entries would not lie there as they are read; their digest fails.
		offset, err := l.tar.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := cleanName(h.Name)
		if _, twice := l.parts[name]; twice {
			return fmt.Errorf("%s twice in the archive: %w", name, ErrMalformed)
		}
		l.parts[name] = part{offset, h.Size}
	}
}

// compression names the format of a compressed file, "" for others.
func compression(magic []byte) string {
	for prefix, name := range map[string]string{"\x1f\x8b": "gzip", "\x28\xb5\x2f\xfd": "zstd", "BZh": "bzip2", "\xfd7zXZ\x00": "xz"} {
		if strings.HasPrefix(string(magic), prefix) {
			return name
		}
	}
	return ""
}

func (l *Layout) readIndex() error {
	b, err := l.read(ocispec.ImageLayoutFile)
	if _, docker := l.parts[dockerListFile]; docker && errors.Is(err, fs.ErrNotExist) {
		return l.readDockerList()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not an OCI image layout (no %s): %w", ocispec.ImageLayoutFile, ErrMalformed)
	}
	if err != nil {
		return err
	}
	var head ocispec.ImageLayout
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("read %s: %w: %w", ocispec.ImageLayoutFile, ErrMalformed, err)
	}
	if head.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("layout version %q is not supported: %w", head.Version, ErrMalformed)
	}
	if b, err = l.read(ocispec.ImageIndexFile); err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	if l.index, err = parseIndex(b, "", maxLayoutTags); err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	return nil
}

// open returns a file of the layout by its clean path.
func (l *Layout) open(name string) (io.ReadCloser, int64, error) {
	if l.tar != nil {
		p, ok := l.parts[name]
		if !ok {
			return nil, 0, fs.ErrNotExist
		}
		return io.NopCloser(io.NewSectionReader(l.tar, p.offset, p.size)), p.size, nil
	}
	f, err := openRegular(filepath.Join(l.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, fi.Size(), nil
}

func (l *Layout) read(name string) ([]byte, error) {
	r, size, err := l.open(name)
	if err != nil {
		return nil, err
	}
	if size > maxDocument {
		return nil, errors.Join(fmt.Errorf("%s has %d bytes: %w", name, size, ErrTooLarge), r.Close())
	}
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	return b, errors.Join(err, r.Close())
}

// Close releases the archive.
func (l *Layout) Close() error {
	if l.tar == nil {
		return nil
	}
	return l.tar.Close()
}

// Fetch returns a blob. Its reader fails unless the content is what desc says.
func (l *Layout) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, fmt.Errorf("read from layout %s: %w", l.name, err)
	}
	if b, ok := l.made[desc.Digest]; ok {
		return verify(io.NopCloser(bytes.NewReader(b)), desc), nil
	}
	name := blobPath(desc.Digest)
	if place, ok := l.places[desc.Digest]; ok {
		name = place
	}
	r, _, err := l.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("layout %s: %s: %w", l.name, desc.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s from layout %s: %w", desc.Digest, l.name, err)
	}
	return verify(r, desc), nil
}

// Images are the entries of the index, an image once for each of its names.
func (l *Layout) Images() []ocispec.Descriptor { return slices.Clone(l.index.Manifests) }

// Resolve finds an entry by tag, full name, digest, or "tag@digest", where the digest
// decides. "" is the only entry, or the one tagged "latest".
func (l *Layout) Resolve(tagOrDigest string) (ocispec.Descriptor, error) {
	d, err := l.resolve(tagOrDigest)
	if err != nil {
		return d, fmt.Errorf("layout %s: %w", l.name, err)
	}
	return d, nil
}

func (l *Layout) resolve(want string) (ocispec.Descriptor, error) {
	if i := strings.LastIndexByte(want, '@'); i >= 0 {
		want = want[i+1:]
	}
	if strings.HasPrefix(want, "sha256:") || strings.HasPrefix(want, "sha512:") {
		return l.byDigest(digest.Digest(want))
	}
	if want == "" && len(l.index.Manifests) == 1 {
		return l.index.Manifests[0], nil
	}
	tag := want
	if tag == "" {
		tag = "latest"
	}
	var have []string
	for _, d := range l.index.Manifests {
		ref, name := d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationName]
		if tag == ref || tag == name {
			return d, nil
		}
		if ref != "" {
			have = append(have, ref)
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("tag %q: %w, it has %d images: %s", tag, ErrNotFound, len(l.index.Manifests), strings.Join(have[:min(len(have), 10)], ", "))
}

// byDigest finds an entry of the index, or a manifest that only another one refers to.
func (l *Layout) byDigest(d digest.Digest) (ocispec.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, e := range l.index.Manifests {
		if e.Digest == d {
			return e, nil
		}
	}
	b, err := l.read(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if d.Algorithm().FromBytes(b) != d {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", d, ErrContent)
	}
	desc := ocispec.Descriptor{Digest: d, Size: int64(len(b))}
	if idx, err := ParseIndex(b, ""); err == nil {
		desc.MediaType = idx.MediaType
		return desc, nil
	}
	m, err := ParseManifest(b, "")
	desc.MediaType = m.MediaType
	return desc, err
}
