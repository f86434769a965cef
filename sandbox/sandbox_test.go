package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/testexec"
)

func TestG18_ExitStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, c := range []struct {
		script       string
		code, signal int
	}{
		{"exit 0", 0, 0}, {"exit 3", 3, 0}, {"exit 255", 255, 0},
		{"kill -9 $$", 137, 9}, {"kill -TERM $$", 143, 15}, {"kill -SEGV $$", 139, 11},
		{"kill -9 1; kill -STOP 1; kill -SEGV 1; kill -ABRT 1; exit 4", 4, 0}, // init takes none of it
	} {
		if out, res := f.sh(t, f.spec(t, c.script)); res.ExitCode != c.code || res.Signal != c.signal {
			t.Errorf("%s: %+v, want %d and signal %d\n%s", c.script, res, c.code, c.signal, out)
		}
	}
}

func TestB20_CommandThatCannotStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, os.WriteFile(filepath.Join(f.lower, "bin/plain"), []byte("text"), 0o644))
	must(t, testexec.WriteFile(filepath.Join(f.lower, "bin/format"), []byte("no program")))
	must(t, testexec.WriteFile(filepath.Join(f.lower, "bin/script"), []byte("#!/no/such\n")))
	for _, c := range []struct {
		args []string
		code int
		why  ExecFailure
		text string
	}{
		{[]string{"ghost"}, 127, ExecNotFound, `exec: "ghost": executable file not found in $PATH`},
		{[]string{"/bin/ghost"}, 127, ExecNotFound, `exec: "/bin/ghost": no such file`},
		{[]string{"/bin/script"}, 127, ExecNotFound, "no such file"},
		{[]string{"plain"}, 126, ExecNotExecutable, "permission denied"},
		{[]string{"/bin/plain"}, 126, ExecNotExecutable, "permission denied"},
		{[]string{"/etc"}, 126, ExecNotExecutable, "permission denied"},
		{[]string{"format"}, 126, ExecBadFormat, "exec format error"},
		{[]string{"true", strings.Repeat("x", 200<<10)}, 126, ExecTooLong, "argument list too long"},
	} {
		s := f.spec(t, "")
		s.Args = c.args
		out, res := f.sh(t, s)
		if res.ExitCode != c.code || res.Exec != c.why || !strings.Contains(out, c.text) {
			t.Errorf("%.40s: %+v %q", c.args, res, out)
		}
		assertUpperEmpty(t, s)
	}
}

func TestG1_Environment(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "")
	s.Args = []string{"env"}
	s.Env = []string{"A=1", "B=\xff\xfe", "A=2", "KEY=old"}
	s.SecretEnv = []string{"KEY=s3cret"}
	s.User = "app"
	out, _ := f.sh(t, s)
	want := "A=2\nB=\xff\xfe\nPATH=" + defaultPath + "\nHOME=/home/app\nKEY=s3cret\n"
	if out != want {
		t.Errorf("environment %q, want %q", out, want)
	}
}

func TestG2_Users(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, c := range []struct{ user, want string }{
		{"", "uid=0(root) gid=0(root) groups=0(root)"},
		{"app", "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)"},
		{"1000", "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)"},
		{"app:staff", "uid=1000(app) gid=50(staff) groups=50(staff)"},
		{"7:8", "uid=7 gid=8 groups=8"},
	} {
		s := f.spec(t, "id; grep CapBnd /proc/self/status; grep CapEff /proc/self/status; echo ok > /dev/stdout")
		s.User = c.user
		out, _ := f.sh(t, s)
		lines := strings.Split(out, "\n")
		eff := "CapEff:\t00000000a80425fb"
		if c.user != "" {
			eff = "CapEff:\t0000000000000000"
		}
		if lines[0] != c.want || lines[1] != "CapBnd:\t00000000a80425fb" || lines[2] != eff || lines[3] != "ok" {
			t.Errorf("user %q: %q", c.user, lines)
		}
	}
	for _, user := range []string{"ghost", "4294967296", "-1", "app:ghost"} {
		s := f.spec(t, "id")
		s.User = user
		if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrUserUnknown) || !strings.Contains(err.Error(), user) {
			t.Errorf("user %q: %v", user, err)
		}
	}
}

