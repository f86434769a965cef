package sandbox

import (
	"os"
	"os/exec"
	"testing"
)

func TestG14_ListsOfProcessorsAreCompared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		list, whole string
		want        bool
	}{
		{"0", "0-3", true}, {"0-3", "0-3", true}, {"0-3", "0-1,2-3", true}, {"1,3", "0-3", true}, {"0-2,7", "0-3,7\n", true},
		{"4", "0-3", false}, {"0-4", "0-3", false}, {"0-3", "0-1,3", false}, {"0,5", "0", false}, {"0", "", false},
	} {
		if got := withinList(tt.list, tt.whole); got != tt.want {
			t.Errorf("%s in %q: %v", tt.list, tt.whole, got)
		}
	}
}

func TestG14_OnlyOurOwnProcessesAreMoved(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sleep", "1000")
	must(t, child.Start())
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	for name, tt := range map[string]struct {
		pid  int
		want bool
	}{
		"this process": {os.Getpid(), true}, "one it started": {child.Process.Pid, true}, "the one that started it": {os.Getppid(), false},
		"init": {1, false}, "one of another pid namespace": {0, false}, "one that has ended": {1 << 30, true},
	} {
		if got := startedByUs(tt.pid); got != tt.want {
			t.Errorf("%s, %d: %v", name, tt.pid, got)
		}
	}
	if mayMove(t.TempDir(), []int{os.Getpid(), 1}) {
		t.Error("another's process would be moved")
	}
	if !mayMove(t.TempDir(), []int{os.Getpid(), child.Process.Pid}) {
		t.Error("our own processes stay")
	}
}
