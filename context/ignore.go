package buildcontext

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// IgnoreError says what is wrong with an ignore file.
type IgnoreError struct {
	File string
	Line int // 0: the file as a whole
	Err  error
}

func (e *IgnoreError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("ignore file %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("ignore file %s:%d: %v", e.File, e.Line, e.Err)
}

func (e *IgnoreError) Unwrap() error { return e.Err }

// Ignore is a list of patterns, in order, the last that matches wins (C3). A
// pattern that matches a directory matches all below it. It may be used by
// several goroutines at once; a nil *Ignore ignores nothing.
type Ignore struct {
	name  string
	rules []rule
	index ruleIndex
}

type rule struct {
	*pattern
	negate bool
	line   int
}

func (r rule) String() string {
	if r.negate {
		return "!" + r.text
	}
	return r.text
}

// noRule is the state of a path that no rule matches.
const noRule = -1

// ParseIgnore reads the text of an ignore file; name is for messages. A
// malformed pattern is an *IgnoreError with its line.
func ParseIgnore(name string, src []byte) (*Ignore, error) {
	if len(src) > maxIgnoreBytes {
		return nil, &IgnoreError{File: name, Err: fmt.Errorf("longer than %d bytes", maxIgnoreBytes)}
	}
	ig := &Ignore{name: name}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	line := 0
	for text := range bytes.Lines(src) {
		line++
		if text[0] == '#' { // in column one only
			continue
		}
		if err := ig.add(string(text), line); err != nil {
			return nil, &IgnoreError{File: name, Line: line, Err: err}
		}
		if len(ig.rules) > maxIgnorePatterns {
			return nil, &IgnoreError{File: name, Line: line, Err: fmt.Errorf("more than %d patterns", maxIgnorePatterns)}
		}
	}
	ig.index.build(ig.rules)
	return ig, nil
}

// parsePatterns makes the same of the patterns of an instruction (B53).
func parsePatterns(patterns []string) (*Ignore, error) {
	if len(patterns) == 0 {
		return nil, nil //nolint:nilnil // a nil *Ignore is the empty list
	}
	ig := &Ignore{}
	for _, p := range patterns {
		if err := ig.add(p, 0); err != nil {
			return nil, &PatternError{Pattern: p, Err: err}
		}
	}
	ig.index.build(ig.rules)
	return ig, nil
}

func (i *Ignore) add(text string, line int) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	rest, negate := strings.CutPrefix(text, "!")
	if negate {
		rest = strings.TrimSpace(rest)
	}
	if rest == "" || negate && path.Clean(rest) == "/" {
		return errors.New(`"!" without a pattern`)
	}
	rest = path.Clean(rest)
	if len(rest) > 1 {
		rest = strings.TrimPrefix(rest, "/")
	}
	if !negate {
		// The reference looks once more when the slash is gone: "/ x" is x, and "/!x" is !x.
		rest, negate = strings.CutPrefix(path.Clean(strings.TrimSpace(rest)), "!")
	}
	if rest == "" {
		return errors.New(`"!" without a pattern`)
	}
	p, err := parsePattern(rest)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	i.rules = append(i.rules, rule{pattern: p, negate: negate, line: line})
	return nil
}

// active says whether anything can be ignored.
func (i *Ignore) active() bool { return i != nil && len(i.rules) > 0 }

// Patterns lists the patterns in order, cleaned, with their "!".
func (i *Ignore) Patterns() []string {
	if i == nil {
		return nil
	}
	out := make([]string, len(i.rules))
	for n, r := range i.rules {
		out[n] = r.String()
	}
	return out
}

// Match says whether a slash path relative to the root is ignored, and the line
// of the rule that decided it, for or against; 0 when none matches.
func (i *Ignore) Match(name string) (ignored bool, line int) {
	state := i.lookup(name)
	if state == noRule {
		return false, 0
	}
	return i.ignores(state), i.rules[state].line
}

// Explain returns the deciding rule as written in the file, cleaned, and its line.
func (i *Ignore) Explain(name string) (pattern string, line int) {
	state := i.lookup(name)
	if state == noRule {
		return "", 0
	}
	return i.rules[state].String(), i.rules[state].line
}

func (i *Ignore) lookup(name string) int {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if !i.active() || name == "" { // nothing excludes the root itself
		return noRule
	}
	state := noRule
	for n := range len(name) {
		if name[n] == '/' {
			state = i.step(state, name[:n])
		}
	}
	return i.step(state, name)
}

// step returns the last rule that matches name or a directory above it, given
// that rule for name's directory. Walking down, each path is looked at once.
func (i *Ignore) step(parent int, name string) int {
	if i == nil {
		return noRule
	}
	return i.index.last(parent, name)
}

func (i *Ignore) ignores(state int) bool { return state != noRule && !i.rules[state].negate }

// mayKeepBelow says whether a "!" after the rule that ignores dir could match
// something inside dir.
func (i *Ignore) mayKeepBelow(state int, dir string) bool {
	return i.index.negatedBelow(state, dir)
}

