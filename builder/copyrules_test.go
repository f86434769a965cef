package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarText is an archive of "path" -> "content"; "path/" are folders, "-> target" links.
func tarText(t *testing.T, files ...string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o640, Uid: 8, Gid: 9, Size: int64(len(files[i+1])), ModTime: time.Unix(1000, 0)}
		switch target, isLink := strings.CutPrefix(files[i+1], "-> "); {
		case isLink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		case strings.HasSuffix(files[i], "/"):
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o750, 0
		}
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write([]byte(files[i+1]))
			must(t, err)
		}
	}
	must(t, w.Close())
	return buf.String()
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write([]byte(text))
	must(t, err)
	must(t, w.Close())
	return buf.String()
}

// Sentences of the reference about COPY and ADD that need more than names and contents in the context, or two steps.
func TestCopyRules_MoreOfThem(t *testing.T) {
	two := tarText(t, "in/", "", "in/f", "123", "l", "-> in/f")
	for _, tc := range []struct {
		name       string
		dockerfile string
		files      map[string]string
		prepare    func(t *testing.T, dir string)
		want       string // tree
		err        string // part of the error
	}{
		{
			name: "B40 a link to a file as destination: the file that it points to is replaced", dockerfile: "FROM scratch\nCOPY d /\nCOPY f /l",
			files: map[string]string{"d/real": "1", "d/l": "-> real", "f": "new"},
			want:  lines("l 0777 0:0 -> real", "real 0644 0:0 3"),
		},
		{
			name: "B40 an absolute link in the destination stays inside", dockerfile: "FROM scratch\nCOPY d /\nCOPY f /l/x/",
			files: map[string]string{"d/real/": "", "d/l": "-> /../real", "f": "1"},
			want:  lines("l 0777 0:0 -> /../real", "real 0755 0:0 /", "real/x 0755 0:0 /", "real/x/f 0644 0:0 1"),
		},
		{
			name: "B40 relative to WORKDIR", dockerfile: "FROM scratch\nWORKDIR /w\nCOPY f a/b",
			files: map[string]string{"f": "1"},
			want:  lines("w 0755 0:0 /", "w/a 0755 0:0 /", "w/a/b 0644 0:0 1"),
		},
		{
			name: "B41 the root of the context ends every way up", dockerfile: "FROM scratch\nCOPY /../../f ./../d/g /",
			files: map[string]string{"f": "1", "d/g": "22"},
			want:  lines("f 0644 0:0 1", "g 0644 0:0 2"),
		},
		{
			name: "B41 links in the way of a source are followed, links below it copied", dockerfile: "FROM scratch\nCOPY way/d /x",
			files: map[string]string{"real/d/f": "1", "real/d/l": "-> f", "way": "-> real"},
			want:  lines("x 0755 0:0 /", "x/f 0644 0:0 1", "x/l 0777 0:0 -> f"),
		},
		{
			name: "B41 an ignored source says so", dockerfile: "FROM scratch\nCOPY secret /",
			files: map[string]string{"secret": "1", ".dockerignore": "sec*\n"}, err: ".dockerignore",
		},
		{
			name: "B42 a folder that matches has its contents merged", dockerfile: "FROM scratch\nCOPY a* /x/",
			files: map[string]string{"a1/f": "1", "a2/g": "22", "a3": "333", "b": "4"},
			want:  lines("x 0755 0:0 /", "x/a3 0644 0:0 3", "x/f 0644 0:0 1", "x/g 0644 0:0 2"),
		},
		{
			name: "B42 a star does not cross a slash", dockerfile: "FROM scratch\nCOPY *.txt /x/",
			files: map[string]string{"a.txt": "1", "d/b.txt": "2", ".c.txt": "3"},
			want:  lines("x 0755 0:0 /", "x/.c.txt 0644 0:0 1", "x/a.txt 0644 0:0 1"),
		},
		{
			name: "B43 a wildcard that matches two needs a folder", dockerfile: "FROM scratch\nCOPY a* /x",
			files: map[string]string{"a1": "1", "a2": "2"}, err: "end the destination with a slash",
		},
		{
			name: "B43 a wildcard that matches one does not", dockerfile: "FROM scratch\nCOPY a* /x",
			files: map[string]string{"a1": "1"}, want: "x 0644 0:0 1",
		},
		{
			name: "B43 an existing folder needs no slash", dockerfile: "FROM scratch\nCOPY a1 /x/\nCOPY a1 a2 /x",
			files: map[string]string{"a1": "1", "a2": "2"},
			want:  lines("x 0755 0:0 /", "x/a1 0644 0:0 1", "x/a2 0644 0:0 1"),
		},
		{
			name: "B44 a replaced file is a new one: its other names keep the old content", dockerfile: "FROM scratch\nCOPY d /\nCOPY f /one",
			files: map[string]string{"d/one": "1", "f": "new"},
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Link(filepath.Join(dir, "d/one"), filepath.Join(dir, "d/two")))
			},
			want: lines("one 0644 0:0 3", "two 0644 0:0 1"),
		},
		{
			name: "B44 a folder onto a link to a folder inside a tree is an error", dockerfile: "FROM scratch\nCOPY d /\nCOPY e /",
			files: map[string]string{"d/real/": "", "d/l": "-> real", "e/l/f": "1"}, err: "not a folder",
		},
		{
			name: "B45 a new destination has not the mode of the source", dockerfile: "FROM scratch\nCOPY d /x",
			files: map[string]string{"d/f": "1", "d/s/g": "2"},
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Chmod(filepath.Join(dir, "d"), 0o700))
				must(t, os.Chmod(filepath.Join(dir, "d/s"), 0o711))
			},
			want: lines("x 0755 0:0 /", "x/f 0644 0:0 1", "x/s 0711 0:0 /", "x/s/g 0644 0:0 1"),
		},
		{
			name: "B45 an existing destination keeps mode and owner, its subfolders do not", dockerfile: "FROM scratch\nCOPY --chown=3:4 --chmod=711 d /x\nCOPY e /x",
			files: map[string]string{"d/s/f": "1", "e/s/g": "2"},
			want:  lines("x 0711 3:4 /", "x/s 0755 0:0 /", "x/s/f 0711 3:4 1", "x/s/g 0644 0:0 1"),
		},
		{
			name: "B46 created parents have the owner of --chown", dockerfile: "FROM scratch\nCOPY --chown=3:4 f /p/q/g",
			files: map[string]string{"f": "1"},
			want:  lines("p 0755 3:4 /", "p/q 0755 3:4 /", "p/q/g 0644 3:4 1"),
		},
		{
			name: "B47 C7 modes, hard links and FIFOs are kept, owners are not", dockerfile: "FROM scratch\nCOPY d /x/",
			files: map[string]string{"d/f": "1"},
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Link(filepath.Join(dir, "d/f"), filepath.Join(dir, "d/g")))
				must(t, os.Chown(filepath.Join(dir, "d/f"), 77, 78))
				must(t, unix.Chmod(filepath.Join(dir, "d/f"), 0o6711))
				must(t, unix.Mkfifo(filepath.Join(dir, "d/p"), 0o600))
				must(t, unix.Mknod(filepath.Join(dir, "d/s"), unix.S_IFSOCK|0o600, 0))
			},
			want: lines("x 0755 0:0 /", "x/f 6711 0:0 1", "x/g 6711 0:0 = x/f", "x/p 0600 0:0 0"),
		},
		{
			name: "B48 links and folders have the owner, too", dockerfile: "FROM scratch\nCOPY --chown=3:4 d /x/",
			files: map[string]string{"d/l": "-> f", "d/s/f": "1"},
			want:  lines("x 0755 3:4 /", "x/l 0777 3:4 -> f", "x/s 0755 3:4 /", "x/s/f 0644 3:4 1"),
		},
		{
			name: "B48 a name alone has its primary group", dockerfile: "FROM scratch\nCOPY etc /etc\nCOPY --chown=web f /",
			files: map[string]string{"f": "1", "etc/passwd": "web:x:33:34::/:/bin/sh\n"},
			want:  lines("etc 0755 0:0 /", "etc/passwd 0644 0:0 23", "f 0644 33:34 1"),
		},
		{
			name: "B48 extracted files have the owner", dockerfile: "FROM scratch\nADD --chown=3:4 a.tar /x/",
			files: map[string]string{"a.tar": two},
			want:  lines("x 0755 3:4 /", "x/in 0750 3:4 /", "x/in/f 0640 3:4 3", "x/l 0777 3:4 -> in/f"),
		},
		{
			name: "B49 links and members of archives keep their mode", dockerfile: "FROM scratch\nADD --chmod=700 a.tar d /x/",
			files: map[string]string{"a.tar": tarText(t, "in", "1"), "d/l": "-> f", "d/f": "22"},
			want:  lines("x 0755 0:0 /", "x/f 0700 0:0 2", "x/in 0640 8:9 1", "x/l 0777 0:0 -> f"),
		},
		{
			name: "B51 a link in the destination is not followed", dockerfile: "FROM scratch\nCOPY d /\nCOPY --link --chmod=600 f /l/",
			files: map[string]string{"d/real/": "", "d/l": "-> real", "f": "1"},
			want:  lines("l 0600 0:0 /", "l/f 0600 0:0 1", "real 0755 0:0 /"),
		},
		{
			name: "B52 patterns of any depth, and parents like their sources", dockerfile: "FROM scratch\nCOPY --parents s/**/*.go /x/",
			files: map[string]string{"s/a/b/f.go": "1", "s/g.go": "2", "s/a/h.txt": "3", "t/i.go": "4"},
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Chmod(filepath.Join(dir, "s/a"), 0o711))
			},
			want: lines("x 0755 0:0 /", "x/s 0755 0:0 /", "x/s/a 0711 0:0 /", "x/s/a/b 0755 0:0 /", "x/s/a/b/f.go 0644 0:0 1", "x/s/g.go 0644 0:0 1"),
		},
		{
			name: "B52 without a wildcard the path must be there", dockerfile: "FROM scratch\nCOPY --parents s/nope /x/",
			files: map[string]string{"s/a": "1"}, err: "nope",
		},
		{
			name: "B53 a named file can be excluded, and brought back", dockerfile: "FROM scratch\nCOPY --exclude=*.txt --exclude=!keep.txt a.txt keep.txt b /x/",
			files: map[string]string{"a.txt": "1", "keep.txt": "22", "b": "333"},
			want:  lines("x 0755 0:0 /", "x/b 0644 0:0 3", "x/keep.txt 0644 0:0 2"),
		},
		{
			name: "B53 not for archives", dockerfile: "FROM scratch\nADD --exclude=in a.tar /x/",
			files: map[string]string{"a.tar": tarText(t, "in", "1")},
			want:  lines("x 0755 0:0 /", "x/in 0640 8:9 1"),
		},
		{
			name: "B54 later sources win", dockerfile: "FROM scratch\nCOPY d e /x/",
			files: map[string]string{"d/f": "1", "e/f": "22"},
			want:  lines("x 0755 0:0 /", "x/f 0644 0:0 2"),
		},
		{
			name: "B55 by content, whatever the name", dockerfile: "FROM scratch\nADD picture.png /x",
			files: map[string]string{"picture.png": gzipped(t, tarText(t, "d/", "", "d/f", "1", "inner.tar", tarText(t, "deep", "1")))},
			want:  lines("x 0755 0:0 /", "x/d 0750 8:9 /", "x/d/f 0640 8:9 1", "x/inner.tar 0640 8:9 2048"),
		},
		{
			name: "B55 --unpack=false copies the file", dockerfile: "FROM scratch\nADD --unpack=false a.tar /x",
			files: map[string]string{"a.tar": tarText(t, "f", "1")}, want: "x 0644 0:0 2048",
		},
		{
			name: "B55 COPY unpacks nothing, and zip is no archive", dockerfile: "FROM scratch\nCOPY a.tar /\nADD b.zip /",
			files: map[string]string{"a.tar": tarText(t, "f", "1"), "b.zip": "PK\x03\x04zip"},
			want:  lines("a.tar 0644 0:0 2048", "b.zip 0644 0:0 7"),
		},
		{
			name: "B55 a file in the way is replaced, folders are merged", dockerfile: "FROM scratch\nCOPY d /\nADD a.tar /",
			files: map[string]string{"d/f": "1", "d/s/g": "2", "a.tar": tarText(t, "f/", "", "f/x", "1", "s/", "", "s/h", "3")},
			want:  lines("f 0750 8:9 /", "f/x 0640 8:9 1", "s 0750 8:9 /", "s/g 0644 0:0 1", "s/h 0640 8:9 1"),
		},
		{
			name: "B60 an existing folder is left alone, missing parents are the user's", dockerfile: "FROM scratch\nCOPY --chown=5 --chmod=700 d /w\nUSER 7:8\nWORKDIR /w\nWORKDIR a/b",
			files: map[string]string{"d/f": "1"},
			want:  lines("w 0700 5:5 /", "w/a 0755 7:8 /", "w/a/b 0755 7:8 /", "w/f 0700 5:5 1"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.dockerfile, tc.files)
			if tc.prepare != nil {
				tc.prepare(t, p.dir)
			}
			got, err := p.tree()
			switch {
			case tc.err != "":
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(e.Error()+" "+e.Hint, tc.err) {
					t.Fatalf("%v, want %q; tree:\n%s", err, tc.err, got)
				}
			case err != nil:
				t.Fatal(err)
			case got != tc.want:
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// Times of what COPY and ADD make: those of the sources, also for a folder that they create; with an epoch none is later.
func TestB45B47H14_Times(t *testing.T) {
	for _, tc := range []struct {
		name, dockerfile string
		epoch            int64
		want             string
	}{
		{"B47 times are those of the sources", "FROM scratch\nCOPY d /x", 0, "x 2000, x/f 1000, x/s 3000, x/s/g 4000"},
		{"B55 archives have their own", "FROM scratch\nADD a.tar /x/", 0, "x/in 1000"},
		{"H14 none is later than the epoch", "FROM scratch\nWORKDIR /w\nCOPY d /x\nCOPY <<h /y/\nh\n", 2500, "w 2500, x 2000, x/f 1000, x/s 2500, x/s/g 2500, y 2500, y/h 2500"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.dockerfile, map[string]string{"d/f": "1", "d/s/g": "2", "a.tar": tarText(t, "in", "1")})
			for name, seconds := range map[string]int64{"d/f": 1000, "d/s/g": 4000, "d/s": 3000, "d": 2000} {
				at := time.Unix(seconds, 999)
				must(t, os.Chtimes(filepath.Join(p.dir, name), at, at))
			}
			if tc.epoch != 0 {
				epoch := time.Unix(tc.epoch, 0)
				p.opt.SourceDateEpoch = &epoch
			}
			var buf bytes.Buffer
			p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			if got := entryTimes(t, &buf); !strings.Contains(got, tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// entryTimes lists the entries of an archive with their modification times.
func entryTimes(t *testing.T, r io.Reader) string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		list = append(list, fmt.Sprintf("%s %d", strings.TrimSuffix(h.Name, "/"), h.ModTime.Unix()))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// A file of an archive whose name would delete another cannot be stored in an image.
func TestH10_DeletionsInArchives(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nADD a.tar /x/\n", map[string]string{"a.tar": tarText(t, ".wh.x", "1")})
	_, err := p.build()
	var e *Error
	if !errors.As(err, &e) || e.Category != CategoryUsage || !strings.Contains(err.Error(), "x/.wh.x: cannot be stored in a layer") {
		t.Errorf("got %v", err)
	}
}
