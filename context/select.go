package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// Query names what an instruction reads.
type Query struct {
	Paths       []string // slash paths or patterns, as written
	Excludes    []string // COPY --exclude
	Parents     bool     // COPY --parents
	FollowNamed bool     // a named path that is a link stands for what it leads to (COPY, ADD)
}

// Selection is what a Query found, in the order of its paths.
type Selection struct{ Sources []Source }

// Source is one path or pattern with what it found.
type Source struct {
	Pattern  string // as written
	Wildcard bool
	Matches  []Match // in lexical order; empty when a wildcard matched nothing, or when all was excluded
	Pivots   []Info  // with --parents: of the directories that were searched; the destination is made for each
}

// Match is one file or directory to copy.
//
// Without --parents a directory's contents are merged into the destination,
// and anything else goes to the destination, as Name where that is a
// directory. With --parents the match goes to DEST/Parent/Name whatever it is.
type Match struct {
	Name   string // base name of the source as written, or of what a wildcard matched; never of a link's target
	Path   string // canonical absolute slash path inside the tree
	Parent string // with --parents: directories below the pivot to keep, "" otherwise
	Info   Info   // of what Path is

	base string // path that excludes see for the match itself: "" for a directory that is merged
}

// Select finds what an instruction names and reads nothing but metadata. A
// path without wildcards touches only that path; a missing one is a
// *NotFoundError. ".." stops at the root, and links lead nowhere outside.
func (t *Tree) Select(ctx context.Context, q Query) (*Selection, error) {
	exc, err := parsePatterns(q.Excludes)
	if err != nil {
		return nil, err
	}
	s := &selector{t: t, ctx: ctx, q: q, exclude: exc}
	sel := &Selection{}
	for _, p := range q.Paths {
		src, err := s.source(p)
		if err != nil {
			return nil, err
		}
		sel.Sources = append(sel.Sources, src)
	}
	return sel, nil
}

type selector struct {
	t       *Tree
	ctx     context.Context //nolint:containedctx // lives as long as the call of Select
	q       Query
	exclude *Ignore
	count   int
}

func (s *selector) source(written string) (Source, error) {
	src := Source{Pattern: written, Wildcard: hasWildcard(written)}
	found := func(m Match) error {
		if s.excluded(m) {
			return nil
		}
		if s.count++; s.count > maxMatches {
			return fmt.Errorf("%q: %w: more than %d matches", written, ErrTooLarge, maxMatches)
		}
		src.Matches = append(src.Matches, m)
		return nil
	}
	var err error
	switch {
	case s.q.Parents:
		src.Pivots, err = s.parents(written, found)
	case src.Wildcard:
		err = s.wildcard(written, found)
	default:
		err = s.literal(written, found)
	}
	return src, err
}

func (s *selector) excluded(m Match) bool {
	return m.base != "" && s.exclude.ignores(s.exclude.lookup(m.base)) && !s.keptBelow(m)
}

// keptBelow says whether a "!" pattern may bring back something below an excluded directory.
func (s *selector) keptBelow(m Match) bool {
	return m.Info.IsDir() && s.exclude.mayKeepBelow(s.exclude.lookup(m.base), m.base)
}

