package builder

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"gobuild/image"
)

// datedTar is a tar of files with their times.
func datedTar(t *testing.T, text map[string]string, times map[string]int64) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, content := range text {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(times[name], 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "folder/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1900000000, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// created builds, and gives the time of the image and of its last history entry; 0 is the clock's.
func (p *project) created() (int64, error) {
	p.t.Helper()
	p.opt.Outputs = nil
	res, err := p.build()
	if err != nil {
		return 0, err
	}
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(res.Config.Digest, maxDocument)
	if err != nil {
		p.t.Fatal(err)
	}
	img, err := image.ParseConfig(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	last := img.History[len(img.History)-1].Created
	if last == nil || !last.Equal(*img.Created) {
		p.t.Errorf("created %v, and the last entry %v", img.Created, last)
	}
	if time.Since(*img.Created) < time.Hour {
		return 0, nil
	}
	return img.Created.Unix(), nil
}

func TestB11_EpochOfSources(t *testing.T) {
	const modified, newest, committed = 1700000201, 1700000302, 1445412480
	g := newGitServer(t)
	g.commit("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n", "f", "1")
	files := map[string]string{"Dockerfile": "FROM scratch\nCOPY foo /\n", "foo": "bar"}
	archive := datedTar(t, files, map[string]int64{"Dockerfile": newest - 3600, "foo": newest})
	plain := newWeb(t, map[string]string{"/ctx.tar": archive, "/D": "FROM scratch\nCOPY context /\n", "/broken": archive[:1024] + strings.Repeat("x", 2048), "/ctx.tgz": zipped(t, archive)})
	dated := newWeb(t, map[string]string{"/ctx.tar": archive, "/D": "FROM scratch\nCOPY context /\n"})
	dated.date = time.Unix(modified, 0).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	arg := map[string]string{"SOURCE_DATE_EPOCH": "context"}
	stage := func(add string) string {
		return "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD " + add + " /\nFROM scratch\nCOPY f /\n"
	}
	for _, tc := range []struct {
		name string
		opt  Options
		file string
		want int64
	}{
		{"a git context", Options{BuildArgs: arg, ContextURL: g.URL + "/a.git"}, "", committed},
		{"a context by URL, from Last-Modified", Options{BuildArgs: arg, ContextURL: dated.URL + "/ctx.tar"}, "", modified},
		{"a context by URL, from its newest file", Options{BuildArgs: arg, ContextURL: plain.URL + "/ctx.tar"}, "", newest},
		{"packed", Options{BuildArgs: arg, ContextURL: plain.URL + "/ctx.tgz"}, "", newest},
		{"a file as context, from Last-Modified", Options{BuildArgs: arg, ContextURL: dated.URL + "/D"}, "", modified},
		{"a file as context, without", Options{BuildArgs: arg, ContextURL: plain.URL + "/D"}, "", 0},
		{"an archive on standard input", Options{BuildArgs: arg, ContextTar: strings.NewReader(archive)}, "", newest},
		{"a folder has none", Options{BuildArgs: arg}, "FROM scratch\nCOPY f /\n", 0},
		{"by ARG alone", Options{ContextURL: g.URL + "/a.git", DockerfileText: []byte("ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nCOPY f /\n")}, "", committed},
		{"a named context from git", Options{Contexts: map[string]string{"src": g.URL + "/a.git"}}, "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY f /\n", committed},
		{"a named context, from Last-Modified", Options{Contexts: map[string]string{"src": dated.URL + "/ctx.tar"}}, "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY f /\n", modified},
		{"a named context, from its newest file", Options{Contexts: map[string]string{"src": plain.URL + "/ctx.tar"}}, "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY f /\n", newest},
		{"a stage by URL", Options{}, stage(plain.URL + "/ctx.tar"), newest},
		{"a stage by URL, from Last-Modified", Options{}, stage(dated.URL + "/ctx.tar"), modified},
		{"a stage with what is no archive", Options{}, stage(plain.URL + "/D"), 0},
		{"a stage with a broken archive", Options{}, stage(plain.URL + "/broken"), 0},
		{"a stage from git", Options{}, stage(g.URL + "/a.git"), committed},
		{"the argument comes first", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}}, stage(plain.URL + "/none"), 1700000000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProject(t, tc.file, map[string]string{"f": "1"})
			p.opt, p.away = tc.opt, tc.file == "" && tc.opt.DockerfileText == nil || tc.opt.ContextURL != ""
			if strings.HasPrefix(tc.name, "a stage") || strings.HasPrefix(tc.name, "the arg") {
				p.away = false
			}
			got, err := p.created()
			if err != nil || got != tc.want {
				t.Errorf("%d, %v, want %d", got, err, tc.want)
			}
			said := false
			for _, e := range p.events {
				said = said || e.Type == EventNotice && strings.Contains(e.Text, "SOURCE_DATE_EPOCH is not set")
			}
			if said != (tc.want == 0) {
				t.Errorf("a notice: %v", said)
			}
		})
	}
}

func TestB11_EpochOfAStageInARUN(t *testing.T) {
	w := newWeb(t, map[string]string{"/x.tar": datedTar(t, map[string]string{"a": "1"}, map[string]int64{"a": 1700000402})})
	text := "FROM scratch AS src\nADD " + w.URL + "/x.tar /\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN echo -n \"is $SOURCE_DATE_EPOCH\" && mkdir /d\n"
	p := newShellProject(t, text, nil)
	p.write("Dockerfile", "ARG SOURCE_DATE_EPOCH=src\n"+shellBase+text)
	if got, err := p.created(); err != nil || got != 1700000402 || !strings.Contains(p.output(), "is 1700000402") {
		t.Errorf("%d, %v\n%s", got, err, p.output())
	}
}

func TestB11_CommitTimesAreAskedForOnce(t *testing.T) {
	g := newGitServer(t)
	commit := g.commit("f", "1")
	p := newProject(t, fmt.Sprintf("ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD %s/a.git#%s /\nFROM scratch\nCOPY Dockerfile /\n", g.URL, commit), nil)
	if _, err := p.created(); err != nil {
		t.Fatal(err)
	}
	asked := g.asked.Load()
	if got, err := p.created(); err != nil || got != 1445412480 || g.asked.Load() != asked {
		t.Errorf("%d, %v; asked %d times", got, err, g.asked.Load()-asked)
	}
}

// H14: the time of an image that adds nothing to its base is held to the epoch, and the base's history stays.
func TestH14_EpochOfAnImageThatIsItsBase(t *testing.T) {
	p := newProject(t, "FROM scratch\nCOPY Dockerfile /\n", nil)
	p.opt.Tags = []string{"example.com/base:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	p.write("Dockerfile", "FROM example.com/base:1\n")
	epoch := time.Unix(1700000000, 0)
	p.opt.Tags, p.opt.SourceDateEpoch = nil, &epoch
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(res.Config.Digest, maxDocument)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.ParseConfig(raw)
	if err != nil || img.Created == nil || !img.Created.Equal(epoch) || len(img.History) != 1 || !img.History[0].Created.After(epoch) {
		t.Errorf("%v: created %v, history %+v", err, img.Created, img.History)
	}
}
