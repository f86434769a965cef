package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if numbers := os.Getenv(injectEnv); numbers != "" {
		fmt.Fprintln(os.Stderr, "inject:", becomeInjected(numbers))
		return 125
	}
	dir, err := os.MkdirTemp("", "gobuild-acceptance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gobuild")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "gobuild/cmd/build")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build gobuild: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is a context, a state directory and a place for outputs.
type world struct {
	t               *testing.T
	dir, root, work string
	env             []string
}

// baseDockerfile makes a stage with a shell from the static busybox of the host.
const baseDockerfile = `FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && /bin/mkdir -p /tmp /etc && echo root:x:0:0::/root:/bin/sh > /etc/passwd"]
`

func newWorld(t *testing.T, dockerfile string, files map[string]string) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and overlay mounts")
	}
	top := t.TempDir()
	w := &world{t: t, dir: filepath.Join(top, "context"), root: filepath.Join(top, "state"), work: filepath.Join(top, "work")}
	for _, d := range []string{w.dir, w.work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write("Dockerfile", dockerfile)
	for name, text := range files {
		w.write(name, text)
	}
	if strings.Contains(dockerfile, "busybox") {
		data, err := os.ReadFile("/bin/busybox")
		if err != nil {
			t.Skip("needs the package busybox-static: ", err)
		}
		w.write("busybox", string(data))
		if err := os.Chmod(filepath.Join(w.dir, "busybox"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	full := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// outcome is what a run of the binary gave.
type outcome struct {
	code           int
	stdout, stderr string
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--root", w.root, "--network", "none"}, args...)...)
	cmd.Dir = w.work
	cmd.Env = append(os.Environ(), w.env...)
	return cmd
}

func (w *world) run(cmd *exec.Cmd) outcome {
	w.t.Helper()
	return w.runThen(cmd, func() {})
}

// runThen calls started as soon as the process is there.
func (w *world) runThen(cmd *exec.Cmd, started func()) outcome {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	started()
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	o := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if strings.Contains(o.stderr, "goroutine ") {
		w.t.Errorf("a Go trace reached the user:\n%s", o.stderr)
	}
	return o
}

// build must succeed.
func (w *world) build(args ...string) outcome {
	w.t.Helper()
	o := w.run(w.command(append(args, w.dir)...))
	if o.code != 0 {
		w.t.Fatalf("exit code %d:\n%s", o.code, o.stderr)
	}
	return o
}

// layers are the digests of an image in a layout directory, manifest first.
func layers(t *testing.T, layout string) (manifest string, list []string) {
	t.Helper()
	var index struct{ Manifests []struct{ Digest string } }
	readJSON(t, filepath.Join(layout, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%d manifests in the index", len(index.Manifests))
	}
	manifest = index.Manifests[0].Digest
	var m struct{ Layers []struct{ Digest string } }
	readJSON(t, filepath.Join(layout, "blobs", strings.ReplaceAll(manifest, ":", "/")), &m)
	for _, l := range m.Layers {
		list = append(list, l.Digest)
	}
	return manifest, list
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// leftovers are the mounts and cgroups that exist, for a comparison of before and after. A group whose process lives is in use: by tests
// that run at the same time.
func leftovers(t *testing.T) string {
	t.Helper()
	var groups []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(p, "gobuild") && !ofLiving(d.Name()) {
			groups = append(groups, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ownMounts(t) + strings.Join(groups, "\n")
}

// ofLiving says whether a step's cgroup, gobuild-step-PID-RANDOM-NUMBER, is that of a process which is there.
func ofLiving(group string) bool {
	rest, ok := strings.CutPrefix(group, "gobuild-step-")
	number, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(number)
	return ok && err == nil && pid > 0 && syscall.Kill(pid, 0) == nil
}

// processes are those whose environment has the mark.
func processes(t *testing.T, mark string) []string {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, p := range list {
		if data, err := os.ReadFile(p); err == nil && bytes.Contains(data, []byte(mark)) {
			found = append(found, filepath.Dir(p))
		}
	}
	return found
}

// A fully cached build reads metadata only: no mount, no process, no layer's directory (but the note beside it that
// says it is whole, and the folder of interrupted work), no file of the context but the Dockerfile and the ignore file.
func TestCachedBuildTouchesNothing(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs the package strace")
	}
	w := newWorld(t, baseDockerfile+`FROM base AS builder
ARG V=1
WORKDIR /src
COPY go.mod ./
RUN cat go.mod
COPY . .
RUN cat main.go > /app
FROM base
RUN echo app:x:7:7::/:/bin/sh >> /etc/passwd
COPY --from=builder /app /bin/app
EXPOSE 8080
USER app
CMD ["/bin/app"]
`, map[string]string{"go.mod": "module x\n", "main.go": "package main\n", "docs/a.md": "text\n", ".dockerignore": "docs\n"})
	w.env = []string{"SOURCE_DATE_EPOCH=1700000000"} // files were written this second: their digests are kept only when they are older
	old := time.Unix(1700000000, 0)
	for _, name := range []string{"go.mod", "main.go", "busybox", "Dockerfile"} {
		if err := os.Chtimes(filepath.Join(w.dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2100 * time.Millisecond) // a change time cannot be set: it must be older than the granularity rule
	first := w.build("-t", "app")
	second := w.build("-t", "app")
	if first.stdout != second.stdout {
		t.Fatalf("the cached build gives %s, the first gave %s", second.stdout, first.stdout)
	}
	log := filepath.Join(w.work, "strace")
	cmd := w.command("-t", "app", w.dir)
	traced := exec.Command(strace, append([]string{"-f", "-y", "-qq", "-o", log, "-e", "trace=mount,fsopen,fsmount,move_mount,open_tree,unshare,setns,execve,clone,clone3,openat,openat2,open"}, cmd.Args...)...)
	traced.Dir, traced.Env = cmd.Dir, cmd.Env
	if o := w.run(traced); o.code != 0 || o.stdout != first.stdout {
		t.Fatalf("exit code %d:\n%s", o.code, o.stderr)
	}
	checkTrace(t, w, log)
}

var opened = regexp.MustCompile(`^\d+ +open(?:at2?)?\(.*\) = \d+<([^>]*)>`)

func checkTrace(t *testing.T, w *world, log string) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	execs := 0
	read := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		_, call, _ := strings.Cut(line, " ")
		call = strings.TrimSpace(call)
		for _, banned := range []string{"mount(", "fsopen(", "fsmount(", "move_mount(", "open_tree(", "unshare(", "setns("} {
			if strings.HasPrefix(call, banned) {
				t.Errorf("a cached build calls %s", call)
			}
		}
		if strings.HasPrefix(call, "execve(") {
			execs++
		}
		if m := opened.FindStringSubmatch(line); m != nil && !strings.Contains(line, "O_PATH") && !strings.Contains(line, "O_DIRECTORY") {
			read[m[1]] = true
		}
	}
	if execs != 1 {
		t.Errorf("a cached build starts %d programs, want itself alone", execs)
	}
	for name := range read {
		if strings.HasPrefix(name, w.root+"/snapshots") && !strings.HasSuffix(name, "/meta") && !strings.HasSuffix(name, "/work") && !strings.HasSuffix(name, "/snapshots/pins") {
			t.Errorf("a cached build opens %s", name)
		}
		if rel, err := filepath.Rel(w.dir, name); err == nil && !strings.HasPrefix(rel, "..") && rel != "." && rel != "Dockerfile" && rel != ".dockerignore" {
			t.Errorf("a cached build reads %s of the context", rel)
		}
	}
	if !read[filepath.Join(w.dir, "Dockerfile")] {
		t.Errorf("the trace does not show the Dockerfile being read: is the pattern right?\n%s", data[:min(len(data), 2000)])
	}
}

// Equal inputs give equal layers on any number of cores, and with SOURCE_DATE_EPOCH equal images.
//
// rows: H15 H14
func TestDigestsDependOnInputsAlone(t *testing.T) {
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("tree/%d/%d.txt", i%7, i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), i*20)
	}
	files["big"] = strings.Repeat("0123456789abcdef", 400_000)
	w := newWorld(t, "FROM scratch\nCOPY tree /tree\nCOPY big /data/\nCOPY --chown=3:4 --chmod=640 tree/1 /other/\nLABEL a=b\n", files)
	var manifests []string
	var first []string
	for i, env := range [][]string{{"GOMAXPROCS=1", "SOURCE_DATE_EPOCH=1700000000"}, {"GOMAXPROCS=8", "SOURCE_DATE_EPOCH=1700000000"}, {}} {
		w.env = env
		w.root = filepath.Join(w.work, fmt.Sprintf("state-%d", i))
		out := filepath.Join(w.work, fmt.Sprintf("layout-%d", i))
		w.build("-o", "type=oci,tar=false,dest="+out)
		manifest, list := layers(t, out)
		manifests = append(manifests, manifest)
		if i == 0 {
			first = list
		}
		if len(list) != 3 || i == 1 && !slices.Equal(list, first) {
			t.Errorf("build %d has layers %v, the first has %v", i, list, first)
		}
	}
	if manifests[0] != manifests[1] {
		t.Errorf("manifests differ with SOURCE_DATE_EPOCH: %v", manifests)
	}
}

func TestCopyLayersAreEqualWithoutEpoch(t *testing.T) {
	w := newWorld(t, "FROM scratch\nCOPY tree /a/b/\nCOPY tree/x /y\n", map[string]string{"tree/x": "1", "tree/d/z": "22"})
	var first []string
	for i, procs := range []string{"GOMAXPROCS=1", "GOMAXPROCS=2"} {
		w.env = []string{procs}
		w.root = filepath.Join(w.work, fmt.Sprintf("state-%d", i))
		out := filepath.Join(w.work, fmt.Sprintf("layout-%d", i))
		w.build("-o", "type=oci,tar=false,dest="+out)
		_, list := layers(t, out)
		if first == nil {
			first = list
		} else if !slices.Equal(first, list) {
			t.Errorf("%v, then %v", first, list)
		}
	}
}

// Each failure has its exit code, its place and its remedy, and leaves nothing behind.
//
// rows: F1 F4
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		name, dockerfile string
		args             []string
		code             int
		want             []string
	}{
		{"a Dockerfile that does not parse", "FROM scratch\nCOPPY a /\n", nil, 2, []string{"Dockerfile:2", "COPPY", "COPY"}},
		{"a missing COPY source", "FROM scratch\nCOPY app.go /\n", nil, 2, []string{"Dockerfile:2", "app.go", "hint:"}},
		{"an ignored COPY source", "FROM scratch\nCOPY secret.txt /\n", nil, 2, []string{"Dockerfile:2", "secret.txt", ".dockerignore"}},
		{"an unknown stage", "FROM scratch AS build\nCOPY a /\n", []string{"--target", "biuld"}, 2, []string{"biuld", "build"}},
		{"a failing RUN", baseDockerfile + "RUN echo before; exit 7\n", nil, 1, []string{"Dockerfile:4", "exit code: 7", "before"}},
		{"a command that is not there", baseDockerfile + "RUN nosuchprogram\n", nil, 1, []string{"Dockerfile:4", "nosuchprogram", "hint:"}},
		{"an unreachable registry", "FROM 127.0.0.1:1/nothing:1\n", nil, 4, []string{"Dockerfile:1", "127.0.0.1:1", "refused"}},
		{"an unknown user", baseDockerfile + "USER nobody\nRUN id\n", nil, 1, []string{"Dockerfile:5", "nobody"}},
		{"a network that must be allowed", baseDockerfile + "RUN --network=host id\n", nil, 5, []string{"Dockerfile:4", "--allow"}},
		{"an unreachable URL", "FROM scratch\nADD http://127.0.0.1:1/x /x\n", nil, 4, []string{"Dockerfile:2", "127.0.0.1:1", "refused"}},
		{"what must be allowed", "FROM scratch\nRUN --security=insecure [\"/x\"]\n", nil, 5, []string{"Dockerfile:2", "--allow security.insecure"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.dockerfile, map[string]string{"a": "1", "secret.txt": "s", ".dockerignore": "secret*\n"})
			mark := "GOBUILD_MARK=" + filepath.Base(w.work) + tc.name
			w.env = []string{mark}
			before := leftovers(t)
			o := w.run(w.command(append(tc.args, w.dir)...))
			if o.code != tc.code {
				t.Errorf("exit code %d, want %d", o.code, tc.code)
			}
			for _, part := range tc.want {
				if !strings.Contains(o.stderr, part) {
					t.Errorf("the message lacks %q", part)
				}
			}
			if strings.Count(o.stderr, "error: ") != 1 || o.stdout != "" {
				t.Errorf("want one error and nothing on stdout, got %q", o.stdout)
			}
			if t.Failed() {
				t.Log(o.stderr)
			}
			checkClean(t, w, before, mark)
		})
	}
}

func checkClean(t *testing.T, w *world, before, mark string) {
	t.Helper()
	if after := leftovers(t); after != before {
		t.Errorf("mounts or cgroups differ:\n%s\nbefore:\n%s", after, before)
	}
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if err := os.RemoveAll(w.root); err != nil {
		t.Errorf("the state directory cannot be removed: %v", err)
	}
}

// A full disk ends with exit code 3 and says which; when there is room the same build works.
func TestFullDisk(t *testing.T) {
	w := newWorld(t, "FROM scratch\nCOPY big /\n", map[string]string{"big": strings.Repeat("x", 8<<20)})
	if err := os.Mkdir(w.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", w.root, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Skip("needs to mount a tmpfs: ", err)
	}
	defer func() {
		if err := syscall.Unmount(w.root, 0); err != nil {
			t.Errorf("something still uses the file system: %v", err)
		}
	}()
	o := w.run(w.command(w.dir))
	if o.code != 3 || !strings.Contains(o.stderr, "no space left") || !strings.Contains(o.stderr, "prune") {
		t.Errorf("exit code %d:\n%s", o.code, o.stderr)
	}
	if err := syscall.Mount("tmpfs", w.root, "tmpfs", syscall.MS_REMOUNT, "size=64m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	w.build()
}

// Ctrl-C during a RUN: exit code 130 within seconds, and no process, mount or cgroup left.
//
// rows: N11 D4
func TestInterrupt(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newWorld(t, baseDockerfile+"RUN echo started; sleep 600 & trap '' INT; sleep 600\n", nil)
			mark := fmt.Sprintf("GOBUILD_MARK=interrupt-%d-%d", os.Getpid(), code)
			w.env = []string{mark}
			before := leftovers(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := w.command("--memory", "64m", "--progress", "rawjson", w.dir)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
			var seen bytes.Buffer
			buf := make([]byte, 4096)
			for !strings.Contains(seen.String(), "started") || !strings.Contains(seen.String(), `"output"`) {
				n, err := stderr.Read(buf)
				seen.Write(buf[:n])
				if err != nil {
					t.Fatalf("ended too early: %v\n%s", err, seen.String())
				}
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_, _ = seen.ReadFrom(stderr)
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit code %d, want %d\n%s", got, code, seen.String())
			}
			checkClean(t, w, before, mark)
		})
	}
}

// Killed for its memory, a step says so with limit and peak.
//
// rows: G19
func TestOutOfMemory(t *testing.T) {
	w := newWorld(t, baseDockerfile+"RUN head -c 200m /dev/zero | tail\n", nil)
	o := w.run(w.command("--memory", "32m", "--memory-swap", "32m", w.dir))
	if o.code == 3 {
		t.Skip("needs the memory controller: ", o.stderr)
	}
	if o.code != 1 || !strings.Contains(o.stderr, "out of memory") || !strings.Contains(o.stderr, "32 MiB") || !strings.Contains(o.stderr, "--memory") {
		t.Errorf("exit code %d:\n%s", o.code, o.stderr)
	}
}

// Eight processes build one Dockerfile: the steps run once, and all get the same image.
//
// rows: I1 I19
func TestConcurrentBuildsShareSteps(t *testing.T) {
	w := newWorld(t, baseDockerfile+"RUN sleep 1; cat /proc/sys/kernel/random/uuid > /id\n", nil)
	type answer struct {
		outcome
		i int
	}
	answers := make(chan answer)
	const n = 8
	for i := range n {
		go func() { answers <- answer{w.run(w.command("-q", w.dir)), i} }()
	}
	ids := map[string]int{}
	for range n {
		a := <-answers
		if a.code != 0 {
			t.Errorf("build %d: exit code %d\n%s", a.i, a.code, a.stderr)
		}
		ids[a.stdout]++
	}
	if len(ids) != 1 {
		t.Errorf("different images: %v", ids)
	}
}
