package stages

import (
	"strings"
	"testing"
	"time"
)

// What the rules cost stays linear in the text, whatever it holds.
func TestBestRules_HostileTextCostsLittle(t *testing.T) {
	// Not parallel: the processor time of the whole process is measured.
	many := func(n int, line string) string {
		return "FROM busybox:1\n" + repeat(n, func(int) string { return line + "\n" })
	}
	long := func(first, word string) string {
		return "FROM busybox:1\n" + first + strings.Repeat(word, 60000/len(word)) + "\n"
	}
	for name, src := range map[string]string{
		"many RUNs":           many(9000, "RUN apt-get update | a && chmod -R 1 /a b c d > /v/x"),
		"COPY and chmod":      many(4000, "COPY a /a/\nRUN chmod -R 1 /a /b /c /d /e /f"),
		"COPYs, then chmod":   many(9000, "COPY a b c d e /a/") + "RUN chmod 1" + strings.Repeat(" /x", 20000) + "\n",
		"volumes and writes":  "FROM busybox:1\nVOLUME" + strings.Repeat(" /v", 20000) + "\n" + repeat(200, func(int) string { return "RUN touch" + strings.Repeat(" x", 1000) + "\n" }),
		"scratch and chmod":   "FROM scratch\n" + repeat(9000, func(int) string { return "COPY --chmod=644 a /x/y/\n" }),
		"pipes":               long("RUN ", "a|"),
		"open brackets":       long("RUN ", "$("),
		"open quotes":         long("RUN ", "a '\" "),
		"heredoc words":       long("RUN a ", "<<E "),
		"wrappers":            long("RUN ", "sudo env "),
		"assignments":         long("RUN ", "a=b "),
		"one heredoc":         "FROM busybox:1\nRUN <<E\n" + strings.Repeat("apt-get install\\\n", 100000) + "E\n",
		"heredoc in heredoc":  "FROM busybox:1\nRUN <<E\n" + strings.Repeat("a <<F\n", 100000) + "E\n",
		"packages":            "FROM busybox:1\nRUN apk add" + strings.Repeat(" \\\n z", 50000) + " \\\n a\n",
		"installs after COPY": "FROM busybox:1\n" + repeat(4000, func(int) string { return "COPY . .\nRUN npm ci && pip install -r x\n" }),
	} {
		opt := amd64()
		opt.AllStages, opt.Best = true, BestAll
		start := cpuTime(t)
		_, err := planOf(src, opt)
		if d := cpuTime(t) - start; d > 8*slow*time.Second {
			t.Errorf("%s: %v (%v)", name, d, err)
		}
	}
}
