package builder

import (
	"archive/tar"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// With --cutoff, what follows a step that ran again and left the same files stays cached: also where its text is another now, in
// later builds without the option, and on another machine that takes the cache.
//
// rows: I1
func TestI1_CutOffKeepsWhatFollows(t *testing.T) {
	t.Parallel()
	const after = "RUN cat /proc/sys/kernel/random/uuid > /id\nCOPY src /src\n"
	p := newShellProject(t, "FROM base\nRUN echo 1 > /a; mkdir /d; ln -s a /l; rm /bin/true\n"+after, map[string]string{"src": "1"})
	one, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "cache")
	p.opt.Cutoff, p.opt.CacheTo = true, []CacheShare{{Type: "local", Dir: dir}}
	p.write("Dockerfile", shellBase+"FROM base\nRUN ln -s a /l; mkdir /d; rm /bin/true; echo 1 > /a\n"+after)
	two, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if got := ran(two); got != "RUN ln -s a /l; mkdir /d; rm /bin/true; echo 1 > /a" {
		t.Errorf("ran\n%s", got)
	}
	if diffIDs(p, one) != diffIDs(p, two) {
		t.Errorf("other layers: %s, then %s", diffIDs(p, one), diffIDs(p, two))
	}
	p.opt.Cutoff, p.opt.CacheTo = false, nil
	if again, err := p.build(); err != nil || ran(again) != "" || again.ID() != two.ID() {
		t.Errorf("again ran %q, %v", ran(again), err)
	}
	other := newShellProject(t, strings.TrimPrefix(read(t, filepath.Join(p.dir, "Dockerfile")), shellBase), map[string]string{"src": "1"})
	other.opt.CacheFrom = []CacheShare{{Type: "local", Dir: dir}}
	if res, err := other.build(); err != nil || strings.Contains(ran(res), "uuid") || diffIDs(other, res) != diffIDs(p, two) {
		t.Errorf("elsewhere ran %q, %v", ran(res), err)
	}
}

// Without the option all runs, and with it everything that a later step can see makes a difference.
//
// rows: I1
func TestI1_CutOffSeesEveryDifference(t *testing.T) {
	t.Parallel()
	const after = "RUN cat /proc/sys/kernel/random/uuid > /id\n"
	p := newShellProject(t, "", nil)
	for _, tc := range []struct{ name, command string }{
		{"nothing", "echo 1 > /a; chmod 644 /a"},
		{"content", "echo 2 > /a; chmod 644 /a"},
		{"size", "echo 11 > /a; chmod 644 /a"},
		{"mode", "echo 1 > /a; chmod 4644 /a"},
		{"owner", "echo 1 > /a; chmod 644 /a; chown 1 /a"},
		{"group", "echo 1 > /a; chmod 644 /a; chown 0:1 /a"},
		{"name", "echo 1 > /b; chmod 644 /b"},
		{"another file", "echo 1 > /a; chmod 644 /a; : > /b"},
		{"a deletion", "echo 1 > /a; chmod 644 /a; rm /bin/true"},
		{"a hard link", "echo 1 > /a; chmod 644 /a; ln /a /b"},
		{"a time that is set", "echo 1 > /a; chmod 644 /a; touch -d @1000000000 /a"},
	} {
		// The one before it is the nearest, so it is compared with that.
		p.opt.Cutoff, p.opt.NoCacheFilter = false, []string{"two"}
		p.write("Dockerfile", shellBase+"FROM base AS two\nRUN : ; echo 1 > /a; chmod 644 /a\n"+after)
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		p.opt.Cutoff, p.opt.NoCacheFilter = true, nil
		p.write("Dockerfile", shellBase+"FROM base AS two\nRUN : "+tc.name+"; "+tc.command+"\n"+after)
		if res, err := p.build(); err != nil || strings.Contains(ran(res), "uuid") == (tc.name == "nothing") {
			t.Errorf("%s differs: %v, ran %q", tc.name, err, ran(res))
		}
	}
	p.opt.Cutoff = false
	p.write("Dockerfile", shellBase+"FROM base AS two\nRUN : again; echo 1 > /a; chmod 644 /a\n"+after)
	if res, err := p.build(); err != nil || !strings.Contains(ran(res), "uuid") {
		t.Errorf("without the option: %v: what follows was cached", err)
	}
}

// The times of an execution are those of its clock, to the second; other times, and attributes, count.
//
// rows: I1
func TestI1_CutOffTimes(t *testing.T) {
	t.Parallel()
	at := func(seconds int64, attribute string) string {
		h := tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.a": attribute}}
		h.ModTime = time.Unix(seconds, 0)
		d, err := digestEntries(strings.NewReader(string(archiveOf(t, h, "1"))), 100, 200)
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	if at(100, "x") != at(200, "x") {
		t.Error("times within the execution differ")
	}
	for _, other := range []struct {
		seconds   int64
		attribute string
	}{{99, "x"}, {201, "x"}, {150, "y"}} {
		if at(150, "x") == at(other.seconds, other.attribute) {
			t.Errorf("%v makes no difference", other)
		}
	}
}

// diffIDs are the layers of a result, as one text.
func diffIDs(p *project, res *Result) string {
	p.t.Helper()
	b := p.builder()
	defer func() { must(p.t, b.Close()) }()
	_, img, err := b.read(res.Manifest)
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprint(img.RootFS.DiffIDs)
}