func TestG3_WorkingDirectory(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, os.Symlink("/../../tmp", filepath.Join(f.lower, "link")))
	mustMkdir(t, filepath.Join(f.lower, "locked"))
	must(t, os.Chmod(filepath.Join(f.lower, "locked"), 0o700))
	for _, c := range []struct{ dir, want string }{
		{"", "/"}, {"/tmp", "/tmp"}, {"/link", "/tmp"}, {"/link/new/deep", "/tmp/new/deep"}, {"/locked", "/locked"},
	} {
		s := f.spec(t, "")
		s.Args, s.Dir, s.User = []string{"readlink", "/proc/self/cwd"}, c.dir, "app"
		if out, _ := f.sh(t, s); strings.TrimSpace(out) != c.want {
			t.Errorf("directory %q: %q", c.dir, out)
		}
		if strings.HasSuffix(c.dir, "deep") {
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(s.Upper, "tmp/new/deep"), &st))
			if st.Uid != 1000 || st.Mode != unix.S_IFDIR|0o755 {
				t.Errorf("made directory has owner %d and mode %o", st.Uid, st.Mode)
			}
		}
	}
	for _, dir := range []string{"/bin/sh", "/bin/sh/x", "/proc/self/fd", "/proc/ghost"} {
		s := f.spec(t, "pwd")
		s.Dir = dir
		if out, err := f.run(t, s); dir != "/proc/self/fd" && !errors.Is(err, ErrWorkDir) {
			t.Errorf("directory %q: %q, %v", dir, out, err)
		}
	}
}

func TestHostileH71_WorkDirOverDescriptors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	for fd := range 41 {
		s := f.spec(t, "pwd")
		s.Dir = fmt.Sprintf("/proc/self/fd/%d", fd)
		if out, err := f.run(t, s); !errors.Is(err, ErrWorkDir) {
			t.Fatalf("WORKDIR %s: %q, %v", s.Dir, out, err)
		}
	}
	out, _ := f.sh(t, f.spec(t, "ls /proc/self/fd; for p in /proc/1/exe /proc/1/root /proc/1/cwd; do readlink $p && echo BAD; done; echo x > /proc/1/exe"))
	if strings.Contains(out, "BAD") || !strings.Contains(out, "Permission denied") || strings.Contains(out, "4\n5") {
		t.Error(out)
	}
}

