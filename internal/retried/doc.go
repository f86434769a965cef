// Package retried opens files where a signal may interrupt that.
//
// Local file systems finish open, network file systems and FUSE may answer EINTR when a signal comes, and the Go runtime sends itself
// signals all the time. Package os knows; the raw calls of golang.org/x/sys/unix, which this repository needs for paths relative to
// directories, do not:
//
//	fd, err := retried.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
//
// The functions are those of package unix, and their errors too, but EINTR. Nothing bounds how often a call is made again, as in
// package os: each time a signal came. What reads and writes in a loop of its own looks for EINTR there.
package retried
