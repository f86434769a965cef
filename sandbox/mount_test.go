package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestB22_Bind(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	src := newDir(t, f.dir)
	must(t, os.WriteFile(filepath.Join(src, "file"), []byte("data"), 0o644))
	file, err := os.Open(filepath.Join(src, "file"))
	must(t, err)
	defer file.Close()
	dirFD, err := unix.Open(src, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	dir := os.NewFile(uintptr(dirFD), src)
	defer dir.Close()
	detached, err := newMount("tmpfs", 0)
	must(t, err)
	must(t, unix.Mkdirat(detached, "inside", 0o755))
	tmp := os.NewFile(uintptr(detached), "detached")
	defer tmp.Close()

	s := f.spec(t, `
cat /ro/file /byfd/file /onefile; ls /det
echo x > /ro/new; echo x > /onefile
echo changed > /rw/new; echo scratch > /thrown/file; cat /thrown/file; rm /thrown/file; echo y > /thrown/more
echo edited > /thrownfile; cat /thrownfile
[ -e /ro/dev ] && true
mknod /rw/nul c 1 3; cat /rw/nul 2>/dev/null && echo opened`)
	s.Mounts = []Mount{
		{Type: MountBind, Source: src, Target: "/ro", ReadOnly: true},
		{Type: MountBind, SourceFile: dir, Target: "/byfd", ReadOnly: true},
		{Type: MountBind, SourceFile: file, Target: "/onefile", ReadOnly: true},
		{Type: MountBind, SourceFile: tmp, Target: "/det"},
		{Type: MountBind, Source: src, Target: "/rw"},
		{Type: MountBind, Source: src, Target: "/thrown", Overlay: true},
		{Type: MountBind, Source: filepath.Join(src, "file"), Target: "/thrownfile", Overlay: true},
	}
	inside := "inside\n"
	if fd, err := cloneMount(detached, "", 0, 0, 0); errors.Is(err, unix.EINVAL) { // before Linux 6.15
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m Mount) bool { return m.SourceFile == tmp })
		inside = ""
	} else {
		must(t, err)
		must(t, unix.Close(fd))
	}
	out, _ := f.sh(t, s)
	if !strings.HasPrefix(out, "datadatadata"+inside+"scratch\nedited\n") || strings.Count(out, "Read-only file system") != 2 || strings.Contains(out, "opened") {
		t.Errorf("%q", out)
	}
	if got := tree(t, src); got != "file new nul" {
		t.Errorf("source has %s", got)
	}
	if data, err := os.ReadFile(filepath.Join(src, "file")); err != nil || string(data) != "data" {
		t.Errorf("source file is %q, %v", data, err)
	}
	assertUpperEmpty(t, s)
	fd, err := mountThrowAwayOld(src)
	if err != nil {
		t.Fatal("as on an old kernel: ", err)
	}
	_ = unix.Close(fd)
}

