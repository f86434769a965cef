package builder

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/internal/registrytest"
)

// The first is unpacked while the others are on their way.
func TestJ8_LayersOfABaseArriveSideBySide(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	base := layered(t, 4)
	base.opt.Tags, base.opt.Outputs = []string{r.Host + "/base:1"}, []Output{{Type: "registry"}}
	if _, err := base.build(); err != nil {
		t.Fatal(err)
	}
	r.Forget()
	asked := make(chan struct{})
	var mu sync.Mutex
	seen := map[string]bool{}
	r.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		mu.Lock()
		seen[req.URL.Path] = true
		n := len(seen)
		mu.Unlock()
		switch n {
		case 1: // the configuration
			return false
		case 5: // all layers
			close(asked)
		}
		select {
		case <-asked:
		case <-time.After(time.Minute):
			t.Error("a layer is asked for only when another has arrived")
		}
		return false
	})
	p := newProject(t, "FROM "+r.Host+"/base:1\nCOPY --from="+r.Host+"/base:1 /f00 /g\n", nil)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if n := count(r.Requests(), "GET /v2/base/blobs"); n != 5 {
		t.Errorf("%d downloads of 5 blobs:\n%s", n, strings.Join(r.Requests(), "\n"))
	}
}

// A layer that cannot be had ends the build with its own error, and the others with it.
func TestJ8_OneLayerThatIsMissingEndsTheBuild(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	base := layered(t, 6)
	base.opt.Tags, base.opt.Outputs = []string{r.Host + "/base:1"}, []Output{{Type: "registry"}}
	res, err := base.build()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	lost := ""
	r.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") || strings.HasSuffix(req.URL.Path, res.Config.Digest.String()) {
			return false
		}
		mu.Lock()
		if lost == "" {
			lost = req.URL.Path
		}
		mine := req.URL.Path == lost
		mu.Unlock()
		if !mine {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	p := newProject(t, "FROM "+r.Host+"/base:1\nCOPY --from="+r.Host+"/base:1 /f00 /g\n", nil)
	_, err = p.build()
	if err == nil || !strings.Contains(err.Error(), "fetch layer ") || !strings.Contains(err.Error(), "not found") {
		t.Errorf("error %v", err)
	}
	r.Intercept(nil)
	if _, err := p.build(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
