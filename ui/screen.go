package ui

import "fmt"

// screen draws the region of a terminal that changes: the lines below everything that stays. The cursor is left at the beginning of
// the line after it, so that whatever ends gobuild leaves a terminal that needs no repair. Nothing is hidden, no other screen is
// used, and what is above the region is never touched.
type screen struct {
	shown []int // columns of each line that is there now
	taken int   // columns of the terminal when they were drawn
}

// redraw gives the bytes that write lines where the region was, and keep a new region of the lines from the index on: those before it
// stay for good, and scroll. The new lines of the region fit into the columns.
func (s *screen) redraw(lines []string, region, columns int) []byte {
	size := 32
	for _, l := range lines {
		size += len(l) + len("\x1b[K\r\n")
	}
	out := make([]byte, 0, size)
	if up := s.rows(columns); up > 0 {
		out = fmt.Appendf(out, "\r\x1b[%dA", up)
	}
	s.shown, s.taken = s.shown[:0], columns
	for i, l := range lines {
		out = append(out, l...)
		out = append(out, "\x1b[K\r\n"...) // also what an older, longer line left
		if i >= region {
			s.shown = append(s.shown, cells(l))
		}
	}
	return append(out, "\x1b[J"...)
}

// rows is how many rows the region takes: in a terminal that became narrower its lines are broken.
func (s *screen) rows(columns int) int {
	if columns >= s.taken || columns < 1 {
		return len(s.shown)
	}
	n := 0
	for _, width := range s.shown {
		n += max(1, (width+columns-1)/columns)
	}
	return n
}
