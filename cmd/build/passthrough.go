package main

import (
	"io"
	"sync"

	"gobuild/builder"
	"gobuild/ui"
)

// passThrough shows a program of gobuild run as if it had been started directly:
// its bytes go to the same stream, untouched, but a terminal gets clean text only.
type passThrough struct {
	printer *ui.Printer
	mu      sync.Mutex
	streams map[string]io.WriteCloser
	err     error // of the first write that failed
}

func newPassThrough(a *app) *passThrough {
	return &passThrough{printer: a.printer, streams: map[string]io.WriteCloser{
		"stdout": a.programStream(a.stdout),
		"stderr": a.programStream(a.stderr),
	}}
}

func (a *app) programStream(w io.Writer) io.WriteCloser {
	if isTerminal(w) {
		return ui.NewCleaner(w, a.theme().Enabled() && !a.flags.is("no-color"))
	}
	return rawStream{w}
}

// rawStream is a stream that the caller of gobuild owns.
type rawStream struct{ io.Writer }

func (rawStream) Close() error { return nil }

func (p *passThrough) event(e builder.Event) {
	switch e.Type {
	case builder.EventOutput:
		p.mu.Lock()
		defer p.mu.Unlock()
		w := p.streams[e.Stream]
		if w == nil {
			w = p.streams["stdout"]
		}
		if _, err := w.Write(e.Data); err != nil && p.err == nil {
			p.err = err
		}
	case builder.EventNotice, builder.EventWarning, builder.EventTransfer:
		p.printer.Event(e)
	case builder.EventStepStart, builder.EventStepDone, builder.EventCache, builder.EventDone:
	}
}

// close shows unfinished lines, and returns what went wrong with writing.
func (p *passThrough) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range []string{"stdout", "stderr"} {
		if err := p.streams[name].Close(); err != nil && p.err == nil {
			p.err = err
		}
	}
	return p.err
}
