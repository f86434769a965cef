package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// One step swaps a folder of a shared mount with a link out, as fast as it can, while others have something mounted below it. The
// link leads to the host's files, to /proc, to the root: what is mounted lands inside the step's root, or nowhere.
func TestHostileH66R01R02_LinksSwappedInASharedMount(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	canary := f.guard(t)
	for name, link := range map[string]string{
		"out by name": canary.Dir, "out by dots": strings.Repeat("../", 40) + strings.TrimPrefix(canary.Dir, "/"), "to proc": "/proc/sys", "to the root": "/",
		"to init's root": "/proc/1/root" + canary.Dir,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := newDir(t, f.dir)
			mustMkdir(t, filepath.Join(shared, "here"))
			must(t, os.Symlink(link, filepath.Join(shared, "there")))
			cache := Mount{Type: MountBind, Source: shared, Target: "/c"}
			attacker := f.spec(t, "")
			attacker.Args, attacker.Mounts = []string{"/bin/attack", "swap", "/c/here", "/c/there"}, []Mount{cache}
			r, w := io.Pipe()
			attacker.Stdout = w
			ctx, cancel := context.WithCancel(t.Context())
			f2 := withDelay(t, f)
			var done sync.WaitGroup
			done.Go(func() { _, _ = f2.Run(ctx, attacker); _ = w.Close() })
			line := make([]byte, len("swapping\n"))
			_, err := io.ReadFull(r, line)
			must(t, err)
			done.Go(func() { _, _ = io.Copy(io.Discard, r) })
			inside := 0
			for range 25 {
				s := f.spec(t, "cat /c/*/etc/shadow 2>/dev/null; cut -d' ' -f5 /proc/self/mountinfo | grep -cE '/(x/mine|t)$'")
				s.Mounts = []Mount{cache, {Type: MountFile, Target: "/c/here/x/mine", Data: []byte("mine"), Mode: 0o644}, {Type: MountTmpfs, Target: "/c/there/t"}}
				out, err := f.run(t, s)
				switch {
				case strings.Contains(out, canary.Secret):
					t.Fatalf("the step reads the host: %q", out)
				case err == nil && out == "2\n":
					inside++
				case err == nil:
					t.Errorf("something is mounted elsewhere: %q", out)
				}
				assertGone(t, s)
			}
			cancel()
			done.Wait()
			t.Logf("%d of 25 steps had their mounts", inside)
		})
	}
}

