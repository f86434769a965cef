package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// errFailed says that the judged run failed; the reasons are printed already.
var errFailed = errors.New("failed")

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout, os.Getenv("GOBUILD_CI_RESULTS"))
	switch {
	case errors.Is(err, errFailed):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(2)
	}
}

// run judges what args name and writes the count to results, when that is not empty.
func run(args []string, in io.Reader, out io.Writer, results string) error {
	var t tally
	var err error
	switch {
	case len(args) == 2 && args[0] == "tests":
		t, err = judgeTests(args[1], in, out)
	case len(args) == 4 && args[0] == "cases":
		t, err = judgeCases(args[1], args[2], args[3], out)
	default:
		return errors.New("usage: verdict tests SKIPS <events | verdict cases LIST ROWS RESULTS")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "== %s: %d passed, %d failed, %d skipped as listed\n", args[0], t.passed, t.failed, t.skipped)
	if err := appendCount(results, args[0], t); err != nil {
		return err
	}
	if t.failed > 0 {
		return errFailed
	}
	return nil
}

// tally counts tests or cases.
type tally struct{ passed, failed, skipped int }

func appendCount(path, name string, t tally) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %d %d\n", name, t.passed, t.failed)
	return errors.Join(err, f.Close())
}
