package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/owners"
	"gobuild/internal/rescue"
)

// ProbeConfig says where and with what Probe tries things.
type ProbeConfig struct {
	Dir          string   // an existing directory on the file system of the layers, in which a temporary one is made; "" leaves out what needs it
	Executable   string   // gobuild's own binary, as in Config
	Path         []string // directories that helper programs are looked for in
	CgroupParent string   // as in Config
	Owners       owners.Keeper
}

// Attempt is something that Probe did, or did not get to do.
type Attempt struct {
	Tried bool
	Why   string // what refused it, in the kernel's words; "" when it worked
}

// OK says that it was tried and worked.
func (a Attempt) OK() bool { return a.Tried && a.Why == "" }

// Facts are what Probe found out about this machine. Nothing is inferred from versions: what is an Attempt was done.
type Facts struct {
	Kernel, Machine string // release, and the instruction set by uname's name
	UID             int
	UserNS          bool     // we are in a user namespace already
	Network         Attempt  // the network that we are in is ours to change: it belongs to this user namespace
	PIDNS           bool     // we are in a pid namespace that is not the machine's first: a container
	Container       string   // kind of the container around us, "" when none is known
	Missing         []string // capabilities that root has elsewhere and this process lacks, of those a build needs

	Step       Attempt // a whole step in the host's network: namespaces, overlay, /proc, /dev, capabilities, filter
	StepNoNet  Attempt // the same in a network namespace of its own
	Filter     Attempt // the seccomp filter for this instruction set could be made
	Owners     Attempt // a file could be given to another user, as copying does
	Overlay    Attempt // an overlay mount, as ourselves
	Whiteout   Attempt // removing a lower file in it leaves a whiteout
	NewUserNS  Attempt // a user namespace, whose root is us
	UserMounts Attempt // mounts and a new /proc in it
	UserOver   Attempt // an overlay with whiteouts in it
	Bridge     Attempt // a pair of interfaces in a network namespace of its own
	NetFilter  Attempt // rules of the kernel's packet filter there
	Tun        Attempt // /dev/net/tun can be opened

	Cgroup     CgroupFacts
	SubUIDs    uint64 // ids of /etc/subuid that are ours, or that the user namespace around us has beside root
	SubGIDs    uint64
	Helpers    map[string]string // path by name: newuidmap, newgidmap, slirp4netns
	Forwarding bool              // net.ipv4.ip_forward
	// ForwardDrop names a table of the packet filter that drops forwarded packets, "" when there is none.
	ForwardDrop string
	MaxUserNS   string // user.max_user_namespaces, "" unknown
	AppArmor    bool   // kernel.apparmor_restrict_unprivileged_userns is on
	CloneOff    bool   // kernel.unprivileged_userns_clone is 0 (Debian, Arch)
	Binfmt      []BinfmtHandler
	BinfmtOn    bool // binfmt_misc is mounted
	Resolver    ResolverFacts
}

// CgroupFacts say where steps' cgroups are made and which limits can be set.
type CgroupFacts struct {
	Version     int // 0: no cgroups are mounted
	Controllers []ControllerFacts
	Why         string // why nothing is known
}

// ControllerFacts is one controller that limits need.
type ControllerFacts struct {
	Name string
	Dir  string // the cgroup below which a step's is made
	Use  Attempt
}

// BinfmtHandler runs programs of another machine (binfmt_misc).
type BinfmtHandler struct {
	Name, Interpreter, Flags string
	Enabled                  bool
}

// ResolverFacts are what /etc/resolv.conf says.
type ResolverFacts struct {
	Loopback, Others int // name servers
	Why              string
}

// Probe finds out by doing what this machine allows. Each attempt has probeTime; one that hangs is given up and said so. When it
// returns nothing is left behind but, should an attempt hang in the kernel, what that one holds.
func Probe(ctx context.Context, cfg ProbeConfig) Facts {
	f := hostFacts(cfg)
	p := &prober{ctx: ctx, cfg: cfg, facts: &f}
	if err := p.open(); err != nil {
		f.Step = Attempt{Why: err.Error()}
	}
	defer p.close()
	f.Filter = p.try(func(context.Context) error {
		_, err := compileFilter(defaultCaps(), "")
		return err
	})
	p.owners()
	p.overlay()
	p.userNamespace()
	p.network()
	p.steps()
	f.Tun = p.try(func(context.Context) error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		return inContext("open /dev/net/tun", err)
	})
	return f
}

// prober carries one Probe.
type prober struct {
	ctx   context.Context //nolint:containedctx // lives as long as the call of Probe
	cfg   ProbeConfig
	facts *Facts
	dir   string // temporary; "" when there is none
	used  int
}

func (p *prober) open() (err error) {
	if p.cfg.Dir == "" {
		return errors.New("there is no directory to try it in")
	}
	p.dir, err = os.MkdirTemp(p.cfg.Dir, "probe-")
	if err != nil {
		return setupError("make directory", p.cfg.Dir, err)
	}
	return os.Chmod(p.dir, 0o755) //nolint:gosec // a user namespace of ours enters it
}

