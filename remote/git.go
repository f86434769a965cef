package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoGit says that this machine has no git.
var ErrNoGit = errors.New("the program git is not installed")

// GitAuth is what a repository's server may be shown. The zero value is nothing.
type GitAuth struct {
	Token  string // sent to the host of an https address as the password of Basic authentication
	Header string // or this value of the Authorization header
	Agent  string // socket of an ssh agent
}

// GitCommit asks what commit a repository means by its Ref. A full hash is known without asking.
func (c *Client) GitCommit(ctx context.Context, g Git, auth GitAuth) (string, error) {
	commit := g.Ref
	if g.ByCommit {
		commit = g.Commit
	}
	if !fullHash.MatchString(commit) {
		var err error
		if commit, err = c.askCommit(ctx, g, auth); err != nil {
			return "", gitError(ctx, g, err)
		}
	}
	if !strings.HasPrefix(commit, g.Commit) {
		return "", gitError(ctx, g, fmt.Errorf("%w: %s is %s, and %s is wanted", ErrContent, g.shownRef(), commit, g.Commit))
	}
	return commit, nil
}

func (g Git) shownRef() string {
	if g.Ref == "" {
		return "HEAD"
	}
	return g.Ref
}

// askCommit finds a ref among those that the server has: branches before tags, as git does.
func (c *Client) askCommit(ctx context.Context, g Git, auth GitAuth) (string, error) {
	candidates := []string{"HEAD"}
	if g.Ref != "" {
		candidates = []string{"refs/heads/" + g.Ref, "refs/tags/" + g.Ref}
	}
	if strings.HasPrefix(g.Ref, "refs/") {
		candidates = []string{g.Ref}
	}
	args := []string{"ls-remote", "--quiet", "--", g.Remote}
	for _, name := range candidates {
		args = append(args, name, name+"^{}") // what an annotated tag is of
	}
	if err := c.checkHost(ctx, g); err != nil {
		return "", err
	}
	run, err := c.git(g, auth, "")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.times.git, errSlow)
	defer cancel()
	out, err := run.output(ctx, args...)
	if errors.Is(context.Cause(ctx), errSlow) {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, errSlow)
	}
	if err != nil {
		return "", err
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if hash, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && fullHash.MatchString(hash) {
			found[name] = hash
		}
	}
	for _, name := range candidates {
		if hash := found[name+"^{}"]; hash != "" {
			return hash, nil
		}
		if hash := found[name]; hash != "" {
			return hash, nil
		}
	}
	return "", fmt.Errorf("%w: the repository has no %s", ErrStatus, g.shownRef())
}

// GitFetch makes dir, which must be empty, a repository that has the commit, and no older ones where the server can do
// without. Nothing is checked out.
func (c *Client) GitFetch(ctx context.Context, g Git, commit, dir string, auth GitAuth) error {
	err := c.checkHost(ctx, g)
	if err == nil {
		var run *gitRun
		if run, err = c.git(g, auth, dir); err == nil {
			err = run.fetch(ctx, g, commit)
		}
	}
	if err != nil {
		return gitError(ctx, g, err)
	}
	return nil
}

