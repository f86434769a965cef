package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gobuild/builder"
	"gobuild/ui"
)

// newApp is an app without a terminal, in the given environment.
func newApp(t *testing.T, env environ) *app {
	t.Helper()
	if env == nil {
		env = environ{}
	}
	if env["HOME"] == "" {
		env["HOME"] = t.TempDir()
	}
	a := &app{env: env, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	a.printer = ui.New(a.stderr, ui.Options{})
	return a
}

// options parses flags into builder options.
func options(t *testing.T, env environ, args ...string) (builder.Options, error) {
	t.Helper()
	a := newApp(t, env)
	f, _, err := judgeArgs(t, a.env, args...)
	if err != nil {
		return builder.Options{}, err
	}
	return a.buildOptions(f)
}

// wantUsage fails unless err is a usage error with the text in it or in its remedy.
func wantUsage(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", text)
	}
	full := err.Error()
	var h interface{ Remedy() string }
	if errors.As(err, &h) {
		full += "\n" + h.Remedy()
	}
	if !strings.Contains(full, text) {
		t.Errorf("error %q, want one with %q", full, text)
	}
	if exitCode(err) != exitUsage {
		t.Errorf("exit code %d for %v", exitCode(err), err)
	}
}

func TestB6_BuildArgs(t *testing.T) {
	t.Parallel()
	env := environ{"FROM_ENV": "e", "HTTP_PROXY": "http://env", "http_proxy": "http://env"}
	opt, err := options(t, env, "--build-arg", "A=1", "--build-arg", "A=2", "--build-arg", "FROM_ENV",
		"--build-arg", "NOT_SET", "--build-arg", "EMPTY=", "--build-arg", "EQ=a=b")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "2", "FROM_ENV": "e", "EMPTY": "", "EQ": "a=b"}
	if diff := cmp.Diff(want, opt.BuildArgs); diff != "" {
		t.Errorf("build args (-want +got):\n%s", diff)
	}
	if len(opt.ProxyArgs) != 0 {
		t.Errorf("the environment's proxy is passed unasked: %v", opt.ProxyArgs)
	}
	_, err = options(t, nil, "--build-arg", "=x")
	wantUsage(t, err, "NAME=VALUE")
}

func TestB9_Proxies(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := `{"proxies":{"default":{"httpProxy":"http://conf","noProxy":"conf"}}}`
	if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environ{"HOME": home, "https_proxy": "http://env", "HTTP_PROXY": "http://env"}
	opt, err := options(t, env, "--http-proxy", "--build-arg", "no_proxy=arg")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"HTTP_PROXY": "http://conf", "http_proxy": "http://conf",
		"HTTPS_PROXY": "http://env", "https_proxy": "http://env",
		"NO_PROXY": "arg", "no_proxy": "arg",
	}
	if diff := cmp.Diff(want, opt.ProxyArgs); diff != "" {
		t.Errorf("proxies (-want +got):\n%s", diff)
	}
}

func TestBuildArgFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "args")
	if err := os.WriteFile(file, []byte("# comment\nA=1\n\n B=two words \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opt, err := options(t, nil, "--build-arg-file", file, "--build-arg", "A=flag")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "flag", "B": "two words"}, opt.BuildArgs); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(file, []byte("A=1\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = options(t, nil, "--build-arg-file", file)
	wantUsage(t, err, ":2: want NAME=VALUE")
}

func TestK8_TagsAreCheckedAndCompleted(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "-t", "app", "-t", "example.com:5000/a/b:v1", "-t", "docker.io/library/app:latest")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"docker.io/library/app:latest", "example.com:5000/a/b:v1"}, opt.Tags); diff != "" {
		t.Error(diff)
	}
	for tag, text := range map[string]string{
		"":       "invalid image name",
		"App":    "use app",
		"a:b:c":  "invalid",
		"a b":    "invalid",
		"app:-x": "invalid",
		"app@sha256:0000000000000000000000000000000000000000000000000000000000000000": "digest",
		"0000000000000000000000000000000000000000000000000000000000000000":            "invalid",
		strings.Repeat("a", 300): "invalid",
	} {
		_, err := options(t, nil, "-t", tag)
		wantUsage(t, err, text)
	}
}

