package retried

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostileF12_InterruptedCallsAreMadeAgain: until they end otherwise, however that is.
func TestHostileF12_InterruptedCallsAreMadeAgain(t *testing.T) {
	t.Parallel()
	for _, end := range []error{nil, unix.ENOENT} {
		n := 0
		err := Call(func() error {
			if n++; n < 4 {
				return fmt.Errorf("wrapped: %w", unix.EINTR)
			}
			return end
		})
		if n != 4 || err != end { //nolint:errorlint // the very error
			t.Errorf("%d calls, then %v, want %v", n, err, end)
		}
	}
	if _, err := Openat(unix.AT_FDCWD, t.TempDir()+"/none", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != unix.ENOENT { //nolint:errorlint // as unix.Openat
		t.Errorf("%v", err)
	}
}
