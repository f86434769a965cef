package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"gobuild/sandbox"
)

// RunImage starts an image's command (or argv) in the sandbox on a throw-away copy of its file system, and waits.
// It gives the command's exit code. Output comes as events.
func (b *Builder) RunImage(ctx context.Context, ref string, argv []string, opt RunOptions, progress func(Event)) (int, error) {
	bd := b.newBuild(Options{Progress: progress, Run: opt})
	defer b.during(bd.em)()
	leave, err := b.enter(ctx)
	if err != nil {
		return 0, classify(err, CategoryEnvironment)
	}
	defer leave()
	defer bd.close()
	code, err := bd.runImage(ctx, ref, argv)
	if err != nil {
		return 0, classify(fmt.Errorf("run %s: %w", ref, err), CategoryEnvironment)
	}
	return code, nil
}

func (bd *build) runImage(ctx context.Context, text string, argv []string) (_ int, err error) {
	_, desc, err := bd.find(text)
	if err != nil {
		return 0, err
	}
	_, host, err := platformsOf("")
	if err != nil {
		return 0, err
	}
	img, err := bd.load(ctx, text, desc, platformText(host), origin{})
	if err != nil {
		return 0, err
	}
	config := img.image.Config
	if len(argv) == 0 {
		argv = config.Cmd
	}
	argv = append(append([]string(nil), config.Entrypoint...), argv...)
	if len(argv) == 0 {
		return 0, usage{errors.New("the image has no command: give one")}
	}
	s := baseState(img)
	if err := bd.materialize(ctx, s); err != nil {
		return 0, err
	}
	work, err := bd.snapshots.New(s.stack())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, work.Discard()) }()
	runner, err := bd.sandboxRunner(bd.opt.Run)
	if err != nil {
		return 0, err
	}
	network, err := bd.network(cmp.Or(bd.opt.Run.Network, networkDefault))
	if err != nil {
		return 0, err
	}
	log := newStepLog(bd.em, nil)
	spec := sandbox.Spec{
		Args: argv, Env: config.Env, Dir: config.WorkingDir, User: config.User, Network: network,
		Stdout: log.writer("stdout"), Stderr: log.writer("stderr"),
	}
	bd.opt.Run.shape(&spec)
	devices, err := bd.devicesOf(nil)
	if err != nil {
		return 0, err
	}
	devices.give(&spec)
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	spec.Lower, spec.Upper, spec.Work = work.Dirs()
	res, err := runner.Run(ctx, spec)
	log.flush()
	return res.ExitCode, err
}
