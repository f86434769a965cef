package buildcontext

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

func TestHostileH11_LinksResolveInside(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "shadow -> /etc/shadow", "up -> ../../../../../../etc/passwd", "proc -> /proc/self/root/etc/passwd",
		"self -> self", "d/l -> /etc/passwd", "root -> /proc/self/cwd")
	tree := open(t, dir, Options{})
	for _, p := range []string{"shadow", "up", "proc", "self", "root/x", "d/l"} {
		if _, err := tree.Select(t.Context(), Query{Paths: []string{p}, FollowNamed: true}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", p, err)
		}
	}
	equal(t, walked(t, tree, sel(t, tree, Query{Paths: []string{"d"}})), []string{"/", "l -> /etc/passwd"})
}

func TestHostileH12_SwappedDirectoriesNeverLeadOut(t *testing.T) {
	t.Parallel()
	outside := fill(t, t.TempDir(), "d/f = CANARY", "f = CANARY")
	dir := fill(t, t.TempDir(), "a/d/f = legal", "a/f = legal")
	check(t, os.Symlink(outside, filepath.Join(dir, "b")))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "a"), unix.AT_FDCWD, filepath.Join(dir, "b"), unix.RENAME_EXCHANGE)
		}
	})
	defer wg.Wait()
	defer stop.Store(true)
	tree := open(t, dir, Options{})
	good := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		s, err := tree.Select(t.Context(), Query{Paths: []string{"a/d", "*/f"}, FollowNamed: true})
		if err != nil {
			continue
		}
		if d, err := tree.Digest(t.Context(), s, nil); err == nil && len(d.Files) > 0 {
			good++
		}
		for _, src := range s.Sources {
			for _, m := range src.Matches {
				_ = tree.Walk(t.Context(), m, nil, func(e Entry) error {
					if !e.Info.IsRegular() {
						return nil
					}
					f, err := e.Open()
					if err != nil {
						return err
					}
					defer f.Close()
					if data, _ := io.ReadAll(f); string(data) != "legal" {
						t.Errorf("read %q through %s", data, e.Path)
					}
					return nil
				})
			}
		}
	}
	t.Logf("%d selections digested between swaps", good)
}

func TestHostileH13_FileChangedWhileRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule   string
		change func(p string) error
	}{
		{"grows", func(p string) error {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			return errors.Join(err, f.Close())
		}},
		{"shrinks", func(p string) error { return os.Truncate(p, 0) }},
		{"rewritten", func(p string) error { return os.WriteFile(p, []byte("FFFFFF"), 0o644) }},
		{"mode", func(p string) error { return os.Chmod(p, 0o600) }},
		{"replaced by rename", func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("d/file"), 0o644), os.Rename(p+"2", p))
		}},
		{"replaced by a link", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) }},
		{"replaced by a FIFO", func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) }},
		{"removed", os.Remove},
	} {
		dir := fill(t, t.TempDir(), "d/file")
		p := filepath.Join(dir, "d/file")
		tree := open(t, dir, Options{})
		s := sel(t, tree, Query{Paths: []string{"d"}})
		d, err := tree.Digest(t.Context(), s, nil)
		check(t, err)
		if err := tree.Unchanged(t.Context(), s, nil, d); err != nil {
			t.Errorf("%s: before the change: %v", c.rule, err)
		}
		waitTick(t, p)
		walk := func(fn func(e Entry) error) error {
			return tree.Walk(t.Context(), s.Sources[0].Matches[0], nil, func(e Entry) error {
				if e.Rel != "file" {
					return nil
				}
				return fn(e)
			})
		}
		var opened, read error
		check(t, walk(func(e Entry) error {
			f, err := e.Open()
			check(t, err)
			defer f.Close()
			check(t, c.change(p))
			read = e.CheckUnchanged(f)
			var again *os.File
			if again, opened = e.Open(); opened == nil {
				again.Close()
			}
			return nil
		}))
		if !errors.Is(opened, ErrChanged) {
			t.Errorf("%s: opening: %v", c.rule, opened)
		}
		if !errors.Is(read, ErrChanged) {
			t.Errorf("%s: after reading: %v", c.rule, read)
		}
		if err := tree.Unchanged(t.Context(), s, nil, d); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: after the copy: %v", c.rule, err)
		}
	}
}

