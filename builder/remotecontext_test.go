package builder

import (
	"strings"
	"testing"
)

func TestC12_NamedContextsThatAreFetched(t *testing.T) {
	g := newGitServer(t)
	first := g.commit("f", "1", "sub/x", "22", ".dockerignore", "*\n")
	second := g.commit("f", "333")
	w := newWeb(t, map[string]string{"/d/file.txt": "4444", "/t.tar": tarball(t, "in", "1")})
	w.date = "Wed, 21 Oct 2015 07:28:00 GMT"
	for _, tc := range []struct{ name, source, dockerfile, want string }{
		{"COPY from git", g.URL + "/a.git", "FROM scratch\nCOPY --from=far f sub /", lines("f 0755 0:0 3", "x 0755 0:0 2")},
		{"a commit", g.URL + "/a.git#" + first, "FROM scratch\nCOPY --from=far f /", "f 0755 0:0 1"},
		{"a folder", g.URL + "/a.git?subdir=sub&commit=" + second, "FROM scratch\nCOPY --from=far / /s/", lines("s 0755 0:0 /", "s/x 0755 0:0 2")},
		{"FROM git", g.URL + "/a.git#:sub", "FROM far\nCOPY --from=far x /y", lines("x 0755 0:0 2", "y 0755 0:0 2")},
		{"in place of a stage", g.URL + "/a.git#:sub", "FROM nowhere.invalid/x AS far\nRUN nothing\nFROM scratch\nCOPY --from=far x /", "x 0755 0:0 2"},
		{"COPY from a URL", w.URL + "/d/file.txt?v=1", "FROM scratch\nCOPY --from=far context /n", "n 0600 0:0 4"},
		{"an archive stays one", w.URL + "/t.tar", "FROM far", "context 0600 0:0 " + sizeText(w.files["/t.tar"])},
		{"a URL in place of an image", w.URL + "/d/file.txt", "FROM far AS a\nFROM scratch\nCOPY --from=a / /x/", lines("x 0755 0:0 /", "x/context 0600 0:0 4")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, tc.dockerfile, nil)
			p.opt.Contexts = map[string]string{"far": tc.source}
			if got, err := p.tree(); err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			p.wantNoWork()
			p.opt.Outputs = nil
			if res, err := p.build(); err != nil || ran(res) != "" {
				t.Errorf("again: ran %q, %v", ran(res), err)
			}
			for _, e := range p.events {
				if e.Type == EventTransfer {
					t.Errorf("a cached build fetched %s", e.Text)
				}
			}
		})
	}
}

func TestC12_AFetchedContextThatChanges(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "1"})
	p := newProject(t, "FROM scratch\nCOPY --from=far context /", nil)
	p.opt.Contexts = map[string]string{"far": w.URL + "/f"}
	for range 2 {
		if got, err := p.tree(); err != nil || !strings.HasPrefix(got, "context 0600 0:0 ") {
			t.Errorf("%v\n%s", err, got)
		}
		if asked, sent := w.counts(); asked != 1 || sent != 1 {
			t.Errorf("asked %d times, sent %d", asked, sent)
		}
		w.set("/f", "22")
	}
}

func TestC12_FetchedContextsThatFail(t *testing.T) {
	g := newGitServer(t)
	g.commit("f", "1", "up", "-> sub", "sub/x", "1")
	w := newWeb(t, map[string]string{"/private": "-> http://10.0.0.1/x"})
	for _, tc := range []struct {
		source, from string
		category     Category
		text         string
	}{
		{w.URL + "/none", "far", CategoryRemote, "404"},
		{w.URL + "/private", "far", CategoryUnsafe, "private address"},
		{"https://u:hidden@127.0.0.1/x", "far", CategoryUnsafe, "credentials"},
		{g.URL + "/a.git#none", "far", CategoryRemote, "no none"},
		{g.URL + "/a.git#:none", "far", CategoryUsage, "none"},
		{g.URL + "/a.git#:f", "far", CategoryUsage, "no folder f"},
		{g.URL + "/a.git#:up", "far", CategoryUnsafe, "through a link"},
		{"ssh://-oProxyCommand=id/x", "far", CategoryUnsafe, "begins with -"},
		{"target:none", "far", CategoryUsage, "no stage"},
		{w.URL + "/none", "scratch", "", ""}, // what no step names is not fetched, and nothing is in scratch
	} {
		p := newProject(t, "FROM scratch\nCOPY --from="+tc.from+" . /", nil)
		p.opt.Contexts = map[string]string{"far": tc.source}
		_, err := p.build()
		if tc.category == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.source, err)
			}
			continue
		}
		wantCategory(t, err, tc.category, tc.text)
		if strings.Contains(err.Error(), "hidden") {
			t.Error(err)
		}
		p.wantNoWork()
	}
}

func TestC12_AFetchedContextAsAMount(t *testing.T) {
	g := newGitServer(t)
	g.commit("sub/x", "from git")
	w := newWeb(t, map[string]string{"/f": "from a server"})
	p := newShellProject(t, `FROM base
RUN --mount=from=repo,source=sub,target=/m --mount=from=file,target=/n cat /m/x /n/context > /out && ! touch /m/y
RUN --mount=from=repo,target=/m,rw touch /m/y
`, nil)
	p.opt.Contexts = map[string]string{"repo": g.URL + "/a.git", "file": w.URL + "/f"}
	if got := p.added(); got != "out 0644 0:0 21" {
		t.Errorf("%s\n%s", got, p.output())
	}
}

func TestC12_AStageAsNamedContext(t *testing.T) {
	p := newProject(t, "FROM scratch AS a\nCOPY f /a\nFROM nowhere.invalid/x AS b\nFROM nowhere.invalid/y\nCOPY --from=b /a /b\nCOPY --from=c /a /c\n", map[string]string{"f": "1"})
	p.opt.Contexts = map[string]string{"b": "target:a", "nowhere.invalid/y": "target:A", "c": "target:0"}
	if got, err := p.tree(); err != nil || got != lines("a 0644 0:0 1", "b 0644 0:0 1", "c 0644 0:0 1") {
		t.Errorf("%v\n%s", err, got)
	}
}
