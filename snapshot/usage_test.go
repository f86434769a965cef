package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/treetest"
)

// hostile: H79 R01
func TestHostileH66R01_UsageOfATreeThatIsSwappedMeanwhile(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c, err := treetest.Plant(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "here/a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.Dir, filepath.Join(dir, "there")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, here, unix.AT_FDCWD, there, unix.RENAME_EXCHANGE)
				_ = os.Rename(filepath.Join(dir, "here/a/b"), filepath.Join(dir, "b"))
				_ = os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "here/a/b"))
			}
		}
	})
	for range 2000 {
		if _, _, err := DiskUsage(t.Context(), dir); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	swapper.Wait()
	for _, alarm := range c.Alarms() {
		t.Error("alarm: " + alarm)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestDiskUsage_CountsBlocksAndTimes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(name, filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	last := time.Unix(4_000_000_000, 0)
	if err := os.Chtimes(name, time.Time{}, last); err != nil {
		t.Fatal(err)
	}
	size, newest, err := DiskUsage(t.Context(), dir)
	if err != nil || size < 1<<20 || size > 1<<20+64<<10 || !newest.Equal(last) {
		t.Errorf("%d bytes, %v, %v", size, newest, err)
	}
}
