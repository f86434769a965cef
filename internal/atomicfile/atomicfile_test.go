package atomicfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func names(t *testing.T, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestWrite_ModeTimeAndContent(t *testing.T) {
	when := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, tc := range []struct {
		name string
		o    Options
		mode fs.FileMode
	}{
		{"the zero value is private", Options{}, 0o600},
		{"bits beyond the umask are set", Options{Mode: 0o666}, 0o666},
		{"durable", Options{Mode: 0o640, Durable: true}, 0o640},
		{"time", Options{Mtime: when}, 0o600},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			for _, data := range []string{"first", "", "third"} {
				if err := Write(path, []byte(data), tc.o); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != data {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			st, _ := os.Stat(path)
			if st.Mode() != tc.mode {
				t.Errorf("mode %v, want %v", st.Mode(), tc.mode)
			}
			if !tc.o.Mtime.IsZero() && !st.ModTime().Equal(when) {
				t.Errorf("time %v", st.ModTime())
			}
			if got := names(t, filepath.Dir(path)); got != "f" {
				t.Errorf("directory holds %q", got)
			}
		})
	}
}

func TestWriteFunc_AnErrorLeavesTheFormerContentAndNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("old"), Options{}); err != nil {
		t.Fatal(err)
	}
	err := WriteFunc(path, Options{}, func(w io.Writer) error {
		_, _ = w.Write([]byte("part"))
		return unix.ENOSPC
	})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("content is %q", got)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "d"), nil, Options{}); err == nil {
		t.Error("replaced a directory")
	}
	if got := names(t, dir); got != "d f" {
		t.Errorf("directory holds %q", got)
	}
}

func TestWrite_BadNames(t *testing.T) {
	d, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\x00b", ".tmp-1"} {
		if err := WriteIn(d, name, Options{}, func(io.Writer) error { return nil }); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := Write(filepath.Join(d.Name(), "missing", "f"), nil, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestWrite_ALinkIsReplacedNotFollowed(t *testing.T) {
	dir := t.TempDir()
	canary := filepath.Join(dir, "canary")
	if err := errors.Join(os.WriteFile(canary, []byte("c"), 0o600), os.Symlink("canary", filepath.Join(dir, "f"))); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "f"), []byte("new"), Options{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(canary); string(got) != "c" {
		t.Error("wrote through a link")
	}
}

func TestSweep_RemovesTheDeadAndSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, ".tmp-00000000000000ab")
	if err := os.WriteFile(dead, []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteFunc(filepath.Join(dir, "f"), Options{}, func(w io.Writer) error {
		if err := Sweep(dir); err != nil {
			t.Error(err)
		}
		_, err := w.Write([]byte("whole"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != "f" {
		t.Errorf("directory holds %q", got)
	}
	if err := Sweep(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
}

func TestHostileF22_WritersReadersAndSweepersAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, bytes.Repeat([]byte("z"), 5000), Options{}); err != nil {
		t.Fatal(err)
	}
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			data := bytes.Repeat([]byte{byte('a' + i)}, 5000)
			for range 100 {
				if err := Write(path, data, Options{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	loop := func(fn func() error) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	loop(func() error { return Sweep(dir) })
	loop(func() error {
		got, err := os.ReadFile(path)
		if err == nil && (len(got) != 5000 || bytes.Count(got, got[:1]) != 5000) {
			err = errors.New("a torn file was seen")
		}
		return err
	})
	writers.Wait()
	close(stop)
	others.Wait()
	if got := names(t, dir); got != "f" {
		t.Errorf("directory holds %q", got)
	}
}

func TestMkdir(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	if err := errors.Join(Mkdir(deep), Mkdir(deep)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(deep, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Mkdir(deep); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{deep, filepath.Dir(deep)} {
		if st, _ := os.Stat(d); st.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v", d, st.Mode())
		}
	}
	if err := errors.Join(os.Symlink(deep, filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"link", "file"} {
		if err := Mkdir(filepath.Join(dir, bad)); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(dir, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, 5, 5)); err != nil {
			t.Fatal(err)
		}
		if err := Mkdir(theirs); err == nil {
			t.Error("took another user's directory")
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	data := make([]byte, 700)
	for b.Loop() {
		if err := Write(path, data, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWrite_Owner(t *testing.T) {
	t.Parallel()
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 { // nobody else may give files away
		uid, gid = 1234, 5678
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, nil, Options{Mode: 0o640, UID: uid, GID: gid}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || int(st.Uid) != uid || int(st.Gid) != gid || st.Mode&0o777 != 0o640 {
		t.Errorf("%d:%d %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}
