package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// plainUserName is this program as it becomes a user who is not root, in a mount namespace of its own with other files in /etc:
//
//	gobuild-test-user DIR PROGRAM [ARG...]
//
// DIR has the files subuid and subgid, and perhaps newuidmap, that are put over the machine's.
const plainUserName = "gobuild-test-user"

func becomePlainUser() {
	dir, program := os.Args[1], os.Args[2]
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	for name, target := range map[string]string{"subuid": "/etc/subuid", "subgid": "/etc/subgid", "newuidmap": "/usr/bin/newuidmap"} {
		file := filepath.Join(dir, name)
		if _, missing := os.Stat(file); missing == nil {
			err = errors.Join(err, unix.Mount(file, target, "", unix.MS_BIND, ""))
		}
	}
	err = errors.Join(err, syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody))
	if err == nil {
		err = unix.Exec(program, append([]string{"gobuild"}, os.Args[3:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "become a user:", err)
	os.Exit(99)
}

// rootless is a user with a range of ids, a base image, and gobuild.
type rootless struct {
	*testing.T
	exe, home, etc, base string
}

func newRootless(t *testing.T) *rootless {
	t.Helper()
	home, exe := openDir(t)
	if busybox() == "" {
		t.Skip("needs a static busybox (Debian package busybox-static)")
	}
	r := &rootless{T: t, exe: exe, home: home, etc: filepath.Join(filepath.Dir(home), "etc"), base: filepath.Join(filepath.Dir(home), "base")}
	if err := errors.Join(os.Mkdir(r.etc, 0o755), os.Mkdir(r.base, 0o755), makeBase(r.base)); err != nil {
		t.Fatal(err)
	}
	r.ids("nobody:200000:65536\n")
	return r
}

// ids are what the user has in /etc/subuid and /etc/subgid.
func (r *rootless) ids(text string) {
	r.Helper()
	for _, name := range []string{"subuid", "subgid"} {
		if err := os.WriteFile(filepath.Join(r.etc, name), []byte(text), 0o644); err != nil {
			r.Fatal(err)
		}
	}
}

// context makes a directory that all can read, of a Dockerfile and other files.
func (r *rootless) context(name string, files map[string]string) string {
	r.Helper()
	dir := filepath.Join(filepath.Dir(r.home), name)
	err := os.MkdirAll(dir, 0o755)
	for file, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	if err != nil {
		r.Fatal(err)
	}
	return dir
}

// command is gobuild as the user.
func (r *rootless) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.Context(), r.exe, append([]string{r.etc, r.exe}, args...)...)
	cmd.Args[0] = plainUserName
	cmd.Env = []string{"HOME=" + r.home, "PATH=/usr/bin:/bin", "TMPDIR=" + r.home}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Setpgid: true}
	return cmd
}

// run gives the exit code and what was printed.
func (r *rootless) run(cmd *exec.Cmd) (stdout, stderr string, code int) {
	r.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func (r *rootless) must(args ...string) string {
	r.Helper()
	out, errOut, code := r.run(r.command(args...))
	if code != 0 {
		r.Fatalf("%q exited with %d\n%s%s", args, code, out, errOut)
	}
	return out
}

// layout is the base as an image for this machine.
func (r *rootless) layout() string {
	r.Helper()
	dir := filepath.Join(filepath.Dir(r.home), "layout")
	from := r.context("image", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\n"})
	r.asRoot("build", "-q", "--build-context", "base="+r.base, "-o", "type=oci,tar=false,dest="+dir, from)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	})
	if err != nil {
		r.Fatal(err)
	}
	return dir
}

// asRoot is the same gobuild as root.
func (r *rootless) asRoot(args ...string) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), r.exe, args...)
	cmd.Args[0] = "gobuild"
	cmd.Env = []string{"HOME=" + r.TempDir(), "PATH=/usr/bin:/bin", "GOBUILD_ROOT=" + filepath.Join(filepath.Dir(r.home), "root")}
	out, errOut, code := r.run(cmd)
	if code != 0 {
		r.Fatalf("%q as root exited with %d\n%s%s", args, code, out, errOut)
	}
	return out
}

