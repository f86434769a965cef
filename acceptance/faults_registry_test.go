package acceptance

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// wireFault is what a network does to a request, or to the answer.
type wireFault struct {
	name   string
	passes bool                                      // once only, it must not make a build fail
	before func(http.ResponseWriter) bool            // in place of the answer; false goes on
	after  func(http.ResponseWriter, *http.Response) // with the registry's answer
}

func status(code int) func(http.ResponseWriter) bool {
	return func(w http.ResponseWriter) bool {
		w.WriteHeader(code)
		return true
	}
}

func wireFaults() []wireFault {
	abort := func() { panic(http.ErrAbortHandler) }
	return []wireFault{
		{name: "cut before", passes: true, before: func(http.ResponseWriter) bool { abort(); return true }},
		{name: "answer lost", passes: true, after: func(http.ResponseWriter, *http.Response) { abort() }},
		{name: "delayed", passes: true, before: func(http.ResponseWriter) bool { time.Sleep(100 * time.Millisecond); return false }},
		{name: "truncated", passes: true, after: func(w http.ResponseWriter, resp *http.Response) {
			cutBody(w, resp, func(size int) int { return size / 2 })
		}},
		{name: "cut after its header", passes: true, after: func(w http.ResponseWriter, resp *http.Response) { cutBody(w, resp, func(_ int) int { return 0 }) }},
		{name: "cut after a byte", passes: true, after: func(w http.ResponseWriter, resp *http.Response) { cutBody(w, resp, func(_ int) int { return 1 }) }},
		{name: "cut before its last byte", passes: true, after: func(w http.ResponseWriter, resp *http.Response) {
			cutBody(w, resp, func(size int) int { return size - 1 })
		}},
		{name: "changed", after: func(w http.ResponseWriter, resp *http.Response) {
			body, _ := io.ReadAll(resp.Body)
			if len(body) > 0 {
				body[len(body)/2] ^= 1
			}
			w.WriteHeader(resp.StatusCode)
			_, _ = w.Write(body)
		}},
		{name: "429", passes: true, before: status(http.StatusTooManyRequests)},
		{name: "500", passes: true, before: status(http.StatusInternalServerError)},
		{name: "503", passes: true, before: status(http.StatusServiceUnavailable)},
		{name: "401", before: status(http.StatusUnauthorized)},
		{name: "page", before: func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>log in to the wireless network</html>"))
			return true
		}},
	}
}

