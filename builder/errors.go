package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/image"
	"gobuild/internal/filetree"
	"gobuild/internal/passwd"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/registry"
	"gobuild/remote"
	"gobuild/sandbox"
	"gobuild/snapshot"
	"gobuild/stages"
	"gobuild/store"
)

// Category is the stable word for what kind of failure an error is; cmd/build maps it to an exit code (F4).
type Category string

// The categories, with their exit codes.
const (
	CategoryStep        Category = "step"        // 1: a build step failed
	CategoryUsage       Category = "usage"       // 2: Dockerfile or command line
	CategoryEnvironment Category = "environment" // 3: this machine lacks something
	CategoryRemote      Category = "remote"      // 4: registry or network
	CategoryUnsafe      Category = "unsafe"      // 5: refused
)

// Error is a build failure with what a user needs: where, why, and what to do.
type Error struct {
	Category Category
	Op       string          // what was attempted, on what: "COPY app.go"
	File     string          // Dockerfile path as shown; "" when no line applies
	Path     string          // of File on this machine; "" when its text came from elsewhere
	Source   []string        // all lines of File, for the excerpt
	Pos      stages.Position // failing lines; zero when no line applies
	Step     *StepInfo       // the step that failed, nil when none
	ExitCode int             // of the command of a failed RUN
	Tail     []string        // last lines of a failed RUN's output
	Hint     string          // remedy, "" when none
	Others   []error         // failures of other stages, one line each
	Err      error           // cause
}

func (e *Error) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s: %v", e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Remedy is the hint, for callers that print it.
func (e *Error) Remedy() string { return e.Hint }

// hinted gives an error a remedy.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string  { return h.err.Error() }
func (h *hinted) Unwrap() error  { return h.err }
func (h *hinted) Remedy() string { return h.hint }

// usage marks an error as the Dockerfile's or the command line's fault.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

// classify wraps any error of a part into an *Error; fallback is the category of errors that say nothing themselves.
func classify(err error, fallback Category) *Error {
	var done *Error
	if errors.As(err, &done) {
		return done
	}
	e := &Error{Category: categoryOf(err, fallback), Err: err}
	var r interface{ Remedy() string }
	if errors.As(err, &r) {
		e.Hint = r.Remedy()
	}
	if e.Hint == "" {
		e.Hint = environmentHint(err)
	}
	return e
}

// categoryOf is the one place where kinds of errors of the parts become categories.
func categoryOf(err error, fallback Category) Category {
	var (
		stageErr  *stages.Error
		notFound  *buildcontext.NotFoundError
		ignoreErr *buildcontext.IgnoreError
		pulled    *registry.Error
		fetched   *remote.Error
		setup     *sandbox.SetupError
		pattern   *buildcontext.PatternError
		asUsage   usage
	)
	switch {
	case errors.Is(err, stages.ErrNotAllowed), errors.Is(err, layer.ErrUnsafe), errors.Is(err, registry.ErrRefused), errors.Is(err, remote.ErrRefused), errors.Is(err, remote.ErrTooLarge), errors.Is(err, image.ErrTooLarge), errors.Is(err, filetree.ErrTooLarge), errors.Is(err, layer.ErrBound), errors.Is(err, errForeign),
		errors.Is(err, buildcontext.ErrTooLarge):
		return CategoryUnsafe
	case errors.Is(err, registry.ErrConfig):
		return CategoryUsage
	case isEnvironment(err):
		return CategoryEnvironment
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENAMETOOLONG):
		return CategoryUsage // a path of the Dockerfile that the image's or context's files do not bear
	case errors.As(err, &stageErr), errors.As(err, &notFound), errors.As(err, &ignoreErr), errors.As(err, &pattern), errors.As(err, &asUsage),
		errors.Is(err, layer.ErrWhiteoutName), errors.Is(err, remote.ErrURL):
		return CategoryUsage
	case errors.As(err, &pulled), errors.As(err, &fetched), errors.Is(err, image.ErrMalformed), errors.Is(err, filetree.ErrMalformed), errors.Is(err, image.ErrContent), errors.Is(err, image.ErrNoPlatform),
		errors.Is(err, store.ErrDigest), errors.Is(err, store.ErrSize), errors.Is(err, sandbox.ErrBadRoot):
		return CategoryRemote
	case errors.Is(err, sandbox.ErrUserUnknown), errors.Is(err, sandbox.ErrWorkDir), errors.Is(err, sandbox.ErrOpenFiles), errors.Is(err, layer.ErrChanged), errors.Is(err, passwd.ErrUnknown), errors.Is(err, passwd.ErrInvalid),
		errors.Is(err, passwd.ErrTooLarge), errors.Is(err, rootfs.ErrNotRegular), errors.Is(err, buildcontext.ErrChanged), errors.Is(err, layer.ErrCorrupt), errors.Is(err, errOtherInput):
		return CategoryStep
	case errors.Is(err, sandbox.ErrMountTarget), errors.Is(err, sandbox.ErrUnsupported), errors.Is(err, sandbox.ErrInvalid):
		return CategoryUsage
	case errors.Is(err, sandbox.ErrStepEnded):
		return CategoryUsage // it was there when it was named
	case errors.As(err, &setup) && strings.HasPrefix(setup.Op, "find user"): // the image's files, whatever is wrong with them
		return CategoryStep
	case errors.As(err, &setup), errors.Is(err, snapshot.ErrNoOverlay), errors.Is(err, sandbox.ErrLimitUnavailable):
		return CategoryEnvironment
	}
	return fallback
}

// isEnvironment knows the errors that are the machine's whatever was being done.
func isEnvironment(err error) bool {
	for _, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOLCK} {
		if errors.Is(err, errno) {
			return true
		}
	}
	// What is renamed lies in the state directory or in an output; one of its folders has been taken away meanwhile.
	var renamed *os.LinkError
	if errors.As(err, &renamed) && errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, remote.ErrNoGit)
}

func environmentHint(err error) string {
	var missing *buildcontext.NotFoundError
	switch {
	case errors.As(err, &missing):
		return "sources are looked up from the top of the build context (or of --from), not from the folder of the Dockerfile"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free space on the file system of --root (`gobuild du` shows what it holds, `gobuild prune` removes what is not needed), or name another with --root"
	case errors.Is(err, unix.EMFILE):
		return "raise the limit of open files: ulimit -n 1024"
	case errors.Is(err, unix.EROFS):
		return "name a writable state directory with --root"
	case errors.Is(err, sandbox.ErrLimitUnavailable) && sandbox.InUserNamespace():
		return "systemd-run --user --scope -p Delegate=yes gobuild build ..., or build with --best-effort-limits"
	case errors.Is(err, fs.ErrPermission):
		return "run as root, or make the file readable"
	}
	return ""
}

// plainCause drops the operation and path of an *fs.PathError whose caller names both.
func plainCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// isCancel says whether an error only reports that somebody else's failure or a signal stopped the work.
func isCancel(err error) bool { return errors.Is(err, context.Canceled) }