// withDelay is a Runner that kills a cancelled step at once.
func withDelay(t *testing.T, f *fixture) *Runner {
	t.Helper()
	cfg := f.cfg
	cfg.KillDelay = 1
	r, err := New(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func TestHostileH68R07_NoWayUpFromAChroot(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	out, _ := f.attack(t, f.spec(t, ""), "chroot")
	if want := "/bin\n/dev\n/etc\n/jail\n/proc\n/root\n/sys\n/tmp\ndone\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// Root in a step has exactly the capabilities of the container engines, none to hand on, and all mounts are nodev; a user has none.
func TestHostileH68R07R09R10_WhatAStepIs(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	const script = `grep -E '^(Cap|Groups|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\t' ' '; ulimit -c; ulimit -Hc
awk '{ print $5, $6 }' /proc/self/mountinfo | grep -vE '(^| |,)nodev' | grep -vE '^/dev/(null|zero|full|random|urandom|tty|pts) ' && echo BAD devices work there
awk '{ print $5, $6 }' /proc/self/mountinfo | grep -E '^/(proc|sys)(/| )' | grep -vE 'nosuid,nodev,noexec' && echo BAD programs of /proc
awk '{ print $5, $6 }' /proc/self/mountinfo | grep -E '^/(sys|proc/(bus|fs|irq|sys|sysrq-trigger))( |/)' | grep -vE ' ro,' && echo BAD writable
awk '{ for (i = 7; $i != "-"; i++) print $5, $i }' /proc/self/mountinfo
env | grep -v -E '^(PATH|HOME|PWD|SHLVL|OLDPWD)='; echo done`
	for user, want := range map[string]string{
		"":    "Groups: 0 \nCapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\nCapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\n",
		"app": "Groups: 50 1000 \nCapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\n",
	} {
		s := f.spec(t, script)
		s.User = user
		if out, _ := f.sh(t, s); out != want+"NoNewPrivs: 0\nSeccomp: 2\n0\n0\ndone\n" {
			t.Errorf("user %q: %s", user, out)
		}
	}
	own := map[string]string{}
	for _, name := range namespaceNames() {
		target, err := os.Readlink("/proc/self/ns/" + name)
		must(t, err)
		own[name] = target
	}
	out, _ := f.sh(t, f.spec(t, "cd /proc/self/ns && for n in cgroup ipc mnt net pid uts; do echo $n $(readlink $n); done"))
	for line := range strings.Lines(out) {
		if name, target, _ := strings.Cut(strings.TrimSpace(line), " "); target == "" || target == own[name] {
			t.Errorf("the step shares %s", line)
		}
	}
}

// The init of a step holds what a step must not have: the way to gobuild, its program, the scratch root.
func TestHostileH71R13R14_TheInitAndGobuildsProgram(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	for _, user := range []string{"", "app"} {
		s := f.spec(t, "")
		s.User = user
		if out, _ := f.attack(t, s, "self"); out != "done\n" {
			t.Errorf("user %q:\n%s", user, out)
		}
	}
	// A program that a step finds by the init's name is not gobuild's, and neither is an interpreter.
	s := f.spec(t, "cp /proc/1/exe /tmp/x 2>/dev/null && echo BAD copied; printf '#!/proc/1/exe\n' > /tmp/i; chmod +x /tmp/i; /tmp/i 2>/dev/null && echo BAD ran; exec 3</proc/self/exe; head -c 4 <&3 | tail -c 3; echo")
	if out, _ := f.sh(t, s); out != "ELF\n" {
		t.Error(out)
	}
}

// A step without a network reaches no service of the machine, by address or by abstract socket, and changes nothing of networks.
func TestHostileH73R17_TheMachinesNetwork(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer tcp.Close()
	abstract, err := net.Listen("unix", "@gobuild-test-"+filepath.Base(f.dir)+strconv.Itoa(os.Getpid()))
	must(t, err)
	defer abstract.Close()
	for _, user := range []string{"", "app"} {
		s := f.spec(t, "")
		s.User = user
		out, _ := f.attack(t, s, "net", "tcp", tcp.Addr().String(), "unix", abstract.Addr().String(), "tcp", "169.254.169.254:80", "tcp", "[::1]:"+port(tcp), "udp", "8.8.8.8:53")
		if out != "done\n" {
			t.Errorf("user %q:\n%s", user, out)
		}
	}
	// The alarm works: in the machine's network, which must be asked for, both are reached. There raw sockets are closed.
	s := f.spec(t, "")
	s.Network = NetworkHost
	out, _ := f.attack(t, s, "net", "tcp", tcp.Addr().String(), "unix", abstract.Addr().String())
	if want := "BAD connect to " + tcp.Addr().String() + "\nBAD connect to " + abstract.Addr().String() + "\ndone\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

// What a step takes for itself alone ends at its limits, and a step beside it goes on.
func TestHostileH74R16_WhatAStepTakes(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	h, err := f.groups.find()
	must(t, err)
	if !h.has("memory") || !h.has("pids") {
		t.Skip("needs the cgroup controllers memory and pids")
	}
	neighbour := f.spec(t, "cat; echo lives")
	wait, release := io.Pipe()
	var out bytes.Buffer
	neighbour.Stdin, neighbour.Stdout = wait, &out
	var beside sync.WaitGroup
	beside.Go(func() {
		if _, err := f.Run(t.Context(), neighbour); err != nil {
			t.Error(err)
		}
	})
	bomb := f.spec(t, `b() { b | b & }; i=0; while [ $i -lt 200 ]; do (b) 2>/dev/null; i=$((i+1)); done; exit 7`)
	bomb.Limits.PidsLimit = 40
	if _, res := f.sh(t, bomb); res.PeakPids > 40+initPids {
		t.Errorf("fork bomb: %+v", res)
	}
	assertGone(t, bomb)
	hungry := f.spec(t, "")
	hungry.Limits = Limits{MemoryBytes: 96 << 20, MemorySwap: 96 << 20}
	if _, res := f.attack(t, hungry, "memory"); !res.OOMKilled || res.ExitCode != 137 {
		t.Errorf("all memory: %+v", res)
	}
	files, res := f.attack(t, f.spec(t, ""), "files")
	var opened int
	if _, err := fmt.Sscanf(files, "descriptors: %d", &opened); err != nil || opened > maxNoFile || res.ExitCode != 0 {
		t.Errorf("descriptors: %q, %+v", files, res)
	}
	if out, _ := f.attack(t, f.spec(t, ""), "lock"); strings.Contains(out, "mlock of") && !unlimitedMemlock(t) {
		t.Error(out)
	}
	s := f.spec(t, "dd if=/dev/zero of=/dev/shm/full bs=1M 2>/dev/null; du -m /dev/shm/full | cut -f1; dd if=/dev/zero of=/dev/full bs=1 count=1 2>/dev/null || echo full; dd if=/dev/zero of=/dev/big bs=1M 2>/dev/null; du -m /dev/big | cut -f1")
	if out, _ := f.sh(t, s); out != "64\nfull\n64\n" {
		t.Errorf("shared memory: %q", out)
	}
	must(t, release.Close())
	beside.Wait()
	if out.String() != "lives\n" {
		t.Errorf("the step beside them: %q", out.String())
	}
}

func unlimitedMemlock(t *testing.T) bool {
	t.Helper()
	var l unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l))
	return l.Cur >= 64<<20
}
