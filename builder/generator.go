package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/sandbox"
	"gobuild/stages"
)

// Where a generator finds what it is to look at, and leaves what it found: BuildKit's places (docs/attestations/sbom-protocol.md there). Each
// is also told by a variable, and a generator that follows the protocol looks at the variables alone.
const (
	scanCore        = "/run/src/core"
	scanExtras      = "/run/src/extras"
	scanDestination = "/run/out"
)

// generator is an image that makes bills of materials instead of gobuild (FEATURES M4).
type generator struct {
	*base
	args []string
}

// openGenerator finds the image before work begins: a name that means nothing must not cost a build.
func (bd *build) openGenerator(ctx context.Context) error {
	opt := bd.opt.Attest.SBOM
	if opt == nil || opt.Generator == "" {
		return nil
	}
	_, host, err := platformsOf("")
	if err != nil {
		return err
	}
	found, err := bd.resolveLocked(ctx, opt.Generator, platformText(host))
	if err == nil {
		g := &generator{base: found, args: append(slices.Clone(found.image.Config.Entrypoint), found.image.Config.Cmd...)}
		if len(g.args) > 0 {
			bd.generator = g
			return nil
		}
		err = usage{errors.New("the image says no command")}
	}
	e := *classify(err, CategoryRemote)
	e.Op = "find the generator of bills of materials " + opt.Generator
	return &e
}

// generated are the bills that a generator made of the image and of what is scanned beside it. They are kept like the results of
// steps: a build without changes repeats them, and runs nothing.
func (ln *lane) generated(ctx context.Context, subjects []image.Subject) ([]namedStatement, error) {
	mounts, err := ln.openScanned(ctx)
	if err != nil {
		return nil, err
	}
	defer mounts.close()
	spec := ln.generatorSpec(mounts)
	key, err := ln.generatorKey(ctx, spec, mounts)
	if err != nil {
		return nil, err
	}
	var found []generatedBill
	if _, ok, err := ln.cache.Lookup(key, &found); err != nil || !ok {
		if found, err = ln.runGenerator(ctx, spec, mounts); err != nil {
			return nil, err
		}
		if err := ln.cache.Put(key, "sbom-generator", found); err != nil {
			ln.notice(fmt.Sprintf("the bills of materials of %s are made again by the next build: %v", ln.opt.Attest.SBOM.Generator, err))
		}
	}
	var list []namedStatement
	for _, b := range found {
		st, err := image.NewStatement(spdxPredicate, subjects, b.Predicate)
		if err != nil {
			return nil, err
		}
		list = append(list, namedStatement{st, b.Name})
	}
	return list, nil
}

// openScanned are the trees that are looked at, as read-only mounts: the image, and what BUILDKIT_SBOM_SCAN_STAGE and
// BUILDKIT_SBOM_SCAN_CONTEXT name.
func (ln *lane) openScanned(ctx context.Context) (*mountSet, error) {
	r := &stages.Run{}
	for _, t := range ln.scanTargets() {
		m := stages.Mount{Type: stages.MountBind, Target: path.Join(scanExtras, t.name), Path: "/", ReadOnly: true}
		if t.stage == nil {
			m.From = stages.Source{Kind: stages.SourceContext}
		} else {
			m.From = stages.Source{Kind: stages.SourceStage, Stage: t.stage.Index}
		}
		if t.stage == ln.plan.Target() {
			m.Target = path.Join(scanCore, t.name)
		}
		r.Mounts = append(r.Mounts, m)
	}
	return ln.target().openMounts(ctx, r)
}

// generatorSpec is the command as the image says it. It has the limits of a step, and no network unless it was asked for: what it is
// shown is the whole image, and its own business is to look at it.
func (ln *lane) generatorSpec(mounts *mountSet) sandbox.Spec {
	opt, g := ln.opt.Attest.SBOM, ln.generator
	env := slices.Clone(g.image.Config.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, "PATH="+defaultPath)
	}
	env = append(env, "BUILDKIT_SCAN_DESTINATION="+scanDestination, "BUILDKIT_SCAN_SOURCE="+path.Join(scanCore, "sbom"))
	if len(mounts.mounts) > 1 {
		env = append(env, "BUILDKIT_SCAN_SOURCE_EXTRAS="+scanExtras)
	}
	for _, name := range slices.Sorted(maps.Keys(opt.Parameters)) {
		env = append(env, "BUILDKIT_SCAN_"+name+"="+opt.Parameters[name])
	}
	spec := sandbox.Spec{Args: g.args, Env: env, Dir: path.Join("/", g.image.Config.WorkingDir)}
	ln.opt.Run.shape(&spec)
	return spec
}

// generatorNetwork is the network of the build's steps, or none.
func (ln *lane) generatorNetwork() string {
	if ln.opt.Attest.SBOM.Network {
		return ln.target().networkMode(&stages.Run{})
	}
	return networkNone
}

