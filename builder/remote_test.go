package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// web is a server of files that can change. It knows ETags, and counts what it sent whole.
type web struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	date  string // Last-Modified, "" none
	asked int
	sent  int
}

func newWeb(t *testing.T, files map[string]string) *web {
	t.Helper()
	w := &web{files: files}
	w.Server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

func (w *web) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	body, ok := w.files[r.URL.Path]
	tag := `"` + digest.FromString(body).Encoded() + `"`
	switch {
	case !ok:
		rw.WriteHeader(http.StatusNotFound)
		return
	case strings.HasPrefix(body, "-> "):
		http.Redirect(rw, r, strings.TrimPrefix(body, "-> "), http.StatusFound)
		return
	case r.Header.Get("If-None-Match") == tag:
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	w.sent++
	rw.Header().Set("ETag", tag)
	if w.date != "" {
		rw.Header().Set("Last-Modified", w.date)
	}
	_, _ = io.WriteString(rw, body)
}

func (w *web) set(path, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[path] = body
}

// counts gives and forgets how often the server was asked, and sent a file.
func (w *web) counts() (asked, sent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, sent = w.asked, w.sent
	w.asked, w.sent = 0, 0
	return asked, sent
}

// tarball is a tar of "name" -> "content", and of "name" -> "-> target" links.
func tarball(t *testing.T, files ...string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Uid: 1234, Gid: 1234, Size: int64(len(files[i+1]))}
		if target, ok := strings.CutPrefix(files[i+1], "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, files[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// wantCategory checks how a build failed.
func wantCategory(t *testing.T, err error, category Category, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Category != category || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (%+v), want category %s and %q", err, e, category, text)
	}
}

func TestB56_AddURL(t *testing.T) {
	w := newWeb(t, map[string]string{"/d/f.txt": "hello", "/": "root", "/x.tgz": zipped(t, tarball(t, "in", "1")), "/plain": "no archive"})
	for _, tc := range []struct{ name, add, want string }{
		{"to a path", "ADD URL/d/f.txt /n", "n 0600 0:0 5"},
		{"to a folder by slash", "ADD URL/d/f.txt?v=1 /n/", lines("n 0755 0:0 /", "n/f.txt 0600 0:0 5")},
		{"to an existing folder", "ADD URL/d/f.txt /n/\nADD URL/plain /n", lines("n 0755 0:0 /", "n/f.txt 0600 0:0 5", "n/plain 0600 0:0 10")},
		{"without a name", "ADD URL/ /n/", lines("n 0755 0:0 /", "n/__unnamed__ 0600 0:0 4")},
		{"several", "ADD URL/d/f.txt URL/plain /n/", lines("n 0755 0:0 /", "n/f.txt 0600 0:0 5", "n/plain 0600 0:0 10")},
		{"owner and mode", "ADD --chown=7:8 --chmod=4711 URL/d/f.txt /p/n", lines("p 0711 7:8 /", "p/n 4711 7:8 5")},
		{"linked", "ADD --link URL/d/f.txt /p/n", lines("p 0755 0:0 /", "p/n 0600 0:0 5")},
		{"archives stay packed", "ADD URL/x.tgz /n", "n 0600 0:0 " + sizeText(w.files["/x.tgz"])},
		{"--unpack", "ADD --unpack URL/x.tgz /n/", lines("n 0755 0:0 /", "n/in 0644 1234:1234 1")},
		{"--unpack=false", "ADD --unpack=false URL/x.tgz /n", "n 0600 0:0 " + sizeText(w.files["/x.tgz"])},
		{"--unpack of what is no archive", "ADD --unpack URL/plain /n", "n 0600 0:0 10"},
		{"with a variable", "ARG V=f\nADD URL/d/$V.txt /n", "n 0600 0:0 5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(tc.add, "URL", w.URL), nil)
			if got, err := p.tree(); err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
		})
	}
}

func sizeText(s string) string { return strconv.Itoa(len(s)) }

func TestB56_TimeOfTheFile(t *testing.T) {
	for date, want := range map[string]int64{"": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 1445412480, "nonsense": 0} {
		w := newWeb(t, map[string]string{"/f": "x"})
		w.date = date
		p := newProject(t, "FROM scratch\nADD "+w.URL+"/f /p/f", nil)
		var buf bytes.Buffer
		p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(&buf); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.ModTime.Unix() != want {
				t.Errorf("Last-Modified %q: %s is of %d, want %d", date, h.Name, h.ModTime.Unix(), want)
			}
		}
	}
}

