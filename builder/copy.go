package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"gobuild/cache"
	buildcontext "gobuild/context"
	"gobuild/internal/passwd"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/snapshot"
	"gobuild/stages"
)

// copyJob is COPY or ADD: its key is the content that it reads (FEATURES I5).
func (sr *stageRun) copyJob(ctx context.Context, s state, step *stages.Step) (*job, error) {
	c := step.Copy
	switch c.From.Kind {
	case stages.SourceHTTP:
		return sr.remoteJob(ctx, s, step)
	case stages.SourceGit:
		return sr.gitJob(ctx, s, step)
	case stages.SourceMixed:
		return sr.mixedJob(ctx, s, step)
	case stages.SourceScratch, stages.SourceStage, stages.SourceImage, stages.SourceContext, stages.SourceInline:
	}
	src := &sourceTree{bd: sr.lane} // of heredocs alone: never opened
	if len(c.Paths) > 0 {
		var err error
		if src, err = sr.openSource(ctx, c.From); err != nil {
			return nil, err
		}
	}
	q := buildcontext.Query{Paths: c.Paths, Excludes: c.Excludes, Parents: c.Parents, FollowNamed: true}
	key, files, err := sr.copyKey(ctx, s, c, src, q)
	if err != nil {
		src.close()
		return nil, err
	}
	verb := "COPY"
	if c.Add {
		verb = "ADD"
	}
	exec := func(ctx context.Context, work *snapshot.Work) (usageOf, error) {
		return usageOf{}, sr.execCopy(ctx, c, src, q, work)
	}
	return &job{key: key, verb: verb, files: files, alone: c.Link, exec: exec, close: src.close}, nil
}

// mixedJob is ADD of sources of several kinds: one after the other, in one layer.
func (sr *stageRun) mixedJob(ctx context.Context, s state, step *stages.Step) (*job, error) {
	k := cache.NewKey("copy of several kinds")
	var parts []*job
	closeAll := func() {
		for _, p := range parts {
			p.close()
		}
	}
	for _, c := range step.Copy.Parts {
		part := *step
		part.Copy = c
		j, err := sr.copyJob(ctx, s, &part)
		if err != nil {
			closeAll()
			return nil, err
		}
		parts = append(parts, j)
		k.Add("part:"+string(c.From.Kind), j.key.Digest().String())
	}
	c := step.Copy
	exec := func(ctx context.Context, work *snapshot.Work) (usageOf, error) {
		dst, err := work.Root()
		if err != nil {
			return usageOf{}, err
		}
		if err := (&copier{dst: dst, c: c}).checkCount(len(c.Paths) + len(c.URLs) + len(c.Files)); err != nil {
			return usageOf{}, err
		}
		for _, p := range parts {
			if used, err := p.exec(ctx, work); err != nil {
				return used, err
			}
		}
		return usageOf{}, nil
	}
	return &job{key: k.Key(), verb: "ADD", alone: c.Link, exec: exec, close: closeAll}, nil
}

// copyKeyHead begins a key with what does not depend on the sources.
func (sr *stageRun) copyKeyHead(ctx context.Context, s state, c *stages.Copy) (*cache.KeyBuilder, error) {
	k := cache.NewKey("copy")
	if !c.Link {
		k.Add("parent", s.key.String())
	}
	k.Add("dest", c.Dest).Add("chown", c.Chown).Add("chmod", c.Chmod).Add("link", strconv.FormatBool(c.Link)).
		Add("parents", strconv.FormatBool(c.Parents)).Add("excludes", c.Excludes...).Add("add", strconv.FormatBool(c.Add), optional(c.Unpack))
	if namedOwner(c.Chown) && !c.Link {
		d, err := sr.passwdDigest(ctx, s)
		if err != nil {
			return nil, err
		}
		k.Add("passwd", d)
	}
	return k, nil
}

func (sr *stageRun) copyKey(ctx context.Context, s state, c *stages.Copy, src *sourceTree, q buildcontext.Query) (cache.Key, []contentFile, error) {
	k, err := sr.copyKeyHead(ctx, s, c)
	if err != nil {
		return cache.Key{}, nil, err
	}
	for _, f := range c.Files {
		k.Add("heredoc:"+f.Name, f.Data)
	}
	if len(c.Paths) == 0 {
		return k.Key(), nil, nil
	}
	found, err := src.contents(ctx, q)
	if err != nil {
		return cache.Key{}, nil, err
	}
	k.Add("sources", sourcesText(c)...).Add("names", found.Names...)
	for _, f := range found.Files {
		k.Add("file:"+f.Path, f.Digest.String())
	}
	return k.Add("content", found.Digest.String()).Key(), found.Files, nil
}

