package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two machines that share nothing but a cache directory: the second runs nothing, and after an edit only what follows it.
func TestI10_StepsTravelByLocalCache(t *testing.T) {
	t.Parallel()
	dockerfile := "FROM base AS tools\nRUN echo tool > /tool && cat /proc/sys/kernel/random/uuid > /id\nFROM base\nCOPY --from=tools /tool /tool\nCOPY src /src\nRUN cat /src > /out\n"
	first := newShellProject(t, dockerfile, map[string]string{"src": "1"})
	dir := filepath.Join(t.TempDir(), "cache")
	first.opt.CacheTo = []CacheShare{{Type: "local", Dir: dir, Max: true}}
	one, err := first.build()
	if err != nil {
		t.Fatal(err)
	}
	second := newShellProject(t, dockerfile, map[string]string{"src": "1"})
	second.opt.CacheFrom = []CacheShare{{Type: "local", Dir: dir}}
	two, err := second.build()
	if err != nil {
		t.Fatal(err)
	}
	if ran(two) != "" || one.Manifest.Digest != two.Manifest.Digest {
		t.Errorf("ran %q; %s, then %s", ran(two), one.Manifest.Digest, two.Manifest.Digest)
	}
	if r := two.Steps[0].Reason; !strings.Contains(r, "imported from") {
		t.Errorf("reason %q", r)
	}
	if has, err := filepath.Glob(filepath.Join(second.root, "snapshots/layers/*")); err != nil || len(has) != 0 {
		t.Errorf("a build that ran nothing unpacked %v, %v", has, err)
	}
	second.write("src", "2")
	second.opt.CacheTo = second.opt.CacheFrom
	two, err = second.build()
	if err != nil {
		t.Fatal(err)
	}
	if got := ran(two); got != "COPY src /src\nRUN cat /src > /out" {
		t.Errorf("after an edit ran\n%s", got)
	}
	// Both sets of steps are in the cache now.
	third := newShellProject(t, dockerfile, map[string]string{"src": "1"})
	third.opt.CacheFrom = second.opt.CacheFrom
	for _, content := range []string{"1", "2"} {
		third.write("src", content)
		if res, err := third.build(); err != nil || ran(res) != "" {
			t.Errorf("with src %s: %v", content, err)
		}
	}
}

// What a cache says is checked: a damaged layer is never believed, a damaged list is not used.
//
// rows: I12
func TestI11_PoisonedCacheIsNotBelieved(t *testing.T) {
	t.Parallel()
	dockerfile := "FROM base\nRUN echo 1 > /a\nRUN cat /a > /b\n"
	first := newShellProject(t, dockerfile, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	first.opt.CacheTo = []CacheShare{{Type: "local", Dir: dir}}
	if _, err := first.build(); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesBelow(t, filepath.Join(dir, "blobs")) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(data), "{") {
			continue
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := newShellProject(t, dockerfile, nil)
	second.opt.CacheFrom = []CacheShare{{Type: "local", Dir: dir}}
	if res, err := second.build(); err == nil {
		t.Errorf("a damaged layer made image %s", res.Manifest.Digest)
	}
	second.opt.CacheFrom = nil
	if _, err := second.build(); err != nil {
		t.Errorf("without the cache: %v", err)
	}
}

func TestI10_AbsentCacheIsANotice(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY Dockerfile /\n", nil)
	p.opt.CacheFrom = []CacheShare{{Type: "local", Dir: filepath.Join(t.TempDir(), "none")}, {Type: "registry", Ref: "127.0.0.1:1/none"}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	notices := 0
	for _, e := range p.events {
		if e.Type == EventNotice && strings.Contains(e.Text, "is not used") {
			notices++
		}
	}
	if notices != 2 {
		t.Errorf("%d notices, want 2", notices)
	}
}