func TestL1_Platform(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		env  environ
		want string
		fail string
	}{
		{args: nil, want: ""},
		{args: []string{"--platform=aarch64"}, want: "linux/arm64"},
		{args: []string{"--platform=linux/arm64/v8,linux/arm64"}, want: "linux/arm64"},
		{args: []string{"--platform=linux/arm"}, want: "linux/arm/v7"},
		{args: []string{"--arch=arm64"}, want: "linux/arm64"},
		{args: []string{"--arch=arm", "--variant=v6"}, want: "linux/arm/v6"},
		{env: environ{"DOCKER_DEFAULT_PLATFORM": "linux/s390x"}, want: "linux/s390x"},
		{args: []string{"--platform=linux/amd64"}, env: environ{"DOCKER_DEFAULT_PLATFORM": "linux/s390x"}, want: "linux/amd64"},
		{args: []string{"--platform=linux/s390x,linux/amd64,linux/aarch64,linux/s390x"}, want: "linux/s390x linux/amd64 linux/arm64"},
		{args: []string{"--platform=linux/arm64", "--platform=linux/amd64"}, want: "linux/arm64 linux/amd64"},
		{env: environ{"DOCKER_DEFAULT_PLATFORM": "linux/s390x,linux/arm64"}, want: "linux/s390x linux/arm64"},
		{args: []string{"--platform=linux/amd64,windows/amd64"}, fail: "only linux"},
		{args: []string{"--platform=windows/amd64"}, fail: "only linux"},
		{args: []string{"--platform=a/b/c/d"}, fail: "--platform=a/b/c/d"},
		{args: []string{"--platform=linux/amd64", "--arch=arm64"}, fail: "excludes"},
	} {
		opt, err := options(t, tt.env, tt.args...)
		if tt.fail != "" {
			wantUsage(t, err, tt.fail)
			continue
		}
		if got := strings.Join(opt.Platforms, " "); err != nil || got != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.args, got, err, tt.want)
		}
	}
}

func TestB11_SourceDateEpoch(t *testing.T) {
	t.Parallel()
	env := func() environ { return environ{"SOURCE_DATE_EPOCH": "3"} }
	for _, tt := range []struct {
		args []string
		env  environ
		want int64
		arg  string
		fail string
	}{
		{want: -1},
		{env: env(), want: 3, arg: "3"},
		{args: []string{"--build-arg=SOURCE_DATE_EPOCH=2"}, env: env(), want: 2},
		{args: []string{"--source-date-epoch=1", "--build-arg=SOURCE_DATE_EPOCH=2"}, env: env(), want: 1, arg: "1"},
		{args: []string{"--timestamp=0"}, env: env(), want: 0},
		{args: []string{"--source-date-epoch=context"}, want: -1, arg: "context"},
		{args: []string{"--source-date-epoch=yesterday"}, want: -1, arg: "yesterday"},
		{args: []string{"--build-arg=SOURCE_DATE_EPOCH="}, env: env(), want: -1},
		{args: []string{"--source-date-epoch=-1"}, fail: "seconds since 1970"},
		{args: []string{"--source-date-epoch=99999999999999"}, fail: "seconds since 1970"},
		{args: []string{"--source-date-epoch=1", "--timestamp=2"}, fail: "differ"},
	} {
		opt, err := options(t, tt.env, tt.args...)
		switch {
		case tt.fail != "":
			wantUsage(t, err, tt.fail)
		case err != nil:
			t.Errorf("%q: %v", tt.args, err)
		case tt.want < 0 && opt.SourceDateEpoch != nil, tt.want >= 0 && (opt.SourceDateEpoch == nil || !opt.SourceDateEpoch.Equal(time.Unix(tt.want, 0))):
			t.Errorf("%q: %v, want %d", tt.args, opt.SourceDateEpoch, tt.want)
		case tt.arg != "" && opt.BuildArgs["SOURCE_DATE_EPOCH"] != tt.arg:
			t.Errorf("%q: the argument is %q", tt.args, opt.BuildArgs)
		}
	}
}

