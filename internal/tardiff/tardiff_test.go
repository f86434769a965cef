package tardiff_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"gobuild/internal/tardiff"
)

// archive makes a tar of words: NAME[:key=value...].
func archive(t *testing.T, entries ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, text := range entries {
		words := strings.Split(text, ";")
		h := &tar.Header{Name: words[0], Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1000, 0), Format: tar.FormatPAX}
		content := ""
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "content":
				content = value
			case "mode":
				h.Mode = 0o755
			case "uid":
				h.Uid = 7
			case "time":
				h.ModTime = time.Unix(2000, 5)
			case "link":
				h.Typeflag, h.Linkname = tar.TypeSymlink, value
			case "xattr":
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": value}
			case "gnu":
				h.Format = tar.FormatGNU
			}
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// text is a difference on one line, content as the beginning of its digest.
func text(d tardiff.Diff) string {
	var parts []string
	for _, c := range d.Changes {
		part := c.Kind + " " + c.Path
		for _, a := range c.Attrs {
			if a.Name == "content" {
				a.Old, a.New = a.Old[:min(4, len(a.Old))], a.New[:min(4, len(a.New))]
			}
			part += fmt.Sprintf(" %s:%s>%s", a.Name, a.Old, a.New)
		}
		parts = append(parts, part)
	}
	if d.Order {
		parts = append(parts, "order")
	}
	if d.Header {
		parts = append(parts, "header")
	}
	return strings.Join(parts, ", ")
}

func TestP7_AttributesOfFilesThatDiffer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		old, now []string
		want     string
	}{
		{"content", []string{"a", "b;content=1"}, []string{"a", "b;content=2"}, "changed /b content:6b86>d473"},
		{"mode and owner", []string{"a"}, []string{"a;mode=x;uid=7"}, "changed /a mode:0644>0755 owner:0:0>7:0"},
		{"time to the nanosecond", []string{"a"}, []string{"a;time=x"}, "changed /a mtime:1970-01-01T00:16:40Z>1970-01-01T00:33:20.000000005Z"},
		{"target of a link", []string{"a;link=x"}, []string{"a;link=y"}, "changed /a link:x>y"},
		{"extended attribute", []string{"a"}, []string{"a;xattr=v"}, `changed /a xattr user.x:>"v"`},
		{"type", []string{"a;link=x"}, []string{"a"}, "changed /a content:>e3b0 type:symlink>file link:x>"},
		{"files in one alone", []string{"a", "b", "d"}, []string{"a", "c", "d"}, "removed /b, added /c"},
		{"a file before all others", []string{"b", "c", "d"}, []string{"a", "b", "c", "d"}, "added /a"},
		{"order alone", []string{"a", "b"}, []string{"b", "a"}, "order"},
		{"headers alone", []string{"a"}, []string{"a;gnu=x"}, "header"},
		{"a name twice", []string{"a;content=1", "a;content=2"}, []string{"a;content=1", "a;content=3"}, "changed /a content:d473>4e07"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old, now := archive(t, tc.old...), archive(t, tc.now...)
			d, err := tardiff.Compare(t.Context(), bytes.NewReader(old), bytes.NewReader(now))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(d); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestP7_WhatDiffersInMoreThanTimesIsKept(t *testing.T) {
	t.Parallel()
	var old, now []string
	for i := range 1500 {
		old = append(old, fmt.Sprintf("f%04d", i))
		now = append(now, fmt.Sprintf("f%04d;time=x", i))
	}
	now[1400] += ";mode=x"
	d, err := tardiff.Compare(t.Context(), bytes.NewReader(archive(t, old...)), bytes.NewReader(archive(t, now...)))
	if err != nil || len(d.Changes) != 1000 || d.More != 500 || !strings.Contains(text(d), "/f1400 mode") {
		t.Errorf("%d changes and %d more, %v", len(d.Changes), d.More, err)
	}
}

func TestP7_ArchivesThatAreNone(t *testing.T) {
	t.Parallel()
	whole := archive(t, "a;content=1234")
	for _, bad := range [][]byte{[]byte(strings.Repeat("x", 2000)), whole[:514]} {
		if _, err := tardiff.Compare(t.Context(), bytes.NewReader(whole), bytes.NewReader(bad)); !errors.Is(err, tardiff.ErrMalformed) {
			t.Errorf("%v, want that it is malformed", err)
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add([]byte{}, []byte("x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d, err := tardiff.Compare(t.Context(), bytes.NewReader(a), bytes.NewReader(b))
		if err == nil && bytes.Equal(a, b) && len(d.Changes) > 0 {
			t.Errorf("the same bytes differ: %+v", d)
		}
	})
}
