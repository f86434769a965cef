package main

import (
	"fmt"
	"slices"

	"gobuild/history"
	"gobuild/ui"
)

// reportLogs are what steps printed, by line of the Dockerfile, as much as a page has room for: the beginning and the end of each.
type reportLogs struct {
	each   int // bytes that are kept of a step
	byLine map[int]*reportLog
}

type reportLog struct {
	head, tail []byte
	dropped    int64
}

func newReportLogs(rec history.Record) *reportLogs {
	each := maxReportLogs / max(len(rec.Steps), 1)
	l := &reportLogs{each: max(minReportLog, min(each, maxReportLog)), byLine: map[int]*reportLog{}}
	for _, s := range rec.Steps {
		l.byLine[s.Line] = &reportLog{}
	}
	if l.byLine[0] == nil {
		l.byLine[0] = &reportLog{} // of what is no step
	}
	return l
}

func (l *reportLogs) add(line int, data []byte) {
	log := l.byLine[line]
	if log == nil {
		log = l.byLine[0]
	}
	if room := l.each/2 - len(log.head); room > 0 && len(log.tail) == 0 {
		n := min(room, len(data))
		log.head = append(log.head, data[:n]...)
		data = data[n:]
	}
	log.tail = append(log.tail, data...)
	if extra := len(log.tail) - l.each/2; extra > l.each/2 { // now and then, not at each line
		log.drop(extra)
	}
}

func (log *reportLog) drop(n int) {
	log.tail = slices.Clone(log.tail[n:])
	log.dropped += int64(n)
}

// text is a log as a page shows it. Logs are bytes of programs: control sequences are taken out, or shown as escapes.
func (l *reportLogs) text(line int) string {
	log := l.byLine[line]
	if log == nil {
		return ""
	}
	if extra := len(log.tail) - l.each/2; extra > 0 {
		log.drop(extra)
	}
	text := ui.Text(string(log.head))
	if log.dropped > 0 {
		text += fmt.Sprintf("\n[... %d bytes are left out; gobuild history logs has them ...]\n", log.dropped)
	}
	return text + ui.Text(string(log.tail))
}