func TestJ2_PullPolicy(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]builder.PullPolicy{
		"": builder.PullMissing, "--pull": builder.PullAlways, "--pull=true": builder.PullAlways, "--pull=false": builder.PullMissing,
		"--pull=missing": builder.PullMissing, "--pull=always": builder.PullAlways, "--pull=newer": builder.PullNewer, "--pull=never": builder.PullNever,
	} {
		opt, err := options(t, nil, strings.Fields(arg)...)
		if err != nil || opt.Pull != want {
			t.Errorf("%q: %q, %v", arg, opt.Pull, err)
		}
	}
	_, err := options(t, nil, "--pull=sometimes")
	wantUsage(t, err, "missing, always, newer or never")
}

func TestC12_NamedContexts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opt, err := options(t, nil, "--build-context", "base="+dir, "--build-context", "lay=oci-layout://"+dir+":tag",
		"--build-context", "img=docker-image://alpine:3", "--build-context", "pod=container-image://alpine",
		"--build-context", "g=https://x/y.git#main", "--build-context", "s=git@host:x", "--build-context", "h=github.com/a/b", "--build-context", "t=target:Build", "--build-context", "p::linux/arm64=http://x/f")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"base": dir, "lay": "oci-layout://" + dir + ":tag", "img": "docker-image://alpine:3", "pod": "docker-image://alpine",
		"g": "https://x/y.git#main", "s": "git@host:x", "h": "github.com/a/b", "t": "target:Build", "p::linux/arm64": "http://x/f"}
	if diff := cmp.Diff(want, opt.Contexts); diff != "" {
		t.Error(diff)
	}
	for arg, text := range map[string]string{
		"base":                   "NAME=SOURCE",
		"=x":                     "NAME=SOURCE",
		"base=":                  "NAME=SOURCE",
		"scratch=" + dir:         "cannot be replaced",
		"base=/does/not/exist":   "no such file",
		"base=target:":           "target:STAGE",
		"base=ftp://x":           "unknown kind of source ftp://",
		"base=docker-image://A ": "has capitals",
		"base=oci-layout://":     "oci-layout://DIR",
	} {
		_, err := options(t, nil, "--build-context", arg)
		wantUsage(t, err, text)
	}
}

func TestN2_Allow(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "--allow", "network.host,security.insecure", "--allow", "device=/dev/kvm", "--allow=device,fs.read=/a,fs.write=/b,fs=*,ssh,onbuild.secret,onbuild.ssh")
	if want := []string{"network.host", "security.insecure", "device=/dev/kvm", "device", "onbuild.secret", "onbuild.ssh"}; err != nil || !slices.Equal(opt.Allow, want) {
		t.Fatalf("%q, %v", opt.Allow, err)
	}
	for arg, text := range map[string]string{
		"network.hots": "did you mean network.host", "device=": "want device=NAME", "fs.read": "want fs.read=NAME", "everything": "entitlements are network.host",
		"security.insecure=yes": "has no value", "onbuild.ssh=x": "has no value", "onbuild.secrets": "did you mean onbuild.secret", "devices=x": "did you mean device",
	} {
		_, err := options(t, nil, "--allow", arg)
		wantUsage(t, err, text)
	}
}

func TestG11_Capabilities(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "--cap-add=CAP_SYS_NICE,chown", "--cap-add=SYS_NICE", "--cap-drop=all")
	if err != nil || !slices.Equal(opt.Run.CapAdd, []string{"CHOWN", "SYS_NICE"}) || !slices.Equal(opt.Run.CapDrop, []string{"ALL"}) {
		t.Errorf("%+v, %v", opt.Run, err)
	}
	if opt, err := options(t, nil, "--cap-add=SYS_ADMIN", "--allow=security.insecure"); err != nil || len(opt.Run.CapAdd) != 1 {
		t.Errorf("%+v, %v", opt.Run, err)
	}
	for arg, text := range map[string]string{
		"--cap-add=SYS_ADMIN": "add --allow security.insecure", "--cap-add=ALL": "add --allow security.insecure", "--cap-add=FLY": `unknown capability "FLY"`, "--cap-drop=FLY": "FLY",
	} {
		_, err := options(t, nil, arg)
		wantUsage(t, err, text)
	}
}

