package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func probeHere(t *testing.T, dir string) Facts {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	return Probe(t.Context(), ProbeConfig{Dir: dir, Executable: exe, Path: []string{"/usr/bin", "/usr/sbin"}})
}

func TestN10_ProbeAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	f := probeHere(t, t.TempDir())
	for name, a := range map[string]Attempt{
		"step": f.Step, "step without network": f.StepNoNet, "overlay": f.Overlay, "whiteout": f.Whiteout, "filter": f.Filter,
	} {
		if !a.OK() {
			t.Errorf("%s: tried %v, %s", name, a.Tried, a.Why)
		}
	}
	if f.Kernel == "" || f.Machine == "" || f.UID != 0 || len(f.Missing) > 0 {
		t.Errorf("%+v", f)
	}
	// Root may make user namespaces wherever a user may, and gets the overlay that a user would.
	if f.UserMounts.OK() && !f.UserOver.OK() {
		t.Errorf("overlay in a user namespace: %+v", f.UserOver)
	}
	if len(f.Cgroup.Controllers) != len(probedLimits()) {
		t.Errorf("controllers: %+v", f.Cgroup)
	}
}

// Not parallel: other tests of this process make cgroups.
func TestN10_ProbeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	before := groupsNow(t)
	probeHere(t, dir)
	if left := tree(t, dir); left != "" {
		t.Errorf("left in the directory: %s", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Error("a mount is left")
	}
	if after := groupsNow(t); len(after) > len(before) {
		t.Errorf("cgroups before %v, after %v", before, after)
	}
}

// groupsNow lists our process's step groups.
func groupsNow(t *testing.T) []string {
	t.Helper()
	h, err := findHierarchies("")
	if err != nil {
		return nil
	}
	var list []string
	for _, dir := range h.controllers {
		found, _ := filepath.Glob(filepath.Join(dir, groupPrefix+strconv.Itoa(os.Getpid())+"-*"))
		list = append(list, found...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestN10_ProbeWithoutADirectorySaysSo(t *testing.T) {
	t.Parallel()
	f := probeHere(t, "")
	if len(f.Cgroup.Controllers) != len(probedLimits()) {
		t.Errorf("controllers: %+v", f.Cgroup)
	}
	if f.Step.Tried || f.Step.Why == "" || f.Overlay.Tried {
		t.Errorf("step %+v, overlay %+v", f.Step, f.Overlay)
	}
	f = probeHere(t, filepath.Join(t.TempDir(), "missing"))
	if f.Step.OK() || !strings.Contains(f.Step.Why, "missing") {
		t.Errorf("step %+v", f.Step)
	}
}

func TestN10_AnAttemptThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	p := &prober{ctx: ctx}
	a := p.try(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if a.OK() || !strings.Contains(a.Why, "gave up after") {
		t.Errorf("%+v", a)
	}
}

func TestN10_WhiteoutIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, probeFile), nil, 0o644))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	// A plain directory: the file is gone, and nothing stands for it.
	if err := tryWhiteout(fd, dir); err == nil || !strings.Contains(err.Error(), "find the whiteout") {
		t.Error(err)
	}
	// Something is there, but no whiteout.
	upper := t.TempDir()
	for _, d := range []string{dir, upper} {
		must(t, os.WriteFile(filepath.Join(d, probeFile), nil, 0o644))
	}
	if err := tryWhiteout(fd, upper); err == nil || !strings.Contains(err.Error(), "has no whiteout") {
		t.Error(err)
	}
}

func TestN10_BinfmtHandlers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if list, mounted := binfmtHandlers(dir); mounted || list != nil {
		t.Error("a directory without register is no binfmt_misc")
	}
	for name, text := range map[string]string{
		"register": "", "status": "enabled\n",
		"qemu-aarch64": "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\nmagic 7f45\n",
		"old":          "disabled\ninterpreter /bin/old\nflags: \n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	list, mounted := binfmtHandlers(dir)
	want := []BinfmtHandler{{Name: "old", Interpreter: "/bin/old"}, {Name: "qemu-aarch64", Interpreter: "/usr/bin/qemu-aarch64-static", Flags: "OCF", Enabled: true}}
	if !mounted || !slices.Equal(list, want) {
		t.Errorf("%v %+v", mounted, list)
	}
}

func TestN10_SubordinateIDs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "subuid")
	me := "0"
	if os.Geteuid() != 0 {
		t.Skip("the test's lines are for root")
	}
	must(t, os.WriteFile(file, []byte("other:1:5\nroot:100000:65536\nbroken\n"+me+":300000:10\nroot:x:y\n"), 0o644))
	if n := subordinate(file, ""); n != 65546 {
		t.Errorf("%d ids", n)
	}
	if n := subordinate(file+".missing", ""); n != 0 {
		t.Errorf("%d ids of no file", n)
	}
}

func TestN10_ChildrenAreKnown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		argv []string
		want bool
	}{
		{[]string{childName}, false}, {[]string{probeName, "user", "", "", ""}, true}, {[]string{probeName}, false},
		{[]string{"gobuild"}, false}, {[]string{"gobuild", childName}, false}, {[]string{childName, "x"}, false}, {nil, false},
	} {
		if got := IsChild(tt.argv); got != tt.want {
			t.Errorf("%q: %v", tt.argv, got)
		}
	}
}