// cutBody sends so many bytes of an answer, and breaks off.
func cutBody(w http.ResponseWriter, resp *http.Response, bytes func(size int) int) {
	body, _ := io.ReadAll(resp.Body)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body[:max(0, min(len(body), bytes(len(body))))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// faultProxy stands before a registry and its token server, and disturbs one request, or that and all that follow.
type faultProxy struct {
	host     string
	registry string // where the registry answers
	token    http.Handler
	lines    []string // requests so far; below mu

	mu      sync.Mutex
	fault   *wireFault
	from    int // number of the first disturbed request
	lasting bool
	refused string // a request whose answers are broken off
	ready   func() // before that
}

func newFaultProxy(t *testing.T) *faultProxy {
	t.Helper()
	p := &faultProxy{}
	server := httptest.NewServer(p)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	p.host = strings.TrimPrefix(server.URL, "http://")
	return p
}

// disturb begins to count anew.
func (p *faultProxy) disturb(f *wireFault, from int, lasting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.fault, p.from, p.lasting, p.refused = nil, f, from, lasting, ""
}

// refuse breaks off every answer to one request, once ready has returned, and begins to count anew.
func (p *faultProxy) refuse(line string, ready func()) {
	p.disturb(nil, 0, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused, p.ready = line, ready
}

// requests are those since then, and the disturbed one.
func (p *faultProxy) requests() (n int, hit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) >= p.from && p.from > 0 {
		hit = p.lines[p.from-1]
	}
	return len(p.lines), hit
}

func (p *faultProxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	line := req.Method + " " + req.URL.RequestURI()
	p.mu.Lock()
	p.lines = append(p.lines, line)
	n, fault, refused, ready := len(p.lines), p.fault, p.refused, p.ready
	if fault != nil && (n < p.from || n > p.from && !p.lasting) {
		fault = nil
	}
	p.mu.Unlock()
	if line == refused {
		ready()
		panic(http.ErrAbortHandler)
	}
	if fault != nil && fault.before != nil && fault.before(w) {
		return
	}
	if fault != nil && fault.after != nil {
		p.answer(bodyless{w, req.Method == http.MethodHead}, req, fault.after)
		return
	}
	p.answer(w, req, nil)
}

// bodyless lets faults treat answers to HEAD as all others.
type bodyless struct {
	http.ResponseWriter
	head bool
}

func (b bodyless) Write(p []byte) (int, error) {
	if b.head {
		return len(p), nil
	}
	return b.ResponseWriter.Write(p)
}

func (b bodyless) Flush() { b.ResponseWriter.(http.Flusher).Flush() }

// answer is the registry's or the token server's, as after changes it.
func (p *faultProxy) answer(w http.ResponseWriter, req *http.Request, after func(http.ResponseWriter, *http.Response)) {
	rec := httptest.NewRecorder()
	var handler http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: p.registry})
		r.Out.Host = r.In.Host // locations are of the proxy
	}}
	if p.token != nil && req.URL.Path == "/token" {
		handler = p.token
	}
	handler.ServeHTTP(rec, req)
	resp := rec.Result()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	if after != nil {
		after(w, resp)
		return
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// pushWorld is a build that pulls its base from docker-registry and pushes what it makes, both with tokens, by a proxy.
type pushWorld struct {
	*faultWorld
	proxy    *faultProxy
	manifest string // that the image has undisturbed
	tries    int
}

func newPushWorld(t *testing.T) *pushWorld {
	t.Helper()
	p := newFaultProxy(t)
	server, conf := newTokenServer(t, "http://"+p.host+"/token", "secret")
	p.token, p.registry = server, dockerRegistry(t, conf)
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.N(256))
		}
		return string(b)
	}
	w := newWorld(t, "FROM scratch\nCOPY data /base\n", map[string]string{"data": noise(300_000)})
	w.env = []string{"GOBUILD_CREDS=" + p.host + "=me:secret"}
	w.build("--source-date-epoch", "86400", "-t", p.host+"/base:1", "--push")
	w.write("data", noise(200_000))
	w.write("Dockerfile", "FROM "+p.host+"/base:1\nCOPY data /data\nCOPY Dockerfile /\n")
	f := &pushWorld{faultWorld: &faultWorld{world: w}, proxy: p}
	f.fresh()
	o := f.push("undisturbed")
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	f.digest, f.manifest = o.stdout, f.tagged("undisturbed")
	return f
}

func (f *pushWorld) push(repo string) outcome {
	return f.run(f.command("--source-date-epoch", "86400", "--retry", "2", "--retry-delay", "5ms", "-t", f.proxy.host+"/"+repo+":1", "--push", f.dir))
}

// tagged is the digest that the registry has for a tag, "" for none. It asks with a token of its own.
func (f *pushWorld) tagged(repo string) string {
	f.t.Helper()
	rec := httptest.NewRecorder()
	ask := httptest.NewRequest(http.MethodGet, "/token?service="+url.QueryEscape(tokenService)+"&scope=repository:"+repo+":pull", nil)
	ask.SetBasicAuth("me", "secret")
	f.proxy.token.ServeHTTP(rec, ask)
	_, token, _ := strings.Cut(rec.Body.String(), `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.proxy.registry+"/v2/"+repo+path, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			f.t.Fatal(err)
		}
		return resp
	}
	resp := get("/manifests/1")
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("the tag of %s: %s, %v", repo, resp.Status, err)
	}
	for _, d := range strings.Split(string(body), `"digest":"`)[1:] {
		d, _, _ = strings.Cut(d, `"`)
		blob := get("/blobs/" + d)
		_ = blob.Body.Close()
		if blob.StatusCode != http.StatusOK {
			f.t.Errorf("%s: the tag is there, and %s is not: %s", repo, d, blob.Status)
		}
	}
	return resp.Header.Get("Docker-Content-Digest")
}

// try pushes with a request disturbed, and judges what came of it. It says whether there was such a request.
func (f *pushWorld) try(fault wireFault, k int, lasting bool) bool {
	f.t.Helper()
	f.tries++
	repo := "app" + strconv.Itoa(f.tries)
	f.fresh()
	f.proxy.disturb(&fault, k, lasting)
	o := f.push(repo)
	n, hit := f.proxy.requests()
	f.proxy.disturb(nil, 0, false)
	if n < k {
		return false
	}
	when := fmt.Sprintf("%s at request %d (%s), lasting %t", fault.name, k, hit, lasting)
	tagged := f.tagged(repo)
	if tagged != "" && tagged != f.manifest {
		f.t.Errorf("%s: the tag means %s, not %s", when, tagged, f.manifest)
	}
	switch {
	case o.code == 0 && o.stdout == f.digest && tagged != "":
		return true
	case o.code != 4, !strings.Contains(o.stderr, f.proxy.host), !strings.Contains(o.stderr, "error: "):
		f.t.Errorf("%s: exit code %d, want 0 with the image or 4 with the cause\n%s", when, o.code, o.stderr)
	case fault.passes && !lasting:
		f.t.Errorf("%s: it is not tried again\n%s", when, o.stderr)
	}
	if o = f.push(repo); o.code != 0 || o.stdout != f.digest || f.tagged(repo) != f.manifest {
		f.t.Errorf("%s: afterwards: exit code %d\n%s", when, o.code, o.stderr)
	}
	return true
}

