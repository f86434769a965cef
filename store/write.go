package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
)

// ingestDir holds the temporary files of writers. The image layout allows other
// entries beside its own (image-layout.md, "Content").
const ingestDir = "ingest"

// tempPattern names temporary files so that atomicfile.Sweep knows them.
const tempPattern = ".tmp-*"

// published is how files appear in the layout: readable, since other tools may be let in by the directories' modes.
var published = atomicfile.Options{Mode: 0o644, Durable: true}

// Writer takes the bytes of one blob. It belongs to one goroutine; exactly one of
// Commit, CommitAny and Abort ends it, and Abort after one of the others does nothing.
type Writer struct {
	s    *Store
	f    *os.File
	hash hash.Hash // sha256
	alt  hash.Hash // the algorithm of the promised digest when it is another one
	size int64
	err  error // the first failed write: such a file is never committed
}

// Writer starts a blob whose digest need not be known yet.
func (s *Store) Writer() (*Writer, error) { return s.newWriter(digest.SHA256) }

func (s *Store) newWriter(a digest.Algorithm) (*Writer, error) {
	f, err := s.tempFile()
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	w := &Writer{s: s, f: f, hash: digest.SHA256.Hash()}
	if a != digest.SHA256 {
		w.alt = a.Hash()
	}
	return w, nil
}

