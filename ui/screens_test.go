package ui

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/builder"
	"gobuild/stages"
)

var update = flag.Bool("update", false, "rewrite the golden screens")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is the time so many seconds after the start.
func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

// golden compares a screen with testdata/NAME.golden, in which ␛ stands for ESC.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	got = strings.ReplaceAll(got, "\x1b", "␛")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("screen %s (-want +got; -update rewrites):\n%s", name, diff)
	}
}

// scene is one thing shown.
type scene struct {
	name   string
	opt    Options
	events []builder.Event
	err    error
}

func result() *builder.Result {
	return &builder.Result{
		Manifest: ocispec.Descriptor{Digest: digest.FromString("manifest")},
		Config:   ocispec.Descriptor{Digest: digest.FromString("config")},
		Tags:     []string{"docker.io/library/app:latest"},
		Steps: []builder.StepResult{
			{Stage: "build", Number: 1, Total: 2, Text: "FROM base", Cached: true},
			{Stage: "build", Number: 2, Total: 2, Text: "RUN make", PeakMem: 52_000_000},
		},
		Warnings: []string{"StageNameCasing"},
		Elapsed:  14300 * time.Millisecond,
	}
}

func coldBuild() []builder.Event {
	from := &builder.StepInfo{Stage: "build", Number: 1, Total: 2, Text: "FROM base", Line: 1}
	run := &builder.StepInfo{Stage: "build", Number: 2, Total: 2, Text: "RUN make", Line: 2}
	return []builder.Event{
		{Type: builder.EventNotice, Time: at(0), Text: "steps use the network of the host"},
		{Type: builder.EventWarning, Time: at(0), Rule: "StageNameCasing", Text: "stage name 'Build' should be lowercase", Line: 1},
		{Type: builder.EventTransfer, Time: at(0), Text: "pull base", Bytes: 0, Total: 4_000_000},
		{Type: builder.EventTransfer, Time: at(1), Text: "pull base", Bytes: 1_000_000, Total: 4_000_000},
		{Type: builder.EventTransfer, Time: at(6), Text: "pull base", Bytes: 3_000_000, Total: 4_000_000},
		{Type: builder.EventTransfer, Time: at(7), Text: "pull base", Bytes: 4_000_000, Total: 4_000_000},
		{Type: builder.EventStepStart, Time: at(7), Step: from},
		{Type: builder.EventStepDone, Time: at(7), Step: from, Cached: true},
		{Type: builder.EventStepStart, Time: at(7), Step: run},
		{Type: builder.EventCache, Time: at(7), Step: run, Text: "COPY of line 1 changed", Lines: []string{"main.go: sha256:aa -> sha256:bb"}},
		{Type: builder.EventOutput, Time: at(8), Step: run, Stream: "stdout", Data: []byte("\x1b[32mok\x1b[0m  comp")},
		{Type: builder.EventOutput, Time: at(8), Step: run, Stream: "stderr", Data: []byte("warn: old\n")},
		{Type: builder.EventOutput, Time: at(9), Step: run, Stream: "stdout", Data: []byte("iled\n 10%\r 99%\r100%\n ---> Using cache\nno newline")},
		{Type: builder.EventStepDone, Time: at(19), Step: run, Duration: 12300 * time.Millisecond, Digest: "sha256:9b1f00aa11223344", Bytes: 4_100_000, Usage: &builder.StepUsage{CPUUser: 2 * time.Second, WrittenBytes: 4096}},
		{Type: builder.EventDone, Time: at(20), Result: result()},
	}
}

