package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/atomicfile"
	"gobuild/internal/rootfs"
	"gobuild/registry"
)

// deliver assembles the image if an output wants one, and gives each output what it asks for.
func (bd *build) deliver(ctx context.Context) (*Result, error) {
	res := &Result{}
	if bd.needsImage() {
		if err := bd.assembleAll(ctx, res); err != nil {
			return nil, classify(fmt.Errorf("make image: %w", err), CategoryEnvironment)
		}
	}
	if err := bd.tellLeaks(ctx); err != nil {
		return nil, err
	}
	outputs := bd.opt.Outputs
	if len(outputs) == 0 {
		outputs = []Output{{Type: "image"}}
	}
	for _, o := range outputs {
		if err := bd.output(ctx, o, res); err != nil {
			e := classify(err, CategoryEnvironment)
			if e.Op == "" {
				named := *e
				named.Op = "write output type=" + o.Type
				e = &named
			}
			return nil, e
		}
	}
	if err := bd.keepUntagged(res); err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	if err := bd.exportShares(ctx); err != nil {
		return nil, err
	}
	bd.mu.Lock()
	res.Steps = bd.steps
	bd.mu.Unlock()
	for _, w := range bd.warnings() {
		res.Warnings = append(res.Warnings, w.Message)
	}
	res.Provenance = bd.provenances()
	res.Warnings = append(res.Warnings, bd.leaks.warnings()...)
	res.Elapsed = bd.cfg.Now().Sub(bd.begun)
	return res, nil
}

// names are the -t names and those of the output itself, in full form.
func (bd *build) names(o Output) ([]string, error) {
	var names []string
	all := bd.opt.Tags
	if own := o.Attrs["name"]; own != "" {
		all = append(append([]string(nil), all...), strings.Split(own, ",")...)
	}
	for _, n := range all {
		ref, err := registry.ParseReference(strings.TrimSpace(n))
		if err != nil {
			return nil, usage{err}
		}
		names = append(names, ref.String())
	}
	return names, nil
}

func (bd *build) output(ctx context.Context, o Output, res *Result) error {
	names, err := bd.names(o)
	if err != nil {
		return err
	}
	switch o.Type {
	case "image":
		return bd.outputImage(ctx, o, names, res)
	case "registry":
		if len(names) == 0 {
			return usage{&hinted{err: errors.New("nothing to push to"), hint: "name the image with -t HOST/NAME:TAG"}}
		}
		o.Attrs = withPush(o.Attrs)
		return bd.outputImage(ctx, o, names, res)
	case "oci":
		res.addTags(names)
		return bd.outputOCI(ctx, o, names, res.Manifest)
	case "docker":
		res.addTags(names)
		return writeOutput(o, func(w io.Writer) error {
			return image.WriteDockerTar(ctx, w, bd.store, res.Manifest, names, bd.opt.SourceDateEpoch)
		})
	case "local":
		return bd.outputLocal(ctx, o)
	case "tar":
		return bd.outputTar(ctx, o)
	}
	return nil // cacheonly
}

func withPush(attrs map[string]string) map[string]string {
	out := map[string]string{"push": "true"}
	for k, v := range attrs {
		if k != "push" {
			out[k] = v
		}
	}
	return out
}

// onlyPushed says that all outputs go to registries.
func (bd *build) onlyPushed() bool {
	return len(bd.opt.Outputs) > 0 && !bd.form.force && !slices.ContainsFunc(bd.opt.Outputs, func(o Output) bool { return o.Type != "registry" })
}

// isWhole says that the store has all blobs of the image, so that it can have a name there.
func (bd *build) isWhole() bool {
	whole := true
	bd.origins.Range(func(d, _ any) bool {
		_, whole = bd.store.Has(d.(digest.Digest)) //nolint:forcetypeassert // only digests are put in
		return whole
	})
	return whole
}

// lazyBlobs is the store, and what imageLayers left where it is: such a blob is fetched when a push needs it.
type lazyBlobs struct{ bd *build }