// tempFile makes a file below ingest and locks it: Sweep takes only files that
// no living process holds locked.
func (s *Store) tempFile() (*os.File, error) {
	dir := filepath.Join(s.dir, ingestDir)
	for range tempAttempts {
		f, err := os.CreateTemp(dir, tempPattern)
		if errors.Is(err, fs.ErrNotExist) {
			if err := s.create(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := filelock.Try(f, filelock.Exclusive); err != nil {
			return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
		}
		if _, err := os.Lstat(f.Name()); err == nil {
			return f, nil
		}
		_ = f.Close() // a sweep took it between its creation and its lock
	}
	return nil, fmt.Errorf("create temporary file: %w", fs.ErrExist)
}

// create makes the directories and the file that mark a layout. They are
// private: layers may hold setuid files and other people's data.
func (s *Store) create() error {
	blobs := filepath.Join(ocispec.ImageBlobsDir, digest.SHA256.String())
	for _, d := range []string{"", ingestDir, ocispec.ImageBlobsDir, blobs} {
		if err := atomicfile.Mkdir(filepath.Join(s.dir, d)); err != nil {
			return err
		}
	}
	p := filepath.Join(s.dir, ocispec.ImageLayoutFile)
	if _, err := os.Lstat(p); err == nil {
		return nil
	}
	return atomicfile.Write(p, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`), published)
}

// Write adds to the blob.
func (w *Writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("write blob: %w", fs.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	if w.alt != nil {
		w.alt.Write(p[:n])
	}
	w.size += int64(n)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// Digest is that of what was written so far.
func (w *Writer) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, w.hash) }

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Commit publishes the blob when what was written has this digest and size,
// and otherwise removes it and returns ErrDigest or ErrSize. A blob that is already stored is kept.
func (w *Writer) Commit(d digest.Digest, size int64) error {
	if err := checkDigest(d); err != nil {
		return errors.Join(fmt.Errorf("commit blob: %w", err), w.Abort())
	}
	if w.size != size {
		return errors.Join(fmt.Errorf("blob %s: got %d bytes, expected %d: %w", d, w.size, size, ErrSize), w.Abort())
	}
	got := digest.NewDigest(digest.SHA256, w.hash)
	if d.Algorithm() != digest.SHA256 {
		if w.alt == nil {
			return errors.Join(fmt.Errorf("blob %s: %w", d, digest.ErrDigestUnsupported), w.Abort())
		}
		got = digest.NewDigest(d.Algorithm(), w.alt)
	}
	if got != d {
		return errors.Join(fmt.Errorf("blob %s: content has %s: %w", d, got, ErrDigest), w.Abort())
	}
	return w.publish(d)
}

// CommitAny publishes the blob under the digest of what was written.
func (w *Writer) CommitAny() (digest.Digest, int64, error) {
	d, size := digest.NewDigest(digest.SHA256, w.hash), w.size
	if err := w.publish(d); err != nil {
		return "", 0, err
	}
	return d, size, nil
}

// publish makes the file durable and gives it its name. Nothing is retried
// after a failed fsync or close: the kernel may have dropped the dirty pages.
func (w *Writer) publish(d digest.Digest) error {
	if w.f == nil {
		return fmt.Errorf("commit blob %s: %w", d, fs.ErrClosed)
	}
	if w.err != nil {
		return errors.Join(fmt.Errorf("commit blob %s: %w", d, w.err), w.Abort())
	}
	if size, ok := w.s.Has(d); ok && size == w.size {
		return w.Abort()
	}
	p, err := w.s.path(d)
	if err == nil {
		err = w.f.Chmod(0o644)
	}
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil {
		err = atomicfile.Mkdir(filepath.Dir(p)) // sha512 is made when it is first used
	}
	if err == nil {
		err = os.Rename(w.f.Name(), p)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("commit blob %s: %w", d, err), w.Abort())
	}
	err = w.f.Close()
	w.f = nil
	if err = errors.Join(err, syncDir(filepath.Dir(p))); err != nil {
		return errors.Join(fmt.Errorf("commit blob %s: %w", d, err), os.Remove(p))
	}
	w.s.markVerified(d)
	return nil
}

// Abort drops what was written.
func (w *Writer) Abort() error {
	if w.f == nil {
		return nil
	}
	err := errors.Join(os.Remove(w.f.Name()), w.f.Close())
	w.f = nil
	if err != nil {
		return fmt.Errorf("abort blob: %w", err)
	}
	return nil
}

// Put stores what r holds as the blob that expect describes. It reads at most one
// byte more than expect.Size, and nothing at all when the blob is already there.
func (s *Store) Put(ctx context.Context, expect ocispec.Descriptor, r io.Reader) error {
	return s.PutWatched(ctx, expect, r, nil)
}

// PutWatched is Put that gives away the blob as it arrives: begun, unless it is nil, is called once, before the first byte, with
// what its owner then closes. It is not called where Put reads nothing.
func (s *Store) PutWatched(ctx context.Context, expect ocispec.Descriptor, r io.Reader, begun func(*Incoming)) (err error) {
	if err := checkDigest(expect.Digest); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if expect.Size < 0 {
		return fmt.Errorf("store blob %s: size %d: %w", expect.Digest, expect.Size, ErrSize)
	}
	if size, ok := s.Has(expect.Digest); ok && size == expect.Size {
		return nil
	}
	w, err := s.newWriter(expect.Digest.Algorithm())
	if err != nil {
		return err
	}
	if begun == nil {
		return w.receive(ctx, expect, r, w)
	}
	in, err := w.incoming(expect.Digest)
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	begun(in)
	err = ErrIncomplete // what a panic leaves
	defer func() { in.end(err) }()
	err = w.receive(ctx, expect, r, arriving{w, in})
	return err
}

// receive copies r to the writer, by way of to, and commits it as what was expected.
func (w *Writer) receive(ctx context.Context, expect ocispec.Descriptor, r io.Reader, to io.Writer) error {
	// One byte past the promise tells a longer body without reading it. A promise of
	// 2^63-1 is not extended: such a body ends by the disk's size, not by ours.
	limit := expect.Size
	if limit+1 > limit {
		limit++
	}
	if _, err := copyContext(ctx, to, io.LimitReader(r, limit)); err != nil {
		return errors.Join(fmt.Errorf("store blob %s: %w", expect.Digest, err), w.Abort())
	}
	if w.size > expect.Size {
		return errors.Join(fmt.Errorf("blob %s: longer than %d bytes: %w", expect.Digest, expect.Size, ErrSize), w.Abort())
	}
	return w.Commit(expect.Digest, expect.Size)
}

// PutBytes stores b.
func (s *Store) PutBytes(b []byte) (digest.Digest, error) {
	d := digest.FromBytes(b)
	desc := ocispec.Descriptor{Digest: d, Size: int64(len(b))}
	return d, s.Put(context.Background(), desc, bytes.NewReader(b))
}

// Sweep removes the temporary files of writers that died.
func (s *Store) Sweep() error {
	for _, dir := range []string{s.dir, filepath.Join(s.dir, ingestDir)} {
		if err := atomicfile.Sweep(dir); err != nil {
			return fmt.Errorf("sweep store: %w", err)
		}
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