func TestG4_UmaskAndStdio(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	out, _ := f.sh(t, f.spec(t, "umask; cat; readlink /proc/self/fd/0; tty; grep -c . /proc/self/oom_score_adj; cat /proc/self/oom_score_adj /proc/1/oom_score_adj; ulimit -c; ulimit -n"))
	lines := strings.Split(out, "\n")
	if lines[0] != "0022" || lines[1] != "/dev/null" || lines[2] != "not a tty" || lines[4] != "500" || lines[5] != "0" || lines[6] != "0" {
		t.Errorf("%q", lines)
	}
	s := f.spec(t, "cat; echo done >&2")
	s.Stdin = strings.NewReader("input")
	if out, _ := f.sh(t, s); out != "inputdone\n" {
		t.Errorf("stdin: %q", out)
	}
	s = f.spec(t, "exit 5") // reads nothing of an endless input
	s.Stdin = endless{}
	if _, res := f.sh(t, s); res.ExitCode != 5 {
		t.Error(res)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestG5G6G7_EtcFilesAndHostname(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "hostname; cat /etc/hosts /etc/resolv.conf; echo x > /etc/hosts; rm /etc/resolv.conf; true")
	s.Hosts = []string{"10.0.0.1 db", "::2 six"}
	s.DNS, s.Hostname = DNS{Servers: []string{"192.0.2.1"}, Search: []string{"a.test", "b.test"}, Options: []string{"ndots:2"}}, "box"
	out, _ := f.sh(t, s)
	want := "box\n127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\tdb\n::2\tsix\nnameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:2\n"
	if !strings.HasPrefix(out, want) || !strings.Contains(out, "Read-only file system") || !strings.Contains(out, "busy") {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
	if out, _ := f.sh(t, f.spec(t, "hostname")); out != defaultHostname+"\n" {
		t.Errorf("%q", out)
	}
}

func TestG5_LinkInPlaceOfEtcFileIsCovered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, os.Symlink("../run/systemd/resolv.conf", filepath.Join(f.lower, "etc/resolv.conf")))
	must(t, os.Symlink("/tmp/hosts", filepath.Join(f.lower, "etc/hosts")))
	must(t, os.WriteFile(filepath.Join(f.lower, "tmp/hosts"), []byte("image"), 0o644))
	s := f.spec(t, "grep -c localhost /etc/hosts; cat /etc/resolv.conf /tmp/hosts")
	s.DNS = DNS{Servers: []string{"192.0.2.1"}, Search: []string{"."}, Options: []string{"x"}}
	if out, _ := f.sh(t, s); out != "2\nnameserver 192.0.2.1\nsearch .\noptions x\nimage" {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

func TestG5G6_TheImagesOwnFilesAreLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	must(t, os.WriteFile(filepath.Join(f.lower, "etc/hosts"), []byte("hosts of the image\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(f.lower, "etc/resolv.conf"), []byte("resolver of the image\n"), 0o644))
	s := f.spec(t, "cat /etc/hosts /etc/resolv.conf; echo more >> /etc/hosts")
	s.NoHosts, s.DNS = true, DNS{None: true}
	if out, _ := f.sh(t, s); out != "hosts of the image\nresolver of the image\n" {
		t.Errorf("%q", out)
	}
	if got := tree(t, s.Upper); got != "etc etc/hosts" {
		t.Errorf("what the step wrote is not in its layer: %s", got)
	}
}

func TestG6_EachPartOfTheResolverIsReplacedByItself(t *testing.T) {
	t.Parallel()
	const host = "# made by hand\ndomain old.test\nnameserver\t192.0.2.1\nsearch old.test\noptions ndots:5"
	for _, tc := range []struct {
		name string
		dns  DNS
		want string
	}{
		{"nothing", DNS{}, host + "\n"},
		{"servers", DNS{Servers: []string{"::1", "192.0.2.9"}}, "# made by hand\ndomain old.test\nsearch old.test\noptions ndots:5\nnameserver ::1\nnameserver 192.0.2.9\n"},
		{"search", DNS{Search: []string{"a", "b"}}, "# made by hand\nnameserver\t192.0.2.1\noptions ndots:5\nsearch a b\n"},
		{"options", DNS{Options: []string{"rotate"}}, "# made by hand\ndomain old.test\nnameserver\t192.0.2.1\nsearch old.test\noptions rotate\n"},
	} {
		if got := string(tc.dns.apply([]byte(host))); got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}

func TestResolvFromHost(t *testing.T) {
	t.Parallel()
	out, kept := new(networks).view(NetworkBridge).reachable([]byte("search a\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.7"))
	if string(out) != "search a\nnameserver 192.0.2.7\n" || kept != 1 {
		t.Errorf("%q, %d", out, kept)
	}
}

func TestG9G10_MountsAndDevices(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	out, _ := f.sh(t, f.spec(t, `
for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done
[ -e /dev/core ] && echo core
[ "$(readlink /dev/ptmx)" = pts/ptmx ] || echo ptmx
head -c 4 /dev/zero | wc -c
head -c 4 /dev/urandom | wc -c
echo x > /dev/null || echo null
echo x 2>/dev/null > /dev/full && echo full
for p in /proc/keys /proc/timer_list /proc/interrupts; do [ -e $p ] && [ -s $p ] && echo unmasked $p; cat $p; done
ls /sys/firmware
for p in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/irq/x /proc/bus/x /sys/kernel/uevent_helper /sys/fs/cgroup/memory/x /sys/fs/cgroup/x; do
  (echo x > $p) 2>/dev/null && echo wrote $p; done
grep -v nodev /proc/mounts | grep -v ' /dev/'
for m in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /sys/fs/cgroup; do grep -q " $m " /proc/mounts || echo no $m; done
mknod /blk b 8 0 || echo cannot mknod; mknod /mem c 1 1; mknod /dev/mem c 1 1; mknod /dev/shm/mem c 1 1; mknod /nul c 1 3
for p in /blk /mem /dev/mem /dev/shm/mem /nul; do cat $p > /dev/null 2>&1 && echo opened $p; done
true`))
	if out != "4\n4\n" {
		t.Errorf("%q", out)
	}
}

func TestG9_ShmSize(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "df -k /dev/shm | tail -1 | awk '{print $2}'; grep -c ' /dev/shm .*noexec' /proc/mounts; ls -ld /dev/shm | cut -c1-10")
	s.ShmSize = 8 << 20
	if out, _ := f.sh(t, s); out != "8192\n0\ndrwxrwxrwt\n" {
		t.Errorf("%q", out)
	}
}

func TestHostileH36_HostileRoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	outside := f.guard(t).Dir
	for _, name := range []string{"proc", "sys", "dev"} {
		for kind, place := range map[string]func(string) error{
			"a link out": func(p string) error { return os.Symlink(outside, p) },
			"a file":     func(p string) error { return os.WriteFile(p, nil, 0o644) },
			"a FIFO":     func(p string) error { return unix.Mkfifo(p, 0o644) },
		} {
			s := f.spec(t, "true")
			must(t, place(filepath.Join(s.Upper, name)))
			if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrBadRoot) || !strings.Contains(err.Error(), "/"+name) {
				t.Errorf("/%s is %s: %v", name, kind, err)
			}
		}
	}
	s := f.spec(t, "grep -c localhost /etc/hosts")
	must(t, os.Symlink(outside, filepath.Join(s.Upper, "etc")))
	if out, err := f.run(t, s); err == nil && !strings.HasPrefix(out, "2") {
		t.Errorf("/etc is a link: %q", out)
	}
}

func TestG13_Rlimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, user := range []string{"", "app"} {
		s := f.spec(t, "ulimit -Sn; ulimit -Hn; ulimit -f; ulimit -Sv; ulimit -Hv; ulimit -v 100000 2>/dev/null && echo raised")
		s.User = user
		s.Rlimits = []Rlimit{{"nofile", 100, 200}, {"fsize", 1 << 20, 1 << 20}, {"as", 64 << 20, 64 << 20}}
		if out, _ := f.sh(t, s); out != "100\n200\n2048\n65536\n65536\n" {
			t.Errorf("user %q: %q", user, out)
		}
	}
	s := f.spec(t, "true")
	s.Rlimits = []Rlimit{{"turbo", 1, 1}}
	if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestG18_ZombiesAreReapedAndDaemonsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	start := time.Now()
	out, res := f.sh(t, f.spec(t, `
(sleep 0.01 & exec true) &
i=0; while ps | grep -q '[s]leep 0.01'; do i=$((i+1)); [ $i -gt 500 ] && break; done
sleep 0.05; cat /proc/[0-9]*/stat | grep -c ') Z '
setsid sleep 1000 &
(setsid sh -c 'trap "" TERM HUP; sleep 1000; echo late' &)
echo over`))
	if out != "0\nover\n" || res.ExitCode != 0 {
		t.Errorf("%q %+v", out, res)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestG18_OutputIsDrained(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "head -c 3000000 /dev/zero; head -c 1000000 /dev/zero >&2")
	var out, errOut bytes.Buffer
	s.Stdout, s.Stderr = &out, &errOut
	if _, err := f.Run(t.Context(), s); err != nil || out.Len() != 3000000 || errOut.Len() != 1000000 {
		t.Errorf("%d and %d bytes, %v", out.Len(), errOut.Len(), err)
	}
	s = f.spec(t, "head -c 3000000 /dev/zero; exit 6")
	s.Stdout = failing{}
	if res, err := f.Run(t.Context(), s); !errors.Is(err, unix.ENOSPC) || res.ExitCode != 6 {
		t.Errorf("a writer that fails: %+v, %v", res, err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestG16_NetworkNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "ip -o link | wc -l; ip addr show lo | grep -c 127.0.0.1; ls /sys/class/net; ls /proc/1/task/*/net/dev | wc -l >/dev/null; cat /proc/1/net/dev | wc -l")
	if out, _ := f.sh(t, s); out != "1\n1\nlo\n3\n" {
		t.Errorf("%q", out)
	}
}

func TestG16_HostNetworkHasNoRawSockets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "grep CapBnd /proc/self/status; readlink /proc/self/ns/net")
	s.Network = NetworkHost
	own, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	if out, _ := f.sh(t, s); out != "CapBnd:\t00000000a80405fb\n"+own+"\n" {
		t.Errorf("%q, host has %s", out, own)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "touch /x; touch /dev/shm/y && echo shm")
	s.ReadOnlyRoot = true
	if out, _ := f.sh(t, s); !strings.Contains(out, "Read-only") || !strings.Contains(out, "shm") {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
}

func TestEmptyLowerBindsUpper(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "")
	data, err := os.ReadFile(busybox)
	must(t, err)
	must(t, testexec.WriteFile(filepath.Join(s.Upper, "busybox"), data))
	s.Lower, s.Work, s.Args = nil, "", []string{"/busybox", "sh", "-c", "/busybox cat /etc/hosts | /busybox wc -l; echo > /made"}
	if out, _ := f.sh(t, s); out != "2\n" {
		t.Errorf("%q", out)
	}
	if got := tree(t, s.Upper); got != "busybox made" {
		t.Errorf("left: %s", got)
	}
}

func TestManyAndOddlyNamedLayers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, c := range []struct {
		name  string
		count int
	}{
		{"500", 499}, {"colons, commas and backslashes", 3},
	} {
		s := f.spec(t, "cat /top /l1")
		var lower []string
		for i := range c.count {
			dir := filepath.Join(f.dir, fmt.Sprintf("%s:%d,x=\\", c.name, i))
			mustMkdir(t, dir)
			must(t, os.WriteFile(filepath.Join(dir, "top"), fmt.Appendf(nil, "%d ", i), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("l%d", i)), fmt.Append(nil, "own"), 0o644))
			lower = append(lower, dir)
		}
		s.Lower = append(lower, f.lower)
		if out, _ := f.sh(t, s); out != "0 own" {
			t.Errorf("%s: %q", c.name, out)
		}
		fd, err := overlayByMount(s.Lower, s.Upper, newDir(t, f.dir))
		if err != nil {
			t.Errorf("%s by mount(2): %v", c.name, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, "l1", &st, 0); err != nil || st.Size != 3 {
			t.Errorf("%s by mount(2): %v", c.name, err)
		}
		_ = unix.Close(fd)
	}
	s := f.spec(t, "true")
	s.Lower = make([]string, maxLower+1)
	if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	s = f.spec(t, "true")
	s.Lower = append(s.Lower, filepath.Join(f.dir, "ghost"))
	if _, err := f.Run(t.Context(), s); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "ghost") {
		t.Errorf("a missing lower directory: %v", err)
	}
	s = f.spec(t, "true")
	s.Work = newDir(t, "/dev/shm")
	if _, err := f.Run(t.Context(), s); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "dmesg") {
		t.Errorf("an error that the kernel only logs: %v", err)
	}
	if _, err := newMount("tmpfs", 0, "size=lots"); err == nil || !strings.Contains(err.Error(), "Bad value for 'size'") {
		t.Errorf("the kernel's words are missing: %v", err)
	}
}

