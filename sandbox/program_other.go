//go:build !amd64 && !arm64

package sandbox

import (
	"os"
	"runtime"
)

func openProgram() (*os.File, error) {
	return nil, &SetupError{Op: "make init", Kind: ErrUnsupported, Detail: "running steps on " + runtime.GOARCH}
}
