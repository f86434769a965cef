package builder

import (
	"fmt"
	"strings"
	"testing"
)

// What an address of a repository can say, as a context and as the source of an ADD. rows: B57
func TestC9_QueriesOfGitAddresses(t *testing.T) {
	sub, g := newGitServer(t), newGitServer(t)
	module := sub.commit("file", "123\n")
	g.commit("foo", "base\n", "Dockerfile", "FROM scratch AS withgit\nCOPY .git/HEAD out\nFROM scratch AS withmodule\nCOPY module/file out\nFROM scratch\nCOPY foo out\n")
	g.link("module", sub.URL+"/a.git", module)
	g.commitIndex()
	at := func(words ...string) string { // commits foo, and names the commit
		g.write("foo", words[0]+"\n")
		g.git("add", "foo")
		g.git("commit", "-q", "-m", "x")
		for _, w := range words[1:] {
			g.git(append(strings.Fields(w), words[0])...)
		}
		return g.git("rev-parse", "HEAD")
	}
	g.git("branch", "base")
	g.write("sub/foo", "subfeature\n")
	g.write("sub/Dockerfile", "FROM scratch\nCOPY foo out\n")
	g.git("add", "sub")
	at("feature", "branch")
	g.git("checkout", "-q", "-B", "main", "base")
	second := at("v2", "tag -a -m x")
	tag := g.git("rev-parse", "refs/tags/v2")
	last := at("latest", "tag")
	g.git("update-server-info")
	for _, tc := range []struct{ query, stage, want, fail string }{
		{"", "", "latest", ""},
		{"#v2", "", "v2", ""},
		{"?ref=base", "", "base", ""},
		{"?branch=base", "", "base", ""},
		{"?branch=refs/heads/base", "", "base", ""},
		{"?branch=none", "", "", "has no refs/heads/none"},
		{"?branch=v2", "", "", "has no refs/heads/v2"},
		{"?tag=base", "", "", "has no refs/tags/base"},
		{"?tag=v2#refs/tags/v2", "", "v2", ""},
		{"?tag=v2#refs/heads/main", "", "", "two values for ref"},
		{"?ref=v2#base", "", "", "two values for ref"},
		{"?tag=v2&branch=main", "", "", "ref"},
		{"?commit=" + last, "", "latest", ""},
		{"?commit=" + last[:8], "", "latest", ""},
		{"?commit=" + second[:8], "", "", "is wanted"},
		{"?ref=" + second, "", "v2", ""},
		{"?ref=" + second[:8], "", "", "has no " + second[:8]},
		{"?tag=v2&commit=" + second, "", "v2", ""},
		{"?tag=v2&commit=" + tag, "", "v2", ""},
		{"?tag=v2&commit=" + last, "", "", "is wanted"},
		{"?ref=" + second + "&commit=" + second, "", "v2", ""},
		{"?ref=" + second + "&commit=" + last, "", "", "is wanted"},
		{"?checksum=" + second + "&fetch-by-commit&ref=any/name", "", "v2", ""},
		{"?fetch-by-commit", "", "", "whole commit hash"},
		{"#feature:sub", "", "subfeature", ""},
		{"?subdir=sub&ref=feature", "", "subfeature", ""},
		{"?subdir=/sub/&ref=feature#:sub", "", "", "two values for subdir"},
		{"?keep-git-dir=true", "withgit", last, ""},
		{"?keep-git-dir&submodules", "withgit", last, ""},
		{"?tag=v2&keep-git-dir=true", "withgit", second, ""},
		{"", "withgit", "", ".git/HEAD"},
		{"?keep-git-dir=false", "withgit", "", ".git/HEAD"},
		{"?keep-git-dir=x", "", "", "keep-git-dir"},
		{"", "withmodule", "123", ""},
		{"?submodules=true", "withmodule", "123", ""},
		{"?submodules", "withmodule", "123", ""},
		{"?submodules=false", "withmodule", "", "module/file"},
		{"?mtime=checkout", "", "latest", ""},
		{"?mtime=now", "", "", "mtime"},
		{"?depth=1", "", "", "depth"},
		{"?ref=", "", "", "no value"},
	} {
		check := func(how, got string, err error) {
			t.Helper()
			if tc.fail != "" {
				if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `"`, ""), tc.fail) {
					t.Errorf("%s %s: %v, want %q", how, tc.query, err, tc.fail)
				}
			} else if want := "out 0644 0:0 " + sizeText(tc.want+"\n"); err != nil || got != want {
				t.Errorf("%s %s: %v\n%s\nwant\n%s", how, tc.query, err, got, want)
			}
		}
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) { o.ContextURL, o.Target = g.URL+"/a.git"+tc.query, tc.stage })
		check("context", strings.Replace(got, " 0755 ", " 0644 ", 1), err)
		if tc.stage == "" && tc.fail == "" {
			continue // both read addresses in one place; this is about what differs
		}
		file := map[string]string{"": "foo", "withgit": ".git/HEAD", "withmodule": "module/file"}[tc.stage]
		p = newProject(t, fmt.Sprintf("FROM scratch AS a\nADD %s/a.git%s /r/\nFROM scratch\nCOPY --from=a /r/%s /out\n", g.URL, tc.query, file), nil)
		got, err = p.tree()
		check("ADD", strings.Replace(got, " 0755 ", " 0644 ", 1), err)
	}
}
