package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// noopBound is what a fully cached build may take beyond the start of the binary, in milliseconds.
const noopBound = 10

// noopContext makes a Dockerfile of ten steps and 200 files.
func (b *bench) noopContext(ctx context.Context, name string) (string, error) {
	dir, err := b.scratch(name)
	if err != nil {
		return "", err
	}
	const dockerfile = "FROM scratch\nCOPY rootfs /\nENV A=1\nWORKDIR /app\nCOPY files /app\nRUN true\nLABEL l=1\n" +
		"RUN true\nCOPY files/d000 /app/again\nUSER 1000\nCMD [\"true\"]\n"
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return "", err
	}
	if err := b.putBusybox(filepath.Join(dir, "rootfs")); err != nil {
		return "", err
	}
	m, err := newMaterial(ctx)
	if err != nil {
		return "", err
	}
	return dir, m.smallFiles(filepath.Join(dir, "files"), 200)
}

// benchNoop is S1.
func benchNoop(ctx context.Context, b *bench) ([]row, error) {
	dir, err := b.noopContext(ctx, "s1")
	if err != nil {
		return nil, err
	}
	noop := func(root string) side {
		return func(int) (time.Duration, error) { return b.build(ctx, root, dir, "-t", "bench/noop") }
	}
	if _, err := noop("root1full")(0); err != nil {
		return nil, err
	}
	if err := b.fillState("root1full", b.size(100_000, 2_000), b.size(10_000, 200)); err != nil {
		return nil, err
	}
	times, err := interleave(b.roundsOr(21),
		func(int) (time.Duration, error) {
			return command(ctx, b.dir, b.gobuild, "version")
		},
		noop("root1"),
		func(int) (time.Duration, error) {
			return command(ctx, b.dir, "find", dir, "-printf", "%p %s %T@\n")
		},
		noop("root1full"))
	if err != nil {
		return nil, err
	}
	r := compared("S1", "no-op: 10 steps, 200 files, cached", times[0], times[1], 1)
	r.Bound = fmt.Sprintf("floor + %d ms", noopBound)
	r.OK = r.Gobuild <= r.Floor+noopBound
	both := make([]float64, len(times[0]))
	for i := range both {
		both[i] = times[0][i] + times[2][i]
	}
	return []row{
		r, compared("S1", "the same; floor: gobuild version and find -printf", both, times[1], 3),
		compared("S1", "the same in a state directory with 100,000 steps; floor: without them", times[1], times[3], 1.1),
	}, b.drop("s1", "root1", "root1full")
}

