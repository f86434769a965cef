// Package bytelock holds any number of names by one descriptor.
//
// Each name is a lock on one byte of a file, at an offset that is a hash of the name: open file description locks (fcntl(2), Linux
// 3.15), which like flock go with the descriptor and so with the process. A process that relies on four hundred things must not
// need four hundred descriptors. Two names may share a byte, with a chance of 2^-62: then one is held with the other.
//
//	held := bytelock.Open(path)
//	defer held.Close()
//	err := held.Hold(name)                       // whoever wants to remove the thing of that name is told so
//
//	release, err := bytelock.Exclude(path, name) // ErrHeld while somebody holds it
//	held, err := bytelock.Held(path, names...)   // which somebody holds, without taking any
//
//	lock, err := bytelock.Take(ctx, path, name, waiting) // alone; waits while others have it, and is told which process that is
//	defer lock.Release()
//
// A lock that comes and goes with each step of a build thus makes and removes no file.
package bytelock
