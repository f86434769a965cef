package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	sharedMountFlag = "RUN --mount=type=cache,id=go,target=/c,mode=0750,uid=7,gid=8 "
	fillsMount      = "FROM base\n" + sharedMountFlag + "mkdir /c/d && echo kept > /c/d/f\n"
	readsMount      = "FROM base\n" + sharedMountFlag + "cat /c/d/f; stat -c '%a %u %g' /c; echo new > /c/d/f\n"
)

// Cache mounts travel with the steps of a folder where both sides ask for them, and fill mounts that are not there yet.
func TestI13_CacheMountsTravelInAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with, without := CacheShare{Type: "local", Dir: dir, Mounts: true}, CacheShare{Type: "local", Dir: dir}
	p := newShellProject(t, fillsMount, nil)
	p.opt.CacheTo = []CacheShare{with}
	mustBuild(t, p)
	for _, tc := range []struct {
		name string
		from CacheShare
		want string
	}{{"asked for", with, "kept\n750 7 8\n"}, {"not asked for", without, "can't open '/c/d/f'"}} {
		q := newShellProject(t, readsMount, nil)
		q.opt.CacheFrom = []CacheShare{tc.from}
		_, err := q.build()
		if got := q.output(); !strings.Contains(got, tc.want) || tc.from.Mounts && err != nil {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
		if !tc.from.Mounts {
			continue
		}
		q.opt.NoCache = true
		if _, err := q.build(); err != nil || !strings.HasSuffix(q.output(), "new\n750 7 8\n") {
			t.Errorf("what is there already was replaced: %q, %v", q.output(), err)
		}
	}
}

// An export without new mounts keeps those that are there, one with mounts puts the newer in their place; a step that is cached counts.
func TestI13_AnExportKeepsAndReplacesMounts(t *testing.T) {
	t.Parallel()
	to := CacheShare{Type: "local", Dir: t.TempDir(), Mounts: true}
	p := newShellProject(t, fillsMount, nil)
	p.opt.CacheTo = []CacheShare{to}
	mustBuild(t, p)
	listed := func() []sharedMount {
		t.Helper()
		bd := p.builder().newBuild(Options{})
		defer bd.close()
		idx, _, err := bd.readShare(t.Context(), to)
		must(t, err)
		return idx.Mounts
	}
	first := listed()
	if len(first) != 1 || first[0].Mount.ID != "go" || first[0].Folder.UID != 7 {
		t.Fatalf("%+v", first)
	}
	other := newShellProject(t, "FROM base\nRUN echo > /x\n", nil)
	other.opt.CacheTo = []CacheShare{to}
	mustBuild(t, other)
	if got := listed(); len(got) != 1 || got[0].Layer.Digest != first[0].Layer.Digest {
		t.Errorf("after an export without mounts: %+v", got)
	}
	mounts, err := os.ReadDir(filepath.Join(p.root, "mounts"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.root, "mounts", mounts[0].Name(), "data", "d", "f"), []byte("newer"), 0o644))
	if res := mustBuild(t, p); ran(res) != "" {
		t.Fatalf("ran %q", ran(res))
	}
	if got := listed(); len(got) != 1 || got[0].Layer.Digest == first[0].Layer.Digest {
		t.Errorf("after the mount changed: %+v", got)
	}
}

// A mount whose archive is damaged or gone, or that is not what it says, is a notice, and the step begins with an empty folder.
func TestI13_ADamagedMountIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	share := CacheShare{Type: "local", Dir: dir, Mounts: true}
	p := newShellProject(t, fillsMount, nil)
	p.opt.CacheTo = []CacheShare{share}
	mustBuild(t, p)
	bd := p.builder().newBuild(Options{})
	idx, _, err := bd.readShare(t.Context(), share)
	must(t, err)
	bd.close()
	blob := filepath.Join(dir, "blobs", "sha256", idx.Mounts[0].Layer.Digest.Encoded())
	good, err := os.ReadFile(blob)
	must(t, err)
	for name, data := range map[string][]byte{"gone": nil, "short": good[:len(good)/2], "another byte": append(append([]byte{}, good[:len(good)-1]...), good[len(good)-1]^1)} {
		must(t, os.Remove(blob))
		if data != nil {
			must(t, os.WriteFile(blob, data, 0o644))
		}
		q := newShellProject(t, "FROM base\n"+sharedMountFlag+"ls -A /c; echo end\n", nil)
		q.opt.CacheFrom = []CacheShare{share}
		var said []string
		q.during = func(e Event) {
			if e.Type == EventNotice {
				said = append(said, e.Text)
			}
		}
		if _, err := q.build(); err != nil || !strings.HasSuffix(q.output(), "end\n") || strings.Contains(q.output(), "d\nend") {
			t.Errorf("%s: the step found %q, %v", name, q.output(), err)
		}
		if !strings.Contains(fmt.Sprint(said), "cache mount go is not taken from") {
			t.Errorf("%s: said %q", name, said)
		}
		if data == nil {
			must(t, os.WriteFile(blob, good, 0o644))
		}
	}
	negative := idx.Mounts[0]
	negative.Layer.Size = -1
	for _, bad := range []sharedMount{{Layer: idx.Mounts[0].Layer}, {Mount: mountIdentity{ID: "x"}, Layer: idx.Steps[0].Layer.Desc}, negative} {
		if bad.plausible() {
			t.Errorf("%+v", bad)
		}
	}
}
