package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// groupDir is a directory with the files of a cgroup of version 2.
func groupDir(t *testing.T, control, procs string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(control), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(procs), 0o644))
	return dir
}

func TestN10_ControllersOfVersion2(t *testing.T) {
	t.Parallel()
	dir := groupDir(t, "cpuset memory\n", "")
	for controller, want := range map[string]bool{"memory": true, "cpuset": true, "cpu": false, "pids": false, "set": false} {
		if got := enabledFor(dir, controller); got != want {
			t.Errorf("%s: %v", controller, got)
		}
	}
	if enabledFor(t.TempDir(), "memory") {
		t.Error("a directory that is no cgroup has no controllers")
	}
}

func TestN10_SwitchingOnAControllerIsJudgedNotTried(t *testing.T) {
	t.Parallel()
	dir := groupDir(t, "", "")
	if a := wouldEnable(dir); !a.OK() {
		t.Errorf("an empty group that we may write: %+v", a)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err != nil || len(data) > 0 {
		t.Errorf("it was written: %q %v", data, err)
	}
	if a := wouldEnable(groupDir(t, "", "1\n")); a.OK() || !strings.Contains(a.Why, "processes of its own") {
		t.Errorf("a group with processes: %+v", a)
	}
	if a := wouldEnable(t.TempDir()); a.OK() || !strings.Contains(a.Why, "not delegated") {
		t.Errorf("no group: %+v", a)
	}
}
