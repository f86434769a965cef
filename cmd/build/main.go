package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"gobuild/sandbox"
	"gobuild/ui"
)

func main() {
	// First of all: doctor executes this binary again, in namespaces that it tries.
	if sandbox.IsChild(os.Args) {
		sandbox.ChildMain()
		return
	}
	// A panic in another goroutine is seen by the runtime alone: at least it shows
	// no stacks then. GOTRACEBACK=all brings them back.
	debug.SetTraceback("none")
	tuneMemory()
	os.Exit(guard(os.Stderr, func() int {
		who, ok := enterNamespace()
		if !ok {
			return exitEnvironment // who started this process has said why
		}
		ctx, stop := signalContext(context.Background(), who.signals(), os.Exit)
		defer stop()
		return runAs(ctx, who, argumentsOf(os.Args), os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	}))
}

// argumentsOf are the arguments of a process; the name that it was started by may be that of a command (FEATURES N8).
func argumentsOf(args []string) []string {
	if filepath.Base(args[0]) == "executor" {
		return append([]string{"executor"}, args[1:]...)
	}
	return args[1:]
}

// gcPercent and memoryGoal let a command that is over in milliseconds end before the collector first runs, and a long one
// collect seldom. What is live is a few megabytes whatever is built; near the goal the collector runs as often as it must.
const (
	gcPercent  = 400
	memoryGoal = 128 << 20
)

// tuneMemory leaves what the user has set in GOGC and GOMEMLIMIT.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
}

// guard turns a panic, which is a bug of ours, into one line and an exit code.
func guard(stderr io.Writer, command func() int) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintln(stderr, "internal error: "+ui.Line(fmt.Sprint(r))+" (please report)")
			code = exitEnvironment
		}
	}()
	return command()
}

// signalContext returns a context that the first SIGINT, SIGTERM, SIGHUP or
// SIGQUIT cancels, with a *signalError as cause; a second one ends the process
// at once through exit. SIGPIPE is caught so that a closed pipe is an error of
// Write, after which things are cleaned up; it is not ignored, because children
// inherit that. Relayed are signals that another process got for this one; what
// came both ways, as from a terminal, counts once.
func signalContext(parent context.Context, relayed <-chan syscall.Signal, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := signalCount{}
		for {
			var sig syscall.Signal
			select {
			case s, open := <-signals:
				if !open {
					return
				}
				if sig, _ = s.(syscall.Signal); sig == syscall.SIGPIPE || !seen.direct(sig) {
					continue
				}
			case sig = <-relayed:
				if !seen.relayed(sig) {
					continue
				}
			}
			if ctx.Err() != nil {
				exit(exitSignal + int(sig))
			}
			cancel(&signalError{sig})
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel(context.Canceled)
	}
}

// signalCount counts what came to this process itself, and what came by another one that got it.
type signalCount map[syscall.Signal][2]int

func (c signalCount) direct(s syscall.Signal) bool  { return c.more(s, 0) }
func (c signalCount) relayed(s syscall.Signal) bool { return c.more(s, 1) }

// more says whether one more on this way is one more that was sent.
func (c signalCount) more(s syscall.Signal, way int) bool {
	n := c[s]
	n[way]++
	c[s] = n
	return n[way] > n[1-way]
}