// sourcesText spells equal sources alike. With --parents a "/./" has a meaning.
func sourcesText(c *stages.Copy) []string {
	if c.Parents {
		return c.Paths
	}
	clean := make([]string, len(c.Paths))
	for i, p := range c.Paths {
		clean[i] = path.Clean("/" + p)
	}
	return clean
}

func optional(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

// namedOwner says whether --chown has a name that only the image's files can translate.
func namedOwner(chown string) bool {
	for part := range strings.SplitSeq(chown, ":") {
		if _, err := strconv.ParseUint(part, 10, 32); err != nil && part != "" {
			return true
		}
	}
	return false
}

// execCopy writes the sources into the new layer.
func (sr *stageRun) execCopy(ctx context.Context, c *stages.Copy, src *sourceTree, q buildcontext.Query, work *snapshot.Work) error {
	dst, err := work.Root()
	if err != nil {
		return err
	}
	cp, err := newCopier(ctx, dst, c, sr.opt.SourceDateEpoch, sr.cfg.Now())
	if err != nil {
		return err
	}
	if len(c.Paths) > 0 {
		tree, sel, err := src.selection(ctx, q)
		if err != nil {
			return err
		}
		if err := cp.checkSeveral(sel); err != nil {
			return err
		}
		if err := sr.copySelection(ctx, cp, tree, sel); err != nil {
			return err
		}
	}
	for _, f := range c.Files {
		if err := cp.inline(f); err != nil {
			return err
		}
	}
	return cmp.Or(cp.finish(), src.unchanged(ctx, c.Excludes))
}

func (sr *stageRun) copySelection(ctx context.Context, cp *copier, tree *buildcontext.Tree, sel *buildcontext.Selection) error {
	for _, source := range sel.Sources {
		if err := cp.begin(source); err != nil {
			return err
		}
		if source.Wildcard && len(source.Matches) == 0 && !isContext(cp.c.From) { // of the context the lint rule has said it
			sr.notice(fmt.Sprintf("line %d: %s matches nothing", stepOf(ctx).Line, source.Pattern))
		}
		for _, m := range source.Matches {
			if cp.c.Add && (cp.c.Unpack == nil || *cp.c.Unpack) && m.Info.IsRegular() {
				unpacked, err := cp.archive(ctx, tree, m)
				if err != nil {
					return fmt.Errorf("unpack %s: %w", m.Path, err)
				}
				if unpacked {
					continue
				}
			}
			if err := cp.match(ctx, tree, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// archive extracts a source that is one (FEATURES B55) and says whether it was.
func (cp *copier) archive(ctx context.Context, tree *buildcontext.Tree, m buildcontext.Match) (bool, error) {
	f, _, err := tree.Root().OpenRegular(m.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return cp.extract(ctx, f)
}

// extract unpacks a file that is an archive into the destination, and says whether it was one.
func (cp *copier) extract(ctx context.Context, f *os.File) (bool, error) {
	is, err := layer.IsArchive(f)
	if err != nil || !is {
		return false, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return false, err
	}
	dir, err := cp.folder(cp.c.Dest, archiveFolder, cp.now) // --chmod is not for archives, nor for where they go
	if err != nil {
		return false, err
	}
	opt := layer.ExtractOptions{Notice: nil}
	if cp.owner != nil {
		uid, gid := cp.owner.uid, cp.owner.gid
		opt.UID, opt.GID = &uid, &gid
	}
	return true, layer.Extract(ctx, f, cp.dst, dir, opt)
}

// ownerOf translates --chown; nil keeps the source's owners (FEATURES B48).
func ownerOf(dst *rootfs.Root, c *stages.Copy) (*owner, error) {
	if c.Chown == "" {
		return nil, nil
	}
	root := dst
	if c.Link {
		root = nil // the layer must not depend on what lies below
	}
	uid, gid, err := passwd.Owner(root, c.Chown)
	if errors.Is(err, passwd.ErrUnknown) {
		hint := "name a user and group of the image's /etc/passwd and /etc/group, or use numbers"
		if c.Link {
			hint = "with --link names cannot be looked up in the image: use numbers"
		}
		return nil, usage{&hinted{err: fmt.Errorf("--chown=%s: %w", c.Chown, err), hint: hint}}
	}
	if err != nil {
		return nil, fmt.Errorf("--chown=%s: %w", c.Chown, err)
	}
	return &owner{int(uid), int(gid)}, nil
}
