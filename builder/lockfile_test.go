package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

// The lock file has what each name meant, and --locked wants that: another digest, or a name that is not there, is an error that
// names what is and what was.
//
// rows: P8
func TestP8_NamesMeanWhatTheyMeant(t *testing.T) {
	t.Parallel()
	w, g, r := newWeb(t, map[string]string{"/a": "1", "/b": "2"}), newGitServer(t), registrytest.New(t)
	was := g.commit("f", "1")
	base := newProject(t, "FROM scratch\nLABEL n=1\nCOPY f /f\n", map[string]string{"f": "1"})
	image := r.Host + "/base:1"
	base.opt.Tags, base.opt.Outputs = []string{image}, []Output{{Type: "registry"}}
	if _, err := base.build(); err != nil {
		t.Fatal(err)
	}
	dockerfile := "FROM " + image + "\nADD " + w.URL + "/a?token=hidden /\nADD " + g.URL + "/a.git#main /r\n"
	p := newProject(t, dockerfile, nil)
	file := filepath.Join(t.TempDir(), "my.lock")
	p.opt.Lock, p.opt.Pull = LockOptions{File: file}, PullAlways
	locked := func() error {
		p.opt.Lock.Enforce = true
		defer func() { p.opt.Lock.Enforce = false }()
		_, err := p.build()
		return err
	}
	wantUsage := func(err error, words ...string) {
		t.Helper()
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) || classify(err, "").Category != CategoryUsage {
				t.Errorf("no %q in %v", word, err)
			}
		}
	}
	wantUsage(locked(), "read lock file "+file+": there is none")
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	first := read(t, file)
	for _, want := range []string{"git " + g.URL + "/a.git#main - " + was, "image " + image + " linux/amd64 sha256:", "url " + w.URL + "/a "} {
		if !strings.Contains(first, "\n"+strings.ReplaceAll(want, "linux/amd64", hostPlatform(t))) {
			t.Errorf("no %q in\n%s", want, first)
		}
	}
	if strings.Contains(first, "hidden") {
		t.Errorf("a query is in the file:\n%s", first)
	}
	if err := locked(); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	w.set("/a", "3")
	wantUsage(locked(), "url "+w.URL+"/a is sha256:4e07", "my.lock has sha256:6b86")
	w.set("/a", "1")
	now := g.commit("f", "2")
	wantUsage(locked(), "#main is "+now, "my.lock has "+was)
	g.git("reset", "-q", "--hard", was)
	g.git("update-server-info")
	base.write("Dockerfile", "FROM scratch\nLABEL n=2\n")
	if _, err := base.build(); err != nil {
		t.Fatal(err)
	}
	wantUsage(locked(), image, " is sha256:", "my.lock has sha256:")
	if now := read(t, file); now != first {
		t.Errorf("--locked wrote\n%s", now)
	}
	p.write("Dockerfile", "FROM scratch\nADD "+w.URL+"/b /\n")
	wantUsage(locked(), "my.lock has nothing about it")
	// What this build does not need stays: another target may.
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if now := read(t, file); strings.Count(now, "\n") != strings.Count(first, "\n")+1 || !strings.Contains(now, was) {
		t.Errorf("after another target:\n%s", now)
	}
}

// A build that fails writes nothing, a file that is none of ours is not overwritten, and names of any form come back as they were.
//
// rows: P8
func TestP8_FileIsNotLost(t *testing.T) {
	t.Parallel()
	w := newWeb(t, map[string]string{"/a": "1"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/a /\nCOPY none /\n", nil)
	file := filepath.Join(p.dir, "gobuild.lock")
	p.opt.Lock.File = file
	if _, err := p.build(); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Lstat(file); err == nil {
		t.Errorf("a failed build wrote %s", read(t, file))
	}
	p.write("Dockerfile", "FROM scratch\nADD "+w.URL+"/a /\n")
	for name, text := range map[string]string{
		"another file": "FROM scratch\n", "half a line": lockTitle + "\nurl http://x/ -\n", "open quote": lockTitle + "\nurl \"x - y\n",
		"twice": lockTitle + "\nurl x - 1\nurl x - 2\n", "large": lockTitle + strings.Repeat("\n", maxLockFile),
	} {
		p.write("gobuild.lock", text)
		if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "read lock file") || classify(err, "").Category != CategoryUsage {
			t.Errorf("%s: %v", name, err)
		}
		if read(t, file) != text {
			t.Errorf("%s: overwritten", name)
		}
	}
	odd := &lockFile{opt: LockOptions{File: file}, now: map[lockName]string{
		{"git", "ssh://a b/#x\"y", "-"}: "1", {"url", "", "-"}: "2", {"image", "é\x01", "l/a"}: "3 4", {"image", "x#y", "l/a"}: "5",
	}}
	must(t, odd.save())
	back, err := openLock(odd.opt)
	if err != nil || len(back.read) != len(odd.now) {
		t.Fatalf("%v, %v in\n%s", back, err, read(t, file))
	}
	for n, value := range odd.now {
		if back.read[n] != value {
			t.Errorf("%q is %q, %q was written", n, back.read[n], value)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func hostPlatform(t *testing.T) string {
	t.Helper()
	_, host, err := platformsOf("")
	if err != nil {
		t.Fatal(err)
	}
	return platformText(host)
}
