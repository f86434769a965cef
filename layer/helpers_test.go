package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: owners and device nodes are part of the tree")
	}
}

func openRoot(tb testing.TB, dir string) *rootfs.Root {
	tb.Helper()
	r, err := rootfs.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// dumpTree describes a tree as text, one line an object, sorted.
func dumpTree(tb testing.TB, dir string) string {
	tb.Helper()
	inodes := map[uint64]string{}
	var lines []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		line, err := dumpOne(p, rel, inodes)
		lines = append(lines, line)
		return err
	})
	must(tb, err)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func dumpOne(p, rel string, inodes map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", err
	}
	detail := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		detail = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))[:min(20, len(strconv.Itoa(len(data)))+9)]
		if st.Nlink > 1 {
			if first, ok := inodes[st.Ino]; ok {
				detail += " =" + first
			} else {
				inodes[st.Ino] = rel
			}
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		detail = "-> " + target
	case unix.S_IFCHR, unix.S_IFBLK:
		detail = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	for _, name := range []string{"security.capability", "user.note", "trusted.note"} {
		buf := make([]byte, 256)
		if n, err := unix.Lgetxattr(p, name, buf); err == nil {
			detail += fmt.Sprintf(" %s=%q", name, buf[:n])
		}
	}
	return fmt.Sprintf("%q %06o %d:%d %d %s", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, detail), nil
}

// tarOf builds an archive from text, an entry a line:
//
//	dir NAME | file NAME CONTENT | link NAME TARGET | hard NAME TARGET |
//	fifo NAME | char NAME MAJ MIN | block NAME MAJ MIN
//
// Names are Go-quoted if they need it. Options follow: mode=0755 uid=1 gid=1
// mtime=1 x:NAME=VALUE.
func tarOf(tb testing.TB, text string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		h, content := tarLine(tb, line)
		must(tb, w.WriteHeader(h))
		_, err := io.WriteString(w, content)
		must(tb, err)
	}
	must(tb, w.Close())
	return buf.Bytes()
}

func tarLine(tb testing.TB, line string) (*tar.Header, string) {
	tb.Helper()
	var words []string
	for rest := line; rest != ""; rest = strings.TrimLeft(rest, " ") {
		if q, err := strconv.QuotedPrefix(rest); err == nil {
			word, _ := strconv.Unquote(q)
			words = append(words, word)
			rest = rest[len(q):]
			continue
		}
		word, after, _ := strings.Cut(rest, " ")
		words = append(words, word)
		rest = after
	}
	h := &tar.Header{Name: words[1], Mode: 0o644, ModTime: time.Unix(1000, 0)}
	content := ""
	args := words[2:]
	next := func() string {
		if len(args) == 0 || strings.Contains(args[0], "=") {
			return ""
		}
		a := args[0]
		args = args[1:]
		return a
	}
	switch words[0] {
	case "dir":
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	case "file":
		h.Typeflag = tar.TypeReg
		content = next()
		h.Size = int64(len(content))
	case "link":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, next(), 0o777
	case "hard":
		h.Typeflag, h.Linkname = tar.TypeLink, next()
	case "fifo":
		h.Typeflag = tar.TypeFifo
	case "char", "block":
		h.Typeflag = tar.TypeChar
		if words[0] == "block" {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, _ = strconv.ParseInt(next(), 10, 64)
		h.Devminor, _ = strconv.ParseInt(next(), 10, 64)
	default:
		tb.Fatalf("unknown kind in %q", line)
	}
	for _, a := range args {
		tarOption(tb, h, a)
	}
	return h, content
}

func tarOption(tb testing.TB, h *tar.Header, option string) {
	tb.Helper()
	key, value, _ := strings.Cut(option, "=")
	n, err := strconv.ParseInt(value, 0, 64)
	switch {
	case strings.HasPrefix(key, "x:"):
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+key[2:]] = value
		return
	case key == "mode":
		h.Mode = n
	case key == "uid":
		h.Uid = int(n)
	case key == "gid":
		h.Gid = int(n)
	case key == "mtime":
		h.ModTime = time.Unix(n, 0)
	default:
		tb.Fatalf("unknown option %q", option)
	}
	must(tb, err)
}

// listTar describes a tar as text.
func listTar(tb testing.TB, data []byte) string {
	tb.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	var out strings.Builder
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		must(tb, err)
		fmt.Fprintf(&out, "%c %s", h.Typeflag, h.Name)
		if h.Linkname != "" {
			fmt.Fprintf(&out, " -> %s", h.Linkname)
		}
		content, err := io.ReadAll(r)
		must(tb, err)
		if len(content) > 0 {
			fmt.Fprintf(&out, " %q", content[:min(len(content), 20)])
		}
		out.WriteByte('\n')
	}
}

// packTar packs a tree without compression.
func packTar(tb testing.TB, upper, lower string, opt PackOptions) ([]byte, Packed) {
	tb.Helper()
	var lo *rootfs.Root
	if lower != "" {
		lo = openRoot(tb, lower)
	}
	opt.Compression = None
	var buf bytes.Buffer
	p, err := Pack(tb.Context(), &buf, openRoot(tb, upper), lo, opt)
	must(tb, err)
	return buf.Bytes(), p
}

// write makes a file and the directories above it.
func write(tb testing.TB, dir, name, content string) {
	tb.Helper()
	p := filepath.Join(dir, name)
	must(tb, os.MkdirAll(filepath.Dir(p), 0o755))
	must(tb, os.WriteFile(p, []byte(content), 0o644))
}

// setTimes gives everything in a tree one whole-second time, so that dumps of
// two trees can be compared.
func setTimes(tb testing.TB, dir string, sec int64) {
	tb.Helper()
	var all []string
	must(tb, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		all = append(all, p)
		return err
	}))
	slices.Reverse(all)
	for _, p := range all {
		ts := []unix.Timespec{{Sec: sec}, {Sec: sec}}
		must(tb, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
}