func TestG11_SecurityOptions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want builder.RunOptions
	}{
		{[]string{"--security-opt=no-new-privileges"}, builder.RunOptions{NoNewPrivileges: true}},
		{[]string{"--security-opt=no-new-privileges:false"}, builder.RunOptions{}},
		{[]string{"--security-opt=seccomp=unconfined", "--allow=security.insecure"}, builder.RunOptions{SeccompNone: true}},
		{[]string{"--security-opt", "seccomp:" + file, "--allow=security.insecure"}, builder.RunOptions{Seccomp: "{}"}},
		{[]string{"--security-opt=seccomp=unconfined", "--security-opt=seccomp=default", "--allow=security.insecure"}, builder.RunOptions{}},
		{[]string{"--no-hosts", "--dns=none"}, builder.RunOptions{NoHosts: true, DNSNone: true}},
	} {
		tc.want.Network = "default"
		opt, err := options(t, nil, tc.args...)
		if err != nil || !reflect.DeepEqual(opt.Run, tc.want) {
			t.Errorf("%q: %+v, %v", tc.args, opt.Run, err)
		}
	}
	for args, text := range map[string]string{
		"--security-opt=no-new-privileges=maybe": "true or false", "--security-opt=seccomp=unconfined": "add --allow security.insecure",
		"--allow=security.insecure --security-opt=seccomp=/no/such": "no such file", "--dns=none --dns=1.1.1.1": "excludes", "--no-hosts --add-host=a:1.1.1.1": "excludes",
	} {
		_, err := options(t, nil, strings.Fields(args)...)
		wantUsage(t, err, text)
	}
}

func TestM8_Secrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, big := filepath.Join(dir, "file"), filepath.Join(dir, "big")
	if err := os.WriteFile(file, []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(big, make([]byte, maxSecret+1), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environ{"TOKEN": "hunter2", "BIG": strings.Repeat("x", maxSecret+1)}
	opt, err := options(t, env, "--secret", "id=a,src="+file, "--secret", "id=b,env=TOKEN", "--secret", "id=TOKEN",
		"--secret", "id=c,type=env,src=TOKEN", "--secret", "id=d,type=file,source="+file)
	if err != nil {
		t.Fatal(err)
	}
	data := builder.SecretSource{Data: []byte("hunter2")}
	want := map[string]builder.SecretSource{"a": {File: file}, "b": data, "TOKEN": data, "c": data, "d": {File: file}}
	if diff := cmp.Diff(want, opt.Secrets); diff != "" {
		t.Error(diff)
	}
	for arg, text := range map[string]string{
		"src=x":                    "id is missing",
		"id=":                      "has no value",
		"id=x,srd=y":               "did you mean src",
		"id=x,src=/does/not/exist": "no such file",
		"id=x,src=" + dir:          "is a directory",
		"id=x,src=" + big:          "longer than",
		"id=x,env=BIG":             "longer than",
		"id=x,env=NOPE":            "variable NOPE is not set",
		"id=x,env=A,src=B":         "exclude",
		"id=x,type=smoke":          "file or env",
		"id=x,type=file,env=TOKEN": "not env",
		"id=nosuchfile":            "no such file",
		"id=x,id=y":                "given twice",
		`id="x`:                    "--secret",
	} {
		_, err := options(t, environ{"TOKEN": "hunter2", "BIG": env["BIG"]}, "--secret", arg)
		wantUsage(t, err, text)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the value is in the error", arg)
		}
	}
	_, err = options(t, env, "--secret", "id=a,src="+file, "--secret", "id=a,src="+file)
	wantUsage(t, err, "given twice")
}

