package main

import (
	"gobuild/history"
	"gobuild/ui"
)

// reportGraph is a drawing of what stages read: a column for each depth, from what is read to what reads it.
type reportGraph struct {
	Width, Height int
	Boxes         []reportBox
	Edges         []reportEdge
}

type reportBox struct {
	X, Y, W, H, TX, TY, BY int
	Title, Base            string
}

type reportEdge struct{ X1, Y1, X2, Y2, Bend int }

// Measures of the drawing, in pixels.
const (
	boxWidth, boxHeight = 200, 44
	boxGapX, boxGapY    = 60, 14
	boxPadding          = 8
)

// stageGraph places stages; nil for one that would say nothing, or be larger than a page.
func stageGraph(list []history.Stage) *reportGraph {
	if len(list) < 2 || len(list) > maxReportStages {
		return nil
	}
	g := &reportGraph{}
	depth, rows, at := map[int]int{}, map[int]int{}, map[int]reportBox{}
	for _, s := range list { // a stage reads only those above it
		d := 0
		for _, n := range s.Needs {
			if known, ok := depth[n]; ok {
				d = max(d, known+1)
			}
		}
		depth[s.Index] = d
		b := reportBox{X: d * (boxWidth + boxGapX), Y: rows[d] * (boxHeight + boxGapY), W: boxWidth, H: boxHeight, Title: shortened(s.Name), Base: shortened(s.Base)}
		if s.Name == "" {
			b.Title = "the only stage"
		}
		b.TX, b.TY, b.BY = b.X+boxPadding, b.Y+18, b.Y+35
		rows[d]++
		at[s.Index] = b
		g.Boxes = append(g.Boxes, b)
		g.Width, g.Height = max(g.Width, b.X+boxWidth), max(g.Height, b.Y+boxHeight)
	}
	for _, s := range list {
		to := at[s.Index]
		for _, n := range s.Needs {
			from, ok := at[n]
			if !ok {
				continue
			}
			e := reportEdge{X1: from.X + boxWidth, Y1: from.Y + boxHeight/2, X2: to.X, Y2: to.Y + boxHeight/2}
			e.Bend = (e.X1 + e.X2) / 2
			g.Edges = append(g.Edges, e)
		}
	}
	return g
}

// shortened is a name that fits into a box.
func shortened(name string) string {
	const most = 28
	text := []rune(ui.Line(name))
	if len(text) > most {
		return string(text[:most-3]) + "..."
	}
	return string(text)
}
