package layer

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/needles"
)

func TestM8_NeedlesAreFoundInNamesLinksAndContents(t *testing.T) {
	t.Parallel()
	const value = "hunter2-hunter2"
	dir := t.TempDir()
	write(t, dir, "plain", "nothing of interest")
	write(t, dir, "a/small", "x="+value)
	write(t, dir, "a/"+value, "")
	write(t, dir, "a/both-"+value, value)
	must(t, os.Symlink("/"+value, filepath.Join(dir, "link")))
	write(t, dir, "large", strings.Repeat("y", chunkSize-5)+value+strings.Repeat("z", chunkSize)) // across two chunks
	var mu sync.Mutex
	var got []string
	opt := PackOptions{Watch: needles.New([]needles.Needle{{Name: "id", Bytes: []byte(value)}}), Found: func(entry, needle string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, needle+" "+entry)
	}}
	var watched, blind bytes.Buffer
	_, err := Pack(t.Context(), &watched, openRoot(t, dir), nil, opt)
	must(t, err)
	slices.Sort(got)
	want := []string{"id a/" + value, "id a/both-" + value, "id a/small", "id large", "id link"}
	slices.Sort(want)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	_, err = Pack(t.Context(), &blind, openRoot(t, dir), nil, PackOptions{})
	must(t, err)
	if !bytes.Equal(watched.Bytes(), blind.Bytes()) {
		t.Error("looking changes the layer")
	}
}
