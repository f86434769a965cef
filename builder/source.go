package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	buildcontext "gobuild/context"
	"gobuild/internal/rootfs"
	"gobuild/stages"
)

// sourceTree is what COPY and mounts read: a directory context, or the file system of a stage or image.
// A file system is only opened when its files are needed; what they are is remembered by lineage.
type sourceTree struct {
	bd   *lane
	dir  *buildcontext.Tree // directory contexts
	far  *remoteContext     // contexts that are fetched
	st   state              // file systems, when both are nil
	view *rootfs.Root
	tree *buildcontext.Tree

	// Of a directory, which may change under us: what the key was computed from.
	seen   *buildcontext.Selection
	digest buildcontext.SelectionDigest
}

// openSource waits for a stage if the source is one.
func (bd *lane) openSource(ctx context.Context, src stages.Source) (*sourceTree, error) {
	t := &sourceTree{bd: bd}
	var err error
	switch src.Kind {
	case stages.SourceContext:
		t.dir, t.far, err = bd.contextTree(ctx, src.Name)
	case stages.SourceStage:
		t.st, err = bd.stateOf(ctx, src.Stage)
	case stages.SourceImage:
		b := bd.bases[src.Image]
		if b.dir {
			t.dir, t.far, err = bd.contextTree(ctx, src.Image.Context)
		} else {
			t.st = baseState(b)
		}
	case stages.SourceScratch:
		t.st = emptyState
	case stages.SourceInline, stages.SourceHTTP, stages.SourceGit, stages.SourceMixed:
		err = fmt.Errorf("%s is not a tree", src.Kind)
	}
	return t, err
}

func (t *sourceTree) close() {
	if t.tree != nil && t.dir == nil {
		_ = t.tree.Close() // a stage's tree remembers nothing
	}
	if t.view != nil {
		_ = t.view.Close() // read only
	}
}

// open gives the tree itself, unpacking what is missing.
func (t *sourceTree) open(ctx context.Context) (*buildcontext.Tree, error) {
	switch {
	case t.dir != nil:
		return t.dir, nil
	case t.far != nil:
		return t.far.open(ctx)
	}
	if t.tree != nil {
		return t.tree, nil
	}
	view, err := t.bd.view(ctx, t.st)
	if err != nil {
		return nil, err
	}
	if view == nil {
		if view, err = t.bd.snapshots.View(nil); err != nil {
			return nil, err
		}
	}
	t.view = view
	t.tree = buildcontext.FromRoot(view, buildcontext.Options{Owner: true, Now: t.bd.cfg.Now, Notice: t.bd.notice})
	return t.tree, nil
}

// contents is what a query found, as far as keys need it.
type contents struct {
	Digest digest.Digest `json:"digest"`
	Names  []string      `json:"names"` // of each match: how it will be called, and from which pattern
	Files  []contentFile `json:"files,omitempty"`
}

type contentFile struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Mode   uint32        `json:"mode,omitempty"`
	Size   int64         `json:"size,omitempty"`
}

// lineage names the whole of what does not change under us.
func (t *sourceTree) lineage() string {
	if t.far != nil {
		return t.far.identity
	}
	return t.st.lineage()
}

// contents digests what a query finds. For the file system of a stage or image, and for a commit or a file by URL, it is
// remembered, so that a cached build need not look into it.
func (t *sourceTree) contents(ctx context.Context, q buildcontext.Query) (contents, error) {
	if t.dir != nil {
		c, sel, d, err := digestOf(ctx, t.dir, q)
		t.seen, t.digest = sel, d
		return c, err
	}
	if err := t.foreseeable(); err != nil {
		return contents{}, err
	}
	key := cache.NewKey("content").Add("lineage", t.lineage()).Add("paths", q.Paths...).Add("excludes", q.Excludes...).
		Add("parents", strconv.FormatBool(q.Parents)).Add("follow", strconv.FormatBool(q.FollowNamed)).Key()
	var c contents
	if _, ok, err := t.bd.cache.Lookup(key, &c); ok && err == nil {
		t.bd.giveContents(key, c)
		return c, nil
	}
	if c, ok := t.bd.shared.contents[key.Digest()]; ok {
		t.bd.giveContents(key, c)
		return c, t.bd.cache.Put(key, "content", c)
	}
	if err := t.unpacked(); err != nil {
		return c, err
	}
	tree, err := t.open(ctx)
	if err != nil {
		return c, err
	}
	if c, _, _, err = digestOf(ctx, tree, q); err != nil {
		return c, err
	}
	t.bd.giveContents(key, c)
	return c, t.bd.cache.Put(key, "content", c)
}

// maxListed bounds the files whose digests stand one by one in a key's text; the whole is in its content line anyway.
const maxListed = 1000

func digestOf(ctx context.Context, tree *buildcontext.Tree, q buildcontext.Query) (c contents, sel *buildcontext.Selection, d buildcontext.SelectionDigest, err error) {
	if sel, err = tree.Select(ctx, q); err != nil {
		return c, sel, d, err
	}
	if d, err = tree.Digest(ctx, sel, q.Excludes); err != nil {
		return c, sel, d, err
	}
	c.Digest = d.Digest
	for i, f := range d.Files {
		if i == maxListed {
			break
		}
		c.Files = append(c.Files, contentFile{f.Path, f.Digest, f.Mode, f.Size})
	}
	for _, src := range sel.Sources {
		if len(src.Pivots) > 0 {
			c.Names = append(c.Names, "pivot") // the destination is made, even if nothing is found
		}
		for _, m := range src.Matches {
			c.Names = append(c.Names, fmt.Sprintf("%s %s %v", m.Parent, m.Name, m.Info.IsDir()))
		}
	}
	return c, sel, d, nil
}

// selection gives what a query finds for copying: for a directory the very selection that the key was computed from.
func (t *sourceTree) selection(ctx context.Context, q buildcontext.Query) (*buildcontext.Tree, *buildcontext.Selection, error) {
	tree, err := t.open(ctx)
	if err != nil || t.seen != nil {
		return tree, t.seen, err
	}
	sel, err := tree.Select(ctx, q)
	return tree, sel, err
}

// unchanged checks, after a copy, that the directory is still what the key says: else the cache would hold other bytes
// under it (HOSTILE R-06, H-13).
func (t *sourceTree) unchanged(ctx context.Context, excludes []string) error {
	if t.seen == nil {
		return nil
	}
	return t.dir.Unchanged(ctx, t.seen, excludes, t.digest)
}

// passwdDigest stands in keys for what a user name means: the digest of the two files, remembered by lineage.
func (bd *lane) passwdDigest(ctx context.Context, s state) (string, error) {
	t := &sourceTree{bd: bd, st: s}
	defer t.close()
	// A pattern does not fail where a file is missing, but for one where the folder is.
	c, err := t.contents(ctx, buildcontext.Query{Paths: []string{"etc/passw[d]", "etc/grou[p]"}, FollowNamed: true})
	if errors.Is(err, buildcontext.ErrNotFound) {
		return "", nil
	}
	return c.Digest.String(), err
}
