package builder

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gobuild/internal/registrytest"
)

// lineDockerfile has a step that leaves other bytes each time, and one upon it.
const lineDockerfile = "FROM base\nARG WHO\nRUN cat /proc/sys/kernel/random/uuid > /shared\nCOPY f /f\nRUN cat /shared /f > /both\n"

// lineMember is a machine that reads and writes a cache.
func lineMember(t *testing.T, f string, cache CacheShare) *project {
	t.Helper()
	p := newShellProject(t, strings.Replace(lineDockerfile, "ARG WHO\n", "", 1), map[string]string{"f": f})
	p.opt.CacheFrom, p.opt.CacheTo = []CacheShare{cache}, []CacheShare{cache}
	return p
}

// ranAfter builds and gives what ran.
func (p *project) ranAfter() string {
	p.t.Helper()
	res, err := p.build()
	must(p.t, err)
	return ran(res)
}

const (
	lineAll  = "RUN cat /proc/sys/kernel/random/uuid > /shared\nCOPY f /f\nRUN cat /shared /f > /both"
	lineLast = "RUN cat /shared /f > /both"
)

// TestI10I19_MachinesThatRunOneStepAtOnceAgreeOnOneResult: both run everything; the layer of the one that exports first is that of the
// cache. The other follows it with its next build, runs once more what only it has made upon its own, and from then on each has what
// the other does.
func TestI10I19_MachinesThatRunOneStepAtOnceAgreeOnOneResult(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"registry", "local"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			share := CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"}
			if kind == "local" {
				share = CacheShare{Type: "local", Dir: filepath.Join(t.TempDir(), "cache")}
			}
			a, b := lineMember(t, "a", share), lineMember(t, "b", share)
			// B begins before A has exported, and ends after it.
			var once atomic.Bool
			b.during = func(e Event) {
				if e.Type == EventStepDone && once.CompareAndSwap(false, true) {
					if got := a.ranAfter(); !strings.HasSuffix(got, lineAll) {
						t.Errorf("A runs %q at first", got)
					}
				}
			}
			if got := b.ranAfter(); !strings.HasSuffix(got, lineAll) {
				t.Errorf("B runs %q at first", got)
			}
			b.during = nil
			wantLine := func(who string, p *project, want string) {
				t.Helper()
				if got := p.ranAfter(); got != want {
					t.Errorf("%s runs %q, want %q", who, got, want)
				}
			}
			wantLine("a third machine", lineMember(t, "a", share), "")
			wantLine("A", a, "")
			wantLine("B, which follows A,", b, "COPY f /f\n"+lineLast)
			wantLine("B again", b, "")
			wantLine("a machine with what B makes", lineMember(t, "b", share), "")
			b.write("f", "c")
			wantLine("B after an edit", b, "COPY f /f\n"+lineLast)
			a.write("f", "c")
			wantLine("A after the same edit", a, "")
			if x, y := a.treeNow(), b.treeNow(); x != y {
				t.Errorf("A has\n%s\nB has\n%s", x, y)
			}
		})
	}
}

// treeNow is the image's tree with what its files hold.
func (p *project) treeNow() string {
	p.t.Helper()
	text, err := p.tree()
	must(p.t, err)
	return text
}

// TestI10_WhoAsksForAStepToRunReplacesIt: --no-cache is how a cache is refreshed; who only reads a cache keeps what is its own.
func TestI10_WhoAsksForAStepToRunReplacesIt(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	share := CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"}
	old, reader, fresh := lineMember(t, "a", share), lineMember(t, "a", share), lineMember(t, "a", share)
	for _, p := range []*project{old, reader} {
		_ = p.ranAfter()
	}
	reader.opt.CacheTo = nil
	fresh.opt.NoCache = true
	if got := fresh.ranAfter(); !strings.HasSuffix(got, lineAll) {
		t.Errorf("--no-cache runs %q", got)
	}
	fresh.opt.NoCache = false
	if got := reader.ranAfter(); got != "" {
		t.Errorf("who only reads runs %q", got)
	}
	last := lineMember(t, "a", share)
	for who, p := range map[string]*project{"the refresher": fresh, "who had it before": old, "a new machine": last} {
		if got := p.ranAfter(); got != "" {
			t.Errorf("%s runs %q", who, got)
		}
	}
	if x, y := fresh.treeNow(), last.treeNow(); x != y {
		t.Errorf("the refresher has\n%s\na new machine\n%s", x, y)
	}
	if x, y := old.treeNow(), last.treeNow(); x != y {
		t.Errorf("who had it before has\n%s\na new machine\n%s", x, y)
	}
}

// TestI10_AnExportThatYieldsUploadsNothingOfItsOwn: what it drops is no layer of the cache's manifest.
func TestI10_AnExportThatYieldsUploadsNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(t)
	share := CacheShare{Type: "registry", Ref: reg.Host + "/cache:main"}
	a, b := lineMember(t, "a", share), lineMember(t, "a", share)
	var once atomic.Bool
	b.during = func(e Event) {
		if e.Type == EventStepDone && once.CompareAndSwap(false, true) {
			_ = a.ranAfter() // all that B makes
			reg.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				return false
			})
		}
	}
	if _ = b.ranAfter(); !once.Load() || reg.Manifest("cache", "main") == nil {
		t.Error("A has exported nothing")
	}
}
