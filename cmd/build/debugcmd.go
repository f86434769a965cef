package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"slices"

	"gobuild/builder"
	"gobuild/ui"
)

func debugCommand() command {
	return command{
		name: "debug", group: "Building", args: "CONTEXT", short: "Open a shell where a step failed, before a step, or in one that runs",
		long: `Build until a RUN fails, and open a shell in its file system as the command left it, with the
mounts, environment, user, limits and network of the step. With --step, open it before a step instead.

  gobuild debug .                          where the build fails
  gobuild debug --step 3 .                 before step 3 of the target stage
  gobuild debug --step builder:3 .         before step 3 of another stage
  gobuild debug --step :12 .               before the step at line 12 of the Dockerfile
  gobuild debug . < commands               the shell reads commands instead of a terminal
  gobuild debug --attach 3                 in step 3 of a build that goes on, or that with process number 3

What is done in the shell is thrown away: nothing of it reaches the cache, a cache mount or an image.
Before a step other than RUN, the shell is root's, in /. An image without a shell gets a static busybox of
this machine. It takes the flags of build, and makes no image. The exit code is that of the shell.

With --attach nothing is built: the shell is in the namespaces and the cgroup of a step that runs, which
gobuild ps shows, with its user, environment and limits; it can do what the step can do, and no more. It
ends with the step. What is done there is done to the step; so its result is used by its own build, and is
not kept in the cache. A step that has secrets is entered with --with-secrets only.`,
		flags: func() []flagSpec {
			return append([]flagSpec{
				{name: "step", kind: kindString, arg: "STEP", text: "open the shell before this step: NUMBER, STAGE:NUMBER or :LINE"},
				{name: "attach", kind: kindString, arg: "STEP|PID", text: "open the shell in this step that runs: the process number of its init, NUMBER, STAGE:NUMBER or :LINE"},
			}, buildFlags()...)
		},
		run: (*app).debug,
		rights: func(f flags) rights {
			if f.given("attach") {
				return rightsOwn // the namespace is the step's
			}
			return rightsSteps
		},
	}
}

func (a *app) debug(ctx context.Context, args []string) error {
	if a.flags.given("attach") {
		return a.attach(ctx, args)
	}
	if c, err := callWanted(a.flags); err != nil {
		return err
	} else if c.method != callBuild {
		return hint(usagef("gobuild debug does not check"), "use gobuild check")
	}
	if a.flags.is("dry-run") {
		return hint(usagef("gobuild debug runs steps"), "use gobuild build --dry-run")
	}
	opt, err := a.buildOptions(a.flags)
	if err != nil {
		return err
	}
	opt.Tags = nil
	opt.Debug.Step, opt.Debug.Only = a.flags.str("step"), true
	if a.flags.given("step") && opt.Debug.Step == "" {
		return usagef("--step is empty")
	}
	opt.Debug.OnFailure = true
	report := ""
	if a.flags.given("report") {
		if report, err = reportPath("report", a.flags.str("report")); err != nil {
			return err
		}
	}
	code, opened := a.fillConsole(&opt)
	if _, err = a.buildInContext(ctx, opt, args, nil, report); !*opened || ctx.Err() != nil {
		return err
	}
	if *code != 0 {
		return &statusError{*code}
	}
	return nil
}

// fillDebug is --debug-on-failure.
func (a *app) fillDebug(opt *builder.Options, f flags) error {
	opt.Debug.Secrets = f.is("with-secrets")
	if !f.is("debug-on-failure") {
		if f["step"] == nil && opt.Debug.Secrets { // gobuild debug, which has --step, opens a shell in any case
			return usagef("--with-secrets is for the shell of --debug-on-failure")
		}
		return nil
	}
	opt.Debug.OnFailure = true
	a.fillConsole(opt)
	return nil
}

// fillConsole says where a shell reads and writes. Afterwards the results tell whether one was opened, and how it ended.
func (a *app) fillConsole(opt *builder.Options) (code *int, opened *bool) {
	code, opened = new(int), new(bool)
	opt.Debug.Busybox = staticBusybox()
	opt.Debug.Console = func(step *builder.StepInfo) (builder.Console, error) {
		*opened = true
		place := "failed step"
		if opt.Debug.Step != "" {
			place = "step"
		}
		a.printer.Reveal(step)
		a.printer.Notice(fmt.Sprintf("a shell at the %s of line %d, %s; what is done in it is thrown away", place, step.Line, ui.Line(step.Text)))
		return a.console(code)
	}
	return code, opened
}

// console is where a shell reads and writes, and says how it ended.
func (a *app) console(code *int) (builder.Console, error) {
	resume := a.printer.Pause()
	if !isTerminal(a.stdin) {
		return builder.Console{Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Close: func(exit int) error { *code = exit; resume(); return nil }}, nil
	}
	t, err := openTerminal(a.stdin, a.stdout)
	if err != nil {
		resume()
		return builder.Console{}, environmentf("open a terminal for the shell: %w", err)
	}
	return builder.Console{Terminal: t.peer, Close: func(exit int) error { defer resume(); *code = exit; return t.close() }}, nil
}

// attach is --attach.
func (a *app) attach(ctx context.Context, args []string) error {
	word := a.flags.str("attach")
	if word == "" {
		return hint(usagef("--attach is empty"), "gobuild ps lists the steps that run")
	}
	if len(args) > 0 {
		return hint(usagef("--attach takes no context"), "gobuild debug --attach "+word)
	}
	for _, name := range slices.Sorted(maps.Keys(a.flags)) {
		if _, global := a.flagsOfAttach()[name]; !global && a.flags[name].origin == fromFlag {
			return usagef("--%s is for a build, and --attach makes none", name)
		}
	}
	var code int
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		code, err = b.Attach(ctx, builder.AttachOptions{
			Step: word, Secrets: a.flags.is("with-secrets"), Busybox: staticBusybox(), Notice: a.printer.Notice,
			Console: func(step *builder.RunningStep) (builder.Console, error) {
				a.printer.Notice(fmt.Sprintf("a shell in step %d/%d of %s, which runs: %s", step.Number, step.Total, ui.Line(step.Stage), ui.Line(step.Text)))
				return a.console(new(int))
			},
		})
		return err
	})
	if err == nil && code != 0 {
		err = &statusError{code}
	}
	return err
}

// flagsOfAttach are those that mean something with --attach.
func (a *app) flagsOfAttach() map[string]bool {
	names := map[string]bool{"attach": true, "with-secrets": true}
	for _, g := range globalFlags() {
		names[g.name] = true
	}
	return names
}

// stdinTaken refuses what would read standard input before a shell could.
func stdinTaken(opt *builder.Options, f flags, in io.Reader) error {
	if opt.Debug.Console != nil && !isTerminal(in) && (opt.ContextTar != nil || f.str("file") == "-") {
		return hint(usagef("a shell reads standard input, and so does the build"), "give the context and the Dockerfile as files")
	}
	return nil
}

// staticBusybox is the path of a busybox that runs in any root file system, "" where there is none.
func staticBusybox() string {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"} {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		static := true
		for _, p := range f.Progs {
			static = static && p.Type != elf.PT_INTERP
		}
		_ = f.Close() // read only
		if static {
			return path
		}
	}
	return ""
}
