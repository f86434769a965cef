package sandbox

import "time"

const (
	// maxSettle is how long the files of a step's root may stay open for writing when all of its processes have ended.
	maxSettle = 2 * time.Second
	// maxProfile bounds a system call filter given as text: Docker's own has 20 KiB.
	maxProfile = 1 << 20
	// maxFilter is the kernel's BPF_MAXINSNS.
	maxFilter = 4096
	// maxErrno is the part of a filter's answer that holds an errno (SECCOMP_RET_DATA).
	maxErrno = 0xffff
	// slirpTime is how long slirp4netns may take to start; 30 ms are usual.
	slirpTime = 5 * time.Second
	// slirpGrace is how long it may take to end before it is killed.
	slirpGrace = time.Second
	// maxSaid bounds what is kept of its output.
	maxSaid = 1024
	// defaultMTU is that of a network interface whose way out has no smaller one.
	defaultMTU = 1500
	// maxClosed bounds the routes that tell a step what it cannot reach; the packet filter knows the others.
	maxClosed = 64
	// maxDumps is how often the kernel is asked for a list of interfaces, addresses or routes that keeps changing.
	maxDumps = 100
	// maxNetDev bounds what is read of /proc/net/dev: a step has an interface or two.
	maxNetDev = 16 << 10
	// maxProcFile bounds what is read of one file below /proc/PID: the longest has a line for each cgroup hierarchy.
	maxProcFile = 64 << 10
	// maxMounts bounds the mounts of one step, each of which may hold a descriptor while the step is set up.
	maxMounts = 500
	// maxDevices bounds the devices of one step; each is a mount too.
	maxDevices = 400
	// maxLower is overlayfs's own limit (OVL_MAX_STACK, fs/overlayfs/params.h).
	maxLower = 500
	// maxSent is how many descriptors the init is sent with a command.
	maxSent = 4
	// maxHostname is the kernel's __NEW_UTS_LEN, sethostname(2).
	maxHostname = 64
	// drainTime is how long output is awaited after the command ended. Everything in the pid namespace is dead by then, so
	// only a descriptor that was passed out of the sandbox can keep a pipe open.
	drainTime = time.Second
	// drainBytes is what is still taken from such a pipe without waiting: the most a pipe holds (fs.pipe-max-size).
	drainBytes = 1 << 20
	// defaultKillDelay is the time a cancelled step has between TERM and KILL.
	defaultKillDelay = 10 * time.Second
	// defaultSpares is how many children wait for a step. A child takes longer to start than a short step runs: with one, steps
	// that follow each other wait for it.
	defaultSpares = 2
	// maxResolv bounds what is read of the host's resolv.conf.
	maxResolv = 64 << 10
	// maxFSLog bounds the kernel's messages about one mount, and the number of them.
	maxFSLog = 1024
	// maxOverlayFile bounds a single file that is bound with Overlay by descriptor: its bytes are copied into memory.
	maxOverlayFile = 256 << 20
	// maxNoFile caps RLIMIT_NOFILE: old programs close every possible descriptor one by one at start.
	maxNoFile = 1 << 20
	// oomScoreAdj is added to the command's badness, so that the kernel kills a step before anything else (proc_pid_oom_score_adj(5)).
	oomScoreAdj = 500
	// initPids is added to a pids limit for the step's init, which is in the same cgroup.
	initPids = 1
	// maxProgramLoads is how often a device filter is given to the kernel, whose check of it any signal ends.
	maxProgramLoads = 100
	// maxVacate is how often processes are moved out of a group before it is given up: those that are being moved may start others.
	maxVacate = 20
	// maxAncestors bounds the walk from a process to those that started it.
	maxAncestors = 1000
	// probeTime bounds one attempt of Probe: all of them together take a tenth of a second where nothing is wrong.
	probeTime = 5 * time.Second
	// probeGrace is what an attempt that was told to stop may still take, before it is left to itself.
	probeGrace = time.Second
	// beginPoll and beginPolls say how long a step that is to be entered is given to start its command, and how often that is looked at.
	beginPoll  = 20 * time.Millisecond
	beginPolls = 500
	// maxEnding is how long the init of a step may be alive after a shell in the step was killed, if it is the step that ends.
	maxEnding = time.Second
	// maxBusybox bounds a busybox that is copied into memory; Debian's has 2 MiB.
	maxBusybox = 64 << 20
	// maxEmulatorPath bounds the path of an emulator: a whole line for binfmt_misc has less than 1920 bytes (MAX_REGISTER_LENGTH).
	maxEmulatorPath = 1024
	// numRlimits is the kernel's RLIM_NLIMITS.
	numRlimits = 16
	// defaultShm is the size of /dev/shm, as the container engines have it.
	defaultShm = 64 << 20
)
