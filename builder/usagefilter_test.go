package builder

import (
	"testing"
	"time"
)

func TestI17_AFilterTakesWhatAllTermsHoldOf(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	row := Usage{ID: "ab1", Type: usageCacheMount, Description: "id=go target=/go", LastUsed: now.Add(-2 * time.Hour)}
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{"id=ab1", true}, {"id==ab1", true}, {"id=ab", false}, {"id~=^ab", true}, {"id!=ab1", false}, {"id!=x", true},
		{"type=exec.cachemount", true}, {"type=image", false}, {"description~=target=/go$", true}, {"mutable", true}, {"mutable=false", false}, {"inuse", false}, {"shared=true", false}, {"private", true}, {"private=false", false},
		{"unused-for=1h", true}, {"until=2h", true}, {"until=3h", false}, {"id=ab1,mutable", true}, {"id=ab1,type=image", false},
	} {
		f, err := ParseUsageFilter([]string{c.filter})
		if err != nil || f.takes(row, now) != c.want {
			t.Errorf("%s: not %v, or %v", c.filter, c.want, err)
		}
	}
	for _, bad := range []string{"", "sharing", "id", "shared!=true", "inuse=1", "mutable=perhaps", "until", "until=soon", "until=-1h", "until!=1h", "id~=(", "size=1"} {
		if _, err := ParseUsageFilter([]string{bad}); err == nil {
			t.Errorf("%q is taken for a filter", bad)
		}
	}
}

func TestI17_LimitsSayDownToWhatIsRemoved(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
	b := p.builder()
	all := Space{Given: true}
	for _, c := range []struct {
		name string
		opt  PruneOptions
		want int64
	}{
		{"no limit", PruneOptions{}, -1},
		{"a floor", PruneOptions{KeepStorage: 300}, 300},
		{"a ceiling", PruneOptions{MaxUsed: Space{Given: true, Bytes: 200}}, 200},
		{"a ceiling of nothing", PruneOptions{MaxUsed: all}, 0},
		{"a floor above the ceiling", PruneOptions{KeepStorage: 300, MaxUsed: all}, 300},
		{"a ceiling that is not reached", PruneOptions{MaxUsed: Space{Given: true, Bytes: 9000}}, 1000},
		{"enough is free", PruneOptions{MinFree: all}, 1000},
	} {
		if got, err := b.pruneTarget(c.opt, 1000); err != nil || got != c.want {
			t.Errorf("%s: %d, %v; want %d", c.name, got, err, c.want)
		}
	}
	if got, err := b.pruneTarget(PruneOptions{MinFree: Space{Given: true, Percent: 100}}, 1000); err != nil || got >= 0 {
		t.Errorf("more is to be free than there is: %d, %v", got, err)
	}
}