func TestN2_SSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	opt, err := options(t, environ{"SSH_AUTH_SOCK": sock}, "--ssh", "default", "--ssh", "other="+sock)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"default": sock, "other": sock}, opt.SSH); diff != "" {
		t.Error(diff)
	}
	_, err = options(t, nil, "--ssh", "default")
	wantUsage(t, err, "SSH_AUTH_SOCK is not set")
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = options(t, nil, "--ssh", "default="+key)
	wantUsage(t, err, "keys as files are not supported yet")
}

func TestG14_BlockDevices(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "--blkio-weight=300", "--device-read-bps=/dev/sda:5m", "--device-read-bps=/dev/sda:10m", "--device-write-iops=/dev/a:b:7")
	want := []builder.BlockRate{{Device: "/dev/sda", Kind: "read-bps", Rate: 10 << 20}, {Device: "/dev/a:b", Kind: "write-iops", Rate: 7}}
	if err != nil || opt.Run.BlockWeight != 300 || !reflect.DeepEqual(opt.Run.BlockRates, want) {
		t.Errorf("%+v, %v", opt.Run, err)
	}
	for arg, text := range map[string]string{
		"--blkio-weight=9": "10 to 1000", "--device-read-bps=/dev/sda": "want /dev/NAME:RATE", "--device-read-bps=sda:1m": "want /dev/NAME:RATE",
		"--device-write-bps=/dev/sda:fast": "not a rate", "--device-read-iops=/dev/sda:1m": "not a rate", "--device-write-iops=/dev/sda:0": "not a rate",
	} {
		_, err := options(t, nil, arg)
		wantUsage(t, err, text)
	}
}

func TestG10_DevicesMustBeAllowed(t *testing.T) {
	t.Parallel()
	for _, allow := range []string{"device", "device=/dev/zero", "device=/dev/zero:/dev/z:r"} {
		if opt, err := options(t, nil, "--device=/dev/zero:/dev/z:r", "--allow="+allow); err != nil || len(opt.Run.Devices) != 1 {
			t.Errorf("--allow=%s: %+v, %v", allow, opt.Run.Devices, err)
		}
	}
	if opt, err := options(t, nil, "--device=v.com/c=n", "--allow=device=v.com/c"); err != nil || len(opt.Run.Devices) != 1 {
		t.Errorf("%+v, %v", opt.Run.Devices, err)
	}
	for args, text := range map[string]string{
		"--device=/dev/zero": "add --allow device", "--device=/dev/zero --allow=device=/dev/null": "add --allow device", "--device=/etc/passwd --allow=device": "not a device", "--device=x --allow=device": "neither a path",
	} {
		_, err := options(t, nil, strings.Fields(args)...)
		wantUsage(t, err, text)
	}
}

func TestG21_StepTimeout(t *testing.T) {
	t.Parallel()
	if opt, err := options(t, nil, "--step-timeout=90s"); err != nil || opt.Run.StepTimeout != 90*time.Second {
		t.Errorf("%v, %v", opt.Run.StepTimeout, err)
	}
	for _, arg := range []string{"10", "-1s", "0s", "soon"} {
		_, err := options(t, nil, "--step-timeout="+arg)
		wantUsage(t, err, "want a duration")
	}
}

func TestG15_CgroupParent(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"/a/b": "/a/b", "a/b/": "/a/b", "builds.slice": "/builds.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "/x/a-b.slice": "/x/a-b.slice",
	} {
		if opt, err := options(t, nil, "--cgroup-parent", arg); err != nil || opt.Run.CgroupParent != want {
			t.Errorf("%s: %q, %v", arg, opt.Run.CgroupParent, err)
		}
	}
	for _, arg := range []string{"", "/", "../x", "a/../../b", "a--b.slice", "-a.slice", ".slice"} {
		_, err := options(t, nil, "--cgroup-parent", arg)
		wantUsage(t, err, "--cgroup-parent")
	}
}