func TestG21_CancelLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{KillDelay: 200 * time.Millisecond})
	cause := errors.New("told to stop")
	for name, script := range map[string]string{
		"ends on TERM":    "trap 'exit 1' TERM; echo up; while :; do sleep 0.01; done",
		"ignores TERM":    "trap '' TERM; echo up; while :; do sleep 1000; done",
		"stopped":         "echo up; kill -STOP $$",
		"daemons as well": "setsid sh -c 'trap \"\" TERM; sleep 1000' & echo up; sleep 1000",
	} {
		ctx, cancel := context.WithCancelCause(context.Background())
		s := f.spec(t, script)
		s.Limits.PidsLimit = 100
		s.Stdout = onWrite(func() { cancel(cause) })
		start := time.Now()
		_, err := f.Run(ctx, s)
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		assertGone(t, s)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := f.Run(ctx, f.spec(t, "true")); !errors.Is(err, cause) {
		t.Error(err)
	}
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestRunnerCloses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "true")
	f.sh(t, s)
	f.Prepare(NetworkHost)
	must(t, f.Close())
	assertGone(t, s)
	if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestStepsInParallel(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Spares: 2})
	errs := make(chan error)
	for i := range 12 {
		s := f.spec(t, fmt.Sprintf("echo %d", i))
		s.Network = []string{NetworkHost, NetworkNone}[i%2]
		go func() {
			out, err := f.run(t, s)
			if err == nil && out != fmt.Sprintln(i) {
				err = fmt.Errorf("step %d printed %q", i, out)
			}
			errs <- err
		}()
	}
	for range 12 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestHostileF03_ParentKilled kills a process that runs a step: the step must be gone.
