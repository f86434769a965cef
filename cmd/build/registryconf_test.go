package main

import (
	"slices"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

func TestJ7_RegistriesConfIsObeyed(t *testing.T) {
	t.Parallel()
	r, here := registrytest.New(t), registrytest.New(t)
	r.Token("me", "secret")
	home := t.TempDir()
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	write(t, home+"/.config/containers/registries.conf", "unqualified-search-registries = [\"docker.io\"]\n")
	write(t, home+"/.config/containers/registries.conf.d/50-site.conf", `[[registry]]
prefix = "`+here.Host+`/team"
location = "`+r.Host+`/deep/copy"
[[registry]]
prefix = "blocked.example"
blocked = true
[[registry]]
prefix = "`+here.Host+`/exact/app"
location = "`+r.Host+`/deep/copy/app"
`)
	creds := "--creds=" + r.Host + "=me:secret"
	must := func(args ...string) {
		t.Helper()
		if code, _, stderr := with(t, home, "", args...); code != 0 {
			t.Fatalf("%q: exit code %d\n%s", args, code, stderr)
		}
	}
	must(creds, "--push", "-t", r.Host+"/deep/copy/app:1", home+"/ctx")
	must("pull", creds, here.Host+"/team/app:1")
	must("pull", creds, here.Host+"/exact/app:1")
	if got := here.Requests(); len(got) != 0 {
		t.Errorf("the registry itself was asked: %q", got)
	}
	if got := r.Requests(); !slices.ContainsFunc(got, func(s string) bool {
		return strings.HasPrefix(s, "GET /token?") && strings.Contains(s, "deep%2Fcopy%2Fapp%3Apull&")
	}) {
		t.Errorf("no token for what is pulled: %q", got)
	}
	must("push", here.Host+"/team/app:1") // goes where its name says
	if here.Manifest("team/app", "1") == nil {
		t.Errorf("nothing was pushed: %q", here.Requests())
	}
	code, _, stderr := with(t, home, "", "pull", "blocked.example/app")
	if code != exitUsage || !strings.Contains(stderr, "50-site.conf") || !strings.Contains(stderr, "is blocked") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
