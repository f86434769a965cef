package sandbox

import "time"

// childPrep is what a child builds before it has a step.
type childPrep struct {
	Network string
	Link    *linkSetup // nil: a network of the step's own has no way out
	Cgroups []cgroupDir
	Filter  []byte // the seccomp program, as struct sock_filter; none: no filter
	// EarlyFilter says that it allows what happens between the start of the init and that of the command, as our own does.
	EarlyFilter bool
	Privileges  privileges
	OneID       bool // of this user namespace: owners are recorded
}

// cgroupDir is a directory of a cgroup hierarchy to be shown read-only below /sys/fs/cgroup. Name is empty for version 2.
type cgroupDir struct{ Name, Path string }

// childStep is a step with its mounts opened.
type childStep struct {
	FDs          []int // all of its descriptors, which are the child's to close
	Root         int   // the mount of the root
	Stdin        int   // or -1
	UserNS       int   // of an Emulation, or -1
	Terminal     bool  // Stdin is a terminal for all three streams
	Args, Env    []string
	SecretEnv    []string
	Dir, User    string
	Hostname     string
	Mounts       []stepMount
	ShmSize      int64
	Rlimits      []Rlimit
	ReadOnlyRoot bool
}

type stepMount struct {
	FD       int // a detached mount, or -1: a tmpfs, or with IsFile a file made here
	Target   string
	IsFile   bool
	ReadOnly bool
	NoExec   bool
	NoFollow bool // a link at Target is covered, not followed
	Data     []byte
	Mode     uint32
	UID, GID int
	Size     int64
}

// childReply is how a step ended.
type childReply struct {
	Err       error
	UID, GID  uint32 // of the command
	Exec      ExecFailure
	ExecText  string
	ExitCode  int
	Signal    int
	MaxRSS    int64
	User, Sys time.Duration
	Wall      time.Duration
	Read      int64
	Written   int64
	Received  int64
	Sent      int64
	Notices   []string
}
