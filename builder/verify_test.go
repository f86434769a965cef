package builder

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// verified runs a verification and gives its problems, a line each.
func verified(t *testing.T, b *Builder, repair bool) (text string, bad int) {
	t.Helper()
	v, err := b.VerifyCache(t.Context(), repair)
	if err != nil {
		t.Fatal(err)
	}
	if v.Blobs == 0 || v.Records == 0 || v.Layers == 0 && repair {
		t.Errorf("nothing was looked at: %+v", v)
	}
	var out []string
	for _, p := range v.Problems {
		line := p.Kind + ": " + p.What
		if p.Repaired {
			line += " (repaired)"
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"), v.Bad()
}

func TestI19_VerifyFindsWhatIsWrongAndRepairLetsTheNextBuildMakeItAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, p *project, res *Result)
		want   string // problems, parts of them in order
		bad    int
		left   string // after repair
	}{
		{"nothing", func(*testing.T, *project, *Result) {}, "", 0, ""},
		{"a flipped bit in a blob", func(t *testing.T, p *project, _ *Result) {
			flip(t, largest(t, filepath.Join(p.root, "oci/blobs/sha256")))
		}, "blob: its content is not what its name says\nimage: 1 of its blobs", 2, "image: 1 of its blobs are damaged or gone"},
		{"a torn record", func(t *testing.T, p *project, _ *Result) {
			must(t, os.Truncate(filesBelow(t, filepath.Join(p.root, "cache/v1/records"))[0], 20))
		}, "record: it is torn or damaged", 0, ""},
		{"a torn marker", func(t *testing.T, p *project, _ *Result) {
			must(t, os.Truncate(matching(t, p.root+"/snapshots/layers/*/meta"), 3))
		}, "layer: its marker is torn or damaged", 1, ""},
		{"files that somebody deleted", func(t *testing.T, p *project, _ *Result) {
			must(t, os.RemoveAll(matching(t, p.root+"/snapshots/layers/*/fs")))
		}, "layer: its files are gone", 1, ""},
		{"a layer and its blob that somebody deleted", func(t *testing.T, p *project, _ *Result) {
			must(t, os.RemoveAll(matching(t, p.root+"/snapshots/layers/*")))
			must(t, os.Remove(largest(t, filepath.Join(p.root, "oci/blobs/sha256"))))
		}, "record: the \nrecord: the \nimage: 1 of its blobs", 1, "image: 1 of its blobs are damaged or gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": noise(64 << 10)})
			p.opt.Tags = []string{"x:1"}
			res, err := p.build()
			if err != nil {
				t.Fatal(err)
			}
			tc.damage(t, p, res)
			got, bad := verified(t, p.builder(), false)
			rest := got
			for part := range strings.SplitSeq(tc.want, "\n") {
				i := strings.Index(rest, part)
				if i < 0 || tc.want == "" && got != "" {
					t.Fatalf("got:\n%s\nwant:\n%s", got, tc.want)
				}
				rest = rest[i+len(part):]
			}
			if bad != tc.bad {
				t.Errorf("%d bad, want %d:\n%s", bad, tc.bad, got)
			}
			if again, _ := verified(t, p.builder(), false); again != got {
				t.Errorf("looking changed something:\n%s", again)
			}
			if fixed, _ := p.builder().VerifyCache(t.Context(), true); len(fixed.Problems) < strings.Count(got, "\n") {
				t.Errorf("repair: %+v", fixed.Problems)
			}
			left, err := p.builder().VerifyCache(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, q := range left.Problems {
				text += q.Kind + ": " + q.What
			}
			if text != tc.left {
				t.Errorf("left after repair:\n%s\nwant:\n%s", text, tc.left)
			}
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			if got, _ := verified(t, p.builder(), false); got != "" {
				t.Errorf("after the next build:\n%s", got)
			}
		})
	}
}

func TestI19_ALayerThatNoStepNeedsIsHarmlessAndGoes(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	for range 2 { // the second leaves the first's layer without a record
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		p.opt.NoCache = true
	}
	if got, _ := verified(t, p.builder(), false); got != "" {
		t.Errorf("what was made a moment ago is called an orphan: %s", got)
	}
	if got, bad := verified(t, p.later(time.Hour), true); bad != 0 || got != "layer: no step needs it (repaired)" {
		t.Errorf("%d %s", bad, got)
	}
	p.opt.NoCache = false
	if res, err := p.build(); err != nil || ran(res) != "" {
		t.Errorf("the next build runs %q: %v", ran(res), err)
	}
}

// noise does not compress.
func noise(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return string(data)
}

func flip(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(name, data, 0o644))
}

// largest is the largest file of a folder: a layer, among documents.
func largest(t *testing.T, dir string) string {
	t.Helper()
	var name string
	var size int64
	for _, f := range filesBelow(t, dir) {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if d := digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(f)); st.Size() > size && d.Validate() == nil {
			name, size = f, st.Size()
		}
	}
	return name
}

func matching(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	return names[0]
}
