package buildcontext

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fifo(tb testing.TB, p string) {
	tb.Helper()
	check(tb, unix.Mkfifo(p, 0o644))
}

func TestI6_WhatIsInTheDigestAndWhatIsOut(t *testing.T) {
	t.Parallel()
	xattr := func(name string) func(string) error {
		return func(d string) error {
			err := unix.Setxattr(filepath.Join(d, "s/f"), name, []byte("v"), 0)
			if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
				return errSkip
			}
			return err
		}
	}
	for _, c := range []struct {
		rule   string
		change func(d string) error
		same   bool
	}{
		{"content", func(d string) error { return os.WriteFile(filepath.Join(d, "s/f"), []byte("F"), 0o644) }, false},
		{"size", func(d string) error { return os.Truncate(filepath.Join(d, "s/f"), 0) }, false},
		{"mode", func(d string) error { return os.Chmod(filepath.Join(d, "s/f"), 0o755) }, false},
		{"setuid", func(d string) error { return unix.Chmod(filepath.Join(d, "s/f"), 0o4644) }, false},
		{"name inside a directory", func(d string) error { return os.Rename(filepath.Join(d, "s/f"), filepath.Join(d, "s/g")) }, false},
		{"link target", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "s/l")), os.Symlink("other", filepath.Join(d, "s/l")))
		}, false},
		{"type", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "s/f")), unix.Mkfifo(filepath.Join(d, "s/f"), 0o644))
		}, false},
		{"mode of a directory inside", func(d string) error { return os.Chmod(filepath.Join(d, "s/d"), 0o700) }, false},
		{"mode of the source directory", func(d string) error { return os.Chmod(filepath.Join(d, "s"), 0o700) }, false},
		{"an empty directory", func(d string) error { return os.Mkdir(filepath.Join(d, "s/empty"), 0o755) }, false},
		{"a file moved between directories", func(d string) error { return os.Rename(filepath.Join(d, "s/d/f"), filepath.Join(d, "s/h")) }, false},
		{"xattr user.", xattr("user.x"), false},
		{"xattr com.apple.", xattr("user.com.apple.x"), true},
		{"xattr of an overlay", xattr("trusted.overlay.x"), true},
		{"xattr security.", xattr("security.x"), true},
		{"file capability", func(d string) error {
			vfsCap := "\x01\x00\x00\x02\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			if unix.Setxattr(filepath.Join(d, "s/f"), "security.capability", []byte(vfsCap), 0) != nil {
				return errSkip
			}
			return nil
		}, false},
		{"mtime", func(d string) error { return os.Chtimes(filepath.Join(d, "s/f"), time.Time{}, time.Unix(1, 5)) }, true},
		{"inode", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "s/f")), os.WriteFile(filepath.Join(d, "s/f"), []byte("f"), 0o644))
		}, true},
		{"a hard link more", func(d string) error { return os.Link(filepath.Join(d, "s/f"), filepath.Join(d, "x")) }, true},
		{"the name of a merged directory", func(d string) error {
			return errors.Join(os.Rename(filepath.Join(d, "s"), filepath.Join(d, "t")), os.Symlink("t", filepath.Join(d, "s")))
		}, true},
		{"what is beside the source", func(d string) error { return os.WriteFile(filepath.Join(d, "y"), nil, 0o644) }, true},
		{"a socket", func(d string) error { sock(t, filepath.Join(d, "s/sock")); return nil }, true},
		{"owner, of a context", func(d string) error {
			if os.Getuid() != 0 {
				return errSkip
			}
			return os.Chown(filepath.Join(d, "s/f"), 7, 7)
		}, true},
	} {
		for _, cached := range []bool{false, true} {
			dir := fill(t, t.TempDir(), "s/f = f", "s/d/f", "s/l -> target")
			opt := Options{Now: later}
			if cached {
				opt.StatCache = filepath.Join(t.TempDir(), "cache")
			}
			before := onceOver(t, dir, opt, "s")
			if onceOver(t, dir, opt, "s").Digest != before.Digest {
				t.Errorf("%s: not stable", c.rule)
			}
			err := c.change(dir)
			if errors.Is(err, errSkip) {
				t.Logf("%s: not possible here", c.rule)
				continue
			}
			check(t, err)
			if after := onceOver(t, dir, opt, "s"); (after.Digest == before.Digest) != c.same {
				t.Errorf("%s (cached %v): same digest %v, want %v", c.rule, cached, !c.same, c.same)
			}
		}
	}
}

