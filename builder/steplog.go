package builder

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	tailLines = 20       // of a failed step that are shown again (FEATURES F1)
	maxLine   = 64 << 10 // a longer line goes out in pieces: memory stays bounded (HOSTILE H-76)
)

// stepLog hands a command's output on in whole lines, and keeps the last ones for the error.
type stepLog struct {
	em   *emitter
	info *StepInfo

	mu   sync.Mutex
	last []string
	outs []*lineWriter
}

func newStepLog(em *emitter, info *StepInfo) *stepLog { return &stepLog{em: em, info: info} }

// writer is one of the command's streams.
func (l *stepLog) writer(stream string) io.Writer {
	w := &lineWriter{log: l, stream: stream}
	l.outs = append(l.outs, w)
	return w
}

// flush sends what was written without a line end.
func (l *stepLog) flush() {
	for _, w := range l.outs {
		w.flush()
	}
}

func (l *stepLog) tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *stepLog) send(stream string, data []byte) {
	l.mu.Lock()
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		l.last = append(l.last, line)
	}
	if extra := len(l.last) - tailLines; extra > 0 {
		l.last = append([]string(nil), l.last[extra:]...)
	}
	l.mu.Unlock()
	l.em.emit(Event{Type: EventOutput, Step: l.info, Stream: stream, Data: data})
}

type lineWriter struct {
	log    *stepLog
	stream string
	mu     sync.Mutex
	rest   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 && len(w.rest) > maxLine {
		end = len(w.rest)
	}
	if end > 0 {
		w.log.send(w.stream, bytes.Clone(w.rest[:end]))
		w.rest = append(w.rest[:0], w.rest[end:]...)
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.log.send(w.stream, append(w.rest, '\n'))
		w.rest = nil
	}
}
