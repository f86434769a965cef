package ui

import (
	"sync"
	"time"

	"gobuild/builder"
	"gobuild/internal/rescue"
)

const (
	firstFrame = 150 * time.Millisecond // a build that is over by then shows only what stays
	frameEvery = 100 * time.Millisecond

	defaultLogLines = 6
	defaultColumns  = 80
	defaultRows     = 24
)

// ttyView is the live view and the screen it is drawn on. It is guarded by Printer.mu.
type ttyView struct {
	live   liveView
	screen screen
	paused int // while it is positive nothing is drawn

	stop  chan struct{} // not nil while frames are drawn
	ended sync.WaitGroup
}

func (t *ttyView) init(opt *Options) {
	if opt.LogLines == 0 {
		opt.LogLines = defaultLogLines
	}
	opt.LogLines = min(opt.LogLines, maxLogLines)
	t.live = newLiveView(opt)
}

// tick has the view drawn from now on, until endTicks.
func (p *Printer) tick() {
	if p.tty.stop != nil {
		return
	}
	stop := make(chan struct{})
	p.tty.stop = stop
	p.tty.ended.Go(func() {
		// A view that cannot be drawn is given up: the build is what matters.
		_ = rescue.Do(func() error {
			p.drawFrames(stop)
			return nil
		})
	})
}

func (p *Printer) drawFrames(stop <-chan struct{}) {
	for next := time.NewTimer(firstFrame); ; next.Reset(frameEvery) {
		select {
		case <-next.C:
			p.draw()
		case <-stop:
			next.Stop()
			return
		}
	}
}

// endTicks ends the drawing; what stays is written.
func (p *Printer) endTicks() {
	p.mu.Lock()
	p.tty.paused = 0
	p.settle()
	stop := p.tty.stop
	p.tty.stop = nil
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		p.tty.ended.Wait()
	}
}

// Reveal shows all that a running step has printed, where the view has only its last lines.
func (p *Printer) Reveal(step *builder.StepInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tty.live.reveal(step)
}

// Pause takes the changing part of the view from the terminal, for somebody else to write there, until the returned function is called.
// Events are still taken meanwhile.
func (p *Printer) Pause() (resume func()) {
	p.mu.Lock()
	p.settle()
	p.tty.paused++
	p.mu.Unlock()
	p.Sync()
	return func() {
		p.mu.Lock()
		p.tty.paused--
		p.mu.Unlock()
	}
}

// draw writes what stays and the present frame, unless a slow terminal has not taken the one before.
func (p *Printer) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty.paused > 0 || p.spool != nil && !p.spool.idle() {
		return
	}
	columns, rows := p.size()
	p.put(p.tty.live.frame(p.opt.Now(), columns-1, rows-1), columns)
}

// settle writes what stays, and leaves nothing else on the terminal.
func (p *Printer) settle() {
	if p.opt.Mode == TTY && p.tty.paused == 0 {
		columns, _ := p.size()
		p.put(nil, columns)
	}
}

func (p *Printer) size() (columns, rows int) {
	if p.opt.Size != nil {
		columns, rows = p.opt.Size()
	}
	if columns <= 0 || rows <= 0 {
		return defaultColumns, defaultRows
	}
	return max(columns, 2), max(rows, 2)
}

// put writes the lines that stay, and the region after them.
func (p *Printer) put(region []string, columns int) {
	var lines []string
	kept := p.tty.live.kept
	p.tty.live.kept = nil
	for _, k := range kept {
		if k.log == nil {
			lines = append(lines, p.stamp(k.at)+k.line(p.opt.Color, columns, p.tty.live.marks.more))
			continue
		}
		p.write(p.tty.screen.redraw(lines, len(lines), columns))
		lines = lines[:0]
		if _, err := k.log.WriteTo(printerWriter{p}); err != nil {
			lines = append(lines, "(part of the output cannot be read back: "+Line(err.Error())+")")
		}
		k.log.close()
	}
	if len(lines)+len(region)+len(p.tty.screen.shown) > 0 {
		p.write(p.tty.screen.redraw(append(lines, region...), len(lines), columns))
	}
}

// line is the form of what stays.
func (k *keptLine) line(theme Theme, columns int, more string) string {
	const shortest = 20
	text := k.text
	if k.right != "" {
		text = fit(text, max(columns-1-cells(k.right), shortest), more) + k.right
	}
	return theme.paint(k.sgr, text)
}

// printerWriter writes as Printer.write does.
type printerWriter struct{ p *Printer }

func (w printerWriter) Write(b []byte) (int, error) {
	w.p.write(b)
	return len(b), nil
}
