package stages

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/opencontainers/go-digest"

	"gobuild/internal/lazyre"
)

// copyStep evaluates COPY (B40-B54).
func (s *state) copyStep(c *command, cmd *instructions.CopyCommand) error {
	cp := &Copy{From: Source{Kind: SourceContext}, Link: cmd.Link, Parents: cmd.Parents, Excludes: cmd.ExcludePatterns}
	if len(c.origins) > 0 {
		src, err := s.source(c.origins[0])
		if err != nil {
			return err
		}
		cp.From = src
	}
	return s.transfer(c, cp, cmd.SourcesAndDest, cmd.Chown, cmd.Chmod)
}

// addStep evaluates ADD (B40-B58).
func (s *state) addStep(c *command, cmd *instructions.AddCommand) (err error) {
	cp := &Copy{Add: true, From: Source{Kind: SourceContext}, Link: cmd.Link, Excludes: cmd.ExcludePatterns,
		Unpack: cmd.Unpack, KeepGit: cmd.KeepGitDir}
	if cp.Checksum, err = s.word(cmd.Checksum); err != nil {
		return err
	}
	return s.transfer(c, cp, cmd.SourcesAndDest, cmd.Chown, cmd.Chmod)
}

// transfer completes a COPY or ADD whose own flags are set.
func (s *state) transfer(c *command, cp *Copy, sd instructions.SourcesAndDest, chown, chmod string) (err error) {
	if cp.Chown, err = s.word(chown); err != nil {
		return err
	}
	if cp.Chmod, err = s.word(chmod); err != nil {
		return err
	}
	if err := checkOwnership(cp); err != nil {
		return err
	}
	paths := make([]string, len(sd.SourcePaths))
	for i, src := range sd.SourcePaths {
		if paths[i], err = s.word(src); err != nil {
			return err
		}
	}
	dest, err := s.word(sd.DestPath)
	if err != nil {
		return err
	}
	if err := s.inline(cp, sd.SourceContents); err != nil {
		return err
	}
	if err := classify(cp, paths); err != nil {
		return err
	}
	if (cp.From.Kind == SourceContext || cp.From.Kind == SourceMixed) && cp.From.Name == "" {
		s.lintIgnored(cp)
	}
	cp.Dest = destination(s.dir(), dest)
	if cp.From.Kind == SourceMixed {
		cp.Parts = parts(cp, paths)
	}
	if len(cp.Paths)+len(cp.URLs) == 0 {
		cp.From = Source{Kind: SourceInline}
	}
	return s.step(c, Step{Text: s.text(c, false, nil), Copy: cp}, copyHistory(cp, paths, dest))
}

// inline expands heredoc sources (A17).
func (s *state) inline(cp *Copy, contents []instructions.SourceContent) error {
	for _, f := range contents {
		data := f.Data
		if f.Expand {
			res, err := s.planner.x.heredoc(data, s.env)
			if err != nil {
				return err
			}
			s.lintUnset(res.Unmatched)
			data = res.Result
		}
		cp.Files = append(cp.Files, Inline{Name: f.Path, Data: data})
	}
	return nil
}

// classify sorts sources into paths and addresses and checks the latter.
func classify(cp *Copy, sources []string) error {
	kinds := map[SourceKind]bool{}
	for _, src := range sources {
		kind := kindOf(src)
		kinds[kind] = true
		switch kind {
		case SourceGit:
			if err := gitOptions(cp, src); err != nil {
				return err
			}
		case SourceHTTP:
		default:
			cp.Paths = append(cp.Paths, src)
			continue
		}
		if !cp.Add {
			return withHint(fmt.Errorf("source %s is not in the build context", quoteShort(src)), "use ADD for URLs and git repositories")
		}
		cp.URLs = append(cp.URLs, src)
	}
	switch {
	case len(kinds) > 1, len(cp.URLs) > 0 && len(cp.Files) > 0:
		cp.From = Source{Kind: SourceMixed}
	case kinds[SourceHTTP]:
		cp.From = Source{Kind: SourceHTTP}
	case kinds[SourceGit]:
		cp.From = Source{Kind: SourceGit}
	}
	return checkChecksum(cp, sources)
}

// kindOf says what a source of ADD is by its text.
func kindOf(src string) SourceKind {
	switch {
	case isGit(src):
		return SourceGit
	case strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://"):
		return SourceHTTP
	}
	return SourceContext
}

// parts splits an ADD by the kinds of its sources: what is copied later replaces what is there, so the order stays. Heredocs come
// last, as they always do.
func parts(cp *Copy, sources []string) []*Copy {
	var list []*Copy
	for _, src := range sources {
		kind := kindOf(src)
		if n := len(list); n == 0 || list[n-1].From.Kind != kind {
			list = append(list, partOf(cp, kind))
		}
		last := list[len(list)-1]
		if kind == SourceContext {
			last.Paths = append(last.Paths, src)
		} else {
			last.URLs = append(last.URLs, src)
		}
	}
	if len(cp.Files) > 0 {
		last := partOf(cp, SourceInline)
		last.Files = cp.Files
		list = append(list, last)
	}
	return list
}

func partOf(cp *Copy, kind SourceKind) *Copy {
	part := *cp
	part.From, part.Paths, part.URLs, part.Files = Source{Kind: kind}, nil, nil, nil
	return &part
}

