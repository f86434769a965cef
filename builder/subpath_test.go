package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rows: C13
func TestC13_AFolderOfTheContextIsTheContext(t *testing.T) {
	t.Parallel()
	const dockerfile = "FROM scratch\nCOPY . /\n"
	for name, set := range map[string]func(*project, *Options){
		"of a folder": func(p *project, o *Options) {
			o.Context = p.dir
			p.write("sub/deep/Dockerfile", dockerfile)
			p.write("sub/deep/f", "12")
			p.write("sub/other", "x")
		},
		"of an archive": func(_ *project, o *Options) {
			o.Context = ""
			o.ContextTar = strings.NewReader(tarball(t, "Dockerfile", "FROM nowhere", "sub/other", "x", "sub/deep/Dockerfile", dockerfile, "sub/deep/f", "12"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, "FROM nowhere\n", nil)
			got, err := p.contextBuild(func(o *Options) { set(p, o); o.ContextSubPath = "sub/./deep/" })
			if err != nil || !strings.Contains(got, "\nf 0") && !strings.HasPrefix(got, "f 0") || strings.Contains(got, "other") || !strings.Contains(got, "Dockerfile 0") {
				t.Errorf("%v\n%s", err, got)
			}
			p.wantNoFolder()
		})
	}
}

// wantNoFolder is wantNoWork for a build whose context may be a folder that stays.
func (p *project) wantNoFolder() {
	p.t.Helper()
	if left, err := filepath.Glob(filepath.Join(p.root, "snapshots/work/*")); err != nil || len(left) != 0 {
		p.t.Errorf("left behind: %v, %v", left, err)
	}
}

// The context is a stranger's, and a link in it may lead anywhere on this machine.
func TestC13_TheWayToTheFolderStaysInTheContext(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o644))
	for sub, want := range map[string]string{
		"../x": "leads out of the context", "/etc": "leads out of the context", "a/../../x": "leads out of the context", "nothing/there": "the context has no folder nothing",
		"link": "link is a link", "dir/link/sub": "dir/link is a link", "file": "file is no folder",
	} {
		t.Run(sub, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, "", map[string]string{"file": "x", "dir/f": "x"})
			must(t, os.Symlink(outside, filepath.Join(p.dir, "link")))
			must(t, os.Symlink(outside, filepath.Join(p.dir, "dir/link")))
			tar := tarball(t, "file", "x", "dir/f", "x", "link", "-> "+outside, "dir/link", "-> "+outside)
			for _, set := range []func(*Options){func(o *Options) { o.Context = p.dir }, func(o *Options) { o.Context, o.ContextTar = "", strings.NewReader(tar) }} {
				_, err := p.contextBuild(func(o *Options) { set(o); o.ContextSubPath = sub })
				var e *Error
				if !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(e.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
			}
		})
	}
}

// What is recorded of such a build makes it again.
func TestC13_ABuildOfAFolderOfTheContextIsRecordedAsOfThatFolder(t *testing.T) {
	t.Parallel()
	p := newProject(t, "", map[string]string{"sub/Dockerfile": "FROM scratch\nCOPY f /\n", "sub/f": "x"})
	p.opt.ContextSubPath = "sub"
	res := mustBuild(t, p)
	if rec := res.Record; rec.Context != filepath.Join(p.dir, "sub") || len(rec.Inputs.Settings["context-sub-path"]) != 0 {
		t.Errorf("recorded %s with %v", rec.Context, rec.Inputs.Settings)
	}
}
