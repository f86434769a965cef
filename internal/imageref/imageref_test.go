package imageref

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

var (
	names = []string{
		"busybox", "busybox:1", "library/busybox", "docker.io/busybox", "index.docker.io/a/b", "docker.io/library/a/b", "a/b/c:t",
		"localhost/a", "localhost:5000/a/b:c", "localhost:5000", "Example.com/a", "EXAMPLE/a", "example/A", "a.b/c", "a..b/c", "a_b.c/d",
		"[::1]:5000/a", "[::1]/a", "[::g]/a", "[]/a", "[::1]:/a", "a:b/c", "a:5/c", "a:/c", "-a.b/c", "a-.b/c", "x.-/c",
		"a__b", "a___b", "a--b", "a---b", "a.b", "a._b", "a-_b", "-a", "a-", "_a", "a//b", "/a", "a/", "a:", "a:-x", "a:.x", "a:_x", "a:b:c",
		"a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), strings.Repeat("a", 255), strings.Repeat("a", 256),
		strings.Repeat("a", 64), strings.Repeat("g", 64), strings.Repeat("A", 64), strings.Repeat("a", 64) + ":x",
		"a@sha256:" + strings.Repeat("0", 64), "a:t@sha256:" + strings.Repeat("f", 64), "a@sha256:" + strings.Repeat("0", 63), "a@sha256:" + strings.Repeat("F", 64),
		"a@sha512:" + strings.Repeat("0", 128), "a@md5:" + strings.Repeat("0", 32), "a@sha256:", "a@", "@sha256:" + strings.Repeat("0", 64), "a@b@c",
		"", ":", "/", ".", "ä", "a b", "a\n", "a:ä", "https://a/b",
	}
	digests = reference.DigestRegexp
)

func TestJ1_NamesAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	valid := 0
	for _, s := range names {
		if compare(t, s) {
			valid++
		}
	}
	if valid < 25 || valid > len(names)-25 {
		t.Errorf("%d of %d names are valid", valid, len(names))
	}
}

// compare holds Parse against the reference and says whether the name is valid.
func compare(t *testing.T, s string) bool {
	t.Helper()
	want, wantErr := reference.ParseNormalizedNamed(s)
	if wantErr == nil && reference.Domain(want) == "" {
		wantErr = reference.ErrReferenceInvalidFormat // a host that is none: the reference makes it a part of a path without a host
	}
	got, err := Parse(s)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%q: %v, the reference says %v", s, err, wantErr)
	}
	if err != nil || wantErr != nil {
		return false
	}
	for what, pair := range map[string][2]string{
		"in full":       {got.String(), want.String()},
		"name":          {got.Name(), want.Name()},
		"familiar":      {got.Familiar(), reference.FamiliarString(want)},
		"familiar name": {got.FamiliarName(), reference.FamiliarName(want)},
		"with tag":      {got.WithTag().String(), reference.TagNameOnly(want).String()},
		"domain":        {got.Domain, reference.Domain(want)},
		"path":          {got.Path, reference.Path(want)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%q %s: %s, the reference says %s", s, what, pair[0], pair[1])
		}
	}
	return true
}

func TestJ1_ErrorsNameThePart(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                              "empty",
		strings.Repeat("a", 64):         "image ID",
		"a_b.c/d":                       `"a_b.c" is not a host`,
		"a/B":                           `"a/B" has capitals`,
		"a//b":                          `"a//b" is not a repository`,
		"a:":                            `"" is not a tag`,
		"a@sha256:12":                   `digest "sha256:12"`,
		strings.Repeat("a/", 128) + "a": "at most 255",
	} {
		if _, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
}

// FuzzParse holds the parser against the reference.
func FuzzParse(f *testing.F) {
	for _, s := range names {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, d, ok := strings.Cut(s, "@"); ok && !digests.MatchString(d) {
			return // shorter digests of algorithms that the digest package might allow
		}
		compare(t, s)
	})
}
