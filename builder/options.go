package builder

import (
	"cmp"
	"crypto/ecdsa"
	"encoding/json"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/history"

	"gobuild/stages"
)

// Options say what to build and what to do with the result. Slices and maps may be nil.
type Options struct {
	// What to build.
	Context            string            // directory; "" with one of the next two
	ContextTar         io.Reader         // an archive, plain or compressed, that is the context
	ContextURL         string            // a git repository; or http(s): an archive that is the context, or else the Dockerfile itself
	ContextSubPath     string            // the folder of the context that is the context instead; "" is all of it
	Dockerfile         string            // path, inside an archive if the context is one; "" means Dockerfile, dockerfile or Containerfile in the context
	DockerfileText     []byte            // when not nil, used in place of reading Dockerfile (its name is Dockerfile or "Dockerfile")
	DockerfileBeside   string            // where DockerfileText would lie on this machine, for its ignore file; "" nowhere
	DockerfileURL      string            // http(s): the Dockerfile, wherever the context is
	IgnoreFile         string            // --ignorefile; "" means <Dockerfile>.dockerignore, .dockerignore, .containerignore
	Target             string            // stage name or index; "" is the last stage
	BuildArgs          map[string]string // --build-arg
	Name               string            // of the build, in its record
	Emulators          []Emulator        // for RUN of other architectures; not part of keys (G22)
	ProxyArgs          map[string]string // proxy variables for RUN; not part of keys (B9)
	Labels             map[string]string // --label
	Env                []string          // NAME=VALUE that the image has beside what the Dockerfile says
	UnsetAnnotations   []string          // that are not taken over from the base
	InheritAnnotations bool              // the manifest's annotations are taken over from the base, and name it
	Unset              stages.Unset      // what it does not have
	Annotations        []Annotation      // --annotation
	Squash             string            // SquashNew, SquashAll, or "" for a layer a step (FEATURES H17)
	UserXattrs         bool              // layers keep user.* attributes (FEATURES H8)
	Contexts           map[string]string // --build-context: name to folder, address, docker-image://, oci-layout:// or target:STAGE
	Platforms          []string          // of the result, in the order of its index; none: the host's
	AllPlatforms       bool              // in place of Platforms: those for which all base images exist
	Index              bool              // the result is an index even for one platform
	Pull               PullPolicy
	NoCache            bool
	NoCacheFilter      []string // stage names that do not read the cache
	CacheFrom          []CacheShare
	CacheTo            []CacheShare
	Lock               LockOptions
	Cutoff             bool // what follows a step that ran again and left the same files is taken from the cache
	Jobs               int  // RUNs at once; 0: number of CPUs
	Secrets            map[string]SecretSource
	DenySecretLeak     bool              // a layer that holds a secret's value is an error, not a warning
	SSH                map[string]string // id -> agent socket
	Allow              []string          // entitlements
	SourceDateEpoch    *time.Time
	Attest             AttestOptions
	IgnoreSyntax       bool

	GC GCOptions

	Debug DebugOptions

	// How RUN steps execute.
	Run RunOptions

	// What to do with the result.
	Tags    []string
	Outputs []Output
	SignKey *ecdsa.PrivateKey // signs what is pushed; nil: it is not signed
	Explain bool

	// Of a build that makes an image again.
	pins     *pins
	stranger bool // the Dockerfile or the context is from a statement about an image, not from the user

	Arguments []string    // the command line for the build's record, secrets masked
	Progress  func(Event) // called from several goroutines, one at a time; nil: silent
}

// PullPolicy says when a registry is asked for a base image (J2).
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNewer   PullPolicy = "newer"
	PullNever   PullPolicy = "never"
)

// SecretSource is where a secret's bytes come from: exactly one field is set.
type SecretSource struct {
	File string
	Data []byte // the value itself, of an environment variable for example
}