func TestB56_AURLIsAskedAboutEachTimeAndFetchedOnce(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "one"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/f /f\nCOPY Dockerfile /", nil)
	step := "ADD " + w.URL + "/f /f"
	first, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if asked, sent := w.counts(); asked != 1 || sent != 1 {
		t.Errorf("first: asked %d times, sent %d", asked, sent)
	}
	again, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if asked, sent := w.counts(); asked != 1 || sent != 0 || ran(again) != "" || again.Config.Digest == "" {
		t.Errorf("again: asked %d times, sent %d, ran %q", asked, sent, ran(again))
	}
	w.date = "Wed, 21 Oct 2015 07:28:00 GMT"
	w.set("/f", "two")
	changed, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if _, sent := w.counts(); sent != 1 || !strings.HasPrefix(ran(changed), step) || changed.Config.Digest == first.Config.Digest {
		t.Errorf("changed: sent %d, ran %q", sent, ran(changed))
	}
	w.set("/f", "one")
	back, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if ran(back) != "" {
		t.Errorf("the content is that of the first build, its time is another: ran %q", ran(back))
	}
	w.mu.Lock()
	delete(w.files, "/f")
	w.mu.Unlock()
	_, err = p.build()
	wantCategory(t, err, CategoryRemote, "404")
}

func TestB56_PrunedBytesAreFetchedAgain(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "one"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/f /f", nil)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	w.counts()
	if err := os.Remove(filepath.Join(p.root, "oci/blobs/sha256", digest.FromString("one").Encoded())); err != nil {
		t.Fatal(err)
	}
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if _, sent := w.counts(); sent != 1 || ran(res) != "" {
		t.Errorf("sent %d, ran %q", sent, ran(res))
	}
}

func TestB56_Checksum(t *testing.T) {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		w := newWeb(t, map[string]string{"/f": "one"})
		sum := algorithm.FromString("one").String()
		p := newProject(t, "FROM scratch\nADD --checksum="+sum+" "+w.URL+"/f /f", nil)
		if got, err := p.tree(); err != nil || got != "f 0600 0:0 3" {
			t.Fatalf("%s: %s, %v", algorithm, got, err)
		}
		w.counts()
		res, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		if asked, _ := w.counts(); asked != 0 || ran(res) != "" {
			t.Errorf("%s: cached, asked %d times, ran %q", algorithm, asked, ran(res))
		}
		p.write("Dockerfile", "FROM scratch\nADD --checksum="+sum+" "+w.URL+"/f /other")
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		if asked, _ := w.counts(); asked != 0 {
			t.Errorf("%s: for another step, asked %d times", algorithm, asked)
		}
		w.Close()
		if _, err := p.build(); err != nil {
			t.Errorf("%s: without network: %v", algorithm, err)
		}
	}
}

func TestB56_AFileKnownWithoutAChecksumServesOne(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "one"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/f /f", nil)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	w.counts()
	p.write("Dockerfile", "FROM scratch\nADD --checksum="+digest.FromString("one").String()+" "+w.URL+"/f /f")
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if asked, _ := w.counts(); asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	p.write("Dockerfile", "FROM scratch\nADD --checksum="+digest.FromString("two").String()+" "+w.URL+"/f /f")
	_, err := p.build() // what is known has another
	wantCategory(t, err, CategoryRemote, digest.FromString("one").String())
}