// ruleIndex finds the last matching rule without trying all of them: a pattern
// is filed under literal bytes that every path it matches has at a known place.
// Values are rule numbers; of equal patterns only the last counts.
type ruleIndex struct {
	exact    map[string]int // whole path
	base     map[string]int // "**/name", name without slash: last component
	ext      map[string]candidates
	suffixes []bucket
	prefixes []bucket
	parts    map[string]candidates // a component of the path
	rest     candidates            // nothing literal to file it under

	reach   map[string]int // directory that a "!" pattern's literal head leads through
	negated candidates     // "!" patterns with wildcards, which may reach into other directories
}

// bucket holds the patterns whose literal start or end has one length.
type bucket struct {
	size int
	at   map[string]candidates
}

// candidates are rules to try, highest number first.
type candidates []candidate

type candidate struct {
	number int
	*pattern
}

func (x *ruleIndex) build(rules []rule) {
	x.exact, x.base, x.reach = map[string]int{}, map[string]int{}, map[string]int{}
	x.ext, x.parts = map[string]candidates{}, map[string]candidates{}
	suffixes, prefixes := map[int]bucket{}, map[int]bucket{}
	seen := make(map[string]bool, len(rules))
	for n := len(rules) - 1; n >= 0; n-- { // the last of equal patterns first, and so sorted
		r := rules[n]
		if seen[r.text] {
			continue
		}
		seen[r.text] = true
		if r.negate {
			x.addNegated(n, r.pattern)
		}
		c := candidate{number: n, pattern: r.pattern}
		tail := r.tail
		switch r.kind {
		case matchExact:
			putFirst(x.exact, r.lit, n)
			continue
		case matchTail:
			if !strings.Contains(r.lit, "/") {
				putFirst(x.base, r.lit, n)
				continue
			}
			tail = r.lit
		case matchPrefix, matchSuffix, matchAll, matchExpr:
		}
		switch {
		case isExtension(tail):
			x.ext[tail] = append(x.ext[tail], c)
		case len(r.part) > max(len(tail), len(r.head)):
			x.parts[r.part] = append(x.parts[r.part], c)
		case tail == "" && r.head == "":
			x.rest = append(x.rest, c)
		case len(tail) >= len(r.head):
			file(suffixes, tail, c)
		default:
			file(prefixes, r.head, c)
		}
	}
	x.suffixes, x.prefixes = sortedBuckets(suffixes), sortedBuckets(prefixes)
}

// putFirst keeps the highest number: rules come in falling order, and "a\b" and "ab" are one literal.
func putFirst(m map[string]int, key string, n int) {
	if _, ok := m[key]; !ok {
		m[key] = n
	}
}

func file(buckets map[int]bucket, key string, c candidate) {
	b, ok := buckets[len(key)]
	if !ok {
		b = bucket{size: len(key), at: map[string]candidates{}}
		buckets[len(key)] = b
	}
	b.at[key] = append(b.at[key], c)
}

func sortedBuckets(m map[int]bucket) []bucket {
	out := make([]bucket, 0, len(m))
	for _, b := range m {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b bucket) int { return a.size - b.size })
	return out
}

// isExtension: ".x" with no other dot, what a path has after its last dot.
func isExtension(s string) bool {
	return len(s) > 1 && strings.LastIndexByte(s, '.') == 0 && !strings.Contains(s, "/")
}

func (x *ruleIndex) addNegated(n int, p *pattern) {
	head := p.head
	for k := range len(head) {
		if head[k] == '/' {
			putFirst(x.reach, head[:k], n)
		}
	}
	if p.kind != matchExact {
		x.negated = append(x.negated, candidate{number: n, pattern: p})
	}
}

// last returns the highest matching rule above best, or best.
func (x *ruleIndex) last(best int, name string) int {
	if n, ok := x.exact[name]; ok && n > best {
		best = n
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	if n, ok := x.base[base]; ok && n > best {
		best = n
	}
	if len(x.ext) > 0 {
		if dot := strings.LastIndexByte(base, '.'); dot >= 0 {
			best = x.ext[base[dot:]].last(best, name)
		}
	}
	for _, b := range x.suffixes {
		if b.size > len(name) {
			break
		}
		best = b.at[name[len(name)-b.size:]].last(best, name)
	}
	for _, b := range x.prefixes {
		if b.size > len(name) {
			break
		}
		best = b.at[name[:b.size]].last(best, name)
	}
	if len(x.parts) > 0 {
		for part := range strings.SplitSeq(name, "/") {
			best = x.parts[part].last(best, name)
		}
	}
	return x.rest.last(best, name)
}

func (cs candidates) last(best int, name string) int {
	for _, c := range cs {
		if c.number <= best {
			return best
		}
		if c.match(name) {
			return c.number
		}
	}
	return best
}

func (x *ruleIndex) negatedBelow(after int, dir string) bool {
	if n, ok := x.reach[dir]; ok && n > after {
		return true
	}
	for _, c := range x.negated {
		if c.number <= after {
			return false
		}
		if c.mayMatchBelow(dir) {
			return true
		}
	}
	return false
}
