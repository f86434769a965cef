package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"gobuild/builder"
)

// jsonVersion is "v" of every object. It changes only if a field changes its meaning.
const jsonVersion = 1

// jsonObject is the union of all fields; doc.go says which type has which.
type jsonObject struct {
	V    int       `json:"v"`
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	Step *jsonStep `json:"step,omitempty"`

	Stream     string  `json:"stream,omitempty"`
	Data       *string `json:"data,omitempty"`
	DataBase64 []byte  `json:"dataBase64,omitempty"`

	Cached   *bool              `json:"cached,omitempty"`
	Duration *time.Duration     `json:"durationNs,omitempty"`
	Digest   string             `json:"digest,omitempty"`
	Bytes    *int64             `json:"bytes,omitempty"`
	Usage    *builder.StepUsage `json:"usage,omitempty"`
	Waits    []jsonWait         `json:"waits,omitempty"`

	Hit     *bool    `json:"hit,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Details []string `json:"details,omitempty"`

	Name  string `json:"name,omitempty"`
	Total *int64 `json:"total,omitempty"`

	Rule    string `json:"rule,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message,omitempty"`

	Category   builder.Category `json:"category,omitempty"`
	Hint       string           `json:"hint,omitempty"`
	File       string           `json:"file,omitempty"`
	Ranges     []jsonRange      `json:"ranges,omitempty"`
	ExitCode   *int             `json:"exitCode,omitempty"`
	StderrTail []string         `json:"stderrTail,omitempty"`
	Others     []string         `json:"others,omitempty"`

	Config      string               `json:"config,omitempty"`
	Tags        []string             `json:"tags,omitempty"`
	Steps       []builder.StepResult `json:"steps,omitempty"`
	CachedSteps *int                 `json:"cachedSteps,omitempty"`
	TotalSteps  *int                 `json:"totalSteps,omitempty"`
}

type jsonStep struct {
	Stage    string `json:"stage,omitempty"`
	Platform string `json:"platform,omitempty"` // in a build for several
	Number   int    `json:"number"`
	Total    int    `json:"total"`
	Text     string `json:"text"`
	Line     int    `json:"line,omitempty"`
}

type jsonWait struct {
	For      string        `json:"for"`
	Duration time.Duration `json:"durationNs"`
}

type jsonRange struct {
	Start int `json:"start"` // first line, from 1
	End   int `json:"end"`   // last line
}

func stepJSON(s *builder.StepInfo) *jsonStep {
	if s == nil {
		return nil
	}
	return &jsonStep{Stage: s.Stage, Platform: s.Platform, Number: s.Number, Total: s.Total, Text: s.Text, Line: s.Line}
}

// eventJSON is the line of an event; it is empty for a type that has no form.
func eventJSON(e builder.Event) []byte {
	o := jsonObject{V: jsonVersion, Type: string(e.Type), Time: e.Time, Step: stepJSON(e.Step)}
	switch e.Type {
	case builder.EventStepStart:
	case builder.EventOutput:
		o.Stream = e.Stream
		if utf8.Valid(e.Data) {
			s := string(e.Data)
			o.Data = &s
		} else {
			o.DataBase64 = e.Data
		}
	case builder.EventStepDone:
		o.Cached, o.Duration, o.Digest, o.Bytes = &e.Cached, &e.Duration, e.Digest, &e.Bytes
		if !e.Cached && e.Usage != nil && *e.Usage != (builder.StepUsage{}) {
			o.Usage = e.Usage
		}
		for _, w := range e.Waits {
			o.Waits = append(o.Waits, jsonWait{w.For, w.Duration})
		}
		if e.Err != nil {
			o.Message = e.Err.Error()
		}
	case builder.EventCache:
		o.Hit, o.Reason, o.Details = &e.Cached, e.Text, e.Lines
	case builder.EventTransfer:
		o.Name, o.Bytes, o.Total = e.Text, &e.Bytes, &e.Total
		if e.Cached {
			o.Cached = &e.Cached
		}
	case builder.EventNotice:
		o.Message = e.Text
	case builder.EventWarning:
		o.Rule, o.Message, o.Line = e.Rule, e.Text, e.Line
	case builder.EventDone:
		doneJSON(&o, e.Result)
	default:
		return nil
	}
	return marshal(o)
}

func doneJSON(o *jsonObject, r *builder.Result) {
	if r == nil {
		return
	}
	cached, total := 0, len(r.Steps)
	for _, s := range r.Steps {
		if s.Cached {
			cached++
		}
	}
	o.Digest, o.Config, o.Tags, o.Steps = string(r.Manifest.Digest), string(r.ID()), r.Tags, r.Steps
	o.CachedSteps, o.TotalSteps, o.Duration = &cached, &total, &r.Elapsed
}

// errorJSON is the machine form of an error (FEATURES F3).
func errorJSON(err error, dir string, now time.Time) []byte {
	o := jsonObject{V: jsonVersion, Type: "error", Time: now, Message: err.Error(), Hint: remedy(err)}
	var be *builder.Error
	if errors.As(err, &be) {
		o.Category = be.Category
		o.File = shownPath(be.File, dir)
		if be.Pos.Start > 0 {
			o.Ranges = []jsonRange{{Start: be.Pos.Start, End: max(be.Pos.End, be.Pos.Start)}}
		}
		o.Step = stepJSON(be.Step)
		if be.ExitCode != 0 {
			o.ExitCode = &be.ExitCode
		}
		o.StderrTail = be.Tail[max(len(be.Tail)-maxTail, 0):]
		for _, other := range be.Others {
			o.Others = append(o.Others, other.Error())
		}
	}
	return marshal(o)
}

// marshal writes one line.
func marshal(o jsonObject) []byte {
	data, err := JSON(o, "")
	if err != nil { // the type has only fields that can be marshalled
		panic(err)
	}
	return data
}

// JSON is v as one JSON document and a newline, indented by indent where that is
// not empty, safe to show on a terminal.
func JSON(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // "&&" and "->" are to be read
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return escapeJSON(buf.Bytes()), nil
}

// escapeJSON writes the characters of a document that could act on a terminal as
// \u escapes, which every reader undoes: JSON itself escapes C0 alone.
func escapeJSON(data []byte) []byte {
	out := make([]byte, 0, len(data)+1)
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == 0x7f, r <= 0xffff && isHostile(r):
			out = append(out, '\\', 'u')
			hex := strconv.FormatInt(int64(r), 16)
			out = append(out, "0000"[len(hex):]...)
			out = append(out, hex...)
		default:
			out = append(out, data[i:i+n]...)
		}
		i += n
	}
	return out
}