func TestB56_WrongChecksum(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "two"})
	p := newProject(t, "FROM scratch\nADD --checksum="+digest.FromString("one").String()+" "+w.URL+"/f /f", nil)
	for range 2 { // nothing of the first may serve the second
		_, err := p.build()
		wantCategory(t, err, CategoryRemote, digest.FromString("two").String())
		var e *Error
		if errors.As(err, &e) && (e.Pos.Start != 2 || !strings.Contains(e.Hint, "--checksum="+digest.FromString("two").String())) {
			t.Errorf("line %d, hint %q", e.Pos.Start, e.Hint)
		}
	}
	if left, err := filepath.Glob(filepath.Join(p.root, "oci/ingest/*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestB56_Failures(t *testing.T) {
	evil := tarball(t, "../out", "x")
	w := newWeb(t, map[string]string{
		"/a": "1", "/b": "2", "/private": "-> http://10.0.0.1/x", "/meta": "-> http://169.254.169.254/", "/evil.tar": evil, "/.wh.x": "1", "/gone": "-> /nowhere",
	})
	for _, tc := range []struct {
		name, add string
		category  Category
		text      string
	}{
		{"missing", "ADD URL/missing /", CategoryRemote, "404 Not Found"},
		{"missing after a redirect", "ADD URL/gone /", CategoryRemote, "404 Not Found"},
		{"a private address", "ADD URL/private /", CategoryUnsafe, "private address 10.0.0.1"},
		{"metadata by a redirect", "ADD URL/meta /", CategoryUnsafe, "link-local"},
		{"metadata", "ADD http://169.254.169.254/latest /", CategoryUnsafe, "link-local"},
		{"credentials", "ADD http://u:p@127.0.0.1/ /", CategoryUnsafe, "credentials"},
		{"several for one path", "ADD URL/a URL/b /n", CategoryUsage, "not a folder"},
		{"an archive that escapes", "ADD --unpack URL/evil.tar /x/", CategoryUnsafe, "../out"},
		{"a name that layers reserve", "ADD URL/.wh.x /", CategoryUsage, ".wh."},
		{"no host", "ADD http:///x /n", CategoryUsage, "no host"},
		{"no repository", "ADD URL/x.git /n", CategoryRemote, "fetch "},
		{"a repository with credentials", "ADD https://u:p@127.0.0.1/x.git /n", CategoryUnsafe, "credentials"},
		{"a repository's ref as an option", "ADD URL/x.git#--upload-pack=id /n", CategoryUnsafe, "begins with -"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM scratch\n"+strings.ReplaceAll(tc.add, "URL", w.URL), nil)
			_, err := p.build()
			wantCategory(t, err, tc.category, tc.text)
			var e *Error
			if errors.As(err, &e) && (e.Pos.Start != 2 || e.File != "Dockerfile") {
				t.Errorf("at %s:%d", e.File, e.Pos.Start)
			}
		})
	}
}

