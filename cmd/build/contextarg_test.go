package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/builder"
)

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// contextOf resolves the context of a command line in the working directory.
func contextOf(t *testing.T, stdin string, args ...string) (builder.Options, func() error, error) {
	t.Helper()
	a := newApp(t, environ{"TMPDIR": t.TempDir()})
	a.stdin = strings.NewReader(stdin)
	f, fs := allFlags(t)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var opt builder.Options
	cleanup, err := a.fillContext(&opt, f, fs.Args())
	return opt, cleanup, err
}

func TestC1_Context(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "ctx/Dockerfile", "FROM scratch\n")
	write(t, "plain", "FROM scratch\n")
	if err := os.Symlink("ctx", "link"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		ctx  string
		file string
	}{
		{[]string{"ctx"}, "ctx", ""},
		{[]string{"link"}, "link", ""},
		{[]string{"ctx", "-f", "plain"}, "ctx", "plain"},
		{[]string{"-f", "plain"}, ".", "plain"},
	} {
		opt, _, err := contextOf(t, "", tt.args...)
		file := ""
		if tt.file != "" {
			file = filepath.Join(dir, tt.file)
		}
		if err != nil || opt.Context != filepath.Join(dir, tt.ctx) || opt.Dockerfile != file {
			t.Errorf("%q: context %q, file %q, %v", tt.args, opt.Context, opt.Dockerfile, err)
		}
	}
	for args, text := range map[string]string{
		"":                 "no context is given",
		"plain":            "gobuild -f plain DIRECTORY",
		"nowhere/at/all":   "no such file",
		"biuld":            "did you mean gobuild build",
		"a b":              "one context is wanted",
		"s3://bucket/x":    "not supported",
		"tar://x.tar":      "not supported yet",
		"ctx -f missing":   "--file: stat",
		"ctx -f git@h:x":   "http or https alone",
		"ctx -f git://h/x": "http or https alone",
	} {
		_, _, err := contextOf(t, "", strings.Fields(args)...)
		wantUsage(t, err, text)
	}
	write(t, "Containerfile", "FROM scratch\n")
	if opt, _, err := contextOf(t, ""); err != nil || opt.Context != dir {
		t.Errorf("with a Containerfile here: %q, %v", opt.Context, err)
	}
}

func TestC8_StandardInput(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ctx")
	opt, cleanup, err := contextOf(t, "FROM scratch\n", "-")
	if err != nil || string(opt.DockerfileText) != "FROM scratch\n" {
		t.Fatalf("%q, %v", opt.DockerfileText, err)
	}
	if list, err := os.ReadDir(opt.Context); err != nil || len(list) != 0 {
		t.Errorf("the context holds %v, %v", list, err)
	}
	if err := cleanup(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(opt.Context); err == nil {
		t.Error("the empty context is left behind")
	}
	opt, _, err = contextOf(t, "FROM scratch\n", "ctx", "-f", "-")
	if err != nil || string(opt.DockerfileText) != "FROM scratch\n" || filepath.Base(opt.Context) != "ctx" {
		t.Errorf("-f -: %q, %q, %v", opt.DockerfileText, opt.Context, err)
	}
	opt, _, err = contextOf(t, "", "ctx", "-f", "-")
	if err != nil || opt.DockerfileText == nil {
		t.Errorf("an empty Dockerfile is none: %v, %v", opt.DockerfileText, err)
	}
	for _, args := range [][]string{{"-", "-f", "-"}, {"-", "-f", "x"}} {
		_, _, err := contextOf(t, "FROM scratch\n", args...)
		wantUsage(t, err, "standard input")
	}
	_, _, err = contextOf(t, strings.Repeat("#", maxDockerfile+1), "-")
	wantUsage(t, err, "longer than")
}

// tarOf is an archive with one empty Dockerfile, in a given form.
func tarOf(t *testing.T, h tar.Header) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h.Name, h.Mode = "Dockerfile", 0o644
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// preposix is a header as tar wrote it before 1988: without a magic number.
func preposix(t *testing.T) string {
	t.Helper()
	b := []byte(tarOf(t, tar.Header{}))
	clear(b[257:512])
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return string(b)
}

func TestC8_ArchivesOnStandardInputAreTheContext(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ctx")
	plain := tarOf(t, tar.Header{})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"tar": plain, "gzip": zipped.String(), "bzip2": "BZh91AY&SY", "xz": "\xfd7zXZ\x00", "zstd": "\x28\xb5\x2f\xfd",
		"pax": tarOf(t, tar.Header{PAXRecords: map[string]string{"X.y": "z"}}), "before POSIX": preposix(t),
	} {
		opt, _, err := contextOf(t, data, "-", "-f", "sub/Dockerfile")
		if err != nil || opt.ContextTar == nil || opt.Context != "" || opt.DockerfileText != nil || opt.Dockerfile != "sub/Dockerfile" {
			t.Errorf("%s: %+v, %v", name, opt, err)
			continue
		}
		if got, err := io.ReadAll(opt.ContextTar); err != nil || string(got) != data {
			t.Errorf("%s: %d bytes are left of %d, %v", name, len(got), len(data), err)
		}
		_, _, err = contextOf(t, data, "ctx", "-f", "-")
		wantUsage(t, err, "wants a Dockerfile")
	}
	for name, data := range map[string]string{"text": strings.Repeat("# text\n", 100), "zeros": strings.Repeat("\x00", 1024)} {
		if opt, _, err := contextOf(t, data, "-"); err != nil || opt.ContextTar != nil || string(opt.DockerfileText) != data {
			t.Errorf("%s: %v, %v", name, opt.ContextTar, err)
		}
	}
}

