package builder

import (
	"strings"
	"testing"

	"gobuild/image"
	"gobuild/internal/registrytest"
)

func TestL3_AllPlatformsAreThoseOfAllBases(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	push := func(name string, platforms ...string) string {
		p := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "1"})
		p.opt.Platforms, p.opt.Tags, p.opt.Outputs = platforms, []string{r.Host + "/" + name}, []Output{{Type: "registry"}}
		mustBuild(t, p)
		return r.Host + "/" + name
	}
	three := push("three:1", "linux/s390x", "linux/amd64", "linux/arm/v7")
	two := push("two:1", "linux/arm64", "linux/arm/v7", "linux/s390x")
	one := push("one:1", hostPlatform(t))
	for _, tc := range []struct {
		name, dockerfile, want, fail string
	}{
		{"one base", "FROM " + three + "\n", "linux/s390x linux/amd64 linux/arm/v7", ""},
		{"those that all have", "FROM " + three + " AS a\nFROM " + two + "\nCOPY --from=a /f /g\n", "linux/s390x linux/arm/v7", ""},
		{"the tools' platform does not count", "FROM --platform=$BUILDPLATFORM " + one + " AS a\nFROM " + two + "\nCOPY --from=a /f /g\n", "linux/arm64 linux/arm/v7 linux/s390x", ""},
		{"nor does a stage that is not needed", "FROM " + one + " AS a\nFROM " + three + "\n", "linux/s390x linux/amd64 linux/arm/v7", ""},
		{"an image of one platform", "FROM " + one + "\n", hostPlatform(t), ""},
		{"none in common", "FROM " + push("x:1", "linux/riscv64", "linux/ppc64le") + " AS a\nFROM " + three + "\nCOPY --from=a /f /g\n", "", "no platform for which all base images exist"},
		{"nothing to look at", "FROM scratch\nCOPY Dockerfile /\n", "", "no stage starts from an image"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tc.dockerfile, nil)
			p.opt.AllPlatforms = true
			res, err := p.build()
			if tc.fail != "" {
				wantCategory(t, err, CategoryUsage, tc.fail)
				return
			}
			must(t, err)
			got := hostPlatform(t)
			if isIndex(res.Manifest.MediaType) {
				got = strings.Join(image.Platforms(indexOf(t, p, res.Manifest)), " ")
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if tc.name != "one base" {
				return
			}
			// Now the store has one platform of it, and the registry is still asked for the others.
			if again := mustBuild(t, p); again.Manifest.Digest != res.Manifest.Digest {
				t.Errorf("again: %s, want %s", again.Manifest.Digest, res.Manifest.Digest)
			}
			p.opt.Platforms = []string{"linux/amd64"}
			_, err = p.build()
			wantCategory(t, err, CategoryUsage, "exclude each other")
		})
	}
}
