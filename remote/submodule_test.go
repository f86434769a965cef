package remote

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestC9_RelativeAddressesOfSubmodules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ parent, address, want string }{
		{"https://h:1/a/b.git", "../c.git", "https://h:1/a/c.git"},
		{"https://h/a/b.git/", "./c", "https://h/a/b.git/c"},
		{"https://h/a/b.git", "../../x/y/", "https://h/x/y"},
		{"https://h/a/b.git", ".././../x", "https://h/x"},
		{"ssh://u@h:22/a/b", "../c", "ssh://u@h:22/a/c"},
		{"u@h:a/b.git", "../c.git", "u@h:a/c.git"},
		{"u@h:a/b.git", "../../c.git", "u@h:c.git"},
		{"u@h:/srv/b.git", "../c.git", "u@h:/srv/c.git"},
		{"https://h/b.git", "../../c", ""},
		{"u@h:b.git", "../../c", ""},
		{"/srv/b.git", "../c", ""},
	} {
		got, err := relative(tc.parent, tc.address)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s in %s is %q, %v, want %q", tc.address, tc.parent, got, err, tc.want)
		}
	}
}

func TestHostileH62_PlacesAndNamesOfSubmodules(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]bool{
		"a": true, "a/b-c/d.e": true, "a b": true, "..a": true, ".github": true,
		"": false, ".": false, "..": false, "../a": false, "a/../../b": false, "a/.git": false, ".GIT/hooks": false, "/a": false, "a/": false, "a//b": false,
		"-a": false, "a\rb": false, "a\nb": false, `..\a`: false, `a\..\..\b`: false,
	} {
		if plainPath(p) != want {
			t.Errorf("%q: %v", p, !want)
		}
	}
}

