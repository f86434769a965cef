package ui

import (
	"io"
	"os"
	"sync"

	"gobuild/internal/rescue"
)

// spool is a writer that never waits for the one behind it: a terminal that is
// stopped, or a slow pipe, must not slow the build (FEATURES O5). What the other
// end does not take is kept in memory up to maxSpool, then in a file that has no
// name, so that nothing is lost and nothing is left behind. When that file cannot
// be had or written, or has maxSpoolFile, Write waits after all.
type spool struct {
	w   io.Writer
	dir string

	mu      sync.Mutex
	changed *sync.Cond // on any change of the fields below
	started bool
	mem     []byte   // to be written first
	file    *os.File // to be written after mem, from read to end
	read    int64
	end     int64
	writing bool  // a write to w is under way
	closed  bool  // no more writes will come
	err     error // of w: everything after it is dropped
	done    chan struct{}
}

func newSpool(w io.Writer, dir string) *spool {
	s := &spool{w: w, dir: dir, done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// Write takes p over. Its error is that of an earlier write to the other end.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if !s.started { // a command that prints nothing pays nothing
		s.started = true
		go s.drain()
	}
	if s.end > s.read || len(s.mem)+len(p) > maxSpool {
		if s.spill(p) {
			s.changed.Broadcast()
			return len(p), nil
		}
		for s.err == nil && (s.end > s.read || len(s.mem) > 0) {
			s.changed.Wait()
		}
	}
	s.mem = append(s.mem, p...)
	s.changed.Broadcast()
	return len(p), s.err
}

// spill appends p to the file, and says whether it is there.
func (s *spool) spill(p []byte) bool {
	if s.end+int64(len(p)) > maxSpoolFile {
		return false
	}
	if s.file == nil {
		f, err := unnamedFile(s.dir)
		if err != nil {
			return false
		}
		s.file = f
	}
	n, err := s.file.WriteAt(p, s.end)
	if err != nil || n != len(p) {
		return false // what was written lies behind end, so it does not count
	}
	s.end += int64(n)
	return true
}

// drain writes until the spool is closed and empty. It is the one goroutine of a spool; Close waits for it.
func (s *spool) drain() {
	defer close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	var buf []byte
	for {
		for len(s.mem) == 0 && s.end == s.read && !s.closed {
			s.changed.Wait()
		}
		if buf = s.take(buf); len(buf) == 0 {
			return
		}
		s.writing = true
		s.mu.Unlock()
		err := rescue.Do(func() error {
			_, err := s.w.Write(buf)
			return err
		})
		s.mu.Lock()
		s.writing = false
		if err != nil {
			s.err = err
			s.mem, s.read = nil, s.end
		}
		s.changed.Broadcast()
	}
}

// take gives the oldest part of what is kept, using buf's memory; it is empty when nothing is.
func (s *spool) take(buf []byte) []byte {
	if len(s.mem) > 0 {
		out := s.mem
		s.mem = buf[:0]
		return out
	}
	n := min(s.end-s.read, maxSpool)
	if n == 0 {
		return nil
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	got, err := s.file.ReadAt(buf, s.read)
	if err != nil || int64(got) != n { // what cannot be read back is lost, and said
		buf = append(buf[:0], "\n(part of the output was lost: its temporary file cannot be read)\n"...)
	}
	if s.read += n; s.read == s.end {
		s.read, s.end = 0, 0
		_ = s.file.Truncate(0) // only saves space
	}
	return buf
}

// Sync waits until everything was written.
func (s *spool) Sync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (len(s.mem) > 0 || s.end > s.read || s.writing) {
		s.changed.Wait()
	}
}

// idle says that the other end has taken everything.
func (s *spool) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || len(s.mem) == 0 && s.end == s.read && !s.writing
}

// Close waits until everything was written, and ends the goroutine. The writer behind stays open.
func (s *spool) Close() {
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.changed.Broadcast()
	s.mu.Unlock()
	if started {
		<-s.done
	}
	if s.file != nil {
		_ = s.file.Close()
	}
}
