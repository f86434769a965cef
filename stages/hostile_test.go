package stages

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within fails the test when f takes more processor time than a hostile input
// may. It does not count what the machine does beside.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	start := cpuTime(t)
	f()
	if d := cpuTime(t) - start; d > limit {
		t.Errorf("took %v, limit %v", d, limit)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func repeat(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i))
	}
	return b.String()
}

// TestHostileInputs: each is planned or refused within the time, and refused
// with a message that names a limit.
func TestHostileInputs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s of processor time")
	}
	big := strings.Repeat("x", 60000)
	doubling := "FROM busybox\nARG a0=xxxxxxxxxxxxxxxx\n" + repeat(40, func(i int) string { return fmt.Sprintf("ARG a%d=$a%d$a%d\n", i+1, i, i) })
	million := "ARG a0=" + strings.Repeat("x", 32768) + "\n" + repeat(5, func(i int) string { return fmt.Sprintf("ARG a%d=$a%d$a%d\n", i+1, i, i) })
	for _, tc := range []struct {
		name, src string
		text      string // of the error, "" when it must be planned
	}{
		{"H-02 100k instructions", "FROM busybox\n" + strings.Repeat("ENV a=b\n", 100000), "limit of 10000"},
		{"H-02 10k stages in a chain", "FROM busybox AS s0\n" + repeat(9999, func(i int) string { return fmt.Sprintf("FROM s%d AS s%d\n", i, i+1) }), ""},
		{"H-02 5k stages with RUN in a chain", "FROM busybox AS s0\n" + repeat(4999, func(i int) string { return fmt.Sprintf("FROM s%d AS s%d\nRUN x\n", i, i+1) }), ""},
		{"H-02 5k stages with ENV in a chain", "FROM busybox AS s0\n" + repeat(4999, func(i int) string { return fmt.Sprintf("FROM s%d AS s%d\nENV e%d=1\n", i, i+1, i) }), "plan is too large"},
		{"H-02 5k stages copying from all before", "FROM busybox AS s0\n" + repeat(4999, func(i int) string { return fmt.Sprintf("FROM scratch AS s%d\nCOPY --from=s%d /a /a\n", i+1, i) }), ""},
		{"H-02 5k stages of a cycle", repeat(5000, func(i int) string {
			return fmt.Sprintf("FROM scratch AS s%d\nCOPY --from=s%d /a /a\n", i, (i+1)%5000)
		}), "circular dependency"},
		{"H-02 10k ARGs each naming all before", "FROM busybox\n" + repeat(1000, func(i int) string {
			return fmt.Sprintf("ARG a%d=%s\n", i, repeat(i, func(j int) string { return fmt.Sprintf("$a%d", j) }))
		}), ""},
		{"H-02 9999 ARGs and no RUN", "FROM busybox\n" + repeat(9999, func(i int) string { return fmt.Sprintf("ARG a%d=1\n", i) }), ""},
		{"H-02 5k ARGs with a RUN after each", "FROM busybox\n" + repeat(4999, func(i int) string { return fmt.Sprintf("ARG a%d=1\nRUN x\n", i) }), "configuration is larger"},
		{"H-03 doubling ARGs", doubling, "more than 1048576 bytes"},
		{"H-03 doubling global ARGs", strings.ReplaceAll(doubling, "FROM busybox\n", "") + "FROM busybox\n", "more than 1048576 bytes"},
		{"H-03 deep default", "FROM busybox\nENV a=" + strings.Repeat("${a:-", 10000) + strings.Repeat("}", 10000) + "\n", "more than 100 deep"},
		{"H-03 deep default in a RUN is the shell's", "FROM busybox\nRUN " + strings.Repeat("${a:-", 8000) + "\n", ""},
		{"H-03 deep default in a RUN with heredoc", "FROM busybox\nRUN " + strings.Repeat("${a:-", 8000) + " <<E\nE\n", "more than 100 deep"},
		{"H-03 deep default over continuations", "FROM busybox\nRUN cat <<E " + strings.Repeat("$\\\n{a:-\\\n", 200000) + "\nE\n", "more than 100 deep"},
		{"H-03 deep default hidden by a heredoc body", "FROM busybox\nRUN <<E\n' \\\nE\nRUN <<F " + strings.Repeat("${a:-", 10000) + "\nF\n", "more than 100 deep"},
		{"H-03 deep default in JSON", `FROM busybox` + "\nCOPY [\"\\u003c\\u003c" + strings.Repeat(`\u0024{a:-`, 6000) + "\", \"/x\"]\n", "more than 100 deep"},
		{"H-03 replacement chain", "FROM busybox\nARG x=aaaaaaaaaaaaaaaa\n" + strings.Repeat("ARG x=${x//?/yyyyyyyy}\n", 20), "more than 1048576 bytes"},
		{"H-03 one word of a megabyte in every line", million + "FROM busybox\nARG a5\n" + strings.Repeat("ENV b=${a5}\n", 5000), "larger"},
		{"H-03 dropped megabytes", million + "FROM busybox\nARG a5\n" + strings.Repeat("ENV b=${c+"+strings.Repeat("$a5", 8)+"}\n", 5000), "too large"},
		{"H-03 pattern of a megabyte", million + "FROM busybox\nARG a5\nENV b=${a5%%*${a5}*}\n", "too expensive"},
		{"H-03 a megabyte shown in each RUN", million + "FROM busybox\nARG a5\n" + strings.Repeat("RUN $a5\n", 100), "configuration is larger"},
		{"H-03 empty modifiers nest", "FROM busybox\nENV a=" + strings.Repeat("${a:}", 10000) + "\n", "more than 100 deep"},
		{"H-03 empty modifiers beside a heredoc", "FROM busybox\nCOPY <<E " + strings.Repeat("${a:}", 10000) + " /x\nE\n", "more than 100 deep"},
		{"H-03 many long patterns", "FROM busybox\n" + strings.Repeat("ENV a="+strings.Repeat("${e#"+strings.Repeat("p", 10000)+"}", 6)+"\n", 200), "too large"},
		{"H-04 1000 heredocs on one line", "FROM busybox\nCOPY " + repeat(1000, func(i int) string { return fmt.Sprintf("<<E%d ", i) }) + "/x/\n" +
			repeat(1000, func(i int) string { return fmt.Sprintf("a\nE%d\n", i) }), ""},
		{"H-04 long delimiter", "FROM busybox\nCOPY <<" + big + " /x/\n" + big + "\n", "not a plain file name"},
		{"H-10 100k ENV", "FROM busybox\n" + repeat(50, func(i int) string {
			return "ENV" + repeat(2000, func(j int) string { return fmt.Sprintf(" e%d_%d=%s", i, j, strings.Repeat("v", 15)) }) + "\n"
		}), ""},
		{"H-10 long ENV", "FROM busybox\n" + repeat(200, func(i int) string { return fmt.Sprintf("ENV e%d=%s\n", i, big) }), "larger than 8388608"},
		{"H-10 EXPOSE of all ports 100 times", "FROM busybox\n" + strings.Repeat("EXPOSE 1-65535\n", 100), "larger than 8388608"},
		{"H-10 EXPOSE of all ports 1000 times in one", "FROM busybox\nEXPOSE" + strings.Repeat(" 1-65535", 1000) + "\n", "larger than 8388608"},
		{"H-10 labels", "FROM busybox\n" + repeat(200, func(i int) string { return fmt.Sprintf("LABEL l%d=%s\n", i, big) }), "larger than 8388608"},
		{"H-10 labels over a chain of stages", "FROM busybox AS s0\n" + repeat(200, func(i int) string {
			return fmt.Sprintf("FROM s%d AS s%d\nLABEL l%d=%s\n", i, i+1, i, big)
		}), "larger than 8388608"},
		{"H-10 labels in other stages of a chain", "FROM busybox AS s0\nLABEL" + repeat(5000, func(i int) string { return fmt.Sprintf(" l%d=1", i) }) + "\n" +
			repeat(4000, func(i int) string { return fmt.Sprintf("FROM s%d AS s%d\nLABEL a=b\n", i, i+1) }), "too large"},
		{"H-10 environments of many RUNs", "FROM busybox\nENV" + repeat(5000, func(i int) string { return fmt.Sprintf(" l%d=1", i) }) + "\n" +
			strings.Repeat("RUN x\nENV l1=2\n", 4000), "too large"},
		{"many ARGs in one", "FROM busybox\nARG" + repeat(8000, func(i int) string { return fmt.Sprintf(" a%d=1", i) }) + "\n", ""},
		{"an ARG of many names below many comments", strings.Repeat("#a b\n", 20000) + "ARG" + strings.Repeat(" \\\n a", 20000) + "\nFROM scratch\n", ""},
		{"an ARG that grows", "ARG X=1\n" + strings.Repeat("ARG Y=1\nARG X=$X$Y\n", 4500) + "FROM busybox\nARG X\n", ""},
		{"undefined variables", "FROM busybox\nENV" + repeat(5000, func(i int) string { return fmt.Sprintf(" l%d=1", i) }) + "\n" +
			repeat(5000, func(i int) string { return fmt.Sprintf("LABEL a=$m%d\n", i) }), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, 3*slow*time.Second, func() {
				_, err := planOf(tc.src, amd64())
				if tc.text == "" {
					if err != nil {
						t.Errorf("refused: %s", cut(err.Error(), 300))
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %v, want %q", err, tc.text)
				} else if len(err.Error()) > 1000 {
					t.Errorf("the message has %d bytes", len(err.Error()))
				}
			})
		})
	}
}

func TestHostileH02_ChainIsPlannedInLinearTime(t *testing.T) {
	chain := func(n int) string {
		return "FROM busybox AS s0\n" + repeat(n-1, func(i int) string { return fmt.Sprintf("FROM s%d AS s%d\n", i, i+1) })
	}
	within(t, 2*slow*time.Second, func() {
		if _, err := planOf(chain(maxInstructions), amd64()); err != nil {
			t.Error(err)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	src := "ARG a0=" + strings.Repeat("x", 32768) + "\n" + repeat(5, func(i int) string { return fmt.Sprintf("ARG a%d=$a%d$a%d\n", i+1, i, i) }) +
		"FROM busybox\nARG a5\n" + strings.Repeat("FROM busybox\nARG a5\nRUN x\n", 3000)
	opt := amd64()
	opt.AllStages = true
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := planOf(src, opt); !errors.Is(err, errPlanSize) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 1500 {
		t.Errorf("allocated %d MB in all", mb)
	}
}