func TestHostileH62_AddressesOfSubmodules(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://h/a": "https://h/a", "https://git@h/a": "https://h/a", "http://h/a.git": "http://h/a.git", "git@h:a": "git@h:a", "ssh://git@h/a": "ssh://git@h/a", "../b": "https://p/b",
		"": "", "ext::sh -c id": "", "file:///etc": "", "/etc": "", "-u": "", "--upload-pack=id": "", "ssh://-oProxyCommand=id/x": "", "git@-oProxyCommand=id:x": "",
		"https://u:hidden@h/a": "", "https://169.254.169.254/a": "", "fd::7": "", "../../../x": "", "https://h/a\nb": "", "h:a": "", "C:\\a": "", "https://": "",
	} {
		got, err := module{name: "n", url: address}.address("https://p/a.git")
		var e *refusal
		if got != want || (err == nil) != (want != "") || err != nil && (!errors.As(err, &e) || e.hint != withoutSubmodules) {
			t.Errorf("%q is %q, %v", address, got, err)
		}
		if strings.Contains(fmt.Sprint(err), "hidden") {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, m := range []module{{name: "../../hooks", url: "https://h/a"}, {name: "n", url: "https://h/a", update: "!touch /tmp/x"}, {name: "a/.git", url: "https://h/a"}} {
		if _, err := m.address("https://p/a.git"); !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestHostileH62_TreesWithOddLinks(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("0123456789", 4)
	for tree, want := range map[string]error{
		"100644 blob " + hash + "\tf\x00160000 commit " + hash + "\ts\x00": nil,
		"160000 commit " + hash + "\t.git/x\x00":                           ErrRefused,
		"160000 commit " + hash + "\ta/../../x\x00":                        ErrRefused,
		"120000 blob " + hash + "\t.gitmodules\x00":                        ErrRefused,
		"160000 commit xyz\ts\x00":                                         ErrContent,
		strings.Repeat("160000 commit "+hash+"\ts\x00", MaxSubmodules+1):   ErrTooLarge,
		strings.Repeat("x", maxGitLine+1):                                  ErrContent,
	} {
		links, err := readTree(bufio.NewScanner(strings.NewReader(tree)))
		if !errors.Is(err, want) || want == nil && (len(links) != 1 || links[0] != link{"s", hash}) {
			t.Errorf("%.60q: %v, %v, want %v", tree, links, err, want)
		}
	}
	for _, names := range [][]string{{"a", "a/hooks"}, {"a/b/c", "a"}} {
		if err := checkNames([]Submodule{{Name: names[0]}, {Name: names[1]}}); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", names, err)
		}
	}
	if err := checkNames([]Submodule{{Name: "a"}, {Name: "ab/c"}}); err != nil {
		t.Error(err)
	}
}

// withModules commits .gitmodules as given, and a submodule at each path.
func (r *repository) withModules(t *testing.T, modules string, paths ...string) (g Git, dir, commit string) {
	t.Helper()
	r.write(t, ".gitmodules", modules)
	args := []string{"update-index", "--add", ".gitmodules"}
	for _, p := range paths {
		args = append(args, "--cacheinfo", "160000,"+r.first+","+p)
	}
	r.git(t, args...)
	r.git(t, "commit", "-q", "-m", "modules")
	g, err := ParseGit(r.URL + "/a/.git")
	if err != nil {
		t.Fatal(err)
	}
	return g, filepath.Join(r.dir, "a"), r.git(t, "rev-parse", "HEAD")
}

func section(name, path, url string) string {
	return fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", name, path, url)
}

func TestC9_Submodules(t *testing.T) {
	t.Parallel()
	r := newRepository(t, false)
	g, dir, commit := r.withModules(t, section("s one", "s", "../b.git")+section("x", "d/x/", "https://example.com/x")+
		section("left/out", "out", "ext::true")+"\tupdate = none\n"+section("nowhere", "none", "file:///etc")+"[include]\n\tpath = /etc/passwd\n", "s", "d/x", "out")
	c, _ := client(t, Config{})
	list, err := c.GitSubmodules(t.Context(), g, commit, dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, want := range []Submodule{
		{Git: Git{Remote: "https://example.com/x", Submodules: true, via: "127.0.0.1"}, Name: "x", Path: "d/x", Commit: r.first},
		{Git: Git{Remote: r.URL + "/a/b.git", Submodules: true, via: "127.0.0.1"}, Name: "s one", Path: "s", Commit: r.first},
	} {
		if list[i] != want {
			t.Errorf("%+v, want %+v", list[i], want)
		}
	}
}

func TestHostileH62_HostileSubmodules(t *testing.T) {
	t.Parallel()
	r := newRepository(t, false)
	for name, tc := range map[string]struct {
		modules string
		want    error
	}{
		"an empty file":         {"", ErrContent},
		"no entry":              {section("x", "x", "https://h/x"), ErrContent},
		"two entries":           {section("a", "s", "https://h/x") + section("b", "s", "https://h/y"), ErrContent},
		"a command":             {section("a", "s", "https://h/x") + "\tupdate = !touch x\n", ErrRefused},
		"files of this machine": {section("a", "s", "file:///etc"), ErrRefused},
		"a program":             {section("a", "s", "ext::sh -c id"), ErrRefused},
		"an option":             {section("a", "s", "-u"), ErrRefused},
		"a name that leads up":  {section("../../hooks", "s", "https://h/x"), ErrRefused},
		"an address that does":  {section("a", "s", "../../../../x"), ErrRefused},
		"a control character":   {section("a", "s", `"https://h/x\ny"`), ErrRefused},
		"no address":            {"[submodule \"a\"]\n\tpath = s\n", ErrContent},
		"what git cannot read":  {"[submodule", ErrUnavailable},
		"a large file":          {section("a", "s", "https://h/x") + "# " + strings.Repeat("x", maxModules) + "\n", ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			g, dir, commit := r.withModules(t, tc.modules, "s")
			c, _ := client(t, Config{})
			list, err := c.GitSubmodules(t.Context(), g, commit, dir)
			var e *Error
			if !errors.Is(err, tc.want) || !errors.As(err, &e) || list != nil {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// what a repository names must be public, unless it is the host that the user named.
func TestHostileR20_HostsThatARepositoryNames(t *testing.T) {
	t.Parallel()
	c, _ := client(t, Config{})
	open, _ := client(t, Config{AllowPrivate: true})
	for _, tc := range []struct {
		address, via string
		c            *Client
		ok           bool
	}{
		{"http://127.0.0.1:1/a", "", c, true},
		{"http://127.0.0.1:1/a", "127.0.0.1", c, true},
		{"http://127.0.0.1:1/a", "example.com", c, false},
		{"http://127.0.0.1:1/a", "example.com", open, true},
		{"git@127.0.0.1:a", "example.com", c, false},
		{"http://10.1.2.3/a", "example.com", c, false},
		{"http://169.254.169.254/a", "example.com", open, false},
		{"http://8.8.8.8/a", "example.com", c, true},
	} {
		_, err := tc.c.checkHost(t.Context(), Git{Remote: tc.address, via: tc.via})
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

// git connects to an address that was checked, whatever the name means by then.
func TestHostileR20_GitIsHeldToTheAddressesThatWereChecked(t *testing.T) {
	t.Parallel()
	r := newRepository(t, true)
	c, _ := client(t, Config{})
	_, port, _ := strings.Cut(strings.TrimPrefix(r.URL, "http://"), ":")
	g, err := ParseGit("http://repository.invalid:" + port + "/a/.git")
	if err != nil {
		t.Fatal(err)
	}
	run, err := c.git(g, GitAuth{}, "", []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run.output(t.Context(), "ls-remote", "--", g.Remote, "HEAD"); err != nil || !strings.Contains(out, r.second) {
		t.Errorf("%s, %v", out, err)
	}
	u, _ := url.Parse("https://h/x")
	if got := pinned(u, []netip.Addr{netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("fd00::1")}); got != "h:443:1.2.3.4,[fd00::1]" {
		t.Error(got)
	}
}

func TestB57_AKeptRepositoryHasItsTag(t *testing.T) {
	t.Parallel()
	for _, smart := range []bool{false, true} {
		r := newRepository(t, smart)
		c, _ := client(t, Config{})
		for fragment, want := range map[string]string{
			"": "refs/heads/main " + r.second, "#main": "refs/heads/main " + r.second, "?tag=v1": "refs/tags/v1 " + r.git(t, "rev-parse", "refs/tags/v1"), "#" + r.first: "",
			"?ref=x/y&fetch-by-commit&commit=" + r.first: "refs/heads/x/y " + r.first,
		} {
			g, err := ParseGit(r.URL + "/a/.git" + fragment)
			if err != nil {
				t.Fatal(err)
			}
			rev, err := c.GitResolve(t.Context(), g, GitAuth{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := c.GitFetch(t.Context(), g, rev, dir, GitAuth{}, true); err != nil {
				t.Fatalf("%q: %v", fragment, err)
			}
			run, err := c.git(g, GitAuth{}, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			name, hash, _ := strings.Cut(want, " ")
			got, err := run.output(t.Context(), "for-each-ref", "--format=%(objectname)", name)
			if want != "" && (err != nil || strings.TrimSpace(got) != hash) {
				t.Errorf("smart %v: %q: %s is %q, %v, want %s", smart, fragment, name, got, err, hash)
			}
			head, err := os.ReadFile(filepath.Join(dir, ".git", "HEAD"))
			if err != nil || string(head) != rev.Commit+"\n" {
				t.Errorf("%q: HEAD is %q, %v", fragment, head, err)
			}
		}
	}
}
