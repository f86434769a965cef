package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Linux 6.1 to 6.4 answer EOPNOTSUPP to a descriptor for "lowerdir+"; a disk that is full is no reason to try the older way.
func TestOlderKernelsGetTheOlderOverlayMount(t *testing.T) {
	t.Parallel()
	for e, want := range map[unix.Errno]bool{
		unix.EOPNOTSUPP: true, unix.EINVAL: true, unix.ENOSYS: true, unix.EBADF: true, unix.ENOSPC: false, unix.EPERM: false, 0: false,
	} {
		if olderInterface(e) != want {
			t.Errorf("%v: %v", e, !want)
		}
	}
}
