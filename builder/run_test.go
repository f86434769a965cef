package builder

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// shellBase makes a stage called base with a shell, from the host's static busybox.
const shellBase = `FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && /bin/mkdir -p /tmp /etc && echo root:x:0:0::/root:/bin/sh > /etc/passwd"]
`

func newShellProject(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	return newShellProjectOf(t, shellBase+dockerfile, files)
}

// newShellProjectOf has busybox in its context.
func newShellProjectOf(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs the package busybox-static: ", err)
	}
	p := newProject(t, dockerfile, files)
	p.write("busybox", string(data))
	if err := os.Chmod(p.dir+"/busybox", 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// output is what the steps of the last build wrote.
func (p *project) output() string {
	var all strings.Builder
	for _, e := range p.events {
		if e.Type == EventOutput {
			all.Write(e.Data)
		}
	}
	return all.String()
}

// added runs a build whose last stage is FROM base, and gives the lines of its tree that base does not have.
func (p *project) added() string {
	p.t.Helper()
	tree, err := p.tree()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.output())
	}
	var out []string
	for line := range strings.Lines(tree) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "bin") && line != "tmp 0755 0:0 /" && !strings.HasPrefix(line, "etc") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestMounts(t *testing.T) {
	for _, tc := range []struct {
		name, dockerfile string
		files            map[string]string
		output, tree     string
	}{
		{
			name: "B22 bind of the context is read-only and leaves nothing", dockerfile: "FROM base\nRUN --mount=target=/ctx cat /ctx/a && ! touch /ctx/b 2>/dev/null && echo ro",
			files: map[string]string{"a": "A\n"}, output: "A\nro\n",
		},
		{
			name: "H-20 what is ignored does not show in a bind", dockerfile: "FROM base\nRUN --mount=target=/ctx ls /ctx | grep -v busybox",
			files: map[string]string{"a": "A", "secret": "s", ".dockerignore": "secret\n.dockerignore\nDockerfile"}, output: "a\n",
		},
		{
			name:       "B22 bind of a folder and a file of a stage",
			dockerfile: "FROM base AS two\nRUN mkdir -p /d/e && echo hi > /d/e/f\nFROM base\nRUN --mount=from=two,source=/d,target=/mnt --mount=from=two,source=/d/e/f,target=/one cat /mnt/e/f /one",
			output:     "hi\nhi\n",
		},
		{
			name:       "B22 writes to a writable bind are thrown away",
			dockerfile: "FROM base AS two\nRUN mkdir /d\nFROM base\nRUN --mount=from=two,source=/d,target=/mnt,rw --mount=target=/ctx,rw touch /mnt/x /ctx/y && ls /mnt\nRUN --mount=from=two,source=/d,target=/mnt --mount=target=/ctx ls /mnt; ls /ctx/y 2>/dev/null || echo gone",
			output:     "x\ngone\n",
		},
		{
			name:       "B22 a link as source is resolved inside its tree",
			dockerfile: "FROM base AS two\nRUN mkdir /real && echo in > /real/f && ln -s /real /link\nFROM base\nRUN --mount=from=two,source=/link,target=/m cat /m/f",
			output:     "in\n",
		},
		{
			name:       "B23 a cache outlives steps and is in no layer",
			dockerfile: "FROM base\nRUN --mount=type=cache,target=/c,mode=0700,uid=5 echo 1 > /c/x; ls -ldn /c | cut -c1-10\nRUN --mount=type=cache,target=/c,mode=0700,uid=5 cat /c/x",
			output:     "drwx------\n1\n",
		},
		{
			name:       "B23 a cache's folder gets no special bits",
			dockerfile: "FROM base\nRUN --mount=type=cache,target=/c,mode=1770,gid=5 stat -c '%a %g' /c",
			output:     "770 5\n",
		},
		{
			name: "B47 devices and FIFOs are copied as what they are",
			dockerfile: "FROM base AS two\nRUN mkdir /d && mknod /d/b b 7 0 && mknod /d/c c 1 3 && mkfifo /d/p\nFROM base\n" +
				"COPY --from=two /d /d\nRUN [ -b /d/b ] && [ -c /d/c ] && [ -p /d/p ] && echo kept",
			output: "kept\n",
			tree:   lines("d 0755 0:0 /", "d/b 0644 0:0 0", "d/c 0644 0:0 0", "d/p 0644 0:0 0"),
		},
		{
			name:       "B23 a cache starts from its seed",
			dockerfile: "FROM base AS seed\nRUN mkdir /s && echo seed > /s/f\nFROM base\nRUN --mount=type=cache,id=x,from=seed,source=/s,target=/c cat /c/f",
			output:     "seed\n",
		},
		{
			name:       "B24 tmpfs",
			dockerfile: "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && df -k /t | tail -n1 | awk '{print $2}'",
			output:     "1024\n",
		},
		{
			name:       "B25 secrets as file and variable",
			dockerfile: "FROM base\nRUN --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOK --mount=type=secret,id=none cat /run/secrets/tok; echo \"$TOK\"; stat -c %a /run/secrets/tok",
			output:     "s3cret\ns3cret\n400\n",
		},
		{
			name:       "G3 a missing WORKDIR is made for the user and stays",
			dockerfile: "FROM base\nCOPY passwd /etc/passwd\nRUN true\nUSER web\nWORKDIR /srv/app\nRUN pwd; id -u",
			files:      map[string]string{"passwd": "root:x:0:0::/:/bin/sh\nweb:x:33:33::/home:/bin/sh\n"}, output: "/srv/app\n33\n",
			tree: lines("srv 0755 33:33 /", "srv/app 0755 33:33 /"),
		},
		{
			name: "A16 a script with a shebang", dockerfile: "FROM base\nRUN <<EOF\n#!/bin/cat\nhello\nEOF\n", output: "#!/bin/cat\nhello\n",
		},
		{
			name: "G1 nothing of the host is in the environment", dockerfile: "FROM base\nARG A=1\nENV E=2\nRUN env | sort",
			output: "A=1\nE=2\nHOME=/root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSHLVL=1\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, tc.dockerfile, tc.files)
			p.opt.Secrets = map[string]SecretSource{"tok": {Data: []byte("s3cret\n")}}
			if got := p.added(); got != tc.tree {
				t.Errorf("the tree has\n%s\nwant\n%s", got, tc.tree)
			}
			if got := strings.ReplaceAll(p.output(), "s3cret\n\n", "s3cret\n"); got != tc.output {
				t.Errorf("output\n%s\nwant\n%s", got, tc.output)
			}
			assertNowhere(t, p.root, "s3cret")
		})
	}
}

