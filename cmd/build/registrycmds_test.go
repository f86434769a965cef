package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

// with runs gobuild with a home, a state directory and standard input of its own.
func with(t *testing.T, home, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := []string{"HOME=" + home, "TMPDIR=" + home, "GOBUILD_ROOT=" + filepath.Join(home, "state")}
	code = run(t.Context(), args, env, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestJ11_LoginAndLogout(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	r.Token("me", "secret")
	home := t.TempDir()
	file := filepath.Join(home, ".docker/config.json")
	for _, tt := range []struct {
		stdin string
		args  []string
		code  int
		out   string
	}{
		{"", []string{"tags", r.Host + "/app"}, exitRemote, "gobuild login " + r.Host},
		{"", []string{"login", "-u", "me", r.Host}, exitUsage, "--password-stdin"},
		{"secret", []string{"login", "--password-stdin", r.Host}, exitUsage, "--username"},
		{"secret", []string{"login", "-u", "me", "-p", "x", "--password-stdin", r.Host}, exitUsage, "exclude"},
		{"", []string{"login", "-u", "me", "--password-stdin", r.Host}, exitUsage, "a user and a password are needed"},
		{"wrong\n", []string{"login", "-u", "me", "--password-stdin", r.Host}, exitRemote, "access denied"},
		{"secret\n", []string{"login", "-u", "me", "--password-stdin", "no host"}, exitUsage, "want a host"},
		{"secret\n", []string{"login", "-u", "me", "--password-stdin", r.Host}, 0, "Logged in to " + r.Host + " as me"},
		{"", []string{"tags", "--format=json", r.Host + "/app"}, 0, "[]"},
		{"", []string{"logout", r.Host}, 0, "Forgot the login"},
		{"", []string{"logout", r.Host}, 0, "There was no login"},
		{"", []string{"login", "-u", "me", "-p", "secret", r.Host}, 0, "can be seen by other users"},
		{"", []string{"logout", r.Host, "x"}, exitUsage, "one registry"},
	} {
		code, stdout, stderr := with(t, home, tt.stdin, tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.out) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.out, stdout, stderr)
		}
		if tt.args[0] != "logout" && strings.Contains(stdout+stderr, "secret\n") {
			t.Errorf("%q shows the password", tt.args)
		}
		if _, err := os.Stat(file); err == nil && code != 0 && tt.args[0] == "login" {
			t.Errorf("%q failed, but kept a login", tt.args)
		}
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestN9_CopyInspectAndRemove(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	home := t.TempDir()
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\nLABEL a=b\n")
	code, _, stderr := with(t, home, "", "-q", "--network=none", "-t", "app", home+"/ctx")
	if code != 0 {
		t.Fatalf("build: %s", stderr)
	}
	code, digest, stderr := with(t, home, "", "copy", "store://app", r.Host+"/app:1")
	if code != 0 || !strings.HasPrefix(digest, "sha256:") {
		t.Fatalf("copy: %d %s%s", code, digest, stderr)
	}
	if !strings.Contains(stderr, ", done") || strings.Contains(stderr, ", exists") {
		t.Errorf("the first copy shows\n%s", stderr)
	}
	if _, _, stderr = with(t, home, "", "copy", "store://app", r.Host+"/app:2"); strings.Count(stderr, ", done") != 1 || strings.Count(stderr, ", exists") != 2 {
		t.Errorf("the second copy shows\n%s", stderr)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"tags", r.Host + "/app"}, 0, "1\n2\n"},
		{[]string{"catalog", r.Host}, 0, "app\n"},
		{[]string{"inspect", "docker://" + r.Host + "/app:1"}, 0, strings.TrimSpace(digest)},
		{[]string{"inspect", "--raw", "docker://" + r.Host + "/app:1"}, 0, string(r.Manifest("app", "1"))},
		{[]string{"history", "docker://" + r.Host + "/app:1"}, 0, "LABEL a=b"},
		{[]string{"history", "--format=json", "oci://" + home + "/none"}, exitUsage, "no such file"},
		{[]string{"rmi", "--remote", r.Host + "/app:1"}, 0, "Untagged: " + r.Host + "/app:1"},
		{[]string{"tags", r.Host + "/app"}, 0, "2\n"},
		{[]string{"copy", "a"}, exitUsage, "a source and a destination"},
		{[]string{"copy", "store://app", "nowhere://x"}, exitUsage, "there are no images at"},
		{[]string{"tags"}, exitUsage, "gobuild tags REPOSITORY"},
		{[]string{"inspect", "--platform=linux/s390x,linux/arm64", "app"}, exitUsage, "several platforms"},
	} {
		code, stdout, stderr := with(t, home, "", tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.want, stdout, stderr)
		}
	}
}

