package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/store"
)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func describe(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// count is a reader that knows how much was read of it.
type count struct {
	r io.Reader
	n int64
}

func (c *count) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func blobs(t *testing.T, s *store.Store) []string {
	t.Helper()
	var out []string
	err := s.WalkBlobs(func(d digest.Digest, size int64, _ time.Time) error {
		out = append(out, fmt.Sprintf("%s %d", d, size))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func noLeftovers(t *testing.T, s *store.Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.Dir(), "ingest"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestHostileH41_PutStoresOnlyWhatItsDescriptorPromises(t *testing.T) {
	t.Parallel()
	body := []byte("the body")
	good := describe(body)
	tests := []struct {
		name string
		desc ocispec.Descriptor
		body string
		want error
	}{
		{"right bytes are stored", good, "the body", nil},
		{"one bit wrong", good, "the bodx", store.ErrDigest},
		{"shorter", good, "the bod", store.ErrSize},
		{"longer", good, "the body and more", store.ErrSize},
		{"promise of nothing", ocispec.Descriptor{Digest: good.Digest, Size: 0}, "the body", store.ErrSize},
		{"size -1", ocispec.Descriptor{Digest: good.Digest, Size: -1}, "the body", store.ErrSize},
		{"size 2^63-1", ocispec.Descriptor{Digest: good.Digest, Size: 1<<63 - 1}, "the body", store.ErrSize},
		{"one less", ocispec.Descriptor{Digest: good.Digest, Size: good.Size - 1}, "the body", store.ErrSize},
		{"one more", ocispec.Descriptor{Digest: good.Digest, Size: good.Size + 1}, "the body", store.ErrSize},
		{"sha512", ocispec.Descriptor{Digest: digest.SHA512.FromBytes(body), Size: 8}, "the body", nil},
		{"sha512 of other bytes", ocispec.Descriptor{Digest: digest.SHA512.FromString("x"), Size: 8}, "the body", store.ErrDigest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			r := &count{r: strings.NewReader(tt.body)}
			err := s.Put(t.Context(), tt.desc, r)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Put: %v, want %v", err, tt.want)
			}
			if _, ok := s.Has(tt.desc.Digest); ok != (tt.want == nil) {
				t.Errorf("Has = %v after %v", ok, err)
			}
			noLeftovers(t, s)
		})
	}
}

func TestPutReadsNoMoreThanOneByteBeyondThePromise(t *testing.T) {
	t.Parallel()
	s := open(t)
	r := &count{r: io.LimitReader(zeros{}, 1<<30)}
	err := s.Put(t.Context(), ocispec.Descriptor{Digest: digest.FromString("x"), Size: 10}, r)
	if !errors.Is(err, store.ErrSize) || r.n != 11 {
		t.Errorf("read %d bytes: %v", r.n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHostileH46_StrangeDigestsNeverBecomePaths(t *testing.T) {
	t.Parallel()
	s := open(t)
	hex := digest.FromString("x").Encoded()
	for _, d := range []string{
		"", "sha256:../../../../etc/passwd", "sha256:" + hex[:63], "sha256:" + strings.ToUpper(hex),
		"md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + hex, "sha384:" + hex + hex[:32], "../x:" + hex,
	} {
		d := digest.Digest(d)
		desc := ocispec.Descriptor{Digest: d, Size: 1}
		if err := s.Put(t.Context(), desc, strings.NewReader("x")); err == nil {
			t.Errorf("%q: Put took it", d)
		}
		if _, ok := s.Has(d); ok {
			t.Errorf("%q: Has", d)
		}
		if _, err := s.Open(d); err == nil {
			t.Errorf("%q: Open took it", d)
		}
		if err := s.Remove(d); err == nil {
			t.Errorf("%q: Remove took it", d)
		}
		if err := s.Tag("a:1", desc); err == nil {
			t.Errorf("%q: Tag took it", d)
		}
	}
	if b := blobs(t, s); b != nil {
		t.Errorf("stored: %v", b)
	}
}

func TestExistingBlobIsNotReadAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	d, err := s.PutBytes([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	r := &count{r: strings.NewReader("x")}
	if err := s.Put(t.Context(), ocispec.Descriptor{Digest: d, Size: 1}, r); err != nil || r.n != 0 {
		t.Errorf("read %d bytes: %v", r.n, err)
	}
}

func TestDamagedBlobIsFoundAndRemoved(t *testing.T) {
	t.Parallel()
	damage := map[string]func(p string) error{
		"bit":     func(p string) error { return os.WriteFile(p, []byte("the bodx"), 0o600) },
		"cut":     func(p string) error { return os.Truncate(p, 3) },
		"empty":   func(p string) error { return os.Truncate(p, 0) },
		"longer":  func(p string) error { return os.WriteFile(p, []byte("the body!"), 0o600) },
		"to zero": func(p string) error { return os.WriteFile(p, make([]byte, 8), 0o600) },
	}
	reads := map[string]func(s *store.Store, d digest.Digest) error{
		"OpenVerified": func(s *store.Store, d digest.Digest) error {
			_, err := s.OpenVerified(context.Background(), d)
			return err
		},
		"ReadAll": func(s *store.Store, d digest.Digest) error { _, err := s.ReadAll(d, 100); return err },
		"Verify":  func(s *store.Store, d digest.Digest) error { return s.Verify(context.Background(), d) },
		"Fetch": func(s *store.Store, d digest.Digest) error {
			_, err := s.Fetch(context.Background(), ocispec.Descriptor{Digest: d})
			return err
		},
	}
	for dn, spoil := range damage {
		for rn, read := range reads {
			t.Run(dn+"/"+rn, func(t *testing.T) {
				t.Parallel()
				s := open(t)
				d, err := s.PutBytes([]byte("the body"))
				if err != nil {
					t.Fatal(err)
				}
				if err := spoil(filepath.Join(s.Dir(), "blobs/sha256", d.Encoded())); err != nil {
					t.Fatal(err)
				}
				s, err = store.Open(s.Dir()) // another process, that wrote nothing
				if err != nil {
					t.Fatal(err)
				}
				if err := read(s, d); !errors.Is(err, store.ErrCorrupt) || !errors.Is(err, store.ErrNotFound) {
					t.Errorf("got %v, want ErrCorrupt", err)
				}
				if _, ok := s.Has(d); ok {
					t.Error("damaged blob is still there")
				}
				if _, err := s.PutBytes([]byte("the body")); err != nil {
					t.Fatal(err)
				}
				if err := read(s, d); err != nil {
					t.Errorf("after storing it again: %v", err)
				}
			})
		}
	}
}

func TestBlobIsHashedOncePerProcess(t *testing.T) {
	t.Parallel()
	s := open(t)
	d, err := s.PutBytes([]byte("the body"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "blobs/sha256", d.Encoded()), []byte("the bodx"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenVerified(t.Context(), d) // believed: this process wrote it
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := s.Verify(t.Context(), d); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Verify believes what was verified before: %v", err)
	}
}

func TestReadAllIsBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	d, err := s.PutBytes(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAll(d, 99); !errors.Is(err, store.ErrSize) {
		t.Errorf("got %v", err)
	}
	if b, err := s.ReadAll(d, 100); err != nil || len(b) != 100 {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

func TestWriterEndsOnceAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	w, err := s.Writer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	d, n, err := w.CommitAny()
	if err != nil || n != 3 || d != digest.FromString("abc") {
		t.Fatalf("%s %d %v", d, n, err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	if _, _, err := w.CommitAny(); err == nil {
		t.Error("second commit")
	}
	if _, err := w.Write([]byte("d")); err == nil {
		t.Error("write after commit")
	}
	if w, err = s.Writer(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(digest.FromString("abc"), 3); !errors.Is(err, store.ErrSize) {
		t.Errorf("got %v", err)
	}
	noLeftovers(t, s)
	if err := s.Verify(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestSweepTakesOnlyDeadWriters(t *testing.T) {
	t.Parallel()
	s := open(t)
	live, err := s.Writer()
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(s.Dir(), "ingest", ".tmp-dead")
	if err := os.WriteFile(dead, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead writer's file is still there: %v", err)
	}
	if _, err := live.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := live.CommitAny(); err != nil {
		t.Errorf("a living writer's file was swept: %v", err)
	}
}

func TestK3_Tags(t *testing.T) {
	t.Parallel()
	s := open(t)
	one, two := describe([]byte("1")), describe([]byte("2"))
	two.Annotations = map[string]string{ocispec.AnnotationCreated: "2020-01-01T00:00:00Z"}
	if _, err := s.Resolve("docker.io/library/a:1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("empty store: %v", err)
	}
	for name, d := range map[string]ocispec.Descriptor{
		"docker.io/library/a:1": one, "docker.io/library/b:1": one, "localhost:5000/c": two,
	} {
		if err := s.Tag(name, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag("docker.io/library/a:1", two); err != nil {
		t.Fatal(err)
	}
	tags, err := s.Tags()
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Tag{
		{Name: "docker.io/library/a:1", Desc: two}, {Name: "docker.io/library/b:1", Desc: one}, {Name: "localhost:5000/c", Desc: two},
	}
	if d := cmp.Diff(want, tags); d != "" {
		t.Error(d)
	}
	was, err := s.Untag("docker.io/library/a:1")
	if err != nil || cmp.Diff(was, two) != "" {
		t.Errorf("Untag: %v %v", was, err)
	}
	if _, err := s.Untag("docker.io/library/a:1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second Untag: %v", err)
	}
	for _, bad := range []string{"", "a b", "a\nb", "a\x1b[2J", strings.Repeat("x", 2000)} {
		if err := s.Tag(bad, one); err == nil {
			t.Errorf("name %q taken", bad)
		}
	}
}

func TestConcurrentTagsAreAllKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	var wg sync.WaitGroup
	for i := range 20 {
		other, err := store.Open(s.Dir()) // as another process would
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := other.Tag(fmt.Sprintf("a:%d", i), describe([]byte{1})); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if tags, err := s.Tags(); err != nil || len(tags) != 20 {
		t.Errorf("%d tags, %v", len(tags), err)
	}
}

func TestConcurrentWritersOfOneBlob(t *testing.T) {
	t.Parallel()
	s := open(t)
	body := bytes.Repeat([]byte("x"), 1<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Put(context.Background(), describe(body), bytes.NewReader(body)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	noLeftovers(t, s)
	if b := blobs(t, s); len(b) != 1 {
		t.Errorf("blobs: %v", b)
	}
}

func TestPutStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if err := s.Put(ctx, ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1 << 40}, zeros{}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	noLeftovers(t, s)
}

func TestNotRegularFilesAreNotBlobs(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.PutBytes([]byte("x")); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("secret")
	target := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(target, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(s.Dir(), "blobs/sha256", d.Encoded())); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Has(d); ok {
		t.Error("a link counts as a blob")
	}
	if _, err := s.Open(d); err == nil {
		t.Error("a link was followed")
	}
	if n := len(blobs(t, s)); n != 1 {
		t.Errorf("%d blobs listed", n)
	}
}

func TestOpenRefusesOtherLayouts(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"other version": `{"imageLayoutVersion":"2.0.0"}`, "no JSON": `x`, "too long": strings.Repeat(" ", 5000),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(dir); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestSkopeoReadsTheStore(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	s := open(t)
	put := func(mt, body string) string {
		d, err := s.PutBytes([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mt, d, len(body))
	}
	config := put(ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + config + `,"layers":[]}`)
	if _, err := s.PutBytes(manifest); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag("example.com/app:v1", describe(manifest)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(skopeo, "inspect", "--config", "oci:"+s.Dir()+":example.com/app:v1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "A=b") {
		t.Errorf("skopeo inspect: %v\n%s", err, out)
	}
}

func TestTaggingTheSameAgainWritesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	if err := s.Tag("example.com/a:1", desc); err != nil {
		t.Fatal(err)
	}
	stamp := s.TagStamp()
	if err := s.Tag("example.com/a:1", desc); err != nil {
		t.Fatal(err)
	}
	if now := s.TagStamp(); now != stamp {
		t.Errorf("%s became %s", stamp, now)
	}
	desc.Size = 2
	if err := s.Tag("example.com/a:1", desc); err != nil {
		t.Fatal(err)
	}
	if s.TagStamp() == stamp {
		t.Error("another image, and the index is as it was")
	}
}

// A list of names that a fault of the disk has damaged keeps no later build from naming its image. What can be saved of it is there.
func TestHostileF07F08_ADamagedListOfNamesBeginsAnew(t *testing.T) {
	t.Parallel()
	s := open(t)
	desc := describe([]byte("manifest"))
	if err := s.Tag("example.com/a:1", desc); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(s.Dir(), ocispec.ImageIndexFile)
	damaged := make([]byte, 100)
	if err := os.WriteFile(index, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tags(); !errors.Is(err, store.ErrNames) {
		t.Errorf("reading: %v", err)
	}
	told := ""
	s.NamesLost = func(path string) { told = path }
	if err := s.Tag("example.com/b:1", desc); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(told); err != nil || !bytes.Equal(got, damaged) {
		t.Errorf("put aside as %q: %v", told, err)
	}
	if tags, err := s.Tags(); err != nil || len(tags) != 1 {
		t.Errorf("%v, %v", tags, err)
	}
}