func TestHostileF03_ParentKilled(t *testing.T) {
	f := newFixture(t, Config{})
	s := f.spec(t, "echo up; exec sleep 1000")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperRun$", "-test.v")
	cmd.Env = append(os.Environ(), "SANDBOX_HELPER="+strings.Join([]string{s.Lower[0], s.Upper, s.Work}, "|"))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	seen := ""
	buf := make([]byte, 512)
	for !strings.Contains(seen, "up\n") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("helper: %v\n%s", err, seen)
		}
		seen += string(buf[:n])
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for len(users(t, s)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", users(t, s))
		}
	}
}

func TestHelperRun(t *testing.T) {
	dirs := strings.Split(os.Getenv("SANDBOX_HELPER"), "|")
	if len(dirs) != 3 {
		t.Skip("is started by TestHostileF03_ParentKilled")
	}
	r, err := New(Config{})
	must(t, err)
	_, err = r.Run(context.Background(), Spec{
		Lower: []string{dirs[0]}, Upper: dirs[1], Work: dirs[2], Network: NetworkHost,
		Args: []string{"/bin/sh", "-c", "echo up; exec sleep 1000"}, Stdout: os.Stdout,
	})
	t.Fatal("the step ended: ", err)
}

func TestInvalidSpecs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   error
	}{
		{"two filters", func(s *Spec) { s.Unconfined, s.Seccomp = true, "{}" }, ErrInvalid},
		{"filter without rules", func(s *Spec) { s.Seccomp = "{}" }, ErrInvalid},
		{"unknown network", func(s *Spec) { s.Network = "macvlan" }, ErrUnsupported},
		{"no network", func(s *Spec) { s.Network = "" }, ErrUnsupported},
		{"no command", func(s *Spec) { s.Args = nil }, ErrInvalid},
		{"NUL in environment", func(s *Spec) { s.Env = []string{"A=\x00"} }, ErrInvalid},
		{"NUL in secret", func(s *Spec) { s.SecretEnv = []string{"A=s3cr\x00et"} }, ErrInvalid},
		{"mount type", func(s *Spec) { s.Mounts = []Mount{{Type: "cifs", Target: "/x"}} }, ErrUnsupported},
		{"relative source", func(s *Spec) { s.Mounts = []Mount{{Type: MountBind, Source: "x", Target: "/x"}} }, ErrInvalid},
		{"hosts with newline", func(s *Spec) { s.Hosts = []string{"1.2.3.4 a\nb"} }, ErrInvalid},
	} {
		s := f.spec(t, "true")
		c.change(&s)
		if _, err := f.Run(t.Context(), s); !errors.Is(err, c.want) || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestG20_WhatAStepUsedIsCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	_, res := f.sh(t, f.spec(t, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/big bs=64k count=16 conv=fsync 2>/dev/null"))
	if res.CPUUser+res.CPUSystem <= 0 || res.Wall <= 0 || res.PeakMemory <= 0 || res.WrittenBytes < 0 || res.NetReceived != 0 || res.NetSent != 0 {
		t.Errorf("%+v", res)
	}
}

func TestG20_TrafficOfAllInterfacesButLoopback(t *testing.T) {
	t.Parallel()
	const dev = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0:100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1: 3 1 0 0 0 0 0 0 4 1 0 0 0 0 0 0\n"
	if in, out := traffic(dev); in != 103 || out != 24 {
		t.Errorf("%d, %d", in, out)
	}
}
