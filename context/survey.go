package buildcontext

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// maxUnusedSearch bounds the rules that Survey tries on every path to tell those that match nothing: each costs a match.
const maxUnusedSearch = 512

// Rule is one pattern of an ignore file, and what Survey learned about it.
type Rule struct {
	Pattern string // cleaned, with its "!"
	Line    int
	Keeps   bool // it begins with "!"
	Matched bool // it matches a path of the tree, whether or not a later rule decides there; always true beyond maxUnusedSearch rules
}

// Surveyed is an entry with what the ignore file says of it.
type Surveyed struct {
	Entry
	Ignored bool
	Rule    int // index of the deciding rule in the list that Survey returns, -1 when none matches
}

// Survey visits the whole tree in the order of Walk, what is ignored included, and returns the rules of the ignore file in order.
// It reads directories and metadata, never content. A directory that cannot be read is told to unreadable, and what is in it is
// left out.
func (t *Tree) Survey(ctx context.Context, fn func(Surveyed) error, unreadable func(path string)) ([]Rule, error) {
	s := &survey{ignore: t.opt.Ignore, fn: fn}
	s.rules, s.unseen = s.ignore.survey()
	w := &walker{t: t, ctx: ctx, fn: s.visit}
	w.denied = func(path string, err error) bool {
		if !errors.Is(err, fs.ErrPermission) {
			return false
		}
		unreadable(path)
		return true
	}
	if err := w.walk(Match{Path: "/"}); err != nil {
		return nil, err
	}
	return s.rules, nil
}

// survey lists the rules, and the numbers of those that are to be seen matching.
func (i *Ignore) survey() (rules []Rule, unseen []int) {
	if i == nil {
		return nil, nil
	}
	search := len(i.rules) <= maxUnusedSearch
	for n, r := range i.rules {
		rules = append(rules, Rule{Pattern: r.String(), Line: r.line, Keeps: r.negate, Matched: !search})
		if search {
			unseen = append(unseen, n)
		}
	}
	return rules, unseen
}

// survey carries one Survey.
type survey struct {
	ignore *Ignore
	fn     func(Surveyed) error
	rules  []Rule
	unseen []int // rules that no path has matched so far
	states []int // of the directories above the entry at hand, by depth
}

func (s *survey) visit(e Entry) error {
	out := Surveyed{Entry: e, Rule: noRule}
	if name := strings.TrimPrefix(e.Path, "/"); name != "" && s.ignore != nil {
		depth := strings.Count(name, "/")
		parent := noRule
		if depth > 0 {
			parent = s.states[depth-1]
		}
		out.Rule = s.ignore.step(parent, name)
		s.states = append(s.states[:depth], out.Rule)
		out.Ignored = s.ignore.ignores(out.Rule)
		s.look(name)
	}
	return s.fn(out)
}

// look takes the rules that match name off the list of unseen ones.
func (s *survey) look(name string) {
	rest := s.unseen[:0]
	for _, n := range s.unseen {
		if s.ignore.rules[n].match(name) {
			s.rules[n].Matched = true
		} else {
			rest = append(rest, n)
		}
	}
	s.unseen = rest
}
