package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/registry"
)

// push sends one image under several names: to each repository once, with all the tags that it gets there.
type push struct {
	b       *Builder
	em      *emitter
	src     image.Fetcher // where the blobs are
	targets []*pushTarget
	holders func() map[string]map[digest.Digest]string // host, blob: a repository there that may hold it

	mu   sync.Mutex
	held map[string]map[digest.Digest]string // the same of this push, which is certain
	busy sync.WaitGroup
	slot chan struct{} // uploads during the build at once: they are in no hurry
}

// pushTarget is one repository.
type pushTarget struct {
	p     *push
	ref   registry.Reference // with the first tag
	names []string
	repo  *registry.Repository

	mu   sync.Mutex
	sent map[digest.Digest]bool // during the build
	down bool                   // an upload during the build failed: leave it to the end
}

// newPush groups full names by repository, in the order given.
func (b *Builder) newPush(names []string, em *emitter) (*push, error) {
	p := &push{b: b, em: em, src: b.store, held: map[string]map[digest.Digest]string{}, slot: make(chan struct{}, 2)}
	p.holders = sync.OnceValue(p.findHolders)
	if err := b.reach("push"); err != nil {
		return nil, err
	}
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return nil, usage{err}
		}
		i := slices.IndexFunc(p.targets, func(t *pushTarget) bool {
			return t.ref.Host == ref.Host && t.ref.Path == ref.Path && t.ref.Digest == "" && ref.Digest == ""
		})
		if i < 0 {
			t := &pushTarget{p: p, ref: ref, names: []string{n}, sent: map[digest.Digest]bool{}}
			t.repo = b.registry.Repository(ref).WithHolders(t.holder)
			p.targets = append(p.targets, t)
			continue
		}
		if t := p.targets[i]; !slices.Contains(t.names, n) {
			t.names, t.repo = append(t.names, n), t.repo.WithTags(ref.Tag)
		}
	}
	return p, nil
}

// run copies the image from the store to all repositories: those of one registry one after the other, since the second takes
// blobs from the first, and registries side by side. It says which names were pushed, also beside an error.
func (p *push) run(ctx context.Context, desc ocispec.Descriptor) ([]string, error) {
	p.busy.Wait()
	byHost := map[string][]*pushTarget{}
	for _, t := range p.targets {
		byHost[t.ref.Host] = append(byHost[t.ref.Host], t)
	}
	var mu sync.Mutex
	done := map[string]bool{}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, targets := range byHost {
		group.Go(func() error {
			for _, t := range targets {
				if err := guard(func() error { return t.copy(gctx, p.src, desc) }); err != nil {
					return fmt.Errorf("push %s: %w", t.names[0], err)
				}
				mu.Lock()
				for _, n := range t.names {
					done[n] = true
				}
				mu.Unlock()
			}
			return nil
		})
	}
	err := group.Wait()
	var pushed []string
	for _, t := range p.targets {
		for _, n := range t.names {
			if done[n] {
				pushed = append(pushed, n)
			}
		}
	}
	return pushed, err
}

func (t *pushTarget) copy(ctx context.Context, src image.Fetcher, desc ocispec.Descriptor) error {
	opt := t.p.em.copyOptions("push")
	told := opt.Exists
	opt.Exists = func(d ocispec.Descriptor) {
		if !t.wasSent(d.Digest) { // else it was shown then
			told(d)
		}
	}
	if err := image.Copy(ctx, src, sentRepository{t.repo, t}, desc, opt); err != nil {
		return err
	}
	t.p.hold(t.ref, src, desc)
	return nil
}

// copyOptions show a copy as events: each blob once, when it is done.
func (e *emitter) copyOptions(verb string) image.CopyOptions {
	var mu sync.Mutex
	seen := map[digest.Digest]bool{}
	tell := func(d ocispec.Descriptor, cached bool) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[d.Digest] {
			seen[d.Digest] = true
			e.emit(Event{Type: EventTransfer, Text: verb + " " + short(d.Digest), Bytes: d.Size, Total: d.Size, Cached: cached})
		}
	}
	return image.CopyOptions{
		Concurrency: 4,
		Progress: func(d ocispec.Descriptor, done int64) {
			if done >= d.Size {
				tell(d, false)
			}
		},
		Exists: func(d ocispec.Descriptor) { tell(d, true) },
	}
}

// sentRepository knows what was sent during the build, so that nobody asks for it again.
type sentRepository struct {
	*registry.Repository
	t *pushTarget
}

// Exists says whether the repository holds the blob.
func (s sentRepository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if s.t.wasSent(desc.Digest) {
		return true, nil
	}
	return s.Repository.Exists(ctx, desc)
}

func (t *pushTarget) wasSent(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent[d]
}

// offer sends a layer while the build goes on. That it fails is no news: run tries again, and says why.
func (p *push) offer(ctx context.Context, desc ocispec.Descriptor) {
	if p == nil {
		return
	}
	hosts := map[string]bool{}
	for _, t := range p.targets {
		if hosts[t.ref.Host] {
			continue // its further repositories take the layer from the first
		}
		hosts[t.ref.Host] = true
		p.busy.Go(func() {
			p.slot <- struct{}{}
			defer func() { <-p.slot }()
			err := guard(func() error { return t.early(ctx, desc) })
			t.mu.Lock()
			defer t.mu.Unlock()
			t.sent[desc.Digest], t.down = err == nil, t.down || err != nil
		})
	}
}

