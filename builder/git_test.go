package builder

import (
	"archive/tar"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// gitServer serves one repository, a.git, over HTTP.
type gitServer struct {
	*httptest.Server
	t     *testing.T
	dir   string
	asked atomic.Int64
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	g := &gitServer{t: t, dir: t.TempDir()}
	g.git("init", "-q", "-b", "main")
	files := http.StripPrefix("/a.git", http.FileServer(http.Dir(filepath.Join(g.dir, ".git"))))
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked.Add(1)
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gitServer) git(args ...string) string {
	g.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = g.dir
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/nonexistent",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=1445412480 +0000", "GIT_COMMITTER_DATE=1445412480 +0000",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (g *gitServer) write(name, content string) {
	g.t.Helper()
	full := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		g.t.Fatal(err)
	}
	var err error
	if target, ok := strings.CutPrefix(content, "-> "); ok {
		err = os.Symlink(target, full)
	} else {
		err = os.WriteFile(full, []byte(content), 0o755)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// commit takes files, "path" -> "content" or "-> target", and gives the commit's hash.
func (g *gitServer) commit(files ...string) string {
	g.t.Helper()
	for i := 0; i < len(files); i += 2 {
		g.write(files[i], files[i+1])
	}
	g.git("add", "-A")
	g.git("commit", "-q", "-m", "x")
	g.git("update-server-info")
	return g.git("rev-parse", "HEAD")
}

func TestB57_AddGit(t *testing.T) {
	g := newGitServer(t)
	first := g.commit("f", "1", "sub/deep/x", "22", "link", "-> f", "out", "-> /etc", "od*d/y", "4444", "odxd/z", "1")
	for _, tc := range []struct{ name, add, want string }{
		{"a folder of a commit", "ADD URL#" + first + ":sub /s", lines("s 0755 0:0 /", "s/deep 0755 0:0 /", "s/deep/x 0755 0:0 2")},
		{"a folder with an odd name", "ADD URL#:od*d /s", lines("s 0755 0:0 /", "s/y 0755 0:0 4")},
		{"owner, mode and excludes", "ADD --chown=7:8 --chmod=u=rwX,go= --exclude=od* --exclude=sub --exclude=link URL /s", lines("s 0755 7:8 /", "s/f 0700 7:8 1", "s/out 0777 7:8 -> /etc")},
		{"no .git with a folder", "ADD --keep-git-dir URL#:sub/deep /s", lines("s 0755 0:0 /", "s/x 0755 0:0 2")},
		{"by checksum", "ADD --checksum=" + first[:10] + " URL#main:sub/deep /s", lines("s 0755 0:0 /", "s/x 0755 0:0 2")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(tc.add, "URL", g.URL+"/a.git"), nil)
			if got, err := p.tree(); err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			p.wantNoWork()
		})
	}
	t.Run("the whole, of the commit's time", func(t *testing.T) {
		p := newProject(t, "FROM scratch\nADD "+g.URL+"/a.git /s/", nil)
		var buf bytes.Buffer
		p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for tr := tar.NewReader(&buf); ; n++ {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if h.ModTime.Unix() != 1445412480 || strings.Contains(h.Name, ".git") {
				t.Errorf("%s is of %v", h.Name, h.ModTime)
			}
		}
		if n != 11 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("--keep-git-dir", func(t *testing.T) {
		p := newProject(t, "FROM scratch\nADD --keep-git-dir "+g.URL+"/a.git /s/", nil)
		out := t.TempDir()
		p.opt.Outputs = []Output{{Type: "local", Dest: out}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("git", "-c", "safe.directory=*", "-C", filepath.Join(out, "s"), "status", "--porcelain")
		if text, err := cmd.CombinedOutput(); err != nil || len(text) != 0 {
			t.Errorf("%v\n%s", err, text)
		}
		for _, name := range []string{"FETCH_HEAD", "logs"} { // they would make every build another one
			if _, err := os.Lstat(filepath.Join(out, "s/.git", name)); err == nil {
				t.Errorf("there is .git/%s", name)
			}
		}
	})
	t.Run("--keep-git-dir twice", func(t *testing.T) {
		p := newProject(t, "FROM scratch\nADD --keep-git-dir "+g.URL+"/a.git /s/", nil)
		epoch := time.Unix(1445412480, 0)
		p.opt.SourceDateEpoch = &epoch
		one, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		p.root = filepath.Join(t.TempDir(), "other")
		two, err := p.build()
		if err != nil || one.Config.Digest != two.Config.Digest {
			t.Errorf("two checkouts differ: %v", err)
		}
	})
}

func TestB57_TheModesOfAGitDirDoNotDependOnTheUmask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"config": 0o600, "x.pack": 0o400, "hook": 0o700} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "refs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := plainModes(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"config": 0o644, "x.pack": 0o444, "hook": 0o644, "refs": 0o755} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestB57_GitFailures(t *testing.T) {
	g := newGitServer(t)
	first := g.commit("f", "1", "out", "-> /", "up", "-> ../..")
	second := g.commit("f", "2")
	for _, tc := range []struct {
		name, add string
		category  Category
		text      string
	}{
		{"no such ref", "ADD URL#none /", CategoryRemote, "no none"},
		{"another commit", "ADD --checksum=" + first + " URL#main /", CategoryRemote, second},
		{"a folder that is a file", "ADD URL#:f /", CategoryUsage, "not a folder"},
		{"a folder that is not there", "ADD URL#:none /", CategoryUsage, "none"},
		{"a folder through a link", "ADD URL#:up/etc /", CategoryUnsafe, "through a link"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(tc.add, "URL", g.URL+"/a.git"), nil)
			_, err := p.build()
			wantCategory(t, err, tc.category, tc.text)
			p.wantNoWork()
		})
	}
}

