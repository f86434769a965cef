package stages

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Plan is what a Dockerfile means for one target and one platform: the stages
// the target needs, in an order in which each stage follows all it depends on.
// The last stage is the target. A Plan is pure data and marshals to stable JSON.
type Plan struct {
	Platform ocispec.Platform `json:"platform"` // target platform
	Stages   []*Stage         `json:"stages"`
	Args     []Arg            `json:"args,omitempty"` // build arguments that the target reads, in the order of lines
	Warnings []Warning        `json:"warnings,omitempty"`

	// Epoch is the value of SOURCE_DATE_EPOCH when an ARG before the first FROM
	// sets it, "" otherwise (B11). A build argument of that name is in it already,
	// and so is Options.Epoch.
	Epoch string `json:"epoch,omitempty"`

	// FailOnWarnings says that "# check=error=true" asks for a build with
	// warnings to fail (E2). Notices, whose Warning has no URL and whose Rule is
	// one of the Notice constants, do not count.
	FailOnWarnings bool `json:"failOnWarnings,omitempty"`
}

// Target is the stage whose result is the image.
func (p *Plan) Target() *Stage { return p.Stages[len(p.Stages)-1] }

// Stage is one FROM with its steps, ONBUILD triggers of the base included.
type Stage struct {
	Index    int              `json:"index"`                 // 0-based position in the Dockerfile
	Name     string           `json:"name"`                  // lower case; "stage-N" when unnamed; "" when the file has one unnamed stage
	Doc      string           `json:"description,omitempty"` // of the comment above FROM (A8)
	Platform ocispec.Platform `json:"platform"`              // platform its RUNs execute on
	Base     Source           `json:"base"`                  // Kind is SourceStage, SourceImage, SourceScratch or SourceContext
	Pos      Position         `json:"pos"`                   // of FROM
	Steps    []Step           `json:"steps"`                 // only steps that may change files, in order: Run, Copy, Workdir
	Total    int              `json:"total"`                 // n of "i/n" (D7): FROM of an image counts
	Image    Image            `json:"image"`                 // configuration after the last step; RootFS and times are empty, the builder fills them
	History  []History        `json:"history"`               // entries of this stage alone (the base's come first and are not here)
	Needs    []int            `json:"needs,omitempty"`       // Index of every stage this one reads, sorted

	// What a bill of materials has beside the result, by BUILDKIT_SBOM_SCAN_STAGE and BUILDKIT_SBOM_SCAN_CONTEXT (B10):
	// of a stage that is not the target this stage, of the target the main build context.
	ScanStage   bool `json:"scanStage,omitempty"`
	ScanContext bool `json:"scanContext,omitempty"`
}

// Image is an OCI image configuration with the Docker fields that OCI lacks.
type Image = dockerspec.DockerOCIImage

// SourceKind says where a tree comes from.
type SourceKind string

// The kinds of Source.
const (
	SourceScratch SourceKind = "scratch" // the empty tree
	SourceStage   SourceKind = "stage"   // result of another stage of this plan
	SourceImage   SourceKind = "image"   // an image by reference
	SourceContext SourceKind = "context" // the main build context (Name "") or a named one that is a directory
	SourceInline  SourceKind = "inline"  // heredocs of the instruction itself
	SourceHTTP    SourceKind = "http"    // ADD of a URL
	SourceGit     SourceKind = "git"     // ADD of a git repository
	SourceMixed   SourceKind = "mixed"   // ADD of sources of several kinds, see Copy.Parts
)

// Source names a tree without saying what is in it. A Source without a Kind is none: a cache without initial content.
type Source struct {
	Kind  SourceKind `json:"kind"`
	Stage int        `json:"stage,omitempty"` // Index of the stage, for SourceStage
	Image BaseRef    `json:"image,omitzero"`  // for SourceImage
	Name  string     `json:"name,omitempty"`  // named context, for SourceContext
}

