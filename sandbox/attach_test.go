package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running is a step that waits, to be entered.
type running struct {
	*testing.T
	spec  Spec
	pid   int
	start uint64
	stop  func() Result // ends the step's input
}

// wait starts a step that says "up" when it is to be entered, and waits for its input's end.
func (f *fixture) wait(t *testing.T, s Spec) *running {
	t.Helper()
	in, feed := io.Pipe()
	up := make(chan struct{}, 1)
	r := &running{T: t, spec: s}
	s.Stdin = in
	s.Started = func(p int) { r.pid = p }
	s.Stdout = onWrite(func() {
		select {
		case up <- struct{}{}:
		default:
		}
	})
	done := make(chan Result, 1)
	go func() {
		res, err := f.Run(context.WithoutCancel(t.Context()), s)
		if err != nil {
			t.Error(err)
		}
		done <- res
		close(up)
	}()
	<-up
	r.start = StartTime(r.pid)
	r.stop = sync.OnceValue(func() Result {
		_ = feed.Close() // it has no error
		return <-done
	})
	t.Cleanup(func() { r.stop() })
	return r
}

// attachment is a shell that runs a script in the step.
func (r *running) attachment(script string) AttachSpec {
	return AttachSpec{Entry: r.spec.Entry(), Pid: r.pid, StartTime: r.start, Stdin: strings.NewReader(script), Notice: func(s string) { r.Log("notice:", s) }}
}

func (r *running) attach(a AttachSpec) (string, AttachResult) {
	r.Helper()
	var out bytes.Buffer
	a.Stdout, a.Stderr = &out, &out
	res, err := Attach(r.Context(), a)
	if err != nil {
		r.Fatal(err)
	}
	return out.String(), res
}

const waiting = "echo up; read line"

// What the shell is, it shares with the step's command: namespaces, user, folder, environment, capabilities, filter, limits.
func TestP3_AttachedShellIsAsTheCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	const look = `for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done
id; pwd; umask; ulimit -n; ulimit -u; ulimit -c
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status; cat /proc/self/cgroup /proc/self/oom_score_adj
env | grep -vE '^(PWD|SHLVL|OLDPWD|_)=' | sort; hostname; ls -l /proc/self/fd 2>&1 | grep -vE '/fd$' | grep -c -- "->"
`
	for _, c := range []struct {
		name   string
		change func(*Spec)
	}{
		{"root", func(*Spec) {}},
		{"a user", func(s *Spec) { s.User, s.Dir = "app", "/tmp" }},
		{"other capabilities", func(s *Spec) {
			s.Privileges = Privileges{AddCaps: []string{"SYS_PTRACE"}, DropCaps: []string{"CHOWN"}, NoNewPrivileges: true}
		}},
		{"insecure", func(s *Spec) { s.Privileges = Privileges{Insecure: true} }},
		{"no filter", func(s *Spec) { s.Privileges = Privileges{Unconfined: true} }},
		{"limits", func(s *Spec) {
			s.Limits = Limits{PidsLimit: 50}
			s.Rlimits = []Rlimit{{Name: "nofile", Soft: 99, Hard: 100}, {Name: "nproc", Soft: 900, Hard: 900}}
		}},
		{"the machine's network", func(s *Spec) { s.Network = NetworkHost }},
		{"a host name", func(s *Spec) { s.Hostname = "there" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := f.spec(t, look+"echo up; read line")
			s.Env = []string{"A=1", "B=two words"}
			c.change(&s)
			if s.Limits.Any() && os.Getenv(asInNamespace) != "" {
				s.Limits = Limits{}
			}
			// What the command says itself.
			alone := s
			alone.Args = []string{"/bin/sh", "-c", look}
			alone.Stdin = strings.NewReader("")
			r := f.wait(t, s)
			got, res := r.attach(r.attachment(look))
			r.stop()
			alone.Upper, alone.Work = newDir(t, f.dir), newDir(t, f.dir)
			want, _ := f.sh(t, alone)
			// Of two steps, namespaces and groups differ: they are compared in the next test.
			if g, w := withoutNames(got), withoutNames(want); g != w || res.ExitCode != 0 {
				t.Errorf("%+v, the attached shell\n%s\nthe command\n%s", res, g, w)
			}
		})
	}
}

func withoutNames(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, ":[") && !strings.Contains(line, groupPrefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// It is in the step's own namespaces, sees its processes and files, and is counted in its cgroup.
func TestP3_AttachedShellIsInside(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	const names = `for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup`
	s := f.spec(t, "("+names+") >/mine; echo up; read line; cat /theirs")
	if os.Getenv(asInNamespace) == "" {
		s.Limits = Limits{PidsLimit: 50}
	}
	r := f.wait(t, s)
	a := r.attachment("(" + names + `) >/tmp/theirs; cmp /mine /tmp/theirs && echo same; cat /proc/1/comm; echo text >/theirs; exit 7`)
	out, res := r.attach(a)
	if out != "same\ngobuild-init\n" || res != (AttachResult{ExitCode: 7}) {
		t.Errorf("%+v\n%s", res, out)
	}
	r.stop()
	if _, err := os.Stat(filepath.Join(s.Upper, "theirs")); err != nil {
		t.Error(err)
	}
	if _, err := Attach(t.Context(), r.attachment("true")); !errors.Is(err, ErrStepEnded) {
		t.Errorf("after the step: %v", err)
	}
	assertGone(t, s)
}

// It ends with the step, and the step does not wait for it.
func TestP3_AttachedShellEndsWithTheStep(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, waiting)
	r := f.wait(t, s)
	a := r.attachment("")
	in, feed := io.Pipe()
	defer feed.Close()
	a.Stdin = in
	a.Stdout = onWrite(func() { go r.stop() })
	go func() {
		_, _ = io.WriteString(feed, "trap '' HUP TERM INT; echo in; while true; do sleep 1000; done\n")
	}()
	res, err := Attach(t.Context(), a)
	if err != nil || !res.StepEnded || res.ExitCode != 137 {
		t.Errorf("%+v, %v", res, err)
	}
	r.stop()
	assertGone(t, s)
}