var errSkip = errors.New("skip")

// onceOver is what one build does.
func onceOver(tb testing.TB, dir string, opt Options, paths ...string) SelectionDigest {
	tb.Helper()
	tree, err := Open(dir, opt)
	check(tb, err)
	d := digestOf(tb, tree, Query{Paths: paths})
	check(tb, tree.Close())
	return d
}

func TestI6_OwnerCountsInAStage(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to chown")
	}
	dir := fill(t, t.TempDir(), "a")
	before := onceOver(t, dir, Options{Owner: true}, "a")
	check(t, os.Chown(filepath.Join(dir, "a"), 3, 4))
	if onceOver(t, dir, Options{Owner: true}, "a").Digest == before.Digest {
		t.Error("owner is not in the digest")
	}
}

func TestI6_RootHeaderIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a")
	before := onceOver(t, dir, Options{}, ".")
	check(t, os.Chmod(dir, 0o700))
	if onceOver(t, dir, Options{}, ".").Digest != before.Digest {
		t.Error("mode of the root is in the digest")
	}
}

func TestI6_NamedLinkIsWhatItLeadsTo(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "v1/x = one", "v2/x = two", "cur -> v1")
	before := onceOver(t, dir, Options{}, "cur/x")
	check(t, os.Remove(filepath.Join(dir, "cur")))
	fill(t, dir, "cur -> v2")
	if onceOver(t, dir, Options{}, "cur/x").Digest == before.Digest {
		t.Error("digest is of the link, not of what it leads to")
	}
}

func TestI6_SelectionsThatDiffer(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a = x", "b = x", "d/a = x", "e/", "d2/a = x")
	tree := open(t, dir, Options{})
	seen := map[string]string{}
	for _, q := range []Query{
		{Paths: []string{"a"}}, {Paths: []string{"b"}}, {Paths: []string{"a", "b"}}, {Paths: []string{"b", "a"}},
		{Paths: []string{"d"}}, {Paths: []string{"e"}}, {Paths: []string{"*.none"}}, {Paths: []string{"."}},
		{Paths: []string{"d/a"}, Parents: true}, {Paths: []string{"d2/a"}, Parents: true}, {Paths: []string{"d"}, Parents: true},
		{Paths: []string{"."}, Excludes: []string{"d2/a"}},
	} {
		key := fmt.Sprint(q)
		got := string(digestOf(t, tree, q).Digest)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have one digest", key, other)
		}
		seen[got] = key
	}
	if sum(t, tree, "*.none").Digest != sum(t, tree, "zz*").Digest {
		t.Error("wildcards that match nothing differ")
	}
	if sum(t, tree, "d").Digest != sum(t, tree, "d2").Digest {
		t.Error("equal directories that are merged differ by their name")
	}
}

func TestI6_DigestIsThatOfTheFilteredTree(t *testing.T) {
	t.Parallel()
	files := []string{"a", "d/x", "d/y.log", "n/m/o"}
	full := open(t, fill(t, t.TempDir(), files...), ignoring(t, "**/*.log", "n"))
	less := open(t, fill(t, t.TempDir(), "a", "d/x"), Options{})
	if sum(t, full, ".").Digest != sum(t, less, ".").Digest {
		t.Error("ignored files are in the digest")
	}
}

