package store

import (
	"context"
	_ "crypto/sha512" // digests name it; go-digest uses the algorithms that are linked in
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Errors that callers decide on.
var (
	ErrNotFound = errors.New("not in the store")
	// ErrDigest says that content is not what its digest promises.
	ErrDigest = errors.New("digest mismatch")
	// ErrSize says that content is longer or shorter than promised.
	ErrSize = errors.New("size mismatch")
	// ErrCorrupt says that a stored blob was found damaged, and was removed: it is an ErrNotFound too.
	ErrCorrupt = fmt.Errorf("damaged blob removed: %w", ErrNotFound)
	// ErrNames says that the list of names cannot be read. Whatever writes it next puts it aside.
	ErrNames = errors.New("the list of the images' names is damaged, and begins anew with the next build that gives one")
)

// Store is an OCI image layout directory.
type Store struct {
	dir string

	// NamesLost, if set, hears that the list of names could not be read and begins anew: where the old one is now. Set it before use.
	NamesLost func(path string)

	mu       sync.Mutex
	verified map[digest.Digest]struct{} // hashed by this process, on write or on read
}

// Open returns the store in dir, which need not exist yet: it is made when the
// first blob or tag is written. A directory with a layout of another version is refused.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, verified: map[digest.Digest]struct{}{}}
	b, err := readFile(filepath.Join(dir, ocispec.ImageLayoutFile), maxLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(b, &layout); err != nil {
		return nil, fmt.Errorf("open store %s: read %s: %w", dir, ocispec.ImageLayoutFile, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("open store %s: layout version %q, need %q", dir, layout.Version, ocispec.ImageLayoutVersion)
	}
	return s, nil
}

// Dir is the directory of the layout.
func (s *Store) Dir() string { return s.dir }

// path is where the blob of a valid digest lives. A digest is parsed before
// it becomes a file name: it comes from outside.
func (s *Store) path(d digest.Digest) (string, error) {
	if err := checkDigest(d); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// checkDigest accepts the two algorithms that are in use, in their one spelling.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", string(d), err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: %w", string(d), digest.ErrDigestUnsupported)
	}
	return nil
}

// Has says whether the blob is there, and how long it is. It does not read the blob.
func (s *Store) Has(d digest.Digest) (size int64, ok bool) {
	p, err := s.path(d)
	if err != nil {
		return 0, false
	}
	fi, err := os.Lstat(p)
	if err != nil || !fi.Mode().IsRegular() {
		return 0, false
	}
	return fi.Size(), true
}

// Open returns the blob as it is on disk, unverified. See OpenVerified.
func (s *Store) Open(d digest.Digest) (*os.File, error) {
	p, err := s.path(d)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	f, err := openRegular(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, nil
}

// OpenVerified returns the blob after its content was checked against d. Each
// blob is hashed once in the life of a Store, the first time it is asked for.
// A damaged blob is removed and reported as ErrCorrupt.
func (s *Store) OpenVerified(ctx context.Context, d digest.Digest) (*os.File, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	if s.isVerified(d) {
		return f, nil
	}
	if err := s.verifyFile(ctx, d, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Verify hashes the blob again, whatever was verified before.
// A damaged blob is removed and reported as ErrCorrupt.
func (s *Store) Verify(ctx context.Context, d digest.Digest) error {
	f, err := s.Open(d)
	if err != nil {
		return err
	}
	return errors.Join(s.verifyFile(ctx, d, f), f.Close())
}

// verifyFile hashes f and leaves it at its start.
func (s *Store) verifyFile(ctx context.Context, d digest.Digest, f *os.File) error {
	v := d.Verifier()
	if _, err := copyContext(ctx, v, f); err != nil {
		return fmt.Errorf("verify blob %s: %w", d, err)
	}
	if !v.Verified() {
		s.forget(d)
		return errors.Join(fmt.Errorf("blob %s: %w", d, ErrCorrupt), s.removeSame(d, f))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("verify blob %s: %w", d, err)
	}
	s.markVerified(d)
	return nil
}

// removeSame removes the blob only while its name still belongs to the file
// that was found damaged: another process may have put a good one there.
func (s *Store) removeSame(d digest.Digest, f *os.File) error {
	p, err := s.path(d)
	if err != nil {
		return err
	}
	have, err := f.Stat()
	if err != nil {
		return fmt.Errorf("remove damaged blob: %w", err)
	}
	now, err := os.Lstat(p)
	if err != nil || !os.SameFile(have, now) {
		return nil //nolint:nilerr // gone or replaced: nothing left to remove
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove damaged blob: %w", err)
	}
	return nil
}

// ReadAll returns the whole verified blob, which must not be longer than limit.
func (s *Store) ReadAll(d digest.Digest, limit int64) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		err = fmt.Errorf("read blob %s: %w", d, err)
	case int64(len(b)) > limit:
		err = fmt.Errorf("read blob %s: longer than %d bytes: %w", d, limit, ErrSize)
	case d.Algorithm().FromBytes(b) != d:
		s.forget(d)
		err = errors.Join(fmt.Errorf("read blob %s: %w", d, ErrCorrupt), s.removeSame(d, f))
	default:
		s.markVerified(d)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return b, nil
}

// WalkBlobs calls fn for every blob, in no particular order, until fn fails.
// Files that are not blobs are passed over.
func (s *Store) WalkBlobs(fn func(d digest.Digest, size int64, mtime time.Time) error) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		if err := s.walkDir(a, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) walkDir(a digest.Algorithm, fn func(d digest.Digest, size int64, mtime time.Time) error) error {
	dir, err := os.Open(filepath.Join(s.dir, ocispec.ImageBlobsDir, a.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(walkBatch)
		for _, e := range entries {
			if err := visit(a, e, fn); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
	}
}

func visit(a digest.Algorithm, e fs.DirEntry, fn func(d digest.Digest, size int64, mtime time.Time) error) error {
	d := digest.NewDigestFromEncoded(a, e.Name())
	if checkDigest(d) != nil {
		return nil //nolint:nilerr // a temporary file, or nothing of ours
	}
	fi, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !fi.Mode().IsRegular()) {
		return nil // removed meanwhile by another process
	}
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return fn(d, fi.Size(), fi.ModTime())
}

// Remove deletes a blob. One that is not there is no error.
func (s *Store) Remove(d digest.Digest) error {
	p, err := s.path(d)
	if err != nil {
		return fmt.Errorf("remove blob: %w", err)
	}
	s.forget(d)
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	return nil
}

func (s *Store) isVerified(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.verified[d]
	return ok
}

func (s *Store) markVerified(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified[d] = struct{}{}
}

func (s *Store) forget(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.verified, d)
}

// openRegular opens a file for reading and refuses anything but a regular one;
// O_NONBLOCK keeps a FIFO that was put there from hanging the open.
func openRegular(p string) (*os.File, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", p)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(p string, limit int64) ([]byte, error) {
	f, err := openRegular(p)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", p, limit)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return b, nil
}

// copyContext is io.Copy that stops when ctx is done.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(writerOnly{w}, contextReader{ctx, r}, make([]byte, copyBuffer))
}

type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// writerOnly hides ReadFrom, which would take the copy out of copyContext's buffer.
type writerOnly struct{ io.Writer }
