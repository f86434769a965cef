package builder

import (
	"archive/tar"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/registrytest"
	"gobuild/layer"
)

// arriving is a base of one large layer whose first file is told by a notice when it is unpacked.
type arriving struct {
	*project
	r     *registrytest.Registry
	image *rawImage

	once  sync.Once
	early chan struct{} // closed when the first file is unpacked
}

func newArriving(t *testing.T) *arriving {
	t.Helper()
	a := &arriving{r: registrytest.New(t), early: make(chan struct{})}
	a.image = rawLayers(t, rawTar(t,
		tarEntry{Name: "early", Body: []byte("1"), PAX: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}, Format: tar.FormatPAX},
		tarEntry{Name: "large", Body: rawNoise(1, 6<<20)},
		tarEntry{Name: "last", Body: []byte("2")}))
	a.image.put(t, a.r, "base", "1")
	a.project = newProject(t, "FROM scratch\nCOPY --from="+a.r.Host+"/base:1 early last /\n", nil)
	a.during = func(e Event) {
		if strings.Contains(e.Text, "trusted.overlay.opaque") {
			a.once.Do(func() { close(a.early) })
		}
	}
	return a
}

func (a *arriving) layer() []byte { return a.image.Blobs[0] }

// serve answers each request for the layer by do, which gets how many came before.
func (a *arriving) serve(do func(w http.ResponseWriter, req *http.Request, nth int)) {
	path, asked := "/blobs/"+a.image.Manifest.Layers[0].Digest.String(), 0
	var mu sync.Mutex
	a.r.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, path) {
			return false
		}
		mu.Lock()
		nth := asked
		asked++
		mu.Unlock()
		do(w, req, nth)
		return true
	})
}

// half sends the first half, and returns when the build has unpacked a file of it.
func (a *arriving) half(w http.ResponseWriter) {
	w.Header().Set("Content-Length", strconv.Itoa(len(a.layer())))
	_, _ = w.Write(a.layer()[:len(a.layer())/2])
	w.(http.Flusher).Flush() //nolint:forcetypeassert // the server's
	select {
	case <-a.early:
	case <-time.After(time.Minute):
		a.t.Error("nothing is unpacked before the whole layer has arrived")
	}
}

// check looks for what a build may leave in its state directory: nothing that is half made, and layers only of what was promised.
func (a *arriving) check(layers int) {
	a.t.Helper()
	for dir, want := range map[string]int{"snapshots/work": 0, "oci/ingest": 0, "snapshots/layers": layers} {
		left, err := os.ReadDir(filepath.Join(a.root, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			a.t.Error(err)
		}
		if len(left) != want {
			a.t.Errorf("%s has %d entries, not %d: %v", dir, len(left), want, left)
		}
	}
}

func (a *arriving) notices() int {
	n := 0
	for _, e := range a.events {
		if strings.Contains(e.Text, "trusted.overlay.opaque") {
			n++
		}
	}
	return n
}

func TestJ8_ALayerIsUnpackedWhileItArrives(t *testing.T) {
	t.Parallel()
	a := newArriving(t)
	a.serve(func(w http.ResponseWriter, _ *http.Request, _ int) {
		a.half(w)
		if _, err := os.Stat(filepath.Join(a.root, "oci/blobs/sha256", a.image.Manifest.Layers[0].Digest.Encoded())); err == nil {
			t.Error("half a blob is in the store")
		}
		_, _ = w.Write(a.layer()[len(a.layer())/2:])
	})
	if _, err := a.build(); err != nil {
		t.Fatal(err)
	}
	if n := a.notices(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
	a.check(2)
}

// The connection is lost in the middle: what is asked for then is the rest, and what is unpacked already stays.
func TestJ8_ALayerThatIsResumedGoesOnBeingUnpacked(t *testing.T) {
	t.Parallel()
	a := newArriving(t)
	at := strconv.Itoa(len(a.layer()) / 2)
	a.serve(func(w http.ResponseWriter, req *http.Request, nth int) {
		if nth == 0 {
			a.half(w)
			panic(http.ErrAbortHandler)
		}
		if got := req.Header.Get("Range"); !strings.HasPrefix(got, "bytes="+at+"-") {
			t.Errorf("request %d is for %q", nth, got)
		}
		w.Header().Set("Content-Range", "bytes "+at+"-"+strconv.Itoa(len(a.layer())-1)+"/"+strconv.Itoa(len(a.layer())))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(a.layer()[len(a.layer())/2:])
	})
	if _, err := a.build(); err != nil {
		t.Fatal(err)
	}
	if n := a.notices(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
	a.check(2)
}

// What was unpacked of wrong bytes is thrown away; that the archive in them was fine does not matter.
func TestHostileH41_WrongBytesThatUnpackWellAreNoLayer(t *testing.T) {
	t.Parallel()
	for name, right := range map[string]bool{"always": false, "once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArriving(t)
			wrong := append([]byte{}, a.layer()...)
			wrong[len(wrong)/4] ^= 1 // within the large file
			a.serve(func(w http.ResponseWriter, _ *http.Request, nth int) {
				w.Header().Set("Content-Length", strconv.Itoa(len(wrong)))
				if nth > 0 && right {
					_, _ = w.Write(a.layer())
					return
				}
				_, _ = w.Write(wrong)
			})
			if !right {
				a.refused(CategoryRemote, "was sent as")
				a.check(0)
				return
			}
			if _, err := a.build(); err != nil {
				t.Fatal(err)
			}
			a.check(2)
		})
	}
}

// Bytes that cannot be unpacked are the server's fault when they are not those of the digest.
func TestHostileH41_WrongBytesThatDoNotUnpackAreToldAsWrong(t *testing.T) {
	t.Parallel()
	a := newArriving(t)
	a.serve(func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.layer())))
		_, _ = w.Write(rawNoise(2, len(a.layer())))
	})
	a.refused(CategoryRemote, "was sent as")
	a.check(0)
}

func TestHostileH48_AnArrivingLayerOfAnotherContent(t *testing.T) {
	t.Parallel()
	a := newArriving(t)
	a.image.Config.RootFS.DiffIDs[0] = digest.FromString("another")
	a.image.put(t, a.r, "base", "1")
	if _, err := a.build(); !errors.Is(err, layer.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
	a.check(0)
}
