package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry on a loopback address.
type Registry struct {
	Host     string // address with port, to begin image names with
	Page     int    // entries of a list at once, 0 for all; set before use
	NoDelete bool   // refuse to delete
	Server   *httptest.Server

	Referrers bool // have the referrers API (OCI distribution-spec 1.1); set before use

	mu        sync.Mutex
	repos     map[string]*repository
	begun     int // uploads so far, for their names
	uploads   map[string]*upload
	requests  []string
	intercept func(http.ResponseWriter, *http.Request) bool
	auth      string // "", "basic", "token"
	secret    string // user:password
	tokens    int
}

type repository struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

type manifest struct {
	mediaType string
	data      []byte
}

type upload struct {
	repo string
	data []byte
}

// New starts a registry that ends with the test.
func New(t *testing.T) *Registry {
	t.Helper()
	r := Unstarted(t)
	r.Server.Start()
	return r
}

// Unstarted makes a registry whose Server is to be started by the test, e.g. with TLS.
func Unstarted(t *testing.T) *Registry {
	t.Helper()
	r := &Registry{repos: map[string]*repository{}, uploads: map[string]*upload{}}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.Host = r.Server.Listener.Addr().String()
	t.Cleanup(r.Server.Close)
	return r
}

// Basic asks for a user and a password with every request.
func (r *Registry) Basic(user, password string) { r.auth, r.secret = "basic", user+":"+password }

// Token sends clients to a token server, on the same host, which asks for them.
func (r *Registry) Token(user, password string) { r.auth, r.secret = "token", user+":"+password }

// Intercept sees every request first; one for which f returns true has been answered.
func (r *Registry) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Requests lists "METHOD path?query" of all requests since the last call of Forget.
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Forget forgets the requests so far.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Manifest is what a tag or digest of a repository means, nil for nothing.
func (r *Registry) Manifest(repo, ref string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, m, ok := r.find(repo, ref)
	if !ok {
		return nil
	}
	return m.data
}

// SetTag makes a tag mean a manifest that the repository has.
func (r *Registry) SetTag(repo, tag string, manifest []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repo(repo).tags[tag] = digest.FromBytes(manifest)
}

// Blobs lists the blobs of a repository.
func (r *Registry) Blobs(repo string) []digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repos[repo] == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.repos[repo].blobs))
}

// Blob is the content of a blob of a repository, nil when it is not there.
func (r *Registry) Blob(repo string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repos[repo] == nil {
		return nil
	}
	return r.repos[repo].blobs[d]
}

func (r *Registry) repo(name string) *repository {
	if r.repos[name] == nil {
		r.repos[name] = &repository{blobs: map[digest.Digest][]byte{}, manifests: map[digest.Digest]manifest{}, tags: map[string]digest.Digest{}}
	}
	return r.repos[name]
}

func (r *Registry) find(repo, ref string) (digest.Digest, manifest, bool) {
	rep := r.repos[repo]
	if rep == nil {
		return "", manifest{}, false
	}
	d, ok := rep.tags[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	m, ok := rep.manifests[d]
	return d, m, ok
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	line := req.Method + " " + req.URL.Path
	if req.URL.RawQuery != "" {
		line += "?" + req.URL.RawQuery
	}
	r.requests = append(r.requests, line)
	intercept := r.intercept
	r.mu.Unlock()
	if intercept != nil && intercept(w, req) {
		return
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.URL.Path == "/token" {
		r.token(w, req)
		return
	}
	if !r.allowed(w, req) {
		return
	}
	r.route(w, req, body)
}

func (r *Registry) token(w http.ResponseWriter, req *http.Request) {
	if user, password, _ := req.BasicAuth(); user+":"+password != r.secret {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.tokens++
	token := base64.RawURLEncoding.EncodeToString([]byte(strings.Join(req.URL.Query()["scope"], " ")))
	fmt.Fprintf(w, `{"token":"t%d.%s","expires_in":300}`, r.tokens, token)
}

// allowed checks the request's credential, and that a token was made for what the request does.
func (r *Registry) allowed(w http.ResponseWriter, req *http.Request) bool {
	switch r.auth {
	case "":
		return true
	case "basic":
		if user, password, ok := req.BasicAuth(); ok && user+":"+password == r.secret {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	default:
		scope := ""
		repo, _, _ := split(req.URL.Path)
		switch {
		case req.URL.Path == "/v2/_catalog":
			scope = "registry:catalog:*"
		case repo != "" && (req.Method == http.MethodGet || req.Method == http.MethodHead):
			scope = "repository:" + repo + ":pull"
		case repo != "":
			scope = "repository:" + repo + ":pull,push"
		}
		_, encoded, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), ".")
		granted, err := base64.RawURLEncoding.DecodeString(encoded)
		if err == nil && encoded != "" && strings.Contains(string(granted), scope) || scope == "" && strings.HasPrefix(req.Header.Get("Authorization"), "Bearer t") {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope=%q`, r.Server.URL+"/token", scope))
	}
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return false
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"says the registry"}]}`, code)
}

// split takes /v2/NAME/KIND/REST apart.
func split(path string) (repo, kind, rest string) {
	path = strings.TrimPrefix(path, "/v2/")
	for _, k := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/", "/tags/list"} {
		if i := strings.Index(path, k); i > 0 {
			return path[:i], strings.Trim(k, "/"), path[i+len(k):]
		}
	}
	return "", "", path
}

func (r *Registry) route(w http.ResponseWriter, req *http.Request, body []byte) {
	repo, kind, rest := split(req.URL.Path)
	switch kind {
	case "blobs/uploads":
		r.serveUpload(w, req, repo, rest, body)
	case "blobs":
		b, ok := r.repo(repo).blobs[digest.Digest(rest)]
		if !ok {
			fail(w, http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		serveBytes(w, req, b, "application/octet-stream", digest.Digest(rest))
	case "manifests":
		r.serveManifest(w, req, repo, rest, body)
	case "referrers":
		r.serveReferrers(w, req, repo, digest.Digest(rest))
	case "tags/list":
		r.page(w, req, slices.Sorted(maps.Keys(r.repo(repo).tags)), func(names []string) any { return map[string]any{"name": repo, "tags": names} })
	default:
		if rest == "_catalog" {
			r.page(w, req, slices.Sorted(maps.Keys(r.repos)), func(names []string) any { return map[string]any{"repositories": names} })
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

func serveBytes(w http.ResponseWriter, req *http.Request, b []byte, mediaType string, d digest.Digest) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	status := http.StatusOK
	var from int
	if n, _ := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); n == 1 && from <= len(b) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
		b, status = b[from:], http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

// page sends a part of a list, with a Link to the next.
func (r *Registry) page(w http.ResponseWriter, req *http.Request, names []string, doc func([]string) any) {
	if last := req.URL.Query().Get("last"); last != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n <= last })
	}
	if r.Page > 0 && len(names) > r.Page {
		names = names[:r.Page]
		w.Header().Set("Link", fmt.Sprintf(`<%s?last=%s&n=%d>; rel="next"`, req.URL.Path, names[len(names)-1], r.Page))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc(names))
}
