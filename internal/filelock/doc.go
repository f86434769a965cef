// Package filelock lets one process, and within it one goroutine, hold a name while others wait.
//
// What: [Lock] takes a file by flock(2) and waits for it, cancellably, telling the waiter once
// which process holds it; [TryLock] does not wait; [Try] locks a descriptor that is already open.
//
// How:
//
//	l, err := filelock.Lock(ctx, "/state/locks/ab12", filelock.Exclusive, func(pid int) { … })
//	if err != nil { … }
//	defer l.Remove()
//
// Promise: the kernel drops the lock when its holder dies, however it dies, so a lock is never
// stale. Descriptors are close-on-exec, so a child does not keep it. A file may be unlinked by the
// holder of its exclusive lock ([File.Remove]): a waiter notices that the name leads elsewhere and
// starts over. The pid in the file is for messages only: nothing is ever decided by it or signalled.
//
// Not: locks are not fair, a shared lock cannot be turned into an exclusive one, and a file system
// that has no locks gives an error (ENOLCK, ENOSYS) which the caller sees.
package filelock
