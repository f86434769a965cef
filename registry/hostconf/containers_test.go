package hostconf

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJ7_ContainersRegistriesConf(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"a.conf": `unqualified-search-registries = ["docker.io", "quay.io"]
short-name-mode = "enforcing"
[aliases]
"app" = "quay.io/me/app"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "m.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "r.example"
location = "other.example/base"
[[registry]]
prefix = "r.example/team/sub"
location = "sub.example:5000/x"
mirror-by-digest-only = true
[[registry.mirror]]
location = "copy.example"
[[registry]]
prefix = "r.example/team/bad"
blocked = true
[[registry]]
prefix = "*.wild.example"
insecure = true
`,
		"b.conf":     "[[registry]]\nprefix = \"docker.io\"\nblocked = true\n[[registry]]\nprefix = \"b.example\"\nblocked = true\n",
		"own.toml":   "[registry.\"b.example\"]\nhttp = true\n",
		"old.conf":   "[registries.search]\nregistries = [\"docker.io\"]\n",
		"tags.conf":  "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"tag-only\"\n",
		"wild.conf":  "[[registry]]\nprefix = \"*.example\"\nlocation = \"m.example\"\n",
		"url.conf":   "[[registry]]\nprefix = \"a.example\"\nlocation = \"https://m.example\"\n",
		"typo.conf":  "[[registry]]\nprefix = \"a.example\"\nblock = true\n",
		"empty.conf": "",
	})
	files := func(names ...string) (list []string) {
		for _, n := range names {
			list = append(list, filepath.Join(dir, n))
		}
		return list
	}
	origin := func(host string) Server { return Server{Host: host, Root: "/v2", Resolve: true} }
	tests := []struct {
		name, host, repo string
		conf             Config
		want             Registry
		err              string
	}{
		{"mirrors", "docker.io", "library/alpine", Config{Containers: files("none.conf", "empty.conf", "a.conf", "b.conf")}, Registry{Origin: origin("docker.io"), Mirrors: []Server{
			{Host: "m.example:5000", Root: "/v2/hub", Insecure: true, Resolve: true}, {Host: "tags.example", Root: "/v2"},
		}}, ""},
		{"another location", "r.example", "app", Config{Containers: files("a.conf")}, Registry{Origin: origin("r.example"), Location: &Server{Host: "other.example", Root: "/v2/base", Resolve: true, Last: true}}, ""},
		{"the longest prefix", "r.example", "team/sub/app", Config{Containers: files("a.conf")}, Registry{
			Origin: origin("r.example"), Mirrors: []Server{{Host: "copy.example", Root: "/v2", Strip: "team/sub"}},
			Location: &Server{Host: "sub.example:5000", Root: "/v2/x", Strip: "team/sub", Resolve: true, Last: true},
		}, ""},
		{"whole elements only", "r.example", "team/subway", Config{Containers: files("a.conf")}, Registry{Origin: origin("r.example"), Location: &Server{Host: "other.example", Root: "/v2/base", Resolve: true, Last: true}}, ""},
		{"a blocked part", "r.example", "team/bad", Config{Containers: files("a.conf")}, Registry{}, "r.example is blocked"},
		{"a pattern", "x.wild.example", "a", Config{Containers: files("a.conf")}, Registry{Origin: Server{Host: "x.wild.example", Root: "/v2", Insecure: true, Resolve: true}}, ""},
		{"not the domain itself", "wild.example", "a", Config{Containers: files("a.conf")}, Registry{Origin: origin("wild.example")}, ""},
		{"the first file that names it", "docker.io", "a", Config{Containers: files("b.conf", "a.conf")}, Registry{}, "docker.io is blocked"},
		{"registries.toml comes before", "b.example", "a", Config{Files: files("own.toml"), Containers: files("b.conf")}, Registry{Origin: Server{Scheme: "http", Host: "b.example", Root: "/v2", Resolve: true}}, ""},
		{"version 1", "a.example", "a", Config{Containers: files("old.conf")}, Registry{}, "registries.search is not known here"},
		{"for tags only", "a.example", "a", Config{Containers: files("tags.conf")}, Registry{}, "tag-only"},
		{"a pattern with a location", "a.example", "a", Config{Containers: files("wild.conf")}, Registry{}, "exclude each other"},
		{"a URL", "a.example", "a", Config{Containers: files("url.conf")}, Registry{}, "want HOST"},
		{"a misspelled key", "z.example", "a", Config{Containers: files("typo.conf")}, Registry{}, "typo.conf:3"},
	}
	for _, tt := range tests {
		got, err := tt.conf.Lookup(tt.host, tt.repo)
		if tt.err != "" {
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}
