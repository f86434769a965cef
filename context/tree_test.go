package buildcontext

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill makes a tree from lines: "dir/" a directory, "a -> b" a link, "a = text"
// a file with content, "a" a file that contains its own name. Parents are made.
func fill(tb testing.TB, dir string, lines ...string) string {
	tb.Helper()
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, " -> ")
		file, content, hasContent := strings.Cut(name, " = ")
		p := filepath.Join(dir, file)
		if strings.HasSuffix(file, "/") {
			check(tb, os.MkdirAll(p, 0o755))
			continue
		}
		check(tb, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case isLink:
			check(tb, os.Symlink(target, p))
		case hasContent:
			check(tb, os.WriteFile(p, []byte(content), 0o644))
		default:
			check(tb, os.WriteFile(p, []byte(file), 0o644))
		}
	}
	return dir
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, dir string, opt Options) *Tree {
	tb.Helper()
	tree, err := Open(dir, opt)
	check(tb, err)
	tb.Cleanup(func() { _ = tree.Close() })
	return tree
}

func ignoring(tb testing.TB, lines ...string) Options {
	tb.Helper()
	ig, err := ParseIgnore(".dockerignore", []byte(strings.Join(lines, "\n")))
	check(tb, err)
	return Options{Ignore: ig, IgnoreFile: ".dockerignore"}
}

func sel(tb testing.TB, tree *Tree, q Query) *Selection {
	tb.Helper()
	q.FollowNamed = true
	s, err := tree.Select(tb.Context(), q)
	check(tb, err)
	return s
}

// walked lists what a walk of the selection visits, as DEST paths with kinds.
func walked(tb testing.TB, tree *Tree, s *Selection, excludes ...string) []string {
	tb.Helper()
	var out []string
	for _, src := range s.Sources {
		for _, m := range src.Matches {
			visit := func(e Entry) error {
				name := e.Rel
				if m.Parent != "" || m.base != "" {
					name = strings.Trim(m.Parent+"/"+m.Name+"/"+e.Rel, "/")
				}
				switch {
				case e.Info.IsDir():
					name += "/"
				case e.Info.IsSymlink():
					name += " -> " + e.Link
				}
				out = append(out, name)
				return nil
			}
			check(tb, tree.Walk(tb.Context(), m, excludes, visit))
		}
	}
	return out
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func sum(tb testing.TB, tree *Tree, paths ...string) SelectionDigest {
	tb.Helper()
	return digestOf(tb, tree, Query{Paths: paths})
}

func digestOf(tb testing.TB, tree *Tree, q Query) SelectionDigest {
	tb.Helper()
	d, err := tree.Digest(tb.Context(), sel(tb, tree, q), q.Excludes)
	check(tb, err)
	return d
}

func TestC1_DirectoryReachedThroughALink(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "real/a")
	check(t, os.Symlink("real", filepath.Join(dir, "link")))
	tree := open(t, filepath.Join(dir, "link"), Options{})
	equal(t, walked(t, tree, sel(t, tree, Query{Paths: []string{"."}})), []string{"/", "a"})
}

func TestC7_OwnersReadAsRootUnlessAsked(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to chown")
	}
	dir := fill(t, t.TempDir(), "a")
	check(t, os.Chown(filepath.Join(dir, "a"), 1234, 5678))
	for _, c := range []struct {
		owner    bool
		uid, gid uint32
	}{{false, 0, 0}, {true, 1234, 5678}} {
		i := sel(t, open(t, dir, Options{Owner: c.owner}), Query{Paths: []string{"a"}}).Sources[0].Matches[0].Info
		if i.UID != c.uid || i.GID != c.gid {
			t.Errorf("Owner %v: %d:%d", c.owner, i.UID, i.GID)
		}
	}
}

func TestWalk_OrderIsByComponent(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a.b", "a/z", "a/B", "a-", "a0/x", "\xffz", "A")
	tree := open(t, dir, Options{})
	equal(t, walked(t, tree, sel(t, tree, Query{Paths: []string{"/"}})),
		[]string{"/", "A", "a/", "a/B", "a/z", "a-", "a.b", "a0/", "a0/x", "\xffz"})
}

func TestWalk_StopsWhenCancelled(t *testing.T) {
	t.Parallel()
	tree := open(t, fill(t, t.TempDir(), "a", "b", "c"), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := tree.Walk(ctx, Match{Path: "/"}, nil, func(Entry) error {
		n++
		cancel()
		return nil
	})
	if err == nil || n != 1 {
		t.Errorf("visited %d, %v", n, err)
	}
}

func TestC7_SocketsAreSkippedWithOneNotice(t *testing.T) {
	t.Parallel()
	dir := fill(t, t.TempDir(), "a", "d/")
	sock(t, filepath.Join(dir, "d/s"))
	var notices []string
	tree := open(t, dir, Options{Notice: func(s string) { notices = append(notices, s) }})
	s := sel(t, tree, Query{Paths: []string{"."}})
	equal(t, walked(t, tree, s), []string{"/", "a", "d/"})
	equal(t, walked(t, tree, s), []string{"/", "a", "d/"})
	equal(t, notices, []string{"/d/s: socket skipped"})
}

func sock(tb testing.TB, p string) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(tb, err)
	defer unix.Close(fd)
	dir, err := os.Open(filepath.Dir(p))
	check(tb, err)
	defer dir.Close()
	check(tb, unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(p))}))
}

// old sets a clock far enough in the future that nothing just written is racy.
func later() time.Time { return time.Now().Add(time.Minute) }
