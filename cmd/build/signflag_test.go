package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

// The keys in testdata/keys were made and encrypted by the library that cosign uses for that (go-securesystemslib, "encrypted").
func TestM5_SignAndVerify(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	home := t.TempDir()
	write(t, home+"/ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	write(t, home+"/other.pub", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/kLkZ8W8T0M/JZyjO4GdPIzSkqx/\nN8Ahok+vtcaHhh94QDNnMZctpRu2cpEGs5gdI7rrxmY6hGHDnwAn7cbgzA==\n-----END PUBLIC KEY-----\n")
	name := r.Host + "/app:1"
	const password = "a test's password"
	for _, tt := range []struct {
		about string
		env   string // COSIGN_PASSWORD; "-": not set
		args  []string
		code  int
		out   string
	}{
		{"a password that is not there", "-", []string{"-q", "--push", "-t", name, "--sign=testdata/keys/cosign.key", home + "/ctx"}, exitUsage, "set COSIGN_PASSWORD"},
		{"another password", "wrong one", []string{"-q", "--push", "-t", name, "--sign=testdata/keys/cosign.key", home + "/ctx"}, exitUsage, "the password is not that of the key"},
		{"the public key", password, []string{"-q", "--push", "-t", name, "--sign=testdata/keys/cosign.pub", home + "/ctx"}, exitUsage, "private one is wanted"},
		{"no key", password, []string{"-q", "--push", "-t", name, "--sign=" + home, home + "/ctx"}, exitUsage, "is not a file"},
		{"nothing pushed", password, []string{"-q", "-t", name, "--sign=testdata/keys/cosign.key", home + "/ctx"}, exitUsage, "add --push"},
		{"not signed yet", password, []string{"-q", "--push", "-t", name, home + "/ctx"}, 0, "sha256:"},
		{"no signature", "-", []string{"verify", "--key=testdata/keys/cosign.pub", name}, exitUnsafe, "has no signature"},
		{"build", password, []string{"--push", "-t", name, "--sign=testdata/keys/cosign.key", home + "/ctx"}, 0, "signed " + r.Host + "/app@sha256:"},
		{"verify", "-", []string{"verify", "--key=testdata/keys/cosign.pub", name}, 0, "is signed with this key, as " + r.Host + "/app"},
		{"verify as JSON", "-", []string{"verify", "--format=json", "--key=testdata/keys/cosign.pub", name}, 0, `"repository": "` + r.Host + `/app"`},
		{"another key", "-", []string{"verify", "--key=" + home + "/other.pub", name}, exitUnsafe, "not of this key"},
		{"the private key", "-", []string{"verify", "--key=testdata/keys/cosign.key", name}, exitUsage, "no PUBLIC KEY"},
		{"a context, too", "-", []string{"verify", "--key=testdata/keys/cosign.pub", name, "."}, exitUsage, "builds nothing"},
		{"push", password, []string{"push", "--sign=testdata/keys/cosign.key", name}, 0, "signed "},
	} {
		var out, errs bytes.Buffer
		env := []string{"HOME=" + home, "TMPDIR=" + home, "GOBUILD_ROOT=" + filepath.Join(home, "state")}
		if tt.env != "-" {
			env = append(env, "COSIGN_PASSWORD="+tt.env)
		}
		code := run(t.Context(), tt.args, env, strings.NewReader(""), &out, &errs)
		text := out.String() + errs.String()
		if code != tt.code || !strings.Contains(text, tt.out) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s", tt.about, code, tt.code, tt.out, text)
		}
		if strings.Contains(text, tt.env) && tt.env != "-" {
			t.Errorf("%s shows the password", tt.about)
		}
	}
	noSecretBelow(t, filepath.Join(home, "state"), password)
}

// noSecretBelow looks for a text in all files below a folder.
func noSecretBelow(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s has the password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
