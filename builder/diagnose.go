package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"gobuild/sandbox"
)

// machine is everything that the rows are made of.
type machine struct {
	facts   sandbox.Facts
	root    string
	rootErr error
	disk    disk
	clock   clock

	namespace error // why we are not root of a user namespace, or only of one with one id
	oneID     bool
}

// asRoot is what builds do where a user cannot have it otherwise: in the namespace that was refused, by what changes that.
func (m *machine) asRoot() string {
	var r interface{ Remedy() string }
	if errors.As(m.namespace, &r) && r.Remedy() != "" {
		return r.Remedy()
	}
	return "sudo gobuild build ..."
}

// Less than this on the file system of the state directory, and one base image with its layers may fill it.
const (
	lowDisk   = 2 << 30
	lowInodes = 100_000
)

// clockSlack is the difference to the time of a file that needs no explanation: file systems round.
const clockSlack = 3 * time.Second

// firstYear is before any machine that this program can run on: a clock that shows less was not set.
const firstYear = 2025

// diagnose turns facts into rows. It is pure: tests inject the facts.
func diagnose(m machine) *Diagnosis {
	d := &Diagnosis{CanRun: m.facts.Step.OK() && m.rootErr == nil, Rung: RungNone}
	if m.facts.Step.OK() {
		d.Rung = RungRoot
		if m.facts.UID != 0 || m.facts.UserNS {
			d.Rung = RungUser
		}
		if m.oneID {
			d.Rung = RungOne
		}
	}
	for _, row := range []func(machine) Check{
		runCheck, machineCheck, rootCheck, diskCheck, ownersCheck, overlayCheck, isolationCheck, filterCheck, limitsCheck,
		userNSCheck, subIDCheck, networkCheck, bridgeCheck, netHelperCheck, binfmtCheck, clockCheck, resolverCheck,
	} {
		d.Checks = append(d.Checks, row(m))
	}
	return d
}

func ok(name, found string) Check { return Check{Name: name, State: StateOK, Found: found} }

// runCheck is the answer to the question most people have.
func runCheck(m machine) Check {
	f := m.facts
	c := Check{Name: "RUN steps", State: StateMissing, Found: "cannot run"}
	switch {
	case f.Step.OK() && m.rootErr != nil:
		c.Why = "they would, but the state directory cannot be used: see below"
		c.Remedy = rootRemedy(m)
	case f.Step.OK() && m.oneID:
		return oneIDCheck(m, c.Name, "run as root of a user namespace with one id")
	case f.Step.OK() && (f.UID != 0 || f.UserNS):
		return ok(c.Name, "run as root of a user namespace")
	case f.Step.OK():
		return ok(c.Name, "run as root, in namespaces of their own")
	case f.UID != 0 && m.namespace != nil:
		c.Why = fmt.Sprintf("you are user %d, and cannot be root of a user namespace: %v", f.UID, m.namespace)
		c.Remedy = m.asRoot()
	case f.UID != 0:
		c.Why = fmt.Sprintf("you are user %d (%s)", f.UID, f.Step.Why)
		c.Remedy = "sudo gobuild build ..., or a container in which you are root: " + privileged(f)
	case !f.Step.Tried:
		c.Why, c.Remedy = f.Step.Why, rootRemedy(m)
	default:
		c.Why, c.Remedy = f.Step.Why, stepRemedy(m)
	}
	return c
}

// stepRemedy is for root whose step was refused.
func stepRemedy(m machine) string {
	switch {
	case len(m.facts.Missing) > 0:
		return "give the container around gobuild what it lacks: " + privileged(m.facts)
	case !m.facts.Overlay.OK():
		return overlayRemedy(m)
	case !m.facts.Filter.OK():
		return "use gobuild on amd64 or arm64"
	}
	return "run gobuild on the machine itself, or in a container started with: " + privileged(m.facts)
}

// privileged is how the container around us gets what root has elsewhere.
func privileged(f sandbox.Facts) string {
	switch f.Container {
	case "kubernetes":
		return "securityContext: {privileged: true, runAsUser: 0}"
	case "podman":
		return "sudo podman run --privileged IMAGE"
	}
	return "docker run --privileged IMAGE"
}

func machineCheck(m machine) Check {
	f := m.facts
	found := fmt.Sprintf("Linux %s, %s", f.Kernel, f.Machine)
	who := ""
	switch {
	case f.Container != "":
		who = ", in a container (" + f.Container + ")"
	case f.PIDNS:
		who = ", in a container"
	}
	c := ok("machine", found+who)
	if f.UID == 0 && len(f.Missing) > 0 {
		c.State = StateLimited
		c.Why = "root lacks " + strings.Join(f.Missing, ", ") + " here"
		c.Remedy = privileged(f)
	}
	return c
}

