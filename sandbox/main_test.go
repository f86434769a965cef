package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/testexec"
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

func newFixture(tb testing.TB, cfg Config) *fixture {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root")
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		tb.Skip("needs " + busybox + " (Debian package busybox-static)")
	}
	list, err := exec.Command(busybox, "--list").Output()
	must(tb, err)
	f := &fixture{dir: tb.TempDir()}
	must(tb, os.Chmod(f.dir, 0o755))
	f.lower = filepath.Join(f.dir, "lower")
	for _, d := range []string{"bin", "etc", "tmp", "root"} {
		mustMkdir(tb, filepath.Join(f.lower, d))
	}
	must(tb, testexec.WriteFile(filepath.Join(f.lower, "bin/busybox"), data))
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			must(tb, os.Symlink("busybox", filepath.Join(f.lower, "bin", applet)))
		}
	}
	must(tb, os.WriteFile(filepath.Join(f.lower, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"), 0o644))
	must(tb, os.WriteFile(filepath.Join(f.lower, "etc/group"), []byte("root:x:0:\napp:x:1000:\nstaff:x:50:app\n"), 0o644))
	if cfg.Notice == nil {
		cfg.Notice = func(s string) { tb.Log("notice:", s) }
	}
	f.Runner, err = New(cfg)
	must(tb, err)
	tb.Cleanup(func() { must(tb, f.Close()) })
	return f
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func mustMkdir(tb testing.TB, dir string) {
	tb.Helper()
	must(tb, os.MkdirAll(dir, 0o755))
}

func newDir(tb testing.TB, parent string) string {
	tb.Helper()
	dir, err := os.MkdirTemp(parent, "d") //nolint:usetesting // on the file system of its parent
	must(tb, err)
	must(tb, os.Chmod(dir, 0o755))
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// spec is a step of a shell script on a fresh upper directory.
func (f *fixture) spec(tb testing.TB, script string) Spec {
	tb.Helper()
	s := Spec{
		Lower: []string{f.lower}, Upper: newDir(tb, f.dir), Work: newDir(tb, f.dir),
		Args: []string{"/bin/sh", "-c", script}, Network: NetworkNone,
	}
	s.Started = func(pid int) {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			return // it is over
		}
		if old, ok := stepNamespaces.Swap(s.Upper, ns); ok {
			_ = old.(*os.File).Close()
		}
	}
	tb.Cleanup(func() {
		if ns, ok := stepNamespaces.LoadAndDelete(s.Upper); ok {
			_ = ns.(*os.File).Close()
		}
	})
	return s
}

// stepNamespaces are the pid namespaces of steps by their upper directories, open, so that no other namespace gets their numbers.
var stepNamespaces sync.Map

// run runs a step with stdout and stderr together.
func (f *fixture) run(tb testing.TB, s Spec) (string, error) {
	tb.Helper()
	var out bytes.Buffer
	s.Stdout, s.Stderr = &out, nil
	_, err := f.Run(context.Background(), s)
	return out.String(), err
}

// sh runs a step that must be possible.
func (f *fixture) sh(tb testing.TB, s Spec) (string, Result) {
	tb.Helper()
	var out, errOut bytes.Buffer
	s.Stdout, s.Stderr = &out, &errOut
	res, err := f.Run(context.Background(), s)
	if err != nil {
		tb.Fatalf("%v\n%s%s", err, out.String(), errOut.String())
	}
	return out.String() + errOut.String(), res
}

// tree lists what is in a directory, without directories that an overlay copied up unchanged.
func tree(tb testing.TB, dir string) string {
	tb.Helper()
	var names []string
	must(tb, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	slices.Sort(names)
	return strings.Join(names, " ")
}

// assertUpperEmpty accepts directories of the image that were copied up, if they are as they were.
func assertUpperEmpty(tb testing.TB, s Spec) {
	tb.Helper()
	for name := range strings.FieldsSeq(tree(tb, s.Upper)) {
		upper, err := os.Lstat(filepath.Join(s.Upper, name))
		must(tb, err)
		lower, err := os.Lstat(filepath.Join(s.Lower[0], name))
		if err != nil || !upper.IsDir() || upper.Mode() != lower.Mode() || !upper.ModTime().Equal(lower.ModTime()) {
			tb.Errorf("left in the upper directory: %s", name)
		}
	}
}

// users lists the processes of this machine that are in the step's pid namespace, or whose mounts show its upper directory. The mounts
// alone are not enough: an overlay of older kernels has numbers of descriptors in the place of names.
func users(tb testing.TB, s Spec) []string {
	tb.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	must(tb, err)
	var own os.FileInfo
	if ns, ok := stepNamespaces.Load(s.Upper); ok {
		own, err = ns.(*os.File).Stat()
		must(tb, err)
	}
	var pids []string
	for _, name := range found {
		ns, nsErr := os.Stat(filepath.Join(filepath.Dir(name), "ns/pid"))
		data, err := os.ReadFile(name)
		if err == nil && bytes.Contains(data, []byte(s.Upper)) || nsErr == nil && own != nil && os.SameFile(ns, own) {
			pids = append(pids, name)
		}
	}
	return pids
}

func assertGone(tb testing.TB, s Spec) {
	tb.Helper()
	if left := users(tb, s); len(left) > 0 {
		tb.Errorf("processes are left: %v", left)
	}
}
