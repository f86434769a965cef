package testexec

import (
	"os"
	"syscall"
)

// WriteFile writes a program, mode 0755. While it does, this process does not fork: a child would hold the file open for writing
// until it executes its own program, and whoever executes this one meanwhile gets "text file busy" (golang.org/issue/22315).
func WriteFile(path string, data []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, 0o755) //nolint:gosec // a program is for everyone
}
