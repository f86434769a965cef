package ui

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Line makes text from outside safe to show inside one line: every control
// character, line end included, and everything that could reorder or hide its
// neighbours is written as an escape.
func Line(s string) string { return escape(s, false) }

// Text is Line for text of several lines: newlines stay.
func Text(s string) string { return escape(s, true) }

func escape(s string, multi bool) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\n' && multi:
			b.WriteByte('\n')
		case r == '\t':
			b.WriteString("    ")
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError && n == 1, r < 0x20, r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case isHostile(r):
			b.WriteString(runeEscape(r))
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// isPlain says that s is printable ASCII, which needs no copy.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// isHostile says that r, though valid, changes how other characters are shown:
// C1 controls, separators that some programs take for line ends, Unicode's
// bidirectional controls (UAX #9 section 2), invisible tags and the byte order mark.
func isHostile(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f,
		r == 0x061c, r == 0x200e, r == 0x200f,
		r >= 0x2028 && r <= 0x202e,
		r >= 0x2066 && r <= 0x206f,
		r == 0xfeff,
		r >= 0xfff9 && r <= 0xfffb,
		r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}

func runeEscape(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// state is where the cleaner stands inside a control sequence (ECMA-48).
type state int

const (
	ground    state = iota
	escaped         // after ESC
	escapedIn       // after ESC and an intermediate byte
	control         // in CSI
	text            // in OSC, DCS, SOS, PM or APC, until BEL or ST
	textEsc         // after ESC inside such a string
)

// cleaner turns the byte stream of a program into clean lines. It keeps at most
// one line, and its state across writes.
type cleaner struct {
	emit  func(line string) // gets each line, without its newline
	color bool              // keep SGR sequences

	state state
	seq   []byte // parameters of the control sequence so far
	over  bool   // seq was longer than maxSGR

	line    []byte
	columns int
	styled  bool   // the line holds a colour that is still on
	styles  int    // bytes of colour sequences in the line
	back    bool   // a carriage return came: the next character starts the line anew
	next    []byte // colours that came after it
	partial []byte // start of a UTF-8 sequence
}

// Write takes more of the stream. It never fails.
func (c *cleaner) Write(p []byte) {
	if len(c.partial) > 0 {
		p = append(c.partial, p...)
		c.partial = nil
	}
	for len(p) > 0 {
		if !utf8.FullRune(p) {
			c.partial = append([]byte(nil), p...)
			return
		}
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			c.invalid(p[0])
		} else {
			c.feed(r)
		}
		p = p[n:]
	}
}

// Flush emits an unfinished line.
func (c *cleaner) Flush() {
	for _, b := range c.partial {
		c.invalid(b)
	}
	c.partial = nil
	c.state = ground
	if len(c.line) > 0 {
		c.endLine()
	}
}

func (c *cleaner) invalid(b byte) {
	switch c.state {
	case text:
		return // part of the string that is dropped
	case textEsc:
		c.state = text
		return
	case ground, escaped, escapedIn, control:
	}
	c.state = ground
	c.append(fmt.Sprintf(`\x%02x`, b), 4)
}

func (c *cleaner) feed(r rune) {
	switch c.state {
	case ground:
		c.ground(r)
	case escaped:
		c.escape(r)
	case escapedIn:
		if r >= 0x20 && r <= 0x2f {
			return
		}
		c.leave(r, r >= 0x30 && r <= 0x7e)
	case control:
		c.control(r)
	case text:
		switch r {
		case 0x07, 0x9c:
			c.state = ground
		case 0x1b:
			c.state = textEsc
		case '\n': // no string spans lines, so an unfinished one costs at most its line
			c.leave(r, false)
		}
	case textEsc:
		if r == '\\' {
			c.state = ground
			return
		}
		c.state = escaped
		c.escape(r)
	}
}

// leave ends a sequence; a rune that is no part of it counts on its own.
func (c *cleaner) leave(r rune, used bool) {
	c.state = ground
	if !used {
		c.ground(r)
	}
}

func (c *cleaner) ground(r rune) {
	switch {
	case r == '\n':
		c.endLine()
	case r == '\r':
		c.back = true
		c.next = c.next[:0]
	case r == '\t':
		c.append("        "[c.tabStart():], 8-c.tabStart())
	case r == 0x1b:
		c.state = escaped
	case r == 0x9b:
		c.startControl()
	case r == 0x90, r == 0x98, r == 0x9d, r == 0x9e, r == 0x9f:
		c.state = text
	case r < 0x20, r >= 0x7f && r <= 0x9f: // BEL, backspace and the rest
	case isHostile(r):
		s := runeEscape(r)
		c.append(s, len(s))
	default:
		c.append(string(r), 1)
	}
}

