package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gobuild/history"
)

// evil would be markup, a script, an attribute or a change of direction wherever it stood unescaped.
const evil = `</pre></style><script>alert(1)</script>" onload="x' <img src=//evil.example/x>` + "\u202e\x1b[2J"

func evilRecord() history.Record {
	place := history.Place{Stage: evil, Index: 1, Line: 2, Text: "RUN " + evil}
	return history.Record{
		ID: "20260101T000000Z-abc", Name: evil, Project: evil, Arguments: []string{"gobuild", evil}, BuildArgs: map[string]string{"A": evil}, Target: evil, Platform: evil,
		Begun: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Elapsed: 10 * time.Second, Bases: []history.Base{{Stage: evil, Name: evil}},
		Stages: []history.Stage{{Name: "build", Index: 0, Base: evil}, {Name: evil, Index: 1, Needs: []int{0}}},
		Steps: []history.Step{
			{Place: history.Place{Stage: "build", Line: 1, Text: "COPY a /"}, Number: 1, Total: 1, Cached: true, Reason: "same key", Saved: time.Second},
			{Place: place, Number: 1, Total: 1, Reason: evil, Causes: []history.Cause{{Text: evil}}, Start: 5 * time.Second, Duration: 4 * time.Second, Failed: true, PeakMem: 1 << 20, Bytes: 2000},
		},
		Tags: []string{evil}, Pushed: []string{evil}, Warnings: []string{evil}, Error: &history.Failure{Message: evil, Hint: evil, Step: &place},
	}
}

func reportText(t *testing.T, rec history.Record, chunks ...history.Chunk) string {
	t.Helper()
	logs := newReportLogs(rec)
	for _, c := range chunks {
		logs.add(c.Line, c.Data)
	}
	var page bytes.Buffer
	if err := writeReport(&page, rec, logs); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

func TestP2_WhatAReportHas(t *testing.T) {
	t.Parallel()
	page := reportText(t, evilRecord(), history.Chunk{Line: 2, Data: []byte("what it printed\n")}, history.Chunk{Line: 9, Data: []byte("of no step\n")})
	for _, want := range []string{
		`<span class="failed">failed</span>`, `1 of 2 steps`, `style="left:50.00%;width:40.00%"`, `class="bar cached"`, "what it printed", "of no step", "reused: same key; it took 1.0s when it ran",
		`<path d="M200 22 C230 22 230 22 260 22"/>`, `<td class="n">1.05MB</td><td class="n">2kB</td>`, "2026-01-01T00:00:00Z",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// A page is opened in a browser, and everything in it is a stranger's: names, instructions, output.
func TestP2_NothingInAReportIsMarkup(t *testing.T) {
	t.Parallel()
	page := reportText(t, evilRecord(), history.Chunk{Line: 2, Data: []byte(evil)}, history.Chunk{Line: 0, Data: []byte(evil)})
	for _, bad := range []string{"<script", "<img", "\u202e", "\x1b", `" onload`} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'"`) {
		t.Error("the page may load something")
	}
	// The elements are those of the template, whatever the record says.
	calm := evilRecord()
	if want := elements(t, reportText(t, calm, history.Chunk{Line: 2, Data: []byte("x")}, history.Chunk{Line: 0, Data: []byte("x")})); want != elements(t, page) {
		t.Errorf("%d elements, want %d", elements(t, page), want)
	}
	for _, attr := range []string{"src=", "url(", "@import", "http://", "https://"} {
		if strings.Contains(strings.ReplaceAll(page, "&lt;img src=//evil", ""), attr) {
			t.Errorf("the page has %s", attr)
		}
	}
}

func elements(t *testing.T, page string) int {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	n := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := token.(xml.StartElement); ok {
			n++
		}
	}
}

func TestP2_LongOutputKeepsItsBeginningAndItsEnd(t *testing.T) {
	t.Parallel()
	rec := history.Record{Steps: []history.Step{{Place: history.Place{Line: 1, Text: "RUN x"}}}}
	logs := newReportLogs(rec)
	logs.add(1, []byte("the beginning\n"))
	line := bytes.Repeat([]byte("x"), 100_000)
	for range 100 {
		logs.add(1, line)
	}
	logs.add(1, []byte("\nthe end\n"))
	text := logs.text(1)
	if !strings.HasPrefix(text, "the beginning\n") || !strings.HasSuffix(text, "\nthe end\n") || !strings.Contains(text, "bytes are left out") || len(text) > maxReportLog+200 {
		t.Errorf("%d bytes: %.40s ... %s", len(text), text, text[len(text)-20:])
	}
}

func TestP2_AGraphThatIsNoPicture(t *testing.T) {
	t.Parallel()
	if g := stageGraph([]history.Stage{{Index: 0}}); g != nil {
		t.Errorf("one stage: %+v", g)
	}
	if g := stageGraph(make([]history.Stage, maxReportStages+1)); g != nil {
		t.Errorf("%d boxes", len(g.Boxes))
	}
	if g := stageGraph([]history.Stage{{Index: 0, Needs: []int{7}}, {Index: 1, Needs: []int{0, 1}}}); len(g.Boxes) != 2 || len(g.Edges) != 2 { // a damaged record
		t.Errorf("%+v", g)
	}
}
