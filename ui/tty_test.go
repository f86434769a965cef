package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gobuild/builder"
)

// liveTest is a Printer in TTY mode whose frames are drawn by the test, and the terminal that shows them.
type liveTest struct {
	*Printer
	term *terminal
	now  time.Time
}

func newLiveTest(t *testing.T, columns, rows int, opt Options) *liveTest {
	l := &liveTest{term: newTerminal(t, columns, rows), now: at(0)}
	opt.Mode, opt.Now = TTY, func() time.Time { return l.now }
	opt.Size = func() (int, int) { return l.term.columns, l.term.rows }
	l.Printer = New(l.term, opt)
	l.tty.stop = make(chan struct{}) // no frames by themselves
	return l
}

// events shows events, with a frame after each.
func (l *liveTest) events(events ...builder.Event) {
	for _, e := range events {
		l.now = e.Time
		l.Event(e)
		l.draw()
	}
}

// busyBuild has two stages, a transfer and much output under way.
func busyBuild() []builder.Event {
	a := &builder.StepInfo{Stage: "build", Number: 3, Total: 9, Text: "RUN make all && make install PREFIX=/usr DESTDIR=/out with words that no line has room for, and then some more of them"}
	b := &builder.StepInfo{Stage: "web", Number: 1, Total: 2, Text: "COPY . /src"}
	c := &builder.StepInfo{Stage: "web", Number: 2, Total: 2, Text: "RUN npm ci"}
	d := &builder.StepInfo{Stage: "build", Number: 2, Total: 9, Text: "COPY src /src"}
	events := []builder.Event{
		{Type: builder.EventWarning, Time: at(0), Rule: "StageNameCasing", Text: "stage name 'Build' should be lowercase", Line: 1},
		{Type: builder.EventTransfer, Time: at(0), Text: "pull base", Total: 400_000_000},
		{Type: builder.EventStepStart, Time: at(0), Step: d},
		{Type: builder.EventStepDone, Time: at(0), Step: d, Cached: true},
		{Type: builder.EventStepStart, Time: at(0), Step: a},
		{Type: builder.EventCache, Time: at(0), Step: a, Text: "COPY of line 3 changed: main.go"},
		{Type: builder.EventStepStart, Time: at(1), Step: b},
		{Type: builder.EventCache, Time: at(1), Step: b, Text: "never built here"},
	}
	for i := range 9 {
		events = append(events, builder.Event{Type: builder.EventOutput, Time: at(1), Step: a, Stream: "stdout", Data: fmt.Appendf(nil, "\x1b[32mcompile\x1b[0m unit %d\n", i)})
	}
	return append(events,
		builder.Event{Type: builder.EventOutput, Time: at(2), Step: a, Stream: "stderr", Data: []byte(" 10%\r 57%")},
		builder.Event{Type: builder.EventStepDone, Time: at(3), Step: b, Duration: 2 * time.Second, Bytes: 1_200_000},
		builder.Event{Type: builder.EventStepStart, Time: at(3), Step: c},
		builder.Event{Type: builder.EventOutput, Time: at(4), Step: c, Stream: "stdout", Data: []byte("added 12 packages\n\x1b[2J\x1b[Hevil\n")},
		builder.Event{Type: builder.EventTransfer, Time: at(64), Text: "pull base", Bytes: 100_000_000, Total: 400_000_000},
	)
}

func TestO4_Screens(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name          string
		columns, rows int
		opt           Options
	}{
		{"tty-80", 80, 24, Options{}}, {"tty-60", 60, 12, Options{ASCII: true, Explain: true}}, {"tty-200", 200, 40, Options{LogLines: 20}},
		{"tty-40", 40, 6, Options{}}, {"tty-tiny", 5, 3, Options{}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l := newLiveTest(t, s.columns, s.rows, s.opt)
			l.events(busyBuild()...)
			golden(t, s.name, l.term.screen())
		})
	}
}

