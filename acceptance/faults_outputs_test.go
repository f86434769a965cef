package acceptance

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostileF34_OutputsThatAreGone: nobody hangs, and the state is fine. A shell says 141 for SIGPIPE.
func TestHostileF34_OutputsThatAreGone(t *testing.T) {
	f := newFaultWorld(t)
	const gone = "rm -f fifo; mkfifo fifo; exec 3<>fifo; exec %>fifo; exec 4<fifo; exec 3<&- 4<&-"
	for _, tc := range []struct {
		name, script string
		code         []int
	}{
		{"standard output is full", "exec > /dev/full", []int{3}},
		{"standard error is full", "exec 2> /dev/full", []int{0}},
		{"standard output is closed", "exec >&-", []int{0, 3}},
		{"standard error is closed", "exec 2>&-", []int{0}},
		{"all are closed", "exec <&- >&- 2>&-", []int{0, 3}},
		{"nobody reads standard error", strings.Replace(gone, "%", "2", 1), []int{0}},
		{"nobody reads standard output", strings.Replace(gone, "%", "1", 1), []int{141}},
	} {
		o := f.run(within(f.command(append(f.args, f.dir)...), tc.script))
		if !slices.Contains(tc.code, o.code) {
			t.Errorf("%s: exit code %d, want %v\n%s%s", tc.name, o.code, tc.code, o.stdout, o.stderr)
		}
		f.recovered(tc.name)
		f.fresh()
	}
}

// TestHostileF34_AReaderThatIsStuck: a pipe that is open and never read. The build may wait for it, as every program does; a signal ends
// it all the same, with its step, and the state is fine.
func TestHostileF34_AReaderThatIsStuck(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		f := newFaultWorld(t)
		f.write("Dockerfile.loud", "FROM base\nRUN echo up > /c; while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done\n")
		cmd := f.command(append(f.args, "-f", f.dir+"/Dockerfile.loud", f.dir)...)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFull(t, cmd, w)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
		stuck := time.AfterFunc(time.Minute, func() { // longer than anything here takes on a busy machine
			t.Errorf("it does not end after %s", sig)
			_ = cmd.Process.Kill()
		})
		_ = cmd.Wait()
		stuck.Stop()
		if code := cmd.ProcessState.ExitCode(); code != 128+int(sig) {
			t.Errorf("%s: exit code %d", sig, code)
		}
		for _, end := range []*os.File{r, w} {
			if err := end.Close(); err != nil {
				t.Error(err)
			}
		}
		f.recovered("a stuck reader")
	}
}

// waitFull waits until a pipe takes no more.
func waitFull(t *testing.T, cmd *exec.Cmd, w *os.File) {
	t.Helper()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	full := false
	for !full && stateOf(cmd.Process.Pid) != "Z" {
		if err := raw.Control(func(fd uintptr) { full = !writable(int(fd)) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // there is no event for this
	}
	if !full {
		t.Fatal("the build ended before its output was full")
	}
}

// writable says whether a pipe would take a byte now.
func writable(fd int) bool {
	wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // a descriptor is an int
	n, err := unix.Poll(wait, 0)
	return err == nil && n == 1
}
