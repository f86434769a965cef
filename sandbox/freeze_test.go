package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stepStates are the states of the processes that show a step's upper directory in their mounts, without its init.
func stepStates(t *testing.T, f *fixture, s Spec) string {
	t.Helper()
	table, err := readProcesses()
	must(t, err)
	var states strings.Builder
	for _, file := range users(t, s) {
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/mountinfo", &pid); err == nil && strings.TrimSpace(readProc(pid, "comm")) != "gobuild-init" {
			states.WriteString(table[pid].state)
		}
	}
	return states.String()
}

// Tests of steps run at once, and Freeze stops all steps of a process: so these run alone, in a process of their own.
func TestG15_StepsAreFrozenAndGoOn(t *testing.T) {
	alone(t, func(t *testing.T) {
		f := newFixture(t, Config{KillDelay: 10 * time.Second})
		s := f.spec(t, `
(while :; do i=$((i+1)); done) &
(while :; do (:) & wait $!; done) &
setsid sh -c 'while :; do i=$((i+1)); done' &
sh -c 'kill -STOP $$; echo went on by itself' &
while read -r line; do echo "$line"; done; kill -9 -1`)
		in, keys := io.Pipe()
		out, w := io.Pipe()
		s.Stdin, s.Stdout = in, w
		var all sync.WaitGroup
		all.Go(func() {
			_, err := f.Run(t.Context(), s)
			_ = w.CloseWithError(err)
		})
		lines := bufio.NewReader(out)
		say := func(text string) {
			_, err := io.WriteString(keys, text+"\n")
			must(t, err)
		}
		hear := func(want string) {
			t.Helper()
			if got, err := lines.ReadString('\n'); err != nil || got != want+"\n" {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
		say("before")
		hear("before")
		for !strings.Contains(stepStates(t, f, s), "T") { // the one that stops itself
		}
		for range 3 {
			frozen, err := Freeze()
			must(t, err)
			for states := "R"; strings.Trim(states, "TZ") != "" || len(states) < 5; states = stepStates(t, f, s) { // a signal takes a moment to arrive
			}
			say("while stopped") // a pipe takes it
			frozen.Thaw()
			hear("while stopped")
			if states := stepStates(t, f, s); !strings.Contains(states, "T") {
				t.Errorf("what the step had stopped goes on: %s", states)
			}
		}
		must(t, keys.Close())
		all.Wait()
		assertGone(t, s)
		if frozen, err := Freeze(); err != nil || len(frozen.processes) != 0 {
			t.Errorf("without a step: %+v, %v", frozen, err)
		}
	})
}

func TestG15_AFrozenStepCanBeKilled(t *testing.T) {
	alone(t, func(t *testing.T) {
		f := newFixture(t, Config{KillDelay: time.Millisecond})
		s := f.spec(t, "echo up; sleep 1000 & sleep 1000")
		out, w := io.Pipe()
		s.Stdout = w
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := f.Run(ctx, s); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			_ = w.Close()
		})
		_, err := bufio.NewReader(out).ReadString('\n')
		must(t, err)
		frozen, err := Freeze()
		must(t, err)
		if len(frozen.processes) == 0 {
			t.Error("nothing was stopped")
		}
		cancel()
		all.Wait()
		assertGone(t, s)
		// What has the numbers now is left alone.
		frozen.processes = append(frozen.processes, frozenProcess{unix.Getpid(), 1})
		frozen.Thaw()
	})
}

// alone runs a test in a process of its own.
func alone(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(isAlone) == t.Name() {
		test(t)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), isAlone+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
}

const isAlone = "GOBUILD_TEST_ALONE"
