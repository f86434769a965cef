package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

// runArgs is gobuild with these arguments in an empty environment.
func runArgs(t *testing.T, ctx context.Context, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env = append([]string{"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, env...)
	code = run(ctx, args, env, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestN11_ClosedStandardOutputEndsQuietly(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	code := run(t.Context(), []string{"version"}, nil, strings.NewReader(""), w, &errs)
	if code != exitSignal+int(syscall.SIGPIPE) || errs.Len() > 0 {
		t.Errorf("exit code %d, standard error %q", code, errs.String())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGuard_APanicIsOneLine(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	code := guard(&errs, func() int { panic("index out of\nrange \x1b[2J") })
	if code != exitEnvironment {
		t.Errorf("exit code %d", code)
	}
	if got, want := errs.String(), "internal error: index out of\\nrange \\x1b[2J (please report)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDebug_SaysWhereSettingsCameFrom(t *testing.T) {
	t.Parallel()
	code, _, stderr := runArgs(t, t.Context(), []string{"GOBUILD_JOBS=x"}, "--debug", "--target=s", "/nowhere")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"setting: --jobs=x (environment)", "setting: --target=s (command line)"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in:\n%s", want, stderr)
		}
	}
}

func TestN11_LogLevel(t *testing.T) {
	t.Parallel()
	for level, notice := range map[string]bool{"info": true, "warn": false, "error": false} {
		_, _, stderr := runArgs(t, t.Context(), nil, "--log-level="+level, "--rm", "/nowhere")
		if got := strings.Contains(stderr, "notice:"); got != notice {
			t.Errorf("--log-level=%s: notice shown: %v", level, got)
		}
		if !strings.Contains(stderr, "error:") {
			t.Errorf("--log-level=%s: no error shown", level)
		}
	}
	if code, _, _ := runArgs(t, t.Context(), nil, "--log-level=loud", "version"); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}

func TestN11_Timeout(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"0", "-1s", "soon", "5"} {
		if code, _, _ := runArgs(t, t.Context(), nil, "--timeout="+bad, "version"); code != exitUsage {
			t.Errorf("--timeout=%s: exit code %d", bad, code)
		}
	}
	if code, _, stderr := runArgs(t, t.Context(), nil, "--timeout=1h", "version"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestBuildkitProgressOfAnotherProgramIsNoReasonToFail(t *testing.T) {
	t.Parallel()
	if code, _, stderr := runArgs(t, t.Context(), []string{"BUILDKIT_PROGRESS=tty"}, "version"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestK6_MetadataIsWrittenForAMissingContext(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/m.json"
	code, _, _ := runArgs(t, t.Context(), nil, "--metadata-file="+file, "/nowhere")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	if got := read(t, file); !strings.Contains(got, `"gobuild.success": false`) || !strings.Contains(got, "/nowhere") {
		t.Errorf("metadata: %s", got)
	}
}

func TestStateDirectory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		uid  int
		env  environ
		want string
	}{
		{0, environ{"HOME": "/root", "XDG_DATA_HOME": "/x"}, "/var/lib/gobuild"},
		{1, environ{"HOME": "/home/u"}, "/home/u/.local/share/gobuild"},
		{1, environ{"HOME": "/home/u", "XDG_DATA_HOME": "/x"}, "/x/gobuild"},
		{1, environ{"HOME": "/home/u", "XDG_DATA_HOME": "x"}, "/home/u/.local/share/gobuild"},
		{1, environ{}, ""},
	} {
		got, err := tt.env.stateDir(tt.uid)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("uid %d, %v: %q, %v", tt.uid, tt.env, got, err)
		}
	}
}

func TestJ4_CredentialsFile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	write(t, home+"/.docker/config.json", "{}")
	write(t, home+"/run/containers/auth.json", "{}")
	write(t, home+"/other/config.json", "{}")
	write(t, home+"/auth", "{}")
	for _, tt := range []struct {
		env  environ
		args []string
		want string
	}{
		{environ{"HOME": home}, nil, "/.docker/config.json"},
		{environ{"HOME": home, "DOCKER_CONFIG": home + "/other"}, nil, "/other/config.json"},
		{environ{"HOME": home + "/no", "XDG_RUNTIME_DIR": home + "/run"}, nil, "/run/containers/auth.json"},
		{environ{"HOME": home, "REGISTRY_AUTH_FILE": home + "/auth"}, nil, "/auth"},
		{environ{"HOME": home, "REGISTRY_AUTH_FILE": home + "/auth"}, []string{"--authfile", home + "/other/config.json"}, "/other/config.json"},
	} {
		a := newApp(t, tt.env)
		f, _, err := judgeArgs(t, nil, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.authFile(f)
		if err != nil || got != home+tt.want {
			t.Errorf("%v %q: %q, %v", tt.env, tt.args, got, err)
		}
	}
	f, _, _ := judgeArgs(t, nil, "--authfile", home+"/nope")
	if _, err := newApp(t, nil).authFile(f); err == nil || exitCode(err) != exitUsage {
		t.Errorf("a missing --authfile: %v", err)
	}
}
