package sandbox

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What PID 1 of a step executes is a small file in memory that nobody can change, not even the root of an insecure step.
func TestHostileH71R14_InitIsSealed(t *testing.T) {
	t.Parallel()
	f, err := openProgram()
	must(t, err)
	defer f.Close()
	image, err := elf.NewFile(f)
	must(t, err)
	st, err := f.Stat()
	must(t, err)
	if image.Type != elf.ET_EXEC || len(image.Progs) != 2 || st.Size() > maxProgram || st.Mode().Perm() != 0o555 {
		t.Errorf("%v, %d bytes, %v", image.FileHeader, st.Size(), st.Mode())
	}
	if image.Progs[0].Flags != elf.PF_R|elf.PF_X || image.Progs[1].Flags&elf.PF_X != 0 {
		t.Errorf("segments: %v, %v", image.Progs[0].Flags, image.Progs[1].Flags)
	}
	if _, err := f.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("written to: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncated: %v", err)
	}
}

// Nothing of gobuild is in the init or in the command: no descriptors, no memory, no environment.
func TestHostileH71R13_InitHasNothingOfGobuild(t *testing.T) {
	t.Setenv("SANDBOX_CANARY", "canary-of-gobuild")
	secret, err := os.Open("/etc/passwd")
	must(t, err)
	defer secret.Close()
	// A descriptor that gobuild inherited has no close-on-exec flag.
	_, err = unix.FcntlInt(secret.Fd(), unix.F_SETFD, 0)
	must(t, err)
	f := newFixture(t, Config{})
	s := f.spec(t, `tr '\0' '\n' < /proc/1/environ; wc -c < /proc/1/environ; ls /proc/1/fd | tr '\n' ' '; for fd in /proc/1/fd/* /proc/self/fd/*; do readlink $fd; done | grep -E "passwd|/tmp" && echo BAD
grep -E " [r-][w-]x" /proc/1/maps | wc -l; grep VmRSS /proc/1/status | tr -d ' a-zA-Z:\t'`)
	s.Insecure = true // sees all that there is to see
	out, _ := f.sh(t, s)
	lines := strings.Split(out, "\n")
	if strings.Contains(out, "canary") || strings.Contains(out, "BAD") || len(lines) != 4 || lines[0] != "0" {
		t.Errorf("%s", out)
	}
}

// A script that does not fit, or a call that fails, is an error that says what was being done.
func TestScriptErrors(t *testing.T) {
	t.Parallel()
	s := &script{base: commandBase}
	s.try(unix.SYS_CLOSE, 99)
	s.call(scriptOp{op: "set limit", path: "nofile", limit: true}, unix.SYS_PRLIMIT64)
	s.call(scriptOp{exec: true}, unix.SYS_EXECVE)
	first := uint64(commandBase + scriptStart)
	var setup *SetupError
	if err := s.failure(first+64, unix.EPERM); !errors.As(err, &setup) || setup.Op != "set limit" || setup.Path != "nofile" || !errors.Is(err, ErrLimitUnavailable) {
		t.Errorf("%v", err)
	}
	if err := s.failure(first+128, unix.ENOENT); !errors.As(err, &execError{}) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
	for _, address := range []uint64{0, first - 64, first + 192, scriptBase} {
		if err := s.failure(address, unix.EIO); err.Error() != "run init: input/output error" {
			t.Errorf("%x: %v", address, err)
		}
	}
	s.bytes(bytes.Repeat([]byte{1}, maxScript))
	if fd, err := s.open(); !errors.Is(err, ErrInvalid) {
		t.Errorf("%d, %v", fd, err)
	}
}

// Arguments and environment of any kind and number reach the command.
func TestG1_ArgumentsReachTheCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	s := f.spec(t, "")
	s.Args = []string{"/bin/sh", "-c", `printf '%s|' "$#" "$@" | head -c 60; printf '%s' "$*" | wc -c`, "sh", "", "a b", "\xff\n", strings.Repeat("x", 100_000)}
	for i := range 3000 {
		s.Args = append(s.Args, strings.Repeat("y", i%7))
	}
	out, _ := f.sh(t, s)
	if !strings.HasPrefix(out, "3004||a b|\xff\n|xxx") || !strings.HasSuffix(out, fmt.Sprintf("x%d\n", len(strings.Join(s.Args[4:], " ")))) {
		t.Errorf("%q", out)
	}
	args := append(s.Args, strings.Repeat("z", 200_000)) // one argument has at most 128 KiB, execve(2)
	s = f.spec(t, "")
	s.Args = args
	if res, err := f.Run(t.Context(), s); err != nil || res.ExitCode != 126 || res.Exec != ExecTooLong {
		t.Errorf("%+v, %v", res, err)
	}
}

// mountedIn names a thread's list of mounts that has a path.
func mountedIn(t *testing.T, path string) string {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/mountinfo")
	must(t, err)
	for _, file := range threads {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(path)) {
			return file
		}
	}
	return ""
}

// A step that cannot be run leaves nothing open and nothing mounted: gobuild lives on, and its steps are threads of it.
func TestHostileR13_StepsThatFailLeaveNoDescriptors(t *testing.T) {
	alone(t, func(t *testing.T) {
		debug.SetGCPercent(-1) // which closes what nobody else did
		before := 0
		for round := range 3 {
			f := newFixture(t, Config{})
			must(t, os.WriteFile(f.lower+"/file", nil, 0o644))
			for name, change := range map[string]func(*Spec){
				"user":      func(s *Spec) { s.User = "nobody-of-that-name" },
				"directory": func(s *Spec) { s.Dir = "/file" },
				"mount":     func(s *Spec) { s.Mounts = []Mount{{Type: MountTmpfs, Target: "/file"}} },
				"source": func(s *Spec) {
					s.Mounts = []Mount{{Type: MountBind, Source: f.dir, Target: "/a"}, {Type: MountBind, Source: "/no/such", Target: "/b"}}
				},
				"root":    func(s *Spec) { s.Lower = []string{"/no/such"} },
				"program": func(s *Spec) { s.Args = []string{"no-such-program"} },
				"limit":   func(s *Spec) { s.Limits.CpusetCPUs = "99999" },
			} {
				s := f.spec(t, "true")
				s.Started = nil // the test's own would hold the step's namespace
				change(&s)
				if res, err := f.Run(t.Context(), s); err == nil && res.ExitCode == 0 {
					t.Fatalf("%s: it ran", name)
				}
				for give := time.Now().Add(time.Minute); mountedIn(t, s.Upper) != ""; time.Sleep(time.Millisecond) { // by a thread that ends
					if time.Now().After(give) {
						t.Fatalf("%s: its root is still mounted: %s", name, mountedIn(t, s.Upper))
					}
				}
			}
			must(t, f.Close())
			found, err := os.ReadDir("/proc/self/fd")
			must(t, err)
			if round > 0 && len(found) > before {
				t.Errorf("round %d: %d descriptors are open, %d before", round, len(found), before)
			}
			before = len(found)
		}
	})
}
