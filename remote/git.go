package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gobuild/internal/netguard"
)

// ErrNoGit says that this machine has no git.
var ErrNoGit = errors.New("the program git is not installed")

// GitAuth is what a repository's server may be shown. The zero value is nothing.
type GitAuth struct {
	Token  string // sent to the host of an https address as the password of Basic authentication
	Header string // or this value of the Authorization header
	Agent  string // socket of an ssh agent
}

// GitRevision is what an address means in a repository.
type GitRevision struct {
	Commit string // whole hash
	Ref    string // full name of the branch or tag that led there, "" for a hash
	Tag    string // hash of the object of an annotated tag, "" for anything else
}

// GitResolve asks what commit a repository means by its Ref. A full hash is known without asking.
func (c *Client) GitResolve(ctx context.Context, g Git, auth GitAuth) (GitRevision, error) {
	var rev GitRevision
	switch {
	case g.ByCommit && fullHash.MatchString(g.Commit):
		rev.Commit, rev.Ref = g.Commit, fullRef(g.Ref)
	case fullHash.MatchString(g.Ref):
		rev.Commit = g.Ref
	default:
		var err error
		if rev, err = c.ask(ctx, g, auth); err != nil {
			return rev, gitError(ctx, g, err)
		}
	}
	if !strings.HasPrefix(rev.Commit, g.Commit) && !strings.HasPrefix(rev.Tag, g.Commit) {
		return rev, gitError(ctx, g, fmt.Errorf("%w: %s is %s, and %s is wanted", ErrContent, g.shownRef(), rev.Commit, g.Commit))
	}
	return rev, nil
}

// GitKnows says that a commit is named in full, so that GitResolve asks nobody.
func (c *Client) GitKnows(g Git) bool {
	return g.ByCommit && fullHash.MatchString(g.Commit) || fullHash.MatchString(g.Ref)
}

// fullRef is the name of a ref that nobody is asked about: a branch, unless it says otherwise.
func fullRef(ref string) string {
	switch {
	case ref == "", fullHash.MatchString(ref):
		return ""
	case strings.HasPrefix(ref, "refs/"):
		return ref
	}
	return "refs/heads/" + ref
}

func (g Git) shownRef() string {
	if g.Ref == "" {
		return "HEAD"
	}
	return g.Ref
}

// candidates are the names that a ref may stand for, the likeliest first: branches come before tags, as git has it.
func (g Git) candidates() []string {
	if g.Ref == "" {
		return []string{"HEAD"}
	}
	var names []string
	for _, prefix := range []string{"refs/", "refs/heads/", "refs/tags/"} {
		names = append(names, prefix+strings.TrimPrefix(g.Ref, prefix))
	}
	return names
}

