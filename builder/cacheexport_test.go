package builder

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gobuild/internal/registrytest"
)

const exportDockerfile = "FROM base\nARG WHO\nRUN echo $WHO > /who\n"

// seeded is a cache that has the steps before those of its own that each exporter adds.
func seeded(t *testing.T, share CacheShare) CacheShare {
	t.Helper()
	_, err := exporter(t, "seed", share).build()
	must(t, err)
	return share
}

// exporter is a machine that builds something of its own upon what is in a cache, and adds it.
func exporter(t *testing.T, who string, to CacheShare) *project {
	t.Helper()
	p := newShellProject(t, exportDockerfile, nil)
	p.opt.BuildArgs = map[string]string{"WHO": who}
	p.opt.CacheFrom, p.opt.CacheTo = []CacheShare{to}, []CacheShare{to}
	return p
}

// wantShared fails unless a fresh machine takes the steps of all from a cache.
func wantShared(t *testing.T, from CacheShare, all ...string) {
	t.Helper()
	for _, who := range all {
		p := exporter(t, who, from)
		p.opt.CacheTo = nil
		if res, err := p.build(); err != nil || ran(res) != "" {
			t.Errorf("the steps of %s are not in the cache: ran %q, %v", who, ran(res), err)
		}
	}
}

// Who is overtaken between reading and writing begins again with what is there then.
func TestI10_ManyWritersToOneTag(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	share := seeded(t, CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"})
	var begun atomic.Bool
	reg.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:") && begun.CompareAndSwap(false, true) {
			if _, err := exporter(t, "other", share).build(); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	if _, err := exporter(t, "one", share).build(); err != nil {
		t.Fatal(err)
	}
	if !begun.Load() {
		t.Fatal("nobody came in between")
	}
	wantShared(t, share, "one", "other")
}

// What has overwritten an export just after it was written is noticed, and both are put together.
func TestI10_AnExportThatWasOverwrittenIsWrittenAgain(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	share := seeded(t, CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"})
	if _, err := exporter(t, "other", share).build(); err != nil {
		t.Fatal(err)
	}
	theirs := reg.Manifest("cache", "main")
	var written, restored atomic.Bool
	reg.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/main") {
			return false
		}
		switch {
		case r.Method == http.MethodPut:
			written.Store(true)
		case written.Load() && restored.CompareAndSwap(false, true):
			reg.SetTag("cache", "main", theirs)
		}
		return false
	})
	if _, err := exporter(t, "one", share).build(); err != nil {
		t.Fatal(err)
	}
	if !restored.Load() {
		t.Fatal("the tag was not looked at after it was written")
	}
	reg.Intercept(nil)
	wantShared(t, share, "one", "other")
}

func TestI10_ManyWritersToOneFolder(t *testing.T) {
	t.Parallel()
	share := seeded(t, CacheShare{Type: "local", Dir: filepath.Join(t.TempDir(), "cache")})
	var group sync.WaitGroup
	for _, who := range []string{"one", "other", "third"} {
		p := exporter(t, who, share)
		group.Go(func() {
			if _, err := p.build(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	wantShared(t, share, "one", "other", "third")
}

// A cache does not take an image's tag away.
func TestI10_ACacheIsNotWrittenOverAnImage(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	p := newShellProject(t, exportDockerfile, nil)
	p.opt.Tags = []string{reg.Host + "/app:main"}
	p.opt.Outputs = []Output{{Type: "registry"}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	p.opt.CacheTo = []CacheShare{{Type: "registry", Ref: reg.Host + "/app:main"}}
	p.opt.Outputs = nil
	if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "there is an image by this name") {
		t.Errorf("got %v", err)
	}
}

// What cannot be read now is not written over: others' steps are in it.
func TestI10_ACacheThatCannotBeReadIsNotWrittenOver(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	share := seeded(t, CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"})
	before := string(reg.Manifest("cache", "main"))
	p := exporter(t, "one", share)
	reg.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		down := r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/cache/blobs/")
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down
	})
	exe, err := os.Executable()
	must(t, err)
	p.opt.CacheFrom, p.opt.Context = nil, p.dir
	b, err := Open(Config{Root: p.root, Executable: exe, Tries: 1})
	must(t, err)
	defer b.Close()
	if _, err := b.Build(t.Context(), p.opt); err == nil || !strings.Contains(err.Error(), "export cache to") {
		t.Errorf("got %v", err)
	}
	if string(reg.Manifest("cache", "main")) != before {
		t.Error("the cache of the others is gone")
	}
}
