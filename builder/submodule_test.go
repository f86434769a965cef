package builder

import (
	"archive/tar"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// link makes the next commit of a repository have another one at a path, as .gitmodules then says.
func (g *gitServer) link(path, address, commit string, more ...string) {
	g.t.Helper()
	g.git("config", "-f", ".gitmodules", "submodule."+path+".path", path)
	g.git("config", "-f", ".gitmodules", "submodule."+path+".url", address)
	for i := 0; i < len(more); i += 2 {
		g.git("config", "-f", ".gitmodules", "submodule."+path+"."+more[i], more[i+1])
	}
	g.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
}

// commitIndex commits what link did, without a look at the folder, which has no submodules.
func (g *gitServer) commitIndex() string {
	g.t.Helper()
	g.git("add", ".gitmodules")
	g.git("commit", "-q", "-m", "x")
	g.git("update-server-info")
	return g.git("rev-parse", "HEAD")
}

// nested is a repository with the submodule s, which has the submodule deep/t. That of s is at an older commit.
func nested(t *testing.T) (top, s *gitServer, commit string) {
	t.Helper()
	deepest, s, top := newGitServer(t), newGitServer(t), newGitServer(t)
	last := deepest.commit("x", "1")
	s.commit("y", "22")
	s.link("deep/t", deepest.URL+"/a.git", last)
	old := s.commitIndex()
	s.git("commit", "-q", "--allow-empty", "-m", "newer")
	s.git("update-server-info")
	top.commit("f", "333")
	top.link("s", s.URL+"/a.git", old)
	top.link("not", "https://example.invalid/x", old, "update", "none")
	return top, s, top.commitIndex()
}

func TestC9_SubmodulesAreFetchedRecursively(t *testing.T) {
	top, s, _ := nested(t)
	files := []string{"g 0755 0:0 /", "g/.gitmodules 0644 0:0 SIZE", "g/f 0755 0:0 3", "g/not 0755 0:0 /", "g/s 0755 0:0 /", "g/s/.gitmodules 0644 0:0 SIZE", "g/s/deep 0755 0:0 /",
		"g/s/deep/t 0755 0:0 /", "g/s/deep/t/x 0755 0:0 1", "g/s/y 0755 0:0 2"}
	for _, tc := range []struct{ name, add, want string }{
		{"by default", "ADD URL /g", lines(files...)},
		{"when asked for", "ADD URL?submodules /g", lines(files...)},
		{"not when they are not wanted", "ADD URL?submodules=false /g", lines(files[:5]...)},
		{"a folder in one", "ADD URL#:s/deep /g", lines("g 0755 0:0 /", "g/t 0755 0:0 /", "g/t/x 0755 0:0 1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(tc.add, "URL", top.URL+"/a.git"), nil)
			got, err := p.tree()
			if err != nil || withoutSizes(got) != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			p.wantNoWork()
			asked := s.asked.Load()
			if res, err := p.build(); err != nil || ran(res) != "" || s.asked.Load() != asked {
				t.Errorf("again: ran %q, asked the submodule's server %d times, %v", ran(res), s.asked.Load()-asked, err)
			}
		})
	}
	t.Run("as a context", func(t *testing.T) {
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) {
			o.ContextURL, o.DockerfileText = top.URL+"/a.git", []byte("FROM scratch\nCOPY s/deep/t/x /")
		})
		if err != nil || got != "x 0755 0:0 1" {
			t.Errorf("%v\n%s", err, got)
		}
	})
	t.Run("all of the time of the commit", func(t *testing.T) {
		p := newProject(t, "FROM scratch\nADD "+top.URL+"/a.git /s/", nil)
		var buf bytes.Buffer
		p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(&buf); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if h.ModTime.Unix() != 1445412480 {
				t.Errorf("%s is of %v", h.Name, h.ModTime)
			}
		}
	})
}

// withoutSizes hides the sizes of files whose text has a port in it.
func withoutSizes(tree string) string {
	list := strings.Split(tree, "\n")
	for i, l := range list {
		if at := strings.LastIndexByte(l, ' '); strings.Contains(l, ".gitmodules") {
			list[i] = l[:at] + " SIZE"
		}
	}
	return strings.Join(list, "\n")
}

