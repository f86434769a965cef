package builder

import (
	"context"

	"gobuild/stages"
)

// What an outline is made of, for those who show it.
type (
	OutlineTarget = stages.Target
	OutlineNeed   = stages.Need
	Lines         = stages.Position
)

// Outline is what a Dockerfile says about itself: its targets, and what one of
// them takes.
type Outline struct {
	Text    []byte // of the Dockerfile
	Targets []stages.Target
	Target  stages.Target // that Options.Target names
	Args    []stages.Arg  // build arguments that it reads
	Secrets []stages.Need
	SSH     []stages.Need
}

// Outline reads a Dockerfile without building. Base images whose configuration
// cannot be had are a notice, as with Check.
func (b *Builder) Outline(ctx context.Context, opt Options) (*Outline, error) {
	bd, end, err := b.begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := bd.readInputs(ctx); err != nil {
		return nil, err
	}
	out, err := bd.outline(ctx)
	if err != nil {
		return nil, classify(bd.planError(err), CategoryUsage)
	}
	return out, nil
}

func (bd *build) outline(ctx context.Context) (*Outline, error) {
	file, err := stages.Parse(bd.src.name, bd.src.text, stages.ParseOptions{BuildArgs: bd.opt.BuildArgs, IgnoreSyntax: bd.opt.IgnoreSyntax})
	if err != nil {
		return nil, err
	}
	opt, err := bd.readOptions()
	if err != nil {
		return nil, usage{err}
	}
	opt.Best = stages.BestNone
	plan, err := bd.readPlan(ctx, file, &opt, map[stages.BaseRef]stages.Base{}, "its variables and triggers are left out")
	if err != nil {
		return nil, err
	}
	bd.sayNotices(plan.Warnings)
	targets := file.Targets()
	return &Outline{
		Text: bd.src.text, Targets: targets, Target: targets[plan.Target().Index],
		Args: plan.Args, Secrets: plan.Secrets(), SSH: plan.SSH(),
	}, nil
}

// Targets reads the names and descriptions of a Dockerfile's stages; nothing is planned.
func (b *Builder) Targets(ctx context.Context, opt Options) (*Outline, error) {
	bd, end, err := b.begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := bd.readInputs(ctx); err != nil {
		return nil, err
	}
	file, err := stages.Parse(bd.src.name, bd.src.text, stages.ParseOptions{BuildArgs: opt.BuildArgs, IgnoreSyntax: opt.IgnoreSyntax})
	if err != nil {
		return nil, classify(bd.planError(err), CategoryUsage)
	}
	return &Outline{Text: bd.src.text, Targets: file.Targets()}, nil
}
