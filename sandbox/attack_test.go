package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"gobuild/internal/testexec"
	"gobuild/internal/treetest"
)

// attackProgram compiles testdata/attack once, and gives its bytes. A machine without a compiler is told where the program is.
var attackProgram = sync.OnceValues(func() ([]byte, error) {
	if path := os.Getenv("GOBUILD_TEST_ATTACK"); path != "" {
		return os.ReadFile(path)
	}
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "attack")
	build := exec.Command("go", "build", "-o", name, "./testdata/attack")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return os.ReadFile(name)
})

// attacked is a fixture with the attack program as /bin/attack, and the alarm around it: what a step reads or changes outside fails the test.
func attacked(t *testing.T, cfg Config) *fixture {
	t.Helper()
	f := newFixture(t, cfg)
	if runtime.GOARCH != "amd64" {
		t.Skip("the attack program has the call numbers of x86_64")
	}
	program, err := attackProgram()
	must(t, err)
	must(t, testexec.WriteFile(filepath.Join(f.lower, "bin/attack"), program))
	f.guard(t)
	return f
}

// guard sets the alarm: a canary beside the step's directories, the machine's settings and nodes, gobuild's own program, and in the
// end processes and mounts that show the step's directories.
func (f *fixture) guard(t *testing.T) *treetest.Canary {
	t.Helper()
	c, err := treetest.Plant(f.dir)
	must(t, err)
	settings := treetest.Settings()
	exe, err := os.Executable()
	must(t, err)
	before, err := os.Stat(exe)
	must(t, err)
	t.Cleanup(func() {
		for _, alarm := range slices.Concat(c.Alarms(), treetest.Changed(settings), treetest.Traces(f.dir)) {
			t.Error("alarm: " + alarm)
		}
		if after, err := os.Stat(exe); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) || before.Size() != after.Size() {
			t.Errorf("alarm: the program changed, %v", err)
		}
		must(t, c.Close())
	})
	return c
}

// attack runs the attack program as a step, and reports every attempt that worked.
func (f *fixture) attack(t *testing.T, s Spec, args ...string) (string, Result) {
	t.Helper()
	s.Args = append([]string{"/bin/attack"}, args...)
	out, res := f.sh(t, s)
	return out, res
}
