package ui

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// cleanAll feeds chunks to a cleaner and returns its lines.
func cleanAll(color bool, chunks ...string) []string {
	var lines []string
	c := cleaner{color: color, emit: func(l string) { lines = append(lines, l) }}
	for _, chunk := range chunks {
		c.Write([]byte(chunk))
	}
	c.Flush()
	return lines
}

func TestO5_CleanerKeepsTextAndDropsControl(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		color  bool
		chunks []string
		want   []string
	}{
		{"lines end at newlines", false, []string{"a\nb\n"}, []string{"a", "b"}},
		{"an unfinished line is flushed", false, []string{"a\nb"}, []string{"a", "b"}},
		{"a line may come in pieces", false, []string{"a", "b", "\nc\n"}, []string{"ab", "c"}},
		{"an empty line is a line", false, []string{"\n\n"}, []string{"", ""}},
		{"CRLF is a newline", false, []string{"a\r\nb\r", "\n"}, []string{"a", "b"}},
		{"a carriage return overwrites", false, []string{"10%\r20%\r100%\n"}, []string{"100%"}},
		{"a last carriage return keeps the text", false, []string{"100%\r"}, []string{"100%"}},
		{"tabs become spaces to the next stop", false, []string{"ab\tc\n\td\n"}, []string{"ab      c", "        d"}},
		{"a tab after a carriage return starts at column 0", false, []string{"abc\r\td\n"}, []string{"        d"}},
		{"bell, backspace and NUL go", false, []string{"a\x07b\x08c\x00d\x7fe\n"}, []string{"abcde"}},
		{"cursor movement goes", false, []string{"a\x1b[2Kb\x1b[1;1Hc\x1b[?25ld\n"}, []string{"abcd"}},
		{"an escape in pieces goes", false, []string{"a\x1b", "[", "3", "1", "mb\n"}, []string{"ab"}},
		{"a window title goes, ended by BEL", false, []string{"a\x1b]0;evil\x07b\n"}, []string{"ab"}},
		{"a hyperlink goes, ended by ST", false, []string{"\x1b]8;;http://x\x1b\\t\x1b]8;;\x1b\\\n"}, []string{"t"}},
		{"an endless string costs its line only", false, []string{"a\x1b]0;evil\nb\n"}, []string{"a", "b"}},
		{"device control strings go", false, []string{"a\x1bPq#0\x1b\\b\n"}, []string{"ab"}},
		{"charset switches go", false, []string{"a\x1b(0b\x1bcd\n"}, []string{"abd"}},
		{"CSI of C1 goes", false, []string{"a\u009b31mb\n"}, []string{"ab"}},
		{"OSC of C1 goes", false, []string{"a\u009d0;x\u009cb\n"}, []string{"ab"}},
		{"invalid UTF-8 is shown as escapes", false, []string{"a\xff\xc3(\n"}, []string{`a\xff\xc3(`}},
		{"a cut rune at the end is shown as escapes", false, []string{"\xe2\x82"}, []string{`\xe2\x82`}},
		{"a rune in pieces is whole", false, []string{"\xe2", "\x82", "\xac\n"}, []string{"€"}},
		{"bidi controls are shown", false, []string{"a\u202eb\u2066c\n"}, []string{`a\u202eb\u2066c`}},
		{"colour goes without colour", false, []string{"\x1b[31mred\x1b[0m\n"}, []string{"red"}},
		{"colour stays with colour", true, []string{"\x1b[1;31mred\x1b[0m\n"}, []string{"\x1b[1;31mred\x1b[0m"}},
		{"an open colour ends with its line", true, []string{"\x1b[31mred\nplain\n"}, []string{"\x1b[31mred\x1b[0m", "plain"}},
		{"hidden text is not hidden", true, []string{"\x1b[8mx\x1b[38;5;1;8my\n"}, []string{"xy"}},
		{"256 and true colours stay", true, []string{"\x1b[38;5;8mx\x1b[48;2;8;8;8my\x1b[m\n"}, []string{"\x1b[38;5;8mx\x1b[48;2;8;8;8my\x1b[m"}},
		{"colour after a carriage return starts the new state", true, []string{"a\r\x1b[32mok\x1b[0m\n"}, []string{"\x1b[32mok\x1b[0m"}},
		{"private SGR goes", true, []string{"\x1b[?4mx\x1b[>4mx\n"}, []string{"xx"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, cleanAll(tt.color, tt.chunks...)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestO5_EndlessLineIsShownInPiecesWithoutLoss(t *testing.T) {
	t.Parallel()
	var total, longest int
	c := cleaner{color: true, emit: func(l string) {
		total += strings.Count(l, "x")
		longest = max(longest, len(l))
	}}
	chunk := []byte(strings.Repeat("\x1b[31mx\x1b[0mx", 1000))
	for range 100 {
		c.Write(chunk)
	}
	c.Flush()
	if total != 200_000 {
		t.Errorf("%d of 200000 characters were shown", total)
	}
	if longest > 3*maxLine {
		t.Errorf("a line of %d bytes was held", longest)
	}
}

func TestO5_EndlessSequencesTakeNoMemory(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]string{
		"colours only":         "\x1b[31m",
		"colours after return": "\r\x1b[31m",
		"parameters":           "11111",
		"string":               "xxxxxx",
	} {
		c := cleaner{color: true, emit: func(string) {}}
		switch name {
		case "parameters":
			c.Write([]byte("\x1b["))
		case "string":
			c.Write([]byte("\x1b]"))
		}
		for range 100_000 {
			c.Write([]byte(chunk))
		}
		if n := cap(c.line) + cap(c.seq) + cap(c.next) + cap(c.partial); n > 2*maxLine {
			t.Errorf("%s: %d bytes held", name, n)
		}
	}
}

func TestHostileR26_LineEscapesEverythingThatActs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, line, text string }{
		{"plain text stays", "hello, wörld", "hello, wörld", "hello, wörld"},
		{"newlines", "a\nb", `a\nb`, "a\nb"},
		{"carriage returns cannot hide", "a\rb", `a\rb`, `a\rb`},
		{"escapes are visible", "\x1b[31mx", `\x1b[31mx`, `\x1b[31mx`},
		{"C1", "\u009b31m", `\u009b31m`, `\u009b31m`},
		{"invalid UTF-8", "\xff", `\xff`, `\xff`},
		{"bidi", "\u202e", `\u202e`, `\u202e`},
		{"tags", "\U000e0041", `\U000e0041`, `\U000e0041`},
		{"tabs", "a\tb", "a    b", "a    b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Line(tt.in); got != tt.line {
				t.Errorf("Line = %q, want %q", got, tt.line)
			}
			if got := Text(tt.in); got != tt.text {
				t.Errorf("Text = %q, want %q", got, tt.text)
			}
		})
	}
}

