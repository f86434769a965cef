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

	buildcontext "gobuild/context"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/remote"
	"gobuild/snapshot"
	"gobuild/stages"
)

// gitSource is a repository at one commit.
type gitSource struct {
	remote.Git
	auth   remote.GitAuth
	commit string
	keep   bool
}

// gitJob is ADD of git repositories (FEATURES B57). Its key has commits and folders (I5), so a full hash needs no server.
func (sr *stageRun) gitJob(ctx context.Context, s state, step *stages.Step) (*job, error) {
	c := step.Copy
	k, err := sr.copyKeyHead(ctx, s, c)
	if err != nil {
		return nil, err
	}
	var repos []gitSource
	for i, raw := range c.URLs {
		repo, err := sr.gitSource(ctx, raw, c.Checksum, c.KeepGit)
		if err != nil {
			return nil, err
		}
		k.Add("source", strconv.Itoa(i), "git").Add("commit", repo.commit, repo.Subdir, strconv.FormatBool(repo.keep))
		repos = append(repos, repo)
	}
	exec := func(ctx context.Context, work *snapshot.Work) (usageOf, error) {
		return usageOf{}, sr.execGit(ctx, c, repos, work)
	}
	return &job{key: k.Key(), verb: "ADD", alone: c.Link, exec: exec, close: func() {}}, nil
}

// gitSource reads an address and finds out what commit it means.
func (bd *build) gitSource(ctx context.Context, raw, checksum string, keep *bool) (repo gitSource, err error) {
	if repo.Git, err = remote.ParseGit(raw); err != nil {
		return repo, fmt.Errorf("git address: %w", err)
	}
	if checksum != "" {
		if repo.Commit != "" && repo.Commit != checksum {
			return repo, usage{errors.New("git address: its commit contradicts --checksum")}
		}
		repo.Commit = checksum
	}
	if keep == nil {
		keep = repo.KeepDir
	}
	repo.keep = keep != nil && *keep
	if repo.keep && repo.Subdir != "" {
		return repo, usage{errors.New("git address: .git belongs to the whole repository, and cannot be kept with a folder of it")}
	}
	if repo.auth, err = bd.gitAuth(repo.Remote); err != nil {
		return repo, err
	}
	repo.commit, err = bd.remote.GitCommit(ctx, repo.Git, repo.auth)
	return repo, err
}

// gitAuth takes what the user handed over for repositories: secrets by name, those of the host first, and the ssh agent.
func (bd *build) gitAuth(address string) (auth remote.GitAuth, err error) {
	auth.Agent = bd.opt.SSH["default"]
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return auth, nil //nolint:nilerr // user@host:path is ssh
	}
	for _, suffix := range []string{"." + u.Host, ""} {
		for name, to := range map[string]*string{"GIT_AUTH_TOKEN": &auth.Token, "GIT_AUTH_HEADER": &auth.Header} {
			src, ok := bd.opt.Secrets[name+suffix]
			if !ok || *to != "" {
				continue
			}
			data, err := readSecret(src)
			if err != nil {
				return auth, usage{fmt.Errorf("read secret %q: %w", name+suffix, err)}
			}
			*to = strings.TrimSpace(string(data))
			if strings.ContainsAny(*to, "\r\n") {
				return auth, usage{fmt.Errorf("secret %q has several lines", name+suffix)}
			}
		}
	}
	return auth, nil
}

func (sr *stageRun) execGit(ctx context.Context, c *stages.Copy, repos []gitSource, work *snapshot.Work) error {
	dst, err := work.Root()
	if err != nil {
		return err
	}
	cp, err := newCopier(ctx, dst, c, sr.opt.SourceDateEpoch, sr.cfg.Now())
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := sr.addGit(ctx, cp, repo); err != nil {
			return fmt.Errorf("add %s: %w", repo.Remote, err)
		}
	}
	return cp.finish()
}

// addGit copies a repository's files as COPY copies a folder.
func (sr *stageRun) addGit(ctx context.Context, cp *copier, repo gitSource) error {
	work, err := sr.snapshots.New(nil)
	if err != nil {
		return err
	}
	defer func() { _ = work.Discard() }() // swept by the next process if it fails
	_, dir, _ := work.Dirs()
	root, err := sr.checkout(ctx, repo, dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tree := buildcontext.FromRoot(root, buildcontext.Options{Now: sr.cfg.Now, Notice: sr.notice})
	sel, err := tree.Select(ctx, buildcontext.Query{Paths: []string{"/" + literal(repo.Subdir)}, Excludes: cp.c.Excludes, FollowNamed: true})
	if err != nil {
		return err
	}
	for _, source := range sel.Sources {
		for _, m := range source.Matches {
			if !m.Info.IsDir() {
				return usage{fmt.Errorf("%s in the repository is not a folder", repo.Subdir)}
			}
			if err := cp.match(ctx, tree, m); err != nil {
				return err
			}
		}
	}
	return tree.Close()
}

// literal escapes what would be a pattern.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// checkout makes the files of a commit below dir. They have the commit's time, so that a layer of them does not depend on
// when it was made.
func (bd *build) checkout(ctx context.Context, repo gitSource, dir string) (*rootfs.Root, error) {
	bare, files := filepath.Join(dir, "repository"), filepath.Join(dir, "files")
	for _, d := range []string{bare, files} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	if err := bd.remote.GitFetch(ctx, repo.Git, repo.commit, bare, repo.auth); err != nil {
		return nil, err
	}
	size, _, err := diskSize(bare)
	if err != nil {
		return nil, err
	}
	bd.em.emit(Event{Type: EventTransfer, Text: "fetch " + repo.Remote, Bytes: size, Total: size})
	secs, err := bd.remote.GitTime(ctx, repo.Git, repo.commit, bare)
	if err != nil {
		return nil, err
	}
	root, err := rootfs.Open(files)
	if err != nil {
		return nil, err
	}
	owner := 0
	err = bd.remote.GitArchive(ctx, repo.Git, repo.commit, bare, func(r io.Reader) error {
		return layer.Extract(ctx, r, root, "/", layer.ExtractOptions{UID: &owner, GID: &owner, Notice: bd.notice})
	})
	if err == nil && repo.keep {
		err = os.Rename(filepath.Join(bare, ".git"), filepath.Join(files, ".git"))
	}
	if err == nil {
		err = os.Chmod(files, 0o755)
	}
	if err == nil {
		err = os.Chtimes(files, time.Time{}, time.Unix(secs, 0))
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}
