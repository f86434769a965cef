package acceptance

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/registrytest"
)

// meter is a proxy before a registry that counts the bytes of blobs.
type meter struct {
	mu        sync.Mutex
	sent, got int64 // bytes of blobs to and from the registry
}

func (m *meter) reset() { m.mu.Lock(); m.sent, m.got = 0, 0; m.mu.Unlock() }

type counted struct {
	io.ReadCloser
	m *meter
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.m.mu.Lock()
	*c.n += int64(n)
	c.m.mu.Unlock()
	return n, err
}

func newMeter(t *testing.T) (m *meter, host string) {
	t.Helper()
	registry := registrytest.New(t)
	m = &meter{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: registry.Host})
			if strings.Contains(r.In.URL.Path, "/blobs/") && r.Out.Body != nil {
				r.Out.Body = &counted{r.Out.Body, m, &m.sent}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if strings.Contains(r.Request.URL.Path, "/blobs/") && r.Request.Method == http.MethodGet {
				r.Body = &counted{r.Body, m, &m.got}
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return m, strings.TrimPrefix(server.URL, "http://")
}

// TestI10_CIJobsShareARegistry runs examples/ci/build.sh as four jobs do, of which each starts with nothing but the registry.
func TestI10_CIJobsShareARegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, baseDockerfile, nil)
	bytes, host := newMeter(t)
	w.build("-t", host+"/team/base:1", "--push")
	base := bytes.sent
	app := filepath.Join(w.work, "app")
	if out, err := exec.Command("cp", "-r", "../examples/ci/app", app).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script, err := filepath.Abs("../examples/ci/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	job := func(commit string) (ran []string, sent, got int64) {
		t.Helper()
		bytes.reset()
		cmd := exec.Command("sh", script, app)
		cmd.Dir = w.work
		cmd.Env = append(os.Environ(), "REGISTRY="+host+"/team", "COMMIT="+commit, "GOBUILD="+binary, "PROGRESS=rawjson", "TMPDIR="+t.TempDir())
		o := w.run(cmd)
		if o.code != 0 {
			t.Fatalf("status %d\n%s", o.code, o.stderr)
		}
		return stepsDone(t, o.stderr), bytes.sent, bytes.got
	}
	ran, sent, _ := job("1")
	if len(ran) != 5 || sent < 500_000 {
		t.Errorf("the first job ran %q and sent %d bytes", ran, sent)
	}
	first := sent

	ran, sent, got := job("2")
	if len(ran) != 0 || sent > 10_000 || got > 20_000 {
		t.Errorf("a job without a change ran %q, sent %d bytes and fetched %d", ran, sent, got)
	}

	if err := os.WriteFile(filepath.Join(app, "src", "two.txt"), []byte("changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ran, sent, got = job("3")
	if want := []string{"COPY src src", "RUN cat src/*.txt > app.txt && wc -l < app.txt > size.txt"}; !slices.Equal(ran, want) {
		t.Errorf("after an edit %q ran, want %q", ran, want)
	}
	if sent > 20_000 || sent == 0 || got > base+first+20_000 {
		t.Errorf("after an edit the job sent %d bytes and fetched %d; base and first job have %d", sent, got, base+first)
	}

	ran, sent, got = job("4")
	if len(ran) != 0 || sent > 10_000 || got > 20_000 {
		t.Errorf("the job after it ran %q, sent %d bytes and fetched %d", ran, sent, got)
	}
}

// stepsDone are the texts of the steps that rawjson says were executed.
func stepsDone(t *testing.T, progress string) []string {
	t.Helper()
	var done []string
	lines := bufio.NewScanner(strings.NewReader(progress))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Type, Message string
			Cached        bool
			Step          struct{ Text string }
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Type == "step_done" && !e.Cached && e.Message == "" {
			done = append(done, e.Step.Text)
		}
	}
	return done
}
