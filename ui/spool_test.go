package ui

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	buf  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.buf.Write(p)
}

func TestO5_AStoppedTerminalDoesNotStopTheBuild(t *testing.T) {
	defer goleak.VerifyNone(t)
	g := &gate{open: make(chan struct{})}
	dir := t.TempDir()
	s := newSpool(g, dir)
	var want strings.Builder
	line := strings.Repeat("x", 1000) + "\n"
	for range 5 * maxSpool / len(line) { // returns although nothing is read
		want.WriteString(line)
		if _, err := s.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if n := cap(s.mem); n > 2*maxSpool {
		t.Errorf("%d bytes in memory", n)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("a file is left in sight: %v, %v", list, err)
	}
	close(g.open)
	s.Sync()
	want.WriteString("last\n") // after the file was emptied, memory again
	if _, err := s.Write([]byte("last\n")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if g.buf.String() != want.String() {
		t.Errorf("%d bytes arrived, want %d, or their order differs", g.buf.Len(), want.Len())
	}
}

func TestO5_OrderIsKeptWhileTheFileIsBeingRead(t *testing.T) {
	defer goleak.VerifyNone(t)
	g := &gate{open: make(chan struct{})}
	s := newSpool(g, t.TempDir())
	var want strings.Builder
	write := func(text string) {
		want.WriteString(text)
		if _, err := s.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	waitEmpty := func() { // until the goroutine has taken what was in memory
		s.mu.Lock()
		defer s.mu.Unlock()
		for len(s.mem) > 0 {
			s.changed.Wait()
		}
	}
	write("first\n")
	write(strings.Repeat("m", maxSpool-20) + "\n")
	write("into the file, which comes after what is in memory\n")
	g.open <- struct{}{}
	waitEmpty()
	write("into the file too, although there is room in memory\n")
	close(g.open)
	s.Close()
	if g.buf.String() != want.String() {
		t.Error("the order differs")
	}
}

func TestO5_WithoutAFileTheSpoolWaits(t *testing.T) {
	defer goleak.VerifyNone(t)
	g := &gate{open: make(chan struct{})}
	s := newSpool(g, filepath.Join(t.TempDir(), "missing"))
	go close(g.open)
	total := 0
	for range 50 {
		n, err := s.Write(make([]byte, maxSpool/3))
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	s.Close()
	if g.buf.Len() != total {
		t.Errorf("%d of %d bytes arrived", g.buf.Len(), total)
	}
}

// hostile: H76
func TestO5_TheFileOfASpoolIsBounded(t *testing.T) {
	s := newSpool(io.Discard, t.TempDir())
	s.read, s.end = maxSpoolFile-10, maxSpoolFile-10 // as if it had that much, and all of it were written
	if s.spill([]byte("eleven more")) || s.file != nil {
		t.Error("more than the bound is in the file")
	}
	if !s.spill([]byte("ten bytes!")) || s.end != maxSpoolFile {
		t.Errorf("the file does not take what fits: it ends at %d", s.end)
	}
	if err := s.file.Close(); err != nil {
		t.Error(err)
	}
}

func TestSpool_GivesUpABrokenWriter(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := &brokenWriter{}
	s := newSpool(w, t.TempDir())
	_, _ = s.Write([]byte("x"))
	s.Sync()
	if _, err := s.Write([]byte("y")); err == nil {
		t.Error("the error is not told")
	}
	s.Close()
	if w.writes != 1 {
		t.Errorf("%d writes", w.writes)
	}
}

func TestSpool_UnusedCostsNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newSpool(&brokenWriter{}, t.TempDir())
	s.Sync()
	s.Close()
}

func TestPrinter_CloseWritesTheRest(t *testing.T) {
	defer goleak.VerifyNone(t)
	var buf bytes.Buffer
	p := New(&buf, Options{SpoolDir: t.TempDir()})
	p.Notice("one")
	p.Fail(errors.New("two"))
	p.Close()
	if got := buf.String(); got != "notice: one\nerror: two\n" {
		t.Errorf("wrote %q", got)
	}
}