func TestG14_Limits(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "-m", "1g", "--memory-swap=2g", "--cpu-shares=512", "--cpu-period=100000", "--cpu-quota=50000",
		"--cpuset-cpus=0-1,3", "--cpuset-mems=0", "--pids-limit=100", "--shm-size=128m", "--ulimit=nofile=10:20", "--ulimit=nofile=30:40",
		"--ulimit=core=0", "--hostname=h", "--cgroup-parent=/x", "--best-effort-limits", "--network=private",
		"--add-host=a:1.2.3.4", "--add-host=b=[::1]", "--dns=1.1.1.1", "--dns-search=x.y", "--dns-option=ndots:1")
	if err != nil {
		t.Fatal(err)
	}
	want := builder.RunOptions{
		Network: "default", AddHosts: []string{"a:1.2.3.4", "b:::1"}, DNS: []string{"1.1.1.1"}, DNSSearch: []string{"x.y"},
		DNSOptions: []string{"ndots:1"}, Hostname: "h", ShmSize: 128 << 20, MemoryBytes: 1 << 30, MemorySwap: 2 << 30,
		Ulimits:   []builder.Ulimit{{Name: "nofile", Soft: 30, Hard: 40}, {Name: "core"}},
		CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, CpusetCPUs: "0-1,3", CpusetMems: "0", PidsLimit: 100, CgroupParent: "/x", BestEffort: true,
	}
	if diff := cmp.Diff(want, opt.Run); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	opt, err = options(t, nil, "--resource", "memory=2g,cpu-quota=50000", "--resource", "pids-limit=-1")
	if err != nil || opt.Run.MemoryBytes != 2<<30 || opt.Run.CPUQuota != 50000 || opt.Run.PidsLimit != -1 {
		t.Errorf("--resource: %+v, %v", opt.Run, err)
	}
	for arg, text := range map[string]string{
		"--memory=lots":                    "a size like",
		"--memory=0":                       "a size like",
		"--memory=-5":                      "a size like",
		"--memory=99999999999999999999g":   "a size like",
		"--memory-swap=1g":                 "needs --memory",
		"--cpus=0":                         "a number like",
		"--cpus=NaN":                       "a number like",
		"--cpus=Inf":                       "a number like",
		"--cpu-shares=1":                   "2 to 262144",
		"--cpu-period=1":                   "1000 to 1000000",
		"--cpu-quota=5":                    "from 1000",
		"--cpuset-cpus=3-1":                "a list like",
		"--cpuset-cpus=a":                  "a list like",
		"--pids-limit=-2":                  "a number",
		"--shm-size=0":                     "a size like",
		"--shm-size=x":                     "a size like",
		"--ulimit=nofile":                  "--ulimit=nofile",
		"--ulimit=smoke=1":                 "--ulimit=smoke=1",
		"--ulimit=nofile=5:1":              "--ulimit",
		"--resource=mem=1g":                "unknown key",
		"--resource=memory":                "has no value",
		"--hostname=a b":                   "host name",
		"--add-host=a":                     "NAME:IP",
		"--add-host=a:b":                   "not an IP",
		"--add-host=a:fe80::1%eth0":        "not an IP",
		"--dns=localhost":                  "IP address",
		"--dns-search=a b":                 "one word",
		"--jobs=many":                      "a number",
		"--memory=2g --memory-swap=1g":     "cannot be less",
		"--cpus=1 --cpu-quota=5000":        "excludes",
		"--memory=2g --resource=memory=1g": "given twice",
	} {
		args := strings.Split(arg, " --")
		for i := range args[1:] {
			args[i+1] = "--" + args[i+1]
		}
		_, err := options(t, nil, args...)
		wantUsage(t, err, text)
	}
}

// outputsOf parses -o and its relatives.
func outputsOf(t *testing.T, stdout io.Writer, args ...string) ([]builder.Output, bool, error) {
	t.Helper()
	a := newApp(t, nil)
	a.stdout = stdout
	f, _, err := judgeArgs(t, nil, args...)
	if err != nil {
		return nil, false, err
	}
	opt := builder.Options{}
	if err := a.fillTags(&opt, f); err != nil {
		return nil, false, err
	}
	taken, err := a.fillOutputs(&opt, f)
	return opt.Outputs, taken, err
}