// BaseRef is an image that a plan needs: it is resolved by the caller, and handed to File.Plan as a Base.
type BaseRef struct {
	Name     string `json:"name"`              // as expanded, e.g. "golang:1.26", or "oci-layout:..." when a named context says so
	Context  string `json:"context,omitempty"` // name of the named context that supplies it, "" for a registry reference
	Platform string `json:"platform"`          // normalised "linux/amd64"
}

// Base is a resolved BaseRef.
type Base struct {
	Digest digest.Digest // manifest digest
	Image  Image         // its configuration
	Dir    bool          // the named context is a plain directory: no configuration

	// Unknown says that the image could not be had: a check goes on without its
	// configuration, and rules that would need it are silent. Not for builds.
	Unknown bool
}

// Step is one instruction that may change files. Exactly one of Run, Copy, Workdir is set.
type Step struct {
	Pos     Position `json:"pos"`
	Number  int      `json:"number"`            // i of "i/n" (D7)
	Text    string   `json:"text"`              // the instruction for display, expanded, one line, without heredoc bodies
	OnBuild string   `json:"onbuild,omitempty"` // trigger text when the step came from the base's ONBUILD
	History int      `json:"history"`           // index into Stage.History
	Run     *Run     `json:"run,omitempty"`
	Copy    *Copy    `json:"copy,omitempty"`
	Workdir *Workdir `json:"workdir,omitempty"`
}

// Run is one command (FEATURES B20-B30).
type Run struct {
	Args     []string `json:"args"`               // argv with the SHELL prepended for the shell form
	Env      []string `json:"env"`                // K=V, ENV and ARGs in force, in order, no duplicates; without proxies and secrets
	Dir      string   `json:"dir"`                // absolute WORKDIR
	User     string   `json:"user,omitempty"`     // USER as written, "" is root
	Mounts   []Mount  `json:"mounts,omitempty"`   // in order of target path
	Network  string   `json:"network,omitempty"`  // "", "none" or "host", as written by RUN --network
	Security string   `json:"security,omitempty"` // "" or "insecure"
	Devices  []Device `json:"devices,omitempty"`  // RUN --device (B30)
	Files    []Inline `json:"files,omitempty"`    // heredoc scripts, mounted read-only as /dev/pipes/NAME mode 0755 (A16a)
}

// Device is one RUN --device.
type Device struct {
	Name     string `json:"name"` // CDI name, "vendor/class=name"
	Required bool   `json:"required,omitempty"`
}

// MountType is the type= of a RUN --mount.
type MountType string

// The mount types.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
)

// Mount is one RUN --mount, expanded, with defaults filled in.
type Mount struct {
	Type      MountType `json:"type"`
	Target    string    `json:"target,omitempty"` // absolute; "" for a secret that is only an environment variable
	From      Source    `json:"from,omitzero"`    // bind; cache seed (Kind "" when none)
	Path      string    `json:"path,omitempty"`   // source= inside From, "/" for its root
	ReadOnly  bool      `json:"readOnly,omitempty"`
	ID        string    `json:"id,omitempty"`        // cache, secret, ssh
	Namespace string    `json:"namespace,omitempty"` // cache: value of BUILDKIT_CACHE_MOUNT_NS (B10), part of the cache's identity
	Sharing   string    `json:"sharing,omitempty"`   // cache: shared, private, locked
	Size      int64     `json:"size,omitempty"`      // tmpfs, bytes; 0 default
	Env       string    `json:"env,omitempty"`       // secret: variable to set
	Required  bool      `json:"required,omitempty"`
	Mode      *uint32   `json:"mode,omitempty"` // nil: not given
	UID       *uint32   `json:"uid,omitempty"`
	GID       *uint32   `json:"gid,omitempty"`
}

