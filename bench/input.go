package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// material yields bytes that compress about as well as source trees and programs do: three parts source text of the Go standard
// library, one part noise. The same seed yields the same bytes.
type material struct {
	text []byte
	rng  *rand.Rand
}

const (
	textPool  = 16 << 20 // beyond the window of gzip, so that repeats do not make it look better than it is
	runLength = 16 << 10 // bytes taken in one piece
)

func newMaterial(ctx context.Context) (*material, error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("find the standard library: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(goroot)), "src")
	m := &material{rng: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // inputs must repeat
	err = filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(m.text) >= textPool {
			return fs.SkipAll
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		data, err := os.ReadFile(p)
		m.text = append(m.text, data...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the standard library's source as test input: %w", err)
	}
	if len(m.text) < 2*runLength {
		return nil, fmt.Errorf("the standard library's source is missing below %s", src)
	}
	return m, nil
}

// fill overwrites p.
func (m *material) fill(p []byte) {
	for len(p) > 0 {
		n := min(len(p), runLength)
		if m.rng.IntN(4) == 0 {
			for i := range p[:n] {
				p[i] = byte(m.rng.Uint32())
			}
		} else {
			copy(p[:n], m.text[m.rng.IntN(len(m.text)-n):])
		}
		p = p[n:]
	}
}

// smallFiles writes n files of about 5.7 KB on average.
func (m *material) smallFiles(dir string, n int) error { return m.files(dir, n, 5700) }

// files writes n files of mean bytes on average, a hundred to a directory.
func (m *material) files(dir string, n, mean int) error {
	buf := make([]byte, max(8*mean, 64<<10))
	for i := range n {
		size := min(int(m.rng.ExpFloat64()*float64(mean))+1, len(buf))
		m.fill(buf[:size])
		name := filepath.Join(dir, fmt.Sprintf("d%03d", i/100), fmt.Sprintf("file%05d.go", i))
		if err := writeFile(name, buf[:size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bigFile writes one file of size bytes.
func (m *material) bigFile(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	buf := make([]byte, runLength)
	for left := size; left > 0; {
		p := buf[:min(left, runLength)]
		m.fill(p)
		if _, err := w.Write(p); err != nil {
			return err
		}
		left -= int64(len(p))
	}
	return w.Flush()
}
