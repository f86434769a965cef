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
	if err := bd.fetchDockerfile(ctx); err != nil {
		return err
	}
	switch {
	case bd.opt.ContextTar != nil:
		return bd.contextFromTar(ctx, bd.opt.ContextTar, "the archive on standard input", CategoryUsage)
	case bd.opt.ContextURL == "":
		return bd.narrowFolder()
	}
	if address, ok := gitAddress(bd.opt.ContextURL); ok {
		return bd.contextFromGit(ctx, address)
	}
	return bd.contextFromURL(ctx, bd.opt.ContextURL)
}

// fetchDockerfile gets a Dockerfile that is named by its URL (FEATURES C2).
func (bd *build) fetchDockerfile(ctx context.Context) error {
	if bd.opt.DockerfileURL == "" {
		return nil
	}
	rec, err := bd.fetchAtMost(ctx, bd.opt.DockerfileURL, "", maxDockerfile)
	if err != nil {
		return classify(fmt.Errorf("fetch the Dockerfile: %w", err), CategoryRemote)
	}
	f, err := bd.store.OpenVerified(ctx, rec.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	src, err := readFrom(f, rec.URL, rec.URL)
	if err != nil {
		return classify(err, CategoryUsage)
	}
	bd.opt.Dockerfile, bd.opt.DockerfileText = rec.URL, src.text
	return nil
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
	bd.main.repo = repo
	dir, err := bd.gitFolder(ctx, repo)
	if err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryRemote)
	}
	bd.opt.Context, bd.unpacked = dir, true
	root, err := rootfs.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return bd.takeContext(root, repo.Remote)
}

func (bd *build) contextFromURL(ctx context.Context, url string) error {
	rec, err := bd.fetchURL(ctx, url, "")
	if err != nil {
		return classify(fmt.Errorf("build context: %w", err), CategoryRemote)
	}
	bd.main.rec = rec
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

// contextFromText is a URL that is a single file: the Dockerfile, unless that comes from elsewhere.
func (bd *build) contextFromText(f *os.File, rec httpRecord) error {
	if bd.opt.ContextSubPath != "" {
		return usage{fmt.Errorf("--context-sub-path=%s: the build context %s is one file", bd.opt.ContextSubPath, rec.URL)}
	}
	_, dir, err := bd.contextFolder()
	if err != nil {
		return err
	}
	if err := writeBare(dir, f, rec); err != nil || bd.opt.DockerfileText != nil {
		return err
	}
	if bd.opt.Dockerfile != "" {
		bd.notice(fmt.Sprintf("-f %s means nothing here: the build context %s is one file, which is the Dockerfile", bd.opt.Dockerfile, rec.URL))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	src, err := readFrom(f, rec.Name, rec.URL)
	if err != nil {
		return classify(err, CategoryUsage)
	}
	bd.opt.Dockerfile, bd.opt.DockerfileText = rec.Name, src.text
	return nil
}

// writeBare makes the only file of a folder that stands for a URL.
func writeBare(dir string, f io.Reader, rec httpRecord) error {
	name := filepath.Join(dir, bareName)
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Chtimes(name, time.Time{}, rec.fileTime())
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
	return bd.takeContext(root, what)
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
	if root, dir, err = bd.tempFolder(); err != nil {
		return nil, "", err
	}
	bd.opt.Context, bd.unpacked = dir, true
	return root, dir, nil
}

// tempFolder makes a folder that lives as long as the build.
func (bd *build) tempFolder() (root *rootfs.Root, dir string, err error) {
	work, err := bd.snapshots.New(nil)
	if err != nil {
		return nil, "", err
	}
	bd.mu.Lock()
	bd.open = append(bd.open, discarding{work})
	bd.mu.Unlock()
	_, dir, _ = work.Dirs()
	root, err = work.Root()
	return root, dir, err
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