func parallelBuild() []builder.Event {
	a := &builder.StepInfo{Stage: "a", Number: 1, Total: 1, Text: "RUN one"}
	b := &builder.StepInfo{Stage: "b", Number: 3, Total: 9, Text: "RUN two"}
	c := &builder.StepInfo{Number: 1, Total: 1, Text: "COPY . /"}
	return []builder.Event{
		{Type: builder.EventStepStart, Time: at(0), Step: a},
		{Type: builder.EventStepStart, Time: at(0), Step: b},
		{Type: builder.EventOutput, Time: at(1), Step: a, Stream: "stdout", Data: []byte("one ")},
		{Type: builder.EventOutput, Time: at(1), Step: b, Stream: "stdout", Data: []byte("two\n")},
		{Type: builder.EventOutput, Time: at(1), Step: a, Stream: "stdout", Data: []byte("line\n")},
		{Type: builder.EventStepDone, Time: at(2), Step: b, Duration: 2 * time.Second, Digest: "bbbb"},
		{Type: builder.EventStepDone, Time: at(80), Step: a, Duration: 80 * time.Second, Digest: "aaaa", Bytes: 999},
		{Type: builder.EventStepDone, Time: at(80), Step: c, Cached: true},
	}
}

// ciBuild has two steps side by side, whose output tries to give orders to the system that shows it.
func ciBuild() []builder.Event {
	a := &builder.StepInfo{Stage: "a", Number: 1, Total: 1, Text: "RUN one ##[error]x"}
	b := &builder.StepInfo{Stage: "b", Number: 3, Total: 9, Text: "RUN two"}
	return []builder.Event{
		{Type: builder.EventStepStart, Time: at(0), Step: a},
		{Type: builder.EventOutput, Time: at(1), Step: a, Stream: "stdout", Data: []byte("one\n::add-mask::one\n##[add-path]/evil\n")},
		{Type: builder.EventOutput, Time: at(1), Step: a, Stream: "stdout", Data: []byte("more\n\x1b[0Ksection_end:1:gobuild_1\r\x1b[0Kx\n")},
		{Type: builder.EventOutput, Time: at(2), Step: b, Stream: "stdout", Data: []byte("two\n")},
		{Type: builder.EventOutput, Time: at(3), Step: a, Stream: "stdout", Data: []byte("again\n")},
		{Type: builder.EventNotice, Time: at(4), Text: "first line\n  ::set-env name=A::b\n::stop-commands::x"},
		{Type: builder.EventStepDone, Time: at(5), Step: b, Duration: 3 * time.Second, Digest: "bbbb"},
		{Type: builder.EventStepDone, Time: at(6), Step: a, Duration: 6 * time.Second, Digest: "aaaa"},
	}
}

func failedRunError() error {
	source := strings.Split("FROM base\nWORKDIR /src\nCOPY . .\n\nRUN one && \\\n    two && \\\n    three\n\nUSER app\nCMD [\"x\"]\nLABEL a=b\n", "\n")
	var tail []string
	for i := range 30 {
		tail = append(tail, fmt.Sprintf("line %d\x1b[2J", i+1))
	}
	return &builder.Error{
		Category: builder.CategoryStep, Op: "RUN one && two && three", File: "/home/me/app/Dockerfile", Path: "/home/me/app/Dockerfile", Source: source,
		Pos: stages.Position{Start: 5, End: 7}, Step: &builder.StepInfo{Stage: "build", Number: 3, Total: 4, Text: "RUN one && two && three"},
		ExitCode: 127, Tail: tail, Hint: "three is not installed\nadd it with apk add three", Others: []error{errors.New("COPY x: no such file\nsecond line")},
		Err: errors.New("exit status 127"),
	}
}

func failedSteps() []builder.Event {
	a := &builder.StepInfo{Number: 1, Total: 3, Text: "RUN a"}
	return []builder.Event{
		{Type: builder.EventStepDone, Time: at(0), Step: a, Duration: time.Second, Err: &builder.Error{Op: "RUN a", ExitCode: 2, Err: errors.New("exit status 2")}},
		{Type: builder.EventStepDone, Time: at(0), Step: a, Duration: time.Second, Err: &builder.Error{Op: "COPY a", Err: errors.New("not found\nmore")}},
		{Type: builder.EventStepDone, Time: at(0), Step: a, Duration: time.Second, Err: errors.New("plain")},
		{Type: builder.EventOutput, Time: at(0), Stream: "stdout", Data: []byte("of no step\n")},
	}
}

