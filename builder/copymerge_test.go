package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// made writes the files of a case that a map of contents cannot say.
type made func(t *testing.T, dir string)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// These follow the reference in what happens to folders that are there already, and to files with several names.
func TestCopyMergeRules(t *testing.T) {
	twoNames := func(t *testing.T, dir string) {
		t.Helper()
		check(t, os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "d/b")))
	}
	for _, tc := range []struct {
		name       string
		dockerfile string
		files      map[string]string
		setup      made
		want       string
	}{
		{
			name: "B47 files of one source stay linked", dockerfile: "FROM scratch\nCOPY d /x/",
			files: map[string]string{"d/a": "1"}, setup: twoNames,
			want: lines("x 0755 0:0 /", "x/a 0644 0:0 1", "x/b 0644 0:0 = x/a"),
		},
		{
			name: "B47 files of several sources are files of their own", dockerfile: "FROM scratch\nCOPY d/a d/b /x/",
			files: map[string]string{"d/a": "1"}, setup: twoNames,
			want: lines("x 0755 0:0 /", "x/a 0644 0:0 1", "x/b 0644 0:0 1"),
		},
		{
			name: "B47 so are the matches of a wildcard", dockerfile: "FROM scratch\nCOPY d/* /x/",
			files: map[string]string{"d/a": "1"}, setup: twoNames,
			want: lines("x 0755 0:0 /", "x/a 0644 0:0 1", "x/b 0644 0:0 1"),
		},
		{
			name: "B52 but all matches of a parents pattern are one source", dockerfile: "FROM scratch\nCOPY --parents d/* /x/",
			files: map[string]string{"d/a": "1"}, setup: twoNames,
			want: lines("x 0755 0:0 /", "x/d 0755 0:0 /", "x/d/a 0644 0:0 1", "x/d/b 0644 0:0 = x/d/a"),
		},
		{
			name: "B52 an existing folder above takes the mode and keeps the owner",
			dockerfile: "FROM scratch\nCOPY --chown=7:8 --chmod=700 --parents d/a /x/\n" +
				"COPY --chown=9:9 --chmod=640 --parents d/c /x/",
			files: map[string]string{"d/a": "1", "d/c": "2"},
			want:  lines("x 0700 7:8 /", "x/d 0755 7:8 /", "x/d/a 0700 7:8 1", "x/d/c 0640 9:9 1"),
		},
		{
			name:       "B52 a folder above that one source made keeps what it was made with",
			dockerfile: "FROM scratch\nCOPY --chown=7:8 --chmod=750 --parents d/* /x/",
			files:      map[string]string{"d/a": "1", "d/c": "2"},
			want:       lines("x 0750 7:8 /", "x/d 0750 7:8 /", "x/d/a 0750 7:8 1", "x/d/c 0750 7:8 1"),
		},
		{
			name: "B46 B60 in a setgid folder new folders are setgid and of its group, unless an owner is named",
			dockerfile: "FROM scratch\nCOPY --chown=5:6 --chmod=2775 d /\n" +
				"COPY f /g/n/f\nCOPY --chown=7:8 f /g/o/f\nWORKDIR /g/w\nUSER 9:9\nWORKDIR /g/x\n",
			files: map[string]string{"f": "1", "d/g/": ""},
			want: lines("g 2775 5:6 /", "g/n 2755 0:6 /", "g/n/f 0644 0:0 1", "g/o 2755 7:8 /", "g/o/f 0644 7:8 1",
				"g/w 2755 0:6 /", "g/x 2755 9:9 /"),
		},
		{
			name: "B52 the destination is made though nothing matches", dockerfile: "FROM scratch\nCOPY --parents d/q* /x\n",
			files: map[string]string{"d/a": "1"},
			want:  "x 0755 0:0 /",
		},
		{
			name: "B52 but not without a pivot", dockerfile: "FROM scratch\nCOPY --parents q*/./a /x\n",
			files: map[string]string{"d/a": "1"},
		},
		{
			name: "B55 the folder for an archive is 0755 whatever --chmod says", dockerfile: "FROM scratch\nADD --chmod=711 a.tar /p/q\nADD --chmod=711 f /r/\n",
			files: map[string]string{"a.tar": oneFileTar(t), "f": "1"},
			want:  lines("p 0755 0:0 /", "p/q 0755 0:0 /", "p/q/in 0644 0:0 1", "r 0711 0:0 /", "r/f 0711 0:0 1"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.dockerfile, tc.files)
			if tc.setup != nil {
				tc.setup(t, p.dir)
			}
			got, err := p.tree()
			check(t, err)
			if got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func oneFileTar(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, w.WriteHeader(&tar.Header{Name: "in", Mode: 0o644, Size: 1}))
	_, err := w.Write([]byte("x"))
	check(t, errors.Join(err, w.Close()))
	return b.String()
}

// A match that appears later under a pivot that was missing must not be taken from the cache: neither may the folder.
func TestB52_ANewPivotIsAMiss(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY --parents d*/./q* /x/\n", map[string]string{"f": "1"})
	if got, err := p.tree(); err != nil || got != "" {
		t.Fatal(got, err)
	}
	p.write("d1/", "")
	if got, err := p.tree(); err != nil || got != "x 0755 0:0 /" {
		t.Fatal(got, err)
	}
}

func TestB45_AMergedFolderTakesTheTimeOfItsSource(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY d/f /x/f\nCOPY e /x\nCOPY d/f /x/\n", map[string]string{"d/f": "1", "e/g": "2"})
	want := time.Unix(1_500_000_000, 0)
	check(t, os.Chtimes(filepath.Join(p.dir, "e"), want, want))
	var buf bytes.Buffer
	p.opt.Outputs = []Output{{Type: "tar", Dest: "-", Out: &buf}}
	_, err := p.build()
	check(t, err)
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("no folder x")
		}
		check(t, err)
		if h.Name != "x/" {
			continue
		}
		if !h.ModTime.Equal(want) {
			t.Errorf("x has the time %v, want %v", h.ModTime.UTC(), want.UTC())
		}
		return
	}
}
