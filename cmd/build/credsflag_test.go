package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gobuild/internal/registrytest"
	"gobuild/registry"
)

func TestJ4_CredsAreForOneRegistry(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		pos  []string
		want []registry.Login
		err  string
	}{
		{name: "the registry of the tag", args: []string{"--creds", "me:s=e:c", "-t", "r.example/a", "-t", "r.example/b:2"}, want: []registry.Login{{Host: "r.example", User: "me", Password: "s=e:c"}}},
		{name: "the Hub", args: []string{"--creds", "me:secret", "-t", "app"}, want: []registry.Login{{Host: "docker.io", User: "me", Password: "secret"}}},
		{name: "the registry of the argument", args: []string{"--creds", "me:secret"}, pos: []string{"docker://localhost:5000/a", "oci://x"}, want: []registry.Login{{Host: "localhost:5000", User: "me", Password: "secret"}}},
		{name: "a named one", args: []string{"--creds", "r.example:5000=me:a=b:c", "--creds", "localhost=<token>:t"}, want: []registry.Login{
			{Host: "r.example:5000", User: "me", Password: "a=b:c"}, {Host: "localhost", User: "<token>", Password: "t"},
		}},
		{name: "a password that looks like a user", args: []string{"--creds", "me:5=hunter2", "-t", "r.example/a"}, want: []registry.Login{{Host: "r.example", User: "me", Password: "5=hunter2"}}},
		{name: "no registry is named", args: []string{"--creds", "me:hunter2"}, err: "names 0 registries"},
		{name: "two registries", args: []string{"--creds", "me:hunter2", "-t", "a.example/a", "-t", "b.example/a"}, err: "HOST=USER:PASSWORD"},
		{name: "no password", args: []string{"--creds", "hunter2", "-t", "a"}, err: "want USER:PASSWORD"},
		{name: "an empty password", args: []string{"--creds", "hunter2:", "-t", "a"}, err: "want USER:PASSWORD"},
		{name: "twice", args: []string{"--creds", "a.example=me:hunter2", "--creds", "a.example=me:hunter3"}, err: "two for a.example"},
	}
	for _, tt := range tests {
		a := newApp(t, nil)
		f, _, err := judgeArgs(t, a.env, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		a.named = tt.pos
		got, err := a.logins(f)
		if tt.err != "" {
			wantUsage(t, err, tt.err)
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s: the error shows the secret: %v", tt.name, err)
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

func TestJ8_RetryFlags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args  string
		tries int
		delay time.Duration
		err   string
	}{
		{"", 0, 0, ""},
		{"--retry=0 --retry-delay=0", 1, time.Millisecond, ""},
		{"--retry 2 --retry-delay 3s", 3, 3 * time.Second, ""},
		{"--retry=-1", 0, 0, "want a number from 0"},
		{"--retry=101", 0, 0, "want a number from 0"},
		{"--retry-delay=5", 0, 0, "want a duration"},
		{"--retry-delay=-5s", 0, 0, "want a duration"},
		{"--retry-delay=2h", 0, 0, "want a duration"},
	}
	for _, tt := range tests {
		f, _, err := judgeArgs(t, nil, strings.Fields(tt.args)...)
		if err != nil {
			t.Fatal(err)
		}
		tries, delay, err := retries(f)
		if tt.err != "" {
			wantUsage(t, err, tt.err)
		} else if err != nil || tries != tt.tries || delay != tt.delay {
			t.Errorf("%q: %d tries, %s, %v", tt.args, tries, delay, err)
		}
	}
}

// rows: J4 J8
func TestJ4_CredsComeBeforeTheFile(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	r.Basic("me", "secret")
	ask := func(args ...string) (int, string) {
		var errOut bytes.Buffer
		all := append([]string{"tags", "--root", t.TempDir(), "--retry", "0"}, args...)
		code := run(t.Context(), append(all, r.Host+"/app"), []string{"HOME=" + t.TempDir(), "GOBUILD_CREDS="}, strings.NewReader(""), &bytes.Buffer{}, &errOut)
		return code, errOut.String()
	}
	if code, out := ask(); code != exitRemote || !strings.Contains(out, "without credentials") {
		t.Errorf("without: %d\n%s", code, out)
	}
	if code, out := ask("--creds", "me:wrong"); code != exitRemote || !strings.Contains(out, "from --creds") || strings.Contains(out, "wrong") {
		t.Errorf("wrong: %d\n%s", code, out)
	}
	if code, out := ask("--creds", "me:secret"); code != 0 || !strings.Contains(out, "other users") {
		t.Errorf("right: %d\n%s", code, out)
	}
	if code, out := ask("--creds", "other.example=me:secret"); code != exitRemote {
		t.Errorf("of another registry: %d\n%s", code, out)
	}
}
