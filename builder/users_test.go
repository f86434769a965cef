package builder

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// twoProjects share a base and a state directory; the second image has a name.
func twoProjects(t *testing.T) (p, q *project) {
	t.Helper()
	p = newProject(t, "FROM scratch AS common\nCOPY common /common\nFROM common\nCOPY own /own\n", map[string]string{"common": strings.Repeat("c", 40<<10), "own": strings.Repeat("p", 20<<10)})
	q = newProject(t, p.dockerfile, map[string]string{"common": strings.Repeat("c", 40<<10), "own": strings.Repeat("q", 80<<10)})
	q.root = p.root
	p.opt.GC.Off, q.opt.GC.Off = true, true
	q.opt.Tags = []string{"named:1"}
	mustBuild(t, p)
	mustBuild(t, q)
	return p, q
}

func filterOf(t *testing.T, text string) UsageFilter {
	t.Helper()
	f, err := ParseUsageFilter([]string{text})
	must(t, err)
	return f
}

func TestI18_SharedIsWhatSeveralProjectsNeed(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	b := p.builder()
	rows, err := b.DiskUsage(t.Context(), nil)
	must(t, err)
	shared := map[bool]int{}
	for _, r := range rows {
		if r.Type == usageContext {
			continue
		}
		shared[r.Shared]++
		big := r.Size >= 40<<10 && r.Size < 80<<10
		if r.Type == usageRegular && r.Shared != big {
			t.Errorf("%+v", r)
		}
		if want := map[bool]int{false: 1, true: 2}[r.Shared]; r.Uses != want || len(r.Projects) != want {
			t.Errorf("%d builds of %q need %s", r.Uses, r.Projects, r.Description)
		}
		if r.Type == usageImage && (len(r.Images) > 0) == r.Reclaimable {
			t.Errorf("a named image holds it: %+v", r)
		}
	}
	if shared[true] != 2 { // a directory and its blob
		t.Errorf("%d rows are shared", shared[true])
	}
	for filter, want := range map[string]bool{"shared": true, "private": false, "shared=false": false, "private=false": true} {
		list, err := b.DiskUsage(t.Context(), filterOf(t, filter+",type!=source.local"))
		must(t, err)
		if len(list) != shared[want] {
			t.Errorf("%s: %d rows, want %d", filter, len(list), shared[want])
		}
	}

}

func TestI18_UsageByBuildTellsOwnFromShared(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	list, err := p.builder().UsageByBuild(t.Context(), filterOf(t, "type=regular"))
	must(t, err)
	if len(list) != 2 || fmt.Sprint(list[0].Tags) != "[docker.io/library/named:1]" {
		t.Fatalf("%+v", list)
	}
	rows, err := p.builder().DiskUsage(t.Context(), filterOf(t, "type=regular"))
	must(t, err)
	var all int64
	for _, r := range rows {
		all += r.Size
	}
	if list[0].Own < 80<<10 || list[1].Own < 20<<10 || list[1].Own >= 40<<10 || list[0].Shared != list[1].Shared || list[0].Shared < 40<<10 {
		t.Errorf("%+v", list)
	}
	if sum := list[0].Own + list[1].Own + list[0].Shared; sum != all || list[0].Size != list[0].Own+list[0].Shared {
		t.Errorf("own and shared make %d, and all is %d: %+v", sum, all, list)
	}
}

func TestI18_UsageByStepAddsFilesAndBlobs(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	list, err := p.builder().UsageByStep(t.Context(), nil)
	must(t, err)
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	for i, s := range list {
		if s.Files == 0 || s.Packed == 0 || s.Size != s.Files+s.Packed || s.Shared != (s.Uses == 2) || !strings.HasPrefix(s.Step, "COPY in stage ") {
			t.Errorf("%+v", s)
		}
		if i > 0 && s.Size > list[i-1].Size {
			t.Error("not the largest first")
		}
	}
}

// What a build relies on is in use: du says so, and takes no lock for it.
func TestI18_InUseIsWhatABuildHolds(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	idle := p.builder()
	if list, err := idle.DiskUsage(t.Context(), filterOf(t, "inuse")); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	var during []Usage
	p.during = func(e Event) {
		if e.Type == EventStepDone && during == nil {
			list, err := idle.DiskUsage(t.Context(), filterOf(t, "inuse,type=regular"))
			must(t, err)
			during = append([]Usage{}, list...)
		}
	}
	mustBuild(t, p)
	if len(during) == 0 || during[0].Reclaimable {
		t.Errorf("during a build: %+v", during)
	}
	if list, err := idle.DiskUsage(t.Context(), filterOf(t, "inuse")); err != nil || len(list) != 0 {
		t.Errorf("after it: %v, %v", list, err)
	}
}

func TestI17_PruneTakesWhatIsPrivate(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	b := p.later(time.Minute)
	before := len(rowsOf(t, b)[usageRegular])
	gone, err := b.Prune(t.Context(), PruneOptions{Filter: filterOf(t, "private,type=regular")})
	must(t, err)
	left := rowsOf(t, b)[usageRegular]
	if before != 3 || len(gone) != 2 || len(left) != 1 || left[0].Size < 40<<10 {
		t.Errorf("gone %+v, left %+v", gone, left)
	}
}

func TestI18_ALayerOfABaseSaysOfWhich(t *testing.T) {
	t.Parallel()
	p, _ := twoProjects(t)
	r := newProject(t, "FROM named:1\nCOPY x /x\n", map[string]string{"x": "1"})
	r.root = p.root
	mustBuild(t, r)
	list, err := r.builder().DiskUsage(t.Context(), filterOf(t, "type=regular,description~=base image named:1"))
	must(t, err)
	if len(list) != 2 || list[0].Uses == 0 {
		t.Errorf("%+v", list)
	}
	build, err := r.builder().UsageByBuild(t.Context(), filterOf(t, "type=image"))
	must(t, err)
	if build[0].Shared < 1000 { // the base's blobs are those of the build that made it
		data, _ := json.Marshal(build)
		t.Errorf("%s", data)
	}
}