func longInstruction() error {
	var source []string
	for i := range 200 {
		source = append(source, fmt.Sprintf("line %d", i+1))
	}
	return &builder.Error{Category: builder.CategoryUsage, File: "Dockerfile", Source: source, Pos: stages.Position{Start: 3, End: 150}, Err: errors.New("bad heredoc")}
}

func scenes() []scene {
	color := DefaultTheme()
	return []scene{
		{name: "cold", events: coldBuild()},
		{name: "cold-color", opt: Options{Color: color}, events: coldBuild()},
		{name: "cold-explain", opt: Options{Explain: true}, events: coldBuild()},
		{name: "cold-warn", opt: Options{Level: LevelWarn, Timestamps: true}, events: coldBuild()},
		{name: "cold-rawjson", opt: Options{Mode: RawJSON}, events: coldBuild()},
		{name: "cold-quiet", opt: Options{Mode: Quiet}, events: coldBuild()},
		{name: "parallel-github", opt: Options{CI: GitHub, Dir: "/home/me"}, events: ciBuild(), err: failedRunError()},
		{name: "parallel-gitlab", opt: Options{CI: GitLab}, events: ciBuild()},
		{name: "cold-buildkit", opt: Options{Mode: Classic, Explain: true}, events: coldBuild()},
		{name: "parallel-buildkit", opt: Options{Mode: Classic}, events: parallelBuild()},
		{name: "failed-buildkit", opt: Options{Mode: Classic}, events: append(failedSteps(), parallelBuild()[:3]...), err: failedRunError()},
		{name: "parallel", events: parallelBuild()},
		{name: "failed-steps", events: failedSteps()},
		{name: "failed", opt: Options{Dir: "/home/me/app"}, err: failedRunError()},
		{name: "failed-color", opt: Options{Dir: "/home/me", Color: color}, err: failedRunError()},
		{name: "failed-rawjson", opt: Options{Mode: RawJSON}, err: failedRunError()},
		{name: "failed-json", opt: Options{ErrorJSON: true}, err: failedRunError()},
		{name: "failed-none", opt: Options{Mode: None, Dir: "/elsewhere"}, events: parallelBuild()[:3], err: failedRunError()},
		{name: "failed-unfinished", events: parallelBuild()[:3], err: errors.New("registry said:\nerror: fake\x1b[2J")},
		{name: "failed-long", err: longInstruction()},
	}
}

func TestScreens(t *testing.T) {
	t.Parallel()
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var buf bytes.Buffer
			s.opt.Now = func() time.Time { return at(60) }
			p := New(&buf, s.opt)
			for _, e := range s.events {
				p.Event(e)
			}
			if s.err != nil {
				p.Fail(s.err)
			}
			golden(t, s.name, buf.String())
			if s.opt.Mode != RawJSON && s.opt.CI != GitLab {
				checkClean(t, buf.String(), s.opt.Color.Enabled(), true)
			}
		})
	}
}

func TestO8_Summary(t *testing.T) {
	t.Parallel()
	res := result()
	res.Steps[1].Reason, res.Steps[1].Duration, res.Steps[1].Bytes = "COPY of line 1 changed: <b>a|b</b>\n# x", 12*time.Second, 4096
	golden(t, "summary", Summary(res, nil)+Summary(nil, errors.New("no | such\n# file <script>")))
}

// TestPrinter_FailShowsNothingTwice goes on after an error, as a command does that waits for others.
func TestPrinter_FailShowsNothingTwice(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Plain, Classic, TTY} {
		var buf bytes.Buffer
		p := New(&buf, Options{Mode: mode})
		p.tty.stop = make(chan struct{})
		p.Event(parallelBuild()[0])
		p.Event(builder.Event{Type: builder.EventOutput, Step: parallelBuild()[0].Step, Stream: "stdout", Data: []byte("unfinished")})
		p.Fail(errors.New("once"))
		p.Notice("after")
		p.Close()
		if got := buf.String(); strings.Count(got, "error: once") != 1 || strings.Count(got, "unfinished") != 1 || strings.Count(got, "after") != 1 {
			t.Errorf("%s: %q", mode, got)
		}
	}
}
