package ui

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// overflow keeps bytes in order: the first maxHeld in memory, more in a file that has no name, so that nothing is left behind. Where
// that file cannot be had, or would be larger than the limit, the newest bytes are kept and the loss is said.
type overflow struct {
	dir   string
	limit int64 // of the file
	held  []byte
	file  *os.File
	end   int64
	lost  int64
}

func newOverflow(dir string) *overflow { return &overflow{dir: dir, limit: maxOverflow} }

func (o *overflow) add(p []byte) {
	if len(o.held)+len(p) > maxHeld {
		o.spill()
	}
	o.held = append(o.held, p...)
}

// spill moves what is held to the file.
func (o *overflow) spill() {
	if o.file == nil {
		o.file, _ = unnamedFile(o.dir) // without one what is old is dropped
	}
	if o.file == nil {
		o.lost += int64(len(o.held))
		o.held = o.held[:0]
		return
	}
	if o.end+int64(len(o.held)) > o.limit {
		o.lost += o.end
		o.end = 0 // what is written over is not read
	}
	n, _ := o.file.WriteAt(o.held, o.end)
	o.end += int64(n)
	o.lost += int64(len(o.held) - n)
	o.held = o.held[:0]
}

// WriteTo gives what was added, after a word about what was lost.
func (o *overflow) WriteTo(w io.Writer) (n int64, err error) {
	if o.lost > 0 {
		written, err := fmt.Fprintf(w, "(%s of the output are left out here; gobuild logs has its beginning)\n", formatSize(o.lost))
		if n += int64(written); err != nil {
			return n, err
		}
	}
	if o.file != nil {
		written, err := io.Copy(w, io.NewSectionReader(o.file, 0, o.end))
		if n += written; err != nil {
			return n, err
		}
	}
	written, err := w.Write(o.held)
	return n + int64(written), err
}

func (o *overflow) close() {
	if o.file != nil {
		_ = o.file.Close()
	}
}

// unnamedFile makes a file that is gone when it is closed.
func unnamedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "gobuild-log-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
