package registry

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/imageref"
)

const (
	hubHost  = "docker.io"            // as names say it
	hubDNS   = "registry-1.docker.io" // where it answers
	hubLogin = "https://index.docker.io/v1/"
)

// Reference names an image in a registry.
type Reference struct {
	Host   string // with port, "docker.io" when the name has none
	Path   string // repository, "library/alpine"
	Tag    string // "latest" when the name has neither tag nor digest
	Digest digest.Digest
}

// ParseReference reads [host[:port]/]path[:tag][@digest] by Docker's rules. Where both
// are given, the digest decides and the tag is only kept.
func ParseReference(s string) (Reference, error) {
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("image name of %d bytes, at most %d are allowed", len(s), maxReference)
	}
	ref, err := imageref.Parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image name %q: %w", s, err)
	}
	r := Reference{Host: ref.Domain, Path: ref.Path, Tag: ref.Tag, Digest: ref.Digest}
	if len(ref.Name()) > maxRepository {
		return Reference{}, fmt.Errorf("image name %q: host and path are longer than %d bytes", s, maxRepository)
	}
	if r.Digest != "" {
		if a := r.Digest.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
			return Reference{}, fmt.Errorf("image name %q: digest algorithm %s is not supported", s, a)
		}
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// String is the full name.
func (r Reference) String() string { return r.Host + "/" + r.Path + r.suffix() }

// Familiar is the name as a person would type it. It parses to the same reference: a path whose first part would be taken for
// a host keeps the host before it.
func (r Reference) Familiar() string {
	if r.Host != hubHost {
		return r.String()
	}
	p := r.Path
	if rest, ok := strings.CutPrefix(p, "library/"); ok && !strings.Contains(rest, "/") {
		p = rest
	}
	if first, _, several := strings.Cut(p, "/"); several && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return r.String()
	}
	return p + r.suffix()
}

func (r Reference) suffix() string { return imageref.Ref{Tag: r.Tag, Digest: r.Digest}.Suffix() }
