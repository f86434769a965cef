package builder

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/layer"
)

// lastLayer builds, and lists the names in the last layer of the image; "empty" if there is none. It also counts the layers.
func (p *project) lastLayer() (names string, layers int) {
	p.t.Helper()
	res, err := p.build()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.output())
	}
	b := p.builder()
	defer b.Close()
	manifest, _, err := b.read(res.Manifest)
	must(p.t, err)
	blob, err := b.store.Open(manifest.Layers[len(manifest.Layers)-1].Digest)
	must(p.t, err)
	defer blob.Close()
	r, err := layer.Decompress(blob)
	must(p.t, err)
	defer r.Close()
	var list []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(p.t, err)
		list = append(list, h.Name)
	}
	if len(list) == 0 {
		return "empty", len(manifest.Layers)
	}
	return strings.Join(list, " "), len(manifest.Layers)
}

// What a RUN leaves in its layer.
func TestRunRules_Layers(t *testing.T) {
	t.Parallel()
	const base = oneShell + "RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n"
	shared := newShellProjectOf(t, base, nil)
	for _, tc := range []struct{ name, dockerfile, want string }{
		{"B20 H3 nothing changed: a layer all the same", "RUN true\n", "empty"},
		{"B21 mount points and their parents go, and leave no trace on the folder above", "RUN --mount=type=tmpfs,target=/p/q/r --mount=type=cache,target=/bin/c true\n", "empty"},
		{"B21 what the step puts into a parent stays", "RUN --mount=type=tmpfs,target=/p/q/r touch /p/f\n", "p/ p/f"},
		{"B24 what is in a tmpfs goes", "RUN --mount=type=tmpfs,target=/t touch /t/f\n", "empty"},
		{"B25 a secret leaves no folder", "RUN --mount=type=secret,id=s cat /run/secrets/s\n", "empty"},
		{"G5 the files of /etc that are made for a step", "RUN cat /etc/hosts /etc/resolv.conf\n", "empty"},
		{"G9 /tmp and /run are ordinary", "RUN mkdir /tmp /run && touch /tmp/f /run/g\n", "run/ run/g tmp/ tmp/f"},
		{"H3 a WORKDIR that is there already is a layer, too", "WORKDIR /bin\n", "empty"},
		{"H11 a file that is copied up but equal in the end", "RUN chmod 700 /bin/busybox && chmod 755 /bin/busybox\n", "empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &project{t: t, dir: shared.dir, root: shared.root}
			p.write("Dockerfile", base+tc.dockerfile)
			p.opt.Run.Network = "none"
			p.opt.Secrets = map[string]SecretSource{"s": {Data: []byte("x")}}
			if got, n := p.lastLayer(); got != tc.want || n != 3 {
				t.Errorf("%d layers, the last has %q, want 3 and %q", n, got, tc.want)
			}
		})
	}
}

// What a RUN sees.
//
// rows: B9 B20 B21 B25 G5 G7 G17
func TestRunRules_Environment(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, `FROM base
ENV PATH=/own:/bin
COPY --chmod=755 <<prog /own/prog
#!/bin/sh
echo own prog
prog
RUN ["prog"]
RUN ["echo", "$PATH"]
RUN env | grep -i _proxy | sort
RUN cat; echo "nothing on standard input"
RUN hostname; grep -c '	web$\|10.0.0.1 web' /etc/hosts
RUN --mount=type=secret,id=none,env=NONE echo "optional: ${NONE-unset}"
RUN --mount=type=secret,id=tok,target=/t,uid=3,gid=4,mode=0440 stat -c '%a %u:%g' /t; ! touch /t 2>/dev/null
RUN --mount=type=secret,id=tok,env=TOK,target=/t test "$TOK" = "$(cat /t)" && echo both
RUN --mount=type=bind,source=d,target=m cat m/f
`, map[string]string{"d/f": "bound\n"})
	p.opt.ProxyArgs = map[string]string{"HTTP_PROXY": "http://p:1"}
	p.opt.Run.Hostname, p.opt.Run.AddHosts = "box", []string{"web:10.0.0.1"}
	p.opt.Secrets = map[string]SecretSource{"tok": {Data: []byte("value")}}
	if _, err := p.build(); err != nil {
		t.Fatalf("%v\n%s", err, p.output())
	}
	want := "own prog\n$PATH\nHTTP_PROXY=http://p:1\nhttp_proxy=http://p:1\nnothing on standard input\nbox\n1\noptional: \n440 3:4\nboth\nbound\n"
	if got := p.output(); got != want {
		t.Errorf("output\n%s\nwant\n%s", got, want)
	}
	res, err := p.build()
	if err != nil || ran(res) != "" {
		t.Errorf("%v; ran again:\n%s", err, ran(res))
	}
	b := p.builder()
	defer b.Close()
	_, img, err := b.read(res.Manifest)
	must(t, err)
	for _, h := range img.History {
		if strings.Contains(h.CreatedBy, "http://p:1") {
			t.Errorf("B9: a proxy is in the history: %s", h.CreatedBy)
		}
	}
	if strings.Contains(strings.Join(img.Config.Env, " "), "proxy") {
		t.Errorf("B9: a proxy is in the image: %q", img.Config.Env)
	}
}

