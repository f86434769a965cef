package stages

import (
	"fmt"
	"strings"
	"testing"
)

func showScript(script []shellCommand) string {
	var lines []string
	for _, c := range script {
		var words []string
		for _, w := range c.words {
			words = append(words, fmt.Sprintf("<%s>", w.text))
		}
		for _, w := range c.writes {
			words = append(words, fmt.Sprintf(">%s", w.text))
		}
		lines = append(lines, strings.TrimSpace(strings.ReplaceAll(c.before, "\n", "nl")+" "+strings.Join(words, "")))
	}
	return strings.Join(lines, " ")
}

func TestScanShell(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ src, want string }{
		{"", ""},
		{"a b\tc", "<a><b><c>"},
		{"a&&b||c;d|e&f", "<a> && <b> || <c> ; <d> | <e> & <f>"},
		{"a &&\n b\nc", "<a> && <b> nl <c>"},
		{`a 'b && c' "d | e" f\ g`, "<a><b && c><d | e><f g>"},
		{`a "x'y" 'p"q'`, `<a><x'y><p"q>`},
		{"a $(b | c \")\" ) ${x:-;} `d;e` $f", "<a><$(b | c \")\" )><${x:-;}><`d;e`><$f>"},
		{"a # b && c\nd #e\nf#g", "<a> nl <d> nl <f#g>"},
		{"a > x 2>/dev/null >>y 2>&1 <z &>w", "<a>>x>/dev/null>y>w"},
		{"a>x|b", "<a>>x | <b>"},
		{"echo 'a > b' >c", "<echo><a > b>>c"},
		{"(a; b) && { c; }", "<a> ; <b> && <{><c> ; <}>"},
		{"cat <<E >f\na && b\nE\nc", "<cat>>f nl <c>"},
		{"cat <<-'E'\n\ta\n\tE\nc", "<cat> nl <c>"},
		{"a <(b | c) |& d", "<a><<(b | c)> | <d>"},
		{"a \\\n b", "<a><b>"},
		{"if a; then b; fi", "<if><a> ; <then><b> ; <fi>"},
		{"a 'unclosed && b", "<a><unclosed && b>"},
		{"a $(unclosed && b", "<a><$(unclosed && b>"},
		{"a \\", "<a><>"},
		{"&& | ; )(", ""},
	} {
		if got := showScript(scanShell(tc.src, func(int) int { return 1 })); got != tc.want {
			t.Errorf("%q\n got %s\nwant %s", tc.src, got, tc.want)
		}
	}
}

func TestShellCommandName(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"a b":                            "a",
		"/usr/bin/apt-get update":        "apt-get",
		"X=1 Y=2 a":                      "a",
		"sudo -u root -E a b":            "a",
		"env -u X A=b a":                 "a",
		"env":                            "env",
		"timeout -s KILL 5 a":            "a",
		"xargs -n 1 a":                   "a",
		"! a":                            "a",
		"then nice -n 5 a":               "a",
		"X=1":                            "",
		"time -f %e /bin/sh -c x":        "sh",
		"if [ -f x ]":                    "[",
		"DEBIAN_FRONTEND=x sudo apt-get": "apt-get",
	} {
		script := scanShell(src, func(int) int { return 1 })
		if got, _ := script[0].name(); got != want {
			t.Errorf("%q runs %q, want %q", src, got, want)
		}
	}
}

// Each word knows its line, also behind joined lines and comments.
func TestScriptLines(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{
		"continued": "FROM busybox:1\nRUN --network=none a \\\n  b \\\n  # comment\n\n  c && \\\n d\n",
		"heredoc":   "FROM busybox:1\nRUN <<E\nb\n\n\nc\nd\nE\n",
	} {
		f, err := Parse("Dockerfile", []byte(src), ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		opt := amd64()
		opt.Best = BestAll
		base, _ := testBase(BaseRef{Name: "busybox:1", Platform: "linux/amd64"})
		p := f.newPlanner(opt)
		p.bases = map[BaseRef]Base{{Name: "busybox:1", Platform: "linux/amd64"}: base}
		if _, err := p.plan(); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, c := range p.stages[0].seen[0].script {
			for _, w := range c.words {
				got[w.text] = w.line
			}
		}
		if got["b"] != 3 || got["c"] != 6 || got["d"] != 7 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzScanShell: any text is split, in time linear in its length.
func FuzzScanShell(f *testing.F) {
	for _, s := range []string{"a && b", "a 'b", "$( ( ) `", "<<E <<F\na\nE\nF\n", "\\\n\\", ">& <& >>| &>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		for _, c := range scanShell(src, func(at int) int { return at }) {
			c.name()
			c.uses("sudo")
			for _, w := range c.words {
				if w.line < 0 || w.line > len(src) {
					t.Errorf("word at %d of %d", w.line, len(src))
				}
			}
		}
	})
}
