package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"gobuild/builder"
	"gobuild/ui"
)

// app is one invocation: the streams and the environment, and what the global flags made of them.
type app struct {
	env    environ
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	who    invoker

	args    []string
	named   []string // the images or registries that the command is about
	flags   flags    // of the command that runs
	printer *ui.Printer

	finished    *statusError // by the same command in a user namespace
	noNamespace error        // why the command went on without one
}

// run is gobuild without the process around it: arguments in, exit code out.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runAs(ctx, invoker{uid: os.Geteuid()}, args, env, stdin, stdout, stderr)
}

func runAs(ctx context.Context, who invoker, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{env: newEnviron(env), stdin: stdin, stdout: resultWriter{newOutput(stdout)}, stderr: newOutput(stderr), who: who, args: args}
	patience(ctx, a.stdout, a.stderr)
	a.printer = ui.New(a.stderr, ui.Options{Color: a.theme()}) // until the flags say otherwise
	err := a.execute(ctx, args)
	defer func() { a.printer.Close() }() // whatever printer it is by then
	if a.finished != nil {               // whatever became of the context here
		return a.finished.code
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.code
	}
	if err != nil && !isBrokenPipe(err) {
		a.printer.Fail(a.withoutNamespace(err))
	}
	code := exitCode(err)
	if a.flags.is("exit-code-from-step") {
		code = stepCode(err, code)
	}
	return code
}

// statusError ends a command with a code and no message: what ran has said everything.
type statusError struct{ code int }

func (e *statusError) Error() string { return "command failed" }

// stepCode is the exit code of the RUN that failed, or else code.
func stepCode(err error, code int) int {
	var be *builder.Error
	if code == exitStep && errors.As(err, &be) && be.ExitCode > 0 && be.ExitCode < 256 {
		return be.ExitCode
	}
	return code
}

// prepare applies the environment, the configuration and the verdicts to the flags of the command
// that was chosen, and sets up the printer. The context it returns ends at --timeout.
func (a *app) prepare(ctx context.Context, command string, f flags) (context.Context, context.CancelFunc, error) {
	none := func() {}
	a.flags = f
	if err := f.fromEnvironment(a.env); err != nil {
		return ctx, none, err
	}
	if err := a.fromConfig(command, f); err != nil {
		return ctx, none, err
	}
	opt, err := a.uiOptions(f)
	a.printer.Close()
	a.printer = ui.New(a.stderr, opt)
	if err != nil {
		return ctx, none, err
	}
	context.AfterFunc(ctx, func() { a.interrupted(ctx) })
	notices, err := f.judge()
	if err != nil {
		return ctx, none, err
	}
	for _, n := range notices {
		a.printer.Notice(n)
	}
	if f.is("debug") {
		for _, s := range f.settings() {
			a.printer.Notice("setting: " + s)
		}
	}
	if !f.given("timeout") {
		return ctx, none, nil
	}
	d, err := time.ParseDuration(f.str("timeout"))
	if err != nil || d <= 0 {
		return ctx, none, usagef("--timeout=%s: want a duration like 90s or 30m", f.str("timeout"))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d, &timeoutError{d})
	patience(ctx, a.stdout, a.stderr)
	return ctx, cancel, nil
}

// interrupted tells that a signal was heard: stopping may take a moment.
func (a *app) interrupted(ctx context.Context) {
	var sig *signalError
	if errors.As(context.Cause(ctx), &sig) {
		a.printer.Notice("stopping; what is done stays in the cache (a second signal ends at once)")
	}
}

// resultWriter is standard output. A reader that went away ends the command as
// SIGPIPE would, but after clean-up; an EPIPE from elsewhere is an ordinary error.
type resultWriter struct{ w io.Writer }

func (r resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		err = &signalError{syscall.SIGPIPE}
	} else if err != nil {
		err = environmentf("write standard output: %w", err)
	}
	return n, err
}

// isBrokenPipe says that nobody reads standard output any more, which is no news to report.
func isBrokenPipe(err error) bool {
	var sig *signalError
	return errors.As(err, &sig) && sig.sig == syscall.SIGPIPE
}

// open opens the builder that the flags describe.
func (a *app) open() (*builder.Builder, error) {
	cfg, err := a.config(a.flags)
	if err != nil {
		return nil, err
	}
	return builder.Open(cfg)
}

// print writes a result to standard output.
func (a *app) print(lines ...string) error {
	return a.printBytes([]byte(strings.Join(lines, "\n") + "\n"))
}

// printBytes writes a result as it is, after what was shown about it.
func (a *app) printBytes(data []byte) error {
	a.printer.Sync()
	_, err := a.stdout.Write(data)
	return err
}
