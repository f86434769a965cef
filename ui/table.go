package ui

import (
	"strings"
	"unicode/utf8"
)

// Table is text in columns. Cells may come from outside: they are made safe to show.
type Table struct {
	Header []string
	Rows   [][]string
	Right  []bool // columns of numbers, which end at one place; missing ones start at one place
}

// Lines lays the table out, without spaces at the ends of lines.
func (t Table) Lines() []string {
	rows := make([][]string, 0, len(t.Rows)+1)
	if len(t.Header) > 0 {
		rows = append(rows, t.Header)
	}
	rows = append(rows, t.Rows...)
	var widths []int
	for i, row := range rows {
		clean := make([]string, len(row))
		for k, cell := range row {
			clean[k] = Line(cell)
			if k == len(widths) {
				widths = append(widths, 0)
			}
			widths[k] = max(widths[k], utf8.RuneCountInString(clean[k]))
		}
		rows[i] = clean
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		lines[i] = t.line(row, widths)
	}
	return lines
}

func (t Table) line(row []string, widths []int) string {
	var b strings.Builder
	for k, cell := range row {
		gap := strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell))
		if k > 0 {
			b.WriteString("   ")
		}
		if k < len(t.Right) && t.Right[k] {
			b.WriteString(gap + cell)
		} else {
			b.WriteString(cell + gap)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
