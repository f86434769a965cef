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
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
)

// annotationName carries an image's full name in index.json, as containerd and BuildKit write it.
const annotationName = "io.containerd.image.name"

const layoutFile = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`

// WriteLayout adds the image or index root to the layout directory dir, which is made if it is
// missing, under each of the names (full references). An equal name is replaced, other content
// stays. Blobs come first and index.json last, so a failed call leaves what was there.
func WriteLayout(ctx context.Context, dir string, src Fetcher, root ocispec.Descriptor, names []string, epoch *time.Time) error {
	if err := os.MkdirAll(filepath.Join(dir, ocispec.ImageBlobsDir, digest.SHA256.String()), 0o755); err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	if err := Copy(ctx, src, layoutDir(dir), root, CopyOptions{}); err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	err := writeIfMissing(filepath.Join(dir, ocispec.ImageLayoutFile), []byte(layoutFile))
	if err == nil {
		err = updateIndex(ctx, dir, tagged(root, names, epoch))
	}
	if err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	return nil
}

// layoutDir is a layout directory as the goal of a copy.
type layoutDir string

func (l layoutDir) path(d digest.Digest) string {
	return filepath.Join(string(l), ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// Exists believes a file of the right size only after reading it: others write in an output directory too.
func (l layoutDir) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	f, err := openRegular(l.path(desc.Digest))
	if err != nil {
		return false, nil //nolint:nilerr // whatever is there is replaced by rename
	}
	_, err = io.Copy(io.Discard, verify(f, desc))
	return err == nil, f.Close()
}

func (l layoutDir) Push(ctx context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error {
	p := l.path(desc.Digest)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFunc(p, published, func(w io.Writer) error {
		v := verify(io.NopCloser(r), desc)
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, contextReader{ctx, v}, make([]byte, copyBuffer))
		return err
	})
}

// tagged gives the index entries of a root: one per name, or one without a name.
func tagged(root ocispec.Descriptor, names []string, epoch *time.Time) []ocispec.Descriptor {
	if len(names) == 0 {
		names = []string{""}
	}
	var out []ocispec.Descriptor
	for _, name := range names {
		a := map[string]string{}
		for k, v := range root.Annotations {
			a[k] = v
		}
		if name != "" {
			a[annotationName], a[ocispec.AnnotationRefName] = name, refName(name)
		}
		if epoch != nil {
			a[ocispec.AnnotationCreated] = epoch.UTC().Format(time.RFC3339)
		}
		d := root
		if d.Annotations = a; len(a) == 0 {
			d.Annotations = nil
		}
		out = append(out, d)
	}
	return out
}

// refName is the tag of a full name, by which tools look up an image in a layout.
func refName(name string) string {
	base, _, _ := strings.Cut(name, "@")
	if i := strings.LastIndexByte(base, ':'); i > strings.LastIndexByte(base, '/') {
		return base[i+1:]
	}
	return name
}

func newIndex() ocispec.Index {
	return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
}

// updateIndex adds entries to dir's index.json under a lock, whose file is removed
// afterwards: the directory belongs to the user.
func updateIndex(ctx context.Context, dir string, entries []ocispec.Descriptor) (err error) {
	lock, err := filelock.Lock(ctx, filepath.Join(dir, ".index.lock"), filelock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	p := filepath.Join(dir, ocispec.ImageIndexFile)
	idx := newIndex()
	b, err := readRegular(p, maxDocument)
	if err == nil {
		idx, err = parseIndex(b, "", maxLayoutTags)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	for _, e := range entries {
		idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return sameEntry(d, e) })
		idx.Manifests = append(idx.Manifests, e)
	}
	if b, err = json.Marshal(idx); err != nil {
		return err
	}
	return atomicfile.Write(p, b, published)
}

// sameEntry says whether a new entry takes the place of an old one. Tools look up the tag and
// take the first match, so the same tag of other content must go; of the same content
// it may stay for another full name (-t a:1 -t b:1).
func sameEntry(old, entry ocispec.Descriptor) bool {
	if old.Annotations[ocispec.AnnotationRefName] != entry.Annotations[ocispec.AnnotationRefName] {
		return false
	}
	if entry.Annotations[ocispec.AnnotationRefName] == "" {
		return old.Digest == entry.Digest
	}
	name := old.Annotations[annotationName]
	return old.Digest != entry.Digest || name == "" || name == entry.Annotations[annotationName]
}

// WriteOCITar writes the image or index root as a tar of an image layout. The bytes
// depend on root, names and epoch alone. On error w holds an incomplete archive: give a temporary file.
func WriteOCITar(ctx context.Context, w io.Writer, src Fetcher, root ocispec.Descriptor, names []string, epoch *time.Time) error {
	g, err := walk(ctx, src, root, nil)
	if err == nil {
		err = writeArchive(ctx, w, src, g, tagged(root, names, epoch), nil)
	}
	if err != nil {
		return fmt.Errorf("write OCI archive of %s: %w", root.Digest, err)
	}
	return nil
}

// dockerImage is an entry of manifest.json, the table of contents of `docker save`.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteDockerTar writes the image root as an archive that `docker load` reads, which is
// a layout too. Of an index it takes the only image, and fails when there are several.
func WriteDockerTar(ctx context.Context, w io.Writer, src Fetcher, root ocispec.Descriptor, names []string, epoch *time.Time) error {
	err := writeDockerTar(ctx, w, src, root, names, epoch)
	if err != nil {
		return fmt.Errorf("write docker archive of %s: %w", root.Digest, err)
	}
	return nil
}

func writeDockerTar(ctx context.Context, w io.Writer, src Fetcher, root ocispec.Descriptor, names []string, epoch *time.Time) error {
	desc, err := onlyImage(ctx, src, root)
	if err != nil {
		return err
	}
	g, err := walk(ctx, src, desc, nil)
	if err != nil {
		return err
	}
	m, err := ParseManifest(g.manifests[0].data, desc.MediaType)
	if err != nil {
		return err
	}
	entry := dockerImage{Config: blobPath(m.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	for _, n := range names {
		entry.RepoTags = append(entry.RepoTags, familiar(n))
	}
	for _, l := range m.Layers {
		entry.Layers = append(entry.Layers, blobPath(l.Digest))
	}
	list, err := json.Marshal([]dockerImage{entry})
	if err != nil {
		return err
	}
	return writeArchive(ctx, w, src, g, tagged(desc, names, epoch), list)
}

// onlyImage follows an index to its one image.
func onlyImage(ctx context.Context, src Fetcher, root ocispec.Descriptor) (ocispec.Descriptor, error) {
	if !IsIndex(root.MediaType) {
		return root, nil
	}
	b, err := fetchAll(ctx, src, root)
	if err != nil {
		return root, err
	}
	idx, err := ParseIndex(b, root.MediaType)
	if err != nil {
		return root, err
	}
	images := slices.DeleteFunc(idx.Manifests, isAttestation)
	if len(images) != 1 || !IsManifest(images[0].MediaType) {
		return root, fmt.Errorf("%d platforms (%s), but a docker archive holds one: build one platform, or use type=oci",
			len(images), strings.Join(listPlatforms(images), ", "))
	}
	return images[0], nil
}

// familiar is the name as Docker shows it; older versions load only this spelling.
func familiar(name string) string {
	name = strings.TrimPrefix(name, "docker.io/")
	if rest, ok := strings.CutPrefix(name, "library/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return name
}

// blobPath is a blob's path in an archive.
func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// writeArchive writes a layout as tar: the small files that readers want first, then
// the blobs in the order of their names. All times are zero, owner and modes are fixed.
func writeArchive(ctx context.Context, w io.Writer, src Fetcher, g *graph, entries []ocispec.Descriptor, dockerList []byte) error {
	idx := newIndex()
	idx.Manifests = entries
	index, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	a := archive{tw: tar.NewWriter(w)}
	a.bytes(ocispec.ImageLayoutFile, []byte(layoutFile))
	a.bytes(ocispec.ImageIndexFile, index)
	if dockerList != nil {
		a.bytes("manifest.json", dockerList)
	}
	data := map[digest.Digest][]byte{}
	blobs := slices.Concat(g.layers, g.configs)
	for _, m := range g.manifests {
		data[m.desc.Digest] = m.data
		blobs = append(blobs, m.desc)
	}
	slices.SortFunc(blobs, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	a.dir(ocispec.ImageBlobsDir)
	var dir string
	for _, d := range blobs {
		if p := path.Dir(blobPath(d.Digest)); p != dir {
			dir = p
			a.dir(dir)
		}
		a.header(tar.TypeReg, blobPath(d.Digest), 0o644, d.Size)
		if a.err != nil {
			return a.err
		}
		if b, ok := data[d.Digest]; ok {
			_, a.err = a.tw.Write(b)
		} else {
			a.err = copyVerified(ctx, a.tw, src, d)
		}
	}
	return errors.Join(a.err, a.tw.Close())
}

// archive writes entries until the first error.
type archive struct {
	tw  *tar.Writer
	err error
}

func (a *archive) header(typ byte, name string, mode, size int64) {
	if a.err == nil {
		a.err = a.tw.WriteHeader(&tar.Header{Typeflag: typ, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0)})
	}
}

func (a *archive) dir(name string) { a.header(tar.TypeDir, name+"/", 0o755, 0) }

func (a *archive) bytes(name string, b []byte) {
	a.header(tar.TypeReg, name, 0o644, int64(len(b)))
	if a.err == nil {
		_, a.err = io.Copy(a.tw, bytes.NewReader(b))
	}
}
