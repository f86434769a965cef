package lazyre

import (
	"regexp"
	"sync"
)

// Regexp is a regular expression that may not be compiled yet. It may be used by several goroutines at once.
type Regexp struct{ get func() *regexp.Regexp }

// New makes a Regexp of a constant expression.
func New(expr string) Regexp {
	return Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
}

// MatchString says whether s has a match.
func (r Regexp) MatchString(s string) bool { return r.get().MatchString(s) }

// FindStringSubmatch gives the first match in s and its groups, nil if there is none.
func (r Regexp) FindStringSubmatch(s string) []string { return r.get().FindStringSubmatch(s) }

// ReplaceAllString is s with each match replaced.
func (r Regexp) ReplaceAllString(s, with string) string { return r.get().ReplaceAllString(s, with) }

// FindStringSubmatchIndex gives where the first match and its groups are, nil if there is none.
func (r Regexp) FindStringSubmatchIndex(s string) []int { return r.get().FindStringSubmatchIndex(s) }

// FindAllStringIndex gives where the first n matches are, or all for n < 0.
func (r Regexp) FindAllStringIndex(s string, n int) [][]int { return r.get().FindAllStringIndex(s, n) }

// FindAllStringSubmatchIndex gives where the first n matches and their groups are, or all for n < 0.
func (r Regexp) FindAllStringSubmatchIndex(s string, n int) [][]int {
	return r.get().FindAllStringSubmatchIndex(s, n)
}