func (p *prober) close() {
	if p.dir == "" || os.RemoveAll(p.dir) == nil {
		return
	}
	// The work directory of an overlay has directories of mode 0 in it, which only root can look into.
	_ = filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(name, 0o700) // before it is read
		}
		return nil
	})
	_ = os.RemoveAll(p.dir)
}

// try runs one attempt in bounded time.
func (p *prober) try(f func(context.Context) error) Attempt {
	ctx, cancel := context.WithTimeout(p.ctx, probeTime)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- rescue.Do(func() error { return f(ctx) }) }()
	patience := time.NewTimer(probeTime + probeGrace)
	defer patience.Stop()
	var err error
	select {
	case err = <-done:
	case <-patience.C:
		err = fmt.Errorf("gave up after %s", probeTime+probeGrace)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("gave up after %s", probeTime)
	}
	if err != nil {
		return Attempt{Tried: true, Why: p.words(err.Error())}
	}
	return Attempt{Tried: true}
}

// words shortens the names of what is only there for the attempts.
func (p *prober) words(why string) string {
	if p.dir == "" {
		return why
	}
	return strings.ReplaceAll(why, p.dir+"/", "")
}

// layerDirs are the directories of one overlay.
type layerDirs struct{ lower, upper, work string }

// probeFile is in the lower directory, and removed through the overlay.
const probeFile = "file"

// foreignID is an id that is nobody's own here: that of the user who owns files in no image.
const foreignID = 65533

// layers makes new directories for an overlay.
func (p *prober) layers() (layerDirs, error) {
	p.used++
	base := filepath.Join(p.dir, fmt.Sprint(p.used))
	d := layerDirs{filepath.Join(base, "lower"), filepath.Join(base, "upper"), filepath.Join(base, "work")}
	for _, dir := range []string{base, d.lower, d.upper, d.work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return d, err
		}
	}
	return d, os.WriteFile(filepath.Join(d.lower, probeFile), nil, 0o644)
}

// owners gives a file away.
func (p *prober) owners() {
	if p.dir == "" {
		return
	}
	p.facts.Owners = p.try(func(context.Context) error {
		name := filepath.Join(p.dir, "owned")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return err
		}
		err := p.giveAway(name)
		return errors.Join(inContext("change owner", err), os.Remove(name))
	})
}

func (p *prober) giveAway(name string) error {
	if !p.cfg.Owners.Records() {
		return unix.Lchown(name, foreignID, foreignID)
	}
	return p.cfg.Owners.SetAt(unix.AT_FDCWD, name, foreignID, foreignID)
}

// overlay mounts one as ourselves, as a Runner does.
func (p *prober) overlay() {
	if p.dir == "" {
		return
	}
	d, err := p.layers()
	if err != nil {
		p.facts.Overlay = Attempt{Tried: true, Why: err.Error()}
		return
	}
	fds := make(chan int, 1)
	p.facts.Overlay = p.try(func(context.Context) error {
		fd, err := mountOverlay([]string{d.lower}, d.upper, d.work)
		if err == nil {
			fds <- fd
		}
		return err
	})
	if p.facts.Overlay.OK() {
		fd := <-fds
		p.facts.Whiteout = p.try(func(context.Context) error {
			defer unix.Close(fd)
			return tryWhiteout(fd, d.upper)
		})
	}
}