// ask finds a ref among those that the server has.
func (c *Client) ask(ctx context.Context, g Git, auth GitAuth) (GitRevision, error) {
	args := []string{"ls-remote", "--quiet", "--symref", "--", g.Remote}
	for _, name := range g.candidates() {
		args = append(args, name, name+"^{}") // what an annotated tag is of
	}
	run, err := c.remoteGit(ctx, g, auth, "")
	if err != nil {
		return GitRevision{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.times.git, errSlow)
	defer cancel()
	out, err := run.output(ctx, args...)
	if errors.Is(context.Cause(ctx), errSlow) {
		return GitRevision{}, fmt.Errorf("%w: %w", ErrUnavailable, errSlow)
	}
	if err != nil {
		return GitRevision{}, err
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		what, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if target, ok := strings.CutPrefix(what, "ref: "); ok && name == "HEAD" && isRef(target) {
			found["ref"] = target
		} else if fullHash.MatchString(what) {
			found[name] = what
		}
	}
	for _, name := range g.candidates() {
		rev := GitRevision{Commit: found[name], Ref: name}
		if peeled := found[name+"^{}"]; peeled != "" {
			rev.Commit, rev.Tag = peeled, found[name]
		}
		if name == "HEAD" {
			rev.Ref = found["ref"]
		}
		if rev.Commit != "" {
			return rev, nil
		}
	}
	return GitRevision{}, fmt.Errorf("%w: the repository has no %s", ErrStatus, g.shownRef())
}

// GitFetch makes dir, which must be empty, a repository that has the commit, and no older ones where the server can do
// without. Nothing is checked out. With keepRef it also has the branch or tag that led to the commit.
func (c *Client) GitFetch(ctx context.Context, g Git, rev GitRevision, dir string, auth GitAuth, keepRef bool) error {
	run, err := c.remoteGit(ctx, g, auth, dir)
	if err == nil {
		err = run.fetch(ctx, g, rev, keepRef)
	}
	if err != nil {
		return gitError(ctx, g, err)
	}
	return nil
}

// remoteGit is git for talking to a repository's server, once that may be done.
func (c *Client) remoteGit(ctx context.Context, g Git, auth GitAuth, dir string) (*gitRun, error) {
	found, err := c.checkHost(ctx, g)
	if err != nil {
		return nil, err
	}
	return c.git(g, auth, dir, found)
}

// checkHost refuses the link-local network, and for an address that a repository names everything that is not public
// (HOSTILE R-20). It gives the addresses that the host's name has, which git is held to where it can be: over http and https.
func (c *Client) checkHost(ctx context.Context, g Git) ([]netip.Addr, error) {
	host, req := g.host()
	if host == "" {
		return nil, nil
	}
	check := notLinkLocal
	if g.via != "" && !strings.EqualFold(host, g.via) && !c.cfg.AllowPrivate {
		check = onlyPublic
	}
	// Behind a proxy it is the proxy that resolves names.
	if req != nil && c.proxied(req) && !netguard.IsAddress(host) && !netguard.IsLoopback(host) {
		return nil, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if err := check(a); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// host is the host of the repository, and a request by which a proxy can be found, nil for what knows none.
func (g Git) host() (string, *http.Request) {
	if m := scpForm.FindStringSubmatch(g.Remote); m != nil {
		return m[2], nil
	}
	u, err := url.Parse(g.Remote)
	if err != nil {
		return "", nil
	}
	return u.Hostname(), &http.Request{URL: u}
}

func (r *gitRun) fetch(ctx context.Context, g Git, rev GitRevision, keepRef bool) error {
	if err := r.init(ctx, g, rev.Commit); err != nil {
		return err
	}
	want := rev.Commit
	if keepRef && rev.Tag != "" {
		want = rev.Tag
	}
	// The commit by its name, where the server allows that; else everything, in which it must be.
	_, err := r.output(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", "origin", want)
	if err != nil && ctx.Err() == nil {
		all := []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}
		if strings.HasPrefix(g.Ref, "refs/") {
			all = append(all, "+"+g.Ref+":refs/wanted") // it may be neither branch nor tag
		}
		_, err = r.output(ctx, all...)
	}
	if err != nil {
		return err
	}
	got, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", want+"^{commit}")
	if err != nil || strings.TrimSpace(got) != rev.Commit {
		return fmt.Errorf("%w: the repository has no commit %s", ErrContent, rev.Commit)
	}
	if keepRef && rev.Ref != "" {
		if _, err := r.output(ctx, "update-ref", "--no-deref", rev.Ref, want); err != nil {
			return err
		}
	}
	if _, err = r.output(ctx, "update-ref", "--no-deref", "HEAD", rev.Commit); err != nil {
		return err
	}
	_, err = r.output(ctx, "read-tree", rev.Commit) // so that a .git that stays knows its files
	return err
}

// init makes an empty repository whose hashes are like the commit's.
func (r *gitRun) init(ctx context.Context, g Git, commit string) error {
	format := "--object-format=sha1"
	if len(commit) == 64 {
		format = "--object-format=sha256"
	}
	if _, err := r.output(ctx, "init", "--quiet", "--template=", "--initial-branch=main", format, "--", r.dir); err != nil {
		return err
	}
	_, err := r.output(ctx, "remote", "add", "--", "origin", g.Remote)
	return err
}

// GitArchive hands the files of a commit in a repository of GitFetch to use, as a tar. All have the time of the commit.
func (c *Client) GitArchive(ctx context.Context, g Git, commit, dir string, use func(io.Reader) error) error {
	run, err := c.git(g, GitAuth{}, dir, nil)
	if err != nil {
		return gitError(ctx, g, err)
	}
	// What a repository says about archives of itself is for its releases, not for a checkout.
	attributes := filepath.Join(dir, ".git", "info", "attributes")
	if err := os.MkdirAll(filepath.Dir(attributes), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(attributes, []byte("* -export-ignore -export-subst\n"), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, said := run.command(ctx, "archive", "--format=tar", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return gitError(ctx, g, err)
	}
	if err := cmd.Start(); err != nil {
		return gitError(ctx, g, err)
	}
	if err := use(out); err != nil {
		cancel()
		_ = cmd.Wait() // it was ended; why is known
		return err
	}
	if err := cmd.Wait(); err != nil {
		return gitError(ctx, g, said.explain(err))
	}
	return os.Remove(attributes)
}

// GitTime is when the commit was made, in seconds.
func (c *Client) GitTime(ctx context.Context, g Git, commit, dir string) (int64, error) {
	run, err := c.git(g, GitAuth{}, dir, nil)
	if err != nil {
		return 0, gitError(ctx, g, err)
	}
	out, err := run.output(ctx, "log", "-1", "--format=%ct", "--no-show-signature", "--end-of-options", commit)
	if err != nil {
		return 0, gitError(ctx, g, err)
	}
	var secs int64
	if _, err := fmt.Sscanf(out, "%d", &secs); err != nil {
		return 0, gitError(ctx, g, fmt.Errorf("%w: a commit without a time", ErrContent))
	}
	return max(secs, 0), nil
}

func gitError(ctx context.Context, g Git, err error) error {
	if ctx.Err() != nil && context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	e := &Error{URL: g.Remote, Err: err}
	e.hint = remedy(e)
	return e
}