func TestC2_TheDockerfileByURL(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ctx")
	for args, context := range map[string]string{
		"-f https://x/D ctx": "ctx", "-f https://x/D": filepath.Base(mustGetwd(t)), "-f http://x/D https://x/y.git": "", "-f https://x/D https://x/y": "",
	} {
		opt, _, err := contextOf(t, "", strings.Fields(args)...)
		if err != nil || !strings.HasSuffix(opt.DockerfileURL, "://x/D") || opt.Dockerfile != "" || context != "" && filepath.Base(opt.Context) != context {
			t.Errorf("%q: %+v, %v", args, opt, err)
		}
	}
	opt, _, err := contextOf(t, "\x1f\x8b", "-f", "https://x/D", "-")
	if err != nil || opt.ContextTar == nil || opt.DockerfileURL == "" {
		t.Errorf("with an archive on standard input: %+v, %v", opt, err)
	}
	_, _, err = contextOf(t, "FROM scratch\n", "-f", "https://x/D", "-")
	wantUsage(t, err, "it is the Dockerfile itself")
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestC10_URLsAreContexts(t *testing.T) {
	t.Chdir(t.TempDir())
	for args, want := range map[string]builder.Options{
		"https://example.com/x.tar.gz":          {ContextURL: "https://example.com/x.tar.gz"},
		"http://example.com/ -f sub/Dockerfile": {ContextURL: "http://example.com/", Dockerfile: "sub/Dockerfile"},
		"http://example.com/x.tar -f -":         {ContextURL: "http://example.com/x.tar", DockerfileText: []byte("FROM scratch\n")},
	} {
		opt, _, err := contextOf(t, "FROM scratch\n", strings.Fields(args)...)
		if err != nil || opt.ContextURL != want.ContextURL || opt.Dockerfile != want.Dockerfile || string(opt.DockerfileText) != string(want.DockerfileText) || opt.Context != "" {
			t.Errorf("%s: %+v, %v", args, opt, err)
		}
	}
	for _, arg := range []string{"https://example.com/x.git", "https://example.com/x.git#main:sub", "git://example.com/x", "git@example.com:x.git", "github.com/a/b"} {
		opt, _, err := contextOf(t, "", arg)
		if err != nil || opt.ContextURL != arg || opt.Context != "" {
			t.Errorf("%s: %+v, %v", arg, opt, err)
		}
	}
	mkdir(t, "github.com/a/b")
	if opt, _, err := contextOf(t, "", "github.com/a/b"); err != nil || opt.ContextURL != "" || filepath.Base(opt.Context) != "b" {
		t.Errorf("a folder that is here: %+v, %v", opt, err)
	}
}
