package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
)

// Config is what all the steps of a build share.
type Config struct {
	// CgroupParent is the cgroup below which steps get theirs, as a path from the root of each hierarchy.
	// Empty: below the cgroup that gobuild itself is in, and only steps with limits have one.
	CgroupParent string
	// BestEffort makes a notice of a limit that cannot be set, and runs the step without it.
	BestEffort bool
	// Notice is told things that the user should know, one line each, from any goroutine. It may be nil.
	Notice func(string)
	// Spares is how many children are started ahead; 0 means 2.
	Spares int
	// StubDir is a directory on the file system of the layers that the Runner fills with the mount points that every step
	// needs, and puts below all layers. So nothing is made in, and removed from, upper directories of images that lack
	// them, which costs several times what starting the step does. It may be shared by Runners and kept. Empty: not used.
	StubDir string
	// Path has the directories in which programs are looked for that networks need.
	Path []string
	// Owners keeps the owners of files in the layers. One that records them is for a user namespace with one id.
	Owners owners.Keeper
	// KillDelay is the time between TERM and KILL when a step is cancelled; 0 means 10 seconds.
	KillDelay time.Duration
}

// Spec is one command and the world it sees.
type Spec struct {
	// Lower are the directories of the root file system, topmost first. None: Upper itself is the root.
	Lower []string
	// Upper and Work are the overlay's writable and scratch directory, on one file system. Work is used for one step only.
	Upper, Work string

	Args []string // argv; the first is looked up in the PATH of Env unless it has a slash
	Env  []string // K=V, later ones replace earlier ones; PATH and HOME are added where they are missing
	Dir  string   // working directory inside the root, made for the user if missing; empty is /
	User string   // user[:group], names or numbers, resolved inside the root; empty is root

	Hostname string // empty: buildkitsandbox
	Devices  []Device
	Mounts   []Mount  // applied in this order, after the devices
	Network  string   // one of the networks below, but not NetworkDefault; or NetworkPath with a path, NetworkContainer with a pid
	Hosts    []string // "ADDRESS NAME", where the address may be GatewayHost
	NoHosts  bool     // the image's own /etc/hosts is left in place
	DNS      DNS
	ShmSize  int64 // bytes of /dev/shm; 0 is 64 MiB
	Rlimits  []Rlimit
	Limits   Limits
	Privileges

	// Emulation has the command run in its user namespace, where programs of other architectures work. The command has rights over its
	// files then, as far as their ids go, and none over mounts and networks. nil: programs are this machine's.
	Emulation *Emulation

	Terminal       *os.File  // a terminal that is the command's controlling one, and all three streams; nil: what follows
	Stdin          io.Reader // nil is /dev/null
	Stdout, Stderr io.Writer // each is written by one goroutine; nil discards
	SecretEnv      []string  // K=V, appended last, never shown
	ReadOnlyRoot   bool

	// Started is told the process number of the step's init, in the caller's pid namespace, when the step begins. It may be nil.
	Started func(pid int)
}

// DNS changes /etc/resolv.conf, which is made from the host's: what is not empty replaces that part of it.
type DNS struct {
	Servers, Search, Options []string
	None                     bool // the image's own file is left in place
}

// Mount is one more mount of a step.
type Mount struct {
	Type string // "bind", "tmpfs" or "file"
	// Source is what a bind shows: an absolute path on the host that the caller has resolved. SourceFile, an open
	// directory or file, takes precedence and stays the caller's.
	Source     string
	SourceFile *os.File
	// Layers, directories of one file system with the topmost first, take precedence over both: the bind shows LayersPath
	// inside the stack of them, found without leaving it. Writes, where allowed, are thrown away.
	Layers     []string
	LayersPath string
	// Overlay makes a bind writable and throws the writes away.
	Overlay  bool
	Target   string // absolute path inside the root
	ReadOnly bool

	// Data is the content of a "file", which lies on a tmpfs and is read-only.
	Data     []byte
	Mode     uint32 // permission bits of a "file"
	UID, GID int    // owner of a "file"
	NoExec   bool

	Size int64 // bytes of a "tmpfs"; 0: half of the memory
}

// The mount types.
const (
	MountBind  = "bind"
	MountTmpfs = "tmpfs"
	MountFile  = "file"
)

// The networks.
const (
	NetworkHost = "host"
	NetworkNone = "none"
)

// Limits bound what the processes of a step use together. Zero values: no limit.
type Limits struct {
	MemoryBytes int64
	MemorySwap  int64 // memory plus swap; -1 unlimited; 0 twice the memory
	CPUShares   uint64
	CPUPeriod   uint64 // microseconds
	CPUQuota    int64  // microseconds in each period
	CpusetCPUs  string // as "0-2,7"
	CpusetMems  string
	PidsLimit   int64
	BlockWeight uint16 // share of block devices, 10 to 1000
	BlockRates  []BlockRate
}

// BlockRate limits one kind of access to one block device.
type BlockRate struct {
	Device string // path of its node on the host
	Kind   string // "read-bps", "write-bps", "read-iops" or "write-iops"
	Rate   uint64 // bytes or operations in a second
}

