package builder

import (
	"time"

	"gobuild/history"
)

// EventType says what an Event tells.
type EventType string

// The event types. The set only grows; ui prints those it knows and ignores others.
const (
	EventStepStart EventType = "step_start" // Step is set
	EventOutput    EventType = "output"     // Step, Stream and Data: bytes a RUN wrote, whole lines where possible
	EventStepDone  EventType = "step_done"  // Step, Cached, Duration, Digest, Bytes of its files, Usage, Waits; Err when it failed
	EventCache     EventType = "cache"      // --explain: Step, Text is the reason, Lines are the details
	EventTransfer  EventType = "transfer"   // Text names the blob or image; Bytes of Total, done when Bytes == Total; Cached when it was there already
	EventNotice    EventType = "notice"     // Text: something the user should know (host network, lock wait, ...)
	EventWarning   EventType = "warning"    // Text, Rule, Line: a lint finding
	EventDone      EventType = "done"       // the build ended well: Result is set
)

// Event is one thing that happened in a build. Only the fields its type names are set.
type Event struct {
	Type     EventType
	Time     time.Time
	Step     *StepInfo
	Stream   string // "stdout" or "stderr"
	Data     []byte
	Cached   bool
	Duration time.Duration
	Digest   string // short id of what the step made
	Bytes    int64
	Total    int64
	Text     string
	Lines    []string
	Rule     string
	Line     int
	Err      error
	Usage    *StepUsage
	Waits    []history.Wait // of a step that is done: that are part of Duration
	Result   *Result
}

// StepInfo names a step in every event about it; equal pointers mean equal steps.
type StepInfo struct {
	Stage    string // "" for a file with one unnamed stage
	Platform string // in a build for several: "linux/arm64", or "linux/amd64->linux/arm64" when it runs on another than it is for
	Number   int    // i of "i/n"
	Total    int
	Text     string // "RUN make"
	Line     int    // in the Dockerfile
}
