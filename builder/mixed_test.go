package builder

import (
	"strings"
	"testing"
)

// rows: B55 B56 B57
func TestB40_AddOfSourcesOfSeveralKinds(t *testing.T) {
	g := newGitServer(t)
	g.commit("f", "git", "g/x", "22")
	w := newWeb(t, map[string]string{"/f": "from a server", "/u": "1"})
	files := map[string]string{"f": "context", "l": "1", "t.tar": tarball(t, "in", "1")}
	for _, tc := range []struct{ name, add, want string }{
		{"all kinds", "ADD l WEB/u GIT <<h /d/\nx\nh", lines("d 0755 0:0 /", "d/f 0755 0:0 3", "d/g 0755 0:0 /", "d/g/x 0755 0:0 2", "d/h 0644 0:0 2", "d/l 0644 0:0 1", "d/u 0600 0:0 1")},
		{"the last wins", "ADD GIT f /d/", lines("d 0755 0:0 /", "d/f 0644 0:0 7", "d/g 0755 0:0 /", "d/g/x 0755 0:0 2")},
		{"in their order", "ADD f WEB/f GIT#:g /d/", lines("d 0755 0:0 /", "d/f 0600 0:0 13", "d/x 0755 0:0 2")},
		{"archives are unpacked where they are local", "ADD t.tar WEB/u /d/", lines("d 0755 0:0 /", "d/in 0644 1234:1234 1", "d/u 0600 0:0 1")},
		{"owner, mode and link", "ADD --link --chown=7:8 --chmod=640 l WEB/u /d/", lines("d 0640 7:8 /", "d/l 0640 7:8 1", "d/u 0640 7:8 1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.NewReplacer("WEB", w.URL, "GIT", g.URL+"/a.git").Replace(tc.add)+"\n", files)
			if got, err := p.tree(); err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			if res, err := p.build(); err != nil || ran(res) != "" {
				t.Errorf("again: ran %q, %v", ran(res), err)
			}
		})
	}
	p := newProject(t, "FROM scratch\nADD l "+w.URL+"/u /d/\n", files)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	w.set("/u", "2")
	if res, err := p.build(); err != nil || ran(res) == "" {
		t.Errorf("a file by URL that changed: %v", err)
	}
	p.write("l", "changed")
	if res, err := p.build(); err != nil || ran(res) == "" {
		t.Errorf("a file of the context that changed: %v", err)
	}
	for add, text := range map[string]string{"ADD l WEB/u /d": "not a folder", "ADD l WEB/none /d/": "404", "ADD none WEB/u /d/": "none"} {
		p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(add, "WEB", w.URL)+"\n", files)
		if _, err := p.build(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", add, err)
		}
	}
}
