package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/builder"
)

// The exit codes (FEATURES F4). A command ended by signal n exits with 128+n.
const (
	exitOK          = 0
	exitStep        = 1
	exitUsage       = 2
	exitEnvironment = 3
	exitRemote      = 4
	exitUnsafe      = 5
	exitSignal      = 128
)

// usageError is a command line that cannot be obeyed.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// environmentError is something that this machine lacks.
type environmentError struct{ err error }

func (e *environmentError) Error() string { return e.err.Error() }
func (e *environmentError) Unwrap() error { return e.err }

func environmentf(format string, args ...any) error {
	return &environmentError{fmt.Errorf(format, args...)}
}

// signalError is the cause of a context that a signal cancelled.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + unix.SignalName(e.sig) }

// timeoutError is the cause of a context that --timeout ended.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("gave up after --timeout %s", e.after)
}

// hintedError adds a remedy to an error.
type hintedError struct {
	error
	remedy string
}

func (e *hintedError) Unwrap() error  { return e.error }
func (e *hintedError) Remedy() string { return e.remedy }

// hint gives err a remedy; an empty one leaves it alone.
func hint(err error, remedy string) error {
	if remedy == "" {
		return err
	}
	return &hintedError{err, remedy}
}

// exitRule maps one kind of error to its exit code.
type exitRule struct {
	name string // the exported name in builder, or the type here
	code func(error) (int, bool)
}

// exitTable is the one place where errors become exit codes; the first rule
// that knows an error decides. A test holds it against package builder.
func exitTable() []exitRule {
	return []exitRule{
		{"signalError", as(func(e *signalError) int { return exitSignal + int(e.sig) })},
		{"timeoutError", as(func(*timeoutError) int { return exitStep })},
		{"usageError", as(func(*usageError) int { return exitUsage })},
		{"environmentError", as(func(*environmentError) int { return exitEnvironment })},
		{"Error", as(func(e *builder.Error) int { return categoryCode(e.Category) })},
		{"ENOSPC", is(syscall.ENOSPC, exitEnvironment)},
	}
}

func as[E error](code func(E) int) func(error) (int, bool) {
	return func(err error) (int, bool) {
		var e E
		if errors.As(err, &e) {
			return code(e), true
		}
		return 0, false
	}
}

func is(target error, code int) func(error) (int, bool) {
	return func(err error) (int, bool) { return code, errors.Is(err, target) }
}

func categoryCode(c builder.Category) int {
	switch c {
	case builder.CategoryStep:
		return exitStep
	case builder.CategoryUsage:
		return exitUsage
	case builder.CategoryEnvironment:
		return exitEnvironment
	case builder.CategoryRemote:
		return exitRemote
	case builder.CategoryUnsafe:
		return exitUnsafe
	}
	return exitEnvironment
}

// exitCode is the exit code of an error; one that no rule knows is this machine's fault or ours.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	for _, rule := range exitTable() {
		if code, ok := rule.code(err); ok {
			return code
		}
	}
	return exitEnvironment
}

// because replaces what a cancelled command said by the reason: the signal, of
// which the place does not matter, or --timeout, whose error keeps its place.
func because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var sig *signalError
	var timeout *timeoutError
	switch {
	case errors.As(cause, &sig):
		return cause
	case errors.As(cause, &timeout) && !errors.Is(err, cause):
		return cause
	}
	return err
}
