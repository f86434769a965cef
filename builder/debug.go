package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gobuild/sandbox"
	"gobuild/snapshot"
	"gobuild/stages"
)

// DebugOptions open a shell in a step (FEATURES P3): where a RUN failed, or before a step.
type DebugOptions struct {
	OnFailure bool   // where the first RUN fails
	Step      string // before this step: its number in the target stage, STAGE:NUMBER, or :LINE of the Dockerfile; "" is none
	Only      bool   // the build is made for the shell alone: when no step failed there is an error, and no image
	Secrets   bool   // the shell has the secrets and the agents that the step has
	Busybox   string // path of a static busybox, for images without a shell; "" is none
	// Console is called before a shell opens, and says what it reads and writes. It is called once.
	Console func(*StepInfo) (Console, error)
}

func (opt *DebugOptions) wanted() bool { return opt.OnFailure || opt.Step != "" }

// Console is the other side of a shell.
type Console struct {
	Terminal       *os.File // a terminal for all three streams; or nil, and then
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Close          func(exit int) error // called when the shell has ended
}

// errDebugged ends a build whose shell before a step has ended.
var errDebugged = errors.New("the build ends here: a shell was opened before this step")

// debugger is what a build knows of its shell.
type debugger struct {
	once   sync.Once
	opened bool
}

// findDebugStep checks that --step is a step of a plan.
func (bd *build) findDebugStep() error {
	if bd.opt.Debug.Step == "" {
		return nil
	}
	for _, ln := range bd.lanes {
		for _, s := range ln.plan.Stages {
			for i := range s.Steps {
				if ln.debugsAt(s, &s.Steps[i]) {
					return nil
				}
			}
		}
	}
	return usage{&hinted{err: fmt.Errorf("there is no step %s in this build", bd.opt.Debug.Step), hint: "gobuild plan lists the steps; name one as NUMBER, STAGE:NUMBER or :LINE"}}
}

// debugsAt says whether --step is this step.
func (ln *lane) debugsAt(s *stages.Stage, step *stages.Step) bool {
	stage, number, named := strings.Cut(ln.opt.Debug.Step, ":")
	if !named {
		stage, number = "", stage
	}
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || n <= 0:
		return false
	case named && stage == "":
		return step.Pos.Start <= n && n <= max(step.Pos.End, step.Pos.Start)
	case !named:
		return step.Number == n && s == ln.plan.Target()
	}
	return step.Number == n && (strings.EqualFold(stage, s.Name) || stage == strconv.Itoa(s.Index))
}

// debugBefore opens the shell before a step, of one platform if there are several, and ends the build.
func (sr *stageRun) debugBefore(ctx context.Context, s state, step *stages.Step) (err error) {
	sr.shell.once.Do(func() { err = sr.openBefore(ctx, s, step) })
	if err == nil {
		err = errDebugged
	}
	return err
}

// openBefore opens the shell with what a RUN would see. Of another step only the files are known.
func (sr *stageRun) openBefore(ctx context.Context, s state, step *stages.Step) (err error) {
	run := step.Run
	if run == nil {
		run = &stages.Run{Dir: "/"}
	}
	devices, err := sr.devicesOf(run.Devices)
	if err != nil {
		return err
	}
	mounts, err := sr.openMounts(ctx, run)
	if err != nil {
		return err
	}
	defer mounts.close()
	if err := sr.materialize(ctx, s); err != nil {
		return err
	}
	work, err := sr.snapshots.New(s.stack())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.Discard()) }()
	spec, err := sr.spec(run, newStepLog(sr.em, stepOf(ctx)))
	if err != nil {
		return err
	}
	devices.give(&spec)
	if err := mounts.prepare(ctx, &spec); err != nil {
		return err
	}
	return sr.debug(ctx, spec, mounts, work)
}

// debugFailed opens the shell above what a failed RUN left.
func (sr *stageRun) debugFailed(ctx context.Context, spec sandbox.Spec, mounts *mountSet, work *snapshot.Work) (err error) {
	if !sr.opt.Debug.OnFailure {
		return nil
	}
	sr.shell.once.Do(func() {
		var above *snapshot.Work
		if above, err = work.Above(); err != nil {
			return
		}
		defer func() { err = errors.Join(err, above.Discard()) }()
		err = sr.debug(ctx, spec, mounts, above)
	})
	return err
}

