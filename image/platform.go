package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNoPlatform says that an index has nothing for the platform. The error is a *PlatformError.
var ErrNoPlatform = errors.New("no such platform")

// PlatformError lists what an index has instead of what was asked for.
type PlatformError struct {
	Want string
	Have []string
}

func (e *PlatformError) Error() string {
	have := "no images"
	if len(e.Have) > 0 {
		have = strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("no image for %s, there is: %s", e.Want, have)
}

// Is makes the error an ErrNoPlatform.
func (e *PlatformError) Is(target error) bool { return target == ErrNoPlatform }

// SelectPlatform finds the manifest for a platform: the exact variant, else the nearest
// lower one of the same architecture; an index whose only image names no platform gives that one.
// Attestations are passed over. An entry may be an index again (image-spec v1.1, image-index.md): who follows it bounds the depth.
func SelectPlatform(idx ocispec.Index, want ocispec.Platform) (ocispec.Descriptor, error) {
	want = platforms.Normalize(want)
	var images []ocispec.Descriptor
	for _, d := range idx.Manifests {
		if !isAttestation(d) {
			images = append(images, d)
		}
	}
	best, bestRank := -1, -1
	for i, d := range images {
		if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) || d.Platform == nil {
			continue
		}
		if r := suits(want, platforms.Normalize(*d.Platform)); r > bestRank {
			best, bestRank = i, r
		}
	}
	if best < 0 && len(images) == 1 && images[0].Platform == nil && IsManifest(images[0].MediaType) {
		best = 0
	}
	if best < 0 {
		return ocispec.Descriptor{}, &PlatformError{Want: platforms.Format(want), Have: listPlatforms(images)}
	}
	return images[best], nil
}

// Platforms names the platforms of an index, attestations left out.
func Platforms(idx ocispec.Index) []string {
	return listPlatforms(slices.DeleteFunc(slices.Clone(idx.Manifests), isAttestation))
}

func listPlatforms(images []ocispec.Descriptor) []string {
	var have []string
	for _, d := range images {
		name := "unnamed (" + d.MediaType + ")"
		if d.Platform != nil {
			name = platforms.Format(platforms.Normalize(*d.Platform))
		}
		if !slices.Contains(have, name) {
			have = append(have, name)
		}
	}
	return have
}

// suits ranks an image for a machine: -1 does not run, a higher variant is better.
func suits(want, have ocispec.Platform) int {
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return -1
	}
	steps := variants(want.Architecture)
	w, h := slices.Index(steps, want.Variant), slices.Index(steps, have.Variant)
	switch {
	case want.Variant == have.Variant:
		return len(steps)
	case w < 0 || h < 0 || h > w:
		return -1
	default:
		return h
	}
}

// variants orders the variants of an architecture, each running what those before it
// run. They are spelled as platforms.Normalize leaves them: "" is amd64 v1 and arm64 v8.
func variants(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"", "v2", "v3", "v4"}
	case "arm":
		return []string{"v5", "v6", "v7", "v8"}
	case "arm64":
		return []string{"", "v9"}
	default:
		return nil
	}
}

// isAttestation recognises the entries that BuildKit puts beside images.
func isAttestation(d ocispec.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}
