package stages

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/imageref"
)

// scratch is the name of the empty image.
const scratch = "scratch"

// namedContext is a named context under its normalised name.
type namedContext struct {
	Context
	name  string // as given
	stage int    // for a Target
}

// namedContexts normalises names as C12 says: like references, without :latest;
// a "::platform" suffix stays.
func namedContexts(given map[string]Context) map[string]namedContext {
	out := make(map[string]namedContext, len(given))
	for _, name := range sortedKeys(given) {
		base, platform, qualified := strings.Cut(name, "::")
		key, ok := contextKey(base)
		if !ok {
			continue // no instruction can name it
		}
		if qualified {
			if p, err := platforms.Parse(platform); err == nil {
				platform = platforms.FormatAll(platforms.Normalize(p))
			}
			key += "::" + platform
		}
		out[key] = namedContext{Context: given[name], name: name}
	}
	return out
}

func contextKey(name string) (string, bool) {
	named, err := imageref.Parse(name)
	if err != nil {
		return "", false
	}
	return strings.TrimSuffix(named.Familiar(), ":latest"), true
}

// findTargets resolves the named contexts that are stages.
func (p *planner) findTargets() error {
	for _, key := range sortedKeys(p.contexts) {
		c := p.contexts[key]
		if c.Target == "" {
			continue
		}
		i, ok := p.file.findStage(c.Target)
		if !ok {
			return &Error{Op: "named context " + cut(c.name, maxQuoted), Err: fmt.Errorf("no stage %s", quoteShort(c.Target)),
				Hint: didYouMean(strings.ToLower(c.Target), p.file.StageNames())}
		}
		c.stage = i
		p.contexts[key] = c
	}
	return nil
}

// targetStage finds the stage that a named context puts in the place of name.
func (p *planner) targetStage(name string, platform ocispec.Platform) (int, bool) {
	c, ok := p.lookupContext(name, platform)
	return c.stage, ok && c.Target != ""
}

// lookupContext finds the named context that replaces name, a stage or image.
func (p *planner) lookupContext(name string, platform ocispec.Platform) (namedContext, bool) {
	if len(p.contexts) == 0 || strings.EqualFold(name, scratch) || strings.EqualFold(name, "context") {
		return namedContext{}, false
	}
	key, ok := contextKey(name)
	if !ok {
		return namedContext{}, false
	}
	if c, ok := p.contexts[key+"::"+platforms.FormatAll(platforms.Normalize(platform))]; ok {
		return c, true
	}
	c, ok := p.contexts[key]
	return c, ok
}

// source says where the files of a named context are. The BaseRef is that of an
// image, zero for anything else.
func (p *planner) contextSource(c namedContext, platform ocispec.Platform) (Source, BaseRef, error) {
	image := c.Image
	switch {
	case c.Target != "":
		return Source{Kind: SourceStage, Stage: c.stage}, BaseRef{}, nil
	case c.Dir:
		return Source{Kind: SourceContext, Name: c.name}, BaseRef{}, nil
	case strings.TrimPrefix(image, "docker-image://") == scratch:
		return Source{Kind: SourceScratch}, BaseRef{}, nil
	}
	ref := BaseRef{Name: image, Context: c.name, Platform: platforms.Format(platforms.Normalize(platform))}
	if b, ok := p.bases[ref]; ok && b.Dir {
		return Source{Kind: SourceContext, Name: c.name}, BaseRef{}, nil
	}
	return Source{Kind: SourceImage, Image: ref}, ref, nil
}

// checkImageName refuses what cannot name an image, also where no target needs
// it: the reference reads the names of all stages (D2).
func (p *planner) checkImageName(name string) error {
	if name == scratch {
		return nil
	}
	if _, err := imageref.Parse(name); err != nil {
		return withHint(fmt.Errorf("invalid image name %s: %w", quoteShort(name), cause(err)), p.file.stageHint(name))
	}
	return nil
}

// imageSource says where the files of an image named in the Dockerfile are:
// nowhere (scratch), in the named context that replaces it, or in the image.
func (p *planner) imageSource(name string, platform ocispec.Platform) (Source, BaseRef, error) {
	if name == scratch {
		return Source{Kind: SourceScratch}, BaseRef{}, nil
	}
	if c, ok := p.lookupContext(name, platform); ok {
		return p.contextSource(c, platform)
	}
	ref := BaseRef{Name: name, Platform: platforms.Format(platforms.Normalize(platform))}
	return Source{Kind: SourceImage, Image: ref}, ref, nil
}

// stageHint suggests a stage for a name that is no image: FROM finds stages by
// their lower-case name only (D3).
func (f *File) stageHint(name string) string {
	names, lower := f.StageNames(), strings.ToLower(name)
	if slices.Contains(names, lower) {
		return "did you mean " + lower + "? stages have lower-case names"
	}
	return didYouMean(lower, names)
}

// need notes that the plan reads ref, and reports whether it is known.
func (p *planner) need(ref BaseRef) bool {
	if ref == (BaseRef{}) {
		return true
	}
	_, ok := p.bases[ref]
	if !ok {
		p.missing[ref] = struct{}{}
	}
	return ok
}
