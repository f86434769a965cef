package cache

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// rows: I1
func TestKeyText_Golden(t *testing.T) {
	k := NewKey("run").
		Add("parent", "sha256:ab").
		Add("argv", "/bin/sh", "-c", "echo \"a\"\nb").
		Add("env", "NAME", "").
		Add("none").
		Add("ünicode name", "é", "\xff", "\u202e", "日本").
		Key()
	want := `gobuild key 1
kind run
parent sha256:ab
argv /bin/sh -c "echo \"a\"\nb"
env NAME ""
none
"\u00fcnicode name" "\u00e9" "\xff" "\u202e" "\u65e5\u672c"
`
	if d := cmp.Diff(want, k.Text()); d != "" {
		t.Error(d)
	}
	// The digest is the contract with every store there is: a change of it is a change of format.
	if got := k.Digest(); got != digest.FromString(want) {
		t.Errorf("digest %s", got)
	}
	if k.Kind() != "run" || k.IsZero() || !(Key{}).IsZero() || (Key{}).Kind() != "" {
		t.Error("kind or zero")
	}
}

func TestKeyText_DifferentLinesNeverGiveTheSameText(t *testing.T) {
	seen := map[string]int{}
	for i, k := range []*KeyBuilder{
		NewKey("run").Add("env", "A", "b c"),
		NewKey("run").Add("env", "A b", "c"),
		NewKey("run").Add("env", "A", "b", "c"),
		NewKey("run").Add("env", "A").Add("env", "b c"),
		NewKey("run").Add("env A", "b", "c"),
		NewKey("run").Add("env", "A", "b", "c", ""),
		NewKey("run").Add("env", "A\nenv", "b", "c"),
		NewKey("run").Add("env", `"A"`, "b", "c"),
		NewKey("run").Add("env"),
		NewKey("run").Add("env", ""),
		NewKey("run").Add("env", " "),
		NewKey("run"),
		NewKey("run\nenv"),
		NewKey(""),
		NewKey("run").Add(""),
		NewKey("run").Add("", ""),
		NewKey("run").Add("env", "\xff"),
		NewKey("run").Add("env", "\ufffd"),
		NewKey("run").Add("env", `\xff`),
	} {
		text := k.Key().Text()
		if j, ok := seen[text]; ok {
			t.Errorf("inputs %d and %d both give %q", j, i, text)
		}
		seen[text] = i
		again, err := ParseKey(text)
		if err != nil || again != k.Key() {
			t.Errorf("input %d does not come back: %v", i, err)
		}
	}
}

func TestKeyBuilder_CanBeUsedFurther(t *testing.T) {
	b := NewKey("run").Add("a", "1")
	first := b.Key()
	second := b.Add("b", "2").Key()
	if first == second || !strings.HasPrefix(second.Text(), first.Text()) || strings.Contains(first.Text(), "b 2") {
		t.Errorf("%q, %q", first.Text(), second.Text())
	}
}

func TestHostileH64_ParseKeyRefusesWhatABuilderDoesNotWrite(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"no header":        "kind run\n",
		"another version":  "gobuild key 2\nkind run\n",
		"no kind":          "gobuild key 1\n",
		"kind not first":   "gobuild key 1\nx y\nkind run\n",
		"two kinds":        "gobuild key 1\nkind run copy\n",
		"no last newline":  "gobuild key 1\nkind run",
		"empty line":       "gobuild key 1\nkind run\n\n",
		"two blanks":       "gobuild key 1\nkind run\na  b\n",
		"blank at end":     "gobuild key 1\nkind run\na b \n",
		"needless quotes":  "gobuild key 1\nkind run\na \"b\"\n",
		"missing quotes":   "gobuild key 1\nkind run\na b{c\n",
		"other escape":     "gobuild key 1\nkind run\na \"\\x20\"\n",
		"backquotes":       "gobuild key 1\nkind run\na ` `\n",
		"open quote":       "gobuild key 1\nkind run\na \"b\n",
		"no blank between": "gobuild key 1\nkind run\na \" \"b\n",
		"carriage return":  "gobuild key 1\r\nkind run\r\n",
		"huge":             keyHeader + "kind " + strings.Repeat("a", maxKeyText) + "\n",
	} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("%s: accepted as %s", name, k.Digest())
		}
	}
}

// lineLists turns fuzz bytes into lists of lines: each word has a length byte, 0xff ends a line.
func lineLists(data []byte) [][]string {
	var lines [][]string
	line := []string{}
	for len(data) > 0 {
		n := int(data[0])
		data = data[1:]
		if n == 0xff {
			lines, line = append(lines, line), []string{}
			continue
		}
		n = min(n, len(data))
		line = append(line, string(data[:n]))
		data = data[n:]
	}
	return append(lines, line)
}

func build(lines [][]string) Key {
	b := NewKey("fuzz")
	for _, l := range lines {
		if len(l) > 0 {
			b.Add(l[0], l[1:]...)
		}
	}
	return b.Key()
}

// flat is an unambiguous form of the lists, to tell whether two differ.
func flat(lines [][]string) string {
	var b []byte
	for _, l := range lines {
		if len(l) == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(l)))
		for _, w := range l {
			b = binary.AppendUvarint(b, uint64(len(w)))
			b = append(b, w...)
		}
	}
	return string(b)
}

func FuzzKeyText(f *testing.F) {
	f.Add([]byte("\x01a\x01b"), []byte("\x02ab"))
	f.Add([]byte("\x03env\x01A\x03b c"), []byte("\x03env\x03A b\x01c"))
	f.Add([]byte("\x01a\xff\x01b"), []byte("\x03a\nb"))
	f.Add([]byte("\x01\xfe\x00"), []byte("\x03\xef\xbf\xbd"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, b := lineLists(one), lineLists(two)
		ka, kb := build(a), build(b)
		if (flat(a) == flat(b)) != (ka.Text() == kb.Text()) {
			t.Fatalf("%q and %q give\n%s\n%s", a, b, ka.Text(), kb.Text())
		}
		for _, k := range []Key{ka, kb} {
			again, err := ParseKey(k.Text())
			if err != nil || again != k {
				t.Fatalf("%q does not come back: %v", k.Text(), err)
			}
		}
		var back [][]string
		for _, l := range ka.Lines()[1:] {
			back = append(back, append([]string{l.Name}, l.Values...))
		}
		if flat(back) != flat(a) {
			t.Fatalf("%q became %q", a, back)
		}
		if (len(Diff(ka, kb)) == 0) != (ka == kb) {
			t.Fatalf("Diff of %q and %q: %v", ka.Text(), kb.Text(), Diff(ka, kb))
		}
		// Text that a mutation of the bytes makes is refused or is the canonical text of what it says.
		if k, err := ParseKey(keyHeader + "kind fuzz\n" + string(two)); err == nil && !strings.HasSuffix(k.Text(), string(two)) {
			t.Fatal("accepted and changed")
		}
	})
}
