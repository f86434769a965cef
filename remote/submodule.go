package remote

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// Submodule is a repository at a place in another one, at the commit that the other one's tree names (FEATURES C9).
type Submodule struct {
	Git
	Name   string // as .gitmodules calls it; fit to be a path
	Path   string // of its folder in the tree that has it; no part of it is .git or leads up
	Commit string
}

// GitSubmodules lists the submodules of a commit in a repository of GitFetch. What .gitmodules says is the repository's word: an
// address must be one that ParseGit takes, a relative one stays on the host of the repository, and a host that is not the
// one that the user named must be public (HOSTILE R-20, H-62).
func (c *Client) GitSubmodules(ctx context.Context, g Git, commit, dir string) ([]Submodule, error) {
	run, err := c.git(g, GitAuth{}, dir, nil)
	if err != nil {
		return nil, gitError(ctx, g, err)
	}
	list, err := run.submodules(ctx, g, commit)
	if err != nil {
		return nil, gitError(ctx, g, err)
	}
	return list, nil
}

func (r *gitRun) submodules(ctx context.Context, g Git, commit string) ([]Submodule, error) {
	links, err := r.links(ctx, commit)
	if err != nil || len(links) == 0 {
		return nil, err
	}
	modules, err := r.modules(ctx, commit)
	if err != nil {
		return nil, err
	}
	var list []Submodule
	for _, l := range links {
		m, ok := modules[l.path]
		if !ok {
			return nil, &refusal{text: fmt.Sprintf(".gitmodules has no address for the submodule at %.200q", l.path), hint: withoutSubmodules, kind: ErrContent}
		}
		if m.update == "none" {
			continue // as git does: its folder stays empty
		}
		sub := Submodule{Git: Git{Submodules: true, via: g.via}, Name: m.name, Path: l.path, Commit: l.commit}
		if sub.via == "" {
			sub.via, _ = g.host()
		}
		if sub.Remote, err = m.address(g.Remote); err != nil {
			return nil, err
		}
		list = append(list, sub)
	}
	return list, checkNames(list)
}

// checkNames refuses a name that lies below another one: as paths they would be a repository inside the files of another's.
func checkNames(list []Submodule) error {
	names := make(map[string]bool, len(list))
	for _, sub := range list {
		names[sub.Name] = true
	}
	for _, sub := range list {
		for dir := path.Dir(sub.Name); dir != "."; dir = path.Dir(dir) {
			if names[dir] {
				return refuse(withoutSubmodules, "the submodules %.80q and %.80q", dir, sub.Name)
			}
		}
	}
	return nil
}

// GitConfigure writes a setting into the configuration of a repository of GitFetch.
func (c *Client) GitConfigure(ctx context.Context, g Git, dir, key, value string) error {
	run, err := c.git(g, GitAuth{}, dir, nil)
	if err == nil {
		_, err = run.output(ctx, "config", "--local", "--", key, value)
	}
	if err != nil {
		return gitError(ctx, g, err)
	}
	return nil
}

const withoutSubmodules = "add ?submodules=false to the address to do without submodules"

// link is where a tree says that a commit of another repository belongs.
type link struct{ path, commit string }

// links finds the submodules in a commit's tree, which is read as a stream: it may list a million files.
func (r *gitRun) links(ctx context.Context, commit string) (links []link, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, said := r.command(ctx, "ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	links, err = readTree(bufio.NewScanner(out))
	if err != nil {
		cancel()
		_ = cmd.Wait() // it was ended; why is known
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, said.explain(err)
	}
	return links, nil
}

// readTree picks the links from lines "MODE TYPE HASH\tPATH" that end in NUL.
func readTree(lines *bufio.Scanner) (links []link, err error) {
	lines.Buffer(make([]byte, 4<<10), maxGitLine)
	lines.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		mode, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		about, name, _ := bytes.Cut(rest, []byte("\t"))
		switch {
		case string(mode) == "120000" && string(name) == ".gitmodules":
			return nil, refuse(withoutSubmodules, ".gitmodules is a link")
		case string(mode) != "160000":
			continue
		case len(links) == MaxSubmodules:
			return nil, fmt.Errorf("%w: more than %d submodules", ErrTooLarge, MaxSubmodules)
		}
		l := link{path: string(name), commit: strings.TrimPrefix(string(about), "commit ")}
		if !fullHash.MatchString(l.commit) {
			return nil, fmt.Errorf("%w: a submodule without a commit", ErrContent)
		}
		if !plainPath(l.path) {
			return nil, refuse(withoutSubmodules, "a submodule at %.200q", l.path)
		}
		links = append(links, l)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: the tree cannot be read: %w", ErrContent, err)
	}
	return links, nil
}

