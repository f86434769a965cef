package registry_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
	"gobuild/internal/testexec"
	"gobuild/registry"
)

func TestJ11_CheckLogin(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*registrytest.Registry){
		"basic": func(r *registrytest.Registry) { r.Basic("me", "secret") },
		"token": func(r *registrytest.Registry) { r.Token("me", "secret") },
	} {
		r := registrytest.New(t)
		ask(r)
		if err := client(t, registry.Config{}).CheckLogin(t.Context(), registry.Login{Host: r.Host, User: "me", Password: "secret"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err := client(t, registry.Config{DockerConfig: config(t, r.Host)}).CheckLogin(t.Context(), registry.Login{Host: r.Host, User: "me", Password: "wrong"})
		var e *registry.Error
		if !errors.Is(err, registry.ErrUnauthorized) || !errors.As(err, &e) || !strings.Contains(e.Remedy(), "password") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s, wrong password: %v", name, err)
		}
		if all := r.Requests(); len(all) > 6 {
			t.Errorf("%s: %d requests for two logins: %v", name, len(all), all)
		}
	}
}

func readJSON(t *testing.T, file string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestJ11_LoginIsKeptInTheFile(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	r.Basic("me", "secret")
	dir := t.TempDir()
	real := filepath.Join(dir, "elsewhere.json")
	if err := os.WriteFile(real, []byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5"},"`+r.Host+`/v2/":{"auth":"b2xkOm9sZA=="}},"proxies":{"default":{"httpProxy":"<x>"}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.Symlink("elsewhere.json", file); err != nil {
		t.Fatal(err)
	}
	l := registry.Login{Host: r.Host, User: "me", Password: "secret", File: file}
	where, err := l.Save(t.Context())
	if err != nil || where != file {
		t.Fatalf("%q, %v", where, err)
	}
	if fi, err := os.Lstat(file); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if fi, err := os.Stat(real); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	m := readJSON(t, real)
	auths := m["auths"].(map[string]any)
	if len(auths) != 2 || auths[r.Host].(map[string]any)["auth"] != base64.StdEncoding.EncodeToString([]byte("me:secret")) {
		t.Errorf("entries %v", auths)
	}
	if m["proxies"].(map[string]any)["default"].(map[string]any)["httpProxy"] != "<x>" {
		t.Errorf("the rest of the file: %v", m)
	}
	pushAll(t, client(t, registry.Config{DockerConfig: file}), parse(t, r.Host+"/a:1"))

	if found, err := l.Erase(t.Context()); err != nil || !found {
		t.Errorf("erase: %v, %v", found, err)
	}
	if auths := readJSON(t, real)["auths"].(map[string]any); len(auths) != 1 {
		t.Errorf("entries after logout: %v", auths)
	}
	if found, err := l.Erase(t.Context()); err != nil || found {
		t.Errorf("erase again: %v, %v", found, err)
	}
	if left, _ := filepath.Glob(dir + "/*lock*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestJ11_LoginIsKeptByTheHelper(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := "#!/bin/sh\ncase $1 in\nstore) cat > " + dir + "/kept;;\nget) if test -f " + dir + "/kept; then sed s/ServerURL/x/ " + dir + "/kept; else echo credentials not found in native keychain; exit 1; fi;;\nerase) if test -f " + dir + "/kept; then rm " + dir + "/kept; else echo credentials not found; exit 1; fi;;\nesac\n"
	if err := testexec.WriteFile(dir+"/docker-credential-mine", []byte(program)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"credsStore":"mine","auths":{"docker.io":{"auth":"b2xkOm9sZA=="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := registry.Login{Host: "docker.io", User: "me", Password: "secret", File: file, Env: []string{"PATH=" + dir + ":/usr/bin:/bin"}}
	where, err := l.Save(t.Context())
	if err != nil || where != "docker-credential-mine" {
		t.Fatalf("%q, %v", where, err)
	}
	kept := readJSON(t, dir+"/kept")
	if kept["ServerURL"] != "https://index.docker.io/v1/" || kept["Username"] != "me" || kept["Secret"] != "secret" {
		t.Errorf("the helper was told %v", kept)
	}
	b, _ := os.ReadFile(file)
	if strings.Contains(string(b), "b2xk") || strings.Contains(string(b), "secret") || !strings.Contains(string(b), "index.docker.io") {
		t.Errorf("the file: %s", b)
	}
	for _, want := range []bool{true, false} {
		if found, err := l.Erase(t.Context()); err != nil || found != want {
			t.Errorf("erase: %v, %v", found, err)
		}
	}
	l.Env = []string{"PATH=/usr/bin:/bin"}
	if _, err := l.Save(t.Context()); err == nil || !strings.Contains(err.Error(), "docker-credential-mine") {
		t.Errorf("without the helper: %v", err)
	}
}

func TestJ11_DamagedFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"{", "null", `{"auths":null}`, "[]"} {
		file := configFile(t, content)
		l := registry.Login{Host: "r.example", User: "me", Password: "secret", File: file}
		if _, err := l.Save(t.Context()); err == nil {
			t.Errorf("%s: no error", content)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != content {
			t.Errorf("%s became %s, %v", content, b, err)
		}
	}
}

func TestJ11_WhatIsALogin(t *testing.T) {
	t.Parallel()
	for _, l := range []registry.Login{{User: "", Password: "x"}, {User: "x"}, {User: "a:b", Password: "x"}, {User: "a", Password: "x\ny"}, {User: "a\x00", Password: "x"}} {
		if l.Check() == nil {
			t.Errorf("%q %q is taken", l.User, l.Password)
		}
	}
	for in, want := range map[string]string{
		"docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "localhost:5000": "localhost:5000", "R.example.com": "r.example.com",
		"https://r.example.com": "r.example.com", "[::1]:5000": "[::1]:5000", "plain": "", "a/b": "", "": "", "r.example.com:x": "", "me@r.example.com": "", "-r.example.com": "",
	} {
		got, err := registry.ParseHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseHost(%q) = %q, %v", in, got, err)
		}
	}
}