// withShell is the error of a step that failed, and what went wrong about its shell.
func (sr *stageRun) withShell(failure, shell error) error {
	if shell != nil {
		sr.notice("no shell for the failed step: " + shell.Error())
	}
	return failure
}

// debug runs the shell in place of a step's command, on a work directory that is thrown away.
func (sr *stageRun) debug(ctx context.Context, spec sandbox.Spec, mounts *mountSet, work *snapshot.Work) (err error) {
	runner, err := sr.sandboxRunner(sr.opt.Run)
	if err != nil {
		return err
	}
	mounts.guard(&spec, sr.opt.Debug.Secrets)
	hasShell, err := haveShell(work)
	if err != nil {
		return err
	}
	if !hasShell && sr.opt.Debug.Busybox == "" {
		return &hinted{err: errors.New("open a shell: the image has none, and this machine has no static busybox"), hint: "install busybox-static"}
	}
	spec.Lower, spec.Upper, spec.Work = work.Dirs()
	sr.shell.opened = true
	console, err := sr.opt.Debug.Console(stepOf(ctx))
	if err != nil {
		return err
	}
	shellFor(&spec, hasShell, &sr.opt.Debug, console.Terminal != nil)
	spec.Terminal, spec.Stdin, spec.Stdout, spec.Stderr = console.Terminal, console.Stdin, console.Stdout, console.Stderr
	spec.Started = func(pid int) { sr.live.started(stepOf(ctx), pid, &spec, mounts.kinds) }
	res, err := runner.Run(ctx, spec)
	return errors.Join(err, console.Close(res.ExitCode))
}

// haveShell says whether the root has a /bin/sh.
func haveShell(work *snapshot.Work) (bool, error) {
	root, err := work.Root()
	if err != nil {
		return false, err
	}
	st, err := root.Stat("/bin/sh")
	found := err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
	return found, root.Close()
}

// Where a busybox is put: on the step's own /dev, so that nothing of the image is in the way.
const debugBusybox = "/dev/gobuild/busybox"

// busyboxScript makes the applets programs where the user may do that, and then is a shell.
const busyboxScript = `"$0" mkdir -p /dev/gobuild/bin 2>/dev/null && "$0" --install -s /dev/gobuild/bin 2>/dev/null
PATH=$PATH:/dev/gobuild/bin
export PATH
exec "$0" sh "$@"`

// shellFor makes the command of a step a shell.
func shellFor(spec *sandbox.Spec, hasShell bool, opt *DebugOptions, interactive bool) {
	spec.Args = []string{"/bin/sh"}
	if !hasShell {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: sandbox.MountBind, Source: opt.Busybox, Target: debugBusybox, ReadOnly: true})
		spec.Args = []string{debugBusybox, "sh", "-c", busyboxScript, debugBusybox}
	}
	if interactive {
		spec.Args = append(spec.Args, "-i")
	}
}

// guard keeps a shell from what outlives it: it writes to a copy of each cache, and has secrets only if it is to have them.
func (set *mountSet) guard(spec *sandbox.Spec, secrets bool) {
	spec.Mounts = slices.Clone(spec.Mounts)
	var kept []sandbox.Mount
	for i, m := range spec.Mounts {
		kind := set.kinds[i]
		if (kind == stages.MountSecret || kind == stages.MountSSH) && !secrets {
			continue
		}
		if kind == stages.MountCache {
			m.Overlay = !m.ReadOnly
		}
		kept = append(kept, m)
	}
	spec.Mounts = kept
	if !secrets {
		spec.SecretEnv = nil
	}
}

// debugged says, of a build that was made for its shell, that there was no reason to open it.
func (bd *build) debugged() error {
	if !bd.opt.Debug.Only {
		return nil
	}
	return usage{&hinted{err: errors.New("no step failed, so no shell was opened"), hint: "name the step before which it is to open: --step NUMBER, STAGE:NUMBER or :LINE"}}
}
