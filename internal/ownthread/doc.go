// Package ownthread runs work on a thread of the operating system that is used for nothing else and ends with the work: for work that
// enters namespaces, or otherwise changes the thread it is on for good.
//
//	err := ownthread.Do(func() error {
//		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
//			return err
//		}
//		...
//	})
//
// Do returns when the work has. A panic of the work is an error. What the work starts with PR_SET_PDEATHSIG ends with it. It never is the
// main thread: the runtime cannot end that one, and /proc/self shows what the main thread is in.
//
// It does not undo what the work did to the whole process, and goroutines that the work starts are on other threads.
package ownthread
