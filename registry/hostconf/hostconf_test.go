package hostconf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestJ7_WhichServersAnswer(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"first.toml":  "[registry.\"docker.io\"]\nmirrors = [\"m.example:5000\", \"harbor.example/proxy/hub\", \"http://plain.example\"]\n[registry.\"m.example:5000\"]\nhttp = true\n[registry.\"harbor.example\"]\ninsecure = true\nca = [\"ca.pem\"]\n",
		"second.toml": "[registry.\"docker.io\"]\nmirrors = [\"never.example\"]\n",
		"c/a.example/hosts.toml": "server = \"https://real.example/base\"\nskip_verify = true\n" +
			"[host.\"https://z.example\"]\ncapabilities = [\"pull\"]\n[host.\"https://b.example/v2/cache\"]\noverride_path = true\ncapabilities = [\"pull\", \"resolve\"]\nca = \"x.pem\"\nclient = \"both.pem\"\n[host.\"http://push.example\"]\ncapabilities = [\"push\"]\n",
		"c/a.example_5000_/ca.crt":      "x",
		"c/_default/hosts.toml":         "[host.\"https://all.example\"]\n",
		"d/a.example/ca.crt":            "not read",
		"d/docker.io/client.cert":       "x",
		"d/docker.io/client.key":        "x",
		"flat/a.crt":                    "x",
		"broken/a.example/hosts.toml":   "server = \n",
		"unknown/a.example/hosts.toml":  "[host.\"https://b.example\".header]\nx = \"y\"\n",
		"unknown.toml":                  "[registry.\"a.example\"]\nmirror = [\"x\"]\n",
		"badmirror.toml":                "[registry.\"a.example\"]\nmirrors = [\"a b\"]\n",
		"keyless/a.example/client.cert": "x",
	})
	at := func(names ...string) []string {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return names
	}
	tests := []struct {
		name string
		conf Config
		host string
		want Registry
		err  string
	}{
		{"nothing", Config{Files: at("none.toml"), Dirs: at("none")}, "r.example", Registry{Origin: Server{Host: "r.example", Root: "/v2", Resolve: true}}, ""},
		{"the first file that names the registry", Config{Files: at("first.toml", "second.toml")}, "docker.io", Registry{
			Mirrors: []Server{
				{Scheme: "http", Host: "m.example:5000", Root: "/v2", Resolve: true},
				{Host: "harbor.example", Root: "/v2/proxy/hub", Insecure: true, CA: at("ca.pem"), Resolve: true},
				{Scheme: "http", Host: "plain.example", Root: "/v2", Resolve: true},
			},
			Origin: Server{Host: "docker.io", Root: "/v2", Resolve: true},
		}, ""},
		{"flags before files", Config{Files: at("second.toml"), Mirrors: map[string][]string{"docker.io": {"flag.example"}}}, "docker.io", Registry{
			Mirrors: []Server{{Host: "flag.example", Root: "/v2", Resolve: true}, {Host: "never.example", Root: "/v2", Resolve: true}},
			Origin:  Server{Host: "docker.io", Root: "/v2", Resolve: true},
		}, ""},
		{"hosts.toml in its order", Config{Dirs: at("c", "d")}, "a.example", Registry{
			Mirrors: []Server{
				{Scheme: "https", Host: "z.example", Root: "/v2"},
				{Scheme: "https", Host: "b.example", Root: "/v2/cache", CA: at("c/a.example/x.pem"), Pairs: []Pair{{at("c/a.example/both.pem")[0], at("c/a.example/both.pem")[0]}}, Resolve: true},
			},
			Origin: Server{Scheme: "https", Host: "real.example", Root: "/base/v2", Insecure: true, Resolve: true},
		}, ""},
		{"a port without a colon", Config{Dirs: at("c")}, "a.example:5000", Registry{Origin: Server{Host: "a.example:5000", Root: "/v2", CA: at("c/a.example_5000_/ca.crt"), Resolve: true}}, ""},
		{"client certificates", Config{Dirs: at("d"), CertDir: at("flat")[0]}, "docker.io", Registry{
			Origin: Server{Host: "docker.io", Root: "/v2", CA: at("flat/a.crt"), Pairs: []Pair{{at("d/docker.io/client.cert")[0], at("d/docker.io/client.key")[0]}}, Resolve: true},
		}, ""},
		{"broken", Config{Dirs: at("broken")}, "a.example", Registry{}, "hosts.toml:1"},
		{"a key that is not obeyed", Config{Dirs: at("unknown")}, "a.example", Registry{}, "header"},
		{"a misspelled key", Config{Files: at("unknown.toml")}, "b.example", Registry{}, "mirror is not known here"},
		{"a bad mirror", Config{Files: at("badmirror.toml")}, "a.example", Registry{}, "want HOST"},
		{"a bad flag", Config{Mirrors: map[string][]string{"a.example": {"me@b.example"}}}, "a.example", Registry{}, "want HOST"},
		{"no key", Config{Dirs: at("keyless")}, "a.example", Registry{}, "has no key"},
	}
	for _, tt := range tests {
		got, err := tt.conf.Lookup(tt.host, "")
		if tt.err != "" {
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
