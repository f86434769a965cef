package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/cache"
	"gobuild/internal/needles"
	"gobuild/layer"
	"gobuild/stages"
)

// maxLeaks bounds what is told of one layer.
const maxLeaks = 20

// leak is a place that holds a secret's value. The value itself is nowhere here.
type leak struct {
	Path   string `json:"path"`
	Secret string `json:"secret"` // its id
}

// leakWatch looks for the values of a build's secrets in what becomes an image (FEATURES M8). A nil one does nothing. Layers are
// searched while they are packed. What was found is kept by the layer's digest, so that a cached layer is told of again; layers that
// were packed before are searched for today's values only when a leak is an error, since that means reading them.
type leakWatch struct {
	set  *needles.Set // nil: no secret is long enough
	deny bool
	put  func(digest.Digest, []leak) error

	mu       sync.Mutex
	searched map[digest.Digest][]leak // blobs, in this build
	suspects []suspect
	told     []string
}

// suspect is a thing that is part of the result, and may hold a secret.
type suspect struct {
	what  string
	pos   stages.Position
	desc  ocispec.Descriptor
	layer *fsLayer // that may have to be fetched
	found []leak   // of a configuration
}

func newLeakWatch(bd *build) (*leakWatch, error) {
	if len(bd.opt.Secrets) == 0 && !bd.opt.DenySecretLeak || bd.dry {
		return nil, nil //nolint:nilnil // there is nothing to look for
	}
	var list []needles.Needle
	for _, id := range slices.Sorted(maps.Keys(bd.opt.Secrets)) {
		data, err := readSecret(bd.opt.Secrets[id])
		if err != nil {
			return nil, fmt.Errorf("read secret %q: %w", id, err)
		}
		for _, form := range needles.Forms(data) {
			list = append(list, needles.Needle{Name: id, Bytes: form})
		}
	}
	return &leakWatch{set: needles.New(list), deny: bd.opt.DenySecretLeak, put: bd.putLeaks, searched: map[digest.Digest][]leak{}}, nil
}

func leakKey(d digest.Digest) cache.Key {
	return cache.NewKey("leaks").Add("blob", d.String()).Key()
}

func (bd *build) putLeaks(d digest.Digest, list []leak) error {
	return bd.cache.Put(leakKey(d), "leaks", list)
}

// finding collects leaks from several goroutines.
type finding struct {
	w    *leakWatch
	mu   sync.Mutex
	list []leak
}

func (f *finding) add(entry, id string) {
	l := leak{Path: f.w.shown("/" + entry), Secret: id}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) < maxLeaks && !slices.Contains(f.list, l) {
		f.list = append(f.list, l)
	}
}

// shown is a path as it may be told: one that itself holds a secret is not.
func (w *leakWatch) shown(text string) string {
	w.set.Find([]byte(text), func(string) { text = "a path that has it in its name" })
	return text
}

// watch makes a packing look for secrets. Call what it returns with the digest of what was packed, before that counts as packed.
func (w *leakWatch) watch(opt *layer.PackOptions) (keep func(digest.Digest) error) {
	if w == nil {
		return func(digest.Digest) error { return nil }
	}
	f := &finding{w: w}
	opt.Watch, opt.Found = w.set, f.add
	return func(d digest.Digest) error { return w.note(d, f.list) }
}

// note keeps what was found in a blob.
func (w *leakWatch) note(d digest.Digest, list []leak) error {
	slices.SortFunc(list, func(a, b leak) int { return strings.Compare(a.Path+"\x00"+a.Secret, b.Path+"\x00"+b.Secret) })
	w.mu.Lock()
	w.searched[d] = list
	w.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	return w.put(d, list)
}

// keeps says that a layer must not leave this machine, as far as is known.
func (w *leakWatch) keeps(d digest.Digest) bool {
	if w == nil || !w.deny {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	list, ok := w.searched[d]
	return !ok || len(list) > 0
}

// suspect notes a part of the result.
func (w *leakWatch) suspect(s suspect) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspects = append(w.suspects, s)
}

// config looks into a configuration, where arguments and variables are.
func (w *leakWatch) config(text []byte) {
	if w == nil {
		return
	}
	f := &finding{w: w}
	w.set.Find(text, func(id string) { f.add("", id) })
	w.suspect(suspect{what: "the image's configuration", found: f.list})
}

func (w *leakWatch) warnings() []string {
	if w == nil {
		return nil
	}
	return w.told
}

