package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/builder"
)

func TestF4_ExitCodes(t *testing.T) {
	t.Parallel()
	step := &builder.Error{Category: builder.CategoryStep, ExitCode: 42, Err: errors.New("x")}
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"success", nil, 0},
		{"a step", step, 1},
		{"a Dockerfile error", &builder.Error{Category: builder.CategoryUsage, Err: errors.New("x")}, 2},
		{"this machine", &builder.Error{Category: builder.CategoryEnvironment, Err: errors.New("x")}, 3},
		{"a registry", &builder.Error{Category: builder.CategoryRemote, Err: errors.New("x")}, 4},
		{"something unsafe", &builder.Error{Category: builder.CategoryUnsafe, Err: errors.New("x")}, 5},
		{"a category that is not known", &builder.Error{Category: "new", Err: errors.New("x")}, 3},
		{"wrapped", fmt.Errorf("more: %w", step), 1},
		{"joined with clean-up", errors.Join(step, errors.New("clean-up")), 1},
		{"a flag", usagef("bad"), 2},
		{"a flag with a hint", hint(usagef("bad"), "do"), 2},
		{"no home", environmentf("bad"), 3},
		{"disk full", fmt.Errorf("write: %w", syscall.ENOSPC), 3},
		{"anything else", errors.New("what"), 3},
		{"SIGINT", &signalError{syscall.SIGINT}, 130},
		{"SIGTERM", &signalError{syscall.SIGTERM}, 143},
		{"SIGHUP", &signalError{syscall.SIGHUP}, 129},
		{"a reader that went away", &signalError{syscall.SIGPIPE}, 141},
		{"a signal beats what it caused", errors.Join(step, &signalError{syscall.SIGINT}), 130},
		{"--timeout", &timeoutError{time.Second}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := exitCode(tt.err); got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
		})
	}
	if got := stepCode(step, 1); got != 42 {
		t.Errorf("--exit-code-from-step: %d", got)
	}
	if got := stepCode(usagef("x"), 2); got != 2 {
		t.Errorf("--exit-code-from-step without a step: %d", got)
	}
}

// TestF4_TableKnowsEveryError finds every exported error of package builder.
func TestF4_TableKnowsEveryError(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, rule := range exitTable() {
		known[rule.name] = true
	}
	found := exportedErrors(t, "../../builder")
	if len(found) == 0 {
		t.Fatal("package builder has no exported error: the search is broken")
	}
	for _, name := range found {
		if !known[name] {
			t.Errorf("exit.go has no rule for builder.%s", name)
		}
	}
}

// exportedErrors lists variables ErrX and types XError or Error of a package.
func exportedErrors(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range tree.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				names = append(names, errorNames(spec)...)
			}
		}
	}
	return names
}

func errorNames(spec ast.Spec) []string {
	var names []string
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && strings.HasSuffix(s.Name.Name, "Error") {
			names = append(names, s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if strings.HasPrefix(n.Name, "Err") {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

func TestF4_CategoriesHaveCodes(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for _, c := range []builder.Category{
		builder.CategoryStep, builder.CategoryUsage, builder.CategoryEnvironment, builder.CategoryRemote, builder.CategoryUnsafe,
	} {
		if code := categoryCode(c); seen[code] || code < 1 || code > 5 {
			t.Errorf("%s has code %d", c, code)
		} else {
			seen[code] = true
		}
	}
}

func TestN11_CancellationNamesItsReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	if err := because(ctx, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("without a signal: %v", err)
	}
	cancel(&signalError{syscall.SIGTERM})
	err := because(ctx, &builder.Error{Category: builder.CategoryStep, Err: context.Canceled})
	if exitCode(err) != 143 || !strings.Contains(err.Error(), "SIGTERM") {
		t.Errorf("after SIGTERM: %v", err)
	}
	if because(ctx, nil) != nil {
		t.Error("a build that ended well is an error")
	}
}

func TestN11_TimeoutKeepsThePlace(t *testing.T) {
	t.Parallel()
	timeout := &timeoutError{time.Second}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(timeout)
	placed := &builder.Error{Category: builder.CategoryStep, Op: "RUN x", Err: timeout}
	if err := because(ctx, placed); !errors.Is(err, placed) {
		t.Errorf("the step is lost: %v", err)
	}
	if err := because(ctx, context.Canceled); !errors.Is(err, timeout) || exitCode(err) != exitStep {
		t.Errorf("the reason is lost: %v", err)
	}
}

func TestN11_SecondSignalEndsAtOnce(t *testing.T) {
	// Not parallel: it sends real signals to this process, which signalContext catches.
	codes := make(chan int, 1)
	ctx, stop := signalContext(context.Background(), nil, func(code int) { codes <- code })
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got := exitCode(context.Cause(ctx)); got != 129 {
		t.Errorf("first signal: exit code %d", got)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-codes; got != 143 {
		t.Errorf("second signal: exit code %d", got)
	}
}