// plainPath says that a path leads down and nowhere else, and that git would not take any of it for its own (CVE-2018-11235).
func plainPath(p string) bool {
	if p == "" || len(p) > maxRef || strings.HasPrefix(p, "-") || strings.ContainsFunc(p, unicode.IsControl) {
		return false
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(p, `\`, "/"), "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return false
		}
	}
	return true
}

// module is what .gitmodules says of one submodule.
type module struct{ name, path, url, update string }

// modules reads .gitmodules as git does, by path.
func (r *gitRun) modules(ctx context.Context, commit string) (map[string]module, error) {
	blob := commit + ":.gitmodules"
	text, err := r.output(ctx, "cat-file", "-s", blob)
	if err != nil {
		return nil, nil //nolint:nilerr // there is no such file
	}
	if size, err := strconv.Atoi(strings.TrimSpace(text)); err != nil || size > maxModules {
		return nil, fmt.Errorf("%w: .gitmodules has more than %d bytes", ErrTooLarge, maxModules)
	}
	// A file that has no such line is an error without words.
	text, err = r.output(ctx, "config", "--no-includes", "-z", "--blob="+blob, "--get-regexp", `^submodule\.`)
	if err != nil && !errors.Is(err, errSilent) {
		return nil, fmt.Errorf("read .gitmodules: %w", err)
	}
	byName := map[string]module{}
	for line := range strings.SplitSeq(text, "\x00") {
		key, value, _ := strings.Cut(line, "\n")
		dot := strings.LastIndexByte(key, '.')
		name, ok := strings.CutPrefix(key[:max(dot, 0)], "submodule.")
		if !ok {
			continue
		}
		m := byName[name]
		m.name = name
		switch key[dot+1:] {
		case "path":
			m.path = strings.TrimRight(path.Clean(value), "/")
		case "url":
			m.url = value
		case "update":
			m.update = value
		}
		byName[name] = m
	}
	byPath := make(map[string]module, len(byName))
	for _, m := range byName {
		if other, ok := byPath[m.path]; ok && m.path != "" {
			return nil, fmt.Errorf("%w: .gitmodules has two submodules, %.80q and %.80q, at one path", ErrContent, min(m.name, other.name), max(m.name, other.name))
		}
		byPath[m.path] = m
	}
	return byPath, nil
}

// address is where a module is fetched from. A relative one starts from the repository that has it.
func (m module) address(parent string) (string, error) {
	what := fmt.Sprintf("the submodule %.80q", m.name)
	switch {
	case !plainPath(m.name):
		return "", refuse(withoutSubmodules, "a submodule with the name %.80q", m.name)
	case strings.HasPrefix(m.update, "!"):
		return "", refuse(withoutSubmodules, "%s wants a command to be run", what)
	case m.url == "":
		return "", &refusal{text: what + " has no address in .gitmodules", hint: withoutSubmodules, kind: ErrContent}
	case len(m.url) > maxURL, strings.ContainsFunc(m.url, unicode.IsControl), strings.HasPrefix(m.url, "-"):
		return "", refuse(withoutSubmodules, "%s has the address %.80q", what, m.url)
	}
	address := m.url
	if strings.HasPrefix(address, "./") || strings.HasPrefix(address, "../") {
		var err error
		if address, err = relative(parent, address); err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
	}
	address = withoutUser(address)
	if err := (&Git{Remote: address}).checkAddress(); err != nil {
		// Not ErrURL: nothing is wrong with what the user wrote.
		return "", refuse(withoutSubmodules, "%s has the address %.200q, which git may not use: %s", what, Redact(address), cmp.Or(refusalText(err), "it is none"))
	}
	return address, nil
}

// refusalText is what checkAddress refused, without its kind.
func refusalText(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.text
	}
	return ""
}

// withoutUser drops the user's name from an http address: it is of no use without a password, and many .gitmodules have one.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User == nil {
		return address
	}
	if _, password := u.User.Password(); password {
		return address // which checkAddress refuses
	}
	u.User = nil
	return u.String()
}

// relative resolves an address that begins with ./ or ../ as git does, but never beyond the root of the host.
func relative(parent, address string) (string, error) {
	prefix, dir, ok := splitAddress(parent)
	if !ok {
		return "", fmt.Errorf("%w: a relative address", ErrContent)
	}
	lead := ""
	if strings.HasPrefix(dir, "/") {
		lead = "/"
	}
	parts := strings.FieldsFunc(dir, func(r rune) bool { return r == '/' })
	for {
		if rest, ok := strings.CutPrefix(address, "./"); ok {
			address = rest
			continue
		}
		rest, up := strings.CutPrefix(address, "../")
		if !up {
			break
		}
		if len(parts) == 0 {
			return "", refuse(withoutSubmodules, "a relative address that leaves its host")
		}
		parts, address = parts[:len(parts)-1], rest
	}
	parts = append(parts, strings.TrimRight(address, "/"))
	return prefix + lead + strings.Join(parts, "/"), nil
}

// splitAddress takes an address of a repository apart: what says the host, and the path there.
func splitAddress(address string) (prefix, dir string, ok bool) {
	if m := scpForm.FindStringSubmatch(address); m != nil && !strings.Contains(address, "://") {
		return m[1] + "@" + m[2] + ":", m[3], true
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return "", "", false
	}
	host, dir, _ := strings.Cut(rest, "/")
	return scheme + "://" + host, "/" + dir, true
}