// TestO4_FailedStepIsShownInFull also has the colours, as bytes.
func TestO4_FailedStepIsShownInFull(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := New(&out, Options{Mode: TTY, Color: DefaultTheme(), Now: func() time.Time { return at(70) }})
	p.tty.stop = make(chan struct{})
	run, other := &builder.StepInfo{Stage: "a", Number: 1, Total: 2, Text: "RUN a"}, &builder.StepInfo{Stage: "b", Number: 1, Total: 1, Text: "RUN b"}
	p.Event(builder.Event{Type: builder.EventOutput, Step: other, Stream: "stdout", Data: []byte("of no interest\n")})
	var want strings.Builder
	for i := range 20_000 { // more than is held in memory
		line := fmt.Sprintf("line %d of the output", i)
		p.Event(builder.Event{Type: builder.EventOutput, Step: run, Stream: "stdout", Data: []byte(line + "\n")})
		fmt.Fprintf(&want, "[a 1/2] %s\n", line)
	}
	p.Event(builder.Event{Type: builder.EventStepDone, Step: run, Duration: time.Second, Err: &builder.Error{ExitCode: 3, Err: errors.New("exit code 3")}})
	p.Event(builder.Event{Type: builder.EventStepDone, Step: other, Duration: time.Second, Err: context.Canceled})
	want.WriteString("\x1b[31m✘ [a 1/2] RUN a  failed after 1.0s: exit code 3\x1b[0m\x1b[K\r\n\x1b[33m✘ [b 1/1] RUN b  canceled after 1.0s\x1b[0m\x1b[K\r\n\x1b[J")
	p.Fail(errors.New("the end"))
	want.WriteString("\x1b[31merror:\x1b[0m the end\n")
	got := out.String()
	if i := strings.Index(got, "[a 1/2]"); i >= 0 { // after a region that was never drawn
		got = got[i:]
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("-want +got:\n%.2000s", diff)
	}
}