func TestK1_OutputGrammar(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	none := map[string]string{}
	tests := []struct {
		args []string
		want []builder.Output
	}{
		{[]string{"-o", "/out"}, []builder.Output{{Type: "local", Dest: "/out", Attrs: none}}},
		{[]string{"-o", "-"}, []builder.Output{{Type: "tar", Dest: "-", Attrs: none, Out: &stdout}}},
		{[]string{"-o", "type=oci,dest=/a.tar"}, []builder.Output{{Type: "oci", Dest: "/a.tar", Tar: true, Attrs: none}}},
		{[]string{"-o", "type=oci,tar=false,dest=/a"}, []builder.Output{{Type: "oci", Dest: "/a", Attrs: none}}},
		{[]string{"-o", "type=docker,dest=/a.tar"}, []builder.Output{{Type: "docker", Dest: "/a.tar", Attrs: none}}},
		{[]string{"-o", "dest=/a,type=local"}, []builder.Output{{Type: "local", Dest: "/a", Attrs: none}}},
		{[]string{"-o", `type=image,"name=a,b",push=true`}, []builder.Output{{Type: "image", Attrs: map[string]string{"name": "a,b", "push": "true"}}}},
		{[]string{"-o", "type=cacheonly"}, []builder.Output{{Type: "cacheonly", Attrs: none}}},
		{[]string{"-o", "/a", "-o", "/b"}, []builder.Output{{Type: "local", Dest: "/a", Attrs: none}, {Type: "local", Dest: "/b", Attrs: none}}},
		{[]string{"-t", "x", "--push"}, []builder.Output{{Type: "registry", Attrs: none}}},
		{[]string{"-t", "x", "--push", "-o", "type=image,compression=zstd"}, []builder.Output{{Type: "registry", Attrs: map[string]string{"compression": "zstd"}}}},
		{[]string{"--push=false"}, nil},
	}
	for _, tt := range tests {
		got, taken, err := outputsOf(t, &stdout, tt.args...)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		same := cmp.Comparer(func(a, b io.Writer) bool { return a == b })
		if diff := cmp.Diff(tt.want, got, same); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.args, diff)
		}
		if want := len(got) == 1 && got[0].Dest == "-"; taken != want {
			t.Errorf("%q: standard output taken: %v", tt.args, taken)
		}
	}
}

func TestK1_BadOutputs(t *testing.T) {
	t.Parallel()
	for arg, text := range map[string]string{
		"-o ":                                   "want a directory",
		"-o type=":                              "type= is missing",
		"-o type=ocy,dest=x":                    "did you mean oci",
		"-o type=oci":                           "needs a destination",
		"-o type=tar":                           "dest=- for standard output",
		"-o type=local":                         "dest=DIRECTORY",
		"-o type=local,dest=-":                  "cannot be written to standard output",
		"-o type=oci,tar=false,dest=-":          "cannot be written to standard output",
		"-o type=image,dest=x":                  "has no destination",
		"-o type=oci,dest=x,tar=perhaps":        "true or false",
		"-o type=docker,dest=x,tar=false":       "tar=false is for type=oci",
		"-o type=oci,dest=a,dest=b":             "given twice",
		"-o type=oci,type=tar":                  "given twice",
		"-o type=oci,dest=a,compression":        "not key=value",
		"-o dest=x,mode=copy":                   "type= is missing",
		"-o a -o ./a":                           "same destination",
		"-o type=tar,dest=a -o type=oci,dest=a": "same destination",
		"-o - -o type=oci,dest=-":               "same destination",
		"-q -o -":                               "exclude",
		"--push":                                "--push needs a name",
		"-t x --push -o type=image,push=false":  "exclude",
		"--push -o type=image,compression=gzip": "--push needs a name",
	} {
		args := strings.Split(arg, " ")
		_, _, err := outputsOf(t, io.Discard, args...)
		wantUsage(t, err, text)
	}
}

func TestK5_PushTakesANameFromTheOutput(t *testing.T) {
	t.Parallel()
	got, _, err := outputsOf(t, io.Discard, "--push", "-o", "type=image,name=x")
	if err != nil || len(got) != 1 || got[0].Type != "registry" {
		t.Errorf("%+v, %v", got, err)
	}
}