func rootCheck(m machine) Check {
	c := ok("state directory", m.root)
	if m.rootErr == nil {
		return c
	}
	c.State, c.Why, c.Remedy = StateMissing, m.rootErr.Error(), rootRemedy(m)
	return c
}

func rootRemedy(m machine) string {
	switch {
	case errors.Is(m.rootErr, unix.EROFS):
		return "name a writable state directory with --root"
	case errors.Is(m.rootErr, errForeign):
		return "name a directory of your own with --root"
	case errors.Is(m.rootErr, fs.ErrPermission):
		return "name a directory that you may write to with --root"
	}
	return "name another state directory with --root"
}

func diskCheck(m machine) Check {
	d := m.disk
	c := Check{Name: "disk", State: StateMissing, Found: "unknown"}
	if d.err != nil {
		c.Why, c.Remedy = d.err.Error(), rootRemedy(m)
		return c
	}
	c.State = StateOK
	c.Found = fmt.Sprintf("%s, %s of %s free", d.kind, size(d.free), size(d.total))
	if d.inodesTotal > 0 {
		c.Found += fmt.Sprintf(", %d inodes free", d.inodes)
	}
	const free = "`gobuild prune` removes what no image needs; --root names a state directory on another file system"
	switch {
	case d.readOnly:
		c.State, c.Why, c.Remedy = StateMissing, "it is mounted read-only", "name a writable state directory with --root"
	case d.free < lowDisk:
		c.State, c.Why, c.Remedy = StateLimited, "less than "+size(lowDisk)+" is free: a large base image may not fit", free
	case d.inodesTotal > 0 && d.inodes < lowInodes:
		c.State, c.Why, c.Remedy = StateLimited, fmt.Sprintf("less than %d inodes are free: a base image may have more files", lowInodes), free
	}
	if d.free == 0 && !d.readOnly {
		c.State = StateMissing
	}
	return c
}

func size(n uint64) string { return units.BytesSize(float64(n)) }

// oneIDCheck is about what a namespace without a range of ids has less.
func oneIDCheck(m machine, name, found string) Check {
	c := Check{Name: name, State: StateLimited, Found: found, Why: "owners are recorded for the image, and steps do not see them", Remedy: m.asRoot()}
	if m.namespace != nil {
		c.Why += ": " + m.namespace.Error()
	}
	return c
}

func ownersCheck(m machine) Check {
	if m.oneID {
		return attempt("file owners", m.facts.Owners, "any owner can be recorded", "COPY, ADD and layers need files of other users",
			"name a state directory on a file system with user.* attributes with --root")
	}
	return attempt("file owners", m.facts.Owners, "any owner can be set", "COPY, ADD and layers need files of other users",
		ownersRemedy(m))
}

func ownersRemedy(m machine) string {
	switch {
	case m.facts.UserNS:
		return subIDCheck(m).Remedy
	case m.namespace != nil:
		return m.asRoot()
	}
	return "sudo gobuild build ..., or a container in which you are root: " + privileged(m.facts)
}

// attempt is the row of a thing that is there or not.
func attempt(name string, a sandbox.Attempt, found, means, remedy string) Check {
	switch {
	case a.OK():
		return ok(name, found)
	case !a.Tried:
		return Check{Name: name, State: StateMissing, Found: "not tried", Why: "there is no directory to try it in", Remedy: "name a state directory with --root"}
	}
	return Check{Name: name, State: StateMissing, Found: "refused", Why: a.Why + ": " + means, Remedy: remedy}
}

func overlayCheck(m machine) Check {
	c := attempt("overlay", m.facts.Overlay, "mounts", "layers are directories that overlayfs stacks", overlayRemedy(m))
	if c.State == StateOK && !m.facts.Whiteout.OK() {
		c.State, c.Why, c.Remedy = StateMissing, m.facts.Whiteout.Why, overlayRemedy(m)
		return c
	}
	if c.State == StateOK {
		c.Found = "mounts, and whiteouts are made"
	}
	return c
}

