package acceptance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopped is a build whose step has begun, and which got the signal of ^Z in a process group of its own, as a shell makes it.
func (w *world) stopped(args ...string) (cmd *exec.Cmd, rest func() string) {
	t := w.t
	t.Helper()
	cmd = w.command(append(append([]string{"--progress", "plain"}, args...), w.dir)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(stderr)
	for line := ""; !strings.HasSuffix(line, "] step is up\n"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(" TZ", stateOf(cmd.Process.Pid)) {
	}
	return cmd, func() string {
		all, _ := io.ReadAll(lines)
		return string(all)
	}
}

// stateOf is the letter of a process's state, as in proc_pid_stat(5); "" if there is none.
func stateOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// statesOf are those of the processes below a step's init with a name.
func statesOf(t *testing.T, mark string) (states string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var pid int
		_, _ = fmt.Sscanf(file, "/proc/%d/", &pid)
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), mark) {
			states += stateOf(pid)
		}
	}
	return states
}

const stoppedDockerfile = "FROM base\nARG MARK\nRUN echo \"step is up\"; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); (:); done; echo went on\n"

func TestG15_CtrlZStopsTheStepsAndFgLetsThemGoOn(t *testing.T) {
	w := newWorld(t, baseDockerfile+strings.Replace(stoppedDockerfile, "30000", "300", 1), nil)
	mark := fmt.Sprintf("suspend-%d", os.Getpid())
	// A clock that does count while nothing runs would end the step: it is stopped for longer than that.
	cmd, rest := w.stopped("--build-arg", "MARK="+mark, "--step-timeout", "20s")
	for states := "R"; strings.Trim(states, "TZ") != ""; states = statesOf(t, "MARK="+mark) {
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	out := rest()
	if err := cmd.Wait(); err != nil || !strings.Contains(out, "went on") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestG15_AStoppedBuildCanBeKilledAndCancelled(t *testing.T) {
	for signal, code := range map[syscall.Signal]int{syscall.SIGKILL: -1, syscall.SIGTERM: 143} {
		t.Run(signal.String(), func(t *testing.T) {
			w := newWorld(t, baseDockerfile+strings.Replace(stoppedDockerfile, "30000", "100000000", 1), nil)
			mark := fmt.Sprintf("suspend-%d-%d", os.Getpid(), code)
			before := leftovers(t)
			cmd, rest := w.stopped("--build-arg", "MARK="+mark)
			for _, s := range []syscall.Signal{signal, syscall.SIGCONT} { // as shells do: the second lets it hear the first
				if err := syscall.Kill(cmd.Process.Pid, s); err != nil && signal != syscall.SIGKILL {
					t.Fatal(err)
				}
			}
			out := rest()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit code %d, want %d\n%s", got, code, out)
			}
			for signal == syscall.SIGKILL && len(processes(t, "MARK="+mark)) > 0 { // the kernel takes them away, a moment later
			}
			checkClean(t, w, before, "MARK="+mark)
		})
	}
}

// TestHostileF37_AStoppedProcess: SIGSTOP, of which gobuild learns nothing, for as long as its timeouts are; then it goes on and nothing
// has timed out.
func TestHostileF37_AStoppedProcess(t *testing.T) {
	f := newFaultWorld(t)
	stop := time.Duration(0)
	if *allFaults {
		stop = 70 * time.Second // all timeouts of a network exchange are shorter
	}
	f.args = append(f.args, "--step-timeout", "60s")
	cmd := f.command(append(f.args, f.dir)...)
	stopped := false
	o := f.runInjected(cmd, []string{"openat"}, func(c call) answer {
		if c.path != "/done" || !c.change || stopped {
			return answer{}
		}
		stopped = true
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Error(err)
		}
		for !strings.Contains(" TZ", stateOf(cmd.Process.Pid)) {
		}
		time.Sleep(stop)
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
		return answer{}
	})
	if f.ends("stopped", o, ""); !stopped {
		t.Error("it was not stopped")
	}
	f.recovered("stopped")
}
