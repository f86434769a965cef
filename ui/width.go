package ui

import (
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// cells is how many columns a clean line takes at most: colours take none. It counts each rune by itself, which terminals that join
// several into one picture show in fewer columns, and no terminal in more.
func cells(s string) int {
	n := 0
	for i := 0; i < len(s); {
		if size := sgrLen(s[i:]); size > 0 {
			i += size
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		n += runeCells(r)
		i += size
	}
	return n
}

// fit cuts a clean line to at most width columns, the last of which then says that more follows. Colours end with it.
func fit(s string, width int, more string) string {
	if len(s) <= width && !strings.Contains(s, "\x1b") || cells(s) <= width {
		return s
	}
	if width < cells(more) {
		return ""
	}
	room, end, colored := width-cells(more), 0, false
	for end < len(s) {
		if size := sgrLen(s[end:]); size > 0 {
			end, colored = end+size, true
			continue
		}
		r, size := utf8.DecodeRuneInString(s[end:])
		if room -= runeCells(r); room < 0 {
			break
		}
		end += size
	}
	if colored {
		more += "\x1b[0m"
	}
	return s[:end] + more
}

// runeCells is the width of a rune. The selector of a picture makes the rune before it wide on some terminals.
func runeCells(r rune) int {
	const pictureSelector = 0xfe0f
	if r == pictureSelector {
		return 1
	}
	if 0x20 <= r && r < 0x7f {
		return 1
	}
	return displaywidth.Rune(r)
}

// sgrLen is the length of the colour sequence that s begins with, 0 if it begins with none. Clean lines have no other sequences.
func sgrLen(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	return strings.IndexByte(s, 'm') + 1
}
