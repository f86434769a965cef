package registry

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers lists the manifests of a repository whose subject is d: as the registry's API says, or else the tag that takes its place
// (OCI distribution-spec 1.1, "Listing Referrers"). They are the registry's word: a manifest's own subject is for the caller to check.
func (c *Client) Referrers(ctx context.Context, rf Reference, d digest.Digest) ([]ocispec.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	rf.Tag, rf.Digest = "", d
	cl, err := c.begin(ctx, "list what refers to", rf, false)
	if err != nil {
		return nil, err
	}
	defer cl.end()
	cl.manifest, cl.list = true, true // each page has the bounds of a manifest, and all together those of a list
	found, err := cl.h.client.ReferrerList(cl.ctx, cl.r)
	if err != nil {
		return nil, cl.fail(ctx, err)
	}
	out := make([]ocispec.Descriptor, 0, len(found.Descriptors))
	for _, f := range found.Descriptors {
		if checkDigest(f.Digest) == nil {
			out = append(out, ocispec.Descriptor{MediaType: f.MediaType, Digest: f.Digest, Size: f.Size, ArtifactType: f.ArtifactType, Annotations: f.Annotations})
		}
	}
	return out, nil
}