// A cache is the same one for equal ids, and another for another id, namespace, seed, mode or owner. It outlives a failed step.
func TestB23_WhichCacheIsWhich(t *testing.T) {
	t.Parallel()
	const step = "RUN --mount=type=cache,target=/c%s echo x >> /c/f; wc -l < /c/f\n"
	with := func(options ...string) string {
		var b strings.Builder
		for _, o := range options {
			b.WriteString(strings.Replace(step, "%s", o, 1))
		}
		return b.String()
	}
	p := newShellProject(t, "FROM base\n"+with("", ",id=/c", ",id=other", ",mode=0700", ",uid=1", ",sharing=locked")+
		"RUN --mount=type=cache,target=/elsewhere,id=/c,ro ! touch /elsewhere/g && cat /elsewhere/f | wc -l\n", nil)
	if _, err := p.build(); err != nil {
		t.Fatalf("%v\n%s", err, p.output())
	}
	if got := strings.Fields(strings.ReplaceAll(p.output(), "touch: /elsewhere/g: Read-only file system\n", "")); strings.Join(got, " ") != "1 2 1 1 1 3 3" {
		t.Errorf("lines in the caches: %v", got)
	}
	p.write("Dockerfile", shellBase+"FROM base\nRUN --mount=type=cache,target=/c echo x >> /c/f; exit 9\n")
	if _, err := p.build(); err == nil {
		t.Fatal("the step does not fail")
	}
	p.write("Dockerfile", shellBase+"FROM base\nRUN --mount=type=cache,target=/c cat /c/f | wc -l\n")
	if _, err := p.build(); err != nil || strings.TrimSpace(p.output()) != "4" {
		t.Errorf("after a failed step: %q, %v", p.output(), err)
	}
	p.write("Dockerfile", shellBase+"FROM base\nARG BUILDKIT_CACHE_MOUNT_NS\nRUN --mount=type=cache,target=/c ls /c | wc -l\n")
	p.opt.BuildArgs = map[string]string{"BUILDKIT_CACHE_MOUNT_NS": "mine"}
	if _, err := p.build(); err != nil || strings.TrimSpace(p.output()) != "0" {
		t.Errorf("B10: in another namespace: %q, %v", p.output(), err)
	}
}

// A locked cache is used by one step at a time, a private one is not waited for, and at most --jobs RUNs run at once: each step
// makes a folder that must not be there, and takes it away.
//
// rows: B23 D4
func TestB23D4_OneAtATime(t *testing.T) {
	const alone = "mkdir /c/busy && for i in 1 2 3 4 5 6 7 8 9; do test -d /c/busy || exit 1; done && rmdir /c/busy"
	for _, tc := range []struct {
		name, sharing string
		jobs          int
	}{{"B23 locked", "locked", 4}, {"D4 one job", "shared", 1}, {"B23 private", "private", 4}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dockerfile := ""
			final := "FROM scratch\n"
			for _, n := range []string{"a", "b", "c", "d"} {
				dockerfile += "FROM base AS " + n + "\nRUN --mount=type=cache,target=/c,sharing=" + tc.sharing + " " + alone + " && touch /done-" + n + "\n"
				final += "COPY --from=" + n + " /done-" + n + " /\n"
			}
			p := newShellProject(t, dockerfile+final, nil)
			p.opt.Jobs, p.opt.Outputs = tc.jobs, []Output{{Type: "cacheonly"}}
			if _, err := p.build(); err != nil {
				t.Errorf("%v\n%s", err, p.output())
			}
		})
	}
}

// The first failure ends the other steps at once, and it is the one that is told, not their end.
func TestD4_FirstFailureEndsTheRest(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, `FROM base AS slow
RUN --mount=type=cache,target=/c touch /c/started; sleep 1000
FROM base AS bad
RUN --mount=type=cache,target=/c until test -e /c/started; do sleep 0.05; done; exit 7
FROM scratch
COPY --from=slow /x /
COPY --from=bad /x /
`, nil)
	p.opt.Jobs, p.opt.Outputs = 2, []Output{{Type: "cacheonly"}}
	_, err := p.build()
	var e *Error
	if !errors.As(err, &e) || e.ExitCode != 7 || !strings.Contains(e.Step.Text, "exit 7") {
		t.Errorf("got %v", err)
	}
}

