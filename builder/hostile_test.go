package builder

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/treetest"
)

// canary is a tree outside of a project's context and state that nobody is to read or change.
func canary(t *testing.T) *treetest.Canary {
	t.Helper()
	needRoot(t)
	c, err := treetest.Plant(t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		for _, alarm := range c.Alarms() {
			t.Error("alarm: " + alarm)
		}
		must(t, c.Close())
	})
	return c
}

// refused builds, and wants an error of a category with a text in it.
func (p *project) refused(want Category, text string) {
	p.t.Helper()
	_, err := p.build()
	var e *Error
	if !errors.As(err, &e) || e.Category != want || !strings.Contains(e.Error(), text) {
		p.t.Errorf("want %s with %q: %v", want, text, err)
	}
}

// A Dockerfile that is no file is refused before it is opened: a FIFO would hang.
func TestHostileH09R03_DockerfilesThatAreNone(t *testing.T) {
	t.Parallel()
	outside := canary(t)
	for name, place := range map[string]func(string) error{
		"FIFO":     func(path string) error { return unix.Mkfifo(path, 0o644) },
		"folder":   func(path string) error { return os.Mkdir(path, 0o755) },
		"device":   func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"socket":   func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o666, 0) },
		"link out": func(path string) error { return os.Symlink(outside.Dir+"/open", path) },
		"link up":  func(path string) error { return os.Symlink("../../../../../../.."+outside.Dir+"/open", path) },
		"link to a FIFO": func(path string) error {
			return errors.Join(unix.Mkfifo(path+".fifo", 0o644), os.Symlink("Dockerfile.fifo", path))
		},
		"link to itself": func(path string) error { return os.Symlink("Dockerfile", path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, "", nil)
			must(t, os.Remove(filepath.Join(p.dir, "Dockerfile")))
			must(t, place(filepath.Join(p.dir, "Dockerfile")))
			p.refused(CategoryUsage, "Dockerfile")
		})
	}
}