func TestB57_AWholeHashIsNotAskedAbout(t *testing.T) {
	g := newGitServer(t)
	first := g.commit("f", "1")
	p := newProject(t, "FROM scratch\nADD "+g.URL+"/a.git#"+first+" /", nil)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	g.commit("f", "2")
	before := g.asked.Load()
	res, err := p.build()
	if err != nil || ran(res) != "" || g.asked.Load() != before {
		t.Errorf("ran %q, asked %d times, %v", ran(res), g.asked.Load()-before, err)
	}
	p.write("Dockerfile", "FROM scratch\nADD "+g.URL+"/a.git /")
	if res, err = p.build(); err != nil || ran(res) == "" {
		t.Errorf("a branch that moved: ran %q, %v", ran(res), err)
	}
	if res, err = p.build(); err != nil || ran(res) != "" {
		t.Errorf("again: ran %q, %v", ran(res), err)
	}
}

func TestC9_GitAuthOfTheHostComesFirst(t *testing.T) {
	t.Parallel()
	bd := &build{opt: Options{SSH: map[string]string{"default": "/agent"}, Secrets: map[string]SecretSource{
		"GIT_AUTH_TOKEN": {Data: []byte("any\n")}, "GIT_AUTH_TOKEN.h": {Data: []byte("own\n")}, "GIT_AUTH_HEADER.x": {Data: []byte("a\nb")},
	}}}
	for address, want := range map[string]string{"https://h/a.git": "own", "https://g/a.git": "any", "http://h/a.git": "", "git@h:a": ""} {
		auth, err := bd.gitAuth(address)
		if err != nil || auth.Token != want || auth.Agent != "/agent" {
			t.Errorf("%s: %+v, %v", address, auth, err)
		}
	}
	if _, err := bd.gitAuth("https://x/a.git"); err == nil {
		t.Error("a header of two lines")
	}
}

