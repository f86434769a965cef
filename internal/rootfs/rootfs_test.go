package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// both runs a test with the kernel's resolver and with the walker that replaces it.
func both(t *testing.T, test func(t *testing.T, r *Root, dir string)) {
	t.Helper()
	for _, mode := range []string{"openat2", "walker"} {
		t.Run(mode, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "root")
			for _, d := range []string{"a/b", "etc", "lib"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(outer, "canary"), "outside")
			write(t, filepath.Join(dir, "etc/passwd"), "inside")
			write(t, filepath.Join(dir, "canary"), "clamped")
			for name, target := range map[string]string{
				"abs": "/etc/passwd", "up": "../../../../canary", "a/dir": "/lib", "loop": "loop",
				"a/b/rel": "../../etc/passwd", "dangling": "/nowhere/x", "proc": "/proc/self/root/etc",
			} {
				if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			r.fallback.Store(mode == "walker")
			test(t, r, dir)
		})
	}
}

func write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_TheRootItselfWithoutFollowing(t *testing.T) {
	both(t, func(t *testing.T, r *Root, _ string) {
		for _, p := range []string{"/", ".", "etc"} {
			f, err := r.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
			if err != nil {
				t.Errorf("%s: %v", p, err)
				continue
			}
			f.Close()
		}
	})
}

func TestOpenRegularStaysInside(t *testing.T) {
	both(t, func(t *testing.T, r *Root, _ string) {
		for p, want := range map[string]string{
			"/etc/passwd": "inside", "abs": "inside", "a/b/rel": "inside", "up": "clamped", "../../canary": "clamped",
		} {
			f, _, err := r.OpenRegular(p)
			if err != nil {
				t.Errorf("%s: %v", p, err)
				continue
			}
			got := make([]byte, 32)
			n, _ := f.Read(got)
			f.Close()
			if string(got[:n]) != want {
				t.Errorf("%s: read %q, want %q", p, got[:n], want)
			}
		}
		if _, _, err := r.OpenRegular("etc"); !errors.Is(err, ErrNotRegular) {
			t.Errorf("directory: %v", err)
		}
		if _, _, err := r.OpenRegular("dangling"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("dangling link: %v", err)
		}
		if _, _, err := r.OpenRegular("loop"); !errors.Is(err, unix.ELOOP) {
			t.Errorf("loop: %v", err)
		}
	})
}

func TestHostileH14_FIFOIsNotOpened(t *testing.T) {
	both(t, func(t *testing.T, r *Root, dir string) {
		if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.OpenRegular("pipe"); !errors.Is(err, ErrNotRegular) {
			t.Errorf("FIFO: %v", err)
		}
	})
}

func TestResolve(t *testing.T) {
	both(t, func(t *testing.T, r *Root, _ string) {
		for p, want := range map[string]string{
			"": "/", "/": "/", "a/b/../b": "/a/b", "abs": "/etc/passwd", "a/dir/x/y": "/lib/x/y", "up": "/canary",
			"missing/x/../y": "/missing/y", "a/dir": "/lib", "dangling": "/nowhere/x", "../..": "/", "etc/passwd/x": "/etc/passwd/x",
		} {
			got, err := r.Resolve(p)
			if err != nil || got != want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", p, got, err, want)
			}
		}
		if _, err := r.Resolve("loop/x"); !errors.Is(err, unix.ELOOP) {
			t.Errorf("loop: %v", err)
		}
	})
}

func TestMkdirAllFollowsLinksInsideAndSetsAttributes(t *testing.T) {
	both(t, func(t *testing.T, r *Root, dir string) {
		old := unix.Umask(0o077)
		defer unix.Umask(old)
		stamp := unix.Timespec{Sec: 1000}
		created, err := r.MkdirAll("a/dir/x/y", Attr{Mode: 0o1755, UID: os.Getuid(), GID: os.Getgid(), Mtime: stamp})
		if err != nil || len(created) != 2 || created[0] != "/lib/x" || created[1] != "/lib/x/y" {
			t.Fatalf("created %v, %v", created, err)
		}
		for _, p := range created {
			st, err := r.Lstat(p)
			if err != nil || st.Mode&0o7777 != 0o1755 || st.Mtim != stamp {
				t.Errorf("%s: mode %o mtime %v, %v", p, st.Mode, st.Mtim, err)
			}
		}
		if again, err := r.MkdirAll("/lib/x/y", Attr{Mode: 0o700}); err != nil || len(again) != 0 {
			t.Errorf("existing: %v, %v", again, err)
		}
		if _, err := r.MkdirAll("etc/passwd/x", Attr{Mode: 0o755}); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("file in the way: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "../nowhere")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left the root: %v", err)
		}
	})
}

func TestParent(t *testing.T) {
	both(t, func(t *testing.T, r *Root, dir string) {
		d, name, err := r.Parent("/a/dir/new")
		if err != nil || name != "new" {
			t.Fatalf("%q, %v", name, err)
		}
		defer d.Close()
		if err := unix.Mkdirat(int(d.Fd()), name, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "lib/new")); err != nil {
			t.Errorf("made elsewhere: %v", err)
		}
		for _, p := range []string{"/", ".", "", "a/.."} {
			if _, _, err := r.Parent(p); err == nil {
				t.Errorf("Parent(%q) succeeded", p)
			}
		}
	})
}

func TestLstatDoesNotFollow(t *testing.T) {
	both(t, func(t *testing.T, r *Root, _ string) {
		st, err := r.Lstat("abs")
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("mode %o, %v", st.Mode, err)
		}
		if got, err := r.Readlink("up"); err != nil || got != "../../../../canary" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