// RunOptions limit and shape every RUN. Zero values: no limit, default network.
type RunOptions struct {
	Network       string   // "default", "bridge", "host", "none", "ns:PATH" or "container:PID"
	AddHosts      []string // name:ip, or name:host-gateway
	DNS           []string
	DNSSearch     []string
	DNSOptions    []string
	DNSNone       bool // the image's /etc/resolv.conf is left
	NoHosts       bool // the image's /etc/hosts is left
	Hostname      string
	ShmSize       int64 // bytes; 0: 64 MiB
	Ulimits       []Ulimit
	MemoryBytes   int64
	MemorySwap    int64 // memory plus swap; -1 unlimited; 0 default
	CPUShares     uint64
	CPUPeriod     uint64 // microseconds
	CPUQuota      int64  // microseconds
	CPUs          float64
	CpusetCPUs    string
	CpusetMems    string
	PidsLimit     int64
	BlockWeight   uint16 // 10 to 1000
	BlockRates    []BlockRate
	CgroupParent  string
	BestEffort    bool // a limit that cannot be set is a notice, not an error
	NetworkStrict bool
	StepTimeout   time.Duration // 0: none

	// Security of steps that are not insecure by RUN --security.
	CapAdd          []string // NET_ADMIN, CAP_NET_ADMIN or ALL
	Devices         []string // paths as /dev/x[:/dev/y][:rwm], or CDI names; each must be there
	CapDrop         []string // in the same form; wins over CapAdd
	NoNewPrivileges bool
	SeccompNone     bool
	Seccomp         string // a profile in Docker's form, the text itself
}

// BlockRate is one of the --device-read-bps family.
type BlockRate struct {
	Device string // path
	Kind   string // read-bps, write-bps, read-iops or write-iops
	Rate   uint64 // a second
}

// Ulimit is one --ulimit: -1 is unlimited.
type Ulimit struct {
	Name string
	Soft int64
	Hard int64
}

// Output is one -o (K1, K2).
type Output struct {
	Type  string            // image, registry, oci, docker, local, tar, cacheonly
	Dest  string            // path, or "-" for Stdout
	Tar   bool              // oci: a tar file rather than a layout directory
	Attrs map[string]string // the other keys, checked by the builder: name, push, compression, compression-level, ...
	Out   io.Writer         // for Dest "-"
}

// Result is what a build made.
type Result struct {
	Manifest ocispec.Descriptor // of the image manifest or index
	Config   ocispec.Descriptor // of the image configuration; zero for an index
	Tags     []string
	Steps    []StepResult
	Warnings []string
	Pushed   []string
	Elapsed  time.Duration
	Record   history.Record // what the history keeps of it

	Provenance map[string]json.RawMessage // the predicate for each platform, if provenance was made
}

// ID is what docker build prints and --iidfile gets: the digest of the configuration, or of the index (K7).
func (r *Result) ID() digest.Digest { return cmp.Or(r.Config.Digest, r.Manifest.Digest) }

// StepResult is one executed or cached step, for summaries and the metadata file.
type StepResult struct {
	Stage    string        `json:"stage"`
	Platform string        `json:"platform,omitempty"` // of StepInfo
	Number   int           `json:"number"`
	Total    int           `json:"total"`
	Text     string        `json:"text"`
	Line     int           `json:"line"`
	Cached   bool          `json:"cached"`
	Reason   string        `json:"reason,omitempty"` // why it was not cached
	Key      digest.Digest `json:"key"`
	Start    time.Duration `json:"startNs,omitempty"` // since the build began
	Duration time.Duration `json:"durationNs"`
	CPU      time.Duration `json:"cpuNs,omitempty"`
	PeakMem  int64         `json:"peakMemoryBytes,omitempty"`
	Bytes    int64         `json:"layerBytes"` // of the files in its layer
	StepUsage
	Waits []history.Wait `json:"waits,omitempty"` // that are part of Duration

	Index   int             `json:"stageIndex"`
	Causes  []history.Cause `json:"causes,omitempty"`  // of a step that was not cached
	Follows *history.Place  `json:"follows,omitempty"` // the step whose change made this one run
	Saved   time.Duration   `json:"savedNs,omitempty"` // of a cached step: what it took when it ran
}

// StepUsage is what a RUN used beside the time and memory of StepResult; nothing for a step that was cached.
type StepUsage = history.Usage
