package imageref

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	hub       = "docker.io"
	oldHub    = "index.docker.io" // another name of the same registry
	official  = "library/"        // where the names without a slash live there
	latest    = "latest"
	localhost = "localhost"

	maxPath = 255 // bytes; the specification's bound on a repository's name
	maxTag  = 128 // bytes
)

// Ref is an image name with its defaults filled in, but for the tag.
type Ref struct {
	Domain string // host, with the port if there is one: "docker.io", "localhost:5000"
	Path   string // "library/busybox"
	Tag    string // "" if none was given
	Digest digest.Digest
}

// Parse reads a name as a person types it.
func Parse(s string) (Ref, error) {
	if s == "" {
		return Ref{}, errors.New("an image name is not empty")
	}
	if len(s) == 64 && all(s, lowerHex) {
		return Ref{}, errors.New("64 hexadecimal digits are an image ID, not a name")
	}
	rest, dgst, hasDigest := strings.Cut(s, "@")
	var r Ref
	r.Domain, rest = splitDomain(rest)
	path, tag, hasTag := strings.Cut(rest, ":")
	r.Path, r.Tag = path, tag
	switch {
	case !validDomain(r.Domain):
		return Ref{}, fmt.Errorf("%q is not a host", r.Domain)
	case strings.ToLower(path) != path:
		return Ref{}, fmt.Errorf("repository %q has capitals", r.FamiliarName())
	case !validPath(path):
		return Ref{}, fmt.Errorf("%q is not a repository: letters and digits, joined by single . or _, by __, or by dashes", r.FamiliarName())
	case len(path) > maxPath:
		return Ref{}, fmt.Errorf("a repository of %d bytes, at most %d are allowed", len(path), maxPath)
	case hasTag && !validTag(tag):
		return Ref{}, fmt.Errorf("%q is not a tag: letters, digits and _ . -, at most %d, the first not . or -", tag, maxTag)
	}
	if !hasDigest {
		return r, nil
	}
	d, err := digest.Parse(dgst)
	if err != nil {
		return Ref{}, fmt.Errorf("digest %q: %w", dgst, err)
	}
	r.Digest = d
	return r, nil
}

// splitDomain says which registry a name means: the first part is a host only if it looks like one.
func splitDomain(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	if !ok || first != localhost && !strings.ContainsAny(first, ".:") && strings.ToLower(first) == first {
		first, after = hub, s
	}
	if first == oldHub {
		first = hub
	}
	if first == hub && !strings.Contains(after, "/") {
		after = official + after
	}
	return first, after
}

// Name is the repository in full, without tag and digest.
func (r Ref) Name() string { return r.Domain + "/" + r.Path }

// String is the name in full.
func (r Ref) String() string { return r.Name() + r.Suffix() }

// FamiliarName is Name as a person would type it.
func (r Ref) FamiliarName() string {
	if r.Domain != hub {
		return r.Name()
	}
	if rest, ok := strings.CutPrefix(r.Path, official); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return r.Path
}

// Familiar is String as a person would type it.
func (r Ref) Familiar() string { return r.FamiliarName() + r.Suffix() }

// WithTag is the reference with the tag latest, if it has neither tag nor digest.
func (r Ref) WithTag() Ref {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = latest
	}
	return r
}

// Suffix is :tag@digest, as far as they are there.
func (r Ref) Suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// validDomain: labels of letters, digits and inner dashes, or an IPv6 address in brackets; a port.
func validDomain(s string) bool {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if port == "" || !all(port, digit) {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && all(inner, func(c byte) bool { return digit(c) || c == ':' || c|0x20 >= 'a' && c|0x20 <= 'f' })
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || !all(label, func(c byte) bool { return letter(c) || digit(c) || c == '-' }) {
			return false
		}
	}
	return true
}

// validPath: parts of lower-case letters and digits, which . _ __ or dashes join.
func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		for {
			i := span(part, alnum)
			if i == 0 {
				return false
			}
			part = part[i:]
			if part == "" {
				break
			}
			joint := part[:span(part, func(c byte) bool { return !alnum(c) })]
			if joint != "." && joint != "_" && joint != "__" && strings.Trim(joint, "-") != "" {
				return false
			}
			part = part[len(joint):]
		}
	}
	return true
}

func validTag(s string) bool {
	word := func(c byte) bool { return letter(c) || digit(c) || c == '_' }
	return s != "" && len(s) <= maxTag && word(s[0]) && all(s, func(c byte) bool { return word(c) || c == '.' || c == '-' })
}

func digit(c byte) bool    { return c >= '0' && c <= '9' }
func letter(c byte) bool   { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func alnum(c byte) bool    { return digit(c) || c >= 'a' && c <= 'z' }
func lowerHex(c byte) bool { return digit(c) || c >= 'a' && c <= 'f' }

func all(s string, is func(byte) bool) bool { return span(s, is) == len(s) }

// span is how many bytes at the start of s are of a kind.
func span(s string, is func(byte) bool) int {
	for i := range len(s) {
		if !is(s[i]) {
			return i
		}
	}
	return len(s)
}
