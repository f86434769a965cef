package history

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// version is the form of a record. A reader passes over records of another one.
const version = 1

// Record is one build.
type Record struct {
	Version    int               `json:"version"`
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"`      // that the user gave the build
	Project    string            `json:"project"`             // folder and Dockerfile, as shown
	Context    string            `json:"context,omitempty"`   // absolute path of the folder
	Arguments  []string          `json:"arguments,omitempty"` // the command line, secrets masked
	BuildArgs  map[string]string `json:"buildArgs,omitempty"` // secrets masked
	Target     string            `json:"target,omitempty"`    // stage that was asked for
	Platform   string            `json:"platform,omitempty"`  // that was asked for
	Revision   string            `json:"revision,omitempty"`  // git commit of the context
	Begun      time.Time         `json:"begun"`               // UTC
	Elapsed    time.Duration     `json:"elapsedNs"`
	Bases      []Base            `json:"bases,omitempty"`
	Inputs     *Inputs           `json:"inputs,omitempty"`   // to make it again; nil: it did not get that far
	Stages     []Stage           `json:"stages,omitempty"`   // that the result needs, of the first platform; nil: it did not get that far
	Steps      []Step            `json:"steps"`              // in the order they ended
	Manifest   digest.Digest     `json:"manifest,omitempty"` // of the image
	Config     digest.Digest     `json:"config,omitempty"`   // its id
	Tags       []string          `json:"tags,omitempty"`
	Pushed     []string          `json:"pushed,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"`
	Error      *Failure          `json:"error,omitempty"`      // nil: it went well
	Log        string            `json:"log,omitempty"`        // path of what steps printed, "" when they printed nothing
	LogClipped bool              `json:"logClipped,omitempty"` // they printed more than is kept
}

// Inputs are what a build was made of, enough to make it again.
type Inputs struct {
	Dockerfile string              `json:"dockerfile"`           // its path below the context, or its name
	Text       *string             `json:"text,omitempty"`       // of the Dockerfile, secrets masked; nil: it is too long to be kept
	ContextURL string              `json:"contextURL,omitempty"` // of a context that was fetched, if it has no place for secrets
	Settings   map[string][]string `json:"settings,omitempty"`   // what decides the result, by flag; secrets masked
	Materials  []Material          `json:"materials,omitempty"`  // what names meant
}

// Material is a name that may come to mean something else, and what it meant.
type Material struct {
	Kind  string `json:"kind"` // image, layout, url or git
	Name  string `json:"name"`
	Of    string `json:"of,omitempty"` // platform of an image
	Value string `json:"value"`        // digest, or commit
}

// Base is the image that a stage begins with.
type Base struct {
	Stage  string        `json:"stage,omitempty"`
	Index  int           `json:"index"` // of the stage
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest,omitempty"` // of its manifest
}

// Stage is one FROM, and what it reads.
type Stage struct {
	Name  string `json:"name,omitempty"`
	Index int    `json:"index"`
	Base  string `json:"base,omitempty"`  // the image, if it begins with one
	Needs []int  `json:"needs,omitempty"` // index of every stage that it reads
}

// Place is where a step stands.
type Place struct {
	Stage string `json:"stage,omitempty"`
	Index int    `json:"index"` // of the stage
	Line  int    `json:"line"`
	Text  string `json:"text"`
}

// Step is one step of a build.
type Step struct {
	Place
	Number   int           `json:"number"`
	Total    int           `json:"total"`
	Key      digest.Digest `json:"key,omitempty"`
	Cached   bool          `json:"cached"`
	Reason   string        `json:"reason,omitempty"`
	Causes   []Cause       `json:"causes,omitempty"`  // of a miss: everything that differs, the first first
	Follows  *Place        `json:"follows,omitempty"` // of a miss: the step whose change made this one run
	Start    time.Duration `json:"startNs,omitempty"` // since the build began
	Duration time.Duration `json:"durationNs"`
	Saved    time.Duration `json:"savedNs,omitempty"` // of a hit: what it took when it ran
	CPU      time.Duration `json:"cpuNs,omitempty"`
	PeakMem  int64         `json:"peakMemoryBytes,omitempty"`
	Bytes    int64         `json:"layerBytes,omitempty"` // of the files in its layer
	Failed   bool          `json:"failed,omitempty"`
	Waits    []Wait        `json:"waits,omitempty"` // that are part of its time
	Usage
}

// Wait is what a step waited for before it could be done.
type Wait struct {
	For      string        `json:"for"` // the same step elsewhere, a free slot, layers
	Duration time.Duration `json:"durationNs"`
}

// Usage is what a command used beside time and memory.
type Usage struct {
	CPUUser      time.Duration `json:"cpuUserNs,omitempty"`
	CPUSystem    time.Duration `json:"cpuSystemNs,omitempty"`
	ReadBytes    int64         `json:"readBytes,omitempty"`    // from block devices
	WrittenBytes int64         `json:"writtenBytes,omitempty"` // to block devices
	PeakPids     int64         `json:"peakPids,omitempty"`     // where the kernel counts them for the step
	Network      string        `json:"network,omitempty"`      // what the network that was asked for stood for on this machine
	NetReceived  int64         `json:"netReceivedBytes,omitempty"`
	NetSent      int64         `json:"netSentBytes,omitempty"`
}

// Cause is one difference that made a step run.
type Cause struct {
	Kind string `json:"kind"` // file, arg, instruction, base, option, mount, evicted, upon, asked, new
	Name string `json:"name,omitempty"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	Text string `json:"text"` // for people
}

// Failure is how a build ended that did not go well.
type Failure struct {
	Message  string `json:"message"`
	Category string `json:"category,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Step     *Place `json:"step,omitempty"`
	ExitCode int    `json:"exitCode,omitempty"` // of a RUN
}
