package passwd

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

const testPasswd = `# comment
root:x:0:0:root:/root:/bin/sh
+nis::::::
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:7:7::/seven:
4294967296:x:0:0::/:
2147483648:x:0:0::/:
0x0:x:0:0::/:
-1:x:0:0::/:
badnum:x:zero:0::/:
badgid:x:5:::/:
nohome:x:1002:1002::relative:
short:x
`

const testGroup = `root:x:0:
bin:x:1:root,app
staff:x:50:app
app:x:1001:
wheel:x:10:other
bad:x:x:
0:x:77:
`

func testRoot(t *testing.T, files map[string]string) *rootfs.Root {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestG2_User(t *testing.T) {
	t.Parallel()
	root := testRoot(t, map[string]string{"passwd": testPasswd, "group": testGroup})
	for _, c := range []struct {
		name, spec string
		want       User
	}{
		{"empty is root with its groups", "", User{0, 0, []uint32{0, 1}, "/root", "root"}},
		{"two numbers bring no groups", "0:0", User{0, 0, []uint32{0}, "/root", "root"}},
		{"a name brings its groups", "app", User{1000, 1001, []uint32{1, 50, 1001}, "/home/app", "app"}},
		{"a name with members of root", "root", User{0, 0, []uint32{0, 1}, "/root", "root"}},
		{"a uid brings the groups of its entry", "1000", User{1000, 1001, []uint32{1, 50, 1001}, "/home/app", "app"}},
		{"an explicit group replaces all", "app:wheel", User{1000, 10, []uint32{10}, "/home/app", "app"}},
		{"an explicit group number", "app:99", User{1000, 99, []uint32{99}, "/home/app", "app"}},
		{"two numbers are taken as they are", "1000:99", User{1000, 99, []uint32{99}, "/home/app", "app"}},
		{"an unknown uid has group 0", "4000", User{4000, 0, []uint32{0}, "/", ""}},
		{"an unknown uid with a group name", "4000:staff", User{4000, 50, []uint32{50}, "/", ""}},
		{"a number is never a name", "1234", User{1234, 0, []uint32{0}, "/", ""}},
		{"a group number is never a name", "app:0", User{1000, 0, []uint32{0}, "/home/app", "app"}},
		{"an empty group is none", "app:", User{1000, 1001, []uint32{1, 50, 1001}, "/home/app", "app"}},
		{"an empty user is root", ":staff", User{0, 50, []uint32{50}, "/root", "root"}},
		{"a relative home is not used", "nohome", User{1002, 1002, []uint32{1002}, "/", "nohome"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Lookup(root, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) || got.Home != c.want.Home || got.Name != c.want.Name {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestHostileH08_NoNumberBecomesRoot(t *testing.T) {
	t.Parallel()
	root := testRoot(t, map[string]string{"passwd": testPasswd, "group": testGroup})
	for _, c := range []struct {
		spec string
		want error
	}{
		{"4294967296", ErrInvalid}, {"2147483648", ErrInvalid}, {"-1", ErrInvalid}, {"0x0", ErrInvalid}, {"1:-1", ErrInvalid},
		{"+0", ErrInvalid}, {"0b0", ErrInvalid}, {"99999999999999999999999", ErrInvalid}, {"app:4294967296", ErrInvalid},
		{"badnum", ErrInvalid}, {"badgid", ErrInvalid}, {"short", ErrInvalid}, {"app:bad", ErrInvalid},
		{"ghost", ErrUnknown}, {"app:ghost", ErrUnknown}, {"+nis", ErrUnknown}, {"# comment", ErrUnknown},
	} {
		if _, err := Lookup(root, c.spec); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.spec) {
			t.Errorf("Lookup(%q) = %v, want %v naming it", c.spec, err, c.want)
		}
		if _, _, err := Owner(root, c.spec); !errors.Is(err, c.want) {
			t.Errorf("Owner(%q) = %v, want %v", c.spec, err, c.want)
		}
	}
}

func TestB48_Owner(t *testing.T) {
	t.Parallel()
	full := testRoot(t, map[string]string{"passwd": testPasswd, "group": testGroup})
	for _, c := range []struct {
		name, spec string
		root       *rootfs.Root
		uid, gid   uint32
	}{
		{"a number is both", "5", full, 5, 5},
		{"a number is both although it has an entry", "1000", full, 1000, 1000},
		{"a name brings its primary group", "app", full, 1000, 1001},
		{"user and group", "app:staff", full, 1000, 50},
		{"numbers", "5:6", full, 5, 6},
		{"only a group", ":staff", full, 0, 50},
		{"root without files", "root", nil, 0, 0},
		{"root:root without files", "root:root", nil, 0, 0},
		{"numbers without files", "7:8", nil, 7, 8},
		{"root where passwd is missing", "root", testRoot(t, nil), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			uid, gid, err := Owner(c.root, c.spec)
			if err != nil || uid != c.uid || gid != c.gid {
				t.Errorf("Owner(%q) = %d, %d, %v; want %d, %d", c.spec, uid, gid, err, c.uid, c.gid)
			}
		})
	}
	if _, _, err := Owner(nil, "app"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a name without files: %v", err)
	}
}

func TestHostileH35_HostileFiles(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(outside, []byte("evil:x:0:0::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(file string) error
		want error
	}{
		{"a link out of the root is resolved inside", func(f string) error { return os.Symlink(outside, f) }, ErrUnknown},
		{"a FIFO is not opened", func(f string) error { return unix.Mkfifo(f, 0o644) }, rootfs.ErrNotRegular},
		{"a directory", func(f string) error { return os.Mkdir(f, 0o755) }, rootfs.ErrNotRegular},
		{"4 GiB", func(f string) error {
			if err := os.WriteFile(f, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(f, 4<<30)
		}, ErrTooLarge},
		{"one endless line", func(f string) error {
			return os.WriteFile(f, []byte(strings.Repeat("x", maxLine+1)), 0o644)
		}, ErrTooLarge},
		{"many lines", func(f string) error {
			return os.WriteFile(f, []byte(strings.Repeat("u:x:1:1::/:\n", maxFile/12-1)), 0o644)
		}, ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := testRoot(t, nil)
			if err := c.make(filepath.Join(root.File().Name(), "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			if _, err := Lookup(root, "evil"); !errors.Is(err, c.want) {
				t.Errorf("Lookup: %v, want %v", err, c.want)
			}
			if u, err := Lookup(root, ""); err != nil || u.UID != 0 {
				t.Errorf("the empty user needs no file: %+v, %v", u, err)
			}
		})
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("app:staff", testPasswd, testGroup)
	f.Add("0x0", "0x0:x:0:0::/:\n", "")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		root := testRoot(t, map[string]string{"passwd": passwd, "group": group})
		u, err := Lookup(root, spec)
		if err != nil {
			return
		}
		if u.UID > maxID || u.GID > maxID || !slices.Contains(u.Groups, u.GID) || !strings.HasPrefix(u.Home, "/") {
			t.Errorf("Lookup(%q) = %+v", spec, u)
		}
	})
}