// tellLeaks warns of secrets in the result, or refuses it, before it has a name or is written anywhere.
func (bd *build) tellLeaks(ctx context.Context) error {
	if bd.leaks == nil {
		return nil
	}
	bd.suspectSteps()
	w := bd.leaks
	var first stages.Position
	for _, s := range w.suspects {
		list, err := bd.leaksOf(ctx, s)
		if err != nil {
			return classify(fmt.Errorf("look for secrets in %s: %w", s.what, err), CategoryEnvironment)
		}
		for _, l := range list {
			text := leakText(s, l)
			if slices.Contains(w.told, text) {
				continue // of another platform
			}
			if w.told = append(w.told, text); len(w.told) == 1 {
				first = s.pos
			}
			if !w.deny {
				bd.em.emit(Event{Type: EventWarning, Rule: "SecretInImage", Text: text, Line: s.pos.Start})
			}
		}
	}
	if !w.deny || len(w.told) == 0 {
		return nil
	}
	e := &Error{
		Category: CategoryUnsafe, Op: "--deny-secret-leak", Err: errors.New(strings.Join(w.told, "; ")),
		Hint: "use secrets by RUN --mount=type=secret alone, and write nothing of them to a file that stays",
	}
	if first.Start == 0 {
		return e
	}
	return bd.src.locate(e, first)
}

func leakText(s suspect, l leak) string {
	if s.found != nil {
		return fmt.Sprintf("%s holds the value of secret %q", s.what, l.Secret)
	}
	if s.layer == nil {
		return fmt.Sprintf("%s holds the value of secret %q in %s", s.what, l.Secret, l.Path)
	}
	return fmt.Sprintf("the layer of %s holds the value of secret %q in %s", s.what, l.Secret, l.Path)
}

// suspectSteps notes the layers of all steps whose layers go anywhere.
func (bd *build) suspectSteps() {
	w := bd.leaks
	for _, sr := range bd.all {
		if !sr.packed {
			continue
		}
		if sr.seeded != nil {
			w.suspect(suspect{what: "FROM " + seedName(sr.stage.Base), pos: sr.stage.Pos, layer: sr.seeded})
		}
		for i, l := range sr.added {
			step := &sr.stage.Steps[i]
			text := bd.rec.mask(step.Text)
			w.set.Find([]byte(text), func(string) { text, _, _ = strings.Cut(text, " ") })
			w.suspect(suspect{what: text, pos: step.Pos, layer: l})
		}
	}
}

// leaksOf is what is known of a suspect, after a search where that is wanted.
func (bd *build) leaksOf(ctx context.Context, s suspect) ([]leak, error) {
	if s.layer == nil && s.desc.Digest == "" {
		return s.found, nil
	}
	if s.layer != nil {
		if s.desc = s.layer.desc; s.layer.packing != nil {
			rec, err := bd.pack.result(ctx, s.layer)
			if err != nil {
				return nil, err
			}
			s.desc = rec.Desc
		}
	}
	w := bd.leaks
	w.mu.Lock()
	now, done := w.searched[s.desc.Digest]
	w.mu.Unlock()
	if s.desc.Digest == "" || done {
		return now, nil
	}
	var before []leak
	if _, ok, err := bd.cache.Lookup(leakKey(s.desc.Digest), &before); err != nil || !ok {
		before = nil // a damaged record is none
	}
	if !w.deny || w.set == nil {
		return before, nil
	}
	f := &finding{w: w, list: before}
	if err := bd.searchBlob(ctx, s, f); err != nil {
		return nil, err
	}
	return f.list, w.note(s.desc.Digest, f.list)
}

// searchBlob reads a layer that was packed before.
func (bd *build) searchBlob(ctx context.Context, s suspect, f *finding) error {
	if s.layer != nil && s.layer.fetch != nil {
		if err := bd.ensureBlob(ctx, s.layer, nil); err != nil {
			return err
		}
	}
	blob, err := bd.store.OpenVerified(ctx, s.desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, err := layer.Decompress(blob)
	if err != nil {
		return err
	}
	return errors.Join(f.searchTar(ctx, tar.NewReader(plain)), plain.Close())
}

func (f *finding) searchTar(ctx context.Context, in *tar.Reader) error {
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.Trim(h.Name, "/")
		found := func(id string) { f.add(name, id) }
		f.w.set.Find([]byte(h.Name), found)
		f.w.set.Find([]byte(h.Linkname), found)
		if _, err := io.Copy(f.w.set.Stream(found), in); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
}
