// Package sandbox runs one command in new namespaces on an overlay of given directories, under cgroup limits.
//
// Use:
//
//	r, err := sandbox.New(sandbox.Config{})
//	defer r.Close()
//	res, err := r.Run(ctx, sandbox.Spec{Lower: layers, Upper: upper, Work: work, Args: argv, Network: sandbox.NetworkNone})
//
// # How it works
//
// A Runner keeps spare children. A child is a thread of this process that has entered new mount, pid, ipc, uts and cgroup namespaces
// (and a network namespace when asked), and a process that it started there as PID 1: a program of a few hundred bytes that makes
// system calls from a list, a script (program.go, script.go). The init mounts /proc, the thread builds /sys and /dev on a scratch tmpfs and leaves the host's file
// systems behind with pivot_root. All that happens before there is a step. Run mounts the overlay and the sources of binds as
// detached mounts, which the thread puts into place; it enters the root, and sends the init the script of the command: to take the
// step's descriptors, limits, user and privileges, and to execute. What the command leaves behind is killed with the init when it
// ends. The next spare starts meanwhile. docs/decisions/0013-sandbox-thread.md has the reasons.
//
// Probe executes this binary again, so main must begin with
//
//	if sandbox.IsChild(os.Args) {
//		sandbox.ChildMain()
//	}
//
// # Promises
//
// The command sees nothing of the host but what Spec names: not its files, processes, devices or environment, and with
// NetworkNone not its network; with NetworkBridge and NetworkSlirp the world, but not the host or other steps. It has at most the capabilities of the container engines' default, their seccomp filter, and
// nodev mounts, so device nodes that it makes are of no use. In networks that others use too it lacks CAP_NET_RAW, because raw sockets there
// would read their traffic.
//
// When Run returns, no process of the step is left and its overlay has been unmounted, so the upper directory is at rest. Mount
// points that were missing in the root have been removed, if they were still those that were made and still empty, and the
// times of their parents are as before. A directory of the image that was copied up for that stays in the upper directory with
// the attributes it had below; Config.StubDir avoids it. The upper directory is not synced (the overlay is volatile): whoever
// keeps it does that.
//
// When gobuild dies, of whatever cause, the children die with it, and with them every mount. What can be left is an empty
// cgroup and a table of the packet filter, which the next Runner that makes one removes.
//
// A Runner is safe for concurrent use. It holds no lock while a step runs.
//
// Probe tells what this machine allows, by doing it, for a report: it decides nothing, and Run does not depend on it.
//
// # What it does not do
//
// It makes no user namespace: it runs as root, of the machine or of a user namespace that it is in already (internal/userns makes
// one for a user's gobuild). It does not resolve
// mount sources on the host, and does not know Dockerfiles, layers or caches: builder does. It labels nothing for AppArmor or
// SELinux.
package sandbox