// Copy is one COPY or ADD (FEATURES B40-B58).
type Copy struct {
	Add      bool     `json:"add,omitempty"`
	From     Source   `json:"from"`            // where Paths are looked up
	Paths    []string `json:"paths,omitempty"` // expanded sources, slash paths or patterns
	Files    []Inline `json:"files,omitempty"` // heredoc sources, after Paths
	URLs     []string `json:"urls,omitempty"`  // ADD of URLs and git repositories
	Dest     string   `json:"dest"`            // absolute; a trailing "/" says it is a directory
	Chown    string   `json:"chown,omitempty"` // expanded user[:group]
	Chmod    string   `json:"chmod,omitempty"` // expanded, validated: octal or symbolic
	Link     bool     `json:"link,omitempty"`
	Parents  bool     `json:"parents,omitempty"`
	Excludes []string `json:"excludes,omitempty"`
	Checksum string   `json:"checksum,omitempty"`
	Unpack   *bool    `json:"unpack,omitempty"` // nil: not given
	KeepGit  *bool    `json:"keepGitDir,omitempty"`

	// Parts are what an ADD of sources of several kinds consists of, in order: each has sources of one kind, and all else as here.
	Parts []*Copy `json:"parts,omitempty"`
}

// Inline is a file whose content stands in the Dockerfile.
type Inline struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// Workdir creates a directory (FEATURES B60).
type Workdir struct {
	Path string `json:"path"` // absolute, clean
	User string `json:"user,omitempty"`
}

// History is one entry of the image history; the builder adds the time.
type History struct {
	CreatedBy string `json:"createdBy"`
	Comment   string `json:"comment,omitempty"`
	Empty     bool   `json:"empty,omitempty"`
}

// Position is a range of lines, 1-based, inclusive.
type Position struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// Warning is a lint finding.
type Warning struct {
	Rule        string   `json:"rule"`
	Description string   `json:"description,omitempty"`
	URL         string   `json:"url,omitempty"`
	Message     string   `json:"message"`
	Fix         []string `json:"fix,omitempty"` // lines to write instead, when they are known
	Pos         Position `json:"pos,omitzero"`
}

// Rules of warnings that are notices: no lint rule of the Dockerfile itself.
const (
	NoticeUnusedBuildArg = "UnusedBuildArg" // a --build-arg that no ARG declares (B7)
	NoticeLabsFeature    = "LabsFeature"    // a labs feature without the labs syntax (A5)
	NoticeNotUTF8        = "NotUTF8"        // an instruction with bytes that are no UTF-8
)

// Options are what the invoker decides about a plan.
type Options struct {
	Target         string            // stage name or index; "" the last
	BuildArgs      map[string]string // --build-arg
	Labels         map[string]string // --label, applied last to the target
	Env            []string          // --env NAME=VALUE, the same
	Unset          Unset             // what goes from the target before that
	TargetPlatform ocispec.Platform  // zero: BuildPlatform
	PlatformGiven  bool              // --platform was given: the result's os/arch/variant are TargetPlatform's (H1)
	BuildPlatform  ocispec.Platform
	Contexts       map[string]Context // named contexts by name as given
	Network        string             // build's --network: decides whether RUN --network=host is allowed
	Allow          []string           // --allow entitlements: network.host, security.insecure, ...
	Ignore         []string           // patterns of the ignore file in force, for lint CopyIgnoredFile
	IgnoreSyntax   bool               // --ignore-syntax
	Best           BestRules          // which of our own lint rules are checked
	Facts          ContextFacts       // what those rules know of the build context
	Epoch          *string            // what SOURCE_DATE_EPOCH means, as found out from File.Epoch; "" nothing; nil: not found out
	AllStages      bool               // keep stages the target does not need (--skip-unused-stages=false, lint)
}

// Unset names what the configuration of the result does not have, whoever put it there.
type Unset struct{ Env, Labels []string }

// Context is the kind of a named context: exactly one field is set.
type Context struct {
	Dir    bool   // a tree without configuration: a directory, a git repository, a file by URL
	Image  string // an image: the value to resolve ("docker-image://...", "oci-layout://...")
	Target string // another stage of this Dockerfile, by name or index
}
