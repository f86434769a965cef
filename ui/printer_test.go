package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/builder"
)

// brokenWriter fails after its first write.
type brokenWriter struct{ writes int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	w.writes++
	return 0, errors.New("gone")
}

func TestPrinter_GivesUpAViewThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := &brokenWriter{}
	p := New(w, Options{})
	p.Notice("one")
	p.Notice("two")
	if w.writes != 1 {
		t.Errorf("%d writes to a broken stream", w.writes)
	}
}

func TestO3_LinesOfParallelStepsStayWhole(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := New(&buf, Options{})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		step := &builder.StepInfo{Stage: name, Number: 1, Total: 1, Text: "RUN x"}
		wg.Go(func() {
			for range 200 {
				p.Event(builder.Event{Type: builder.EventOutput, Step: step, Stream: "stdout", Data: []byte(strings.Repeat(name, 3))})
				p.Event(builder.Event{Type: builder.EventOutput, Step: step, Stream: "stdout", Data: []byte(strings.Repeat(name, 3) + "\n")})
			}
		})
	}
	wg.Wait()
	for _, l := range strings.Split(strings.TrimSpace(buf.String()), "\n") {
		switch l {
		case "[a 1/1] aaaaaa", "[b 1/1] bbbbbb", "[c 1/1] cccccc",
			"Step 1/1 [a] : RUN x", "Step 1/1 [b] : RUN x", "Step 1/1 [c] : RUN x":
		default:
			t.Fatalf("mixed line %q", l)
		}
	}
}

func TestO6_RawJSONIsOneCleanObjectPerLine(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := New(&buf, Options{Mode: RawJSON})
	step := &builder.StepInfo{Number: 1, Total: 1, Text: "RUN \u202e\x7f\u009b"}
	p.Event(builder.Event{Type: builder.EventOutput, Step: step, Stream: "stdout", Data: []byte("\xff\n")})
	p.Event(builder.Event{Type: builder.EventOutput, Step: step, Stream: "stdout", Data: []byte("a\x1b[2J\nb")})
	p.Event(builder.Event{Type: "something new", Text: "x"})
	p.Fail(errors.New("bad"))
	lines := strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	var last struct {
		V       int
		Type    string
		Message string
	}
	for _, l := range lines {
		checkClean(t, l, false, false)
		if err := json.Unmarshal([]byte(l), &last); err != nil {
			t.Fatalf("%v in %q", err, l)
		}
		if last.V != 1 {
			t.Errorf("v is %d in %q", last.V, l)
		}
	}
	if last.Type != "error" || last.Message != "bad" {
		t.Errorf("last object is %+v", last)
	}
	var first struct {
		Step       struct{ Text string }
		DataBase64 []byte
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	if first.Step.Text != step.Text || string(first.DataBase64) != "\xff\n" {
		t.Errorf("bytes were changed: %+v", first)
	}
}

func TestO7_Colors(t *testing.T) {
	t.Parallel()
	tests := []struct{ list, run, err, fail string }{
		{"run=cyan:error=1,2,3", "36", "38;2;1;2;3", ""},
		{"error=light-red", "34", "91", ""},
		{"", "34", "31", ""},
		{"run", "34", "31", "is not key=colour"},
		{"run=pink", "34", "31", "unknown colour"},
		{"run=1,2,300", "34", "31", "0 to 255"},
		{"sky=blue", "34", "31", "unknown key"},
	}
	for _, tt := range tests {
		got, err := DefaultTheme().ParseColors(tt.list)
		if tt.fail != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("%q: error %v, want one with %q", tt.list, err, tt.fail)
			}
			continue
		}
		if err != nil || got.Run != tt.run || got.Error != tt.err {
			t.Errorf("%q: %+v, %v", tt.list, got, err)
		}
	}
}

// hintErr is an error with a remedy, possibly empty, around another.
type hintErr struct {
	error
	hint string
}

func (h hintErr) Unwrap() error  { return h.error }
func (h hintErr) Remedy() string { return h.hint }

func TestRemedy_IsTheOutermostThatSaysSomething(t *testing.T) {
	t.Parallel()
	inner := hintErr{errors.New("x"), "inner"}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"none", errors.New("x"), ""},
		{"inner", inner, "inner"},
		{"an empty one is passed over", hintErr{inner, ""}, "inner"},
		{"outer wins", hintErr{inner, "outer"}, "outer"},
		{"within joined errors", errors.Join(errors.New("y"), inner), "inner"},
		{"an empty one around joined errors", &builder.Error{Err: errors.Join(errors.New("y"), inner)}, "inner"},
	} {
		if got := remedy(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.00s", 23 * time.Millisecond: "0.02s", 1240 * time.Millisecond: "1.2s", 59 * time.Second: "59.0s", 80 * time.Second: "1m20s", 2 * time.Hour: "2h0m0s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