func TestHostileR18_QueriesAreNotKept(t *testing.T) {
	w := newWeb(t, map[string]string{"/f": "one"})
	p := newProject(t, "FROM scratch\nARG T\nADD "+w.URL+"/f?token=$T /f", nil)
	p.opt.BuildArgs = map[string]string{"T": "s3cr3tvalue"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(p.root, "cache/v1/records"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "kind http") && strings.Contains(string(data), "s3cr3tvalue") {
			t.Errorf("%s has the query:\n%s", path, data)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// contextBuild builds without a context folder.
func (p *project) contextBuild(set func(*Options)) (string, error) {
	p.t.Helper()
	var buf bytes.Buffer
	b := p.builder()
	defer b.Close()
	opt := p.opt
	opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
	set(&opt)
	if _, err := b.Build(p.t.Context(), opt); err != nil {
		return "", err
	}
	return dump(p.t, &buf), nil
}

func (p *project) wantNoWork() {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.root, "snapshots/work/*"))
	if err != nil || len(left) != 0 {
		p.t.Errorf("left behind: %v, %v", left, err)
	}
	if caches, _ := filepath.Glob(filepath.Join(p.root, "statcache/*")); len(caches) != 0 {
		p.t.Errorf("digests of files that are gone are remembered: %v", caches)
	}
}

func TestC8_ContextFromATar(t *testing.T) {
	const dockerfile = "FROM scratch\nCOPY . /\n"
	plain := tarball(t, "Dockerfile", dockerfile, "d/f", "12", ".dockerignore", "d\n", "other/D", "FROM scratch\nCOPY d/f /f\n", "link", "-> d/f")
	all := lines(".dockerignore 0644 0:0 2", "Dockerfile 0644 0:0 22", "d 0755 0:0 /", "d/f 0644 0:0 2", "link 0777 0:0 -> d/f", "other 0755 0:0 /", "other/D 0644 0:0 25")
	for _, tc := range []struct {
		name, data, file string
		want             string
	}{
		{"plain, ignore files do not count", plain, "", all},
		{"gzip", zipped(t, plain), "", all},
		{"-f is inside", plain, "other/D", "f 0644 0:0 2"},
		{"-f stays inside", plain, "/../other/D", "f 0644 0:0 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "FROM nowhere", nil)
			got, err := p.contextBuild(func(o *Options) { o.ContextTar, o.Dockerfile = strings.NewReader(tc.data), tc.file })
			if err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			p.wantNoWork()
		})
	}
	t.Run("--ignorefile counts", func(t *testing.T) {
		p := newProject(t, "", map[string]string{"ign": "d\nother\n"})
		got, err := p.contextBuild(func(o *Options) {
			o.ContextTar, o.IgnoreFile = strings.NewReader(plain), filepath.Join(p.dir, "ign")
		})
		if err != nil || strings.Contains(got, "other") || !strings.Contains(got, "link") {
			t.Errorf("%v\n%s", err, got)
		}
	})
	t.Run("a Dockerfile from elsewhere", func(t *testing.T) {
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) {
			o.ContextTar, o.DockerfileText = strings.NewReader(plain), []byte("FROM scratch\nCOPY d/f /g")
		})
		if err != nil || got != "g 0644 0:0 2" {
			t.Errorf("%v\n%s", err, got)
		}
	})
	t.Run("the same files are cached", func(t *testing.T) {
		p := newProject(t, "", nil)
		for range 2 {
			b := p.builder()
			opt := p.opt
			opt.ContextTar = strings.NewReader(plain)
			res, err := b.Build(t.Context(), opt)
			if err != nil {
				t.Fatal(err)
			}
			if p.events = append(p.events, Event{}); len(p.events) == 2 && ran(res) != "" {
				t.Errorf("ran %q", ran(res))
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestC11_HostileAndBrokenTars(t *testing.T) {
	good := tarball(t, "Dockerfile", "FROM scratch\nCOPY . /\n", "f", strings.Repeat("x", 4096))
	for _, tc := range []struct {
		name, data string
		category   Category
		text       string
	}{
		{"a name that leaves", tarball(t, "Dockerfile", "FROM scratch", "../../evil", "x"), CategoryUnsafe, "../../evil"},
		{"cut short", good[:2048], CategoryUsage, "cut short"},
		{"something behind the end", good + "more", CategoryUsage, "after the end"},
		{"not an archive", strings.Repeat("x", 1024), CategoryUsage, "archive"},
		{"no Dockerfile", tarball(t, "f", "x"), CategoryUsage, "no Dockerfile in the archive"},
		{"a Dockerfile that is a link out", tarball(t, "Dockerfile", "-> /etc/passwd"), CategoryUsage, "no Dockerfile in the archive"},
		{"a Dockerfile that is a folder", tarball(t, "Dockerfile/x", "1"), CategoryUsage, "not a regular file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, "", nil)
			_, err := p.contextBuild(func(o *Options) { o.ContextTar = strings.NewReader(tc.data) })
			wantCategory(t, err, tc.category, tc.text)
			p.wantNoWork()
		})
	}
	t.Run("a link out of the archive reads nothing of the machine", func(t *testing.T) {
		p := newProject(t, "", nil)
		data := tarball(t, "Dockerfile", "FROM scratch\nCOPY out/passwd /", "out", "-> /etc")
		_, err := p.contextBuild(func(o *Options) { o.ContextTar = strings.NewReader(data) })
		wantCategory(t, err, CategoryUsage, "passwd")
	})
	t.Run("an input that fails", func(t *testing.T) {
		p := newProject(t, "", nil)
		broken := errors.New("broken pipe of the writer")
		_, err := p.contextBuild(func(o *Options) { o.ContextTar = io.MultiReader(strings.NewReader(good[:1024]), failing{broken}) })
		if !errors.Is(err, broken) {
			t.Error(err)
		}
		p.wantNoWork()
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestC10_ContextFromAURL(t *testing.T) {
	w := newWeb(t, map[string]string{
		"/ctx.tgz": zipped(t, tarball(t, "Dockerfile", "FROM scratch\nCOPY f /f\n", "f", "12", "sub/D", "FROM scratch\nCOPY f /g\n")),
		"/D":       "FROM scratch\nCOPY context /\n",
		"/evil":    tarball(t, "../x", "1"),
	})
	for _, tc := range []struct{ path, file, want string }{
		{"/ctx.tgz", "", "f 0644 0:0 2"},
		{"/ctx.tgz", "sub/D", "g 0644 0:0 2"},
		{"/D", "", "context 0600 0:0 28"},
		{"/D", "any/name", "context 0600 0:0 28"},
	} {
		p := newProject(t, "", nil)
		for range 2 {
			got, err := p.contextBuild(func(o *Options) { o.ContextURL, o.Dockerfile = w.URL+tc.path, tc.file })
			if err != nil || got != tc.want {
				t.Errorf("%s: %v\n%s\nwant\n%s", tc.path, err, got, tc.want)
			}
		}
		if asked, sent := w.counts(); asked != 2 || sent != 1 {
			t.Errorf("%s: asked %d times, sent %d", tc.path, asked, sent)
		}
		p.wantNoWork()
	}
	for _, tc := range []struct {
		path, file string
		category   Category
		text       string
	}{
		{"/missing", "", CategoryRemote, "404 Not Found"},
		{"/evil", "", CategoryUnsafe, "../x"},
		{"/ctx.tgz", "none", CategoryUsage, "no Dockerfile in"},
	} {
		p := newProject(t, "", nil)
		_, err := p.contextBuild(func(o *Options) { o.ContextURL, o.Dockerfile = w.URL+tc.path, tc.file })
		wantCategory(t, err, tc.category, tc.text)
		p.wantNoWork()
	}
}

func TestC2_TheDockerfileFromElsewhere(t *testing.T) {
	w := newWeb(t, map[string]string{
		"/d/D": "FROM scratch\nCOPY f /\n", "/text": "not a Dockerfile\n", "/bare": "FROM scratch\nCOPY context /\n", "/bad": "FROM scratch\nRUNN x\n",
		"/large": strings.Repeat("#", maxDockerfile+1), "/ctx.tar": tarball(t, "f", "22"), "/private": "-> http://10.0.0.1/x",
	})
	p := newProject(t, "no Dockerfile", map[string]string{"f": "1", "sub/.dockerignore": "f\n"})
	p.opt.DockerfileURL = w.URL + "/d/D?token=hidden"
	for range 2 {
		if got, err := p.tree(); err != nil || got != "f 0644 0:0 1" {
			t.Errorf("%v\n%s", err, got)
		}
	}
	if asked, sent := w.counts(); asked != 2 || sent != 1 {
		t.Errorf("asked %d times, sent %d", asked, sent)
	}
	for _, tc := range []struct {
		name, url string
		text      []byte
		context   string
		want      string
	}{
		{"an archive as the context", "/d/D", nil, "/ctx.tar", "f 0644 0:0 2"},
		{"a file as the context", "/bare", nil, "/text", "context 0600 0:0 17"},
		{"standard input, and a file as the context", "", []byte("FROM scratch\nCOPY context /\n"), "/text", "context 0600 0:0 17"},
	} {
		p := newProject(t, "", nil)
		got, err := p.contextBuild(func(o *Options) {
			o.ContextURL, o.DockerfileText = w.URL+tc.context, tc.text
			if tc.url != "" {
				o.DockerfileURL = w.URL + tc.url
			}
		})
		if err != nil || got != tc.want {
			t.Errorf("%s: %v\n%s", tc.name, err, got)
		}
	}
	for path, want := range map[string]Category{"/none": CategoryRemote, "/large": CategoryUnsafe, "/private": CategoryUnsafe, "/text": CategoryUsage, "/bad": CategoryUsage} {
		p := newProject(t, "", nil)
		p.opt.DockerfileURL = w.URL + path + "?token=hidden"
		_, err := p.build()
		var e *Error
		if wantCategory(t, err, want, ""); errors.As(err, &e) && want == CategoryUsage && e.File != w.URL+path || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: in %q: %v", path, e.File, err)
		}
	}
}

func TestPlanOfAnArchive(t *testing.T) {
	p := newProject(t, "", nil)
	b := p.builder()
	opt := p.opt
	opt.ContextTar = strings.NewReader(tarball(t, "Dockerfile", "FROM scratch\nCOPY f /f\n"))
	plan, err := b.Plan(t.Context(), opt)
	if err = errors.Join(err, b.Close()); err != nil || len(plan.Stages) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	p.wantNoWork()
}

func TestTimesThatNoFileSystemHas(t *testing.T) {
	t.Parallel()
	for at, want := range map[time.Time]int64{{}: 0, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): 0, time.Unix(5, 0): 5} {
		if got := (httpRecord{Modified: at}).fileTime().Unix(); got != want {
			t.Errorf("%v is %d, want %d", at, got, want)
		}
	}
}