// checkChecksum is B58.
func checkChecksum(cp *Copy, sources []string) error {
	switch {
	case cp.Checksum == "":
		return nil
	case len(sources) != 1 || len(cp.Files) > 0:
		return errors.New("--checksum needs exactly one source")
	case cp.From.Kind == SourceHTTP:
		if _, err := digest.Parse(cp.Checksum); err != nil {
			return withHint(fmt.Errorf("--checksum=%s: %w", cut(cp.Checksum, maxQuoted), cause(err)), "write it as sha256:<64 hexadecimal digits>")
		}
	case cp.From.Kind == SourceGit:
		if !commitHash.MatchString(cp.Checksum) {
			return fmt.Errorf("--checksum=%s is not a commit hash", cut(cp.Checksum, maxQuoted))
		}
	default:
		return errors.New("--checksum is only for URLs and git repositories")
	}
	return nil
}

var (
	commitHash = lazyre.New(`^[0-9a-f]{1,64}$`)
	scheme     = lazyre.New(`^([a-zA-Z0-9]+)://`)
	scpStyle   = lazyre.New(`^[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:`)
)

// isGit reports whether a source is a git repository: git:// and ssh:// always
// are, HTTP ones if the path ends in .git, and user@host:path.
func isGit(src string) bool {
	if strings.HasPrefix(src, "./") || strings.HasPrefix(src, "../") {
		return false
	}
	m := scheme.FindStringSubmatch(src)
	if m == nil {
		return scpStyle.MatchString(src)
	}
	switch strings.ToLower(m[1]) {
	case "git", "ssh":
		return true
	case "http", "https":
		u, err := url.Parse(src)
		return err == nil && strings.HasSuffix(u.Path, ".git")
	}
	return false
}

// gitOptions checks the query of a git address against the flags (B57, C9).
func gitOptions(cp *Copy, src string) error {
	src, _, _ = strings.Cut(src, "#")
	_, raw, ok := strings.Cut(src, "?")
	if !ok {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("git address: %w", cause(err))
	}
	for _, key := range sortedKeys(query) {
		if len(query[key]) > 1 {
			return fmt.Errorf("git address: %s is given twice", quoteShort(key))
		}
		value := query.Get(key)
		switch key {
		case "keep-git-dir":
			keep, err := strconv.ParseBool(value)
			if value == "" {
				keep, err = true, nil
			}
			if err != nil || (cp.KeepGit != nil && *cp.KeepGit != keep) {
				return errors.New("git address: keep-git-dir contradicts the flag")
			}
		case "checksum", "commit":
			if cp.Checksum != "" && cp.Checksum != value {
				return fmt.Errorf("git address: %s contradicts --checksum", key)
			}
		case "ref", "tag", "branch", "subdir", "submodules", "mtime", "fetch-by-commit":
		default:
			return fmt.Errorf("git address: unknown option %s", quoteShort(key))
		}
	}
	return nil
}

// checkOwnership checks --chown and --chmod (B48, B49, B51).
func checkOwnership(cp *Copy) error {
	if cp.Chmod != "" && !validMode(cp.Chmod) {
		return withHint(fmt.Errorf("invalid --chmod=%s", cut(cp.Chmod, maxQuoted)), "give octal digits up to 07777, or a symbolic mode such as u=rwX,go=rX")
	}
	if cp.Link && cp.Chown != "" {
		user, group, _ := strings.Cut(cp.Chown, ":")
		if !numericID(user) || !numericID(group) {
			return withHint(fmt.Errorf("--chown=%s: names cannot be resolved with --link", cut(cp.Chown, maxQuoted)), "give numbers, or leave --link out")
		}
	}
	return nil
}

func numericID(id string) bool {
	if id == "" || id == "root" {
		return true
	}
	_, err := strconv.ParseUint(id, 10, 32)
	return err == nil
}

var symbolicMode = lazyre.New(`^[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+$`)

// validMode accepts what chmod(1) does, but for octal digits with an operator.
func validMode(mode string) bool {
	if n, err := strconv.ParseUint(mode, 8, 32); err == nil {
		return n <= 0o7777
	}
	for _, clause := range strings.Split(mode, ",") {
		if !symbolicMode.MatchString(clause) {
			return false
		}
	}
	return true
}

// destination makes a destination absolute and clean; a trailing slash says
// that it is a directory (B40).
func destination(dir, dest string) string {
	isDir := dest == "" || dest == "." || strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
	if !path.IsAbs(dest) {
		dest = path.Join(dir, dest)
	}
	if dest = path.Clean(dest); isDir && dest != "/" {
		dest += "/"
	}
	return dest
}

// copyHistory is the created_by text (H6).
func copyHistory(cp *Copy, sources []string, dest string) string {
	words := []string{"COPY"}
	if cp.Add {
		words[0] = "ADD"
	}
	if cp.Parents {
		words = append(words, "--parents")
	}
	if cp.Chown != "" {
		words = append(words, "--chown="+cp.Chown)
	}
	if cp.Chmod != "" {
		words = append(words, "--chmod="+cp.Chmod)
	}
	words = append(words, sources...)
	for _, f := range cp.Files {
		words = append(words, "<<"+f.Name)
	}
	return strings.Join(append(words, dest, "# buildkit"), " ")
}

// lintIgnored is E28.
func (s *state) lintIgnored(cp *Copy) {
	m := s.planner.ignore
	if m == nil || m.Exclusions() {
		return
	}
	name := "Copy"
	if cp.Add {
		name = "Add"
	}
	for _, src := range cp.Paths {
		src = path.Clean(src)
		if (src == "." || src == "/") && !s.planner.ignoresAll() {
			continue
		}
		if ok, err := m.MatchesOrParentMatches(src); err == nil && ok {
			s.lint.Run(&linter.RuleCopyIgnoredFile, s.at, linter.RuleCopyIgnoredFile.Format(name, src))
		}
	}
}

func (p *planner) ignoresAll() bool {
	for _, pattern := range p.ignore.Patterns() {
		switch pattern.String() {
		case "*", "**", "**/*":
			return true
		}
	}
	return false
}
