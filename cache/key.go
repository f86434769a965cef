package cache

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// keyHeader is the first line of every key. Change it when the meaning of any line changes: all former
// results are then missed, which is what must happen.
const keyHeader = "gobuild key 1\n"

// Key names one result. It is a value: compare it with ==, copy it freely. The zero Key names nothing.
type Key struct {
	digest digest.Digest
	text   string
}

// Digest is the SHA-256 of the text.
func (k Key) Digest() digest.Digest { return k.digest }

// Text is what was hashed: lines for people to read and for ParseKey.
func (k Key) Text() string { return k.text }

// IsZero tells whether k is the zero Key.
func (k Key) IsZero() bool { return k.text == "" }

// name is the key's file name: the digest, which for the zero Key is that of no text.
func (k Key) name() string {
	if k.IsZero() {
		return digest.FromString("").Encoded()
	}
	return k.digest.Encoded()
}

// Kind is what NewKey was given.
func (k Key) Kind() string {
	lines := k.Lines()
	if len(lines) == 0 || len(lines[0].Values) == 0 {
		return ""
	}
	return lines[0].Values[0]
}

// Lines are the lines of the key without the header; the first is the kind.
func (k Key) Lines() []Line {
	lines, err := parseLines(strings.TrimPrefix(k.text, keyHeader))
	if err != nil {
		panic("cache: a key with bad text: " + err.Error()) // only builders and ParseKey make keys
	}
	return lines
}

// Line is one line of a key.
type Line struct {
	Name   string
	Values []string
}

// KeyBuilder collects the lines of a key.
type KeyBuilder struct {
	text []byte
}

// NewKey begins a key of a kind ("run", "copy", "layer"): two kinds never share a key.
func NewKey(kind string) *KeyBuilder {
	b := &KeyBuilder{text: []byte(keyHeader)}
	return b.Add("kind", kind)
}

// Add appends one line: the name and the values, separated by single blanks. A word of plain
// characters stands as it is, any other is quoted, so that two different calls, or sequences of
// calls, never give the same text: Add("env", "A", "b c"), Add("env", "A b", "c") and
// Add("env", "A").Add("env", "b c") are three texts.
func (b *KeyBuilder) Add(name string, values ...string) *KeyBuilder {
	b.text = appendWord(b.text, name)
	for _, v := range values {
		b.text = append(b.text, ' ')
		b.text = appendWord(b.text, v)
	}
	b.text = append(b.text, '\n')
	return b
}

// Key hashes the lines added so far. The builder can be used further.
func (b *KeyBuilder) Key() Key {
	text := string(b.text)
	return Key{digest: digest.FromString(text), text: text}
}

// ParseKey takes a key's text back, as from an imported record. It accepts exactly what a KeyBuilder
// writes: the header, a kind, canonical quoting, at most 8 MiB.
func ParseKey(text string) (Key, error) {
	if len(text) > maxKeyText {
		return Key{}, fmt.Errorf("cache key: text of %d bytes is over the limit of %d", len(text), maxKeyText)
	}
	body, ok := strings.CutPrefix(text, keyHeader)
	if !ok {
		return Key{}, fmt.Errorf("cache key: text does not begin with %q", strings.TrimSpace(keyHeader))
	}
	lines, err := parseLines(body)
	if err != nil {
		return Key{}, fmt.Errorf("cache key: %w", err)
	}
	if len(lines) == 0 || lines[0].Name != "kind" || len(lines[0].Values) != 1 {
		return Key{}, fmt.Errorf("cache key: the second line is not a kind")
	}
	return Key{digest: digest.FromString(text), text: text}, nil
}

// appendWord writes s bare when it is plain, else as a Go string literal of ASCII characters. The ASCII
// form does not depend on the Unicode tables of the compiler, so keys stay the same when those grow, and
// no key can move a terminal's cursor.
func appendWord(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	return strconv.AppendQuoteToASCII(dst, s)
}

func isPlain(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-_./:@+=,%", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// parseLines reads what Add wrote, and nothing else: each word must be in the one form Add gives it.
func parseLines(text string) ([]Line, error) {
	var lines []Line
	for n := 2; text != ""; n++ { // the header is line 1
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return nil, fmt.Errorf("line %d has no end", n)
		}
		words, err := parseWords(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		lines = append(lines, Line{Name: words[0], Values: words[1:]})
		text = rest
	}
	return lines, nil
}

func parseWords(line string) ([]string, error) {
	var words []string
	for {
		word, rest, err := parseWord(line)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
		if rest == "" {
			return words, nil
		}
		if rest[0] != ' ' {
			return nil, fmt.Errorf("no blank after a word")
		}
		line = rest[1:]
	}
}

func parseWord(line string) (word, rest string, err error) {
	if !strings.HasPrefix(line, `"`) {
		end := strings.IndexByte(line, ' ')
		if end < 0 {
			end = len(line)
		}
		if !isPlain(line[:end]) {
			return "", "", fmt.Errorf("a word is neither plain nor quoted")
		}
		return line[:end], line[end:], nil
	}
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		return "", "", fmt.Errorf("bad quoting")
	}
	word, err = strconv.Unquote(quoted)
	if err != nil || string(appendWord(nil, word)) != quoted {
		return "", "", fmt.Errorf("not the canonical quoting")
	}
	return word, line[len(quoted):], nil
}
