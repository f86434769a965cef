package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// rowFlags are the flags that FEATURES N2 to N8 name, row by row.
var rowFlags = map[string]string{
	"N2": `add-host allow annotation attest build-arg build-context cache-from cache-to call check cgroup-parent cpu-period
		cpu-quota cpu-shares cpuset-cpus cpuset-mems file label load memory memory-swap metadata-file network no-cache
		no-cache-filter output platform progress provenance pull push quiet resource sbom secret shm-size squash ssh tag
		target ulimit debug iidfile`,
	"N3": `rm force-rm compress disable-content-trust isolation builder node security-opt`,
	"N4": `isolation policy print`,
	"N5": `annotation arch os variant os-version os-feature all-platforms authfile build-arg-file build-context cap-add
		cap-drop cert-dir compression-format compression-level force-compression created-annotation creds device
		disable-compression dns dns-option dns-search env unsetenv unsetlabel unsetannotation format from group-add
		http-proxy identity-label ignorefile inherit-annotations inherit-labels jobs layers layer-label logfile logsplit
		manifest no-hostname no-hosts omit-history pids-limit pull retry retry-delay rewrite-timestamp source-date-epoch
		skip-unused-stages squash stdin timestamp tls-verify userns-uid-map userns-gid-map volume cache-ttl iidfile-raw`,
	"N6": `runtime runtime-flag hooks-dir cgroupns ipc uts pid userns compat-volumes rm storage-driver root
		signature-policy stage-labels save-stages`,
	"N7": `cpp-flag cw decryption-key sign-by pid ipc uts network`,
	"N8": `dockerfile context context-sub-path destination tar-path oci-layout-path no-push digest-file
		image-name-with-digest-file image-name-tag-with-digest-file build-arg label target custom-platform registry-mirror
		registry-map registry-certificate registry-client-cert insecure insecure-pull insecure-registry skip-tls-verify
		skip-tls-verify-pull skip-tls-verify-registry push-retry image-download-retry cache cache-repo no-push-cache
		cache-ttl reproducible single-snapshot compression compression-level verbosity log-format log-timestamp
		snapshot-mode use-new-run cleanup force ignore-var-run ignore-path cache-copy-layers cache-run-layers cache-dir
		compressed-caching kaniko-dir force-build-metadata image-fs-extract-retry skip-push-permission-check bucket`,
	"N11":   `root config log-level no-color progress timeout`,
	"other": `error-format exit-code-from-step explain ignore-syntax ignorefile hostname cpus ca network-strict best-effort-limits squash-all step-timeout`,
}

// allFlags is the set of flags that gobuild build has.
func allFlags(t *testing.T) (flags, *pflag.FlagSet) {
	t.Helper()
	f, fs := flags{}, pflag.NewFlagSet("build", pflag.ContinueOnError)
	f.register(fs, buildFlags()) // panics when a name or a letter is there twice
	f.register(fs, globalFlags())
	return f, fs
}

// rows: N2 N3 N4 N5 N6 N7 N8
func TestN_EveryFlagOfThePeersIsKnown(t *testing.T) {
	t.Parallel()
	f, _ := allFlags(t)
	for row, list := range rowFlags {
		for _, name := range strings.Fields(list) {
			if f[name] == nil {
				t.Errorf("%s: --%s is unknown", row, name)
			}
		}
	}
}

func TestN_EveryRowHasItsWords(t *testing.T) {
	t.Parallel()
	f, _ := allFlags(t)
	for name, v := range f {
		s := v.spec
		if s.text == "" {
			t.Errorf("--%s says nothing", name)
		}
		if s.kind != kindBool && s.does == yes && s.arg == "" {
			t.Errorf("--%s has no placeholder", name)
		}
		for _, value := range []string{"true", "false", "some-value"} {
			if does, text := s.verdict(value); does != yes && text == "" {
				t.Errorf("--%s=%s: a verdict without a reason", name, value)
			}
		}
	}
}

// judgeArgs parses flags as gobuild build would.
func judgeArgs(t *testing.T, env environ, args ...string) (flags, []string, error) {
	t.Helper()
	f, fs := allFlags(t)
	if err := fs.Parse(args); err != nil {
		return f, nil, flagError(err, fs)
	}
	if err := f.fromEnvironment(env); err != nil {
		return f, nil, err
	}
	notices, err := f.judge()
	return f, notices, err
}

