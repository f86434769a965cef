package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gobuild/internal/rescue"
)

// Fetcher is a place that images come from. The reader's content need not be verified.
type Fetcher interface {
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Pusher is a place that images go to. Push must store nothing unless r holds exactly
// what desc says; it may seek r to its start to send it again. Both methods are called concurrently.
type Pusher interface {
	Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	Push(ctx context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error
}

// RootPusher is a Pusher to which the root of a copy is special: Copy hands it the root by
// PushRoot, always and last, so that a place with names can give it one.
type RootPusher interface {
	Pusher
	PushRoot(ctx context.Context, desc ocispec.Descriptor, r io.ReadSeeker) error
}

// CopyOptions tune Copy. The zero value works.
type CopyOptions struct {
	// Concurrency is how many blobs move at once, 0 for 4.
	Concurrency int
	// Progress is told how many bytes of a blob or manifest have been read so far. It is called from several
	// goroutines, and goes back when a blob is sent again.
	Progress func(desc ocispec.Descriptor, done int64)
	// Exists is told of what is already there, and not sent.
	Exists func(desc ocispec.Descriptor)
	// KeepChild chooses which manifests of an index are copied; nil copies all.
	KeepChild func(parent, child ocispec.Descriptor) bool
}

// Copy moves the image or index root, with all that it refers to, from src to dst: first
// layers, then configurations, manifests, and indexes last. What dst has is not sent again. An
// interrupted copy leaves blobs at dst but never a manifest that refers to something missing.
func Copy(ctx context.Context, src Fetcher, dst Pusher, root ocispec.Descriptor, opt CopyOptions) error {
	g, err := walk(ctx, src, root, opt.KeepChild)
	if err != nil {
		return fmt.Errorf("copy %s: %w", root.Digest, err)
	}
	c := copier{src: src, dst: dst, opt: opt}
	if err := c.blobs(ctx, g.layers); err != nil {
		return fmt.Errorf("copy %s: %w", root.Digest, err)
	}
	if err := c.blobs(ctx, g.configs); err != nil {
		return fmt.Errorf("copy %s: %w", root.Digest, err)
	}
	for i, m := range g.manifests {
		if err := c.manifest(ctx, m, i == len(g.manifests)-1); err != nil {
			return fmt.Errorf("copy %s: %w", root.Digest, err)
		}
	}
	return nil
}

type copier struct {
	src Fetcher
	dst Pusher
	opt CopyOptions
}

func (c copier) blobs(ctx context.Context, descs []ocispec.Descriptor) error {
	eg, ctx := errgroup.WithContext(ctx)
	n := c.opt.Concurrency
	if n <= 0 {
		n = defaultConcurrency
	}
	eg.SetLimit(n)
	for _, d := range descs {
		eg.Go(func() (err error) {
			r := &refetcher{ctx: ctx, src: c.src, desc: d}
			defer func() { err = errors.Join(err, r.Close()) }()
			return rescue.Do(func() error { return c.move(ctx, d, r) })
		})
	}
	return eg.Wait()
}

func (c copier) manifest(ctx context.Context, m document, root bool) error {
	r := bytes.NewReader(m.data)
	if named, ok := c.dst.(RootPusher); ok && root {
		return named.PushRoot(ctx, m.desc, c.watch(m.desc, r))
	}
	return c.move(ctx, m.desc, r)
}

// move sends one blob or manifest unless it is there.
func (c copier) move(ctx context.Context, d ocispec.Descriptor, r io.ReadSeeker) error {
	there, err := c.dst.Exists(ctx, d)
	if err != nil {
		return err
	}
	if !there {
		return c.dst.Push(ctx, d, c.watch(d, r))
	}
	if c.opt.Exists != nil {
		c.opt.Exists(d)
	}
	return nil
}

// watch reports what is read of r.
func (c copier) watch(d ocispec.Descriptor, r io.ReadSeeker) io.ReadSeeker {
	if c.opt.Progress == nil {
		return r
	}
	return &progressReader{r: r, report: func(done int64) { c.opt.Progress(d, done) }}
}

// graph is all that a copy moves, each thing once: an image may list a layer many times.
type graph struct {
	layers, configs []ocispec.Descriptor
	manifests       []document // every one after those it refers to
	seen            map[digest.Digest]struct{}
	bytes           int64
}

// document is a manifest or an index with its content.
type document struct {
	desc ocispec.Descriptor
	data []byte
}

// walk reads the manifests below root.
func walk(ctx context.Context, src Fetcher, root ocispec.Descriptor, keep func(parent, child ocispec.Descriptor) bool) (*graph, error) {
	g := &graph{seen: map[digest.Digest]struct{}{}}
	if keep == nil {
		keep = func(ocispec.Descriptor, ocispec.Descriptor) bool { return true }
	}
	return g, g.visit(ctx, src, root, keep, 0)
}

func (g *graph) visit(ctx context.Context, src Fetcher, desc ocispec.Descriptor, keep func(parent, child ocispec.Descriptor) bool, depth int) error {
	if !g.add(desc.Digest) {
		return nil
	}
	if g.bytes += desc.Size; g.bytes > maxGraph || len(g.manifests) >= maxEntries {
		return fmt.Errorf("too many manifests: %w", ErrTooLarge)
	}
	if !IsIndex(desc.MediaType) && !IsManifest(desc.MediaType) {
		return fmt.Errorf("%s is neither manifest nor index (%q): %w", desc.Digest, desc.MediaType, ErrMalformed)
	}
	b, err := fetchAll(ctx, src, desc)
	if err != nil {
		return err
	}
	if IsManifest(desc.MediaType) {
		err = g.addManifest(b, desc)
	} else {
		err = g.addIndex(ctx, src, b, desc, keep, depth)
	}
	if err != nil {
		return err
	}
	g.manifests = append(g.manifests, document{desc, b})
	return nil
}

func (g *graph) addIndex(ctx context.Context, src Fetcher, b []byte, desc ocispec.Descriptor, keep func(parent, child ocispec.Descriptor) bool, depth int) error {
	if depth >= maxIndexDepth {
		return fmt.Errorf("indexes nested deeper than %d: %w", maxIndexDepth, ErrTooLarge)
	}
	idx, err := ParseIndex(b, desc.MediaType)
	if err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	for _, child := range idx.Manifests {
		if !keep(desc, child) {
			continue
		}
		if err := g.visit(ctx, src, child, keep, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (g *graph) addManifest(b []byte, desc ocispec.Descriptor) error {
	m, err := ParseManifest(b, desc.MediaType)
	if err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	for _, l := range m.Layers {
		if isForeign(l.MediaType) {
			return fmt.Errorf("layer %s may not be distributed (%s): %w", l.Digest, l.MediaType, ErrMalformed)
		}
		if g.add(l.Digest) {
			g.layers = append(g.layers, l)
		}
	}
	if g.add(m.Config.Digest) {
		g.configs = append(g.configs, m.Config)
	}
	return nil
}

func (g *graph) add(d digest.Digest) bool {
	if _, ok := g.seen[d]; ok {
		return false
	}
	g.seen[d] = struct{}{}
	return true
}

// refetcher reads a blob from its source, and again from the start when it is sought
// there: a push is resent without a copy on disk.
type refetcher struct {
	ctx  context.Context //nolint:containedctx // lives for one push
	src  Fetcher
	desc ocispec.Descriptor
	cur  io.ReadCloser
	pos  int64 // bytes read from cur, or the position that was sought
}

func (r *refetcher) Read(p []byte) (int, error) {
	if r.cur == nil {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.cur.Read(p)
	r.pos += int64(n)
	return n, err
}

// open fetches the blob and skips to the position that was sought.
func (r *refetcher) open() error {
	cur, err := r.src.Fetch(r.ctx, r.desc)
	if err != nil {
		return err
	}
	if s, ok := cur.(io.Seeker); ok {
		_, err = s.Seek(r.pos, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, cur, r.pos)
	}
	if err != nil {
		return errors.Join(err, cur.Close())
	}
	r.cur = cur
	return nil
}

// Seek takes effect with the next Read.
func (r *refetcher) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.desc.Size
	}
	if offset < 0 || offset > r.desc.Size {
		return r.pos, fmt.Errorf("seek %s to %d: out of range", r.desc.Digest, offset)
	}
	if offset == r.pos {
		return offset, nil
	}
	err := r.Close()
	r.pos = offset
	return offset, err
}

func (r *refetcher) Close() error {
	if r.cur == nil {
		return nil
	}
	err := r.cur.Close()
	r.cur = nil
	return err
}

// progressReader reports the position after every read.
type progressReader struct {
	r      io.ReadSeeker
	pos    int64
	report func(done int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.pos += int64(n)
		p.report(p.pos)
	}
	return n, err
}

func (p *progressReader) Seek(offset int64, whence int) (int64, error) {
	pos, err := p.r.Seek(offset, whence)
	p.pos = pos
	return pos, err
}
