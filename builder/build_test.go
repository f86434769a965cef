package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/sandbox"
)

func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args) {
		sandbox.ChildMain()
	}
	os.Exit(m.Run())
}

// project is a Dockerfile, a context and a state directory.
type project struct {
	t    *testing.T
	dir  string // context
	root string // state
	opt  Options
	away bool // the context is not dir

	dockerfile string // as it was at first

	during func(Event) // called with each event, may be nil

	mu     sync.Mutex
	events []Event
}

// newProject makes one; files are "path" -> "content", "path/" for folders, "path" -> "-> target" for links.
func newProject(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	needRoot(t)
	p := &project{t: t, dir: t.TempDir(), root: filepath.Join(t.TempDir(), "state"), dockerfile: dockerfile}
	p.write("Dockerfile", dockerfile)
	for name, content := range files {
		p.write(name, content)
	}
	p.opt.Run.Network = "none"
	return p
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlay mounts and owners")
	}
}

func (p *project) write(name, content string) {
	p.t.Helper()
	full := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		p.t.Fatal(err)
	}
	var err error
	switch target, isLink := strings.CutPrefix(content, "-> "); {
	case strings.HasSuffix(name, "/"):
		err = os.MkdirAll(full, 0o755)
	case isLink:
		err = os.Symlink(target, full)
	default:
		if err = os.WriteFile(full, []byte(content), 0o644); err == nil {
			err = os.Chmod(full, 0o644)
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) builder() *Builder {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := Open(Config{Root: p.root, Executable: exe, CDIDirs: []string{filepath.Join(p.root, "cdi")}})
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// build runs one build and keeps its events.
func (p *project) build() (*Result, error) {
	p.t.Helper()
	return p.buildWithin(p.t.Context())
}

func (p *project) buildWithin(ctx context.Context) (*Result, error) {
	p.t.Helper()
	b := p.builder()
	defer func() {
		if err := b.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	opt := p.opt
	if !p.away {
		opt.Context = p.dir
	}
	p.events = nil
	opt.Progress = func(e Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.events = append(p.events, e)
		if p.during != nil {
			p.during(e)
		}
	}
	return b.Build(ctx, opt)
}

// tree builds and gives the files of the result, a line each: mode owner size-or-target path.
func (p *project) tree() (string, error) {
	p.t.Helper()
	var buf bytes.Buffer
	p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
	if _, err := p.build(); err != nil {
		return "", err
	}
	return dump(p.t, &buf), nil
}

func dump(t *testing.T, r io.Reader) string {
	t.Helper()
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprint(h.Size)
		switch h.Typeflag {
		case tar.TypeDir:
			what = "/"
		case tar.TypeSymlink:
			what = "-> " + h.Linkname
		case tar.TypeLink:
			what = "= " + h.Linkname
		}
		lines = append(lines, fmt.Sprintf("%s %04o %d:%d %s", strings.TrimSuffix(h.Name, "/"), h.Mode, h.Uid, h.Gid, what))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// ran names the steps of the last build that were not cached.
func ran(res *Result) string {
	var out []string
	for _, s := range res.Steps {
		if !s.Cached {
			out = append(out, s.Text)
		}
	}
	return strings.Join(out, "\n")
}

func lines(s ...string) string { return strings.Join(s, "\n") }

func TestCopyRules(t *testing.T) {
	for _, tc := range []struct {
		name       string
		dockerfile string
		files      map[string]string
		want       string // tree
		err        string // part of the error
	}{
		{
			name: "B44 file to a new path", dockerfile: "FROM scratch\nCOPY a /x/y",
			files: map[string]string{"a": "123"},
			want:  lines("x 0755 0:0 /", "x/y 0644 0:0 3"),
		},
		{
			name: "B44 file into a folder by slash", dockerfile: "FROM scratch\nCOPY d/a /x/",
			files: map[string]string{"d/a": "123"},
			want:  lines("x 0755 0:0 /", "x/a 0644 0:0 3"),
		},
		{
			name: "B44 file into an existing folder", dockerfile: "FROM scratch\nCOPY a /x/\nCOPY b /x",
			files: map[string]string{"a": "1", "b": "22"},
			want:  lines("x 0755 0:0 /", "x/a 0644 0:0 1", "x/b 0644 0:0 2"),
		},
		{
			name: "B44 base name as written, not that of the link's target", dockerfile: "FROM scratch\nCOPY link /x/",
			files: map[string]string{"real": "123", "link": "-> real"},
			want:  lines("x 0755 0:0 /", "x/link 0644 0:0 3"),
		},
		{
			name: "B44 a link in a destination folder is itself replaced", dockerfile: "FROM scratch\nCOPY d /x/\nCOPY e /x/",
			files: map[string]string{"d/l": "-> target", "d/target": "keep", "e/l": "new"},
			want:  lines("x 0755 0:0 /", "x/l 0644 0:0 3", "x/target 0644 0:0 4"),
		},
		{
			name: "B40 a destination that is a link to a folder is followed", dockerfile: "FROM scratch\nCOPY d /\nCOPY f /l/",
			files: map[string]string{"d/real/": "", "d/l": "-> real", "f": "1"},
			want:  lines("l 0777 0:0 -> real", "real 0755 0:0 /", "real/f 0644 0:0 1"),
		},
		{
			name: "B44 folder onto a file is an error", dockerfile: "FROM scratch\nCOPY f /x\nCOPY d /x",
			files: map[string]string{"f": "1", "d/a": "1"},
			err:   "not a folder",
		},
		{
			name: "B44 file onto a folder inside a tree is an error", dockerfile: "FROM scratch\nCOPY d /\nCOPY e /",
			files: map[string]string{"d/a/b": "1", "e/a": "1"},
			err:   "is a folder in the image",
		},
		{
			name: "B43 several sources need a folder", dockerfile: "FROM scratch\nCOPY a b /x",
			files: map[string]string{"a": "1", "b": "2"},
			err:   "end the destination with a slash",
		},
		{
			name: "B45 folders merge, subfolders take the source's mode", dockerfile: "FROM scratch\nCOPY d /x\nCOPY e /x",
			files: map[string]string{"d/s/a": "1", "e/s/b": "2"},
			want:  lines("x 0755 0:0 /", "x/s 0755 0:0 /", "x/s/a 0644 0:0 1", "x/s/b 0644 0:0 1"),
		},
		{
			name: "B46 octal chmod reaches created parents", dockerfile: "FROM scratch\nCOPY --chmod=711 a /p/q/a",
			files: map[string]string{"a": "1"},
			want:  lines("p 0711 0:0 /", "p/q 0711 0:0 /", "p/q/a 0711 0:0 1"),
		},
		{
			name: "B49 symbolic chmod", dockerfile: "FROM scratch\nCOPY --chmod=u=rwX,go= d /d",
			files: map[string]string{"d/s/a": "1"},
			want:  lines("d 0755 0:0 /", "d/s 0700 0:0 /", "d/s/a 0600 0:0 1"),
		},
		{
			name: "B48 a number alone is user and group", dockerfile: "FROM scratch\nCOPY --chown=7 a /p/",
			files: map[string]string{"a": "1"},
			want:  lines("p 0755 7:7 /", "p/a 0644 7:7 1"),
		},
		{
			name: "B48 names come from the image", dockerfile: "FROM scratch\nCOPY etc /etc\nCOPY --chown=web:www a /",
			files: map[string]string{"a": "1", "etc/passwd": "web:x:33:34::/:/bin/sh\n", "etc/group": "www:x:35:\n"},
			want:  lines("a 0644 33:35 1", "etc 0755 0:0 /", "etc/group 0644 0:0 10", "etc/passwd 0644 0:0 23"),
		},
		{
			name: "B48 an unknown name is an error", dockerfile: "FROM scratch\nCOPY --chown=nobody a /", files: map[string]string{"a": "1"},
			err: "no such user",
		},
		{
			name: "B42 a wildcard that matches nothing copies nothing", dockerfile: "FROM scratch\nCOPY *.x a /p/",
			files: map[string]string{"a": "1"},
			want:  lines("p 0755 0:0 /", "p/a 0644 0:0 1"),
		},
		{
			name: "B42 nothing of an empty stage", dockerfile: "FROM scratch AS none\nFROM scratch\nCOPY --from=none *.x / /p/\nCOPY a /p/",
			files: map[string]string{"a": "1"},
			want:  lines("p 0755 0:0 /", "p/a 0644 0:0 1"),
		},
		{
			name: "B41 a missing source names its neighbours", dockerfile: "FROM scratch\nCOPY app.go /", files: map[string]string{"App.go": "1"},
			err: "App.go",
		},
		{
			name: "B51 link layers hold the whole path", dockerfile: "FROM scratch\nCOPY --link a /p/q/",
			files: map[string]string{"a": "1"},
			want:  lines("p 0755 0:0 /", "p/q 0755 0:0 /", "p/q/a 0644 0:0 1"),
		},
		{
			name: "B52 parents are kept from the pivot on", dockerfile: "FROM scratch\nCOPY --parents d/./s/a /p/",
			files: map[string]string{"d/s/a": "1", "d/s/b": "2"},
			want:  lines("p 0755 0:0 /", "p/s 0755 0:0 /", "p/s/a 0644 0:0 1"),
		},
		{
			name: "B53 excludes", dockerfile: "FROM scratch\nCOPY --exclude=*.o --exclude=t d /p/",
			files: map[string]string{"d/a": "1", "d/a.o": "2", "d/t/x": "3"},
			want:  lines("p 0755 0:0 /", "p/a 0644 0:0 1"),
		},
		{
			name: "B60 WORKDIR", dockerfile: "FROM scratch\nCOPY etc /etc\nUSER web\nWORKDIR /srv\nWORKDIR app",
			files: map[string]string{"etc/passwd": "web:x:33:34::/:/bin/sh\n"},
			want:  lines("etc 0755 0:0 /", "etc/passwd 0644 0:0 23", "srv 0755 33:34 /", "srv/app 0755 33:34 /"),
		},
		{
			name: "A17 heredocs are files", dockerfile: "FROM scratch\nARG v=1\nCOPY <<a <<\"b\" /p/\n$v\na\n$v\nb\n",
			want: lines("p 0755 0:0 /", "p/a 0644 0:0 2", "p/b 0644 0:0 3"),
		},
		{
			name: "H10 names that mean deletion are refused", dockerfile: "FROM scratch\nCOPY d /", files: map[string]string{"d/.wh.x": "1"},
			err: "cannot be stored in a layer",
		},
		{
			name: "C3 what is ignored is not copied", dockerfile: "FROM scratch\nCOPY . /", files: map[string]string{".dockerignore": "*\n!keep", "keep": "1", "drop": "1"},
			want: "keep 0644 0:0 1",
		},
		{
			name: "B50 stages keep owners", dockerfile: "FROM scratch AS a\nCOPY --chown=5:6 f /f\nFROM scratch\nCOPY --from=a /f /g",
			files: map[string]string{"f": "1"},
			want:  "g 0644 5:6 1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.dockerfile, tc.files)
			got, err := p.tree()
			switch {
			case tc.err != "":
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("no error, tree:\n%s", got)
				}
				if text := e.Error() + " " + e.Hint; !strings.Contains(text, tc.err) || e.Category != CategoryUsage || e.Pos.Start == 0 {
					t.Errorf("%s at %v: %s; want %q", e.Category, e.Pos, text, tc.err)
				}
			case err != nil:
				t.Fatal(err)
			case got != tc.want:
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// rows: I1 I5 I7 I9
func TestCacheKeys(t *testing.T) {
	const dockerfile = "FROM scratch AS a\nARG V=1\nCOPY src /src\nWORKDIR /w\nFROM scratch\nCOPY --from=a /src/main /main\nLABEL x=1\n"
	for _, tc := range []struct {
		name   string
		change func(p *project)
		want   string
	}{
		{"nothing", func(*project) {}, ""},
		{"a file that the last stage does not read", func(p *project) { p.write("src/other", "new") }, "COPY src /src\nWORKDIR /w"},
		{"a file that both read", func(p *project) { p.write("src/main", "new") }, "COPY --from=a /src/main /main\nCOPY src /src\nWORKDIR /w"},
		{"a time", func(p *project) {
			must(p.t, os.Chtimes(filepath.Join(p.dir, "src/main"), time.Unix(5, 0), time.Unix(5, 0)))
		}, ""},
		{"a mode", func(p *project) { must(p.t, os.Chmod(filepath.Join(p.dir, "src/main"), 0o755)) }, "COPY --from=a /src/main /main\nCOPY src /src\nWORKDIR /w"},
		{"a file outside", func(p *project) { p.write("README", "x") }, ""},
		{"no cache", func(p *project) { p.opt.NoCache = true }, "COPY --from=a /src/main /main\nCOPY src /src\nWORKDIR /w"},
		{"metadata", func(p *project) { p.write("Dockerfile", strings.Replace(dockerfile, "x=1", "x=2", 1)) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, dockerfile, map[string]string{"src/main": "1", "src/other": "2"})
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			tc.change(p)
			res, err := p.build()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(ran(res), "\n")
			sort.Strings(got)
			if strings.Join(got, "\n") != tc.want {
				t.Errorf("ran:\n%s\nwant:\n%s", strings.Join(got, "\n"), tc.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A file that changes after it was hashed: the step is done once more, and the cache never holds other bytes than its key says.
func TestHostileH13_FileChangesDuringCopy(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY nothing.* a /x/\n", map[string]string{"a": "old"})
	var once sync.Once
	p.during = func(e Event) {
		if e.Type == EventCache {
			once.Do(func() { p.write("a", "newer") }) // the key was computed before this
		}
	}
	first, err := p.tree()
	if err != nil {
		t.Fatal(err)
	}
	want := lines("x 0755 0:0 /", "x/a 0644 0:0 5")
	if first != want {
		t.Errorf("got\n%s\nwant\n%s", first, want)
	}
	p.write("a", "old")
	if again, err := p.tree(); err != nil || again != lines("x 0755 0:0 /", "x/a 0644 0:0 3") {
		t.Errorf("the old content gives\n%s, %v", again, err)
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