// literal finds a path without wildcards (B41).
func (s *selector) literal(written string, found func(Match) error) error {
	p := path.Clean("/" + written)
	at, err := s.locate(written, p, s.q.FollowNamed)
	if errors.Is(err, ErrNotFound) && strings.Contains(p, `\`) {
		// "a\[b" names "a[b", as in a pattern, unless there is a file with the backslash.
		if plain, perr := s.locate(written, unescape(p), s.q.FollowNamed); perr == nil {
			p, at, err = unescape(p), plain, nil
		}
	}
	if err != nil {
		return err
	}
	return found(s.match(p, at))
}

func (s *selector) match(named string, at place) Match {
	m := Match{Name: strings.TrimPrefix(path.Base(named), "/"), Path: at.path, Info: at.info}
	if !m.Info.IsDir() {
		m.base = m.Name
	}
	return m
}

// wildcard finds what a pattern matches (B42). Links are followed in the part
// before the first wildcard and, when it is named so, at the end.
func (s *selector) wildcard(written string, found func(Match) error) error {
	fixed, pattern := splitWildcard(path.Clean("/" + written))
	if _, err := parsePattern(pattern); err != nil {
		return &PatternError{Pattern: written, Err: err}
	}
	// Matching nothing is fine, a directory that is not there is not: the reference walks it.
	dir, err := s.locate(written, fixed, true)
	if err != nil || !dir.info.IsDir() {
		return err
	}
	parts := strings.Split(pattern, "/")
	filter := func(rel string) (emit, enter bool) {
		depth := strings.Count(rel, "/") // of the component at hand; those above it matched
		ok, _ := path.Match(parts[depth], path.Base(rel))
		return ok && depth == len(parts)-1, ok && depth < len(parts)-1
	}
	return s.search(dir, filter, func(e Entry) error {
		at := place{path: e.Path, info: e.Info}
		if e.Info.IsSymlink() && s.q.FollowNamed {
			target, err := s.locate(e.Path[1:], e.Path, true)
			if err != nil {
				return err
			}
			at = target
		}
		return found(s.match(e.Path, at))
	})
}

// search walks below dir as far as the filter says, and reports what is not ignored.
func (s *selector) search(dir place, filter func(string) (bool, bool), fn func(Entry) error) error {
	w := &walker{t: s.t, ctx: s.ctx, ignore: s.t.opt.Ignore, filter: filter}
	w.fn = func(e Entry) error {
		if ok, err := s.visible(e.Path, e.Info); err != nil || !ok {
			return err
		}
		return fn(e)
	}
	return w.walk(Match{Path: dir.path, Info: dir.info})
}

// parents finds the sources of COPY --parents (B52): a pattern with "**" below
// the root or below what stands before the first "/./".
func (s *selector) parents(written string, found func(Match) error) ([]Info, error) {
	before, pattern, ok := strings.Cut(written, "/./")
	if !ok {
		before, pattern = "/", written
	}
	pattern = strings.TrimPrefix(path.Clean("/"+pattern), "/")
	if pattern == "" { // the reference finds nothing by it either
		return nil, &PatternError{Pattern: written, Err: errors.New(`with --parents it names nothing to copy: "*" is everything`)}
	}
	if strings.HasPrefix(pattern, "!") {
		return nil, &PatternError{Pattern: written, Err: errors.New("a source cannot be a negation: --exclude leaves things out")}
	}
	pivots, err := s.pivots(written, before)
	if err != nil {
		return nil, err
	}
	if !hasWildcard(written) && pivots[0].path != path.Clean("/"+before) {
		return nil, &NotFoundError{Path: written, Err: errors.New("what stands before /./ leads through a symbolic link: name the folder itself")}
	}
	var searched []Info
	for _, pivot := range pivots {
		if pivot.info.IsDir() {
			searched = append(searched, pivot.info)
		}
		if hasWildcard(pattern) {
			err = s.below(written, pivot, pattern, found)
		} else {
			err = s.keep(written, pivot, pattern, found)
			if hasWildcard(before) && errors.Is(err, ErrNotFound) {
				err = nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return searched, nil
}

// pivots are the directories that the part before "/./" names.
func (s *selector) pivots(written, before string) ([]place, error) {
	if !hasWildcard(before) {
		at, err := s.locate(written, path.Clean("/"+before), true)
		return []place{at}, err
	}
	follow := *s
	follow.q.FollowNamed = true
	var out []place
	err := follow.wildcard(before, func(m Match) error {
		if m.Info.IsDir() {
			out = append(out, place{path: m.Path, info: m.Info})
		}
		return nil
	})
	return out, err
}

// keep finds a path without wildcards below a pivot. The last component is
// copied as what it is, a link too; above it a link is no directory, since what
// it leads to is copied to a place of its own. It must be there and not excluded.
func (s *selector) keep(written string, pivot place, rel string, found func(Match) error) error {
	full := path.Join(pivot.path, rel)
	at, err := s.locate(written, full, false)
	if err != nil {
		return err
	}
	if at.path != full {
		return &NotFoundError{Path: written, Err: errors.New("--parents does not follow the symbolic link on the way: name the folder that it leads to")}
	}
	m := parentsMatch(rel, at)
	if s.excluded(m) {
		return &NotFoundError{Path: written, Err: errors.New("--exclude leaves it out")}
	}
	return found(m)
}

func parentsMatch(rel string, at place) Match {
	parent, name := path.Split(rel)
	return Match{Name: name, Path: at.path, Parent: strings.TrimSuffix(parent, "/"), Info: at.info, base: rel}
}

// below finds what a pattern matches below a pivot. A directory that matches stands for all in it.
func (s *selector) below(written string, pivot place, pattern string, found func(Match) error) error {
	p, err := parsePattern(pattern)
	if err != nil {
		return &PatternError{Pattern: written, Err: err}
	}
	filter := func(rel string) (emit, enter bool) {
		if p.match(rel) {
			return true, false
		}
		return false, p.mayMatchBelow(rel)
	}
	return s.search(pivot, filter, func(e Entry) error {
		return found(parentsMatch(e.Rel, place{path: e.Path, info: e.Info}))
	})
}

// place is where a path leads.
type place struct {
	path string
	info Info
}

// locate resolves a path and checks that the ignore file hides neither the
// result nor a link on the way. written is for messages.
func (s *selector) locate(written, p string, followLast bool) (place, error) {
	r := resolution{t: s.t, done: "/"}
	st, err := r.run(p, followLast)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return place{}, s.t.missingError(written, r.done)
	case errors.Is(err, rootfs.ErrLoop):
		return place{}, &NotFoundError{Path: written, Err: rootfs.ErrLoop}
	case err != nil:
		return place{}, err
	}
	for _, link := range r.links {
		if ignored, _ := s.t.opt.Ignore.Match(link); ignored {
			return place{}, s.t.ignoredError(written, link)
		}
	}
	if s.t.opt.Owner {
		if err := s.t.root.FixOwner(r.done, &st); err != nil {
			return place{}, fmt.Errorf("read owner of %s: %w", r.done, err)
		}
	}
	at := place{path: r.done, info: s.t.info(&st)}
	visible, err := s.visible(at.path, at.info)
	if err == nil && !visible {
		err = s.t.ignoredError(written, at.path)
	}
	return at, err
}

// visible says whether an existing path is part of the tree as read. A
// directory that is ignored is, when something below it is kept.
func (s *selector) visible(p string, info Info) (bool, error) {
	ig := s.t.opt.Ignore
	state := ig.lookup(p)
	if !ig.ignores(state) {
		return true, nil
	}
	if !info.IsDir() || !ig.mayKeepBelow(state, strings.TrimPrefix(p, "/")) {
		return false, nil
	}
	errFound := errors.New("found")
	err := s.t.Walk(s.ctx, Match{Path: p}, nil, func(Entry) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// resolution follows a path component by component inside the root.
type resolution struct {
	t     *Tree
	done  string   // canonical so far; after an error the component that is missing
	links []string // the links that were followed
}

func (r *resolution) run(p string, followLast bool) (unix.Stat_t, error) {
	var st unix.Stat_t
	todo := strings.Split(p, "/")
	known := false // st describes done
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			r.done, known = path.Dir(r.done), false
			continue
		}
		if known && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return st, unix.ENOTDIR
		}
		r.done = path.Join(r.done, part)
		var err error
		if st, err = r.t.root.Lstat(r.done); err != nil {
			return st, err
		}
		known = true
		if st.Mode&unix.S_IFMT != unix.S_IFLNK || !followLast && onlyDots(todo) {
			continue
		}
		if r.links = append(r.links, r.done); len(r.links) > maxLinks {
			return st, rootfs.ErrLoop
		}
		target, err := r.t.root.Readlink(r.done)
		if err != nil {
			return st, err
		}
		r.done, known = path.Dir(r.done), false
		if strings.HasPrefix(target, "/") {
			r.done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if known {
		return st, nil
	}
	return r.t.root.Lstat(r.done)
}

func onlyDots(parts []string) bool {
	for _, p := range parts {
		if p != "" && p != "." {
			return false
		}
	}
	return true
}

// hasWildcard says whether a path is a pattern: it has an unescaped "*", "?" or "[".
func hasWildcard(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// splitWildcard cuts a clean path before the first component with a wildcard.
func splitWildcard(p string) (fixed, pattern string) {
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	for i, part := range parts {
		if hasWildcard(part) {
			return "/" + unescape(strings.Join(parts[:i], "/")), strings.Join(parts[i:], "/")
		}
	}
	return p, ""
}

func unescape(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' && i+1 < len(p) {
			i++
		}
		b.WriteByte(p[i])
	}
	return b.String()
}
