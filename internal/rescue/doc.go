// Package rescue makes an error of a panic, so that a bug in one goroutine ends a step and not the program with a trace.
//
//	group.Go(func() error { return rescue.Do(work) })
//
// Do promises that no panic of work gets past it. It cannot hold what the runtime does not let anybody hold: concurrent writes of a
// map, a stack that is full. It does not start goroutines, and a goroutine that work starts needs its own.
package rescue
