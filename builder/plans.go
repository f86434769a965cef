package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gobuild/stages"
)

// planning is one platform's plan in the making.
type planning struct {
	*lane
	opt stages.Options
}

// missingBase is an image that a plan lacks, with the options that say whose line needs it.
type missingBase struct {
	ref stages.BaseRef
	opt stages.Options
}

// makePlans plans for each platform. Bases are resolved until no plan lacks one: ONBUILD triggers of a base may bring new ones.
func (bd *build) makePlans(ctx context.Context) error {
	file, err := stages.Parse(bd.src.name, bd.src.text, stages.ParseOptions{BuildArgs: bd.opt.BuildArgs, IgnoreSyntax: bd.opt.IgnoreSyntax})
	if err != nil {
		return bd.planError(err)
	}
	if err := bd.choosePlatforms(ctx, file); err != nil {
		return classify(err, CategoryRemote)
	}
	targets, err := bd.targets()
	if err != nil {
		return classify(err, CategoryUsage)
	}
	var all []*planning
	for _, target := range targets {
		p := &planning{lane: &lane{build: bd, platform: target}}
		if p.opt, err = bd.planOptions(target); err != nil {
			return classify(err, CategoryUsage)
		}
		if err := bd.settleEpoch(ctx, file, &p.opt); err != nil {
			return err
		}
		all = append(all, p)
	}
	known := map[stages.BaseRef]stages.Base{}
	for {
		missing, err := bd.planAll(file, all, known)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			break
		}
		if err := bd.resolveBases(ctx, file, missing, known); err != nil {
			return err
		}
	}
	return bd.planFacts(ctx, file, all, known)
}

// planAll makes the plans for which all bases are known, and lists the bases that the others lack.
func (bd *build) planAll(file *stages.File, all []*planning, known map[stages.BaseRef]stages.Base) ([]missingBase, error) {
	var list []missingBase
	seen := map[stages.BaseRef]bool{}
	for _, p := range all {
		if p.plan != nil {
			continue
		}
		plan, missing, err := file.Plan(p.opt, known)
		if err != nil {
			return nil, bd.planError(err)
		}
		p.plan = plan
		for _, ref := range missing {
			if !seen[ref] {
				seen[ref] = true
				list = append(list, missingBase{ref, p.opt})
			}
		}
	}
	return list, nil
}

// planFacts plans once more where rules need to know what the context holds, and keeps the plans.
func (bd *build) planFacts(ctx context.Context, file *stages.File, all []*planning, known map[stages.BaseRef]stages.Base) error {
	for _, p := range all {
		if bd.wildcardFacts(ctx, p.plan, &p.opt.Facts) {
			plan, _, err := file.Plan(p.opt, known)
			if err != nil {
				return bd.planError(err)
			}
			p.plan = plan
		}
		bd.lanes = append(bd.lanes, p.lane)
	}
	return nil
}

func (bd *build) resolveBases(ctx context.Context, file *stages.File, missing []missingBase, known map[stages.BaseRef]stages.Base) error {
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	before := maps.Clone(known)
	for _, m := range missing {
		group.Go(func() error {
			found, err := bd.resolve(ctx, m.ref)
			if err != nil {
				return bd.baseError(file.BaseError(m.opt, before, m.ref, err), err)
			}
			mu.Lock()
			defer mu.Unlock()
			bd.bases[m.ref] = found
			known[m.ref] = stages.Base{Digest: found.manifest.Digest, Image: found.image, Dir: found.dir}
			return nil
		})
	}
	return group.Wait()
}

// targets are the platforms of the result, the host's if none is asked for.
func (bd *build) targets() ([]ocispec.Platform, error) {
	if len(bd.opt.Platforms) == 0 {
		_, host, err := platformsOf("")
		return []ocispec.Platform{host}, err
	}
	if len(bd.opt.Platforms) > maxPlatforms {
		return nil, fmt.Errorf("--platform: %d platforms, and at most %d are built at once", len(bd.opt.Platforms), maxPlatforms)
	}
	var list []ocispec.Platform
	seen := map[string]bool{}
	for _, text := range bd.opt.Platforms {
		target, _, err := platformsOf(text)
		if err != nil {
			return nil, err
		}
		if name := platformText(target); seen[name] {
			return nil, fmt.Errorf("--platform: %s is given twice", name)
		}
		seen[platformText(target)] = true
		list = append(list, target)
	}
	return list, nil
}

// maxPlatforms bounds the plans of one build: there are about twenty platforms for which images exist.
const maxPlatforms = 64

// readOptions are for what only reads a Dockerfile, which is for one platform.
func (bd *build) readOptions() (stages.Options, error) {
	targets, err := bd.targets()
	if err != nil {
		return stages.Options{}, err
	}
	if len(targets) > 1 {
		bd.notice(fmt.Sprintf("the Dockerfile is read as for %s, the first of %d platforms", platformText(targets[0]), len(targets)))
	}
	return bd.planOptions(targets[0])
}

func (bd *build) planOptions(target ocispec.Platform) (stages.Options, error) {
	_, host, err := platformsOf("")
	if err != nil {
		return stages.Options{}, err
	}
	contexts := map[string]stages.Context{}
	for name, value := range bd.opt.Contexts {
		c, err := parseContextValue(value)
		if err != nil {
			return stages.Options{}, fmt.Errorf("--build-context %s=%s: %w", name, value, err)
		}
		contexts[name] = c
	}
	return stages.Options{
		Target: bd.opt.Target, BuildArgs: bd.opt.BuildArgs, Labels: bd.opt.Labels, Env: bd.opt.Env, Unset: bd.opt.Unset,
		TargetPlatform: target, PlatformGiven: len(bd.opt.Platforms) > 0, BuildPlatform: host,
		Contexts: contexts, Network: bd.opt.Run.Network, Allow: bd.opt.Allow, Ignore: bd.trees.ignorePatterns(), IgnoreSyntax: bd.opt.IgnoreSyntax,
		Best: stages.BestBuild, Facts: bd.contextFacts(),
	}, nil
}

// errOnePlatform is for commands that show one plan.
var errOnePlatform = errors.New("several platforms, but a plan is for one")
