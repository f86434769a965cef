package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repository is one repository as an end of image.Copy.
type Repository struct {
	c    *Client
	ref  Reference
	tags []string // that a copied image gets beside the reference's
	from func(digest.Digest) string
}

// Repository returns the repository of a reference. Its tag, if set, is what a copied image gets.
func (c *Client) Repository(rf Reference) *Repository { return &Repository{c: c, ref: rf} }

// WithTags makes PushRoot give the image these tags, too, after the reference's own.
func (r *Repository) WithTags(tags ...string) *Repository {
	out := *r
	out.tags = append(slices.Clone(r.tags), tags...)
	return &out
}

// WithHolders makes Push take blobs from other repositories of the same registry where it can: find names one that may
// hold a blob, "" for none.
func (r *Repository) WithHolders(find func(digest.Digest) string) *Repository {
	out := *r
	out.from = find
	return &out
}

// isManifest says whether a descriptor is served below /manifests rather than /blobs.
func isManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json":
		return true
	}
	return false
}

// Fetch reads a manifest or a blob, verified.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if !isManifest(desc.MediaType) {
		return r.c.Blob(ctx, r.ref, desc)
	}
	b, mediaType, err := r.c.Manifest(ctx, r.ref, desc.Digest)
	if err != nil {
		return nil, err
	}
	if mediaType != desc.MediaType {
		return nil, fmt.Errorf("pull %s: %s is %q, not %q: %w", r.ref.Familiar(), desc.Digest, mediaType, desc.MediaType, ErrContent)
	}
	return io.NopCloser(strings.NewReader(string(b))), nil
}

// Exists says whether the repository holds the manifest or blob.
func (r *Repository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if !isManifest(desc.MediaType) {
		return r.c.hasBlobForPush(ctx, r.ref, desc)
	}
	return r.c.hasManifest(ctx, r.byDigest(desc), desc)
}

func (r *Repository) byDigest(desc ocispec.Descriptor) Reference {
	rf := r.ref
	rf.Tag, rf.Digest = "", desc.Digest
	return rf
}

// Push sends a blob, or a manifest by its digest.
func (r *Repository) Push(ctx context.Context, desc ocispec.Descriptor, rd io.ReadSeeker) error {
	if !isManifest(desc.MediaType) {
		from := ""
		if r.from != nil {
			if from = r.from(desc.Digest); from == r.ref.Path {
				from = ""
			}
		}
		return r.c.pushBlob(ctx, r.ref, desc, rd, from)
	}
	return r.pushManifest(ctx, r.byDigest(desc), desc, rd)
}

// PushRoot sends the manifest or index that a copy is about, under each tag if there is one. A tag that means it already
// is left alone.
func (r *Repository) PushRoot(ctx context.Context, desc ocispec.Descriptor, rd io.ReadSeeker) error {
	refs := []Reference{r.ref}
	if r.ref.Tag == "" {
		refs = []Reference{r.byDigest(desc)}
	}
	for _, t := range r.tags {
		rf := r.ref
		rf.Tag = t
		refs = append(refs, rf)
	}
	for _, rf := range refs {
		there, err := r.c.hasManifest(ctx, rf, desc)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if _, err := rd.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("push %s: read manifest %s: %w", rf.Familiar(), desc.Digest, err)
		}
		if err := r.pushManifest(ctx, rf, desc, rd); err != nil {
			if err = r.besideImmutable(ctx, rf, desc, rd, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// besideImmutable pushes by digest where err says that the tag is immutable, and that is to be lived with.
func (r *Repository) besideImmutable(ctx context.Context, rf Reference, desc ocispec.Descriptor, rd io.ReadSeeker, err error) error {
	if !r.c.cfg.LeaveImmutable || !errors.Is(err, ErrImmutable) {
		return err
	}
	if _, err := rd.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("push %s: read manifest %s: %w", rf.Familiar(), desc.Digest, err)
	}
	byDigest := r.byDigest(desc)
	if err := r.pushManifest(ctx, byDigest, desc, rd); err != nil {
		return err
	}
	r.c.cfg.Notice(fmt.Sprintf("the tag %s is immutable and stays what it is: the image is %s", rf.Familiar(), byDigest.Familiar()))
	return nil
}

func (r *Repository) pushManifest(ctx context.Context, rf Reference, desc ocispec.Descriptor, rd io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(rd, maxManifest+1))
	if err != nil {
		return fmt.Errorf("push %s: read manifest %s: %w", rf.Familiar(), desc.Digest, err)
	}
	if len(b) > maxManifest {
		return fmt.Errorf("push %s: manifest %s is longer than %d bytes", rf.Familiar(), desc.Digest, maxManifest)
	}
	return r.c.PushManifest(ctx, rf, desc, b)
}

// hasManifest says whether a reference means desc in the registry now.
func (c *Client) hasManifest(ctx context.Context, rf Reference, desc ocispec.Descriptor) (bool, error) {
	cl, err := c.begin(ctx, "push", rf, true)
	if err != nil {
		return false, err
	}
	defer cl.end()
	m, err := cl.h.client.ManifestHead(cl.ctx, cl.r)
	if err != nil {
		// An answer without a usable header says as little as none; the push will tell.
		if s := cl.lastStatus(); cl.ctx.Err() == nil && (s == http.StatusNotFound || s == http.StatusOK) {
			return false, nil
		}
		return false, cl.fail(ctx, err)
	}
	return m.GetDescriptor().Digest == desc.Digest, nil
}