// assertNowhere looks for bytes in every file below a directory.
func assertNowhere(t *testing.T, dir, needle string) {
	t.Helper()
	for _, name := range filesBelow(t, dir) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), needle) {
			t.Errorf("%s holds %q", name, needle)
		}
	}
}

func TestRunFailures(t *testing.T) {
	for _, tc := range []struct {
		name, dockerfile, err, hint string
		category                    Category
		code                        int
	}{
		{"F5 a script with Windows line ends", "FROM base\nCOPY --chmod=755 <<x /x\n#!/bin/sh\r\ntrue\r\nx\nRUN /x", "exit code: 127", "Windows line ends", CategoryStep, 127},
		{"F5 what bash says of them", "FROM base\nRUN echo '/x: /bin/sh^M: bad interpreter' >&2; exit 126", "exit code: 126", "Windows line ends", CategoryStep, 126},
		{"F5 /etc/hosts", "FROM base\nRUN echo 10.0.0.1 db >> /etc/hosts", "exit code: 1", "--add-host", CategoryStep, 1},
		{"F5 names that do not resolve", "FROM base\nRUN wget http://nosuch.invalid/", "exit code: 1", "--dns", CategoryStep, 1},
		{"F5 a full tmpfs", "FROM base\nRUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/f bs=100k count=1", "exit code: 1", "size=", CategoryStep, 1},
		{"F5 G22 another platform", "FROM base\nCOPY --chmod=755 <<x /x\n\x7fELF\x02\x01\x01\nx\nRUN [\"/x\"]", "exit code: 126", "another platform", CategoryStep, 126},
		{"B20 F1 exit code and last output", "FROM base\nRUN echo last; exit 3", "exit code: 3", "", CategoryStep, 3},
		{"misspelt program", "FROM base\nRUN nosuchtool all", "exit code: 127", "not in its PATH", CategoryStep, 127},
		{"F5 no shell", "FROM scratch\nCOPY Dockerfile /\nRUN true", "exit code: 127", "no shell", CategoryStep, 127},
		{"not executable", "FROM base\nCOPY Dockerfile /x\nRUN [\"/x\"]", "exit code: 126", "--chmod", CategoryStep, 126},
		{"signal", "FROM base\nRUN kill -SEGV $$", "SIGSEGV", "", CategoryStep, 139},
		{"F5 missing secret", "FROM base\nRUN --mount=type=secret,id=tok,required=true true", "was not given", "--secret id=tok", CategoryUsage, 0},
		{"B22 missing bind source", "FROM base\nRUN --mount=source=nope,target=/x true", "nope", "", CategoryUsage, 0},
		{"B30 device", "FROM base\nRUN --device=vendor.com/gpu=all true", "", "", CategoryUsage, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newShellProject(t, tc.dockerfile, nil)
			_, err := p.build()
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v", err)
			}
			if tc.name == "B30 device" {
				if e.Category != CategoryUsage && e.Category != CategoryUnsafe {
					t.Errorf("%s: %v", e.Category, e)
				}
				return
			}
			if e.Category != tc.category || !strings.Contains(e.Error(), tc.err) || !strings.Contains(e.Hint, tc.hint) || e.ExitCode != tc.code || e.Pos.Start == 0 {
				t.Errorf("%s, code %d at %v: %v; hint %q", e.Category, e.ExitCode, e.Pos, e, e.Hint)
			}
			if tc.code == 3 && strings.Join(e.Tail, "|") != "last" {
				t.Errorf("tail %q", e.Tail)
			}
		})
	}
}