// A shell that is given up leaves the step alone.
func TestP3_AttachedShellIsCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, waiting+"; exit 5")
	r := f.wait(t, s)
	a := r.attachment("")
	in, feed := io.Pipe()
	defer feed.Close()
	a.Stdin = in
	ctx, cancel := context.WithCancelCause(t.Context())
	a.Stdout = onWrite(func() { cancel(io.ErrNoProgress) })
	go func() { _, _ = io.WriteString(feed, "echo in; exec sleep 1000\n") }()
	if _, err := Attach(ctx, a); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	if res := r.stop(); res.ExitCode != 5 {
		t.Errorf("%+v", res)
	}
}

// Secrets in variables come from the command itself, and only when asked for.
func TestP3_AttachedShellAndSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, waiting)
	s.SecretEnv = []string{"TOKEN=hunter2"}
	r := f.wait(t, s)
	a := r.attachment("echo \"<$TOKEN>\"")
	if text := fmt.Sprint(a.Entry); strings.Contains(text, "hunter2") {
		t.Error("the record has the secret:", text)
	}
	if out, _ := r.attach(a); out != "<>\n" {
		t.Errorf("%q", out)
	}
	a = r.attachment("echo \"<$TOKEN>\"")
	a.Secrets = true
	if out, _ := r.attach(a); out != "<hunter2>\n" {
		t.Errorf("%q", out)
	}
}

// A root without a shell gets a busybox, which nothing of it can be written through.
func TestP3_AttachedBusybox(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	bare := filepath.Join(f.dir, "bare")
	mustMkdir(t, filepath.Join(bare, "bin"))
	data, err := os.ReadFile(busybox)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(bare, "bin/ash"), data, 0o755)) //nolint:gosec // it is executed by another process only
	s := f.spec(t, "")
	s.Lower, s.Args = []string{bare}, []string{"/bin/ash", "-c", waiting}
	r := f.wait(t, s)
	if _, err := Attach(t.Context(), r.attachment("true")); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "/bin/sh") {
		t.Error(err)
	}
	a := r.attachment(`ls /; echo applets | sed 's/$/ work/'; (echo x >/proc/$$/exe) 2>/dev/null && echo BAD; ls -l /proc/$$/exe | sed 's/.*-> //'`)
	a.Busybox = busybox
	out, _ := r.attach(a)
	if !strings.Contains(out, "bin\n") || !strings.Contains(out, "applets work\n/memfd:busybox (deleted)\n") || strings.Contains(out, "BAD") {
		t.Errorf("%q", out)
	}
}

// Nothing is entered that is not a step: this process's own world, another process with the number, a number that is nobody's.
func TestP3_AttachRefuses(t *testing.T) {
	t.Parallel()
	newFixture(t, Config{})
	own := AttachSpec{Pid: os.Getpid(), StartTime: StartTime(os.Getpid()), Stdin: strings.NewReader("touch /BAD")}
	if _, err := Attach(t.Context(), own); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "namespace of its own") {
		t.Error(err)
	}
	for _, other := range []AttachSpec{{Pid: os.Getpid(), StartTime: 1}, {Pid: 1 << 22, StartTime: 1}} {
		if _, err := Attach(t.Context(), other); !errors.Is(err, ErrStepEnded) {
			t.Error(err)
		}
	}
}

// A terminal is the shell's own: it has job control, and no other process of the step gets it.
func TestP3_AttachedTerminal(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	r := f.wait(t, f.spec(t, waiting))
	master, peer := openPTY(t)
	a := r.attachment("")
	a.Terminal, a.Stdin = peer, nil
	_, err := master.WriteString("tty -s && set -m && sleep 1000 & kill %1 && echo do''ne; exit 3\n")
	must(t, err)
	res, err := Attach(t.Context(), a)
	if err != nil || res.ExitCode != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	must(t, peer.Close())
	must(t, master.SetReadDeadline(time.Now().Add(time.Minute)))
	said, _ := io.ReadAll(master) // ends with EIO
	if !strings.Contains(string(said), "done\r\n") || strings.Contains(string(said), "job control") {
		t.Errorf("%q", said)
	}
}

func openPTY(t *testing.T) (master, peer *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	peer, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { _ = errors.Join(master.Close(), peer.Close()) })
	return master, peer
}
