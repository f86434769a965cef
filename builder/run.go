package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/cache"
	"gobuild/sandbox"
	"gobuild/snapshot"
	"gobuild/stages"
)

// defaultPath is what a step gets whose image sets none (FEATURES B1, G1).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runJob is RUN (FEATURES I3, I4).
func (sr *stageRun) runJob(ctx context.Context, s state, step *stages.Step) (*job, error) {
	devices, err := sr.devicesOf(step.Run.Devices)
	if err != nil {
		return nil, err
	}
	mounts, err := sr.openMounts(ctx, step.Run)
	if err != nil {
		return nil, err
	}
	key, err := sr.runKey(ctx, s, step.Run, devices, mounts)
	if err != nil {
		mounts.close()
		return nil, err
	}
	if err := mounts.noteMounts(ctx); err != nil {
		mounts.close()
		return nil, err
	}
	exec := func(ctx context.Context, work *snapshot.Work) (usageOf, error) {
		return sr.execRun(ctx, step, devices, mounts, work)
	}
	return &job{key: key, verb: "RUN", exec: exec, close: mounts.close}, nil
}

func (sr *stageRun) runKey(ctx context.Context, s state, r *stages.Run, devices *deviceSet, mounts *mountSet) (cache.Key, error) {
	opt := &sr.opt.Run
	k := cache.NewKey("run").Add("parent", s.key.String()).Add("platform", platformText(sr.stage.Platform)).
		Add("command", r.Args...).Add("folder", r.Dir).Add("user", r.User).Add("network", sr.networkMode(r)).Add("security", r.Security)
	for _, e := range r.Env {
		name, value, _ := strings.Cut(e, "=")
		k.Add("env:"+name, value)
	}
	for _, f := range r.Files {
		k.Add("heredoc:"+f.Name, f.Data)
	}
	opt.addTo(k)
	sr.cfg.addOwners(k)
	devices.addTo(k)
	if err := mounts.addTo(ctx, k); err != nil {
		return cache.Key{}, err
	}
	return k.Key(), nil
}

// networkMode is what the step and else the build asks for. What "default" turns into on this machine is not in the key.
func (sr *stageRun) networkMode(r *stages.Run) string {
	return cmp.Or(r.Network, sr.opt.Run.Network, "default")
}

// execRun runs the command in the sandbox on the new layer.
func (sr *stageRun) execRun(ctx context.Context, step *stages.Step, devices *deviceSet, mounts *mountSet, work *snapshot.Work) (usageOf, error) {
	asked := sr.cfg.Now()
	select {
	case sr.jobs <- struct{}{}:
		defer func() { <-sr.jobs }()
	case <-ctx.Done():
		return usageOf{}, context.Cause(ctx)
	}
	sr.waited(ctx, waitSlot, asked)
	runner, err := sr.sandboxRunner(sr.opt.Run)
	if err != nil {
		return usageOf{}, err
	}
	log := newStepLog(sr.em, stepOf(ctx))
	spec, err := sr.spec(step.Run, log)
	if err != nil {
		return usageOf{}, err
	}
	devices.give(&spec)
	spec.Lower, spec.Upper, spec.Work = work.Dirs()
	if err := mounts.prepare(ctx, &spec); err != nil {
		return usageOf{}, err
	}
	within, cancel := sr.withStepTimeout(ctx)
	defer cancel()
	spec.Started = func(pid int) { sr.live.started(stepOf(ctx), pid, &spec, mounts.kinds) }
	res, err := runner.Run(within, spec)
	log.flush()
	if errors.Is(err, errStepTimeout) {
		return usageOf{}, sr.withShell(sr.timeoutError(step, log), sr.debugFailed(ctx, spec, mounts, work))
	}
	if err != nil {
		return usageOf{}, err
	}
	if res.ExitCode != 0 || res.OOMKilled {
		return usageOf{}, sr.withShell(sr.runError(step, res, log), sr.debugFailed(ctx, spec, mounts, work))
	}
	return usageOfResult(&res, spec.Network), errors.Join(mounts.unchanged(ctx), sr.claim(work, &res))
}

// errStepTimeout is the cause of a context that --step-timeout ended.
var errStepTimeout = errors.New("the step took too long")

// withStepTimeout bounds the command alone: not the wait for other steps or for locks.
func (sr *stageRun) withStepTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if sr.opt.Run.StepTimeout <= 0 {
		return ctx, func() {}
	}
	return sr.clocks.within(ctx, sr.opt.Run.StepTimeout, errStepTimeout)
}

func (sr *stageRun) timeoutError(step *stages.Step, log *stepLog) error {
	e := &Error{
		Category: CategoryStep, Op: step.Text, Tail: log.tail(), Err: fmt.Errorf("command took longer than --step-timeout %s", sr.opt.Run.StepTimeout),
		Hint: "raise --step-timeout",
	}
	e.Step = sr.info(step)
	return sr.src.locate(e, step.Pos)
}