func TestI6_FilesAreListed(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "s/f", "s/d/g", "r")
	tree := open(t, dir, Options{})
	paths := func(q Query) string {
		var out []string
		for _, f := range digestOf(t, tree, q).Files {
			out = append(out, f.Path)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{Paths: []string{"s"}}, "/ d/ d/g f"},
		{Query{Paths: []string{"r"}}, "r"},
		{Query{Paths: []string{"s", "r"}}, "r s/ s/d/ s/d/g s/f"},
		{Query{Paths: []string{"s/d"}, Parents: true}, "s/d/ s/d/g"},
	} {
		if got := paths(c.q); got != c.want {
			t.Errorf("%v: %q want %q", c.q, got, c.want)
		}
	}
	a := sum(t, tree, "s")
	check(t, os.WriteFile(filepath.Join(dir, "s/f"), []byte("new"), 0o644))
	b := sum(t, tree, "s")
	for i := range a.Files {
		if changed := a.Files[i].Digest != b.Files[i].Digest; changed != (a.Files[i].Path == "f") {
			t.Errorf("%s changed: %v", a.Files[i].Path, changed)
		}
	}
}

func TestC6_UnchangedFilesAreNotReadAgain(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "d/b", "d/c", "l -> a")
	opt := Options{StatCache: filepath.Join(t.TempDir(), "sub", "cache"), Now: later}
	reads := func() int64 {
		tree, err := Open(dir, opt)
		check(t, err)
		sum(t, tree, ".")
		n := tree.hashed.Load()
		check(t, tree.Close())
		return n
	}
	if n := reads(); n != 3 {
		t.Errorf("first build read %d files", n)
	}
	before, err := os.Stat(opt.StatCache)
	check(t, err)
	if n := reads(); n != 0 {
		t.Errorf("second build read %d files", n)
	}
	after, err := os.Stat(opt.StatCache)
	check(t, err)
	if !os.SameFile(before, after) {
		t.Error("a build that learned nothing wrote the cache")
	}
	check(t, os.WriteFile(filepath.Join(dir, "d/c"), []byte("new"), 0o644))
	if n := reads(); n != 1 {
		t.Errorf("after one edit: read %d files", n)
	}
	if n := reads(); n != 0 {
		t.Errorf("after that: read %d files", n)
	}
	check(t, os.WriteFile(opt.StatCache, []byte("torn"), 0o600))
	if n := reads(); n != 3 {
		t.Errorf("with a torn cache: read %d files", n)
	}
}

func TestC6_EditWithSizeAndMtimeKeptIsSeen(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a = one")
	opt := Options{StatCache: filepath.Join(t.TempDir(), "cache"), Now: later}
	p := filepath.Join(dir, "a")
	st, err := os.Stat(p)
	check(t, err)
	before := onceOver(t, dir, opt, "a")
	var old unix.Stat_t
	check(t, unix.Stat(p, &old))
	for { // until the file system's clock has ticked: the change time must differ
		check(t, os.WriteFile(p, []byte("two"), 0o644))
		check(t, os.Chtimes(p, time.Time{}, st.ModTime()))
		var now unix.Stat_t
		check(t, unix.Stat(p, &now))
		if now.Ctim != old.Ctim {
			break
		}
	}
	if onceOver(t, dir, opt, "a").Digest == before.Digest {
		t.Error("the edit was not seen")
	}
}

func TestC6_RacyEntriesAreHashedAgain(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a = one")
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(dir, "a"), &st))
	changed := asTime(st.Ctim)
	for _, c := range []struct {
		rule   string
		hashed time.Time
		reads  int64 // of the second build
	}{
		{"hashed in the same tick", changed, 1},
		{"hashed a second later", changed.Add(time.Second), 1},
		{"hashed before the change: the clock was set back", changed.Add(-time.Hour), 1},
		{"hashed three seconds later", changed.Add(3 * time.Second), 0},
	} {
		opt := Options{StatCache: filepath.Join(t.TempDir(), "cache"), Now: func() time.Time { return c.hashed }}
		onceOver(t, dir, opt, "a")
		tree := open(t, dir, opt)
		sum(t, tree, "a")
		if got := tree.hashed.Load(); got != c.reads {
			t.Errorf("%s: %d reads, want %d", c.rule, got, c.reads)
		}
	}
}