// tryWhiteout removes the lower file through the overlay, and looks at what that left in the upper directory.
func tryWhiteout(overlay int, upper string) error {
	if err := unix.Unlinkat(overlay, probeFile, 0); err != nil {
		return fmt.Errorf("remove a file of the lower directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(upper, probeFile), &st); err != nil {
		return fmt.Errorf("find the whiteout: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		return errors.New("the removed file has no whiteout (overlayfs.rst, \"whiteouts and opaque directories\")")
	}
	return nil
}

// userNamespace tries what a build without root rests on. Root may be refused it, too, which says nothing about steps.
func (p *prober) userNamespace() {
	var reply probeReply
	d := layerDirs{}
	if p.dir != "" {
		var err error
		if d, err = p.layers(); err != nil {
			d = layerDirs{}
		}
	}
	p.facts.NewUserNS = p.try(func(ctx context.Context) error { return p.child(ctx, probeUser, d, &reply) })
	if !p.facts.NewUserNS.OK() {
		return
	}
	p.facts.UserMounts = Attempt{Tried: true, Why: p.words(reply.Mounts)}
	if d.lower != "" && reply.Mounts == "" {
		p.facts.UserOver = Attempt{Tried: true, Why: p.words(reply.Overlay)}
	}
}

// network tries in a namespace of its own what a bridge needs, so that nothing of the host's network is touched.
func (p *prober) network() {
	var reply probeReply
	started := p.try(func(ctx context.Context) error { return p.child(ctx, probeNet, layerDirs{}, &reply) })
	p.facts.Bridge, p.facts.NetFilter = started, started
	if started.OK() {
		p.facts.Bridge.Why, p.facts.NetFilter.Why = reply.Bridge, reply.NetFilter
	}
}

// steps runs whole steps, with everything that a RUN has but a program. That the program is missing is told by the very last
// thing that happens before its start.
func (p *prober) steps() {
	if p.dir == "" {
		p.limitsWithoutSteps()
		return
	}
	r, err := New(Config{CgroupParent: p.cfg.CgroupParent, Owners: p.cfg.Owners, KillDelay: probeGrace})
	if err != nil {
		p.facts.Step = Attempt{Tried: true, Why: err.Error()}
		p.facts.StepNoNet = p.facts.Step
		p.limitsWithoutSteps()
		return
	}
	p.facts.Step = p.step(r, NetworkHost, Limits{})
	p.facts.StepNoNet = p.step(r, NetworkNone, Limits{})
	if p.facts.Step.OK() {
		p.limits(r)
	} else {
		p.limitsWithoutSteps()
	}
	if closed := p.try(func(context.Context) error { return r.Close() }); !closed.OK() && p.facts.Step.OK() {
		p.facts.Step.Why = closed.Why
	}
}

func (p *prober) step(r *Runner, network string, l Limits) Attempt {
	d, err := p.layers()
	if err != nil {
		return Attempt{Tried: true, Why: err.Error()}
	}
	return p.try(func(ctx context.Context) error {
		var said bytes.Buffer
		res, err := r.Run(ctx, Spec{
			Lower: []string{d.lower}, Upper: d.upper, Work: d.work, Args: []string{"/" + probeName}, Network: network, Limits: l, Stderr: &said,
		})
		if err == nil && res.Exec != ExecNotFound {
			err = fmt.Errorf("the step ended unexpectedly with %d: %s", res.ExitCode, strings.TrimSpace(said.String()))
		}
		return err
	})
}

// probedLimits are small limits for each controller.
func probedLimits() []struct {
	controller string
	limits     Limits
} {
	return []struct {
		controller string
		limits     Limits
	}{
		{"memory", Limits{MemoryBytes: 256 << 20}},
		{"cpu", Limits{CPUShares: 1024}},
		{"cpuset", Limits{CpusetCPUs: "0", CpusetMems: "0"}},
		{"pids", Limits{PidsLimit: 64}},
	}
}

// limits runs a step under each kind of limit, where that changes nothing but the group of the step.
func (p *prober) limits(r *Runner) {
	h := p.hierarchies()
	for _, l := range probedLimits() {
		c := ControllerFacts{Name: l.controller, Dir: h.controllers[l.controller]}
		switch {
		case c.Dir == "":
			c.Use = Attempt{Tried: true, Why: "the controller is not there or not delegated"}
		case h.unified && !enabledFor(c.Dir, l.controller):
			c.Use = wouldEnable(nearestGroup(c.Dir))
		default:
			c.Use = p.step(r, NetworkHost, l.limits)
		}
		p.facts.Cgroup.Controllers = append(p.facts.Cgroup.Controllers, c)
	}
}

// limitsWithoutSteps is what can be said where no step can run at all.
func (p *prober) limitsWithoutSteps() {
	h := p.hierarchies()
	for _, l := range probedLimits() {
		c := ControllerFacts{Name: l.controller, Dir: h.controllers[l.controller], Use: Attempt{Why: "no step could be run"}}
		if c.Dir == "" {
			c.Use = Attempt{Tried: true, Why: "the controller is not there or not delegated"}
		} else if err := unix.Access(c.Dir, unix.W_OK); err != nil {
			c.Use = Attempt{Tried: true, Why: fmt.Sprintf("its cgroup is not delegated to this user: %v", err)}
		}
		p.facts.Cgroup.Controllers = append(p.facts.Cgroup.Controllers, c)
	}
}

func (p *prober) hierarchies() hierarchies {
	h, err := newGroups(p.cfg.CgroupParent).find()
	switch {
	case err != nil:
		p.facts.Cgroup.Why = err.Error()
	case h.unified:
		p.facts.Cgroup.Version = 2
	case len(h.controllers) > 0:
		p.facts.Cgroup.Version = 1
	}
	return h
}

// enabledFor says whether the children of a cgroup have a controller already.
func enabledFor(dir, controller string) bool {
	data, err := readBounded(filepath.Join(dir, "cgroup.subtree_control"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(data))+" ", " "+controller+" ")
}

// wouldEnable judges by what is written where a try would switch a controller on, and perhaps move processes, for good.
func wouldEnable(dir string) Attempt {
	if err := unix.Access(filepath.Join(dir, "cgroup.subtree_control"), unix.W_OK); err != nil {
		return Attempt{Tried: true, Why: fmt.Sprintf("cgroup %s is not delegated: %v", dir, err)}
	}
	if pids := pidsIn(dir); len(pids) > 0 && !mayMove(dir, pids) {
		return Attempt{Tried: true, Why: fmt.Sprintf("cgroup %s has processes of its own, so it cannot have children with limits", dir)}
	}
	return Attempt{Tried: true}
}

func pidsIn(dir string) (pids []int) {
	data, err := readBounded(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
