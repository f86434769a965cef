package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/snapshot"
)

// bareName is what a Dockerfile is called in its own context when a URL is the Dockerfile (FEATURES C10).
const bareName = "context"

// unpackContext makes a folder of a context that is none: an archive, or a URL (FEATURES C8, C10, C11). From here on the
// build sees that folder, and the text of the Dockerfile in it.
func (bd *build) unpackContext(ctx context.Context) error {
	switch {
	case bd.opt.ContextTar != nil:
		return bd.contextFromTar(ctx, bd.opt.ContextTar, "the archive on standard input", CategoryUsage)
	case bd.opt.ContextURL == "":
		return nil
	}
	if address, ok := gitAddress(bd.opt.ContextURL); ok {
		return bd.contextFromGit(ctx, address)
	}
	return bd.contextFromURL(ctx, bd.opt.ContextURL)
}

// gitAddress says whether a context is a git repository, and how git would write it (FEATURES C9).
func gitAddress(s string) (string, bool) {
	if strings.HasPrefix(s, "github.com/") {
		return "https://" + s, true
	}
	if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
		return s, true
	}
	u, err := url.Parse(s)
	return s, err == nil && strings.HasSuffix(u.Path, ".git")
}

func (bd *build) contextFromGit(ctx context.Context, address string) error {
	var keep *bool
	if on, err := strconv.ParseBool(bd.opt.BuildArgs["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]); err == nil && on {
		keep = &on // FEATURES B10
	}
	repo, err := bd.gitSource(ctx, address, "", keep)
	if err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryRemote)
	}
	_, dir, err := bd.contextFolder()
	if err != nil {
		return err
	}
	all, err := bd.checkout(ctx, repo, dir)
	if err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryRemote)
	}
	defer all.Close()
	if err := noLinks(all, repo); err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryUsage)
	}
	bd.opt.Context = filepath.Join(all.File().Name(), repo.Subdir)
	root, err := rootfs.Open(bd.opt.Context)
	if err != nil {
		return classify(usage{fmt.Errorf("build context %s: no folder %s", repo.Remote, repo.Subdir)}, CategoryUsage)
	}
	defer root.Close()
	return bd.takeDockerfile(root, repo.Remote)
}

func (bd *build) contextFromURL(ctx context.Context, url string) error {
	rec, err := bd.fetchURL(ctx, url, "")
	if err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryRemote)
	}
	f, err := bd.store.OpenVerified(ctx, rec.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	is, err := layer.IsArchive(f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if is {
		return bd.contextFromTar(ctx, f, rec.URL, CategoryRemote)
	}
	return bd.contextFromText(f, rec)
}

// contextFromText is a URL that is the Dockerfile itself.
func (bd *build) contextFromText(f *os.File, rec httpRecord) error {
	if bd.opt.Dockerfile != "" || bd.opt.DockerfileText != nil {
		return classify(usage{fmt.Errorf("build context %s is a Dockerfile itself, but -f names another", rec.URL)}, CategoryUsage)
	}
	src, err := readFrom(f, rec.Name, rec.URL)
	if err != nil {
		return classify(err, CategoryUsage)
	}
	_, dir, err := bd.contextFolder()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, bareName)
	if err := os.WriteFile(name, src.text, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(name, time.Time{}, rec.fileTime()); err != nil {
		return err
	}
	bd.opt.Dockerfile, bd.opt.DockerfileText = rec.Name, src.text
	return nil
}

// contextFromTar unpacks an archive by the rules of ADD, as owned by 0:0.
func (bd *build) contextFromTar(ctx context.Context, r io.Reader, what string, fault Category) error {
	root, _, err := bd.contextFolder()
	if err != nil {
		return err
	}
	owner := 0
	err = layer.Extract(ctx, r, root, "/", layer.ExtractOptions{UID: &owner, GID: &owner, Notice: bd.notice})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, layer.ErrCorrupt) && !errors.Is(err, layer.ErrUnsafe) && !errors.Is(err, layer.ErrBound):
		return &Error{Category: fault, Op: "build context", Err: fmt.Errorf("unpack %s: %w", what, err)}
	case err != nil:
		return classify(fmt.Errorf("build context: unpack %s: %w", what, err), CategoryEnvironment)
	}
	return bd.takeDockerfile(root, what)
}

// takeDockerfile reads the Dockerfile of an unpacked context, unless it comes from elsewhere.
func (bd *build) takeDockerfile(root *rootfs.Root, what string) error {
	if bd.opt.DockerfileText != nil {
		return nil
	}
	src, err := dockerfileInside(root, bd.opt.Dockerfile, what)
	if err != nil {
		return classify(err, CategoryUsage)
	}
	bd.opt.Dockerfile, bd.opt.DockerfileText = src.name, src.text
	return nil
}

// contextFolder makes the folder, which goes when the build ends, or when a later process sweeps.
func (bd *build) contextFolder() (root *rootfs.Root, dir string, err error) {
	work, err := bd.snapshots.New(nil)
	if err != nil {
		return nil, "", err
	}
	bd.mu.Lock()
	bd.open = append(bd.open, discarding{work})
	bd.mu.Unlock()
	_, dir, _ = work.Dirs()
	if root, err = work.Root(); err != nil {
		return nil, "", err
	}
	bd.opt.Context, bd.unpacked = dir, true
	return root, dir, nil
}

// discarding is a folder that closing removes.
type discarding struct{ work *snapshot.Work }

func (d discarding) Close() error { return d.work.Discard() }

// dockerfileInside reads the Dockerfile of an unpacked context: links stay inside.
func dockerfileInside(root *rootfs.Root, given, what string) (dockerfile, error) {
	names := defaultNames
	if given != "" {
		names = []string{given}
	}
	for _, name := range names {
		f, _, err := root.OpenRegular(name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return dockerfile{}, usage{fmt.Errorf("read %s in %s: %w", name, what, plainCause(err))}
		}
		defer f.Close()
		src, err := readFrom(f, name, name)
		src.path = ""
		return src, err
	}
	return dockerfile{}, &hinted{
		err:  fmt.Errorf("no Dockerfile in %s (looked for %s)", what, strings.Join(names, ", ")),
		hint: "-f names the Dockerfile by its path inside the context",
	}
}

// openMain opens the main context. In one that was unpacked, ignore files do not count (FEATURES C5), and there is nothing
// to remember about its files for the next build, which will have others.
func (t *trees) openMain() (*buildcontext.Tree, *buildcontext.Ignore, error) {
	override := t.bd.opt.IgnoreFile
	if !t.bd.unpacked {
		return t.open(t.bd.opt.Context, t.bd.src.path, override)
	}
	opt := buildcontext.Options{Now: t.bd.cfg.Now, Notice: t.bd.notice}
	if override != "" {
		path, src, err := buildcontext.FindIgnore("", t.bd.opt.Context, override)
		if err != nil {
			return nil, nil, err
		}
		opt.IgnoreFile = path
		if opt.Ignore, err = buildcontext.ParseIgnore(path, src); err != nil {
			return nil, nil, err
		}
	}
	tree, err := buildcontext.Open(t.bd.opt.Context, opt)
	return tree, opt.Ignore, err
}
