package sbom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/package-url/packageurl-go"

	"gobuild/internal/rootfs"
)

// Package is a piece of software. Fields are as its own description has them.
type Package struct {
	Kind      string   `json:"kind"` // the type of its package URL: deb, apk, rpm, golang, npm, ...
	Name      string   `json:"name"` // with the namespace that its users write: @scope/name, group:name
	Version   string   `json:"version,omitempty"`
	PURL      string   `json:"purl"`
	License   string   `json:"license,omitempty"`
	Supplier  string   `json:"supplier,omitempty"` // NAME or NAME <ADDRESS>
	Homepage  string   `json:"homepage,omitempty"`
	Checksums []Sum    `json:"checksums,omitempty"` // of the file that it was installed from
	Found     []string `json:"found"`               // absolute paths of the files that tell of it, at most maxFound
}

// Sum is a checksum: Algorithm as SPDX spells it (SHA256), Value in lower-case hexadecimal digits.
type Sum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// Inventory is what a tree has.
type Inventory struct {
	Distribution string    `json:"distribution,omitempty"` // ID-VERSION of os-release
	Packages     []Package `json:"packages"`               // each once, in the order of package URLs
	Notes        []string  `json:"notes,omitempty"`        // what could not be read, and why; at most maxNotes
}

// Scan finds the packages of a tree. A file whose absolute path ignored holds for is left out; nil leaves out none. An error is one of
// the tree itself, or that ctx ended.
func Scan(ctx context.Context, root *rootfs.Root, ignored func(path string) bool) (*Inventory, error) {
	s := &scan{ctx: ctx, root: root, ignored: ignored, index: map[string]*Package{}, seen: map[[2]uint64]bool{}}
	s.distribution()
	err := s.walk()
	if errors.Is(err, errTooMany) {
		s.note("/", fmt.Errorf("%w: %d", err, maxPackages))
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for packages: %w", err)
	}
	out := &Inventory{Distribution: s.distro.text(), Packages: []Package{}, Notes: s.notes}
	for _, p := range s.index {
		slices.Sort(p.Found)
		out.Packages = append(out.Packages, *p)
	}
	slices.SortFunc(out.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.PURL, b.PURL), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

// scan is one Scan under way.
type scan struct {
	ctx     context.Context //nolint:containedctx // of the one call that it is made for
	root    *rootfs.Root
	ignored func(path string) bool
	distro  distribution
	index   map[string]*Package // by package URL
	seen    map[[2]uint64]bool  // device and inode of files with several names
	notes   []string
	more    int // notes that were left out
}

// add notes a package that the file at p tells of. Of what is told twice the first is kept, with both places.
func (s *scan) add(p string, pkg Package) error {
	for _, field := range []*string{&pkg.Name, &pkg.Version, &pkg.License, &pkg.Supplier, &pkg.Homepage} {
		*field = plain(*field)
	}
	if pkg.Name == "" || pkg.PURL == "" {
		return nil
	}
	if known := s.index[pkg.PURL]; known != nil {
		if len(known.Found) < maxFound && !slices.Contains(known.Found, p) {
			known.Found = append(known.Found, p)
		}
		return nil
	}
	if len(s.index) == maxPackages {
		return errTooMany
	}
	pkg.Found = []string{p}
	s.index[pkg.PURL] = &pkg
	return nil
}

// plain is a field as one line of text; one that is too long is no field.
func plain(text string) string {
	if len(text) > maxField || !utf8.ValidString(text) {
		return ""
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == ' ' }), " ")
}

// note keeps why a file tells nothing.
func (s *scan) note(p string, err error) {
	if plain(p) != p {
		p = strconv.QuoteToASCII(p)
	}
	if len(s.notes) < maxNotes {
		s.notes = append(s.notes, fmt.Sprintf("%s: %v", p, err))
		return
	}
	s.more++
	s.notes[maxNotes-1] = fmt.Sprintf("and %d more files could not be read", s.more+1)
}

// purl is the package URL of a name; "" if there can be none. Qualifiers are pairs of key and value, and empty ones are left out.
func purl(kind, namespace, name, version string, qualifiers ...string) string {
	if len(namespace)+len(name)+len(version) > maxField {
		return ""
	}
	var q packageurl.Qualifiers
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if v := plain(qualifiers[i+1]); v != "" {
			q = append(q, packageurl.Qualifier{Key: qualifiers[i], Value: v})
		}
	}
	p := packageurl.PackageURL{Type: kind, Namespace: namespace, Name: name, Version: version, Qualifiers: q}
	if !utf8.ValidString(namespace+name+version) || p.Normalize() != nil {
		return ""
	}
	return p.ToString()
}

// library is a package of a language's tools. Name may have a namespace before its last slash.
func library(kind, name, version string) Package {
	namespace, base := path.Split(name)
	return Package{Kind: kind, Name: name, Version: version, PURL: purl(kind, namespace, base, version)}
}