func TestB57_AKeptRepositoryKnowsItsSubmodules(t *testing.T) {
	top, _, _ := nested(t)
	p := newProject(t, "FROM scratch\nADD --keep-git-dir "+top.URL+"/a.git /g/", nil)
	out := t.TempDir()
	p.opt.Outputs = []Output{{Type: "local", Dest: out}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"g", "g/s", "g/s/deep/t"} {
		cmd := exec.Command("git", "-c", "safe.directory=*", "-C", filepath.Join(out, dir), "submodule", "status", "--recursive")
		text, err := cmd.CombinedOutput()
		if err != nil || dir == "g" && (!strings.Contains(string(text), " s (") || !strings.Contains(string(text), " s/deep/t (")) {
			t.Errorf("%s: %v\n%s", dir, err, text)
		}
		status := exec.Command("git", "-c", "safe.directory=*", "-C", filepath.Join(out, dir), "status", "--porcelain")
		if text, err := status.CombinedOutput(); err != nil || len(text) != 0 {
			t.Errorf("%s: %v\n%s", dir, err, text)
		}
	}
}

func TestHostileH62_Submodules(t *testing.T) {
	other := newGitServer(t)
	commit := other.commit("x", "1")
	for _, tc := range []struct {
		name     string
		prepare  func(g *gitServer)
		category Category
		text     string
	}{
		{"files of this machine", func(g *gitServer) { g.link("s", "file://"+other.dir, commit) }, CategoryUnsafe, "may not use"},
		{"a program", func(g *gitServer) { g.link("s", "ext::sh -c true", commit) }, CategoryUnsafe, "may not use"},
		{"a commit that is not there", func(g *gitServer) { g.link("s", other.URL+"/a.git", strings.Repeat("1", 40)) }, CategoryRemote, "submodule s"},
		{"no server", func(g *gitServer) { g.link("s", "http://127.0.0.1:1/a.git", commit) }, CategoryRemote, "submodule s"},
		{"itself, again and again", func(g *gitServer) {
			for range maxSubmoduleDepth {
				g.link("s", "../a.git", g.git("rev-parse", "HEAD"))
				g.commitIndex()
			}
			g.link("s", "../a.git", g.git("rev-parse", "HEAD"))
		}, CategoryUnsafe, "deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGitServer(t)
			g.commit("f", "1")
			tc.prepare(g)
			g.commitIndex()
			p := newProject(t, "FROM scratch\nADD "+g.URL+"/a.git /", nil)
			_, err := p.build()
			wantCategory(t, err, tc.category, tc.text)
			p.wantNoWork()
		})
	}
}

func TestHostileR19_CredentialsForSubmodules(t *testing.T) {
	t.Parallel()
	bd := &build{opt: Options{SSH: map[string]string{"default": "/agent"}, Secrets: map[string]SecretSource{
		"GIT_AUTH_TOKEN": {Data: []byte("any")}, "GIT_AUTH_TOKEN.own": {Data: []byte("own")}, "GIT_AUTH_HEADER": {Data: []byte("header")},
	}}}
	for _, tc := range []struct{ top, address, token, header, agent string }{
		{"https://h/a.git", "https://h/b.git", "", "header", "/agent"},
		{"https://h/a.git", "https://own/b.git", "own", "", ""},
		{"https://h/a.git", "https://h:8443/b.git", "", "", ""},
		{"https://h/a.git", "https://g/b.git", "", "", ""},
		{"https://h/a.git", "http://h/b.git", "", "", ""},
		{"git@h:a", "ssh://git@H:22/b", "", "", "/agent"},
		{"git@h:a", "git@g:b", "", "", ""},
		{"https://h/a.git", "git@h:b", "", "", ""},
	} {
		auth, err := bd.moduleAuth(tc.top, tc.address)
		if err != nil || auth.Token != tc.token || auth.Header != tc.header || auth.Agent != tc.agent {
			t.Errorf("%+v: %+v, %v", tc, auth, err)
		}
	}
}