// Any says whether any limit is set.
func (l *Limits) Any() bool { return len(controllersOf(l)) > 0 }

// Rlimit is a setrlimit(2) limit by its name in lower case ("nofile"); -1 is unlimited.
type Rlimit struct {
	Name       string
	Soft, Hard int64
}

// ExecFailure says why the command could not even be started, where that is the image's or the Dockerfile's doing.
type ExecFailure string

// The reasons; exit codes 127 and 126 as a shell has them.
const (
	ExecOK            ExecFailure = ""
	ExecNotFound      ExecFailure = "not found"      // 127
	ExecNotExecutable ExecFailure = "not executable" // 126: permission denied or a directory
	ExecBadFormat     ExecFailure = "bad format"     // 126: no program of this machine, no "#!" line
	ExecTooLong       ExecFailure = "too long"       // 126: arguments and environment exceed the kernel's limit
)

// Result is how a command ended.
type Result struct {
	ExitCode  int // 128+n when signal n ended it
	Signal    int // 0: it exited by itself
	OOMKilled bool
	// PeakMemory in bytes is that of the cgroup where memory is limited, else that of the largest single process.
	PeakMemory         int64
	CPUUser, CPUSystem time.Duration // of all the step's processes
	Wall               time.Duration
	ReadBytes          int64 // from block devices, by processes that were waited for
	WrittenBytes       int64 // to block devices, as far as the kernel charged it to the step
	PeakPids           int64 // most processes and threads at once, those of the init too; 0 without a cgroup that counts them
	NetReceived        int64 // bytes, in a network of its own
	NetSent            int64
	Exec               ExecFailure // the command did not start
	UID, GID           uint32      // of Spec.User
}

var (
	// ErrUserUnknown says that Spec.User has no entry in the root's passwd or group, or is no valid number.
	ErrUserUnknown = errors.New("unknown user")
	// ErrLimitUnavailable says that a limit was asked for that this machine cannot set.
	ErrLimitUnavailable = errors.New("limit not available")
	// ErrMountTarget says that something cannot be mounted at the place asked for.
	ErrMountTarget = errors.New("invalid mount target")
	// ErrBadRoot says that the root file system has something other than a directory at a place that must be one.
	ErrBadRoot = errors.New("unusable root file system")
	// ErrWorkDir says that the working directory cannot be entered or made.
	ErrWorkDir = errors.New("unusable working directory")
	// ErrUnsupported says that a feature is not available, naming it.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid says that a Spec contradicts itself or exceeds a bound.
	ErrInvalid = errors.New("invalid step")
	// ErrOpenFiles says that a process which is not of the step has a file of its root open for writing when the step has ended.
	ErrOpenFiles = errors.New("a process outside of the step has files of the step open for writing: they were sent to it through a socket")
	// ErrClosed says that the Runner was closed.
	ErrClosed = errors.New("sandbox runner is closed")
	// ErrDied says that the step's init ended without a report: the machine killed it, or the step did.
	ErrDied = errors.New("sandbox init died")
)

// SetupError says that a step could not be run: what was being done, to what, and why. It wraps the sentinel it belongs to, if
// there is one, and the kernel's errno, if there was one.
type SetupError struct {
	Op     string // "mount overlay"
	Path   string // may be empty
	Kind   error  // one of the package's errors, or nil
	Errno  unix.Errno
	Detail string // the kernel's own words, or other text
}

func (e *SetupError) Error() string {
	s := e.Op
	if e.Path != "" {
		s += " " + e.Path
	}
	for _, why := range []string{errText(e.Kind), e.Detail} {
		if why != "" {
			s += ": " + why
		}
	}
	if e.Errno != 0 {
		s = fmt.Sprintf("%s: %v", s, e.Errno)
	}
	return s
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Unwrap gives errors.Is the sentinel and the errno.
func (e *SetupError) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Errno != 0 {
		errs = append(errs, e.Errno)
	}
	return errs
}

// setupError makes a SetupError of any error, keeping its errno and what it says beside that.
func setupError(op, path string, err error) *SetupError {
	var known *SetupError
	if errors.As(err, &known) {
		return known
	}
	e := &SetupError{Op: op, Path: path}
	for _, kind := range kinds() {
		if errors.Is(err, kind) {
			e.Kind = kind
			break
		}
	}
	var pathErr *os.PathError
	switch {
	case errors.As(err, &e.Errno):
		if errors.As(err, &pathErr) && pathErr.Path != path {
			e.Detail = pathErr.Op + " " + pathErr.Path
		}
	case e.Kind == nil || err != e.Kind: //nolint:errorlint // the bare sentinel says nothing more
		e.Detail = err.Error()
	}
	return e
}

// kinds are the errors that cross from the child to the parent, by their place in this list.
func kinds() []error {
	return []error{ErrUserUnknown, ErrLimitUnavailable, ErrMountTarget, ErrBadRoot, ErrWorkDir, ErrUnsupported, ErrInvalid, ErrOpenFiles}
}