// A stage that copies from another waits at that COPY, not at its start.
func TestD4_AStageWaitsWhereItCopies(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, `FROM base AS first
RUN --mount=type=cache,target=/c until test -e /c/other; do sleep 0.05; done; touch /x
FROM base
RUN --mount=type=cache,target=/c touch /c/other
COPY --from=first /x /
`, nil)
	p.opt.Jobs, p.opt.Outputs = 2, []Output{{Type: "cacheonly"}}
	if _, err := p.build(); err != nil { // it never ends if the second stage waits for the first
		t.Errorf("%v\n%s", err, p.output())
	}
}

// The image of a build whose output fails stays in the store, and the next run only writes it.
func TestF6_AnOutputThatFails(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY f /\n", map[string]string{"f": "1"})
	missing := filepath.Join(t.TempDir(), "nosuch", "out.tar")
	p.opt.Tags, p.opt.Outputs = []string{"kept"}, []Output{{Type: "image"}, {Type: "oci", Tar: true, Dest: missing}}
	if _, err := p.build(); err == nil {
		t.Fatal("the output cannot be written, and yet there is no error")
	}
	b := p.builder()
	images, err := b.Images(t.Context())
	must(t, err)
	must(t, b.Close())
	if len(images) != 1 {
		t.Errorf("the store has %d images, want the one that was built", len(images))
	}
	must(t, os.Mkdir(filepath.Dir(missing), 0o755))
	res, err := p.build()
	if err != nil || ran(res) != "" {
		t.Errorf("%v; ran again:\n%s", err, ran(res))
	}
	if _, err := os.Stat(missing); err != nil {
		t.Error(err)
	}
}

// Each step has namespaces of its own.
func TestG8_Namespaces(t *testing.T) {
	t.Parallel()
	kinds := []string{"pid", "ipc", "uts", "mnt", "net"}
	if _, err := os.Stat("/proc/self/ns/cgroup"); err == nil {
		kinds = append(kinds, "cgroup")
	}
	p := newShellProject(t, "FROM base\nRUN for n in "+strings.Join(kinds, " ")+"; do readlink /proc/self/ns/$n; done\n", nil)
	if _, err := p.build(); err != nil {
		t.Fatalf("%v\n%s", err, p.output())
	}
	got := strings.Fields(p.output())
	if len(got) != len(kinds) {
		t.Fatalf("namespaces %q", got)
	}
	for i, kind := range kinds {
		if own, err := os.Readlink("/proc/self/ns/" + kind); err != nil || own == got[i] {
			t.Errorf("%s: the step is in %s, gobuild in %s, %v", kind, got[i], own, err)
		}
	}
}

// A folder as output has the files with their modes, times, owners and links, and nothing goes outside it, whatever is there.
func TestK4_ADirectory(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY --chown=3:4 d /\n", map[string]string{"d/f": "new", "d/l": "-> f", "d/abs": "-> /etc/passwd", "d/sub/g": "g"})
	at := time.Unix(1000, 0)
	must(t, os.Chmod(filepath.Join(p.dir, "d/f"), 0o640))
	must(t, os.Chtimes(filepath.Join(p.dir, "d/f"), at, at))
	top := t.TempDir()
	out, outside := filepath.Join(top, "out"), filepath.Join(top, "outside")
	must(t, os.Mkdir(out, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "g"), []byte("safe"), 0o600))
	must(t, os.Symlink(filepath.Join(outside, "g"), filepath.Join(out, "f")))
	must(t, os.WriteFile(filepath.Join(out, "mine"), nil, 0o600))
	p.opt.Outputs = []Output{{Type: "local", Dest: out}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(filepath.Join(out, "f"))
	must(t, err)
	st, _ := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o640 || !info.ModTime().Equal(at) || st == nil || st.Uid != 3 || st.Gid != 4 {
		t.Errorf("f is %v of %v, %+v", info.Mode(), info.ModTime(), st)
	}
	for name, want := range map[string]string{"l": "f", "abs": "/etc/passwd"} {
		if got, err := os.Readlink(filepath.Join(out, name)); err != nil || got != want {
			t.Errorf("the link %s leads to %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{filepath.Join(outside, "g"): "safe", filepath.Join(out, "sub/g"): "g", filepath.Join(out, "mine"): ""} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
}
