package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestC9_GitAddresses(t *testing.T) {
	t.Parallel()
	yes := true
	hash := strings.Repeat("0123456789", 4)
	for raw, want := range map[string]Git{
		"https://h/a.git":                                       {Remote: "https://h/a.git"},
		"https://h:8080/a.git#main":                             {Remote: "https://h:8080/a.git", Ref: "main"},
		"https://h/a.git#v1:sub/dir":                            {Remote: "https://h/a.git", Ref: "v1", Subdir: "sub/dir"},
		"https://h/a.git#:sub":                                  {Remote: "https://h/a.git", Subdir: "sub"},
		"https://h/a.git#:../../sub":                            {Remote: "https://h/a.git", Subdir: "sub"},
		"https://h/a.git?branch=main":                           {Remote: "https://h/a.git", Ref: "refs/heads/main"},
		"https://h/a.git?tag=v1&subdir=s":                       {Remote: "https://h/a.git", Ref: "refs/tags/v1", Subdir: "s"},
		"https://h/a.git?ref=main#main":                         {Remote: "https://h/a.git", Ref: "main"},
		"https://h/a.git?commit=abc&checksum=abc":               {Remote: "https://h/a.git", Commit: "abc"},
		"https://h/a.git?commit=" + hash + "&fetch-by-commit=1": {Remote: "https://h/a.git", Commit: hash, ByCommit: true},
		"https://h/a.git?keep-git-dir":                          {Remote: "https://h/a.git", KeepDir: &yes},
		"https://h/a.git?mtime=commit":                          {Remote: "https://h/a.git"},
		"git@h:a/b.git":                                         {Remote: "git@h:a/b.git"},
		"git@h:a/b.git#refs/pull/1/head":                        {Remote: "git@h:a/b.git", Ref: "refs/pull/1/head"},
		"ssh://git@h:22/a":                                      {Remote: "ssh://git@h:22/a"},
		"git://h/a":                                             {Remote: "git://h/a"},
		"http://h/a.git":                                        {Remote: "http://h/a.git"},
	} {
		got, err := ParseGit(raw)
		if !got.Submodules {
			t.Errorf("%s: submodules are not wanted", raw)
		}
		got.Submodules = false
		if (got.KeepDir == nil) != (want.KeepDir == nil) || got.KeepDir != nil && *got.KeepDir != *want.KeepDir {
			t.Errorf("%s: keep %v", raw, got.KeepDir)
		}
		got.KeepDir, want.KeepDir = nil, nil
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", raw, got, err, want)
		}
	}
	if g, err := ParseGit("https://h/a.git?submodules=false"); err != nil || g.Submodules {
		t.Errorf("submodules=false: %+v, %v", g, err)
	}
}

// H-61, H-62: nothing of an address becomes an option, a program or a file of this machine.
func TestHostileR25_GitAddressesThatAreRefused(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]error{
		"file:///etc":                                ErrRefused,
		"ext::sh -c id":                              ErrRefused,
		"/etc/x.git":                                 ErrRefused,
		"../x.git":                                   ErrRefused,
		"--upload-pack=id":                           ErrRefused,
		"-oProxyCommand=id@h:x":                      ErrURL,
		"git@-oProxyCommand=id:x":                    ErrURL,
		"git@h:-x":                                   ErrRefused,
		"ssh://-oProxyCommand=id/x":                  ErrRefused,
		"ssh://-oProxyCommand=id@h/x":                ErrRefused,
		"ftp://h/x.git":                              ErrRefused,
		"https://u:hidden@h/a.git":                   ErrRefused,
		"https://hidden@h/a.git":                     ErrRefused,
		"https://169.254.169.254/a.git":              ErrRefused,
		"https:///a.git":                             ErrURL,
		"https://h/a.git#--upload-pack":              ErrRefused,
		"https://h/a.git?ref=-x":                     ErrRefused,
		"https://h/a.git#a b":                        ErrURL,
		"https://h/a.git#a..b":                       ErrURL,
		"https://h/a.git#a:x#y\x00":                  ErrURL,
		"https://h/a.git#+a":                         nil,
		"https://h/a.git#a^{tree}":                   ErrURL,
		"https://h/a.git#a/.hidden":                  ErrURL,
		"https://h/a.git?ref=a&ref=a":                ErrURL,
		"https://h/a.git?ref=a#b":                    ErrURL,
		"https://h/a.git?tag=a&branch=a":             ErrURL,
		"https://h/a.git?depth=1":                    ErrURL,
		"https://h/a.git?commit=HEAD":                ErrURL,
		"https://h/a.git?mtime=now":                  ErrURL,
		"https://h/a.git?ref=":                       ErrURL,
		"https://h/a.git?tag":                        ErrURL,
		"https://h/a.git?submodules=x":               ErrURL,
		"https://h/a.git?commit=abc&fetch-by-commit": ErrURL,
	} {
		if _, err := ParseGit(raw); !errors.Is(err, want) || strings.Contains(fmt.Sprint(err), "hidden@") {
			t.Errorf("%q: %v, want %v", raw, err, want)
		}
	}
}