// mountThrowAwayOld takes the way of kernels before 6.15.
func mountThrowAwayOld(src string) (int, error) {
	tmp, err := newMount("tmpfs", attrNoDev, "mode=0700")
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	source, err := cloneMount(unix.AT_FDCWD, src, 0, 0, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(source)
	if err := makeScratch(source, tmp); err != nil {
		return -1, err
	}
	return onPrivateThread(func() (int, error) { return throwAwayAttached(source, tmp) })
}

func TestB24_Tmpfs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "df -k /t | tail -1 | awk '{print $2}'; touch /t/x && grep ' /t ' /proc/mounts; touch /ro/x")
	s.Mounts = []Mount{{Type: MountTmpfs, Target: "/t", Size: 1 << 20}, {Type: MountTmpfs, Target: "/ro", ReadOnly: true}}
	out, _ := f.sh(t, s)
	if !strings.HasPrefix(out, "1024\n") || !strings.Contains(out, "nosuid,nodev") || !strings.Contains(out, "Read-only") {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

func TestB25_File(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, `ls -ln /run/secrets/key | awk '{print $1,$3,$4,$5}'; cat /run/secrets/key; echo x > /run/secrets/key; ls -l /script | cut -c1-10; /script; grep ' /run/secrets/key ' /proc/mounts`)
	s.Mounts = []Mount{
		{Type: MountFile, Target: "/run/secrets/key", Data: []byte("s3cret\n"), Mode: 0o400, UID: 12, GID: 34, NoExec: true},
		{Type: MountFile, Target: "/script", Data: []byte("#!/bin/sh\necho run\n"), Mode: 0o755},
	}
	out, _ := f.sh(t, s)
	if !strings.HasPrefix(out, "-r-------- 12 34 7\ns3cret\n-rwxr-xr-x\nrun\ntmpfs") && !strings.HasPrefix(out, "-r-------- 12 34 7\ns3cret\n-rwxr-xr-x\nrun\nnone") {
		t.Errorf("%q", out)
	}
	if !strings.Contains(out, "ro,nosuid,nodev,noexec") || !strings.Contains(out, "Read-only") {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

func TestB21_NestedTargetsInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	src := newDir(t, f.dir)
	s := f.spec(t, "ls -R /a | grep -v '^$'; grep -c ' /a' /proc/mounts; ls /real")
	must(t, os.Symlink("/real/sub", filepath.Join(f.lower, "link")))
	s.Mounts = []Mount{
		{Type: MountTmpfs, Target: "/a"},
		{Type: MountTmpfs, Target: "/a/b/c"},
		{Type: MountFile, Target: "/a/b/c/f", Mode: 0o644},
		{Type: MountBind, Source: src, Target: "/link", ReadOnly: true},
	}
	if out, _ := f.sh(t, s); out != "/a:\nb\n/a/b:\nc\n/a/b/c:\nf\n3\nsub\n" {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

func TestHostileH80_Stubs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	old := time.Unix(1000000000, 0)
	mustMkdir(t, filepath.Join(f.lower, "dir"))
	must(t, os.Chtimes(filepath.Join(f.lower, "dir"), old, old))
	canary := f.guard(t).Dir
	for _, c := range []struct {
		name, target, script, left string
		changed                    bool // the time of /dir
	}{
		{"untouched", "/dir/x/y", "true", "dir", false},
		{"a parent that is used stays", "/dir/x/y", "touch /dir/x/mine", "dir dir/x dir/x/mine", true},
		{"a change beside it shows in the time", "/dir/x/y", "touch /dir/mine", "dir dir/mine", true},
		{"its parent is moved away", "/dir/x/y", "mv /dir/x /dir/z && ln -s " + canary + " /dir/x; true", "dir dir/x dir/z dir/z/y", true},
		{"an empty directory of the step's own in its place", "/dir/x/y", "mv /dir/x /dir/z && mkdir -p /dir/x/y", "dir dir/x dir/x/y dir/z dir/z/y", true},
		{"the mount point cannot be removed", "/dir/x", "rmdir /dir/x; mv /dir/x /dir/z; true", "dir", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := f.spec(t, c.script)
			s.Mounts = []Mount{{Type: MountTmpfs, Target: c.target}}
			out, _ := f.sh(t, s)
			// What a renamed parent leaves is the step's own doing; the rest is ours to remove.
			got := strings.ReplaceAll(tree(t, s.Upper)+" ", "etc ", "")
			if strings.TrimSpace(got) != c.left {
				t.Errorf("left %q, want %q\n%s", got, c.left, out)
			}
			st, err := os.Lstat(filepath.Join(s.Upper, "dir"))
			must(t, err)
			if st.ModTime().Equal(old) == c.changed {
				t.Errorf("time of the parent is %v", st.ModTime())
			}
		})
	}
}

func TestHostileH80_RefusedTargets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, os.Symlink("/proc/sys", filepath.Join(f.lower, "toproc")))
	must(t, os.Symlink("..", filepath.Join(f.lower, "toroot")))
	must(t, os.Symlink("loop", filepath.Join(f.lower, "loop")))
	for _, target := range []string{"/", "/.", "/bin/..", "/proc", "/proc/sys", "/proc/self/fd/5", "/x/../proc/bus", "/toproc", "/toproc/kernel", "/toroot", "relative", "/etc/passwd", "/etc/passwd/x", "/loop"} {
		s := f.spec(t, "true")
		s.Mounts = []Mount{{Type: MountTmpfs, Target: target}}
		_, err := f.Run(t.Context(), s)
		var setup *SetupError
		if !errors.As(err, &setup) || !errors.Is(err, ErrMountTarget) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			t.Errorf("target %s: %v", target, err)
		}
	}
	s := f.spec(t, "true")
	s.Mounts = []Mount{{Type: MountBind, Source: filepath.Join(f.dir, "ghost"), Target: "/x"}}
	if _, err := f.Run(t.Context(), s); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "/x") {
		t.Error(err)
	}
}

func TestStubDirLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{StubDir: filepath.Join(newDir(t, t.TempDir()), "stubs")})
	s := f.spec(t, "ls / /etc; echo x > /etc/new; rm /etc/hosts; ls -l /proc/self/exe | wc -l")
	must(t, os.Symlink("/tmp/resolv", filepath.Join(f.lower, "etc/resolv.conf")))
	out, _ := f.sh(t, s)
	if !strings.HasPrefix(out, "/:\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n\n/etc:\ngroup\nhosts\npasswd\nresolv.conf\n1\n") {
		t.Errorf("%q", out)
	}
	if got := tree(t, s.Upper); got != "etc etc/new" {
		t.Errorf("left: %s", got)
	}
	// A whiteout in the image hides the mount point below: it is made, and removed.
	must(t, unix.Mknod(filepath.Join(f.lower, "etc/hosts"), unix.S_IFCHR, 0))
	s = f.spec(t, "wc -l < /etc/hosts")
	if out, _ := f.sh(t, s); out != "2\n" {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

// The main thread of a process never ends, and neither would what is mounted in its namespace.
func TestMountsOfAPrivateThreadEndWithIt(t *testing.T) {
	alone(t, func(t *testing.T) {
		before := readProc(os.Getpid(), "mountinfo")
		for range 200 {
			thread, err := onPrivateThread(func() (int, error) { return unix.Gettid(), nil })
			must(t, err)
			if thread == unix.Getpid() {
				t.Fatal("the main thread has a namespace of its own")
			}
		}
		if after := readProc(os.Getpid(), "mountinfo"); after != before {
			t.Errorf("mounts were\n%s\nand are\n%s", before, after)
		}
	})
}