// waitTick returns when a change would get a change time that differs from that of p.
func waitTick(tb testing.TB, p string) {
	tb.Helper()
	var st, now unix.Stat_t
	check(tb, unix.Lstat(p, &st))
	probe := filepath.Join(tb.TempDir(), "probe")
	for {
		check(tb, os.WriteFile(probe, nil, 0o644))
		check(tb, unix.Lstat(probe, &now))
		if now.Ctim != st.Ctim {
			return
		}
	}
}

func TestHostileH13_AnIgnoredFileDoesNotCountAsAChange(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "d/file")
	tree := open(t, dir, ignoring(t, "**/*.log"))
	s := sel(t, tree, Query{Paths: []string{"d"}})
	d, err := tree.Digest(t.Context(), s, nil)
	check(t, err)
	waitTick(t, filepath.Join(dir, "d/file"))
	fill(t, dir, "d/x.log")
	check(t, tree.Unchanged(t.Context(), s, nil, d))
	fill(t, dir, "d/new")
	if err := tree.Unchanged(t.Context(), s, nil, d); !errors.Is(err, ErrChanged) {
		t.Errorf("a new file: %v", err)
	}
}

func TestHostileH14_SpecialFilesAreNeverOpened(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "d/a")
	fifo(t, filepath.Join(dir, "d/fifo"))
	sock(t, filepath.Join(dir, "d/sock"))
	if unix.Mknod(filepath.Join(dir, "d/tty"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 0))) != nil {
		t.Log("no device nodes here")
	}
	tree := open(t, dir, Options{})
	done := make(chan SelectionDigest, 1)
	go func() { done <- sum(t, tree, "d", "d/fifo") }()
	select {
	case d := <-done:
		if len(d.Files) < 3 {
			t.Errorf("%v", d.Files)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("hangs")
	}
	check(t, tree.Walk(t.Context(), Match{Path: "/d/fifo"}, nil, func(e Entry) error {
		if _, err := e.Open(); err == nil {
			t.Error("a FIFO was opened")
		}
		return nil
	}))
}