func FuzzParseGit(f *testing.F) {
	for _, s := range []string{"https://h/a.git#main:sub", "git@h:a", "ssh://h/?ref=a", "-x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := ParseGit(s)
		if err != nil {
			return
		}
		for _, word := range []string{g.Remote, g.Ref, g.Commit} {
			if strings.HasPrefix(word, "-") || strings.ContainsAny(word, "\x00\n") {
				t.Errorf("%q gives %q", s, word)
			}
		}
		if strings.HasPrefix(g.Subdir, "/") || strings.HasPrefix(g.Subdir+"/", "../") {
			t.Errorf("%q is in %q", s, g.Subdir)
		}
	})
}

// repository makes one with two commits on main, an annotated tag on the first and a branch; it is served over HTTP.
type repository struct {
	*httptest.Server
	dir           string
	first, second string
	mu            sync.Mutex
	auth          []string // Authorization of each request
}

func newRepository(t *testing.T, smart bool) *repository {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git")
	}
	r := &repository{dir: t.TempDir()}
	work := filepath.Join(r.dir, "a")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git(t, "init", "-q", "-b", "main")
	r.write(t, "f", "one")
	r.write(t, ".gitattributes", "secret export-ignore export-subst\n")
	r.write(t, "secret", "$Format:%H$")
	r.first = r.commit(t, "first")
	r.git(t, "tag", "-a", "-m", "tag", "v1")
	r.git(t, "branch", "v1") // a branch beats a tag of its name
	r.write(t, "f", "two")
	r.second = r.commit(t, "second")
	r.git(t, "branch", "-f", "v1", "main")
	r.serve(t, path, smart)
	return r
}

func (r *repository) serve(t *testing.T, path string, smart bool) {
	handler := http.FileServer(http.Dir(r.dir))
	if smart {
		handler = &cgi.Handler{
			Path: path, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + r.dir, "GIT_HTTP_EXPORT_ALL=1"}, Stderr: io.Discard,
		}
	}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock() // git asks over several connections
		r.auth = append(r.auth, req.Header.Get("Authorization"))
		r.mu.Unlock()
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
}

func (r *repository) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "a", name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *repository) commit(t *testing.T, message string) string {
	t.Helper()
	r.git(t, "add", "-A")
	r.git(t, "commit", "-q", "-m", message)
	r.git(t, "update-server-info")
	return r.git(t, "rev-parse", "HEAD")
}

func (r *repository) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(r.dir, "a")
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/nonexistent",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=1445412480 +0000", "GIT_COMMITTER_DATE=1445412480 +0000",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	if args[0] != "update-server-info" && args[0] != "rev-parse" {
		sub := exec.Command("git", "update-server-info") // for servers that only have files
		sub.Dir, sub.Env = cmd.Dir, cmd.Env
		_ = sub.Run()
	}
	return strings.TrimSpace(string(out))
}

func TestB57_CommitsAndTheirFiles(t *testing.T) {
	t.Parallel()
	for _, smart := range []bool{false, true} {
		r := newRepository(t, smart)
		c, _ := client(t, Config{})
		for fragment, want := range map[string]string{
			"": r.second, "#main": r.second, "#v1": r.second, "?tag=v1": r.first, "#refs/tags/v1": r.first, "#" + r.first: r.first, "?commit=" + r.second[:9]: r.second,
			"?ref=main&fetch-by-commit&commit=" + r.first: r.first,
			"#heads/main": r.second, "#tags/v1": r.first, "?tag=v1&commit=" + r.git(t, "rev-parse", "refs/tags/v1"): r.first,
		} {
			g, err := ParseGit(r.URL + "/a/.git" + fragment)
			if err != nil {
				t.Fatal(err)
			}
			rev, err := c.GitResolve(t.Context(), g, GitAuth{})
			got := rev.Commit
			if err != nil || got != want {
				t.Errorf("smart %v: %q is %s, %v, want %s", smart, fragment, got, err, want)
				continue
			}
			dir := t.TempDir()
			if err := c.GitFetch(t.Context(), g, rev, dir, GitAuth{}, false); err != nil {
				t.Errorf("smart %v: %q: %v", smart, fragment, err)
				continue
			}
			var tar bytes.Buffer
			err = c.GitArchive(t.Context(), g, got, dir, func(r io.Reader) error { _, err := tar.ReadFrom(r); return err })
			if content := map[string]string{r.first: "one", r.second: "two"}[want]; err != nil || !strings.Contains(tar.String(), content) || !strings.Contains(tar.String(), "$Format:%H$") {
				t.Errorf("smart %v: %q: %v\n%.3000q", smart, fragment, err, tar.String())
			}
			if secs, err := c.GitTime(t.Context(), g, got, dir); err != nil || secs != 1445412480 {
				t.Errorf("smart %v: time %d, %v", smart, secs, err)
			}
			_, err = os.Stat(filepath.Join(dir, ".git", "shallow"))
			if shallow := err == nil; shallow != smart { // a server that only has files sends all
				t.Errorf("smart %v: %q: shallow is %v", smart, fragment, shallow)
			}
		}
	}
}