// TestO4_WhatStaysIsNeverTouched has random builds on terminals of random and changing size: whatever was drawn in between, at the end
// every line that stays can be seen, in order, and nothing else.
func TestO4_WhatStaysIsNeverTouched(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		l := newLiveTest(t, 20+r.IntN(100), 2+r.IntN(30), Options{Timestamps: seed%5 == 0})
		var want strings.Builder
		var running []*builder.StepInfo
		for i := range 60 {
			l.now = l.now.Add(time.Duration(r.IntN(900)) * time.Millisecond)
			e := builder.Event{Time: l.now}
			switch kind := r.IntN(5); {
			case kind == 0 || len(running) == 0:
				e.Type, e.Step = builder.EventStepStart, &builder.StepInfo{Stage: "s", Number: i, Total: 99, Text: strings.Repeat("RUN x ", r.IntN(40))}
				running = append(running, e.Step)
			case kind == 1:
				n := r.IntN(len(running))
				e.Type, e.Step, e.Cached = builder.EventStepDone, running[n], true
				running = append(running[:n], running[n+1:]...)
			case kind == 2:
				e.Type, e.Text = builder.EventNotice, strings.Repeat(fmt.Sprintf("n%d日", i), 1+r.IntN(40))
				fmt.Fprintf(&want, "%snotice: %s\n", l.stamp(l.now), e.Text)
			case kind == 3:
				e.Type, e.Text, e.Bytes, e.Total = builder.EventTransfer, fmt.Sprintf("t%d", r.IntN(20)), int64(i), 1000
			default:
				e.Type, e.Step, e.Stream, e.Data = builder.EventOutput, running[r.IntN(len(running))], "stdout", []byte(strings.Repeat("output 出 ", r.IntN(30)))
			}
			l.Event(e)
			if r.IntN(2) == 0 {
				l.draw()
			}
			if r.IntN(20) == 0 {
				l.Sync()
			}
			if r.IntN(20) == 0 {
				l.term.rows += r.IntN(5)
				l.term.resize(l.term.columns + r.IntN(60))
			}
		}
		for _, s := range running {
			l.Event(builder.Event{Type: builder.EventStepDone, Step: s, Cached: true})
		}
		l.Event(builder.Event{Type: builder.EventDone, Time: l.now})
		l.draw()
		l.Close()
		if diff := cmp.Diff(want.String(), strings.TrimSuffix(l.term.all(), "\n")); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

// TestO4_ANarrowerTerminal breaks the lines of the region.
func TestO4_ANarrowerTerminal(t *testing.T) {
	t.Parallel()
	for columns := 119; columns > 30; columns -= 7 {
		l := newLiveTest(t, 120, 50, Options{})
		l.events(busyBuild()...)
		l.term.resize(columns)
		l.draw()
		if got := l.term.all(); strings.Count(got, "running") != 1 || strings.Count(got, "warning:") != 1 || strings.Count(got, "RUN npm ci") != 1 {
			t.Errorf("at %d columns:\n%s", columns, got)
		}
	}
}

func TestHostileH76_OutputKeptForAFailureIsBounded(t *testing.T) {
	t.Parallel()
	o := newOverflow(t.TempDir())
	o.limit = 3 * maxHeld
	defer o.close()
	line := strings.Repeat("x", 1023) + "\n"
	for range 1000 {
		o.add([]byte(line))
	}
	o.add([]byte("the end\n"))
	var got bytes.Buffer
	if _, err := o.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(got.String(), "\n")
	if !strings.Contains(first, "of the output") || len(rest) > 4*maxHeld || len(rest) < maxHeld || !strings.HasSuffix(rest, line+"the end\n") || o.lost+int64(len(rest)) != 1000*1024+8 {
		t.Errorf("%q, then %d bytes; %d lost", first, len(rest), o.lost)
	}
}

func TestO4_AShellFollowsWhatTheStepPrinted(t *testing.T) {
	t.Parallel()
	l := newLiveTest(t, 80, 24, Options{LogLines: 1})
	step := &builder.StepInfo{Stage: "a", Number: 1, Total: 2, Text: "RUN a"}
	l.events(builder.Event{Type: builder.EventOutput, Time: at(0), Step: step, Stream: "stdout", Data: []byte("one\ntwo\n")})
	l.Reveal(step)
	resume := l.Pause()
	l.events(builder.Event{Type: builder.EventOutput, Time: at(1), Step: step, Stream: "stdout", Data: []byte("meanwhile\n")})
	if got, want := l.term.all(), "[a 1/2] one\n[a 1/2] two\n\n"; got != want {
		t.Errorf("at the shell %q, want %q", got, want)
	}
	resume()
	l.events(builder.Event{Type: builder.EventStepDone, Time: at(2), Step: step, Err: errors.New("exit code 1")})
	if got := l.term.all(); strings.Count(got, "two") != 1 || strings.Count(got, "[a 1/2] meanwhile") != 1 {
		t.Errorf("%s", got)
	}
}

func TestO4_FramesFitEveryTerminal(t *testing.T) {
	t.Parallel()
	v := newLiveView(&Options{LogLines: 6, Color: DefaultTheme()})
	for _, e := range busyBuild() {
		v.event(e)
		for columns := 1; columns < 130; columns += 3 {
			for rows := 1; rows < 30; rows++ {
				lines := v.frame(e.Time, columns, rows)
				if len(lines) > rows {
					t.Fatalf("%d lines in %d rows", len(lines), rows)
				}
				for _, l := range lines {
					if cells(l) > columns {
						t.Fatalf("%q has %d of %d columns", l, cells(l), columns)
					}
				}
			}
		}
	}
}

func TestO4_ShortBuildsShowOnlyWhatStays(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := New(&out, Options{Mode: TTY, Size: func() (int, int) { return 80, 24 }, Now: func() time.Time { return at(0) }})
	step := &builder.StepInfo{Stage: "a", Number: 1, Total: 1, Text: "RUN a"}
	p.Event(builder.Event{Type: builder.EventStepStart, Step: step})
	p.Event(builder.Event{Type: builder.EventStepDone, Step: step, Cached: true})
	p.Event(builder.Event{Type: builder.EventDone, Result: result()})
	p.Close()
	if got := out.String(); strings.Contains(got, "running") || strings.Contains(got, "A") && strings.Contains(got, "\x1b[1A") || !strings.Contains(got, "Successfully built") {
		t.Errorf("%q", got)
	}
}

// TestO4_FramesAreDrawnAndSkipped has real time: frames come by themselves, none while somebody else has the terminal, and none that
// a slow terminal would have to catch up with.
func TestO4_FramesAreDrawnAndSkipped(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := New(w, Options{Mode: TTY, SpoolDir: t.TempDir()})
	step := &builder.StepInfo{Stage: "a", Number: 1, Total: 1, Text: "RUN a"}
	resume := p.Pause()
	p.Event(builder.Event{Type: builder.EventStepStart, Time: time.Now(), Step: step})
	resume()
	buf := make([]byte, 1<<10)
	n, err := r.Read(buf) // waits for the first frame
	if err != nil || !strings.Contains(string(buf[:n]), "[a 1/1] RUN a") {
		t.Errorf("%q, %v", buf[:n], err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	p.Event(builder.Event{Type: builder.EventStepDone, Time: time.Now(), Step: step})
	p.Close()
	_ = w.Close()
}

func TestO4_WidthsAreUpperBounds(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{"": 0, "abc": 3, "日本": 4, "e\u0301": 1, "👨‍👩‍👧": 6, "❤️": 2, "\x1b[1;31mred\x1b[0m": 3} {
		if got := cells(s); got != want {
			t.Errorf("%q has %d cells, want %d", s, got, want)
		}
	}
	for _, tt := range []struct {
		in    string
		width int
		want  string
	}{
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"abc", 1, "…"}, {"abc", 0, ""},
		{"\x1b[31mabcdef\x1b[0m", 4, "\x1b[31mabc…\x1b[0m"},
	} {
		if got := fit(tt.in, tt.width, "…"); got != tt.want {
			t.Errorf("fit(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}