// Fetch opens a blob.
func (l lazyBlobs) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if at, ok := l.bd.origins.Load(desc.Digest); ok {
		if err := l.bd.ensureBlob(ctx, at.(*fsLayer), nil); err != nil { //nolint:forcetypeassert // only layers are put in
			return nil, err
		}
	}
	return l.bd.store.Fetch(ctx, desc)
}

// outputImage tags the image in the store, and pushes it where asked. The tags stay if a push fails: a second
// `gobuild push` then only sends (FEATURES F6). An image of which only registries have some layers gets no name in the store.
func (bd *build) outputImage(ctx context.Context, o Output, names []string, res *Result) error {
	res.addTags(names)
	if bd.isWhole() {
		for _, n := range names {
			if err := bd.store.Tag(n, res.Manifest); err != nil {
				return err
			}
		}
	}
	if o.Attrs["push"] != "true" {
		return nil
	}
	p, err := bd.pushOf(names)
	if err != nil {
		return err
	}
	p.src = lazyBlobs{bd}
	pushed, err := p.run(ctx, res.Manifest)
	if res.Pushed = append(res.Pushed, pushed...); err != nil {
		return classify(err, CategoryRemote)
	}
	if err := bd.sign(ctx, bd.opt.SignKey, pushed, res.Manifest, bd.em); err != nil {
		return classify(err, CategoryRemote)
	}
	return nil
}

func (bd *build) outputOCI(ctx context.Context, o Output, names []string, desc ocispec.Descriptor) error {
	if !o.Tar {
		return image.WriteLayout(ctx, o.Dest, bd.store, desc, names, bd.opt.SourceDateEpoch)
	}
	return writeOutput(o, func(w io.Writer) error {
		return image.WriteOCITar(ctx, w, bd.store, desc, names, bd.opt.SourceDateEpoch)
	})
}

// writeOutput writes a file by rename, so that a failed build leaves the old one, or to where "-" leads.
func writeOutput(o Output, fill func(io.Writer) error) error {
	if o.Dest == "-" {
		if o.Out == nil {
			return usage{errors.New("dest=-: there is no standard output")}
		}
		return fill(o.Out)
	}
	if o.Dest == "" {
		return usage{errors.New("dest= is missing: where to write?")}
	}
	if info, err := os.Stat(o.Dest); err == nil && info.IsDir() {
		return usage{fmt.Errorf("dest=%s is a folder; a file is written here", o.Dest)}
	} else if err == nil && !info.Mode().IsRegular() {
		return writeThrough(o.Dest, fill)
	}
	return atomicfile.WriteFunc(o.Dest, atomicfile.Options{Mode: 0o644}, fill)
}

// writeThrough writes to a FIFO or device, such as /dev/stdout, which a rename would replace.
func writeThrough(dest string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// finalTree opens the target's file system.
func (ln *lane) finalTree(ctx context.Context) (*rootfs.Root, error) {
	return ln.viewOrEmpty(ctx, ln.target().final)
}

// viewOrEmpty is view; an empty directory stands in for the empty state.
func (bd *build) viewOrEmpty(ctx context.Context, s state) (*rootfs.Root, error) {
	view, err := bd.view(ctx, s)
	if err != nil || view != nil {
		return view, err
	}
	return bd.snapshots.View(nil)
}

// untaggedRecord keeps an image that has no name from being pruned while it is fresh.
type untaggedRecord struct {
	Manifest ocispec.Descriptor `json:"manifest"`
	Config   ocispec.Descriptor `json:"config"`
	Created  time.Time          `json:"created"`
}

// keepUntagged remembers the result by its id, so that commands can name it so.
func (bd *build) keepUntagged(res *Result) error {
	if res.ID() == "" || !bd.isWhole() {
		return nil
	}
	rec := untaggedRecord{Manifest: res.Manifest, Config: res.Config, Created: bd.cfg.Now().UTC()}
	return bd.cache.Put(imageKey(res.ID().String()), "images", rec)
}

// addTags notes names that an output carries, each once.
func (r *Result) addTags(names []string) {
	for _, n := range names {
		if !slices.Contains(r.Tags, n) {
			r.Tags = append(r.Tags, n)
		}
	}
}
