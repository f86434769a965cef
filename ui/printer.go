package ui

import (
	"io"
	"sync"
	"time"

	"gobuild/builder"
)

// Mode chooses the form of the output.
type Mode string

// The modes. Errors are shown in each of them.
const (
	Plain   Mode = "plain"   // lines for people and logs
	RawJSON Mode = "rawjson" // one object per line
	Quiet   Mode = "quiet"   // errors only; the caller prints the id
	None    Mode = "none"    // errors only
)

// Level hides what is less important. Output and results of steps have no level.
type Level int

// The levels. The zero Level shows everything.
const (
	LevelInfo  Level = iota // notices, warnings and errors
	LevelWarn               // warnings and errors
	LevelError              // errors
)

// Options shape a Printer. The zero value prints plain text without colour.
type Options struct {
	Mode       Mode
	Color      Theme
	Level      Level
	Explain    bool             // show the details of cache decisions
	Timestamps bool             // begin each line with the time, RFC 3339
	ErrorJSON  bool             // Fail writes an object rather than a block
	Dir        string           // files below it are shown relative to it; "" leaves paths alone
	SpoolDir   string           // where output waits for a slow reader; "" writes directly, so a slow reader slows the caller
	Now        func() time.Time // clock for lines without an event; nil is time.Now
}

// Printer shows events and errors. Make one with New.
type Printer struct {
	opt Options

	mu    sync.Mutex
	w     io.Writer
	spool *spool // in front of w; nil when it is written directly
	plain plainView
}

// New returns a Printer that writes to w, one Write per event. Close it when Options.SpoolDir is set.
func New(w io.Writer, opt Options) *Printer {
	if opt.Mode == "" {
		opt.Mode = Plain
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	p := &Printer{opt: opt, w: w}
	if opt.SpoolDir != "" {
		p.spool = newSpool(w, opt.SpoolDir)
		p.w = p.spool
	}
	p.plain = plainView{opt: &p.opt, steps: map[*builder.StepInfo]*stepView{}, transfers: map[string]time.Time{}}
	return p
}

// Event shows one event. It is what builder.Options.Progress wants.
func (p *Printer) Event(e builder.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hidden(e.Type) {
		return
	}
	if e.Time.IsZero() {
		e.Time = p.opt.Now()
	}
	switch p.opt.Mode {
	case Plain:
		p.plain.event(e)
		p.flush(e.Time)
	case RawJSON:
		p.write(eventJSON(e))
	case Quiet, None:
	}
}

// Notice shows a remark of the caller's own as if the builder had made it.
func (p *Printer) Notice(text string) {
	p.Event(builder.Event{Type: builder.EventNotice, Text: text})
}

// Warning shows a warning of the caller's own.
func (p *Printer) Warning(text string) {
	p.Event(builder.Event{Type: builder.EventWarning, Text: text})
}

// Fail shows the error that ended the command: a block for people (F1), or an
// object in rawjson mode and with Options.ErrorJSON. It is shown in every mode.
func (p *Printer) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opt.Now()
	if p.opt.Mode == RawJSON || p.opt.ErrorJSON {
		p.write(errorJSON(err, p.opt.Dir, now))
		return
	}
	p.plain.flushAll()
	p.plain.out = append(p.plain.out, errorBlock(err, &p.opt)...)
	p.flush(now)
}

// Sync waits until everything shown so far was written.
func (p *Printer) Sync() {
	if p.spool != nil {
		p.spool.Sync()
	}
}

// Close waits until everything was written. The writer given to New stays open.
func (p *Printer) Close() {
	if p.spool != nil {
		p.spool.Close()
	}
}

// hidden applies the level.
func (p *Printer) hidden(t builder.EventType) bool {
	switch t {
	case builder.EventNotice:
		return p.opt.Level > LevelInfo
	case builder.EventWarning:
		return p.opt.Level > LevelWarn
	case builder.EventStepStart, builder.EventOutput, builder.EventStepDone, builder.EventCache,
		builder.EventTransfer, builder.EventDone:
	}
	return false
}

// flush writes the lines that the plain view has ready.
func (p *Printer) flush(now time.Time) {
	if len(p.plain.out) == 0 {
		return
	}
	size := 0
	for _, l := range p.plain.out {
		size += len(l) + len(time.RFC3339) + 8
	}
	buf := make([]byte, 0, size)
	for _, l := range p.plain.out {
		if p.opt.Timestamps {
			buf = now.AppendFormat(buf, time.RFC3339)
			buf = append(buf, ' ')
		}
		buf = append(buf, l...)
		buf = append(buf, '\n')
	}
	clear(p.plain.out)
	p.plain.out = p.plain.out[:0]
	p.write(buf)
}

// write gives up a view that cannot be written: the build is what matters.
func (p *Printer) write(b []byte) {
	if _, err := p.w.Write(b); err != nil {
		p.w = io.Discard
	}
}