// Folders of the base image that are links out: whatever an instruction writes or reads through them stays in the image.
func TestHostileH22R01_FoldersOfTheBaseThatAreLinksOut(t *testing.T) {
	t.Parallel()
	c := canary(t)
	p := newShellProject(t, fmt.Sprintf(`FROM base AS bad
RUN ln -s /../../../..%[1]s /d && ln -s %[1]s/etc /e && ln -s ../../../../../..%[1]s /r
FROM bad AS used
COPY f /d/f
COPY f /e/shadow
ADD f /r/new/
WORKDIR /d/w
RUN pwd; ls /d/ /r/ | sort -u; cat /d/etc/shadow; readlink -f /d; true
RUN --mount=type=cache,target=/d/cache --mount=type=tmpfs,target=/r/tmp touch /d/cache/x /r/tmp/x
RUN --mount=from=bad,source=/d,target=/m ls /m; cat /m/etc/shadow
FROM base
COPY --from=used /d /copied
COPY --from=used /d/f /one
RUN --mount=from=used,source=/d,target=/m cat /m/f
`, c.Dir), map[string]string{"f": "inside\n"})
	p.opt.Target = "used"
	_, err := p.tree()
	// The folder does not exist in the image: the bind of it has nothing to show.
	if err == nil || !strings.Contains(err.Error(), `"/d" not found`) {
		t.Errorf("a bind of a link to what is not there: %v", err)
	}
	if out := p.output(); strings.Contains(out, c.Secret) || !strings.Contains(out, c.Dir+"/w") {
		t.Errorf("%s", out)
	}
	text := strings.Replace(p.dockerfile, "RUN --mount=from=bad,source=/d,target=/m ls /m; cat /m/etc/shadow\n", "", 1)
	p.write("Dockerfile", text)
	p.opt.Target = ""
	got := p.added()
	for _, want := range []string{"copied/f 0644 0:0 7", "copied/etc/shadow 0644 0:0 7", "copied/new/f", "copied/w ", "one 0644 0:0 7"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if found, err := treetest.Holding(c.Secret, p.root); err != nil || len(found) > 0 {
		t.Errorf("the canary is in %q, %v", found, err)
	}
}

// An image of the store whose history is that of the Dockerfile says nothing about what its steps give.
func TestHostileH65R27R28_ImagesAreNoCache(t *testing.T) {
	t.Parallel()
	const steps = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
	p := newShellProject(t, steps, nil)
	p.opt.Tags = []string{"localhost/app:1"}
	first, err := p.build()
	must(t, err)
	// The same image, but not by this state directory's records: it arrives as a base, with history, labels and environment.
	q := newShellProject(t, steps, nil)
	q.root = p.root
	b := q.builder()
	_, err = b.Prune(t.Context(), PruneOptions{})
	must(t, errors.Join(err, b.Close()))
	must(t, os.RemoveAll(filepath.Join(p.root, "cache")))
	q.opt.Tags = []string{"localhost/app:2"}
	second, err := q.build()
	must(t, err)
	for _, s := range second.Steps {
		if s.Cached {
			t.Errorf("taken from an image: %s", s.Text)
		}
	}
	if first.ID() == second.ID() {
		t.Error("the step did not run again")
	}
}

// Ids of cache mounts are names, not paths, and their folders are found inside their image.
func TestHostileH66R04_IdsOfCacheMounts(t *testing.T) {
	t.Parallel()
	c := canary(t)
	up := strings.Repeat("../", 20) + c.Dir[1:]
	for _, id := range []string{"../../etc", up, "..", "-x", strings.Repeat("x", 60000), c.Dir} {
		p := newShellProject(t, fmt.Sprintf("FROM base\nRUN --mount=type=cache,id=%s,target=/c ls -A /c; touch /c/mine; cat /c/etc/shadow 2>/dev/null; true\nRUN --mount=type=cache,id=%s,target=/c ls -A /c\n", id, id), nil)
		if got := p.added(); got != "" {
			t.Errorf("id %.20q: in the layers: %s", id, got)
		}
		if got := p.output(); got != "mine\n" {
			t.Errorf("id %.20q: %q", id, got)
		}
		for _, name := range filesBelow(t, p.root) {
			if rel, err := filepath.Rel(p.root, name); err != nil || filepath.Base(name) == "mine" && !strings.HasPrefix(rel, "mounts/") {
				t.Errorf("id %.20q: the mount is at %s", id, rel)
			}
		}
	}
	for _, source := range []string{"../..", "/../../.." + c.Dir, "/link"} {
		p := newShellProject(t, "FROM base AS seed\nRUN ln -s /../../../.."+c.Dir+" /link\nFROM base\nRUN --mount=type=cache,from=seed,source="+source+",target=/c ls -R /c\n", nil)
		_, err := p.build()
		if out := p.output(); strings.Contains(out, "shadow") || err == nil && source == "/link" {
			t.Errorf("source %s: %q, %v", source, out, err)
		}
	}
}

// What a base image has its users run gets no secret, agent or network that the user gave to this Dockerfile alone.
func TestHostileH67_TriggersOfABase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ trigger, refusal, allow string }{
		{"RUN --mount=type=secret,id=tok cat /run/secrets/tok", "--mount=type=secret in a trigger", "onbuild.secret"},
		{"RUN --mount=type=secret,id=tok,env=TOK echo $TOK", "--mount=type=secret in a trigger", "onbuild.secret"},
		{"RUN --mount=type=ssh true", "--mount=type=ssh in a trigger", "onbuild.ssh"},
		{"RUN --network=host true", "--network=host is not allowed", "network.host"},
		{"RUN --security=insecure true", "--security=insecure is not allowed", "security.insecure"},
	} {
		t.Run(tc.trigger, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, "FROM base\nONBUILD "+tc.trigger+"\n", nil)
			p.opt.Tags = []string{"localhost/base:1"}
			_, err := p.build()
			must(t, err)
			p.write("Dockerfile", "FROM localhost/base:1\n")
			p.opt.Tags, p.opt.Secrets = nil, map[string]SecretSource{"tok": {Data: []byte("s3cret\n")}}
			p.opt.SSH = map[string]string{"default": "/no/such/socket"}
			_, err = p.build()
			var e *Error
			if !errors.As(err, &e) || e.Category != CategoryUnsafe || !strings.Contains(e.Error(), tc.refusal) || !strings.Contains(e.Hint, "--allow "+tc.allow) || e.Pos.Start != 1 {
				t.Errorf("%v, %+v", err, e)
			}
			if p.output() != "" {
				t.Errorf("it ran: %s", p.output())
			}
			p.opt.Allow = []string{tc.allow}
			if _, err := p.build(); err != nil && strings.Contains(err.Error(), "not allowed") {
				t.Errorf("allowed: %v", err)
			}
			// Triggers of the Dockerfile's own stages are the user's own.
			p.write("Dockerfile", shellBase+"FROM base AS own\nONBUILD "+tc.trigger+"\nFROM own\n")
			if p.opt.Allow = nil; strings.HasPrefix(tc.allow, "onbuild.") {
				if _, err := p.build(); err != nil && strings.Contains(err.Error(), "not allowed") {
					t.Errorf("an own stage: %v", err)
				}
			}
		})
	}
	for _, trigger := range []string{"ONBUILD RUN true", "FROM scratch", "MAINTAINER x", "RUN a\nRUN b", "COPY --from=2000000000 / /"} {
		p := newShellProject(t, "FROM base\n", nil)
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		p.write("Dockerfile", shellBase+"FROM base\nONBUILD "+trigger+"\nFROM 1\n")
		if _, err := p.build(); err == nil {
			t.Errorf("trigger %q is obeyed", trigger)
		}
	}
}