// A user's build makes the image that root's makes, to the byte.
func TestG8_ImagesAreThoseOfRoot(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	layout := r.layout()
	for name, tc := range map[string]struct {
		dockerfile string
		flags      []string
	}{
		"owners": {dockerfile: `FROM scratch
COPY --from=base / /
RUN echo x > /owned && chown 5:7 /owned && mkdir -m 2775 /shared && chown user:1000 /shared && echo s > /set && chmod 4755 /set
COPY --chown=1000:65534 file /home/user/
USER user
WORKDIR /home/user/work
RUN id -u > id && ln -s id link && mkfifo fifo && rm -f /tmp/none
`},
		"whiteouts": {dockerfile: `FROM scratch AS a
COPY --from=base / /
RUN mkdir -p /d/e /d/f && echo 1 > /d/e/1 && echo 2 > /d/f/2
RUN rm -r /d/e /var && mkdir /var && rm -r /d/f && mkdir /d/f && echo 3 > /d/f/3 && mv /usr /moved && chmod 700 /root
FROM scratch
COPY --from=base / /
COPY --from=a / /
ADD file /
RUN --mount=type=bind,from=a,target=/a --mount=type=cache,target=/c --mount=type=tmpfs,target=/t cp /a/d/f/3 /c/ && cp /c/3 /three
`},
		"platforms": {flags: []string{"--platform=linux/amd64,linux/arm64", "--build-context", "image=oci-layout://" + layout}, dockerfile: `FROM --platform=$BUILDPLATFORM image AS tools
RUN mkdir /out && echo made > /out/made && chown 9:9 /out/made
FROM scratch
ARG TARGETARCH
COPY --from=tools /out /${TARGETARCH}
COPY --chown=3:4 file /
LABEL of=$TARGETARCH
`},
	} {
		dir := r.context(strings.ReplaceAll(name, " ", "-"), map[string]string{"Dockerfile": tc.dockerfile, "file": "content\n"})
		args := append([]string{"build", "-q", "--build-context", "base=" + r.base, "--source-date-epoch=1000000000", dir}, tc.flags...)
		user, root := r.must(args...), r.asRoot(args...)
		if user != root || !strings.HasPrefix(user, "sha256:") {
			t.Errorf("%s: %s as a user, %s as root", name, user, root)
		}
	}
	// The user's gobuild removes what belongs to the ids of the range.
	r.must("prune", "--all", "-f")
	list, err := os.ReadDir(filepath.Join(r.home, ".local/share/gobuild/mounts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(list) > 0 {
		t.Errorf("cache mounts are left: %v, %v", list, err)
	}
}

// What surrounds gobuild is the same in the namespace: status, standard streams, working directory, where the state is.
func TestG8_StatusStreamsAndDirectoriesPassThrough(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN exit 7\n"})
	if _, errOut, code := r.run(r.command("build", "--exit-code-from-step", "--build-context", "base="+r.base, dir)); code != 7 {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	cmd := r.command("build", "--progress=plain", "--build-context", "base=../base", "-f", "-", "-o", "-", ".")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(`FROM scratch AS b
COPY --from=base / /
RUN grep -E '^Cap(Inh|Amb)' /proc/self/status; id -u; wc -l < /proc/self/uid_map; echo made > /made
FROM scratch
COPY --from=b /made /
`)
	out, errOut, code := r.run(cmd)
	if code != 0 || !strings.Contains(out, "made\n") || !strings.Contains(out, "ustar") {
		t.Errorf("exit code %d, output %q\n%s", code, out, errOut)
	}
	for _, want := range []string{"] CapInh: 0000000000000000\n", "] CapAmb: 0000000000000000\n", "] 0\n", "] 2\n"} {
		if !strings.Contains(errOut, want) {
			t.Errorf("no %q in\n%s", want, errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(r.home, ".local/share/gobuild/version")); err != nil {
		t.Error(err)
	}
}

// A signal ends the build once, whether the first process gets it alone or, from a terminal, both do; and when the first
// process is killed nothing remains.
func TestG8_SignalsPassThrough(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN echo begun; sleep 1000\n"})
	for _, tc := range []struct {
		name string
		send func(pid int) error
		code int
		says string
	}{
		{"to the first process", func(pid int) error { return unix.Kill(pid, unix.SIGTERM) }, 143, "error: interrupted by SIGTERM\n"},
		{"to both", func(pid int) error { return unix.Kill(-pid, unix.SIGINT) }, 130, "error: interrupted by SIGINT\n"},
		{"killed", func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }, -1, ""},
	} {
		cmd := r.command("build", "--build-context", "base="+r.base, dir)
		said, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		lines := bufio.NewReader(said)
		for !strings.Contains(all.String(), "] begun\n") {
			line, err := lines.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				t.Fatalf("%v\n%s", err, all.String())
			}
		}
		if err := tc.send(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		// The stream ends when the last process of the build has.
		rest, err := io.ReadAll(lines)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); err != nil || code != tc.code || !strings.HasSuffix(string(rest), tc.says) {
			t.Errorf("%s: %v, exit code %d\n%s", tc.name, err, code, rest)
		}
	}
}

func TestG8_WhatIsMissingIsToldWithItsRemedy(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nUSER 1000\n"})
	one := filepath.Join(r.home, "one")
	says := func(want string) {
		t.Helper()
		_, errOut, code := r.run(r.command("build", "--root", one, dir))
		if want = "notice: the build has one user id, and records who owns what: " + want; code != 0 || !strings.Contains(errOut, want) {
			t.Errorf("exit code %d\n%s\nwant\n%s", code, errOut, want)
		}
	}
	r.ids("other:100000:65536\nmore:200000:1000\nnobody:x:y\n")
	says("map ids into a user namespace: /etc/subuid gives user nobody none, and an image's files belong to several users " +
		"(sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 nobody)\n")
	// What needs no files of others says nothing of that.
	for _, args := range [][]string{{"version"}, {"build", "--check", dir}, {"plan", dir}, {"images"}, {"prune", "--root", one}} {
		if _, errOut, code := r.run(r.command(args...)); code != 0 || strings.Contains(errOut, "one user id") {
			t.Errorf("%q: exit code %d\n%s", args, code, errOut)
		}
	}
	r.ids("65534:200000:65536\n")
	r.must("build", "-q", dir)
	out, _, code := r.run(r.command("doctor"))
	if code != 0 || !strings.Contains(out, "RUN steps          run as root of a user namespace\n") || !strings.Contains(out, "65536 uids, 65536 gids in the user namespace") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if err := os.WriteFile(filepath.Join(r.etc, "newuidmap"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	says("map ids into a user namespace: newuidmap is not installed, which gives a user the ids of /etc/subuid " +
		"(sudo apt-get install uidmap (package shadow-utils of Fedora, shadow-uidmap of Alpine))\n")
	script := "#!/bin/sh\necho newuidmap: it may not >&2; exit 1\n"
	if err := os.WriteFile(filepath.Join(r.etc, "newuidmap"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(r.etc, "newuidmap"), 0o755); err != nil {
		t.Fatal(err)
	}
	says("map ids into a user namespace with /usr/bin/newuidmap: it may not (the program is not setuid root) (sudo chmod u+s /usr/bin/newuidmap)\n")
}

// Other descriptors than the standard streams are the command's, too.
func TestG8_DescriptorsPassThrough(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN --mount=type=secret,id=s cat /run/secrets/s | tr a-z A-Z\n"})
	// It has no name any more, so that only the descriptor leads to it.
	secret, err := os.Create(filepath.Join(dir, "secret")) //nolint:forbidigo // a test's own directory
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	_, err = secret.WriteString("hush-hush")
	if err := errors.Join(err, os.Remove(secret.Name())); err != nil {
		t.Fatal(err)
	}
	cmd := r.command("build", "--build-context", "base="+r.base, "--secret", "id=s,src=/dev/fd/3", dir)
	cmd.ExtraFiles = []*os.File{secret}
	if _, errOut, code := r.run(cmd); code != 0 || !strings.Contains(errOut, "HUSH-HUSH") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}

// What a user's build writes beside the image is the user's.
func TestG8_FilesOfALocalOutputBelongToTheUser(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN chown 5:7 /etc/passwd && chown -h 8:9 /bin/sh\n"})
	out := filepath.Join(r.home, "out")
	r.must("build", "-q", "--build-context", "base="+r.base, "-o", out, "--iidfile", filepath.Join(r.home, "iid"), dir)
	for _, name := range []string{"out", "out/etc", "out/etc/passwd", "out/bin/sh", "out/bin/busybox", "iid"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(r.home, name), &st); err != nil || st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%s: %v, owner %d:%d", name, err, st.Uid, st.Gid)
		}
	}
}

func TestG8_WhatTakesRootOfTheMachineIsToldSo(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN true\n"})
	for _, tc := range []struct{ flag, want string }{
		{"--network=bridge", "make network: a bridge takes root of the machine; without root there is slirp4netns, the host's network or none\n"},
		{"--memory=100m", "hint: systemd-run --user --scope -p Delegate=yes gobuild build ..., or build with --best-effort-limits\n"},
		{"--network=ns:/proc/self/ns/net", "join network /proc/self/ns/net: not supported: from a user namespace, without root\n"},
	} {
		_, errOut, code := r.run(r.command("build", "--build-context", "base="+r.base, tc.flag, dir))
		if code != exitEnvironment && code != exitUsage || !strings.Contains(errOut, tc.want) {
			t.Errorf("%s: exit code %d\n%s", tc.flag, code, errOut)
		}
	}
	r.must("build", "-q", "--build-context", "base="+r.base, "--memory=100m", "--best-effort-limits", dir)
}

// Programs that gobuild runs, as ssh below git, find the user's files where they look for those of root.
func TestG8_TheUsersHomeIsThatOfRootInTheNamespace(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	st, err := os.Stat("/root")
	if err != nil || st.Mode().Perm()&0o005 != 0 {
		t.Logf("root's home is not closed: %v", err)
		return
	}
	if err := os.WriteFile(filepath.Join(r.home, "mine"), []byte("found"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nCOPY mine /\nRUN cat /mine\n"})
	_, errOut, code := r.run(r.command("build", "--build-context", "base="+r.base, "-f", filepath.Join(dir, "Dockerfile"), "/root"))
	if code != 0 || !strings.Contains(errOut, "] found\n") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}

func TestSignalsThatComeBothWaysCountOnce(t *testing.T) {
	t.Parallel()
	const a, b = syscall.SIGINT, syscall.SIGTERM
	for _, tc := range []struct {
		ways string // d direct, r relayed; capitals are another signal
		want string
	}{{"dr", "+-"}, {"rd", "+-"}, {"dd", "++"}, {"drdr", "+-+-"}, {"ddrr", "++--"}, {"rdd", "+-+"}, {"dR", "++"}, {"dRrD", "++--"}, {"r", "+"}} {
		c, got := signalCount{}, ""
		for _, way := range tc.ways {
			counts := map[rune]func() bool{
				'd': func() bool { return c.direct(a) }, 'r': func() bool { return c.relayed(a) },
				'D': func() bool { return c.direct(b) }, 'R': func() bool { return c.relayed(b) },
			}[way]()
			if counts {
				got += "+"
			} else {
				got += "-"
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.ways, got, tc.want)
		}
	}
}
