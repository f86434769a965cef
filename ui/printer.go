package ui

import (
	"io"
	"slices"
	"sync"
	"time"

	"gobuild/builder"
)

// Mode chooses the form of the output.
type Mode string

// The modes. Errors are shown in each of them.
const (
	Plain   Mode = "plain"          // lines for people and logs
	TTY     Mode = "tty"            // a view that changes, on a terminal
	Classic Mode = "plain-buildkit" // lines as BuildKit writes them
	RawJSON Mode = "rawjson"        // one object per line
	Quiet   Mode = "quiet"          // errors only; the caller prints the id
	None    Mode = "none"           // errors only
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
	Explain    bool                       // show the details of cache decisions
	Timestamps bool                       // begin each line with the time, RFC 3339
	ErrorJSON  bool                       // Fail writes an object rather than a block
	Dir        string                     // files below it are shown relative to it; "" leaves paths alone
	Size       func() (columns, rows int) // of the terminal, in TTY mode; nil is 80 by 24
	SpoolDir   string                     // where output waits for a slow reader; "" writes directly, so a slow reader slows the caller
	LogLines   int                        // of the output of each running step, in TTY mode; 0 is 6
	CI         CI                         // whose marks the lines get, in Plain mode
	ASCII      bool                       // the terminal shows no other characters, in TTY mode
	Now        func() time.Time           // clock for lines without an event; nil is time.Now
}

// Printer shows events and errors. Make one with New.
type Printer struct {
	opt Options

	mu    sync.Mutex
	w     io.Writer
	spool *spool // in front of w; nil when it is written directly
	plain plainView
	tty   ttyView
	kit   buildkitView
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
	p.tty.init(&p.opt)
	p.kit = buildkitView{opt: &p.opt, steps: map[*builder.StepInfo]*vertex{}, moves: map[string]*vertex{}}
	p.plain = plainView{opt: &p.opt, steps: map[*builder.StepInfo]*stepView{}, transfers: map[string]time.Time{}, folds: folds{ci: opt.CI}}
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
		p.flush(&p.plain.out, e.Time)
	case Classic:
		p.kit.event(e)
		p.flush(&p.kit.out, e.Time)
	case TTY:
		p.tty.live.event(e)
		p.tick()
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
	if p.opt.Mode == TTY {
		p.tty.live.end()
		p.settle()
	}
	p.plain.now = now
	p.plain.flushAll()
	p.kit.flushAll()
	p.plain.add(errorBlock(err, &p.opt)...)
	lines := slices.Concat(p.kit.out, p.plain.out, p.opt.CI.annotation(err, p.opt.Dir))
	p.plain.out, p.kit.out = nil, nil
	p.flush(&lines, now)
}

// Sync waits until everything shown so far was written.
func (p *Printer) Sync() {
	p.mu.Lock()
	p.settle()
	p.mu.Unlock()
	if p.spool != nil {
		p.spool.Sync()
	}
}

// Close waits until everything was written. The writer given to New stays open.
func (p *Printer) Close() {
	p.endTicks()
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

// flush writes lines that a view has ready, and takes them from it.
func (p *Printer) flush(lines *[]string, at time.Time) {
	if len(*lines) == 0 {
		return
	}
	stamp := p.stamp(at)
	size := 0
	for _, l := range *lines {
		size += len(stamp) + len(l) + 1
	}
	buf := make([]byte, 0, size)
	for _, l := range *lines {
		buf = append(buf, stamp...)
		buf = append(buf, l...)
		buf = append(buf, '\n')
	}
	clear(*lines)
	*lines = (*lines)[:0]
	p.write(buf)
}

// stamp is what --log-timestamp puts before a line.
func (p *Printer) stamp(at time.Time) string {
	if !p.opt.Timestamps {
		return ""
	}
	return at.Format(time.RFC3339) + " "
}

// write gives up a view that cannot be written: the build is what matters.
func (p *Printer) write(b []byte) {
	if _, err := p.w.Write(b); err != nil {
		p.w = io.Discard
	}
}
