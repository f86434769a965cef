package builder

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	buildcontext "gobuild/context"
	"gobuild/remote"
	"gobuild/snapshot"
	"gobuild/stages"
)

// gitSource is a repository at one commit.
type gitSource struct {
	remote.Git
	auth remote.GitAuth
	rev  remote.GitRevision
	keep bool // .git
}

// identity is what decides the files: the commit, wherever it comes from, and what of it is wanted. A .git that stays has the
// branch or tag, too.
func (g gitSource) identity() []string {
	words := []string{g.rev.Commit, g.Subdir, strconv.FormatBool(g.keep)}
	if g.keep {
		words = append(words, g.rev.Ref, g.rev.Tag)
	}
	if !g.Submodules {
		words = append(words, "without submodules")
	}
	return words
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
		k.Add("source", strconv.Itoa(i), "git").Add("commit", repo.identity()...)
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
		bd.notice(fmt.Sprintf("%s: .git belongs to the whole repository, and is not kept with the folder %s of it", repo.Remote, repo.Subdir))
		repo.keep = false
	}
	if repo.auth, err = bd.gitAuth(repo.Remote); err != nil {
		return repo, err
	}
	if !bd.remote.GitKnows(repo.Git) {
		if err := bd.reach("ask " + repo.Remote + " for a commit"); err != nil {
			return repo, err
		}
	}
	was := bd.opt.pins.commit(lockedGit(repo.Git))
	if repo.rev, err = bd.remote.GitResolve(ctx, repo.Git, repo.auth); err != nil && was == "" {
		return repo, err
	}
	if was != "" && repo.rev.Commit != was {
		repo.rev = remote.GitRevision{Commit: was} // the branch has moved on, or is gone
	}
	return repo, bd.lock.note(lockedGit(repo.Git), repo.rev.Commit)
}

// The secrets that are for any repository's server; with a dot and the host at their end they are for that host, and come first.
const (
	secretHeader = "GIT_AUTH_HEADER" // the whole value of Authorization
	secretToken  = "GIT_AUTH_TOKEN"
)

// gitAuth takes what the user handed over for repositories: secrets by name, and the ssh agent.
func (bd *build) gitAuth(address string) (remote.GitAuth, error) {
	if bd.opt.stranger {
		return bd.hostAuth(address) // an address that the user has not seen gets what is meant for its host
	}
	auth, err := bd.hostAuth(address, secretHeader, secretToken)
	auth.Agent = bd.opt.SSH["default"]
	return auth, err
}

// moduleAuth is what the server of a submodule may be shown: everything on the server of the address that the user wrote,
// and elsewhere what is meant for that host by name (HOSTILE R-19).
func (bd *build) moduleAuth(top, address string) (remote.GitAuth, error) {
	if sameServer(top, address) {
		return bd.gitAuth(address)
	}
	return bd.hostAuth(address)
}

// hostAuth reads the first secret that there is: those for the host, then the ones that are named.
func (bd *build) hostAuth(address string, more ...string) (auth remote.GitAuth, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return auth, nil //nolint:nilerr // user@host:path is ssh
	}
	for _, name := range append([]string{secretHeader + "." + u.Host, secretToken + "." + u.Host}, more...) {
		src, ok := bd.opt.Secrets[name]
		if !ok {
			continue
		}
		data, err := readSecret(src)
		if err != nil {
			return auth, usage{fmt.Errorf("read secret %q: %w", name, err)}
		}
		value := strings.TrimSpace(string(data))
		if strings.ContainsAny(value, "\r\n") {
			return auth, usage{fmt.Errorf("secret %q has several lines", name)}
		}
		if strings.HasPrefix(name, secretHeader) {
			auth.Header = value
		} else {
			auth.Token = value
		}
		return auth, nil
	}
	return auth, nil
}

// sameServer says whether two addresses lead to one server by one protocol.
func sameServer(a, b string) bool { return serverOf(a) == serverOf(b) }

func serverOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" { // user@host:path
		_, rest, _ := strings.Cut(address, "@")
		host, _, _ := strings.Cut(rest, ":")
		return "ssh://" + strings.ToLower(host)
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "ssh" {
		host = strings.TrimSuffix(host, ":22")
	}
	return u.Scheme + "://" + host
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
	if err := noLinks(root, repo); err != nil {
		return err
	}
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
