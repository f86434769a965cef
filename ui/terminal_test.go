package ui

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// terminal is what the live view needs of a terminal emulator, with what libraries for it lack: all that has scrolled away, and lines
// that are broken anew when the width changes. What the view does not use is an error.
type terminal struct {
	t             testing.TB
	columns, rows int
	lines         []screenLine
	y, x          int // of the cursor, from the first line there ever was
}

type screenLine struct {
	text  []rune
	wraps bool // the next line goes on with it
}

func newTerminal(t testing.TB, columns, rows int) *terminal {
	return &terminal{t: t, columns: columns, rows: rows, lines: make([]screenLine, 1)}
}

func (v *terminal) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		if rest, ok := strings.CutPrefix(s, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= 0x40 })
			v.control(rest[:end], rest[end])
			s = rest[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		v.put(r)
		s = s[size:]
	}
	return len(p), nil
}

func (v *terminal) control(args string, final byte) {
	switch {
	case final == 'A':
		n := 0
		if _, err := fmt.Sscan(args, &n); err != nil || n < 1 {
			v.t.Errorf("cursor up by %q", args)
		}
		top := max(0, len(v.lines)-v.rows)
		if v.y-n < top {
			v.t.Errorf("up by %d from row %d of %d", n, v.y-top, v.rows)
		}
		v.y = max(top, v.y-n)
	case final == 'K' && args == "":
		line := &v.lines[v.y]
		line.text, line.wraps = line.text[:min(v.x, len(line.text))], false
	case final == 'J' && args == "":
		v.lines = v.lines[:v.y+1]
		v.control("", 'K')
	case final == 'm':
	default:
		v.t.Errorf("ESC [ %s %c", args, final)
	}
}

func (v *terminal) put(r rune) {
	switch {
	case r == '\r':
		v.x = 0
		return
	case r == '\n':
		v.down(false)
		v.x = 0
		return
	case r < 0x20:
		v.t.Errorf("control character %#x", r)
	}
	if width := runeCells(r); v.x+width > v.columns {
		v.down(true)
		v.x = 0
	}
	line := &v.lines[v.y]
	for len(line.text) <= v.x {
		line.text = append(line.text, ' ')
	}
	line.text[v.x] = r
	if v.x++; runeCells(r) == 2 {
		line.text = append(line.text[:v.x], 0)
		v.x++
	}
}

func (v *terminal) down(wraps bool) {
	v.lines[v.y].wraps = wraps
	if v.y++; v.y == len(v.lines) {
		v.lines = append(v.lines, screenLine{})
	}
}

// resize breaks all lines anew. The cursor is at the beginning of a line.
func (v *terminal) resize(columns int) {
	var lines []screenLine
	y := 0
	for i := 0; i < len(v.lines); i++ {
		if i == v.y {
			y = len(lines)
		}
		whole := v.lines[i].text
		for v.lines[i].wraps {
			i++
			whole = append(whole, v.lines[i].text...)
		}
		for len(whole) > columns {
			lines = append(lines, screenLine{text: whole[:columns:columns], wraps: true})
			whole = whole[columns:]
		}
		lines = append(lines, screenLine{text: whole})
	}
	v.lines, v.y, v.columns = lines, y, columns
}

// all is what can be seen by scrolling, lines that were broken as one.
func (v *terminal) all() string {
	var b strings.Builder
	for _, l := range v.lines {
		b.WriteString(l.String())
		if !l.wraps {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// screen is what can be seen at once.
func (v *terminal) screen() string {
	var b strings.Builder
	for _, l := range v.lines[max(0, len(v.lines)-v.rows):] {
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	return b.String()
}

func (l screenLine) String() string { return strings.ReplaceAll(string(l.text), "\x00", "") }
