package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// tight are limits under which nothing unused may stay.
var tight = GCOptions{MaxUsed: Space{Given: true, Bytes: 1}, Reserved: Space{Given: true}, Budget: time.Hour}

// later opens the project's state as a process would after some time.
func (p *project) later(after time.Duration) *Builder {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := Open(Config{Root: p.root, Executable: exe, Now: func() time.Time { return time.Now().Add(after) }})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { must(p.t, b.Close()) })
	return b
}

// rows are what du lists, by type.
func rowsOf(t *testing.T, b *Builder) map[string][]Usage {
	t.Helper()
	list, err := b.DiskUsage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	byType := map[string][]Usage{}
	for _, r := range list {
		byType[r.Type] = append(byType[r.Type], r)
	}
	return byType
}

func TestI16_WhatIsUnusedLongestGoesAndTagsStay(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	p.opt.GC.Off = true
	p.opt.Tags = []string{"kept:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	p.write("f", "22")
	p.opt.Tags = nil
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if gone, err := p.later(time.Hour).gc(t.Context(), tight); err != nil || len(gone) != 0 {
		t.Errorf("what was used an hour ago went: %v, %v", gone, err)
	}
	if gone, err := p.later(30*24*time.Hour).gc(t.Context(), GCOptions{MaxUsed: tight.MaxUsed, Budget: time.Hour}); err != nil || len(gone) != 0 {
		t.Errorf("what is within the reserve went: %v, %v", gone, err)
	}
	b := p.later(30 * 24 * time.Hour)
	gone, err := b.gc(t.Context(), tight)
	if err != nil || len(gone) == 0 {
		t.Fatalf("%v, %v", gone, err)
	}
	for i := 1; i < len(gone); i++ {
		if gone[i].LastUsed.Before(gone[i-1].LastUsed) {
			t.Errorf("not the longest unused first: %v", gone)
		}
	}
	rows := rowsOf(t, b)
	if len(rows[usageRegular]) != 0 || len(rows[usageImage]) != 3 { // manifest, configuration, layer of kept:1
		t.Errorf("left: %+v", rows)
	}
	if _, err := b.Inspect(t.Context(), "kept:1", ""); err != nil {
		t.Error(err)
	}
	p.opt.Explain = true
	if got := p.explained(); !strings.HasPrefix(got, "COPY f /f: its result was removed by the automatic clean-up") {
		t.Errorf("explained: %s", got)
	}
}

func TestI16_SixtyDaysUnusedGoWithoutNeed(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	roomy := GCOptions{MaxUsed: Space{Given: true, Percent: 100}, MinFree: Space{Given: true}, Budget: time.Hour}
	if gone, err := p.later(59*24*time.Hour).gc(t.Context(), roomy); err != nil || len(gone) != 0 {
		t.Errorf("after 59 days: %v, %v", gone, err)
	}
	if gone, err := p.later(61*24*time.Hour).gc(t.Context(), roomy); err != nil || len(gone) == 0 {
		t.Errorf("after 61 days: %v, %v", gone, err)
	}
}

func TestI16_CacheMountsAreCollectedOverTheirLimit(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	for i, size := range []int64{400 << 20, 200 << 20} {
		dir := filepath.Join(p.root, "mounts", strings.Repeat(fmt.Sprint(i), 32))
		must(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		used := time.Now().Add(time.Duration(i) * time.Minute)
		for _, f := range []struct{ name, content string }{{"about", "id\n"}, {"size", fmt.Sprintln(size)}} { // measured after the last use
			must(t, os.WriteFile(filepath.Join(dir, f.name), []byte(f.content), 0o600))
			must(t, os.Chtimes(filepath.Join(dir, f.name), used, used))
			used = used.Add(time.Second)
		}
	}
	roomy := GCOptions{MaxUsed: Space{Given: true, Percent: 100}, MinFree: Space{Given: true}, Budget: time.Hour}
	if gone, err := p.later(47*time.Hour).gc(t.Context(), roomy); err != nil || len(gone) != 0 {
		t.Errorf("after 47 hours: %v, %v", gone, err)
	}
	must(t, os.Remove(filepath.Join(p.root, "aged.stamp")))
	holder := p.later(0)
	must(t, holder.holds.mounts.Hold(strings.Repeat("0", 32)))
	gone, err := p.later(49*time.Hour).gc(t.Context(), roomy)
	if err != nil || len(gone) != 1 || gone[0].ID != strings.Repeat("1", 32) {
		t.Errorf("the one that nobody uses: %v, %v", gone, err)
	}
	if _, err := os.Stat(filepath.Join(p.root, "mounts", strings.Repeat("1", 32))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// A collection in the middle of a build, with limits that let nothing stay, takes everything but what the build relies on.
func TestI16_ARunningBuildLosesNothing(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch AS a\nCOPY f /f\nWORKDIR /w\nFROM scratch\nCOPY --from=a / /a\nCOPY g /g\n", map[string]string{"f": "1", "g": "1"})
	p.opt.GC.Off = true
	if _, err := p.tree(); err != nil {
		t.Fatal(err)
	}
	other := newProject(t, "FROM scratch\nCOPY x /x\n", map[string]string{"x": "1"})
	other.root, other.opt.GC.Off = p.root, true
	if _, err := other.build(); err != nil {
		t.Fatal(err)
	}
	p.write("g", "22")
	collector := p.later(90 * 24 * time.Hour)
	var gone []Usage
	var gcErr error
	p.during = func(e Event) {
		if e.Type == EventCache && e.Step != nil && e.Step.Text == "COPY g /g" && gone == nil {
			gone, gcErr = collector.gc(t.Context(), tight)
		}
	}
	got, err := p.tree()
	if err != nil || gcErr != nil {
		t.Fatal(err, gcErr)
	}
	want := lines("a 0755 0:0 /", "a/f 0644 0:0 1", "a/w 0755 0:0 /", "g 0644 0:0 2")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text := fmt.Sprint(gone)
	if !strings.Contains(text, "COPY in stage stage-0") && !strings.Contains(text, "COPY in "+filepath.Base(other.dir)) {
		t.Errorf("the other project's layer stayed: %s", text)
	}
	p.during = nil
	if res, err := p.build(); err != nil || ran(res) != "" {
		t.Errorf("after the collection the build runs %q: %v", ran(res), err)
	}
}

func TestI16_ATagThatComesMeanwhileIsSeen(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	c, err := b.inventory(t.Context(), sizesExact)
	if err != nil {
		t.Fatal(err)
	}
	must(t, b.store.Tag("docker.io/library/new:1", res.Manifest))
	for _, d := range []digest.Digest{res.Manifest.Digest, res.Config.Digest} {
		if err := b.drop(t.Context(), c, Usage{Type: usageImage, ID: d.String()}, "test"); !errors.Is(err, errKept) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

func TestI16_AtMostEveryTenMinutesAndNotWhenOff(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	p.opt.GC = tight
	p.opt.GC.Off = true
	stamp := filepath.Join(p.root, "gc.stamp")
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stamp); err == nil {
		t.Error("--gc=off collected")
	}
	p.opt.GC.Off = false
	for _, tc := range []struct {
		age  time.Duration
		want bool
	}{{9 * time.Minute, false}, {11 * time.Minute, true}, {-time.Hour, true}} {
		at := time.Now().Add(-tc.age)
		must(t, os.WriteFile(stamp, nil, 0o600))
		must(t, os.Chtimes(stamp, at, at))
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(stamp)
		if err != nil || st.ModTime().Sub(at).Abs() > time.Minute != tc.want {
			t.Errorf("%s after the last time: it ran %v, %v", tc.age, !tc.want, err)
		}
	}
}
