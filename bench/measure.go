package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command runs argv in the directory to its end and returns its time. Its output is shown only when it fails.
func command(ctx context.Context, dir string, argv ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, output.Bytes())
	}
	return took, nil
}

// peakWord as first argument makes this program a small parent that runs the rest as a command and prints its peak resident memory.
const peakWord = "peak-of"

// peakOf is that parent. It must be small: a process inherits in its ru_maxrss what its parent had resident when it called execve,
// and after generating inputs this program has far more resident than the bound it measures.
func peakOf(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not report resource usage")
	}
	fmt.Println(r.Maxrss << 10) // getrusage(2): kilobytes
	return nil
}

// peak returns the most resident memory, in bytes, of the command and of the children that it waited for.
func (b *bench) peak(ctx context.Context, argv ...string) (int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{peakWord}, argv...)...)
	cmd.Dir = b.dir
	var output bytes.Buffer
	cmd.Stderr = &output
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, output.Bytes())
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// shell runs a pipeline that fails when any part of it fails.
func shell(ctx context.Context, dir, script string) (time.Duration, error) {
	return command(ctx, dir, "bash", "-o", "pipefail", "-c", script)
}

// side is one of the things compared: it returns its time for one round.
type side func(round int) (time.Duration, error)

// interleave measures all sides once per round, after one round that does not count.
func interleave(rounds int, sides ...side) ([][]float64, error) {
	times := make([][]float64, len(sides))
	for round := range rounds + 1 {
		for i, measure := range sides {
			d, err := measure(round)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				times[i] = append(times[i], float64(d)/float64(time.Millisecond))
			}
		}
	}
	return times, nil
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// compared makes a row of times in milliseconds whose bound is a factor of the floor.
func compared(id, what string, floors, times []float64, factor float64) row {
	r := row{ID: id, What: what, Unit: "ms", Floor: median(floors), Gobuild: median(times), Floors: floors, Times: times}
	r.Ratio = r.Gobuild / r.Floor
	r.Bound = fmt.Sprintf("%.2f x", factor)
	r.OK = r.Ratio <= factor
	return r
}

func (b *bench) roundsOr(n int) int {
	if b.rounds > 0 {
		return b.rounds
	}
	if b.quick {
		return min(n, 3)
	}
	return n
}

// size picks the small number with -quick.
func (b *bench) size(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// build times one gobuild build of the context with a state directory of the given name below the scratch space.
func (b *bench) build(ctx context.Context, root, context string, args ...string) (time.Duration, error) {
	return command(ctx, b.dir, b.buildArgs(root, context, args...)...)
}

func (b *bench) buildArgs(root, context string, args ...string) []string {
	argv := append([]string{b.gobuild, "build", "--root", filepath.Join(b.dir, root)}, args...)
	return append(argv, context)
}

// scratch makes an empty directory below the scratch space.
func (b *bench) scratch(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// drop removes things below the scratch space.
func (b *bench) drop(names ...string) error {
	var all error
	for _, n := range names {
		all = errors.Join(all, os.RemoveAll(filepath.Join(b.dir, n)))
	}
	return all
}

// writeFile writes a file of the scratch space and makes the directories above it.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}

// putBusybox places busybox, sh and true into dir/bin.
func (b *bench) putBusybox(dir string) error {
	data, err := os.ReadFile(b.busybox)
	if err != nil {
		return fmt.Errorf("a static busybox is needed: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "bin", "busybox"), data, 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "true"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	return nil
}
