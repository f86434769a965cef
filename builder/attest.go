package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gobuild/image"
	"gobuild/internal/rootfs"
	"gobuild/registry"
	"gobuild/sbom"
)

// AttestOptions say what is stated about the result beside it (FEATURES M1). The zero value: nothing.
type AttestOptions struct {
	Provenance *ProvenanceOptions
	SBOM       *SBOMOptions
}

// wanted says that something is stated.
func (a AttestOptions) wanted() bool { return a.Provenance != nil || a.SBOM != nil }

// checkAttestations finds what cannot be stated in the form asked for.
func checkAttestations(opt Options, form layerForm) error {
	if opt.Attest.wanted() && form.docker {
		return &hinted{err: errors.New("images of Docker's format have no attestations"), hint: "leave out oci-mediatypes=false, or --provenance and --sbom"}
	}
	for _, o := range opt.Outputs {
		if text := o.Attrs["oci-artifact"]; text != "" {
			if _, err := strconv.ParseBool(text); err != nil {
				return fmt.Errorf("-o type=%s: oci-artifact=%s is not true or false", o.Type, text)
			}
		}
	}
	return nil
}

// asArtifact says that attestations are artifacts that refer to the image. One output with oci-artifact=false makes them images.
func (opt *Options) asArtifact() bool {
	return !slices.ContainsFunc(opt.Outputs, func(o Output) bool {
		on, err := strconv.ParseBool(o.Attrs["oci-artifact"])
		return err == nil && !on
	})
}

// attestAll makes an attestation manifest for the image of each lane and puts it into the store.
func (bd *build) attestAll(ctx context.Context, images []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !bd.opt.Attest.wanted() {
		return nil, nil
	}
	var list []ocispec.Descriptor
	for i, ln := range bd.lanes {
		subjects, err := ln.imageSubjects(images[i].Digest)
		if err != nil {
			return nil, err
		}
		stated, err := ln.stated(ctx, subjects, sbom.About{Version: images[i].Digest.String(), Purpose: "CONTAINER"})
		if err != nil {
			return nil, err
		}
		statements := make([]image.Statement, len(stated))
		for k, s := range stated {
			statements[k] = s.Statement
		}
		out, err := image.AssembleAttestation(images[i], statements, bd.opt.asArtifact())
		if err != nil {
			return nil, err
		}
		for _, b := range append(out.Blobs, out.ManifestBytes) {
			if _, err := bd.putBytes(b); err != nil {
				return nil, err
			}
		}
		list = append(list, out.Manifest)
	}
	return list, nil
}

// namedStatement is one of a lane's, and the name that it has beside files.
type namedStatement struct {
	image.Statement
	filename string
}

// stated is all that is to be said of subjects: bills of materials, then provenance, as BuildKit orders them.
func (ln *lane) stated(ctx context.Context, subjects []image.Subject, about sbom.About) ([]namedStatement, error) {
	list, err := ln.bills(ctx, subjects, about)
	if opt := ln.opt.Attest.Provenance; err == nil && opt != nil {
		var st image.Statement
		st, err = ln.provenance(subjects)
		list = append(list, namedStatement{st, opt.Filename})
	}
	return list, err
}

// imageSubjects are the names of the image as package URLs. One without a name is "_", since a statement is about something.
func (ln *lane) imageSubjects(d digest.Digest) ([]image.Subject, error) {
	sum := map[string]string{d.Algorithm().String(): d.Encoded()}
	var list []image.Subject
	seen := map[string]bool{}
	outputs := ln.opt.Outputs
	if len(outputs) == 0 {
		outputs = []Output{{Type: "image"}}
	}
	for _, o := range outputs {
		names, err := ln.names(o)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if name := purl(n, platformText(ln.platform)); !seen[name] {
				seen[name] = true
				list = append(list, image.Subject{Name: name, Digest: sum})
			}
		}
	}
	if len(list) == 0 {
		list = []image.Subject{{Name: "_", Digest: sum}}
	}
	return list, nil
}

// purl is the package URL of an image (package-url/purl-spec, type docker).
func purl(name, platform string) string {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return name
	}
	repo := ref.Host + "/" + ref.Path
	if rest, ok := strings.CutPrefix(repo, "docker.io/"); ok {
		repo = strings.TrimPrefix(rest, "library/")
	}
	parts := strings.Split(repo, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	out := "pkg:docker/" + strings.Join(parts, "/")
	if ref.Tag != "" {
		out += "@" + url.PathEscape(ref.Tag)
	}
	more := url.Values{}
	if ref.Digest != "" {
		more.Set("digest", ref.Digest.String())
	}
	if platform != "" {
		more.Set("platform", platform)
	}
	if len(more) > 0 {
		out += "?" + more.Encode()
	}
	return out
}

// statesFiles says that something is stated beside outputs of files.
func (bd *build) statesFiles() bool {
	return bd.opt.Attest.SBOM != nil || bd.opt.Attest.Provenance != nil && !bd.opt.Attest.Provenance.InlineOnly
}

// fileStatements are what is to be beside an output of files.
func (ln *lane) fileStatements(ctx context.Context) ([]namedStatement, error) {
	if !ln.statesFiles() {
		return nil, nil
	}
	root, err := ln.finalTree(ctx)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	subjects, err := treeSubjects(ctx, root)
	if err != nil {
		return nil, err
	}
	list, err := ln.stated(ctx, subjects, sbom.About{Name: "files"})
	if err != nil {
		return nil, err
	}
	if opt := ln.opt.Attest.Provenance; opt != nil && opt.InlineOnly {
		list = list[:len(list)-1]
	}
	seen := map[string]bool{}
	for _, s := range list {
		if _, err := root.Lstat("/" + s.filename); err == nil || seen[s.filename] {
			return nil, usage{&hinted{err: fmt.Errorf("the result has a file %s of its own", s.filename), hint: otherName(s.filename, ln.opt.Attest.Provenance)}}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		seen[s.filename] = true
	}
	return list, nil
}

// otherName says what to do about a name that is taken.
func otherName(name string, p *ProvenanceOptions) string {
	if p != nil && name == p.Filename {
		return "give --provenance filename=OTHER, or inline-only=true"
	}
	return "build files without --sbom, or move the file"
}

// treeSubjects are the regular files of a tree.
func treeSubjects(ctx context.Context, root *rootfs.Root) ([]image.Subject, error) {
	list := []image.Subject{}
	err := eachEntry(ctx, root, func(p string, e os.DirEntry) error {
		if !e.Type().IsRegular() {
			return nil
		}
		if len(list) == maxSubjects {
			return usage{&hinted{err: fmt.Errorf("provenance of more than %d files", maxSubjects), hint: "build an image, or give --provenance inline-only=true"}}
		}
		sum, err := hashFile(root, p)
		if err != nil {
			return fmt.Errorf("hash %s: %w", p, err)
		}
		list = append(list, image.Subject{Name: strings.TrimPrefix(p, "/"), Digest: map[string]string{sum.Algorithm().String(): sum.Encoded()}})
		return nil
	})
	slices.SortFunc(list, func(a, b image.Subject) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// maxSubjects bounds the statement about an output of files: at 100 bytes each it has 20 MB.
const maxSubjects = 200_000

func hashFile(root *rootfs.Root, p string) (digest.Digest, error) {
	f, err := root.Open(p, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.FromReader(f)
}