func TestHostileH15_NamesAndDepth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{strings.Repeat("n", 255), "new\nline", "esc\x1b[31m", "bad\xff\xfeutf8", "-rf", ".wh.x", "...", " ", "*", "[", `\`}
	for _, n := range names {
		fill(t, dir, n+" = x")
	}
	tree := open(t, dir, Options{})
	var got []string
	check(t, tree.Walk(t.Context(), Match{Path: "/"}, nil, func(e Entry) error {
		got = append(got, e.Rel)
		return nil
	}))
	for _, n := range names {
		if !strings.Contains(strings.Join(got, "\x00")+"\x00", n+"\x00") {
			t.Errorf("%q is not visited", n)
		}
	}

	deep := t.TempDir()
	const levels = 3000
	makeDeep(t, deep, "dd", levels)
	for _, c := range []struct {
		rules []string
		want  int
	}{{nil, levels + 2}, {[]string{"dd", "!**/leaf"}, levels + 2}, {[]string{"dd"}, 1}} {
		var before unix.Rlimit
		check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
		tree := open(t, deep, ignoring(t, c.rules...))
		n, most := 0, 0
		check(t, tree.Walk(t.Context(), Match{Path: "/"}, nil, func(e Entry) error {
			if n++; e.Name == "leaf" {
				fds, err := os.ReadDir("/proc/self/fd")
				check(t, err)
				most = len(fds)
				f, err := e.Open()
				check(t, err)
				f.Close()
			}
			return nil
		}))
		if n != c.want || most > 200 {
			t.Errorf("rules %q: visited %d entries, want %d; %d descriptors", c.rules, n, c.want, most)
		}
		sum(t, tree, ".")
	}
}

// makeDeep makes a chain of directories longer than PATH_MAX with a file at its end.
func makeDeep(t *testing.T, dir, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	for range levels {
		check(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		check(t, err)
		unix.Close(fd)
		fd = next
	}
	leaf, err := unix.Openat(fd, "leaf", unix.O_CREAT|unix.O_WRONLY, 0o644)
	check(t, err)
	unix.Close(leaf)
	unix.Close(fd)
}

func TestHostileH16_SparseFileIsRefusedBeforeReading(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a")
	if err := os.Truncate(filepath.Join(dir, "a"), 8<<40); err != nil {
		t.Skipf("no file of 8 TiB here: %v", err)
	}
	tree := open(t, dir, Options{})
	_, err := tree.Digest(t.Context(), sel(t, tree, Query{Paths: []string{"a"}}), nil)
	if !errors.Is(err, ErrTooLarge) || tree.hashed.Load() != 0 {
		t.Error(err)
	}
}

func TestHostileH16_HardLinksAreRecognised(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a")
	check(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	tree := open(t, dir, Options{})
	s := sel(t, tree, Query{Paths: []string{"a", "b"}})
	a, b := s.Sources[0].Matches[0].Info, s.Sources[1].Matches[0].Info
	if a.Ino != b.Ino || a.Dev != b.Dev || a.Nlink != 2 {
		t.Errorf("%+v %+v", a, b)
	}
}

func TestHostileH17_UnreadableIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	for _, c := range []struct{ unreadable, rules string }{{"d/f", ""}, {"d", ""}} {
		dir := fill(t, t.TempDir(), "d/f")
		check(t, os.Chmod(filepath.Join(dir, c.unreadable), 0))
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, c.unreadable), 0o755) })
		tree := open(t, dir, Options{})
		_, err := tree.Digest(t.Context(), sel(t, tree, Query{Paths: []string{"."}}), nil)
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "/"+c.unreadable) {
			t.Error(err)
		}
		ignored := open(t, dir, ignoring(t, "d"))
		if _, err := ignored.Digest(t.Context(), sel(t, ignored, Query{Paths: []string{"."}}), nil); err != nil {
			t.Errorf("ignored: %v", err)
		}
	}
}

func TestHostileH20_CopyForABindMountShowsNothingIgnored(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "secret", "d/x", "d/.env", "d/l -> x", "n/keep", "n/drop")
	check(t, os.Chmod(filepath.Join(dir, "a"), 0o4755))
	check(t, os.Chmod(filepath.Join(dir, "d"), 0o500))
	old := time.Unix(1_000_000_000, 12345)
	check(t, os.Chtimes(filepath.Join(dir, "d"), old, old))
	check(t, os.Chtimes(filepath.Join(dir, "a"), old, old))
	fifo(t, filepath.Join(dir, "fifo"))
	xattrs := unix.Setxattr(filepath.Join(dir, "a"), "user.x", []byte("v"), 0) == nil
	tree := open(t, dir, ignoring(t, "secret", "**/.env", "n", "!n/keep"))
	out := t.TempDir()
	dst, err := rootfs.Open(out)
	check(t, err)
	defer dst.Close()
	s := sel(t, tree, Query{Paths: []string{"."}})
	check(t, tree.CopyTo(t.Context(), s.Sources[0].Matches[0], dst))

	copied := open(t, out, Options{})
	equal(t, walked(t, copied, sel(t, copied, Query{Paths: []string{"."}})), []string{"/", "a", "d/", "d/l -> x", "d/x", "fifo", "n/", "n/keep"})
	if !xattrs {
		t.Log("no user xattrs here")
	}
	if sum(t, copied, ".").Digest != sum(t, tree, ".").Digest {
		t.Error("the copy differs from the tree as read")
	}
	for _, p := range []string{"a", "d"} {
		st, err := os.Stat(filepath.Join(out, p))
		check(t, err)
		if !st.ModTime().Equal(old) {
			t.Errorf("%s: mtime %v", p, st.ModTime())
		}
	}
	check(t, os.WriteFile(filepath.Join(out, "a"), []byte("written in RUN"), 0))
	if data, _ := os.ReadFile(filepath.Join(dir, "a")); string(data) != "a" {
		t.Errorf("writing to the copy reached the context: %q", data)
	}
	check(t, os.Chmod(filepath.Join(dir, "d"), 0o755))
	check(t, os.Chmod(filepath.Join(out, "d"), 0o755))
}

func TestHostileH20_CopyOfOneFile(t *testing.T) {
	t.Parallel()
	tree := open(t, fill(t, t.TempDir(), "d/a = text"), Options{})
	out := t.TempDir()
	dst, err := rootfs.Open(out)
	check(t, err)
	defer dst.Close()
	check(t, tree.CopyTo(t.Context(), sel(t, tree, Query{Paths: []string{"d/a"}}).Sources[0].Matches[0], dst))
	if data, err := os.ReadFile(filepath.Join(out, "a")); err != nil || string(data) != "text" {
		t.Errorf("%q %v", data, err)
	}
}

func TestDigest_FirstErrorOfAWorkerEndsIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 300 {
		fill(t, dir, fmt.Sprintf("f%03d", i))
	}
	tree := open(t, dir, Options{Now: func() time.Time { return time.Now() }})
	s := sel(t, tree, Query{Paths: []string{"."}})
	check(t, os.Truncate(filepath.Join(dir, "f150"), maxFileBytes+1))
	if _, err := tree.Digest(t.Context(), s, nil); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestDigest_ParallelReadsFoldInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 400 {
		fill(t, dir, fmt.Sprintf("d%d/f%d = %s", i%7, i, strings.Repeat("x", (i*i*31)%20000)))
	}
	first := onceOver(t, dir, Options{}, ".")
	for range 5 {
		if onceOver(t, dir, Options{}, ".").Digest != first.Digest {
			t.Fatal("digest depends on the order of reading")
		}
	}
	opt := Options{StatCache: filepath.Join(t.TempDir(), "c"), Now: later}
	onceOver(t, dir, opt, "d1", "d2/f2")
	if onceOver(t, dir, opt, ".").Digest != first.Digest {
		t.Error("digest depends on what was remembered")
	}
}

// bigTree is a context of 100,000 files, or fewer with -short.
func bigTree(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for i := 0; i < n; i += 100 {
		d := filepath.Join(dir, fmt.Sprintf("pkg%d/dir%d", i/10000, i/100))
		check(b, os.MkdirAll(d, 0o755))
		for k := range 100 {
			check(b, os.WriteFile(filepath.Join(d, fmt.Sprintf("file%d.go", k)), []byte("x"), 0o644))
		}
	}
	return dir
}

func BenchmarkWarmSelectAndDigest(b *testing.B) {
	dir := bigTree(b)
	opt := Options{StatCache: filepath.Join(b.TempDir(), "cache"), Now: later}
	ig, err := ParseIgnore("f", []byte(manyPatterns(1000)))
	check(b, err)
	opt.Ignore = ig
	onceOver(b, dir, opt, ".")
	b.ReportAllocs()
	for b.Loop() {
		onceOver(b, dir, opt, ".")
	}
}

func BenchmarkWalk(b *testing.B) {
	tree := open(b, bigTree(b), Options{})
	b.ReportAllocs()
	for b.Loop() {
		check(b, tree.Walk(b.Context(), Match{Path: "/"}, nil, func(Entry) error { return nil }))
	}
}