func TestB57_WhatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	c, _ := client(t, Config{})
	for fragment, want := range map[string]error{"#none": ErrStatus, "?commit=" + r.first: ErrContent, "#refs/heads/none": ErrStatus} {
		g, err := ParseGit(r.URL + "/a/.git" + fragment)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.GitResolve(t.Context(), g, GitAuth{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", fragment, err)
		}
	}
	g, _ := ParseGit(r.URL + "/none.git")
	var e *Error
	if _, err := c.GitResolve(t.Context(), g, GitAuth{}); !errors.Is(err, ErrUnavailable) || !errors.As(err, &e) {
		t.Errorf("no repository: %v", err)
	}
	missing := strings.Repeat("0", 39) + "1"
	g, _ = ParseGit(r.URL + "/a/.git#" + missing)
	if err := c.GitFetch(t.Context(), g, GitRevision{Commit: missing}, t.TempDir(), GitAuth{}, false); err == nil {
		t.Error("a commit that the repository does not have")
	}
}

// H-62: hooks, filters and protocols that a repository or a machine configures do nothing.
func TestHostileR25_ARepositoryRunsNothing(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	r.write(t, ".gitattributes", "* filter=evil diff=evil\n")
	commit := r.commit(t, "attributes")
	c, _ := client(t, Config{})
	g, _ := ParseGit(r.URL + "/a/.git")
	dir := t.TempDir()
	if err := c.GitFetch(t.Context(), g, GitRevision{Commit: commit}, dir, GitAuth{}, false); err != nil {
		t.Fatal(err)
	}
	if list, err := filepath.Glob(filepath.Join(dir, ".git", "hooks", "*")); err != nil || len(list) != 0 {
		t.Errorf("hooks: %v, %v", list, err)
	}
	run, err := c.git(g, GitAuth{}, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"file://" + r.dir + "/a", r.dir + "/a", "ext::true", "https://127.0.0.1:1/"} { // https: not what was named
		_, err := run.output(t.Context(), "ls-remote", "--", address)
		if err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestHostileR20_GitFollowsNoRedirects(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	s := serve(t, false, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, r.URL+"/a/.git"+strings.TrimPrefix(req.URL.Path, "/x.git")+"?"+req.URL.RawQuery, http.StatusFound)
	})
	c, _ := client(t, Config{})
	g, _ := ParseGit(s.URL + "/x.git")
	if _, err := c.GitResolve(t.Context(), g, GitAuth{}); err == nil || s.count() == 0 || len(r.auth) != 0 {
		t.Errorf("asked %d times, followed %d times, %v", s.count(), len(r.auth), err)
	}
}

func TestGitThatDoesNotAnswerIsEnded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, false, func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	c, _ := client(t, Config{})
	c.times.git = 200 * time.Millisecond
	g, _ := ParseGit(s.URL + "/a.git")
	if _, err := c.GitResolve(t.Context(), g, GitAuth{}); !errors.Is(err, errSlow) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestHostileR19_GitCredentialsGoOverTLSAlone(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	c, _ := client(t, Config{})
	g, _ := ParseGit(r.URL + "/a/.git")
	if _, err := c.GitResolve(t.Context(), g, GitAuth{Token: "t"}); err != nil {
		t.Fatal(err)
	}
	for _, a := range r.auth {
		if a != "" {
			t.Errorf("sent %q over plain http", a)
		}
	}
	run, err := c.git(Git{Remote: "https://h:1/a.git"}, GitAuth{Token: "t"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(run.env, "\n")
	if !strings.Contains(env, "=http.https://h:1/.extraHeader\n") || !strings.Contains(env, "=Authorization: basic eC1hY2Nlc3MtdG9rZW46dA==") || strings.Contains(strings.Join(run.config, " "), "Authorization") {
		t.Errorf("%s", env)
	}
	if h := (GitAuth{Token: "t", Header: "bearer x"}).header(); h != "bearer x" {
		t.Errorf("header %q", h)
	}
}

func TestGitUsesTheProxy(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	var asked bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = true
		req.URL.Scheme, req.URL.Host = "http", strings.TrimPrefix(r.URL, "http://")
		r.Config.Handler.ServeHTTP(w, req)
	}))
	t.Cleanup(proxy.Close)
	c, _ := client(t, Config{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }})
	g, _ := ParseGit("http://repository.invalid/a/.git")
	if rev, err := c.GitResolve(t.Context(), g, GitAuth{}); err != nil || rev.Commit != r.second || !asked {
		t.Errorf("%+v, %v", rev, err)
	}
}