// rows: N2 N3 N4 N5 N6 N7 N8 H16 H17
func TestN_Verdicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args   string
		notice string // part of the one notice
		err    string // part of the error
	}{
		{args: "--tag=x --no-cache"},
		{args: "--rm", notice: "--rm has no effect"},
		{args: "--rm=false", notice: "--rm has no effect"},
		{args: "--force-rm", notice: "--force-rm"},
		{args: "--isolation=default", notice: "--isolation=default has no effect"},
		{args: "--isolation=hyperv", err: "--isolation=hyperv is not supported"},
		{args: "--isolation=chroot", err: "is not supported yet"},
		{args: "--identity-label", err: "--identity-label is not supported yet"},
		{args: "--identity-label=false"},
		{args: "--provenance=false --sbom=false"},
		{args: "--call=build"},
		{args: "--call=check"},
		{args: "--call=outline,format=json"},
		{args: "--call=targets"},
		{args: "--call=nope", err: "the methods are build, check, outline and targets"},
		{args: "--format=oci"},
		{args: "--format=docker", err: "not supported yet"},
		{args: "--layers"},
		{args: "--layers=false"},
		{args: "--tls-verify=false"},
		{args: "--security-opt=apparmor=unconfined", notice: "no effect"},
		{args: "--security-opt=label=level:s0", err: "not supported"},
		{args: "--security-opt=credentialspec=x", notice: "no effect"},
		{args: "--pid=private", notice: "no effect"},
		{args: "--pid=host", err: "not supported"},
		{args: "--network=host"},
		{args: "--network=bridge"},
		{args: "--network=container:web", err: "no daemon"},
		{args: "--network=container:12"},
		{args: "--network=container:012", err: "no daemon"},
		{args: "--network=ns:/run/netns/x"},
		{args: "--network=ns:x", err: "absolute path"},
		{args: "--network=hots", err: "default, bridge, host, none"},
		{args: "--add-host=a:host-gateway"},
		{args: "--print=outline", err: "not supported"},
		{args: "-d=x", err: "not supported yet"},
		{args: "--cpp-flag=-DX", err: "run cpp"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			_, notices, err := judgeArgs(t, nil, strings.Fields(tt.args)...)
			if tt.err == "" && err != nil {
				t.Fatalf("error %v", err)
			}
			if tt.err != "" {
				var h interface{ Remedy() string }
				if err == nil || !errors.As(err, &h) || !strings.Contains(err.Error()+" "+h.Remedy(), tt.err) {
					t.Fatalf("error %v, want one with %q and a remedy", err, tt.err)
				}
				if exitCode(err) != exitUsage {
					t.Errorf("exit code %d", exitCode(err))
				}
			}
			switch {
			case tt.notice == "" && len(notices) > 0:
				t.Errorf("notices %q", notices)
			case tt.notice != "" && (len(notices) != 1 || !strings.Contains(notices[0], tt.notice)):
				t.Errorf("notices %q, want one with %q", notices, tt.notice)
			}
		})
	}
}

func TestN1_FlagWinsOverEnvironment(t *testing.T) {
	t.Parallel()
	env := environ{"GOBUILD_TARGET": "env", "GOBUILD_NO_CACHE": "1", "GOBUILD_TAG": "a\nb", "GOBUILD_FILE": ""}
	f, _, err := judgeArgs(t, env, "--target", "flag")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.str("target"); got != "flag" {
		t.Errorf("target is %q", got)
	}
	if !f.is("no-cache") {
		t.Error("GOBUILD_NO_CACHE=1 is not heard")
	}
	if got := f.list("tag"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("tags are %q", got)
	}
	if f.given("file") {
		t.Error("an empty variable counts")
	}
	if got := f.settings(); !slices.Contains(got, "--target=flag (command line)") || !slices.Contains(got, "--no-cache=true (environment)") {
		t.Errorf("settings %q", got)
	}
}

func TestN1_EnvironmentIsJudgedAndNamed(t *testing.T) {
	t.Parallel()
	_, _, err := judgeArgs(t, environ{"GOBUILD_IDENTITY_LABEL": "true"})
	if err == nil || !strings.Contains(err.Error(), "GOBUILD_IDENTITY_LABEL") {
		t.Errorf("error %v", err)
	}
	_, _, err = judgeArgs(t, environ{"GOBUILD_NO_CACHE": "perhaps"})
	if err == nil || exitCode(err) != exitUsage {
		t.Errorf("error %v", err)
	}
}

func TestDebug_SettingsHideValues(t *testing.T) {
	t.Parallel()
	f, _, err := judgeArgs(t, nil, "--build-arg", "TOKEN=hunter2", "--secret", "id=x,src=y", "--label", "a=b", "--creds", "me:hunter2")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.settings(), " "); strings.Contains(got, "hunter2") || !strings.Contains(got, "TOKEN") {
		t.Errorf("settings %q", got)
	}
}

func TestN1_FlagForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		name string
		want []string
	}{
		{[]string{"--pull", "x"}, "pull", []string{"always"}},
		{[]string{"--pull=never"}, "pull", []string{"never"}},
		{[]string{"-t", "a", "-tb", "--tag=c"}, "tag", []string{"a", "b", "c"}},
		{[]string{"--target", "a", "--target", "b"}, "target", []string{"b"}},
		{[]string{"--no-cache", "false"}, "no-cache", []string{"true"}},
		{[]string{"--no-cache=0"}, "no-cache", []string{"false"}},
		{[]string{"-qt", "a"}, "quiet", []string{"true"}},
		{[]string{".", "--push"}, "push", []string{"true"}},
		{[]string{"--ssh", "default"}, "ssh", []string{"default"}},
		{[]string{"--load"}, "load", []string{"auto"}},
		{[]string{"-m", "1g"}, "memory", []string{"1g"}},
		{[]string{"-c=5"}, "cpu-shares", []string{"5"}},
	}
	for _, tt := range tests {
		f, _, err := judgeArgs(t, nil, tt.args...)
		if err != nil || !slices.Equal(f.list(tt.name), tt.want) {
			t.Errorf("%q: --%s is %q, %v", tt.args, tt.name, f.list(tt.name), err)
		}
	}
}

func TestF2_UnknownFlagsGetASuggestion(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"--tga":          "--tag",
		"--build-ag=x":   "--build-arg",
		"--nocache":      "--no-cache",
		"--zzzzzzzzzzz":  "gobuild help build",
		"--metadatafile": "--metadata-file",
	} {
		_, _, err := judgeArgs(t, nil, arg)
		var h interface{ Remedy() string }
		if err == nil || !errors.As(err, &h) || !strings.Contains(h.Remedy(), want) || exitCode(err) != exitUsage {
			t.Errorf("%s: %v, want a hint with %q", arg, err, want)
		}
	}
	for _, arg := range []string{"-Z", "--no-cache=maybe", "--target"} {
		if _, _, err := judgeArgs(t, nil, arg); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"build", "plan", "prune", "push", "pull"}
	for in, want := range map[string]string{"biuld": "build", "pusj": "push", "xyzzy": "", "b": "", "prun": "prune", "": ""} {
		if got := nearest(in, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
