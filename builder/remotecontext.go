package builder

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/lazyre"
)

// remoteContext is a named context by URL or from git (FEATURES C12). Each build asks its server once what it is; it is fetched
// and unpacked when a step needs the files.
type remoteContext struct {
	bd       *build
	name     string
	identity string // commit or digest: what decides its files
	repo     gitSource
	rec      httpRecord // of a URL; then repo is empty
	tree     *buildcontext.Tree
}

// scpAddress is user@host:path, which git takes for an ssh address.
var scpAddress = lazyre.New(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:`)

// isAddress says whether the value of a named context is fetched from somewhere.
func isAddress(value string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "github.com/"} {
		if strings.HasPrefix(value, prefix) {
			return true
		}
	}
	return scpAddress.MatchString(value)
}

// contextTree is the main context (""), or a named one: a folder, or something that is fetched.
func (bd *build) contextTree(ctx context.Context, name string) (*buildcontext.Tree, *remoteContext, error) {
	value := bd.opt.Contexts[name]
	if name == "" || !isAddress(value) {
		tree, err := bd.trees.get(name)
		return tree, nil, err
	}
	defer bd.fetching.lock("context " + name)()
	bd.mu.Lock()
	far := bd.far[name]
	bd.mu.Unlock()
	if far != nil {
		return nil, far, nil
	}
	far = &remoteContext{bd: bd, name: name}
	if err := far.identify(ctx, value); err != nil {
		return nil, nil, classify(fmt.Errorf("build context %s: %w", name, err), CategoryRemote)
	}
	bd.mu.Lock()
	bd.far[name] = far
	bd.mu.Unlock()
	return nil, far, nil
}

func (r *remoteContext) identify(ctx context.Context, value string) (err error) {
	if address, ok := gitAddress(value); ok {
		r.repo, err = r.bd.gitSource(ctx, address, "", nil)
		r.identity = "git " + strings.Join(r.repo.identity(), " ")
		return err
	}
	r.rec, err = r.bd.fetchURL(ctx, value, "")
	r.identity = "http " + r.rec.Digest.String()
	return err
}

// open fetches it once. Nothing in it is ignored, and everything belongs to 0:0.
func (r *remoteContext) open(ctx context.Context) (*buildcontext.Tree, error) {
	defer r.bd.fetching.lock("context " + r.name)()
	if r.tree != nil {
		return r.tree, nil
	}
	dir, err := r.unpack(ctx)
	if err == nil {
		r.tree, err = buildcontext.Open(dir, buildcontext.Options{Now: r.bd.cfg.Now, Notice: r.bd.notice})
	}
	if err != nil {
		return nil, classify(fmt.Errorf("build context %s: %w", r.name, err), CategoryRemote)
	}
	r.bd.mu.Lock()
	r.bd.open = append(r.bd.open, r.tree)
	r.bd.mu.Unlock()
	return r.tree, nil
}

// unpack makes the folder: the repository's, or one that has what the URL gives as the file "context", as for BuildKit.
func (r *remoteContext) unpack(ctx context.Context) (string, error) {
	if r.repo.Remote != "" {
		return r.bd.gitFolder(ctx, r.repo)
	}
	_, dir, err := r.bd.tempFolder()
	if err != nil {
		return "", err
	}
	f, err := r.bd.store.OpenVerified(ctx, r.rec.Digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return dir, writeBare(dir, f, r.rec)
}

// gitFolder checks a repository out for as long as the build lasts, and gives the path of what is wanted of it.
func (bd *build) gitFolder(ctx context.Context, repo gitSource) (string, error) {
	_, dir, err := bd.tempFolder()
	if err != nil {
		return "", err
	}
	all, err := bd.checkout(ctx, repo, dir)
	if err != nil {
		return "", err
	}
	defer all.Close()
	if err := noLinks(all, repo); err != nil {
		return "", err
	}
	st, err := all.Lstat(repo.Subdir)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", usage{fmt.Errorf("%s has no folder %s", repo.Remote, repo.Subdir)}
	}
	// Nobody else writes there, so what was found without links is still that when it is opened by its path.
	return filepath.Join(all.File().Name(), repo.Subdir), nil
}
