package bytelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTakenNamesAreHadByOneAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "locks")
	var group sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		var inside atomic.Int32
		for range 8 {
			group.Go(func() {
				for range 20 {
					l, err := Take(t.Context(), path, name, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d have %s", n, name)
					}
					runtime.Gosched()
					inside.Add(-1)
					l.Release()
				}
			})
		}
	}
	group.Wait()
}

func TestWhoWaitsIsToldTheProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "locks")
	first, err := Take(t.Context(), path, "a", func(int) { t.Error("nobody had it") })
	if err != nil {
		t.Fatal(err)
	}
	other, err := Take(t.Context(), path, "b", func(int) { t.Error("another name") })
	if err != nil {
		t.Fatal(err)
	}
	other.Release()
	told := -1
	second, err := Take(t.Context(), path, "a", func(pid int) { told = pid; first.Release() })
	if err != nil {
		t.Fatal(err)
	}
	if told != os.Getpid() {
		t.Errorf("told %d", told)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	if _, err := Take(ctx, path, "a", func(int) { cancel(enough) }); !errors.Is(err, enough) {
		t.Error(err)
	}
	second.Release()
}

// A note of another name that shares the place, and a file that is damaged, name no process.
func TestANoteIsAHint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "locks")
	note, at := noteOf("a", 1<<40)
	note[0]++
	f, err := os.Create(path) //nolint:forbidigo // a new file of a test
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := holder(f, "a"); got != 0 {
		t.Errorf("%d in an empty file", got)
	}
	if _, err := f.WriteAt(note, at); err != nil {
		t.Fatal(err)
	}
	if got := holder(f, "a"); got != 0 {
		t.Errorf("%d from another's note", got)
	}
}
