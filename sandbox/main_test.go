package sandbox

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const busybox = "/bin/busybox"

func TestMain(m *testing.M) {
	if IsChild(os.Args) {
		ChildMain()
	}
	os.Exit(m.Run())
}

// fixture is a Runner and a root file system of busybox.
type fixture struct {
	*Runner
	lower string
	dir   string
}

func newFixture(t testing.TB, cfg Config) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Skip("needs " + busybox + " (Debian package busybox-static)")
	}
	list, err := exec.Command(busybox, "--list").Output()
	must(t, err)
	f := &fixture{dir: t.TempDir()}
	must(t, os.Chmod(f.dir, 0o755))
	f.lower = filepath.Join(f.dir, "lower")
	for _, d := range []string{"bin", "etc", "tmp", "root"} {
		mustMkdir(t, filepath.Join(f.lower, d))
	}
	must(t, os.WriteFile(filepath.Join(f.lower, "bin/busybox"), data, 0o755))
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			must(t, os.Symlink("busybox", filepath.Join(f.lower, "bin", applet)))
		}
	}
	must(t, os.WriteFile(filepath.Join(f.lower, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(f.lower, "etc/group"), []byte("root:x:0:\napp:x:1000:\nstaff:x:50:app\n"), 0o644))
	cfg.Executable, err = os.Executable()
	must(t, err)
	if cfg.Notice == nil {
		cfg.Notice = func(s string) { t.Log("notice:", s) }
	}
	f.Runner, err = New(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustMkdir(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
}

func newDir(t testing.TB, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "d")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// spec is a step of a shell script on a fresh upper directory.
func (f *fixture) spec(t testing.TB, script string) Spec {
	t.Helper()
	return Spec{
		Lower: []string{f.lower}, Upper: newDir(t, f.dir), Work: newDir(t, f.dir),
		Args: []string{"/bin/sh", "-c", script}, Network: NetworkNone,
	}
}

// run runs a step with stdout and stderr together.
func (f *fixture) run(t testing.TB, s Spec) (string, error) {
	t.Helper()
	var out bytes.Buffer
	s.Stdout, s.Stderr = &out, nil
	_, err := f.Run(context.Background(), s)
	return out.String(), err
}

// sh runs a step that must be possible.
func (f *fixture) sh(t testing.TB, s Spec) (string, Result) {
	t.Helper()
	var out, errOut bytes.Buffer
	s.Stdout, s.Stderr = &out, &errOut
	res, err := f.Run(context.Background(), s)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errOut.String())
	}
	return out.String() + errOut.String(), res
}

// tree lists what is in a directory, without directories that an overlay copied up unchanged.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	slices.Sort(names)
	return strings.Join(names, " ")
}

// assertUpperEmpty accepts directories of the image that were copied up, if they are as they were.
func assertUpperEmpty(t testing.TB, s Spec) {
	t.Helper()
	for name := range strings.FieldsSeq(tree(t, s.Upper)) {
		upper, err := os.Lstat(filepath.Join(s.Upper, name))
		must(t, err)
		lower, err := os.Lstat(filepath.Join(s.Lower[0], name))
		if err != nil || !upper.IsDir() || upper.Mode() != lower.Mode() || !upper.ModTime().Equal(lower.ModTime()) {
			t.Errorf("left in the upper directory: %s", name)
		}
	}
}

// users lists the processes of this machine whose mounts show the step's upper directory.
func users(t testing.TB, s Spec) []string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	must(t, err)
	var pids []string
	for _, name := range found {
		data, err := os.ReadFile(name)
		if err == nil && bytes.Contains(data, []byte(s.Upper)) {
			pids = append(pids, name)
		}
	}
	return pids
}

func assertGone(t testing.TB, s Spec) {
	t.Helper()
	if left := users(t, s); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + groupPrefix + "*")
	must(t, err)
	_ = groups
}
