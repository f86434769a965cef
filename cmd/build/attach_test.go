package main

import (
	"bufio"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"gobuild/builder"
)

// A user's shell in a step of the user's own build is in the step's user namespace, with the rights that the step has there. Root of
// the machine enters it, too.
func TestP3_AttachWithoutRoot(t *testing.T) {
	t.Parallel()
	r := newRootless(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": `FROM scratch
COPY --from=base / /
RUN mkfifo /tmp/go && echo begun && grep -E '^Cap|^Sec|^Groups' /proc/self/status >/mine && cat </tmp/go
USER user
RUN mkfifo /tmp/go2 && echo begun && grep -E '^Cap|^Sec|^Groups' /proc/self/status >/tmp/mine && cat </tmp/go2
`})
	cmd := r.command("build", "--progress=plain", "--build-context", "base="+r.base, "-o", "type=cacheonly", dir)
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	const look = `id -u; grep -E '^Cap|^Sec|^Groups' /proc/self/status | cmp - $(ls /tmp/mine 2>/dev/null || echo /mine); cat /proc/1/comm; wc -l </proc/self/uid_map
cat /proc/1/environ 2>/dev/null; readlink /proc/1/ns/user 2>/dev/null; `
	enter := func(step, end string) string {
		shell := r.command("debug", "--attach", step)
		shell.Stdin = strings.NewReader(look + end)
		out, errOut, code := r.run(shell)
		if code != 0 && code != 137 { // the step may end before the shell that had it end
			_ = cmd.Process.Kill()
			t.Errorf("exit code %d\n%s", code, errOut)
		}
		return out
	}
	lines := bufio.NewReader(said)
	begun := 0
	for {
		line, err := lines.ReadString('\n')
		if strings.HasSuffix(line, "] begun\n") {
			begun++
			step := r.runningStep()
			switch begun {
			case 1:
				if out := enter(step, "echo one >/tmp/go"); out != "0\ngobuild-init\n2\n" {
					t.Errorf("root: %q", out)
				}
			case 2:
				if out := enter(step, "echo two >/tmp/go2"); out != "1000\ngobuild-init\n2\n" {
					t.Errorf("a user: %q", out)
				}
			}
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || begun != 2 {
		t.Errorf("%v, %d steps", err, begun)
	}
}

// runningStep waits until a step's process is shown, and gives its number.
func (r *rootless) runningStep() string {
	r.Helper()
	for {
		var list []builder.RunningBuild
		if err := json.Unmarshal([]byte(r.must("ps", "--json")), &list); err != nil {
			r.Fatal(err)
		}
		for _, b := range list {
			for _, s := range b.Steps {
				if s.Pid != 0 {
					return strconv.Itoa(s.Pid)
				}
			}
		}
	}
}