func overlayRemedy(m machine) string {
	switch {
	case m.facts.UID != 0:
		return m.asRoot()
	case slices.Contains(m.facts.Missing, "CAP_SYS_ADMIN"):
		return privileged(m.facts)
	case slices.Contains([]string{"overlay", "nfs", "cifs", "9p", "fuse"}, m.disk.kind):
		return "overlayfs cannot write on " + m.disk.kind + ": put the state directory on a volume, e.g. docker run -v gobuild:/var/lib/gobuild, or name one with --root"
	}
	return "modprobe overlay"
}

// isolationCheck is about what a step has besides files.
func isolationCheck(m machine) Check {
	f := m.facts
	c := Check{Name: "namespaces", State: StateMissing, Found: "refused"}
	switch {
	case f.Step.OK() && f.StepNoNet.OK():
		return ok(c.Name, "mount, pid, ipc, uts, cgroup, network")
	case f.Step.OK():
		c.State, c.Found = StateLimited, "mount, pid, ipc, uts, cgroup"
		c.Why = f.StepNoNet.Why + ": RUN --network=none cannot run"
		c.Remedy = "run on the machine itself, or in a container started with: " + privileged(f)
	case f.UID != 0:
		c.Why, c.Remedy = f.Step.Why, m.asRoot()
	case !f.Step.Tried:
		c.Found, c.Why, c.Remedy = "not tried", f.Step.Why, rootRemedy(m)
	case !f.Overlay.OK() && len(f.Missing) == 0:
		c.Found, c.Why, c.Remedy = "not known", "the step that was tried failed at its overlay", overlayRemedy(m)
	default:
		c.Why, c.Remedy = f.Step.Why, stepRemedy(m)
	}
	return c
}

func filterCheck(m machine) Check {
	f := m.facts
	if f.Filter.OK() && f.Step.OK() {
		return ok("seccomp", "the filter is loaded")
	}
	if f.Filter.OK() {
		return Check{Name: "seccomp", State: StateLimited, Found: "the filter was made, and not loaded", Why: "no step could be run", Remedy: "see RUN steps"}
	}
	return attempt("seccomp", f.Filter, "", "there is no filter for "+runtime.GOARCH, "use gobuild on amd64 or arm64")
}

// limitsCheck is about --memory, --cpus and the like.
func limitsCheck(m machine) Check {
	g := m.facts.Cgroup
	c := Check{Name: "cgroups", State: StateOK, Found: fmt.Sprintf("version %d", g.Version)}
	var usable, reasons []string
	for _, controller := range g.Controllers {
		if controller.Use.OK() {
			usable = append(usable, controller.Name)
		} else {
			reasons = append(reasons, controller.Name+": "+controller.Use.Why)
		}
	}
	if len(usable) > 0 {
		c.Found += ", limits by " + strings.Join(usable, ", ")
	}
	switch {
	case g.Why != "":
		c.State, c.Found, c.Why = StateMissing, "unknown", g.Why
	case g.Version == 0:
		c.State, c.Found, c.Why = StateMissing, "none", "no cgroups are mounted: --memory, --cpus and --pids-limit cannot be obeyed"
	case len(usable) == 0:
		c.State = StateMissing
	case len(reasons) > 0:
		c.State = StateLimited
	}
	if c.Why == "" && len(reasons) > 0 {
		c.Why = grouped(reasons)
	}
	if c.State != StateOK {
		c.Remedy = cgroupRemedy(m)
	}
	return c
}

// grouped writes "memory, cpu: why" for what has one reason.
func grouped(reasons []string) string {
	var order []string
	names := map[string][]string{}
	for _, r := range reasons {
		name, why, _ := strings.Cut(r, ": ")
		if names[why] == nil {
			order = append(order, why)
		}
		names[why] = append(names[why], name)
	}
	for i, why := range order {
		order[i] = strings.Join(names[why], ", ") + ": " + why
	}
	return strings.Join(order, "; ")
}

func cgroupRemedy(m machine) string {
	switch {
	case m.facts.UID != 0, m.facts.UserNS && m.facts.Cgroup.Version == 1:
		return "sudo gobuild build ...; or build with --best-effort-limits"
	case m.facts.UserNS && m.facts.Cgroup.Version == 2 && m.facts.Container == "":
		return "systemd-run --user --scope -p Delegate=yes gobuild build ..."
	case m.facts.Cgroup.Version == 2 && m.facts.Container == "":
		return "systemd-run --scope -p Delegate=yes gobuild build ..., or name a group without processes with --cgroup-parent"
	case m.facts.Container != "":
		return "docker run --privileged --cgroupns=private IMAGE; or build with --best-effort-limits"
	}
	return "mount -t cgroup2 none /sys/fs/cgroup; or build with --best-effort-limits"
}
