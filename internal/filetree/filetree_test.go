package filetree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layerOf makes a tar: "path" a folder if it ends with /, "path=content" a file, "path->target" and "path==target" links.
func layerOf(t *testing.T, files ...string) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f, Typeflag: tar.TypeReg, Mode: 0o644}
		content := ""
		if name, target, ok := strings.Cut(f, "->"); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if name, target, ok := strings.Cut(f, "=="); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		} else if name, text, ok := strings.Cut(f, "="); ok {
			h.Name, content = name, text
		} else if strings.HasSuffix(f, "/") {
			h.Typeflag = tar.TypeDir
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func TestP4_LayersOnLayers(t *testing.T) {
	t.Parallel()
	both, first, second := Sides{true, true}, Sides{true}, Sides{false, true}
	type layer struct {
		sides Sides
		files []string
	}
	tests := []struct {
		name   string
		layers []layer
		want   string
		wasted string
	}{
		{"files of one layer", []layer{{first, []string{"a/", "a/b=1", "c->a"}}}, "a:0/- a/b:0/- c:0/-", ""},
		{"a later one wins", []layer{{first, []string{"a=1"}}, {first, []string{"a=22"}}}, "a:1/-", "a 1 1"},
		{"a whiteout hides", []layer{{first, []string{"d/", "d/x=1", "d/y=22", "e=3"}}, {first, []string{".wh.d"}}}, "e:0/-", "d/y 2 1 d/x 1 1"},
		{"not what its own layer brings", []layer{{first, []string{"d/", "d/x=1"}}, {first, []string{"d/", "d/new=2", ".wh.d"}}}, "d:1/- d/new:1/-", "d/x 1 1"},
		{"an opaque folder", []layer{{first, []string{"d/", "d/x=1", "d/e/", "d/e/y=1"}}, {first, []string{"d/", "d/n=", "d/.wh..wh..opq"}}}, "d:1/- d/n:1/-", "d/e/y 1 1 d/x 1 1"},
		{"a file in place of a folder", []layer{{first, []string{"d/", "d/x=1"}}, {first, []string{"d=2"}}}, "d:1/-", "d/x 1 1"},
		{"a hard link costs nothing", []layer{{first, []string{"a=123", "b==a"}}, {first, []string{".wh.b"}}}, "a:0/-", "b 0 1"},
		{"a folder again wastes nothing", []layer{{first, []string{"d/", "d/x=1"}}, {first, []string{"d/"}}}, "d:1/- d/x:0/-", ""},
		{"two images", []layer{{both, []string{"a=1", "b=1", "c=1"}}, {first, []string{"b=2", ".wh.c"}}, {second, []string{"d=1"}}}, "a:0/0 b:1/0 c:-/0 d:-/2", "b 1 1 c 1 1"},
		{"a whiteout of one image", []layer{{both, []string{"d/", "d/x=1"}}, {second, []string{".wh.d"}}}, "d:0/- d/x:0/-", ""},
		{"names that leave are inside", []layer{{first, []string{"../../etc/x=1", "/abs=1"}}}, "abs:0/- etc/x:0/-", ""},
	}
	for _, tt := range tests {
		tree := New()
		for i, l := range tt.layers {
			if err := tree.Apply(t.Context(), layerOf(t, l.files...), l.sides, i); err != nil {
				t.Fatal(err)
			}
		}
		var got, wasted []string
		show := func(e *Entry) string {
			if e == nil {
				return "-"
			}
			return fmt.Sprint(e.Layer)
		}
		if err := tree.Walk(func(p string, a, b *Entry) error { got = append(got, p+":"+show(a)+"/"+show(b)); return nil }); err != nil {
			t.Fatal(err)
		}
		for _, w := range tree.Wasted() {
			wasted = append(wasted, fmt.Sprintf("%s %d %d", w.Path, w.Bytes, w.Times))
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.wasted, strings.Join(wasted, " ")); diff != "" {
			t.Errorf("%s: wasted (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestP4_WhatIsNoLayer(t *testing.T) {
	t.Parallel()
	if err := New().Apply(t.Context(), strings.NewReader(strings.Repeat("x", 2000)), Sides{true}, 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("no tar: %v", err)
	}
	if err := New().Apply(t.Context(), layerOf(t, strings.Repeat("long/", 900)+"x=1"), Sides{true}, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long path: %v", err)
	}
}
