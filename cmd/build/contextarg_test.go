package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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
		"":                          "no context is given",
		"plain":                     "gobuild -f plain DIRECTORY",
		"nowhere/at/all":            "no such file",
		"biuld":                     "did you mean gobuild build",
		"a b":                       "one context is wanted",
		"https://example.com/x.git": "not supported yet",
		"git@example.com:x.git":     "not supported yet",
		"github.com/a/b":            "not supported yet",
		"s3://bucket/x":             "not supported",
		"tar://x.tar":               "not supported yet",
		"ctx -f missing":            "--file: stat",
		"ctx -f https://x/y":        "not supported yet",
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

func TestC8_ArchivesOnStandardInputAreRecognised(t *testing.T) {
	t.Chdir(t.TempDir())
	var plain, zipped bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"tar": plain.String(), "gzip": zipped.String(), "bzip2": "BZh91AY&SY", "xz": "\xfd7zXZ\x00", "zstd": "\x28\xb5\x2f\xfd",
	} {
		_, _, err := contextOf(t, data, "-")
		if err == nil {
			t.Errorf("%s is taken for a Dockerfile", name)
			continue
		}
		wantUsage(t, err, "not supported yet")
	}
}