func TestC9_ContextFromGit(t *testing.T) {
	g := newGitServer(t)
	g.commit("Dockerfile", "FROM scratch\nCOPY . /c/\n", ".dockerignore", "f", "f", "1", "sub/D", "FROM scratch\nCOPY x /\n", "sub/x", "22", "up", "-> ..", "l", "-> sub")
	for _, tc := range []struct{ address, file, want string }{
		{"", "sub/D", "x"},
		{"#main:sub", "D", "x 0755 0:0 2"},
		{"", "", lines("c 0755 0:0 /", "c/.dockerignore 0755 0:0 1", "c/Dockerfile 0755 0:0 24", "c/f 0755 0:0 1", "c/l 0777 0:0 -> sub", "c/sub 0755 0:0 /",
			"c/sub/D 0755 0:0 22", "c/sub/x 0755 0:0 2", "c/up 0777 0:0 -> ..")},
	} {
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) { o.ContextURL, o.Dockerfile = g.URL+"/a.git"+tc.address, tc.file })
		if tc.want == "x" { // looked up from the top of the context
			wantCategory(t, err, CategoryUsage, "x")
		} else if err != nil || got != tc.want {
			t.Errorf("%q: %v\n%s\nwant\n%s", tc.address, err, got, tc.want)
		}
		p.wantNoWork()
	}
	for address, category := range map[string]Category{
		g.URL + "/a.git#none": CategoryRemote, g.URL + "/a.git#:none": CategoryUsage, g.URL + "/a.git#:f": CategoryUsage, g.URL + "/a.git#:l": CategoryUnsafe, g.URL + "/a.git#:up/sub": CategoryUnsafe, "file:///etc": CategoryUnsafe, "git@-x:y": CategoryUsage,
	} {
		p := newProject(t, "", nil)
		_, err := p.contextBuild(func(o *Options) { o.ContextURL = address })
		wantCategory(t, err, category, "build context")
		p.wantNoWork()
	}
}

func TestB10_AContextThatKeepsItsGitDir(t *testing.T) {
	g := newGitServer(t)
	commit := g.commit("Dockerfile", "FROM scratch\nCOPY .git/HEAD /\n")
	for _, tc := range []struct {
		query, arg string
		ok         bool
	}{{"", "1", true}, {"", "true", true}, {"?keep-git-dir", "", true}, {"?keep-git-dir=false", "1", true}, {"", "", false}, {"", "0", false}} {
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) {
			o.ContextURL, o.BuildArgs = g.URL+"/a.git"+tc.query, map[string]string{"BUILDKIT_CONTEXT_KEEP_GIT_DIR": tc.arg}
		})
		if tc.ok && (err != nil || got != "HEAD 0644 0:0 "+sizeText(commit+"\n")) || !tc.ok && err == nil {
			t.Errorf("%+v: %v\n%s", tc, err, got)
		}
	}
}

func TestC9_WhatIsAGitContext(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"https://h/a.git": "https://h/a.git", "https://h/a.git#b:c": "https://h/a.git#b:c", "git@h:a": "git@h:a", "ssh://h/a": "ssh://h/a", "github.com/a/b": "https://github.com/a/b",
		"https://h/a": "", "http://h/a.tar?x=.git": "",
	} {
		if got, ok := gitAddress(s); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s, %v", s, got, ok)
		}
	}
}

func TestI5_WhereFilesCameFromIsNotInTheKey(t *testing.T) {
	g := newGitServer(t)
	g.commit("f", "1")
	w, other := newWeb(t, map[string]string{"/a/f": "x"}), newWeb(t, map[string]string{"/b/f": "x", "/b/g": "x"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/a/f /d/\nADD "+g.URL+"/a.git#main /g", nil)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	p.write("Dockerfile", "FROM scratch\nADD "+other.URL+"/b/f?x /d/\nADD "+g.URL+"/a.git?branch=main /g")
	if res, err := p.build(); err != nil || ran(res) != "" {
		t.Errorf("ran %q, %v", ran(res), err)
	}
	p.write("Dockerfile", "FROM scratch\nADD "+other.URL+"/b/g /d/\nADD "+g.URL+"/a.git?branch=main /g")
	if res, err := p.build(); err != nil || ran(res) == "" {
		t.Errorf("another name: ran %q, %v", ran(res), err)
	}
}