func TestNewCleaner_WritesCleanLines(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := NewCleaner(&buf, false)
	if _, err := w.Write([]byte("a\x1b[2Jb\nrest")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := buf.String(); got != "ab\nrest\n" {
		t.Errorf("wrote %q", got)
	}
}

// checkClean fails when s holds a control other than whole SGR sequences (and newlines where allowed).
func checkClean(t *testing.T, s string, color, newlines bool) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("invalid UTF-8: %q", s)
	}
	rest := s
	for rest != "" {
		if color && strings.HasPrefix(rest, "\x1b[") {
			i := strings.IndexByte(rest, 'm')
			if i < 0 || strings.Trim(rest[2:i], "0123456789;:") != "" {
				t.Fatalf("not a colour sequence in %q", s)
			}
			rest = rest[i+1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(rest)
		if r < 0x20 && (r != '\n' || !newlines) || r == 0x7f || isHostile(r) {
			t.Fatalf("%q in %q", r, s)
		}
		rest = rest[n:]
	}
}

func FuzzSanitize(f *testing.F) {
	for _, s := range []string{"a\x1b[31mb\n", "\x1b]0;t\x07x", "\r\x1b[K50%\r", "\u009b8m\xff", "\x1b[38;2;1;2;3mx", "\x1b\x1b[\x1b[31m", "\tx\u202e\x1bP\x1b"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, split int) {
		if split < 0 || split > len(data) {
			split = len(data) / 2
		}
		for _, color := range []bool{false, true} {
			whole := cleanAll(color, string(data))
			for _, l := range whole {
				checkClean(t, l, color, false)
				if len(l) > 3*maxLine {
					t.Fatalf("line of %d bytes", len(l))
				}
			}
			parts := cleanAll(color, string(data[:split]), string(data[split:]))
			if diff := cmp.Diff(whole, parts); diff != "" {
				t.Fatalf("cut at %d the lines differ:\n%s", split, diff)
			}
		}
		checkClean(t, Line(string(data)), false, false)
		checkClean(t, Text(string(data)), false, true)
		if again := Line(Line(string(data))); again != Line(string(data)) {
			t.Fatalf("escaping twice differs: %q", again)
		}
	})
}
