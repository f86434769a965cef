package builder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gobuild/internal/rescue"
)

// panicTries is how many moments of a build are tried: a build asks for the time, and tells events, in most of its goroutines.
const panicTries = 4

// TestHostileF38_APanicAnywhere: whatever panics, in whichever goroutine, the build ends with an error, its sandbox, helpers and goroutines
// with it; the next build needs no help.
func TestHostileF38_APanicAnywhere(t *testing.T) { // not parallel: it counts goroutines
	p := newShellProject(t, `FROM base AS one
COPY tree /tree
RUN cat /tree/a > /ab
FROM base
COPY --from=one /ab /ab
RUN --mount=type=cache,target=/c cat /ab
`, map[string]string{"tree/a": "a"})
	epoch := time.Unix(86400, 0)
	p.opt.SourceDateEpoch = &epoch
	before := goroutines()
	calls, events := &tripwire{}, &tripwire{}
	want, err := p.buildTripping(calls, events)
	must(t, err)
	t.Logf("%d times asked, %d events", calls.n.Load(), events.n.Load())
	for what, total := range map[string]int64{"the clock": calls.n.Load(), "an event": events.n.Load()} {
		for i := int64(1); i <= total; i += max(1, total/panicTries) {
			must(t, os.RemoveAll(p.root))
			clock, event := &tripwire{}, &tripwire{}
			if clock.at = i; what != "the clock" {
				clock.at, event.at = 0, i
			}
			when := fmt.Sprintf("a panic of %s at %d of %d", what, i, total)
			if _, err := p.buildTripping(clock, event); (err == nil || !strings.Contains(fmt.Sprint(err), "tripped")) && max(clock.n.Load(), event.n.Load()) >= i {
				t.Errorf("%s: the error is %v", when, err)
			}
			if list := childrenOf(t); list != "" {
				t.Errorf("%s: processes are left: %s", when, list)
			}
			res, err := p.buildTripping(&tripwire{}, &tripwire{})
			if err != nil || res.ID() != want.ID() {
				t.Errorf("%s: the next build gives %v, %v", when, res, err)
			}
			if list, err := filepath.Glob(filepath.Join(p.root, "snapshots/work/*")); err != nil || len(list) > 0 {
				t.Errorf("%s: left: %v, %v", when, list, err)
			}
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // those of closed connections end by and by
		after := goroutines()
		after = slices.DeleteFunc(after, func(g string) bool { return slices.Contains(before, g) })
		if len(after) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", strings.Join(after, "\n\n"))
		}
	}
}

// tripwire panics at its call of number at.
type tripwire struct {
	n  atomic.Int64
	at int64
}

func (w *tripwire) step() {
	if w.n.Add(1) == w.at {
		panic("tripped")
	}
}

// buildTripping is a build with traps, as main runs it: a panic of the caller's own goroutine is an error there, too.
func (p *project) buildTripping(clock, event *tripwire) (res *Result, err error) {
	p.t.Helper()
	exe, err := os.Executable()
	must(p.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = rescue.Do(func() error {
			b, err := Open(Config{Root: p.root, Executable: exe, Now: func() time.Time { clock.step(); return time.Now() }})
			if err != nil {
				return err
			}
			defer func() { must(p.t, b.Close()) }()
			opt := p.opt
			opt.Context = p.dir
			opt.Progress = func(Event) { event.step() }
			res, err = b.Build(p.t.Context(), opt)
			return err
		})
	}()
	select {
	case <-done:
		if bug := (*rescue.Panic)(nil); errors.As(err, &bug) && bug.Value != "tripped" {
			p.t.Errorf("%v\n%s", bug, bug.Stack)
		}
		return res, err
	case <-time.After(3 * time.Minute):
		var stacks [1 << 20]byte
		p.t.Fatalf("the build hangs\n%s", stacks[:runtime.Stack(stacks[:], true)])
		return nil, nil
	}
}

// goroutines are those of this program that run its own code, each by its stack without numbers.
func goroutines() []string {
	stacks := make([]byte, 4<<20)
	var list []string
	for g := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
		var lines []string
		for line := range strings.Lines(string(g)) {
			line, _, _ = strings.Cut(line, "(0x")
			if strings.HasPrefix(line, "gobuild/") || strings.HasPrefix(line, "created by gobuild/") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if len(lines) > 0 && !strings.Contains(string(g), "testing.tRunner") {
			list = append(list, strings.Join(lines, "\n"))
		}
	}
	return list
}

// childrenOf are the numbers of this process's children.
func childrenOf(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f) // a thread may have ended
		if err == nil {
			all = append(all, data...)
		}
	}
	return string(all)
}