var errLater = errors.New("left to the end")

func (t *pushTarget) early(ctx context.Context, desc ocispec.Descriptor) error {
	t.mu.Lock()
	down := t.down
	t.mu.Unlock()
	if down || ctx.Err() != nil {
		return errLater
	}
	there, err := t.repo.Exists(ctx, desc)
	if err != nil {
		return err
	}
	if !there {
		f, err := t.p.b.store.OpenVerified(ctx, desc.Digest)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := t.repo.Push(ctx, desc, f); err != nil {
			return err
		}
	}
	t.p.em.emit(Event{Type: EventTransfer, Text: "push " + short(desc.Digest), Bytes: desc.Size, Total: desc.Size, Cached: there})
	return nil
}

// holder names another repository of the registry that may hold a blob.
func (t *pushTarget) holder(d digest.Digest) string {
	t.p.mu.Lock()
	repo := t.p.held[t.ref.Host][d]
	t.p.mu.Unlock()
	if repo != "" && repo != t.ref.Path {
		return repo
	}
	if repo = t.p.holders()[t.ref.Host][d]; repo != t.ref.Path {
		return repo
	}
	return ""
}

// hold notes what a repository has after a copy.
func (p *push) hold(ref registry.Reference, src image.Fetcher, desc ocispec.Descriptor) {
	if src != p.src {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b.eachBlob(desc, func(d digest.Digest) { addHolder(p.held, ref, d) })
}

func addHolder(m map[string]map[digest.Digest]string, ref registry.Reference, d digest.Digest) {
	if m[ref.Host] == nil {
		m[ref.Host] = map[digest.Digest]string{}
	}
	m[ref.Host][d] = ref.Path
}

// findHolders lists the blobs of the images that were pulled from each registry, or have a name there. It is only
// asked when a blob must be sent; a name that was never pushed costs nothing, since the registry then asks for the blob.
func (p *push) findHolders() map[string]map[digest.Digest]string {
	out := map[string]map[digest.Digest]string{}
	add := func(name string, desc ocispec.Descriptor) {
		ref, err := registry.ParseReference(name)
		if err != nil || slices.ContainsFunc(p.targets, func(t *pushTarget) bool { return t.ref.Host == ref.Host && t.ref.Path == ref.Path }) ||
			!slices.ContainsFunc(p.targets, func(t *pushTarget) bool { return t.ref.Host == ref.Host }) {
			return
		}
		p.b.eachBlob(desc, func(d digest.Digest) { addHolder(out, ref, d) })
	}
	if tags, err := p.b.store.Tags(); err == nil {
		for _, t := range tags {
			add(t.Name, t.Desc)
		}
	}
	// Pulled names come last: they are certain to have been there.
	_ = p.b.cache.Walk(func(rec cache.Record, _ int64, _ time.Time) error {
		var r refRecord
		if rec.Key.Kind() == "ref" && json.Unmarshal(rec.Payload, &r) == nil {
			for _, l := range rec.Key.Lines() {
				if l.Name == "name" && len(l.Values) == 1 {
					add(l.Values[0], r.Manifest)
				}
			}
		}
		return nil
	}) // a walk that fails finds less to take over
	return out
}

// eachBlob calls f with the layers and configurations of an image in the store, as far as they are listed there.
func (b *Builder) eachBlob(desc ocispec.Descriptor, f func(digest.Digest)) {
	raw, err := b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		return
	}
	if isIndex(desc.MediaType) {
		idx, err := image.ParseIndex(raw, desc.MediaType)
		if err != nil {
			return
		}
		for _, child := range idx.Manifests {
			if !isIndex(child.MediaType) {
				b.eachBlob(child, f)
			}
		}
		return
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return
	}
	for _, d := range append(m.Layers, m.Config) {
		f(d.Digest)
	}
}

// pushTo copies an image from the store to the registry that the name says.
func (b *Builder) pushTo(ctx context.Context, name string, desc ocispec.Descriptor, em *emitter) error {
	p, err := b.newPush([]string{name}, em)
	if err != nil {
		return err
	}
	_, err = p.run(ctx, desc)
	return err
}

// pushOf is the push to these names; the one that layers were offered to during the build, if there is one.
func (bd *build) pushOf(names []string) (*push, error) {
	if bd.early != nil && slices.Equal(bd.earlyNames, names) {
		return bd.early, nil
	}
	return bd.newPush(names, bd.em)
}

// beginPush prepares to send layers while later steps run. It is for the first output that is pushed; layers that are
// packed for a shared cache alone would not belong there.
func (bd *build) beginPush() error {
	if bd.exportsAll() {
		return nil
	}
	for _, o := range bd.opt.Outputs {
		if o.Type != "registry" && (o.Type != "image" || o.Attrs["push"] != "true") {
			continue
		}
		names, err := bd.names(o)
		if err != nil || len(names) == 0 {
			return err
		}
		bd.earlyNames = names
		bd.early, err = bd.newPush(names, bd.em)
		return err
	}
	return nil
}
