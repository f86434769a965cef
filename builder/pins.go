package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/registry"
)

// pins are what names meant when an image was made, for a build that makes it again (FEATURES P7). Unlike a lock file they also decide
// what base images are: the name may mean another one by now.
type pins struct {
	from string // who says so, for messages
	list []lockEntry
}

// pinned is what a base image was; "" where nobody says.
func (p *pins) pinned(n lockName) digest.Digest {
	if p == nil {
		return ""
	}
	for _, e := range p.list {
		if e.lockName == n {
			return digest.Digest(e.value)
		}
	}
	return ""
}

// commit is what a git ref was, "" where nobody says.
func (p *pins) commit(n lockName) string {
	if p == nil {
		return ""
	}
	for _, e := range p.list {
		if e.kind == n.kind && e.name == n.name {
			return e.value
		}
	}
	return ""
}

// check is told what a name means now.
func (p *pins) check(n lockName, value string) error {
	var was []string
	for _, e := range p.list {
		if p.same(e.lockName, n) {
			was = append(was, e.value)
		}
	}
	switch {
	case slices.Contains(was, value):
		return nil
	case len(was) == 0:
		return fmt.Errorf("%s is not in %s: %w", n, p.from, errOtherInput)
	}
	err := fmt.Errorf("%s is %s, and %s has %s: %w", n, value, p.from, strings.Join(was, " and "), errOtherInput)
	if n.kind == "url" || n.kind == "git" {
		return &hinted{err: err, hint: "what is there has changed since, so the image cannot be made again"}
	}
	return err
}

// errOtherInput is why an image cannot come out the same.
var errOtherInput = errors.New("the image was made of something else")

// same compares names as far as statements have them: URLs without what may be secret, and repositories also by their commit alone.
func (p *pins) same(a, b lockName) bool {
	switch a.kind {
	case "url":
		return b.kind == a.kind && b.name == a.name
	case "git":
		repo, _, _ := strings.Cut(a.name, "#")
		other, _, _ := strings.Cut(b.name, "#")
		return b.kind == a.kind && other == repo
	}
	return a == b
}

// resolvePinned finds a base image by the digest that it had, in the store or in its registry.
func (bd *build) resolvePinned(ctx context.Context, ref registry.Reference, d digest.Digest, platform string) (*base, error) {
	ref.Digest = d
	_, ok, err := bd.hasBlob(d)
	if err != nil {
		return nil, err
	}
	if ok {
		raw, err := bd.store.ReadAll(d, maxDocument)
		if err != nil {
			return nil, err
		}
		desc := ocispec.Descriptor{MediaType: mediaTypeOf(raw), Digest: d, Size: int64(len(raw))}
		found, err := bd.load(ctx, ref.Familiar(), desc, platform, bd.pinnedOrigin(ref))
		if err == nil || !isMissingBlob(err) {
			return found, err
		}
	}
	if bd.opt.Pull == PullNever {
		return nil, usage{fmt.Errorf("%s is not in the store, and --pull=never forbids to ask its registry", ref)}
	}
	return bd.pullBase(ctx, ref, platform)
}

// pinnedOrigin also fetches the image that an index in the store leads to.
func (bd *build) pinnedOrigin(ref registry.Reference) origin {
	from := bd.fetchFrom(ref)
	from.manifests = func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		if err := bd.reach("fetch a part of " + ref.Familiar()); err != nil {
			return nil, err
		}
		return bd.registry.Repository(ref).Fetch(ctx, desc)
	}
	return from
}

// mediaTypeOf is what a manifest or an index says that it is; OCI's lets them leave it out.
func mediaTypeOf(raw []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(raw, &doc) != nil {
		return "" // no reader takes it
	}
	if doc.Manifests != nil {
		return cmp.Or(doc.MediaType, ocispec.MediaTypeImageIndex)
	}
	return cmp.Or(doc.MediaType, ocispec.MediaTypeImageManifest)
}

// pinOf reads a material of a statement. One that is of no kind that builds look up is none.
func pinOf(m material) (lockEntry, bool) {
	value := ""
	for _, algorithm := range []string{"sha256", "sha1"} {
		if sum := m.Digest[algorithm]; sum != "" {
			value = algorithm + ":" + sum
			break
		}
	}
	if value == "" {
		return lockEntry{}, false
	}
	_, sum, _ := strings.Cut(value, ":")
	if rest, ok := strings.CutPrefix(m.URI, "pkg:"); ok {
		return packagePin(rest, value)
	}
	if strings.Contains(m.URI, "#") || strings.HasPrefix(value, "sha1:") {
		return lockEntry{lockName{kind: "git", name: m.URI, of: "-"}, sum}, true
	}
	return lockEntry{lockName{kind: "url", name: m.URI, of: "-"}, value}, true
}

// packagePin reads a package URL of an image: docker/NAME@TAG?platform=, as purl writes it, or oci/NAME.
func packagePin(rest, value string) (lockEntry, bool) {
	head, query, _ := strings.Cut(rest, "?")
	more, err := url.ParseQuery(query)
	if err != nil {
		return lockEntry{}, false
	}
	kind, name, _ := strings.Cut(head, "/")
	name, tag, _ := strings.Cut(name, "@")
	if name, err = url.PathUnescape(name); err != nil {
		return lockEntry{}, false
	}
	if tag, err = url.PathUnescape(tag); err != nil {
		return lockEntry{}, false
	}
	switch kind {
	case "oci":
		return lockEntry{lockName{kind: "layout", name: name, of: more.Get("platform")}, value}, true
	case "docker":
		if tag != "" {
			name += ":" + tag
		}
		if d := more.Get("digest"); d != "" {
			name += "@" + d
		}
		ref, err := registry.ParseReference(name)
		return lockEntry{lockName{kind: "image", name: ref.String(), of: more.Get("platform")}, value}, err == nil
	}
	return lockEntry{}, false
}
