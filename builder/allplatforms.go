package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/registry"
	"gobuild/stages"
)

// choosePlatforms makes the platforms of the result those for which all base images exist (--all-platforms; FEATURES L3). Bases of
// stages that are for a platform of their own, such as FROM --platform=$BUILDPLATFORM, do not count.
func (bd *build) choosePlatforms(ctx context.Context, file *stages.File) error {
	if !bd.opt.AllPlatforms {
		return nil
	}
	if len(bd.opt.Platforms) > 0 {
		return usage{errors.New("--platform and --all-platforms exclude each other")}
	}
	refs, err := bd.targetBases(file)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return usage{&hinted{err: errors.New("--all-platforms: no stage starts from an image of which the platforms could be taken"), hint: "list them with --platform"}}
	}
	var common []string
	for i, ref := range refs {
		have, err := bd.platformsOfBase(ctx, ref)
		if err != nil {
			return fmt.Errorf("find the platforms of %s: %w", ref.Name, err)
		}
		if i == 0 {
			common = have
		}
		common = slices.DeleteFunc(common, func(p string) bool { return !slices.Contains(have, p) })
	}
	if len(common) == 0 {
		return usage{&hinted{err: errors.New("--all-platforms: there is no platform for which all base images exist"), hint: "list them with --platform"}}
	}
	bd.opt.Platforms, bd.opt.AllPlatforms = common, false
	bd.notice("the platforms of the base images are " + strings.Join(common, ", "))
	return nil
}

// targetBases are the images that stages for the result's platform start from. Planning for a platform that is not this machine's
// shows which these are.
func (bd *build) targetBases(file *stages.File) ([]stages.BaseRef, error) {
	probe := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if _, host, err := platformsOf(""); err != nil {
		return nil, err
	} else if host.Architecture == probe.Architecture {
		probe.Architecture = "amd64"
	}
	opt, err := bd.planOptions(probe)
	if err != nil {
		return nil, err
	}
	opt.PlatformGiven = true
	_, missing, err := file.Plan(opt, map[stages.BaseRef]stages.Base{})
	if err != nil {
		return nil, bd.planError(err)
	}
	return slices.DeleteFunc(missing, func(ref stages.BaseRef) bool { return ref.Platform != platformText(probe) || bd.isFolder(ref) }), nil
}

// isFolder says that a base is a named context without platforms.
func (bd *build) isFolder(ref stages.BaseRef) bool {
	value := bd.opt.Contexts[ref.Context]
	return ref.Context != "" && !strings.HasPrefix(value, "docker-image://") && !strings.HasPrefix(value, "oci-layout://")
}

// platformsOfBase lists those that can be built: of an index all, of an image its own.
func (bd *build) platformsOfBase(ctx context.Context, ref stages.BaseRef) (list []string, err error) {
	f, err := bd.lookBase(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !isIndex(f.desc.MediaType) {
		_, img, err := f.parts(ctx, "")
		if err != nil {
			return nil, err
		}
		return []string{platformText(img.Platform)}, nil
	}
	raw, err := f.document(ctx, f.desc)
	if err != nil {
		return nil, err
	}
	idx, err := image.ParseIndex(raw, f.desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", f.desc.Digest, err)
	}
	for _, text := range image.Platforms(idx) {
		if p, err := platforms.Parse(text); err == nil && p.OS == "linux" && !slices.Contains(list, platformText(p)) {
			list = append(list, platformText(p))
		}
	}
	if len(list) > maxPlatforms {
		return nil, fmt.Errorf("an index of %d platforms, and at most %d are built at once: %w", len(list), maxPlatforms, image.ErrTooLarge)
	}
	return list, nil
}

// lookBase finds an index where the image would be taken from. What was pulled before is the image of one platform, so a name that
// the store does not have itself is asked for again.
func (bd *build) lookBase(ctx context.Context, ref stages.BaseRef) (*located, error) {
	name := ref.Name
	if ref.Context != "" {
		value := bd.opt.Contexts[ref.Context]
		if strings.HasPrefix(value, "oci-layout://") {
			path, tag := splitLayout(strings.TrimPrefix(value, "oci-layout://"))
			return bd.look(ctx, location{kind: inLayout, text: value, path: path, name: tag})
		}
		name = strings.TrimPrefix(value, "docker-image://")
	}
	full, err := registry.ParseReference(name)
	if err != nil {
		return nil, usage{err}
	}
	if bd.opt.Pull == "" || bd.opt.Pull == PullMissing || bd.opt.Pull == PullNever {
		if desc, err := bd.store.Resolve(full.String()); err == nil {
			return &located{location: location{kind: inStore, text: name}, desc: desc, src: bd.store, Closer: nothingToClose{}}, nil
		}
	}
	if bd.opt.Pull == PullNever {
		return nil, usage{fmt.Errorf("%s is not in the store, and --pull=never forbids to ask its registry", full)}
	}
	if err := bd.reach("ask the registry for " + full.Familiar()); err != nil {
		return nil, err
	}
	return bd.look(ctx, location{kind: inRegistry, text: name, ref: full})
}
