package acceptance

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/registrytest"
)

// largeBase puts an image of one layer, which has a file "early" at its start and "last" at its end, into a registry.
func largeBase(t *testing.T, r *registrytest.Registry) (layer []byte) {
	t.Helper()
	large := make([]byte, 6<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(large) // never fails
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		body []byte
	}{{"early", []byte("1")}, {"large", large}, {"last", []byte("2")}} {
		must(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body))}))
		_, err := w.Write(f.body)
		must(t, err)
	}
	must(t, w.Close())
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(buf.Bytes())}}
	raw, err := json.Marshal(config)
	must(t, err)
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	manifest.SchemaVersion = 2
	manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.PutBlob("base", raw), Size: int64(len(raw))}
	manifest.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: r.PutBlob("base", buf.Bytes()), Size: int64(buf.Len())}}
	raw, err = json.Marshal(manifest)
	must(t, err)
	r.PutManifest("base", "1", ocispec.MediaTypeImageManifest, raw)
	return buf.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostileF02_KilledWhileALayerIsUnpackedAsItArrives: what is half made is nobody's layer, and the next build removes it.
func TestHostileF02_KilledWhileALayerIsUnpackedAsItArrives(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	layer := largeBase(t, r)
	w := newWorld(t, "FROM scratch\nCOPY --from="+r.Host+"/base:1 early last /\n", nil)
	cmd := w.command(w.dir)
	started := make(chan struct{})
	r.Intercept(func(rw http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, digest.FromBytes(layer).String()) {
			return false
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(layer)))
		_, _ = rw.Write(layer[:len(layer)/2])
		rw.(http.Flusher).Flush() //nolint:forcetypeassert // the server's
		<-started
		for range 6000 { // a minute
			if found, _ := filepath.Glob(filepath.Join(w.root, "snapshots/work/*/fs/*")); len(found) > 0 {
				_ = cmd.Process.Kill()
				return true
			}
			time.Sleep(10 * time.Millisecond) // another process: there is no event to wait for
		}
		t.Error("nothing is unpacked before the whole layer has arrived")
		return true
	})
	if o := w.runThen(cmd, func() { close(started) }); o.code != -1 {
		t.Fatalf("exit code %d:\n%s", o.code, o.stderr)
	}
	entries := func(dir string) []os.DirEntry {
		list, _ := os.ReadDir(filepath.Join(w.root, dir))
		return list
	}
	if made := entries("snapshots/layers"); len(made) > 0 {
		t.Errorf("half a layer is a layer: %v", made)
	}
	r.Intercept(nil)
	w.build("--output", "type=tar,dest="+filepath.Join(w.work, "out.tar"))
	out, err := os.ReadFile(filepath.Join(w.work, "out.tar"))
	must(t, err)
	for _, name := range []string{"early", "last"} {
		if !bytes.Contains(out, []byte(name)) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, dir := range []string{"snapshots/work", "oci/ingest"} {
		if left := entries(dir); len(left) > 0 {
			t.Errorf("%s: %v", dir, left)
		}
	}
}
