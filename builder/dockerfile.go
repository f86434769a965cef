package builder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
	"gobuild/stages"
)

// maxDockerfile is FEATURES A2: no Dockerfile that a person wrote is larger, and it is read into memory.
const maxDockerfile = 16 << 20

// dockerfile is the text of a build and the name under which messages show it.
type dockerfile struct {
	name  string // as the user would write it
	path  string // on the host; "" when the text came from elsewhere
	text  []byte
	lines []string
}

// defaultNames are tried in this order (FEATURES C2).
var defaultNames = []string{"Dockerfile", "dockerfile", "Containerfile"}

// readDockerfile reads it before and apart from the context, so that ignoring it only stops COPY.
func readDockerfile(opt Options) (dockerfile, error) {
	if opt.DockerfileText != nil {
		name := opt.Dockerfile
		if name == "" {
			name = "Dockerfile"
		}
		return newDockerfile(name, opt.DockerfileBeside, opt.DockerfileText)
	}
	if opt.Dockerfile != "" {
		f, err := openHostRegular(opt.Dockerfile)
		if err != nil {
			return dockerfile{}, missingDockerfile(opt.Dockerfile, err)
		}
		defer f.Close()
		return readFrom(f, opt.Dockerfile, opt.Dockerfile)
	}
	return readDefault(opt.Context)
}

// readDefault resolves the default names inside the context: a link that leaves it is clamped (HOSTILE H-09).
func readDefault(dir string) (dockerfile, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return dockerfile{}, fmt.Errorf("open context: %w", err)
	}
	defer root.Close()
	for _, name := range defaultNames {
		f, _, err := root.OpenRegular(name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return dockerfile{}, fmt.Errorf("read %s: %w", filepath.Join(dir, name), plainCause(err))
		}
		defer f.Close()
		return readFrom(f, name, filepath.Join(dir, name))
	}
	return dockerfile{}, &hinted{
		err:  fmt.Errorf("no Dockerfile in %s (looked for %s)", dir, strings.Join(defaultNames, ", ")),
		hint: "name it with -f, or give the folder that holds it as CONTEXT",
	}
}

func openHostRegular(path string) (*os.File, error) {
	info, err := os.Stat(path) // before opening: a FIFO would block, a device may act
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, rootfs.ErrNotRegular
	}
	return os.Open(path)
}

func missingDockerfile(path string, err error) error {
	wrapped := fmt.Errorf("read Dockerfile %s: %w", path, plainCause(err))
	if errors.Is(err, os.ErrNotExist) {
		return &hinted{err: wrapped, hint: "-f is relative to the working directory, not to the context"}
	}
	return wrapped
}

func readFrom(f io.Reader, name, path string) (dockerfile, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err != nil {
		return dockerfile{}, fmt.Errorf("read %s: %w", path, plainCause(err))
	}
	return newDockerfile(name, path, text)
}

func newDockerfile(name, path string, text []byte) (dockerfile, error) {
	if len(text) > maxDockerfile {
		return dockerfile{}, fmt.Errorf("%s is over %d MiB", name, maxDockerfile>>20)
	}
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	return dockerfile{name: name, path: path, text: text, lines: lines}, nil
}

// dockerfileName is the Dockerfile's path below the context, so that it is the same on every machine; of one that is elsewhere, its name.
func (bd *build) dockerfileName() string {
	if bd.src.path == "" {
		return bd.src.name
	}
	dir, err := filepath.Abs(bd.opt.Context)
	file, fileErr := filepath.Abs(bd.src.path)
	if rel, relErr := filepath.Rel(dir, file); errors.Join(err, fileErr, relErr) == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.Base(bd.src.path)
}

// locate turns an error about a position into one that shows it.
func (d dockerfile) locate(err *Error, pos stages.Position) *Error {
	err.File, err.Path, err.Source, err.Pos = d.name, d.path, d.lines, pos
	return err
}