// checkHost refuses the link-local network (HOSTILE R-20). git dials by itself, so a name that changes its mind between
// here and there is not caught.
func (c *Client) checkHost(ctx context.Context, g Git) error {
	host := ""
	if m := scpForm.FindStringSubmatch(g.Remote); m != nil {
		host = m[2]
	} else if u, err := url.Parse(g.Remote); err == nil && !c.proxied(&http.Request{URL: u}) {
		host = u.Hostname()
	}
	if host == "" {
		return nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, a := range found {
		if err := notLinkLocal(a); err != nil {
			return err
		}
	}
	return nil
}

func (r *gitRun) fetch(ctx context.Context, g Git, commit string) error {
	format := "--object-format=sha1"
	if len(commit) == 64 {
		format = "--object-format=sha256"
	}
	if _, err := r.output(ctx, "init", "--quiet", "--template=", "--initial-branch=main", format, "--", r.dir); err != nil {
		return err
	}
	if _, err := r.output(ctx, "remote", "add", "--", "origin", g.Remote); err != nil {
		return err
	}
	// The commit by its name, where the server allows that; else everything, in which it must be.
	_, err := r.output(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", "origin", commit)
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
	got, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", commit+"^{commit}")
	if err != nil || strings.TrimSpace(got) != commit {
		return fmt.Errorf("%w: the repository has no commit %s", ErrContent, commit)
	}
	if err := r.noSubmodules(ctx, g, commit); err != nil {
		return err
	}
	if _, err = r.output(ctx, "update-ref", "--no-deref", "HEAD", commit); err != nil {
		return err
	}
	_, err = r.output(ctx, "read-tree", commit) // so that a .git that stays knows its files
	return err
}

// noSubmodules refuses to leave out what was not said to be left out.
func (r *gitRun) noSubmodules(ctx context.Context, g Git, commit string) error {
	if !g.Submodules {
		return nil
	}
	if _, err := r.output(ctx, "cat-file", "-e", commit+":.gitmodules"); err != nil {
		return nil //nolint:nilerr // there is no such file
	}
	return &refusal{text: "submodules of a repository", hint: "add ?submodules=false to the address to do without them", kind: ErrUnsupported}
}

// GitArchive hands the files of a commit in a repository of GitFetch to use, as a tar. All have the time of the commit.
func (c *Client) GitArchive(ctx context.Context, g Git, commit, dir string, use func(io.Reader) error) error {
	run, err := c.git(g, GitAuth{}, dir)
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
	run, err := c.git(g, GitAuth{}, dir)
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

// gitRun is git with everything fixed that its environment, its configuration or a repository could turn against us
// (HOSTILE R-25, H-61, H-62).
type gitRun struct {
	path   string
	dir    string // work tree, "" none
	config []string
	env    []string
}

func (c *Client) git(g Git, auth GitAuth, dir string) (*gitRun, error) {
	path, err := exec.LookPath("git") // refuses one in the working directory
	if err != nil {
		return nil, ErrNoGit
	}
	scheme := "ssh"
	u, err := url.Parse(g.Remote)
	if err == nil && u.Host != "" {
		scheme = u.Scheme
	}
	r := &gitRun{path: path, dir: dir}
	for _, kv := range [][2]string{
		{"protocol.allow", "never"},
		{"protocol." + scheme + ".allow", "always"},
		{"core.hooksPath", "/dev/null"},
		{"core.fsmonitor", "false"},
		{"core.attributesFile", "/dev/null"},
		{"credential.helper", ""},
		{"http.followRedirects", "false"}, // where they lead is for git alone to see
		{"http.lowSpeedLimit", "1024"},
		{"http.lowSpeedTime", "60"},
		{"http.userAgent", c.cfg.UserAgent},
		{"tar.umask", "0022"},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"advice.detachedHead", "false"},
	} {
		r.config = append(r.config, "-c", kv[0]+"="+kv[1])
	}
	var config [][2]string // not as arguments, which every user of the machine can read
	if c.cfg.CAFile != "" {
		config = append(config, [2]string{"http.sslCAInfo", c.cfg.CAFile})
	}
	if c.cfg.Proxy != nil && u != nil && (scheme == "http" || scheme == "https") {
		p, err := c.cfg.Proxy(&http.Request{URL: u})
		if err != nil {
			return nil, err
		}
		if p != nil {
			config = append(config, [2]string{"http.proxy", p.String()})
		}
	}
	if header := auth.header(); header != "" && scheme == "https" {
		config = append(config, [2]string{"http." + u.Scheme + "://" + u.Host + "/.extraHeader", "Authorization: " + header})
	}
	r.env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/nonexistent",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false",
		"GIT_LFS_SKIP_SMUDGE=1", "GIT_OPTIONAL_LOCKS=0", "GIT_SSH_VARIANT=ssh", "SSH_ASKPASS_REQUIRE=never",
		fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)),
	}
	for i, kv := range config {
		r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	if auth.Agent != "" {
		r.env = append(r.env, "SSH_AUTH_SOCK="+auth.Agent)
	}
	return r, nil
}

func (a GitAuth) header() string {
	if a.Header != "" || a.Token == "" {
		return a.Header
	}
	return "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+a.Token))
}

// command is git in a process group of its own, which ends with ctx.
func (r *gitRun) command(ctx context.Context, args ...string) (*exec.Cmd, *said) {
	args = append(r.config[:len(r.config):len(r.config)], args...)
	cmd := exec.CommandContext(ctx, r.path, args...) //nolint:gosec // operands are checked in ParseGit and follow --
	cmd.Env, cmd.Dir = r.env, "/"
	if r.dir != "" {
		cmd.Dir = r.dir
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "GIT_DIR="+filepath.Join(r.dir, ".git"), "GIT_WORK_TREE="+r.dir)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) } // its helpers, too
	cmd.WaitDelay = gitEndTime
	s := &said{}
	cmd.Stderr = s
	return cmd, s
}

func (r *gitRun) output(ctx context.Context, args ...string) (string, error) {
	cmd, said := r.command(ctx, args...)
	out := &bounded{}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return "", said.explain(err)
	}
	return out.String(), nil
}

// bounded is the output of a command that has little to say.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxGitOutput {
		return 0, fmt.Errorf("%w: more than %d bytes of output of git", ErrTooLarge, maxGitOutput)
	}
	return b.Buffer.Write(p)
}

// said keeps the end of what git says about an error.
type said struct{ tail []byte }

func (s *said) Write(p []byte) (int, error) {
	s.tail = append(s.tail, p[max(0, len(p)-maxSaid):]...)
	s.tail = s.tail[max(0, len(s.tail)-maxSaid):]
	return len(p), nil
}

func (s *said) explain(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	text := strings.TrimSpace(string(s.tail))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 && !strings.HasPrefix(text, "fatal:") {
		text = text[i+1:]
	}
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "fatal: "), "\n")
	if text == "" {
		return fmt.Errorf("%w: git: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: git: %s", ErrUnavailable, text)
}