// generatorForm changes with what is given to a generator, and with what is taken from it.
const generatorForm = "1"

// generatorKey is all that decides what a generator finds: a stage by its layers, as for gobuild's own bills, and the context by its files.
func (ln *lane) generatorKey(ctx context.Context, spec sandbox.Spec, mounts *mountSet) (cache.Key, error) {
	k := cache.NewKey("sbom-generator").Add("form", generatorForm).Add("image", ln.generator.manifest.Digest.String()).
		Add("command", spec.Args...).Add("env", spec.Env...).Add("folder", spec.Dir).Add("network", ln.generatorNetwork())
	ln.opt.Run.addTo(k)
	for i := range mounts.mounts {
		m := &mounts.mounts[i]
		if m.From.Kind == stages.SourceStage {
			k.Add("tree:"+m.Target, m.src.lineage())
			continue
		}
		found, err := m.src.contents(ctx, m.query())
		if err != nil {
			return cache.Key{}, fmt.Errorf("build context: %w", err)
		}
		k.Add("tree:"+m.Target, found.Digest.String())
	}
	return k.Key(), nil
}

// runGenerator runs it once, as a step that users see, and takes what it left.
func (ln *lane) runGenerator(ctx context.Context, spec sandbox.Spec, mounts *mountSet) (found []generatedBill, err error) {
	select {
	case ln.jobs <- struct{}{}:
		defer func() { <-ln.jobs }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	info := &StepInfo{Stage: "sbom", Number: 1, Total: 1, Text: "SBOM by " + ln.opt.Attest.SBOM.Generator}
	if len(ln.lanes) > 1 {
		info.Platform = platformText(ln.platform)
	}
	begun := ln.cfg.Now()
	ln.em.emit(Event{Type: EventStepStart, Step: info})
	defer func() {
		ln.em.emit(Event{Type: EventStepDone, Step: info, Err: err, Duration: ln.cfg.Now().Sub(begun)})
	}()
	if err = ln.materialize(ctx, baseState(ln.generator.base)); err != nil {
		return nil, err
	}
	out, err := ln.snapshots.New(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Discard()) }()
	root, err := out.Root()
	if err != nil {
		return nil, err
	}
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: sandbox.MountTmpfs, Target: "/tmp"},
		sandbox.Mount{Type: sandbox.MountBind, Target: scanDestination, SourceFile: root.File()})
	if err := ln.execGenerator(ctx, info, spec, mounts); err != nil {
		return nil, err
	}
	if found, err = readBills(root); err != nil {
		return nil, &Error{Category: CategoryStep, Op: info.Text, Step: info, Err: err}
	}
	return found, nil
}

// execGenerator is execRun for a command of no instruction.
func (ln *lane) execGenerator(ctx context.Context, info *StepInfo, spec sandbox.Spec, mounts *mountSet) (err error) {
	work, err := ln.snapshots.New(baseState(ln.generator.base).stack())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.Discard()) }()
	runner, err := ln.sandboxRunner(ln.opt.Run)
	if err != nil {
		return err
	}
	if spec.Network, err = ln.network(ln.generatorNetwork()); err != nil {
		return err
	}
	log := newStepLog(ln.em, info)
	spec.Stdout, spec.Stderr = log.writer("stdout"), log.writer("stderr")
	spec.Lower, spec.Upper, spec.Work = work.Dirs()
	if err := mounts.prepare(ctx, &spec); err != nil {
		return err
	}
	within, cancel := ln.target().withStepTimeout(ctx)
	defer cancel()
	res, err := runner.Run(within, spec)
	log.flush()
	failed := &Error{Category: CategoryStep, Op: info.Text, Step: info, ExitCode: res.ExitCode, Tail: log.tail()}
	switch {
	case errors.Is(err, errStepTimeout):
		failed.Err, failed.Hint = fmt.Errorf("it took longer than --step-timeout %s", ln.opt.Run.StepTimeout), "raise --step-timeout"
	case err != nil:
		return err
	case res.OOMKilled:
		failed.Err, failed.Hint = fmt.Errorf("out of memory: the kernel killed it at the limit of %d MiB", ln.opt.Run.MemoryBytes>>20), "raise --memory"
	case res.Signal != 0:
		failed.Err = fmt.Errorf("it was killed by signal %d", res.Signal)
	case res.ExitCode != 0:
		failed.Err = fmt.Errorf("it ended with exit code: %d", res.ExitCode)
		if !ln.opt.Attest.SBOM.Network {
			failed.Hint = "a generator has no network; --attest type=sbom,generator=IMAGE,network=true gives it that of the steps"
		}
	default:
		return mounts.unchanged(ctx)
	}
	return failed
}
