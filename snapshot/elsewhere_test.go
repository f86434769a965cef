package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Tests in other places: user namespaces, without privilege, on a disk that loses power.

func child(t *testing.T, mode string, attr *syscall.SysProcAttr, args ...string) (string, error) {
	t.Helper()
	// By this name another user can execute it too, whose way to the test binary is closed.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// openTo gives a directory that another user can reach and owns.
func openTo(t *testing.T, uid int) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // that is the point
	must(t, os.Chown(dir, uid, uid))
	return dir
}

// childMerge makes two layers above each other and reads the merged tree, or says why it cannot.
func childMerge(dir string, userXattr bool) {
	s, err := OpenConfig(dir, Config{UserXattr: userXattr})
	step(err)
	w, err := s.New(nil)
	step(err)
	step(os.Mkdir(filepath.Join(w.upper(), "d"), 0o755))
	step(os.WriteFile(filepath.Join(w.upper(), "d", "f"), []byte("x"), 0o600))
	step(w.Commit(id(1)))
	v, err := s.View([]ID{id(1)})
	step(err)
	step(v.Close())
	w, err = s.New([]ID{id(1)})
	step(err)
	r, err := w.Root()
	if errors.Is(err, ErrNoOverlay) {
		step(w.Discard())
		fmt.Println("no overlay:", err)
		os.Exit(0)
	}
	step(err)
	fd := int(r.File().Fd())
	// A removed and remade directory: overlay must be able to mark it opaque, and to hide what is below.
	step(unix.Unlinkat(fd, "d/f", 0))
	step(unix.Unlinkat(fd, "d", unix.AT_REMOVEDIR))
	step(unix.Mkdirat(fd, "d", 0o700))
	step(w.Commit(id(2)))
	v, err = s.View([]ID{id(1), id(2)})
	step(err)
	var st unix.Stat_t
	if err := unix.Fstatat(int(v.File().Fd()), "d/f", &st, 0); !errors.Is(err, unix.ENOENT) {
		step(fmt.Errorf("the removed file is there: %w", err))
	}
	step(v.Close())
	step(s.Remove(id(2)))
	step(s.Remove(id(1)))
	fmt.Println("merged")
	os.Exit(0)
}

// step ends a child with its error.
func step(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func TestHostileF16_InAUserNamespaceWithUserXattr(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to become another user needs root")
	}
	const uid = 12345
	out, err := child(t, "userns", &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappingsEnableSetgroups: false,
		Credential:                 &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}, filepath.Join(openTo(t, uid), "s"))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skip("user namespaces: ", err)
	}
	if err != nil || out != "merged\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestHostileF18_WithoutPrivilegeSingleLayersWorkAndMergedOnesSayWhyNot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to become another user needs root")
	}
	const uid = 12345
	out, err := child(t, "nobody", &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uid, Gid: uid},
	}, filepath.Join(openTo(t, uid), "s"))
	if err != nil || !strings.HasPrefix(out, "no overlay: ") || !strings.Contains(out, "operation not permitted") {
		t.Errorf("%v: %s", err, out)
	}
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN; noLogFlush makes it a true power cut: not even the journal in memory is written.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// childPowerCut runs in a mount namespace of its own. On a small disk it commits layers, syncs, commits more, cuts the
// power, and looks at what the next "boot" believes.
func childPowerCut(image string) {
	mnt := image + ".mnt"
	step(os.MkdirAll(mnt, 0o700))
	mount := func() { run("mount", "-o", "loop,noauto_da_alloc", image, mnt) }
	unmount := func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			step(fmt.Errorf("umount: %w: %s", err, out))
		}
	}
	mount()
	s, err := OpenConfig(filepath.Join(mnt, "s"), Config{BootID: "before"})
	step(err)
	content := strings.Repeat("0123456789abcdef", 4096)
	layer := func(s *Store, n int) {
		w, err := s.New(nil)
		step(err)
		for i := range 8 {
			step(os.WriteFile(filepath.Join(w.upper(), fmt.Sprint(i)), []byte(content), 0o644))
		}
		step(w.Commit(id(n)))
	}
	for n := range 10 {
		layer(s, n)
	}
	step(s.Sync(context.Background()))
	for n := range 10 {
		layer(s, 10+n)
		// The trap: the note that the layer was committed reaches the disk, its bytes do not.
		meta, err := os.Open(filepath.Join(s.home(id(10+n)), metaName))
		step(err)
		step(errors.Join(meta.Sync(), meta.Close()))
	}
	d, err := os.Open(mnt)
	step(err)
	step(unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, noLogFlush))
	step(d.Close())
	_ = s.Close() // it cannot remove anything any more, but holds nothing open either
	unmount()
	mount()
	s, err = OpenConfig(filepath.Join(mnt, "s"), Config{BootID: "after"})
	step(err)
	step(s.Sweep(context.Background()))
	whole, torn := 0, 0
	step(s.List(func(l ID, info Info) error {
		ok := true
		for i := range 8 {
			got, err := os.ReadFile(filepath.Join(s.Dir(l), fmt.Sprint(i)))
			ok = ok && err == nil && string(got) == content
		}
		switch {
		case info.Trusted && !ok:
			return fmt.Errorf("layer %s is trusted and torn", l)
		case info.Trusted:
			whole++
		case !ok:
			torn++
		}
		return nil
	}))
	for n := range 20 { // and all can be built again
		if !s.Has(id(n)) {
			layer(s, n)
		}
		if !s.Has(id(n)) {
			step(fmt.Errorf("layer %d cannot be built again", n))
		}
	}
	step(s.Close())
	unmount()
	fmt.Printf("whole %d, torn %d\n", whole, torn)
	os.Exit(0)
}

func run(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		fmt.Printf("cannot %s: %v: %s\n", name, err, out)
		os.Exit(2)
	}
}

func TestHostileF05_AfterAPowerCutNoTornLayerIsTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a loop mount needs root")
	}
	image := filepath.Join(t.TempDir(), "disk")
	f, err := os.OpenFile(image, os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	must(t, errors.Join(f.Truncate(256<<20), f.Close()))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	out, err := child(t, "powercut", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, image)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		t.Skip("loop mounts: ", out)
	}
	if err != nil || !strings.HasPrefix(out, "whole 10, ") {
		t.Errorf("%v: %s", err, out)
	}
	t.Log(out)
}
