package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// Do runs work, and gives its error.
func Do(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the main thread, one that is started now is on another.
			err := Do(work)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		// Not unlocked: the runtime ends the thread with the goroutine.
		done <- rescue.Do(work)
	}()
	return <-done
}
