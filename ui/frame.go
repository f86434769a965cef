package ui

import (
	"fmt"
	"strings"
	"time"
)

// frame is the region of the screen: what goes on, in at most rows lines of at most columns columns. A step takes a line, and of the
// lines that are left the last of its output.
func (v *liveView) frame(now time.Time, columns, rows int) []string {
	if v.ended || len(v.steps) == 0 && len(v.transfers) == 0 && v.ran+v.reused == 0 {
		return nil
	}
	lines := []string{v.opt.Color.paint(v.opt.Color.Run, fit(v.totals(now), columns, v.marks.more))}
	room, all := rows-len(lines), len(v.steps)+len(v.transfers)
	visible := room
	if all > room { // one line says how many more there are
		visible = max(room-1, 0)
	}
	steps := v.steps[:min(len(v.steps), visible)]
	transfers := v.transfers[:min(len(v.transfers), visible-len(steps))]
	output := 0
	if len(steps) > 0 {
		output = min(v.opt.LogLines, (visible-len(steps)-len(transfers))/len(steps))
	}
	for _, st := range steps {
		lines = append(lines, v.timed(st.title(), running(now.Sub(st.since)), columns))
		for _, l := range st.shown(output) {
			lines = append(lines, fit("   "+v.marks.output+" "+l, columns, v.marks.more))
		}
	}
	for _, t := range transfers {
		lines = append(lines, v.timed(cut(Line(t.text)), t.state(now), columns))
	}
	if all > room && room > 0 {
		lines = append(lines, fit(fmt.Sprintf("   and %d more", all-visible), columns, v.marks.more))
	}
	return lines
}

// totals is the first line of the region.
func (v *liveView) totals(now time.Time) string {
	parts := make([]string, 0, 4)
	for _, c := range []struct {
		n    int
		what string
	}{{len(v.steps), "running"}, {v.ran, "done"}, {v.reused, "reused"}, {len(v.transfers), "transferring"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return running(now.Sub(v.since)) + "  " + strings.Join(parts, ", ")
}

// running is a time that grows: its width changes seldom.
func running(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	}
	return d.Truncate(time.Second).String()
}

// timed is a line with something at its right end, which is not cut.
func (v *liveView) timed(text, right string, columns int) string {
	left := " " + v.marks.running + " "
	room := columns - cells(right) - 1
	if room < len(left) {
		return fit(right, columns, v.marks.more)
	}
	left = fit(left+text, room, v.marks.more)
	return left + strings.Repeat(" ", room+1-cells(left)) + right
}

// state is how far a transfer is, how fast, and when it ends if that goes on.
func (t *liveTransfer) state(now time.Time) string {
	text := formatSize(t.bytes)
	if t.size > 0 {
		text += " of " + formatSize(t.size)
	}
	took := now.Sub(t.since)
	if took < time.Second || t.bytes <= t.from {
		return text
	}
	rate := float64(t.bytes-t.from) / took.Seconds()
	text += ", " + formatSize(int64(rate)) + "/s"
	if t.size > t.bytes {
		left := time.Duration(float64(t.size-t.bytes) / rate * float64(time.Second))
		text += ", " + left.Round(time.Second).String() + " left"
	}
	return text
}