func TestB29G12_InsecureSteps(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && echo mounted && umount /m && rmdir /m\n"+
		"RUN mount -t tmpfs none /tmp 2>&1 | grep -o 'denied\\|permitted'\nRUN --security=sandbox echo sandbox", nil)
	var refused *Error
	if _, err := p.build(); !errors.As(err, &refused) || refused.Category != CategoryUnsafe || !strings.Contains(refused.Hint, "--allow security.insecure") {
		t.Fatal(err)
	}
	p.opt.Allow = []string{"security.insecure"}
	if got := p.added(); got != "" {
		t.Errorf("in the layers: %s", got)
	}
	if got := p.output(); got != "mounted\npermitted\nsandbox\n" && got != "mounted\ndenied\nsandbox\n" {
		t.Errorf("%q", got)
	}
}

func TestI3_SecurityIsInTheKey(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN --security=sandbox true", nil)
	seen := map[string]string{}
	key := func(name string) {
		t.Helper()
		res, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		last := string(res.Steps[len(res.Steps)-1].Key)
		if other, twice := seen[last]; twice {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[last] = name
	}
	key("default")
	p.opt.Run.CapDrop = []string{"MKNOD"}
	key("dropped capability")
	p.opt.Run.CapDrop, p.opt.Run.CapAdd = nil, []string{"MKNOD"}
	key("added capability")
	p.opt.Run = RunOptions{NoNewPrivileges: true}
	key("no new privileges")
	p.opt.Run = RunOptions{SeccompNone: true}
	key("no filter")
	p.opt.Run = RunOptions{NoHosts: true}
	key("no hosts")
	p.opt.Run = RunOptions{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapon"],"action":"SCMP_ACT_ERRNO"}]}`}
	key("filter")
	p.write("Dockerfile", shellBase+"FROM base\nRUN --security=insecure true")
	p.opt.Run, p.opt.Allow = RunOptions{}, []string{"security.insecure"}
	key("insecure")
}

func TestG20O3_StepsTellTheirSizeAndUse(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN dd if=/dev/zero of=/big bs=1000 count=5\nRUN true\nCOPY four /\n", map[string]string{"four": "1234"})
	for _, cached := range []bool{false, true} {
		res, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int64
		for _, e := range p.events {
			if e.Type == EventStepDone {
				sizes = append(sizes, e.Bytes)
			}
		}
		if n := len(sizes); n < 3 || sizes[n-3] != 5000 || sizes[n-2] != 0 || sizes[n-1] != 4 {
			t.Errorf("cached %v: events tell %d", cached, sizes)
		}
		run := res.Steps[len(res.Steps)-3]
		if run.Bytes != 5000 || run.Cached != cached || cached == (run.CPUUser+run.CPUSystem > 0) {
			t.Errorf("cached %v: %+v", cached, run)
		}
	}
}

func TestG21_AStepThatTakesTooLongIsEnded(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN true\n", nil)
	if _, err := p.build(); err != nil { // from here on the steps of base are cached
		t.Fatal(err)
	}
	p.write("Dockerfile", shellBase+"FROM base\nRUN while true; do sleep 1; done\n")
	p.opt.Run.StepTimeout = time.Millisecond
	_, err := p.build()
	var e *Error
	if !errors.As(err, &e) || e.Category != CategoryStep || !strings.Contains(err.Error(), "longer than --step-timeout 1ms") || e.Pos.Start == 0 || e.Step == nil {
		t.Fatal(err)
	}
}

func TestB30_Devices(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN --device=vendor1.com/device=foo,required --device=vendor2.com/device=bar echo $FOO && head -c1 /dev/foo | wc -c\n"+
		"RUN --device=/dev/zero:/dev/zero2 head -c1 /dev/zero2 | wc -c\nRUN ls /dev/foo 2>/dev/null; echo \"none$FOO\"", nil)
	var refused *Error
	if _, err := p.build(); !errors.As(err, &refused) || refused.Category != CategoryUnsafe {
		t.Fatal(err)
	}
	p.opt.Allow = []string{"device=vendor1.com/device", "device=vendor2.com/device=bar", "device=/dev/zero"}
	if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "vendor1.com/device=foo") || !strings.Contains(err.Error(), "no such device") {
		t.Fatal(err)
	}
	vendor := func(name string) {
		t.Helper()
		if err := os.MkdirAll(p.root+"/cdi", 0o700); err != nil {
			t.Fatal(err)
		}
		text := `{"cdiVersion":"0.6.0","kind":"` + name + `","devices":[{"name":"foo","containerEdits":{"env":["FOO=injected"],"deviceNodes":[{"path":"/dev/foo","hostPath":"/dev/zero"}]}},{"name":"bar","containerEdits":{"env":["BAR=1"]}}]}`
		if err := os.WriteFile(p.root+"/cdi/"+strings.ReplaceAll(name, "/", "-")+".json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vendor("vendor1.com/device")
	first, err := p.build()
	if err != nil {
		t.Fatal(err, p.output())
	}
	if got := p.output(); !strings.HasSuffix(got, "injected\n1\n1\nnone\n") {
		t.Errorf("%q", got)
	}
	vendor("vendor2.com/device") // what was absent is there now: the step may give something else
	second, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(first.Steps) - 3; second.Steps[n].Cached || first.Steps[n].Key == second.Steps[n].Key {
		t.Error("a step is taken from the cache although a device is there now")
	}
}

func TestG10_DevicesOfTheCommandLine(t *testing.T) {
	p := newShellProject(t, "FROM base\nRUN head -c1 /dev/zero2 | wc -c", nil)
	p.opt.Run.Devices = []string{"/dev/zero:/dev/zero2"}
	if _, err := p.build(); err != nil || !strings.HasSuffix(p.output(), "1\n") {
		t.Errorf("%v %q", err, p.output())
	}
	p.opt.Run.Devices = []string{"/dev/no-such-device"}
	if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Error(err)
	}
}