// Every request of a build that pulls and pushes meets every fault, once and for good (a normal run: each request one of them). The
// build ends with the right image in the registry, or with status 4 and the cause; then the next build works.
func TestHostileF26F27F28_EveryRequestOfABuildFails(t *testing.T) {
	t.Parallel()
	f := newPushWorld(t)
	faults := wireFaults()
	if *allFaults {
		for _, fault := range faults {
			for _, lasting := range []bool{false, true} {
				for k := 1; f.try(fault, k, lasting); k++ {
				}
			}
		}
		return
	}
	k := 1
	for ; f.try(faults[k%len(faults)], k, k/len(faults)%2 == 1); k++ {
	}
	if k < 12 {
		t.Errorf("%d requests only: the sweep tests nothing", k)
	}
}

// The proxy must be able to disturb, or the sweep would show nothing.
func TestHostileF27_ABlobThatIsChangedOnItsWay(t *testing.T) {
	t.Parallel()
	f := newPushWorld(t)
	f.fresh()
	f.proxy.disturb(nil, 0, false)
	if o := f.push("look"); o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	at := 0
	for i, line := range f.proxy.lines {
		if strings.HasPrefix(line, "GET /v2/base/blobs/") {
			at = i + 1
		}
	}
	for _, fault := range wireFaults() {
		if fault.name != "changed" {
			continue
		}
		f.fresh()
		f.proxy.disturb(&fault, at, true)
		o := f.push("changed")
		if o.code != 4 || !strings.Contains(o.stderr, "content is not what was asked for") {
			t.Errorf("a changed layer: exit code %d\n%s", o.code, o.stderr)
		}
	}
	if !strings.Contains(strings.Join(f.proxy.lines, "\n"), "/token?") {
		t.Errorf("no token was asked for: %q", f.proxy.lines)
	}
}

// After a pull that broke off at its last blob, the next one asks for that blob alone: what has arrived is there.
func TestHostileF26_TheNextPullFetchesTheRest(t *testing.T) {
	t.Parallel()
	f := newPushWorld(t)
	two := "FROM " + f.proxy.host + "/app1:1\nCOPY Dockerfile /more\n"
	f.tries++
	if o := f.push("app1"); o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	f.write("Dockerfile", two)
	blobs := func() (list []string) {
		f.proxy.mu.Lock()
		defer f.proxy.mu.Unlock()
		for _, line := range f.proxy.lines {
			if strings.HasPrefix(line, "GET /v2/app1/blobs/") {
				list = append(list, line)
			}
		}
		return list
	}
	f.fresh()
	f.proxy.disturb(nil, 0, false)
	if o := f.push("whole"); o.code != 0 || len(blobs()) != 4 { // three layers and the configuration
		t.Fatalf("exit code %d, %v\n%s", o.code, blobs(), o.stderr)
	}
	others := blobs()[:3]
	last := blobs()[3]
	f.fresh()
	f.proxy.refuse(last, func() {
		for _, line := range others {
			hex := line[strings.LastIndexByte(line, ':')+1:]
			for _, err := os.Stat(filepath.Join(f.root, "oci/blobs/sha256", hex)); err != nil && t.Context().Err() == nil; _, err = os.Stat(filepath.Join(f.root, "oci/blobs/sha256", hex)) {
				time.Sleep(time.Millisecond) // there is no event for it
			}
		}
	})
	o := f.push("broken")
	if o.code != 4 || len(blobs()) < 4 {
		t.Fatalf("exit code %d, %v\n%s", o.code, blobs(), o.stderr)
	}
	f.proxy.disturb(nil, 0, false)
	if o := f.push("rest"); o.code != 0 || slices.ContainsFunc(blobs(), func(line string) bool { return line != last }) || len(blobs()) == 0 {
		t.Errorf("exit code %d, asked for %v, want %s alone\n%s", o.code, blobs(), last, o.stderr)
	}
}