func TestStatCache_EntriesNotOfUseAreDroppedInTheEnd(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "b")
	day := 1
	opt := Options{StatCache: filepath.Join(t.TempDir(), "cache"), Now: func() time.Time { return later().AddDate(0, 0, day) }}
	entries := func() int { return readStatFile(opt.StatCache).len() }
	onceOver(t, dir, opt, "a", "b")
	if n := entries(); n != 2 {
		t.Fatalf("%d entries", n)
	}
	for day = 5; day <= 50; day += 5 {
		onceOver(t, dir, opt, "a")
	}
	if n := entries(); n != 1 {
		t.Errorf("%d entries in the end, want that of a", n)
	}
	tree := open(t, dir, opt)
	sum(t, tree, "a")
	if tree.hashed.Load() != 0 {
		t.Error("the entry in use was dropped")
	}
}

func TestStatCache_TwoWritersKeepEachOthersEntries(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "b")
	opt := Options{StatCache: filepath.Join(t.TempDir(), "cache"), Now: later}
	one, err := Open(dir, opt)
	check(t, err)
	two, err := Open(dir, opt)
	check(t, err)
	sum(t, one, "a")
	sum(t, two, "b")
	check(t, one.Close())
	check(t, two.Close())
	tree := open(t, dir, opt)
	sum(t, tree, "a", "b")
	if n := tree.hashed.Load(); n != 0 {
		t.Errorf("%d files read again", n)
	}
}

func TestStatCache_FindsEveryEntryAndNoOther(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "c")
	m := map[fingerprint]record{}
	for i := range 5000 {
		f := fingerprintOf(&Info{Ino: uint64(i)})
		if i%100 == 0 {
			f = fingerprint{0: byte(i / 1000), 15: byte(i / 100)} // bunched together, some with one head
		}
		m[f] = record{digest: [32]byte{byte(i), byte(i >> 8)}, day: 9}
	}
	check(t, writeStatFile(name, m))
	entries := readStatFile(name)
	for f, r := range m {
		i, ok := entries.find(f)
		if !ok {
			t.Fatalf("%x is not found", f)
		}
		if gotF, got := entries.at(i); gotF != f || got != r {
			t.Fatalf("%x: %x %v", f, gotF, got)
		}
	}
	for i := range 5000 {
		if _, ok := entries.find(fingerprintOf(&Info{Ino: uint64(i), Dev: 1})); ok {
			t.Fatal("found what is not there")
		}
	}
	data, err := os.ReadFile(name)
	check(t, err)
	for _, cut := range []int{0, 1, len(statMagic), len(data) / 2, len(data) - 1} {
		check(t, os.WriteFile(name, data[:cut], 0o600))
		if readStatFile(name).len() != 0 {
			t.Errorf("cut at %d is read", cut)
		}
	}
	data[len(data)/2] ^= 1
	check(t, os.WriteFile(name, data, 0o600))
	if readStatFile(name).len() != 0 {
		t.Error("a flipped bit is read")
	}
}

func TestI6_NestingCounts(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, files := range []string{"d/a d/z", "d/a z", "d/a/z", "d/ a z", "d/a e/z", "d/a/ z", "d/e/a z", "d/e/a d/z"} {
		dir := t.TempDir()
		for f := range strings.FieldsSeq(files) {
			if !strings.HasSuffix(f, "/") {
				f += " = x"
			}
			fill(t, dir, f)
		}
		got := string(onceOver(t, dir, Options{}, ".").Digest)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have one digest", files, other)
		}
		seen[got] = files
	}
}