func TestJ7_MirrorsByFlagAndFile(t *testing.T) {
	t.Parallel()
	mirror := registrytest.New(t)
	home := t.TempDir()
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	if code, _, stderr := with(t, home, "", "-q", "--network=none", "-t", "app", home+"/ctx"); code != 0 {
		t.Fatal(stderr)
	}
	code, digest, stderr := with(t, home, "", "copy", "--push-chunk=1m", "store://app", mirror.Host+"/hub/library/app:1")
	if code != 0 {
		t.Fatal(stderr)
	}
	write(t, home+"/own.toml", "[registry.\"r.invalid\"]\nmirrors = [\""+mirror.Host+"/hub/library\"]\n")
	write(t, home+"/bad.toml", "[registry.\"r.invalid\"]\nmirror = []\n")
	write(t, home+"/.config/gobuild/registries.toml", "[registry.\"docker.io\"]\nmirrors = [\""+mirror.Host+"/hub\"]\n")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"inspect", "docker://app:1"}, 0, strings.TrimSpace(digest)},
		{[]string{"inspect", "--registry-config", home + "/own.toml", "docker://r.invalid/app:1"}, 0, strings.TrimSpace(digest)},
		{[]string{"inspect", "--registry-mirror", "r.invalid=" + mirror.Host + "/hub/library", "docker://r.invalid/app:1"}, 0, strings.TrimSpace(digest)},
		{[]string{"inspect", "--registry-config", home + "/bad.toml", "docker://r.invalid/app:1"}, exitUsage, "bad.toml:2: registry.r.invalid.mirror is not known here"},
		{[]string{"inspect", "--registry-mirror", "r.invalid=a b", "docker://r.invalid/app:1"}, exitUsage, "want HOST[:PORT][/PREFIX]"},
		{[]string{"inspect", "--registry-mirror", "no host=a", "docker://r.invalid/app:1"}, exitUsage, "want a host"},
		{[]string{"inspect", "--cert-dir", home + "/own.toml", "app"}, exitUsage, "is no folder"},
		{[]string{"copy", "--push-chunk=1k", "store://app", "oci://" + home + "/x"}, exitUsage, "from 1m to 256m"},
	} {
		code, stdout, stderr := with(t, home, "", tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.want, stdout, stderr)
		}
	}
}

func TestP4_FilesAndDiffAsText(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for tag, dockerfile := range map[string]string{"a": "FROM scratch\nCOPY Dockerfile /one\n", "b": "FROM scratch\nCOPY Dockerfile /two\nCOPY Dockerfile /two\nENV X=y\n"} {
		write(t, home+"/"+tag+"/Dockerfile", dockerfile)
		if code, _, stderr := with(t, home, "", "-q", "--network=none", "-t", tag, home+"/"+tag); code != 0 {
			t.Fatal(stderr)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"files", "a"}, 0, []string{"-0644   0:0", "1       /one", "34B in files, 0B wasted"}},
		{[]string{"files", "--layer=1", "b"}, 0, []string{"/two"}},
		{[]string{"files", "--layer=7", "b"}, exitUsage, []string{"layers 1 to 2"}},
		{[]string{"files", "--format=json", "--wasted", "a"}, 0, []string{`"wastedBytes": 0`}},
		{[]string{"diff", "a", "b"}, 0, []string{"- layer", "+ config Env.X \"y\"", "- -0644 34B /one", "+ -0644 63B /two"}},
		{[]string{"diff", "a", "a"}, 0, []string{"the images are the same"}},
		{[]string{"diff", "--format=json", "a", "b"}, 0, []string{`"change": "removed"`}},
		{[]string{"diff", "a"}, exitUsage, []string{"gobuild diff OLD NEW"}},
	} {
		code, stdout, stderr := with(t, home, "", tt.args...)
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(stdout+stderr, want) {
				t.Errorf("%q: exit code %d, want %d with %q\n%s%s", tt.args, code, tt.code, want, stdout, stderr)
			}
		}
	}
}