// A step that fills the disk fails itself, names the file system, and what it wrote goes.
func TestHostileH75_ADiskThatAStepFills(t *testing.T) {
	for name, tc := range map[string]struct{ options, script string }{
		"bytes":  {"size=24m", "dd if=/dev/zero of=/big bs=64k"},
		"inodes": {"size=64m,nr_inodes=1500", "mkdir /many; i=0; while [ $i -lt 3000 ]; do : > /many/$i || exit 1; i=$((i+1)); done"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newShellProject(t, "FROM base\n", nil)
			must(t, os.Mkdir(p.root, 0o700))
			if err := unix.Mount("tmpfs", p.root, "tmpfs", 0, tc.options+",mode=0700"); err != nil {
				t.Skip("needs to mount a tmpfs: ", err)
			}
			defer func() { must(t, unix.Unmount(p.root, 0)) }() // busy if something still uses it
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			var before, after unix.Statfs_t
			must(t, unix.Statfs(p.root, &before))
			p.write("Dockerfile", p.dockerfile+"RUN "+tc.script+"\n")
			_, err := p.build()
			var e *Error
			if !errors.As(err, &e) || e.Category != CategoryStep || !strings.Contains(strings.Join(e.Tail, "\n"), "No space left") {
				t.Errorf("%v", err)
			}
			if e != nil && !strings.Contains(e.Hint, "the file system of --root is full") {
				t.Errorf("the hint does not name the file system: %q", e.Hint)
			}
			must(t, unix.Statfs(p.root, &after))
			if after.Bfree < before.Bfree-64 || after.Ffree+64 < before.Ffree { // a record of the build, and its log
				t.Errorf("blocks free %d, were %d; inodes %d, were %d", after.Bfree, before.Bfree, after.Ffree, before.Ffree)
			}
			p.write("Dockerfile", p.dockerfile+"RUN echo small > /small\n")
			if _, err := p.build(); err != nil {
				t.Errorf("the next build: %v", err)
			}
		})
	}
}

