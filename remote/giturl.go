package remote

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"

	"gobuild/internal/lazyre"
	"gobuild/internal/netguard"
)

// Git is a git repository as a user names it, with what is wanted of it (FEATURES C9).
type Git struct {
	Remote     string // the address without fragment and query
	Ref        string // branch, tag, refs/... or full hash; "" the remote's HEAD
	Commit     string // hash or beginning of one that Ref must be; "" any
	Subdir     string // folder in the repository; "" all
	KeepDir    *bool  // leave .git in place; nil: not said
	Submodules bool   // wanted; false only when said so
	ByCommit   bool   // fetch by Commit rather than by Ref

	via string // of a submodule: the host that the user named; "" when that is this one's
}

var (
	scpForm  = lazyre.New(`^([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):(.+)$`)
	fullHash = lazyre.New(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
	partHash = lazyre.New(`^[0-9a-f]{1,64}$`)
)

// ParseGit reads the address of a repository. Only https, http, git and ssh are known: anything else that git has would
// read this machine's files or start programs.
func ParseGit(raw string) (Git, error) {
	g := Git{Submodules: true}
	if len(raw) > maxURL {
		return g, fmt.Errorf("%w: longer than %d bytes", ErrURL, maxURL)
	}
	if strings.ContainsFunc(raw, unicode.IsControl) {
		return g, fmt.Errorf("%w: it has control characters in it", ErrURL)
	}
	address, fragment, _ := strings.Cut(raw, "#")
	address, query, _ := strings.Cut(address, "?")
	g.Remote = address
	if err := g.checkAddress(); err != nil {
		return g, err
	}
	given, err := url.ParseQuery(query)
	if err != nil {
		return g, fmt.Errorf("%w: its query cannot be parsed", ErrURL)
	}
	for key, values := range given {
		if len(values) > 1 {
			return g, fmt.Errorf("%w: %.40q is given twice", ErrURL, key)
		}
		if values[0] == "" && key != "submodules" && key != "keep-git-dir" && key != "fetch-by-commit" {
			return g, fmt.Errorf("%w: %.40q has no value", ErrURL, key)
		}
		if err := g.option(key, values[0]); err != nil {
			return g, err
		}
	}
	if given.Has("tag") && given.Has("branch") {
		return g, fmt.Errorf("%w: tag and branch contradict each other", ErrURL)
	}
	ref, subdir, _ := strings.Cut(fragment, ":")
	if err := set(&g.Ref, ref, "ref"); err != nil {
		return g, err
	}
	if err := set(&g.Subdir, subdir, "subdir"); err != nil {
		return g, err
	}
	return g, g.check()
}

// checkAddress refuses what a program could take for an option, and what is for nobody.
func (g *Git) checkAddress() error {
	if m := scpForm.FindStringSubmatch(g.Remote); m != nil && !strings.Contains(g.Remote, "://") {
		if strings.HasPrefix(m[3], "-") {
			return refuse("", "the path of the repository begins with -")
		}
		return nil
	}
	u, err := url.Parse(g.Remote)
	if err != nil {
		return fmt.Errorf("%w: it cannot be parsed", ErrURL)
	}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "git" && u.Scheme != "ssh":
		return refuse("use https or ssh", "%.40q is not a scheme that git may use here", u.Scheme)
	case u.Hostname() == "", u.Opaque != "":
		return fmt.Errorf("%w: it has no host", ErrURL)
	case strings.HasPrefix(u.Hostname(), "-"), strings.HasPrefix(u.User.Username(), "-"):
		return refuse("", "its host or user begins with -")
	case password, u.User != nil && u.Scheme != "ssh":
		return refuse("give --secret id=GIT_AUTH_TOKEN,src=FILE: the URL would be in the image's history", "the URL has credentials in it")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && netguard.IsLinkLocal(a) {
		return notLinkLocal(a)
	}
	return nil
}

// set takes a value that may be said in two ways, if they agree.
func set(to *string, value, what string) error {
	if value == "" {
		return nil
	}
	if *to != "" && *to != value {
		return fmt.Errorf("%w: two values for %s", ErrURL, what)
	}
	*to = value
	return nil
}

func (g *Git) option(key, value string) error {
	switch key {
	case "ref":
		return set(&g.Ref, value, key)
	case "branch":
		return set(&g.Ref, "refs/heads/"+strings.TrimPrefix(value, "refs/heads/"), "ref")
	case "tag":
		return set(&g.Ref, "refs/tags/"+strings.TrimPrefix(value, "refs/tags/"), "ref")
	case "checksum", "commit":
		return set(&g.Commit, value, "commit")
	case "subdir":
		return set(&g.Subdir, value, key)
	case "keep-git-dir":
		keep, err := flag(key, value)
		g.KeepDir = &keep
		return err
	case "submodules":
		var err error
		g.Submodules, err = flag(key, value)
		return err
	case "fetch-by-commit":
		var err error
		g.ByCommit, err = flag(key, value)
		return err
	case "mtime":
		if value != "commit" && value != "checkout" {
			return fmt.Errorf("%w: mtime is commit or checkout", ErrURL)
		}
		return nil
	}
	return fmt.Errorf("%w: unknown option %.40q", ErrURL, key)
}

func flag(key, value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%w: %s is true or false", ErrURL, key)
	}
	return b, nil
}

// check holds the parts to what git allows (git-check-ref-format), before any of them is an argument of a program.
func (g *Git) check() error {
	switch {
	case strings.HasPrefix(g.Ref, "-"):
		return refuse("", "the ref begins with -")
	case g.Ref != "" && !isRef(g.Ref):
		return fmt.Errorf("%w: %.80q cannot be a ref", ErrURL, g.Ref)
	case g.Commit != "" && !partHash.MatchString(g.Commit):
		return fmt.Errorf("%w: %.80q is not a commit", ErrURL, g.Commit)
	case g.ByCommit && !fullHash.MatchString(g.Commit):
		return fmt.Errorf("%w: fetch-by-commit needs a whole commit hash", ErrURL)
	case strings.ContainsRune(g.Subdir, 0):
		return fmt.Errorf("%w: its folder cannot be a path", ErrURL)
	}
	g.Subdir = strings.TrimPrefix(path.Clean("/"+g.Subdir), "/")
	return nil
}

func isRef(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) {
			return false
		}
	}
	for _, part := range strings.Split(s, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.Contains(s, "..") && !strings.Contains(s, "@{") && !strings.HasSuffix(s, ".") && s != "@" && len(s) <= maxRef
}
