package ownthread

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

func TestThreadIsNotTheMainOneAndEnds(t *testing.T) {
	t.Parallel()
	name := []byte("doomed-thread\x00")
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			err := Do(func() error {
				if unix.Gettid() == unix.Getpid() {
					t.Error("work is on the main thread")
				}
				return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for named(t, "doomed-thread") { // they end a moment later
		runtime.Gosched()
	}
}

func named(t *testing.T, name string) bool {
	t.Helper()
	found, err := filepath.Glob("/proc/self/task/*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == name {
			return true
		}
	}
	return false
}

func TestErrorsAndPanics(t *testing.T) {
	t.Parallel()
	wrong := errors.New("wrong")
	if err := Do(func() error { return wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
	var p *rescue.Panic
	if err := Do(func() error { panic("x") }); !errors.As(err, &p) || p.Value != "x" {
		t.Error(err)
	}
}
