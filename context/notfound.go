package buildcontext

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotFound says that a path that an instruction names is not in the tree.
// The error itself is a *NotFoundError.
var ErrNotFound = errors.New("not found")

// NotFoundError says what was looked for and why it may be missing.
type NotFoundError struct {
	Path       string   // as written
	IgnoredBy  string   // pattern that hides it; "" when it does not exist
	Line       int      // of the pattern
	IgnoreFile string   // that has the pattern
	Near       []string // names like it that exist, as they would be written
	Err        error    // why it cannot be resolved, when that is not plain absence
}

func (e *NotFoundError) Error() string {
	switch {
	case e.IgnoredBy != "":
		return fmt.Sprintf("%q is excluded by %s:%d (%s)", e.Path, e.IgnoreFile, e.Line, e.IgnoredBy)
	case e.Err != nil:
		return fmt.Sprintf("%q not found: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%q not found", e.Path)
}

// Unwrap makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Unwrap() []error {
	if e.Err != nil {
		return []error{ErrNotFound, e.Err}
	}
	return []error{ErrNotFound}
}

// Remedy is what the user can do, "" when there is nothing to suggest.
func (e *NotFoundError) Remedy() string {
	switch {
	case e.IgnoredBy != "":
		return fmt.Sprintf("add the line %q at the end of %s", "!"+strings.TrimPrefix(path.Clean("/"+e.Path), "/"), filepath.Base(e.IgnoreFile))
	case len(e.Near) > 0:
		quoted := make([]string, len(e.Near))
		for i, n := range e.Near {
			quoted[i] = fmt.Sprintf("%q", n)
		}
		return "did you mean " + strings.Join(quoted, " or ") + "?"
	}
	return ""
}

// ignoredError is for a path that exists and is hidden by the ignore file.
func (t *Tree) ignoredError(written, hidden string) error {
	pattern, line := t.opt.Ignore.Explain(hidden)
	file := t.opt.IgnoreFile
	if file == "" {
		file = t.opt.Ignore.name
	}
	return &NotFoundError{Path: written, IgnoredBy: pattern, Line: line, IgnoreFile: file}
}

// missingError is for a path that does not exist: missing is as far as it could be resolved.
func (t *Tree) missingError(written, missing string) error {
	e := &NotFoundError{Path: written}
	for _, name := range t.near(path.Dir(missing), path.Base(missing)) {
		e.Near = append(e.Near, nearPath(written, path.Base(missing), name))
	}
	return e
}

// nearPath puts the existing name where the missing one stands in the path as written.
func nearPath(written, missing, name string) string {
	parts := strings.Split(written, "/")
	if i := slices.Index(parts, missing); i >= 0 {
		parts[i] = name
		return strings.Join(parts, "/")
	}
	return name
}

// near finds names in a directory that differ by case or by little.
func (t *Tree) near(dir, name string) []string {
	f, err := t.root.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := readNames(int(f.Fd()), make([]byte, 32<<10))
	if err != nil || len(names) > maxNearScan {
		return nil
	}
	type scored struct {
		name  string
		score int
	}
	var found []scored
	for _, d := range names {
		score, ok := likeness(name, d.name)
		if ignored, _ := t.opt.Ignore.Match(path.Join(dir, d.name)); !ok || ignored || d.name == name {
			continue
		}
		found = append(found, scored{d.name, score})
	}
	slices.SortStableFunc(found, func(a, b scored) int { return a.score - b.score })
	var out []string
	for _, s := range found[:min(len(found), maxNear)] {
		out = append(out, s.name)
	}
	return out
}

// likeness scores how alike two names are, 0 best; ok false when they are not.
func likeness(want, have string) (score int, ok bool) {
	if strings.EqualFold(want, have) {
		return 0, true
	}
	if len(want) > 64 || len(have) > 64 {
		return 0, false
	}
	d := editDistance(strings.ToLower(want), strings.ToLower(have))
	limit := 2
	if len(want) < 6 {
		limit = 1
	}
	return d, d <= limit
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours.
func editDistance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