func usageOfResult(r *sandbox.Result, network string) usageOf {
	return usageOf{cpu: r.CPUUser + r.CPUSystem, peak: r.PeakMemory, more: StepUsage{
		CPUUser: r.CPUUser, CPUSystem: r.CPUSystem, ReadBytes: r.ReadBytes, WrittenBytes: r.WrittenBytes, PeakPids: r.PeakPids,
		Network: network, NetReceived: r.NetReceived, NetSent: r.NetSent,
	}}
}

func (sr *stageRun) spec(r *stages.Run, log *stepLog) (sandbox.Spec, error) {
	network, err := sr.network(sr.networkMode(r))
	if err != nil {
		return sandbox.Spec{}, err
	}
	spec := sandbox.Spec{
		Args: r.Args, Env: sr.environment(r), Dir: r.Dir, User: r.User,
		Network: network, Stdout: log.writer("stdout"), Stderr: log.writer("stderr"),
	}
	spec.Emulation = sr.emulationOf(sr.stage.Platform.Architecture)
	sr.opt.Run.shape(&spec)
	if r.Security == "insecure" {
		spec.Privileges = sandbox.Privileges{Insecure: true}
	}
	for _, f := range r.Files {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "file", Target: "/dev/pipes/" + f.Name, Data: []byte(f.Data), Mode: 0o755, ReadOnly: true})
	}
	return spec, nil
}

// environment adds to ENV and ARG what is in no key: proxies (FEATURES B9, G1).
func (sr *stageRun) environment(r *stages.Run) []string {
	env := slices.Clone(r.Env)
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	for _, name := range slices.Sorted(maps.Keys(sr.opt.ProxyArgs)) {
		for _, variant := range []string{strings.ToUpper(name), strings.ToLower(name)} {
			if !has(variant) {
				env = append(env, variant+"="+sr.opt.ProxyArgs[name])
			}
		}
	}
	if !has("PATH") {
		env = append(env, "PATH="+defaultPath)
	}
	return env
}

// runError words a command that failed.
func (sr *stageRun) runError(step *stages.Step, res sandbox.Result, log *stepLog) error {
	command := strings.Join(step.Run.Args, " ")
	e := &Error{Category: CategoryStep, Op: step.Text, ExitCode: res.ExitCode, Tail: log.tail()}
	switch {
	case res.OOMKilled:
		e.Err = fmt.Errorf("out of memory: the kernel killed it at the limit of %d MiB (peak %d MiB)", sr.opt.Run.MemoryBytes>>20, res.PeakMemory>>20)
		e.Hint = "raise --memory"
	case res.Signal != 0:
		e.Err = fmt.Errorf("command %q was killed by signal %d (%s)", clip(command), res.Signal, unix.SignalName(unix.Signal(res.Signal)))
	default:
		e.Err = fmt.Errorf("command %q ended with exit code: %d", clip(command), res.ExitCode)
	}
	if e.Hint == "" {
		e.Hint = commandHint(step, res, e.Tail)
	}
	if e.Hint == "" && !sr.opt.Debug.wanted() {
		e.Hint = "gobuild debug with the same arguments opens a shell where it failed"
	}
	e.Step = sr.info(step)
	return sr.src.locate(e, step.Pos)
}

// commandHint knows the failures that users meet most (FEATURES F5).
func commandHint(step *stages.Step, res sandbox.Result, tail []string) string {
	text, code := strings.Join(tail, "\n"), res.ExitCode
	switch {
	case res.Exec == sandbox.ExecTooLong:
		return "the command line is longer than the kernel takes: put it into a file"
	case res.Exec == sandbox.ExecBadFormat || strings.Contains(text, "xec format error"):
		return "the program is for another platform: check FROM --platform, or install qemu-user-static with binfmt-support"
	case res.Exec == sandbox.ExecNotFound && len(step.Run.Args) > 1 && step.Run.Args[1] == "-c":
		return "the image has no shell: use the exec form, RUN [\"program\", \"argument\"]"
	case strings.Contains(text, "\\r") || strings.Contains(text, "\r") || strings.Contains(text, "^M"):
		return "a script has Windows line ends: convert it to LF"
	case code == 127:
		return "the command is not in the image, or not in its PATH; or it is a script whose interpreter is not, as with Windows line ends"
	case code == 126:
		return "the file is not executable: COPY --chmod=755 it"
	case strings.Contains(text, "No space left on device"):
		return "the file system of --root is full: `gobuild prune`, or name another with --root; or a tmpfs of the step is: size= of its mount, --shm-size"
	case strings.Contains(text, "Read-only file system") && strings.Contains(text, "/etc/hosts"):
		return "/etc/hosts is made for each step, and is not part of the image: use --add-host NAME:IP"
	case strings.Contains(text, "Temporary failure in name resolution") || strings.Contains(text, "bad address"):
		return "names do not resolve inside the step: try --dns, or pass your proxy with --build-arg HTTPS_PROXY=..."
	}
	return ""
}