// A secret is in nothing that a build leaves, whether its step works or fails: in no form, in no stream.
func TestHostileH78R18_ASecretIsNowhere(t *testing.T) {
	t.Parallel()
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	secret := string(bytes.ReplaceAll(raw[:], []byte{0}, []byte{1}))
	for name, script := range map[string]string{
		"works": `[ "$(wc -c < /run/secrets/tok)" = 32 ] && [ -n "$TOK" ]`, "fails": `cat /run/secrets/tok > /dev/null; exit 3`,
		"is killed": `sh -c "kill -SEGV \$PPID"; kill -9 $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, "FROM base\nRUN --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOK "+script+"\n", nil)
			p.opt.Secrets = map[string]SecretSource{"tok": {Data: []byte(secret)}}
			p.opt.Explain = true
			p.opt.Arguments = []string{"--secret", "id=tok,env=TOK"}
			p.opt.Attest.Provenance = &ProvenanceOptions{Max: true}
			layout := filepath.Join(t.TempDir(), "out")
			p.opt.Outputs = []Output{{Type: "oci", Dest: layout}}
			p.opt.CacheTo = []CacheShare{{Type: "local", Dir: filepath.Join(t.TempDir(), "shared")}}
			seen := 0
			p.during = func(e Event) {
				if treetest.Holds(fmt.Appendf(nil, "%+v", e), secret) {
					t.Errorf("in an event: %s", e.Type)
				}
				if e.Type == EventStepStart {
					seen++
					if found := treetest.Traces(secret); len(found) > 0 && !strings.Contains(strings.Join(found, ""), "environ") {
						t.Errorf("other processes show it: %q", found)
					}
				}
			}
			_, err := p.build()
			if (err == nil) != (name == "works") {
				t.Fatal(err)
			}
			if err != nil && treetest.Holds([]byte(fmt.Sprintf("%+v %v", err, err)), secret) {
				t.Error("in the error")
			}
			places := []string{p.root, p.dir}
			for _, place := range []string{layout, p.opt.CacheTo[0].Dir} {
				if _, err := os.Stat(place); err == nil {
					places = append(places, place)
				}
			}
			if name == "works" && len(places) != 4 || seen == 0 {
				t.Errorf("only looked at %q", places)
			}
			if found, err := treetest.Holding(secret, places...); err != nil || len(found) > 0 {
				t.Errorf("found in %q, %v", found, err)
			}
		})
	}
}

// What a step may leave in its files is stored as it is or refused by name, and afterwards all of it can be removed.
func TestHostileH79_TreesThatAreHardToStoreOrRemove(t *testing.T) {
	t.Parallel()
	c := canary(t)
	for _, tc := range []struct {
		name, script, want string
		category           Category // of the refusal
	}{
		{"deep", "n=$(printf 'd%.0s' $(seq 200)); p=$(printf \"$n/%.0s\" $(seq 18)); cd /; for i in $(seq 5); do mkdir -p $p && cd -P $p || exit 1; done; : > end", "", ""},
		{"many levels", "p=$(printf 'd/%.0s' $(seq 400)); cd /; for i in 1 2; do mkdir -p $p && cd -P $p || exit 1; done; : > end", "", ""},
		{"modes", "mkdir -m 0 /locked && mkdir -m 1777 /locked/x && : > /locked/x/f && chmod 0 /locked/x/f /locked/x", "locked 0000 0:0 /", ""},
		{"kinds", "ln -s " + c.Dir + " /out && mkfifo /p && mknod /c c 1 1", "out 0777 0:0 -> " + c.Dir, ""},
		{"hard links", "mkdir /l; : > /l/f; for i in $(seq 500); do ln /l/f /l/$i; done", "l/500", ""},
		{"owner", ": > /f && chown 4000000000:4000000000 /f", "f 0644 4000000000:4000000000", ""},
		{"whiteout", ": > /.wh.x", "", CategoryUsage},
		{"whiteouts deep", "mkdir -p /a/b && : > /a/b/.wh..wh..opq", "", CategoryUsage},
		{"hole", "truncate -s 8192G /hole", "", CategoryUnsafe},
		{"names", `touch "$(printf '/a\nb')" "$(printf '/\033]52;c')" /-x`, "-x 0644", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, "FROM base\nRUN "+tc.script+"\n", nil)
			tree, err := p.tree()
			if tc.category != "" { // a layer is what has no place for it
				p.opt.Outputs = nil
				_, err = p.build()
			}
			var e *Error
			switch {
			case tc.category == "" && (err != nil || !strings.Contains(tree, tc.want)):
				t.Errorf("%v; no %q", err, tc.want)
			case tc.category != "" && (!errors.As(err, &e) || e.Category != tc.category):
				t.Errorf("want %s: %v", tc.category, err)
			}
			// Another test's child that has not executed its program yet has the locks of this process: what those pin stays once more.
			var left []string
			if !until(func() bool {
				b := p.builder()
				_, err = b.Prune(t.Context(), PruneOptions{All: true})
				must(t, errors.Join(err, b.Close()))
				left, err = filepath.Glob(filepath.Join(p.root, "snapshots/layers/*"))
				return err != nil || len(left) == 0
			}) || err != nil {
				t.Errorf("left: %q, %v", left, err)
			}
			must(t, exec.Command("rm", "-rf", p.root).Run()) // by any program, without ado
		})
	}
}

// A state directory or an output that someone else prepared.
func TestHostileH81R05_PreparedDirectories(t *testing.T) {
	t.Parallel()
	c := canary(t)
	for name, prepare := range map[string]func(path string) error{
		"of another owner":       func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 1000, 1000)) },
		"others may write to it": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)) },
		"its group may":          func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o770)) },
		"a link":                 func(path string) error { return os.Symlink(c.Dir+"/empty", path) },
		"a file":                 func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		p := newProject(t, "FROM scratch\n", nil)
		must(t, prepare(p.root))
		b, err := Open(Config{Root: p.root, Executable: "/proc/self/exe"})
		var e *Error
		if err == nil || name != "a file" && (!errors.As(err, &e) || e.Category != CategoryUnsafe) {
			t.Errorf("%s: %v", name, err)
		}
		if b != nil {
			must(t, b.Close())
		}
	}
	p := newProject(t, "FROM scratch\nCOPY Dockerfile /etc/shadow\n", nil)
	must(t, errors.Join(os.Mkdir(p.root, 0o755), os.Chmod(p.root, 0o755)))
	_, err := p.build()
	must(t, err)
	if info, err := os.Stat(p.root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into it: %v, %v", info.Mode(), err)
	}
	// An output whose place is a link: the link goes, and what it leads to stays.
	for kind, target := range map[string]string{"tar": c.Dir + "/open", "oci": c.Dir + "/etc/passwd", "docker": c.Dir + "/open"} {
		dest := filepath.Join(t.TempDir(), "out")
		must(t, os.Symlink(target, dest))
		p.opt.Outputs = []Output{{Type: kind, Dest: dest, Tar: true}}
		if _, err := p.build(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if info, err := os.Lstat(dest); err != nil || info.Mode()&os.ModeSymlink != 0 {
			t.Errorf("%s: it is still %v, %v", kind, info.Mode(), err)
		}
	}
	// Folders are filled where they are; inside of them no link is followed.
	dest := t.TempDir()
	must(t, os.Symlink(c.Dir+"/etc", filepath.Join(dest, "etc")))
	p.opt.Outputs = []Output{{Type: "local", Dest: dest}}
	if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "/etc") {
		t.Errorf("a link in an output folder: %v", err)
	}
}

func TestHostileH14_ASocketAsTheSourceOfABind(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, "FROM base\nRUN --mount=source=socket,target=/s true\n", nil)
	must(t, unix.Mknod(filepath.Join(p.dir, "socket"), unix.S_IFSOCK|0o666, 0))
	p.refused(CategoryUsage, "source /socket: a socket cannot be bound")
}

// Sockets and FIFOs of the context have a process of the machine at their other end: a step that has the folder bound does not reach it.
func TestHostileH20H14_ProcessesBehindTheContext(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"target=/ctx", "target=/ctx,rw", "source=sub,target=/ctx/sub", "source=sub/fifo,target=/ctx/sub/fifo", "from=named,target=/ctx"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, "FROM base\nRUN --mount="+source+" cd /ctx/sub && [ -p fifo ] && exec 3<>fifo && echo reached >&3 && ls /ctx/sub | grep -c socket\n", map[string]string{"sub/f": ""})
			p.opt.Contexts = map[string]string{"named": p.dir}
			fifo := filepath.Join(p.dir, "sub/fifo")
			must(t, errors.Join(unix.Mkfifo(fifo, 0o666), os.Chmod(fifo, 0o666)))
			far, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
			must(t, err)
			defer far.Close()
			socket, err := net.Listen("unix", filepath.Join(p.dir, "sub/socket"))
			must(t, err)
			defer socket.Close()
			_, err = p.build()
			var e *Error
			if !errors.As(err, &e) || e.ExitCode != 1 || p.output() != "0\n" { // grep has found none
				t.Errorf("%v, output %q", err, p.output())
			}
			raw, err := far.SyscallConn()
			must(t, err)
			must(t, raw.Read(func(fd uintptr) bool {
				if n, err := unix.Read(int(fd), make([]byte, 100)); err != unix.EAGAIN {
					t.Errorf("the step has reached this process: %d bytes, %v", n, err)
				}
				return true
			}))
		})
	}
}

// An output goes into a folder that a former one has filled with links out: none of them is followed.
func TestHostileH81_OutputsOverLinksOfAFormerOne(t *testing.T) {
	t.Parallel()
	c := canary(t)
	out := filepath.Join(t.TempDir(), "out")
	for _, name := range []string{"etc", "open", "deep/etc"} {
		must(t, os.RemoveAll(out))
		p := newShellProject(t, fmt.Sprintf("FROM base AS made\nRUN mkdir -p /x/deep && ln -s %[1]s/etc /x/etc && ln -s %[1]s/open /x/open && ln -s ../../../../../../../../..%[1]s/etc /x/deep/etc\nFROM scratch\nCOPY --from=made /x /\n", c.Dir), nil)
		p.opt.Outputs = []Output{{Type: "local", Dest: out}}
		_, err := p.build()
		must(t, err)
		target := "/x/" + name
		if strings.HasSuffix(name, "etc") {
			target += "/shadow"
		}
		p.write("Dockerfile", shellBase+fmt.Sprintf("FROM base AS made\nRUN mkdir -p $(dirname %[1]s) && echo evil > %[1]s && chmod 4777 %[1]s\nFROM scratch\nCOPY --from=made /x /\n", target))
		_, err = p.build()
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Category != CategoryUsage) {
			t.Errorf("%s: %v", name, err)
		}
		if st, statErr := os.Lstat(filepath.Join(out, "open")); err == nil && (statErr != nil || !st.Mode().IsRegular() || st.Size() != 5) {
			t.Errorf("%s: %v, %v", name, st, statErr)
		}
	}
}

// A cache mount whose paths are longer than the kernel takes does not keep anything from being counted, trimmed or removed.
func TestHostileH79_ADeepCacheMount(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, `FROM base
RUN --mount=type=cache,target=/c n=$(printf 'd%.0s' $(seq 200)); p=$(printf "$n/%.0s" $(seq 18)); cd /c; for i in 1 2 3; do mkdir -p $p && cd -P $p || exit 1; done; dd if=/dev/zero of=end bs=1k count=64 2>/dev/null
`, nil)
	_, err := p.build()
	must(t, err)
	b := p.builder()
	rows, err := b.DiskUsage(t.Context(), UsageFilter{})
	must(t, err)
	found := false
	for _, row := range rows {
		found = found || strings.HasPrefix(row.Type, "exec.cachemount") && row.Size > 64<<10
	}
	if !found {
		t.Errorf("the mount is not counted: %+v", rows)
	}
	must(t, b.Close())
	var left []string
	if !until(func() bool { // another test's child may hold this process's locks for a moment
		b := p.builder()
		_, err = b.Prune(t.Context(), PruneOptions{All: true})
		must(t, errors.Join(err, b.Close()))
		left, err = filepath.Glob(filepath.Join(p.root, "mounts/*"))
		return err != nil || len(left) == 0
	}) || err != nil {
		t.Errorf("left: %q, %v", left, err)
	}
}