func (c *cleaner) tabStart() int {
	if c.back {
		return 0
	}
	return c.columns % 8
}

func (c *cleaner) escape(r rune) {
	switch {
	case r == '[':
		c.startControl()
	case r == ']', r == 'P', r == 'X', r == '^', r == '_':
		c.state = text
	case r >= 0x20 && r <= 0x2f:
		c.state = escapedIn
	case r == 0x1b:
	default:
		c.leave(r, r >= 0x30 && r <= 0x7e)
	}
}

func (c *cleaner) startControl() {
	c.state = control
	c.seq = c.seq[:0]
	c.over = false
}

func (c *cleaner) control(r rune) {
	switch {
	case r >= 0x20 && r <= 0x3f:
		if len(c.seq) < maxSGR {
			c.seq = append(c.seq, byte(r))
		} else {
			c.over = true
		}
	case r >= 0x40 && r <= 0x7e:
		c.state = ground
		if r == 'm' && !c.over && c.color && isColor(string(c.seq)) {
			c.style()
		}
	default:
		c.leave(r, false)
	}
}

// style adds the colour in seq to the line.
func (c *cleaner) style() {
	s := "\x1b[" + string(c.seq) + "m"
	if c.back {
		if len(c.next)+len(s) <= maxStyle {
			c.next = append(c.next, s...)
		}
		return
	}
	if c.styles+len(s) > maxStyle && c.styles+len(s) > len(c.line)/2 {
		return // more colour than text: no use to a reader
	}
	c.styles += len(s)
	c.line = append(c.line, s...)
	c.styled = len(c.seq) != 0 && string(c.seq) != "0"
}

// append adds shown text of the given width, a whole number of runes.
func (c *cleaner) append(s string, width int) {
	if c.back {
		c.startOver()
	}
	if len(c.line)+len(s) > maxLine {
		c.endLine()
	}
	c.line = append(c.line, s...)
	c.columns += width
}

// startOver does what a terminal shows after a carriage return: the line is overwritten.
func (c *cleaner) startOver() {
	c.line = append(c.line[:0], c.next...)
	c.styles = len(c.next)
	c.styled = len(c.next) > 0
	c.columns = 0
	c.back = false
	c.next = c.next[:0]
}

// pending is the line that is not ended yet.
func (c *cleaner) pending() string {
	if c.styled {
		return string(c.line) + "\x1b[0m"
	}
	return string(c.line)
}

func (c *cleaner) endLine() {
	if c.styled {
		c.line = append(c.line, "\x1b[0m"...) // no colour reaches the next line, which may be ours
	}
	line := string(c.line)
	c.line = c.line[:0]
	c.columns, c.styles = 0, 0
	c.styled, c.back = false, false
	c.emit(line)
}

// isColor says that params are SGR parameters which change only colour, weight
// or underline: text that is hidden (8) or blinks (5, 6) is not let through.
func isColor(params string) bool {
	const (
		none = iota
		mode // after 38, 48 or 58: 5 takes one operand, 2 takes three
	)
	expect, operands := none, 0
	for _, f := range strings.FieldsFunc(params, func(r rune) bool { return r == ';' || r == ':' }) {
		n, ok := smallNumber(f)
		switch {
		case !ok:
			return false
		case operands > 0:
			operands--
		case expect == mode:
			if n != 2 && n != 5 {
				return false
			}
			expect, operands = none, map[int]int{2: 3, 5: 1}[n]
		case n == 38, n == 48, n == 58:
			expect = mode
		case n == 5, n == 6, n == 8, n > 107:
			return false
		}
	}
	return true
}

func smallNumber(s string) (int, bool) {
	n := 0
	for _, d := range s {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
		if n > 255 {
			return 0, false
		}
	}
	return n, true
}

// NewCleaner returns a writer that passes the output of a program on to w as
// clean lines; color keeps its colours. Close writes an unfinished line; it does
// not close w.
func NewCleaner(w io.Writer, color bool) io.WriteCloser {
	s := &cleanWriter{w: w}
	s.c = cleaner{color: color, emit: func(line string) {
		if _, err := io.WriteString(s.w, line+"\n"); err != nil && s.err == nil {
			s.err = err
		}
	}}
	return s
}

type cleanWriter struct {
	w   io.Writer
	c   cleaner
	err error
}

func (s *cleanWriter) Write(p []byte) (int, error) {
	s.c.Write(p)
	return len(p), s.err
}

func (s *cleanWriter) Close() error {
	s.c.Flush()
	return s.err
}
