package sbom

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

// minProgram is less than any program has; scripts and other small files are not opened.
const minProgram = 4 << 10

// program finds the modules that a Go program was built from.
func (s *scan) program(name string, f *os.File, _ int64) error {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != "\x7fELF" {
		return nil //nolint:nilerr // a file that cannot be read to its fourth byte is no program
	}
	in := &bounded{ctx: s.ctx, r: f, left: maxProgramReads}
	info, err := buildinfo.Read(in)
	if in.err != nil {
		return in.err
	}
	if err != nil {
		return nil //nolint:nilerr // a program of another language
	}
	return s.addGo(name, info)
}

func (s *scan) addGo(name string, info *debug.BuildInfo) error {
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	if err := s.add(name, library("golang", "stdlib", version)); err != nil {
		return err
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	for _, m := range modules {
		if m.Replace != nil && m.Replace.Path != "" && !isLocal(m.Replace.Path) {
			m = m.Replace
		}
		v := m.Version
		if v == "(devel)" {
			v = ""
		}
		if err := s.add(name, library("golang", m.Path, v)); err != nil {
			return err
		}
	}
	return nil
}

// isLocal tells a folder that replaces a module from another module: then the name that is replaced says more.
func isLocal(p string) bool {
	return strings.HasPrefix(p, "/") || strings.HasPrefix(p, "./") || strings.HasPrefix(p, "../") || p == "." || p == ".."
}

// bounded reads no more than is allowed of a file that claims sizes.
type bounded struct {
	ctx  context.Context //nolint:containedctx // of the one call that it is made for
	r    io.ReaderAt
	left int64
	err  error // why it reads no more
}

var errReads = errors.New("the program's own list of modules is not where it should be")

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		b.err = err
	}
	if b.left -= int64(len(p)); b.left < 0 && b.err == nil {
		b.err = fmt.Errorf("%w: %d bytes were looked through", errReads, maxProgramReads)
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.r.ReadAt(p, at)
}
