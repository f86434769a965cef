package builder

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestH17_Squash(t *testing.T) {
	t.Parallel()
	below := newShellProjectOf(t, shellBase, nil)
	layout := filepath.Join(t.TempDir(), "base")
	below.write("Dockerfile", strings.Replace(shellBase, " AS base", "", 1)+"RUN mkdir /d && echo 1 > /d/a && echo 1 > /d/b && echo 1 > /c\n")
	below.opt.Outputs = []Output{{Type: "oci", Dest: layout}}
	if _, err := below.build(); err != nil {
		t.Fatalf("%v\n%s", err, below.output())
	}
	m, _ := manifestIn(t, layout)
	base := len(m.Layers)

	p := newProject(t, "FROM base\nRUN echo big > /big && echo kept > /kept\nENV a=b\nRUN rm /big /d/a && echo 2 > /c\nRUN rm -r /d && mkdir /d && echo 3 > /d/new\n", nil)
	p.opt.Contexts = map[string]string{"base": "oci-layout://" + layout}
	plain, err := p.tree()
	if err != nil {
		t.Fatalf("%v\n%s", err, p.output())
	}
	p.opt.Outputs = nil
	for _, tt := range []struct {
		how, names string
		layers     int
	}{
		{"", "d/ d/.wh.b d/new", base + 3},
		{SquashNew, "c d/ d/.wh.a d/.wh.b d/new kept", base + 1},
		{SquashAll, "", 1},
	} {
		p.opt.Squash = tt.how
		names, layers := p.lastLayer()
		if layers != tt.layers || tt.names != "" && names != tt.names {
			t.Errorf("%q: %d layers, the last with %q; want %d and %q", tt.how, layers, names, tt.layers, tt.names)
		}
		first := p.lastManifest()
		if again := p.lastManifest(); again != first {
			t.Errorf("%q: another build gives another image", tt.how)
		}
		// The image is what it would be without.
		out := filepath.Join(t.TempDir(), "out")
		p.opt.Outputs = []Output{{Type: "oci", Dest: out}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		q := newProject(t, "FROM squashed\n", nil)
		q.opt.Contexts = map[string]string{"squashed": "oci-layout://" + out}
		if tree, err := q.tree(); err != nil || tree != plain {
			t.Errorf("%q: %v, the tree is\n%s\nwithout squashing\n%s", tt.how, err, tree, plain)
		}
		p.opt.Outputs = nil
	}
}

// lastManifest builds and gives the digest of the manifest.
func (p *project) lastManifest() string {
	p.t.Helper()
	res, err := p.build()
	if err != nil {
		p.t.Fatal(err)
	}
	return res.Manifest.Digest.String()
}

func TestH17_ASquashedBuildFillsACacheToo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	p := newProject(t, "FROM scratch\nCOPY a /a\nCOPY a /b\n", map[string]string{"a": "1"})
	p.opt.Squash = SquashNew
	p.opt.CacheTo = []CacheShare{{Type: "local", Dir: dir}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	q := newProject(t, p.dockerfile, map[string]string{"a": "1"})
	q.opt.CacheFrom = []CacheShare{{Type: "local", Dir: dir}}
	res, err := q.build()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Steps {
		if !s.Cached {
			t.Errorf("%s ran again", s.Text)
		}
	}
}
