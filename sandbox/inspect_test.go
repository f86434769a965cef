package sandbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// What Inspect says of a step that runs, with limits and without.
//
// rows: N9
func TestN9_InspectRunningStep(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "echo up; read line")
	in, feed := io.Pipe()
	s.Stdin = in
	var seen Process
	var started uint64
	var pid int
	own, err := OwnNamespace("mnt")
	must(t, err)
	s.Started = func(p int) { pid = p }
	s.Stdout = onWrite(func() { // all of its processes are there now
		started = StartTime(pid)
		seen, err = Inspect(pid)
		must(t, feed.Close())
	})
	if _, runErr := f.Run(t.Context(), s); runErr != nil || err != nil {
		t.Fatal(runErr, err)
	}
	if len(seen.Namespaces) != len(namespaceNames()) || seen.Namespaces["mnt"] == own || seen.Namespaces["mnt"] == 0 {
		t.Errorf("namespaces: %v, own %d", seen.Namespaces, own)
	}
	if started == 0 || seen.Pids < 1 || seen.Memory < 4096 {
		t.Errorf("started %d, %+v", started, seen)
	}
	must(t, f.Close())
	if StartTime(pid) == started {
		t.Error("the step goes on")
	}
	if _, err := Inspect(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that cannot be: %v", err)
	}
}

func TestN9_StepCgroup(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, group, dir string }{
		{"version 2, own", "0::/a/gobuild-step-1-x-1\n", "/a/gobuild-step-1-x-1", "/sys/fs/cgroup/a/gobuild-step-1-x-1"},
		{"version 2, shared", "0::/a\n", "/a", ""},
		{"version 1, own for pids alone", "3:pids:/a/gobuild-step-1-x-1\n2:cpu,memory:/a\n0::/b\n", "/a/gobuild-step-1-x-1", ""},
		{"version 1, own", "2:memory:/a/gobuild-step-1-x-1\n1:cpu:/a\n", "/a/gobuild-step-1-x-1", "/sys/fs/cgroup/memory/a/gobuild-step-1-x-1"},
		{"version 1, shared", "3:cpu:/c\n2:memory:/m\n", "/m", ""},
		{"none", "", "", ""},
		{"nonsense", "x\n:\n", "", ""},
	} {
		if group, dir := stepCgroup(tc.text); group != tc.group || dir != tc.dir {
			t.Errorf("%s: %q %q, want %q %q", tc.name, group, dir, tc.group, tc.dir)
		}
	}
	if StartTime(os.Getpid()) == 0 || !strings.Contains(readProc(os.Getpid(), "stat"), ")") {
		t.Error("no start time of this process")
	}
}
