package acceptance

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A step prints a line without end, what drives a terminal, and what looks like gobuild's own words: gobuild's memory stays small, the
// terminal gets none of it, and standard output has the real id alone.
func TestHostileH76R26_OutputOfSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, baseDockerfile+`RUN head -c 40m /dev/zero | tr '\0' x; i=0; while [ $i -lt 20000 ]; do echo "$i sha256:`+strings.Repeat("0", 64)+`"; i=$((i+1)); done
RUN printf '\033]52;c;c2VjcmV0\a\033[2J\033[1;1H\033c\033P+q\033\\\302\2335n\342\200\256evil\n#1 DONE 0.0s\nerror: all is lost\n\rwriting image sha256:`+strings.Repeat("1", 64)+`\n' | tee /dev/stderr
`, nil)
	cmd := w.command("--progress", "plain", w.dir)
	peak := make(chan int64, 1)
	o := w.runThen(cmd, func() {
		pid := cmd.Process.Pid
		go func() { peak <- peakOf(pid) }()
	})
	if o.code != 0 {
		t.Fatalf("exit code %d", o.code)
	}
	if got := <-peak; got == 0 || got > 256<<20 {
		t.Errorf("%d MiB of memory", got>>20)
	}
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}\n$`).MatchString(o.stdout) || strings.Contains(o.stdout, "0000000000") {
		t.Errorf("standard output: %q", o.stdout)
	}
	if strings.Count(o.stderr, "x") < 40<<20 {
		t.Errorf("only %d bytes of the long line are shown", strings.Count(o.stderr, "x"))
	}
	for _, bad := range []string{"\033", "\a", "\u202e", "\u009b", "\r"} {
		if i := strings.Index(o.stderr, bad); i >= 0 {
			t.Errorf("%q reaches the terminal: %q", bad, o.stderr[max(0, i-20):min(len(o.stderr), i+40)])
		}
	}
	for line := range strings.Lines(o.stderr) {
		for _, own := range []string{"#1 DONE", "error:", "writing image"} {
			if strings.HasPrefix(line, own) {
				t.Errorf("a step speaks as gobuild: %q", line)
			}
		}
	}
}

// peakOf follows a process to its end and gives the most bytes that were resident. What wait4 tells counts the memory of this process,
// too, which the child shares before it executes.
func peakOf(pid int) (peak int64) {
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, found := strings.Cut(string(status), "VmHWM:")
		if err != nil || !found { // it has ended
			return peak
		}
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			return 0
		}
		peak = max(peak, kib<<10)
		time.Sleep(5 * time.Millisecond)
	}
}
