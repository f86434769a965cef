// Package ui shows what a build does.
//
// It gives one type, [Printer], that turns builder events and errors into text
// for people (plain, plain-buildkit, or tty: a view that changes) or objects for programs (rawjson):
//
//	p := ui.New(os.Stderr, ui.Options{Mode: ui.Plain, Color: ui.DefaultTheme(), SpoolDir: "/tmp"})
//	defer p.Close()
//	opt.Progress = p.Event
//	res, err := b.Build(ctx, opt)
//	if err != nil {
//		p.Fail(err)
//	}
//
// # Promises
//
// Every write is whole lines of one step, so that parallel stages never mix
// within a line. Text that comes from outside (output of a RUN, names, file
// contents, messages of servers) passes one escaper before it reaches the
// writer: no control byte but the newline and SGR colours survives, invalid
// UTF-8 and bidirectional controls are shown as escapes, and output of a step
// always stands behind the step's own prefix, so it cannot imitate a line of
// gobuild. Memory is bounded whatever a step prints. Nothing is clipped: a line
// without end is shown in pieces, and what a slow terminal does not take waits in
// a file. Methods may be called from several goroutines.
//
// The view on a terminal (tty) redraws only its own lines, in one write and at most ten times a second, never hides the cursor, reads
// nothing and uses no other screen: whenever gobuild ends, the terminal needs no repair. Lines that stay are above it. A terminal that
// is slow gets fewer frames.
//
// A writer that fails is given up silently: losing the view never fails a build.
//
// # The rawjson form
//
// One object per line: {"v":1,"type":T,"time":RFC3339,...}. Types and fields
// only grow; a reader must ignore those it does not know. T is one of
//
//	step_start  step
//	output      step, stream, data (or dataBase64 when the bytes are not UTF-8)
//	step_done   step, cached, durationNs, digest, bytes of its layer's files, usage of a RUN, waits that are part of its time, message when it failed
//	cache       step, hit, reason, details
//	transfer    name, bytes, total
//	notice      message
//	warning     rule, message, line
//	error       category, message, hint, file, ranges, step, exitCode, stderrTail, others
//	done        digest, config, tags, steps, cachedSteps, totalSteps, durationNs
//
// where step is {"stage","number","total","text","line"}.
//
// # Reports of a check
//
// CheckText, CheckJSON, CheckSARIF and CheckAnnotations turn a builder.CheckResult
// into what cmd/build writes to standard output. They escape as the printer does.
//
// # What it does not do
//
// It decides nothing: exit codes, flags, the environment and the standard
// streams belong to cmd/build, and events to builder.
package ui