// fillState adds step records and layers that a no-op build does not want to a state directory (docs/state.md).
func (b *bench) fillState(root string, records, layers int) error {
	root = filepath.Join(b.dir, root)
	have, err := filepath.Glob(filepath.Join(root, "cache/v1/records/*/*"))
	if err != nil || len(have) == 0 {
		return fmt.Errorf("no record in %s: %w", root, err)
	}
	data, err := os.ReadFile(have[0])
	if err != nil {
		return err
	}
	for i := range records {
		name := fmt.Sprintf("%x", sha256.Sum256([]byte(strconv.Itoa(i))))
		if err := writeFile(filepath.Join(root, "cache/v1/records", name[:2], name), data, 0o644); err != nil {
			return err
		}
	}
	for i := range layers {
		name := fmt.Sprintf("%032x", i)
		if err := writeFile(filepath.Join(root, "snapshots/layers", name, "fs", "file"), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// benchRuns is S3.
func benchRuns(ctx context.Context, b *bench) ([]row, error) {
	n := b.size(50, 10)
	dir, err := b.scratch("s3")
	if err != nil {
		return nil, err
	}
	dockerfile := "FROM scratch\nCOPY bin /bin\n" + strings.Repeat("RUN true\n", n)
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return nil, err
	}
	if err := b.putBusybox(dir); err != nil {
		return nil, err
	}
	// The first process that a Go program starts is preceded by one that only finds out about pidfds (package os). In a new pid
	// namespace that one would be, and end as, its init.
	if _, err := command(ctx, dir, "true"); err != nil {
		return nil, err
	}
	build := func(options ...string) side {
		return func(int) (time.Duration, error) {
			return b.build(ctx, "root3", dir, append([]string{"--no-cache", "-t", "bench/runs"}, options...)...)
		}
	}
	limits := []string{"--network=host", "--memory=512m", "--cpus=2", "--pids-limit=1000"}
	sides := []side{
		func(round int) (time.Duration, error) {
			start := time.Now()
			for i := range n {
				if err := bareRun(dir, filepath.Join(b.dir, "s3floor", fmt.Sprint(round), fmt.Sprint(i))); err != nil {
					return 0, err
				}
			}
			return time.Since(start), nil
		},
		build("--network=host"), build(limits...), build(),
	}
	runc, err := b.runcSide(ctx, dir, n)
	if err == nil {
		sides = append(sides, runc)
	}
	times, err2 := interleave(b.roundsOr(7), sides...)
	if err2 != nil {
		return nil, err2
	}
	what := fmt.Sprintf("%d x RUN true, nothing cached", n)
	network := row{ID: "S3", What: "the same, each with a network of its own", Unit: "ms", Gobuild: median(times[3]), Times: times[3]}
	network.Bound = fmt.Sprintf("%d ms a step more", networkBound)
	network.OK = network.Gobuild <= median(times[1])+float64(networkBound*n)
	rows := []row{
		compared("S3", what, times[0], times[1], 1.5),
		compared("S3", "the same with limits of memory, processors and processes", times[0], times[2], 2),
		network,
	}
	if err == nil {
		rows = append(rows, compared("S3", "the same without limits; floor: runc run", times[4], times[1], 0.25))
	} else {
		fmt.Fprintln(os.Stderr, "not compared with runc:", err)
	}
	return rows, b.drop("s3", "s3floor", "s3runc", "root3")
}

// networkBound is what a network of its own may add to a step, in milliseconds.
const networkBound = 8

// runcSide runs the same command in the same root file system by runc, fewer times, for it is slow.
func (b *bench) runcSide(ctx context.Context, rootfs string, n int) (side, error) {
	bundle := filepath.Join(b.dir, "s3runc")
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return nil, err
	}
	if _, err := command(ctx, bundle, "runc", "spec"); err != nil {
		return nil, err
	}
	config := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	spec["process"].(map[string]any)["terminal"] = false
	spec["process"].(map[string]any)["args"] = []string{"/bin/sh", "-c", "true"}
	spec["root"] = map[string]any{"path": rootfs, "readonly": true}
	if data, err = json.Marshal(spec); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, data, 0o644); err != nil {
		return nil, err
	}
	const fewer = 5
	return func(round int) (time.Duration, error) {
		var sum time.Duration
		for i := range n / fewer {
			took, err := command(ctx, bundle, "runc", "run", "-b", bundle, fmt.Sprintf("gobuild-bench-%d-%d-%d", os.Getpid(), round, i))
			if err != nil {
				return 0, err
			}
			sum += took
		}
		return sum * fewer, nil
	}, nil
}

// bareRun is the least that a RUN needs: new namespaces, an overlay over lower, a new root, and a process in it. One operating
// system thread enters the namespaces and starts the process, so nothing is executed twice; the thread then ends with its goroutine,
// because one that did unshare must never serve another. /proc is not mounted: only a process inside could do that.
func bareRun(lower, scratch string) error {
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(scratch, d), 0o755); err != nil {
			return err
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- enterAndRun(lower, scratch)
	}()
	return <-done
}

func enterAndRun(lower, scratch string) error {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if err := unix.Unshare(namespaces); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	merged := filepath.Join(scratch, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,volatile", lower, scratch, scratch)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	err := errors.Join(unix.Chdir(merged), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH))
	if err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("true: %s", state)
	}
	return err
}
