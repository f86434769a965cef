package owners

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory of a file, a directory, a link and a FIFO, and opens it.
func tree(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.Symlink("file", filepath.Join(dir, "link")), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	f, openErr := os.Open(dir)
	if err := errors.Join(err, openErr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := Record(int(f.Fd()), Owner{}); errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal("the file system for temporary files has no attributes of users")
	}
	return f
}

func owner(t *testing.T, dir *os.File, name string) Owner {
	t.Helper()
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		err = Recorded().FixAt(int(dir.Fd()), name, &st)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return Owner{st.Uid, st.Gid}
}

func TestG8_OwnersAreRecordedOfEveryKindOfFile(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	fd, k := int(dir.Fd()), Recorded()
	for i, name := range []string{"file", "dir", "link", "fifo"} {
		if got := owner(t, dir, name); got != (Owner{}) {
			t.Errorf("%s without a record: %s", name, got)
		}
		for _, want := range []Owner{{1000 + uint32(i), 7}, {4294967294, 0}, {0, 50}, {}} {
			if err := k.SetAt(fd, name, int(want.UID), int(want.GID)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := owner(t, dir, name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	var st unix.Stat_t
	if err := errors.Join(k.Set(fd, 3, 4), unix.Fstat(fd, &st), k.Fix(fd, &st)); err != nil || st.Uid != 3 || st.Gid != 4 {
		t.Errorf("the open directory: %d:%d, %v", st.Uid, st.Gid, err)
	}
	// The kernel's own.
	if err := errors.Join((Keeper{}).SetAt(fd, "link", os.Getuid(), os.Getgid()), unix.Fstat(fd, &st), (Keeper{}).Fix(fd, &st)); err != nil || int(st.Uid) != os.Getuid() {
		t.Errorf("kept by the kernel: %d, %v", st.Uid, err)
	}
}

// Hundreds of links of one owner fit into what file systems give, and one that is too much is an error, not forgotten.
func TestG8_OwnersOfManyLinks(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	fd := int(dir.Fd())
	name := func(i int) string { return fmt.Sprintf("link%04d", i) }
	for i := range 300 {
		if err := errors.Join(unix.Symlinkat("x", fd, name(i)), Recorded().SetAt(fd, name(i), 1000, 1000)); err != nil {
			t.Fatalf("link %d: %v", i, err)
		}
	}
	if err := Recorded().SetAt(fd, name(7), 9, 9); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]Owner{0: {1000, 1000}, 7: {9, 9}, 299: {1000, 1000}} {
		if got := owner(t, dir, name(i)); got != want {
			t.Errorf("%s: %s, want %s", name(i), got, want)
		}
	}
	var err error
	for i := 300; i < 20_000 && err == nil; i++ {
		err = RecordLink(fd, name(i), Owner{1, 1})
	}
	if err == nil {
		t.Error("records without an end")
	}
}

func TestWithLink(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, name string
		owner      Owner
		want       string
	}{
		{"", "a", Owner{1, 2}, "1:2/a"},
		{"1:2/a", "a", Owner{1, 2}, "1:2/a"},
		{"1:2/a", "b", Owner{1, 2}, "1:2/a/b"},
		{"1:2/a/b", "a", Owner{3, 4}, "1:2/b\x003:4/a"},
		{"1:2/a\x003:4/b", "a", Owner{3, 4}, "3:4/b/a"},
		{"1:2/a", "a", Owner{}, ""},
		{"1:2/a/ab", "b", Owner{}, "1:2/a/ab"},
	} {
		if got := withLink(tt.text, tt.name, tt.owner); got != tt.want {
			t.Errorf("%q with %s of %s: %q, want %q", tt.text, tt.name, tt.owner, got, tt.want)
		}
	}
}

// A step may write what it likes into the attributes: that is no owner.
func TestG8_RecordsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	for _, text := range []string{"", "1", "1:", ":1", "1:2:3", "-1:0", "4294967296:0", "1:2\n", strings.Repeat("1", 100) + ":0", strings.Repeat("9", 4000)} {
		f, err := os.Open(filepath.Join(dir.Name(), "file"))
		if err == nil {
			err = unix.Fsetxattr(int(f.Fd()), ownAttr, []byte(text), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		if o, err := Of(int(f.Fd())); !errors.Is(err, errRecord) {
			t.Errorf("%.20q is %s, %v", text, o, err)
		}
		_ = f.Close()
	}
	for _, text := range []string{"\x00\x00", "x/link", "1:2/link2/\x00/", "1:2"} {
		if err := unix.Fsetxattr(int(dir.Fd()), linksAttr, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if o, err := OfLink(int(dir.Fd()), "link"); o != (Owner{}) || (err != nil) != (text == "x/link") {
			t.Errorf("%q: %s, %v", text, o, err)
		}
	}
}

// What a step made is its user's, in setgid directories the group's; what the overlay copied up, and what was given away, is not.
func TestG8_NewFilesBelongToWhoMadeThem(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	base := dir.Name()
	deep := base + "/dir"
	for range 200 {
		deep += "/d"
	}
	err := errors.Join(os.MkdirAll(deep, 0o755), os.Mkdir(base+"/shared", 0o755), os.Chmod(base+"/shared", 0o755|os.ModeSetgid),
		os.WriteFile(base+"/shared/new", nil, 0o600), os.WriteFile(base+"/given", nil, 0o600), os.WriteFile(base+"/old", nil, 0o600))
	shared, openErr := os.Open(base + "/shared")
	if err := errors.Join(err, openErr); err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	k := Recorded()
	err = errors.Join(k.Set(int(shared.Fd()), 0, 50), k.SetAt(int(dir.Fd()), "given", 5, 5), unix.Setxattr(base+"/old", "user.overlay.origin", []byte("x"), 0))
	claimed, openErr := os.Open(base)
	if err := errors.Join(err, openErr, Claim(claimed, Owner{1000, 1001})); err != nil {
		t.Fatal(err)
	}
	bottom, err := os.Open(filepath.Dir(deep))
	if err != nil {
		t.Fatal(err)
	}
	defer bottom.Close()
	me := Owner{1000, 1001}
	for _, tt := range []struct {
		dir  *os.File
		name string
		want Owner
	}{
		{dir, "file", me}, {dir, "link", me}, {dir, "fifo", me}, {dir, "dir", me}, {bottom, "d", me},
		{shared, "new", Owner{1000, 50}}, {dir, "shared", Owner{0, 50}}, {dir, "given", Owner{5, 5}}, {dir, "old", Owner{}},
	} {
		if got := owner(t, tt.dir, tt.name); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
