package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
	"gobuild/internal/retried"
)

// Runner runs steps. It is safe for concurrent use.
type Runner struct {
	cfg     Config
	exe     *os.File // what inits execute
	groups  *groups
	filters filters
	nets    networks
	ladder  func() NetworkChoice // climbed once
	work    sync.WaitGroup       // goroutines that tidy up after steps or start spares

	mu       sync.Mutex
	closed   bool
	starting int        // spares on their way
	spares   []*process // waiting for a step
	ran      bool       // a step has come
	last     kind       // what the last step needed, and so probably the next
}

// kind is what must be known of a step when its child starts.
type kind struct {
	network    string
	joined     nsID // the namespace that network names
	emulated   bool // the command enters another user namespace, which the filter would forbid to the init
	gateway    bool // the host can be reached from it, where it is a network of the step's own
	limits     Limits
	privileges privileges
	devices    []deviceRule // of the filter; none: no filter
	filtered   bool         // the filter must be had
}

// New makes a Runner. It needs root, of the machine or of a user namespace.
func New(cfg Config) (*Runner, error) {
	if os.Geteuid() != 0 {
		return nil, &SetupError{Op: "prepare sandbox", Kind: ErrUnsupported, Detail: "running steps without root"}
	}
	if cfg.Spares == 0 {
		cfg.Spares = defaultSpares
	}
	if cfg.KillDelay == 0 {
		cfg.KillDelay = defaultKillDelay
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	r := &Runner{cfg: cfg}
	r.nets.program, r.ladder = program(NetworkSlirp, cfg.Path), sync.OnceValue(r.climb)
	r.groups = newGroups(cfg.CgroupParent)
	var err error
	if r.last, err = plainKind(NetworkHost); err != nil {
		return nil, err
	}
	err = makeStubDir(cfg.StubDir)
	if err != nil {
		return nil, err
	}
	if r.exe, err = openProgram(); err != nil {
		return nil, err
	}
	return r, nil
}

// Prepare says that a step will come soon, and with which network: a child for it is started in the background.
func (r *Runner) Prepare(network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.background(func() error {
		r.expect(network)
		r.refill()
		return nil
	})
}

// Close ends the children that wait, waits for what still ends, and removes the cgroups. No Run may be in progress.
func (r *Runner) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.work.Wait()
	var errs []error
	for _, p := range r.spares {
		p.dismiss()
		errs = append(errs, p.group.destroy())
	}
	r.spares = nil
	return errors.Join(append(errs, r.exe.Close(), r.nets.close())...)
}

// refill starts spares in the background until there are enough for the kind of the last step.
func (r *Runner) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	usable := r.starting
	for _, p := range r.spares {
		if p.fits(r.last) {
			usable++
		}
	}
	if r.closed {
		return
	}
	for ; usable < r.cfg.Spares; usable++ {
		r.startSpare(r.last)
	}
}

// startSpare starts a spare in the background; r.mu is held.
func (r *Runner) startSpare(want kind) {
	r.starting++
	r.work.Go(func() {
		p, err := r.start(want)
		r.mu.Lock()
		r.starting--
		var old *process
		if err == nil {
			r.spares = append(r.spares, p)
			old = r.surplus()
		}
		r.mu.Unlock()
		if old != nil {
			old.dismiss()
			r.tidy(old.group)
		}
		// An error comes again when a step starts its own child, which tells it.
	})
}

// surplus takes the oldest spare out when there are more than wanted: it is of a kind that is no longer asked for.
func (r *Runner) surplus() *process {
	if len(r.spares) <= r.cfg.Spares+1 {
		return nil
	}
	p := r.spares[0]
	r.spares = r.spares[1:]
	return p
}

func (p *process) fits(k kind) bool { return reflect.DeepEqual(p.kind, k) }

// take gives a spare that fits, or starts a child.
func (r *Runner) take(k kind) (*process, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	r.last, r.ran = k, true
	for i, p := range r.spares {
		if p.fits(k) {
			r.spares = append(r.spares[:i:i], r.spares[i+1:]...)
			r.mu.Unlock()
			return p, nil
		}
	}
	r.mu.Unlock()
	return r.start(k)
}

// start starts a child of a kind, in a cgroup if it has limits: moving a process between cgroups costs milliseconds, which the
// previous step hides.
func (r *Runner) start(k kind) (*process, error) {
	filter, err := r.filters.of(k.privileges)
	if err != nil {
		return nil, setupError("compile seccomp filter", "", err)
	}
	dirs, err := r.groups.visible()
	if err != nil {
		return nil, err
	}
	net, err := r.nets.open(&k)
	if err != nil {
		return nil, err
	}
	defer net.close()
	one := r.cfg.Owners.Records()
	// With one id, a command with USER makes a user namespace, and one with an emulator enters one, which the filter forbids.
	early := len(filter) > 0 && k.privileges.profile == "" && !one && !k.emulated
	p, err := spawn(r.exe, &spawnRequest{net, r.report, childPrep{
		Network: k.network, Link: net.out, Cgroups: dirs, Filter: filter, EarlyFilter: early, Privileges: k.privileges, OneID: one,
	}})
	if err != nil {
		net.release(r.report)
		return nil, err
	}
	p.kind = k
	if err := net.connect(p.pid); err != nil {
		p.kill()
		return nil, err
	}
	if p.group, err = r.groups.forStep(&k, p.pid, r.cfg.BestEffort, r.cfg.Notice); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// Run executes one command and returns when it has ended and nothing of it is left that could change the upper directory. The
// error is about the machine or the Spec; what the command itself did is in the Result. When ctx ends, the command gets TERM,
// after Config.KillDelay KILL, and the error is the context's cause.
func (r *Runner) Run(ctx context.Context, s Spec) (Result, error) {
	if err := s.check(); err != nil {
		return Result{}, err
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if s.Emulation != nil && r.cfg.Owners.Records() {
		return Result{}, &SetupError{Op: "enter emulation", Kind: ErrUnsupported, Detail: "an emulator of the build's own where the build has one user id: register it on this machine"}
	}
	// The child starts up while we mount.
	privileges, err := s.resolve(s.Network)
	if err != nil {
		return Result{}, &SetupError{Op: "check step", Kind: ErrInvalid, Detail: err.Error()}
	}
	k := kind{network: s.Network, limits: s.Limits, privileges: privileges, emulated: s.Emulation != nil}
	k.gateway = slices.ContainsFunc(s.Hosts, isGateway)
	if k.joined, err = networkID(s.Network); err != nil {
		return Result{}, err
	}
	if !privileges.Insecure {
		k.devices, k.filtered = deviceRules(s.Devices), filtered(s.Devices)
	}
	p, err := r.take(k)
	if err != nil {
		return Result{}, err
	}
	step, err := r.childStep(&s)
	var stdin *inputPump
	if err == nil && s.Terminal != nil {
		step.Terminal = true
		step.Stdin, err = duplicate(s.Terminal)
	} else if err == nil && s.Stdin != nil {
		if stdin, err = newInputPump(s.Stdin); err == nil {
			step.Stdin = stdin.read
		}
	}
	if err != nil {
		closeAll(step.FDs)
		p.kill()
		r.tidy(p.group)
		return Result{}, err
	}
	if step.Stdin >= 0 {
		step.FDs = append(step.FDs, step.Stdin)
	}
	p.steps <- step
	if s.Started != nil {
		s.Started(p.pid)
	}
	r.refill()
	return r.drive(ctx, p, &s, stdin)
}

// duplicate copies a file's descriptor.
func duplicate(f *os.File) (int, error) {
	dup := -1
	err := withFD(f, func(fd int) (err error) {
		dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return dup, inContext("give terminal to step", err)
}

// withFD calls f with a descriptor that stays non-blocking, unlike (*os.File).Fd.
func withFD(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = use(int(fd)) })
	return errors.Join(err, inner)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// drive follows a step from its start to its result.
func (r *Runner) drive(ctx context.Context, p *process, s *Spec, stdin *inputPump) (Result, error) {
	out := newDrain(p.stdout, s.Stdout)
	errOut := newDrain(p.stderr, s.Stderr)
	stop := r.cancelWith(ctx, p)
	reply := <-p.outcome
	stop()
	stdin.stop()
	outErr := errors.Join(out.finish(), errOut.finish())
	result := reply.result()
	groupErr := p.group.account(&result)
	r.after(p)
	for _, n := range reply.Notices {
		r.cfg.Notice(n)
	}
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case errors.Is(reply.Err, ErrDied) && result.OOMKilled:
		result.ExitCode, result.Signal = 128+int(unix.SIGKILL), int(unix.SIGKILL)
	case reply.Err != nil:
		return Result{}, reply.Err
	}
	if reply.Exec != ExecOK && s.Stderr != nil {
		_, err := fmt.Fprintln(s.Stderr, reply.ExecText)
		outErr = errors.Join(outErr, err)
	}
	if outErr != nil {
		return result, fmt.Errorf("write output of step: %w", outErr)
	}
	return result, inContext("read cgroup of step", groupErr)
}

func (f *childReply) result() Result {
	res := Result{
		ExitCode: f.ExitCode, Signal: f.Signal, PeakMemory: f.MaxRSS,
		CPUUser: f.User, CPUSystem: f.Sys, Wall: f.Wall, Exec: f.Exec, UID: f.UID, GID: f.GID,
		ReadBytes: f.Read, WrittenBytes: f.Written, NetReceived: f.Received, NetSent: f.Sent,
	}
	switch f.Exec {
	case ExecNotFound:
		res.ExitCode = 127
	case ExecNotExecutable, ExecBadFormat, ExecTooLong:
		res.ExitCode = 126
	case ExecOK:
	}
	return res
}

// cancelWith has the step ended when the context is. The returned function calls that off.
func (r *Runner) cancelWith(ctx context.Context, p *process) (stop func()) {
	over := make(chan struct{})
	gone := make(chan struct{})
	go func() { // it sends signals, and waits
		defer close(gone)
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		p.signal(unix.SIGTERM)
		timer := time.NewTimer(r.cfg.KillDelay)
		defer timer.Stop()
		select {
		case <-over:
		case <-p.over:
		case <-timer.C:
			p.signal(unix.SIGKILL)
		}
	}()
	return func() {
		close(over)
		<-gone
	}
}

// after waits for what is left of a child, in the background: the end of its namespaces takes as long as the start of the next step.
func (r *Runner) after(p *process) {
	r.background(func() error {
		p.dismiss()
		return p.group.destroy()
	})
}

func (r *Runner) tidy(g *group) {
	if g != nil {
		r.background(g.destroy)
	}
}

// background is work that Close waits for, and whose error is told.
func (r *Runner) background(work func() error) {
	r.work.Go(func() { r.report(rescue.Do(work)) })
}

func (r *Runner) report(err error) {
	if err != nil {
		r.cfg.Notice("clean up after step: " + err.Error())
	}
}

// childStep makes the mounts of a step. The descriptors are the caller's to close, also with an error.
func (r *Runner) childStep(s *Spec) (*childStep, error) {
	f := &childStep{
		Root: -1, Stdin: -1, UserNS: -1, Args: s.Args, Env: s.Env, SecretEnv: s.SecretEnv, Dir: s.Dir, User: s.User, Hostname: s.Hostname,
		ShmSize: s.ShmSize, Rlimits: s.Rlimits, ReadOnlyRoot: s.ReadOnlyRoot,
	}
	var err error
	if f.Root, err = mountRoot(s, r.cfg.StubDir); err != nil {
		return f, err
	}
	f.FDs = []int{f.Root}
	if s.Emulation != nil {
		if f.UserNS, err = s.Emulation.namespace(); err != nil {
			return f, err
		}
		f.FDs = append(f.FDs, f.UserNS)
	}
	if f.Mounts, err = r.etcMounts(s); err != nil {
		return f, err
	}
	nodes, fds, err := deviceMounts(s.Devices)
	for i := range nodes {
		nodes[i].FD = fds[i]
	}
	f.FDs, f.Mounts = append(f.FDs, fds...), append(f.Mounts, nodes...)
	if err != nil {
		return f, err
	}
	for i := range s.Mounts {
		m, fd, err := mountOf(&s.Mounts[i])
		if err != nil {
			return f, setupError("prepare mount", s.Mounts[i].Target, err)
		}
		if fd >= 0 {
			m.FD = fd
			f.FDs = append(f.FDs, fd)
		}
		f.Mounts = append(f.Mounts, m)
	}
	return f, nil
}

// etcMounts are the files that the sandbox itself puts into /etc. A link in their place is covered, not followed.
func (r *Runner) etcMounts(s *Spec) ([]stepMount, error) {
	hostname := s.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	file := func(path string, data []byte) stepMount {
		return stepMount{FD: -1, Target: path, IsFile: true, NoFollow: true, NoExec: true, Data: data, Mode: 0o644}
	}
	var mounts []stepMount
	if !s.NoHosts {
		hosts, err := r.nets.withGateway(s.Network, s.Hosts)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, file("/etc/hosts", hostsFile(hostname, hosts)))
	}
	if s.DNS.None {
		return mounts, nil
	}
	resolv, err := r.nets.view(s.Network).file(&s.DNS, r.cfg.Notice)
	if err != nil {
		return nil, setupError("read", hostResolv, err)
	}
	return append(mounts, file("/etc/resolv.conf", resolv)), nil
}

func mountOf(m *Mount) (stepMount, int, error) {
	w := stepMount{
		FD: -1, Target: m.Target, IsFile: m.Type == MountFile, ReadOnly: m.ReadOnly, NoExec: m.NoExec,
		Data: m.Data, Mode: m.Mode, UID: m.UID, GID: m.GID, Size: m.Size,
	}
	if m.Type != MountBind {
		return w, -1, nil
	}
	fd, err := bindSource(m)
	return w, fd, err
}

// bindSource makes a detached mount of what a bind shows.
func bindSource(m *Mount) (int, error) {
	dir, path := unix.AT_FDCWD, m.Source
	if m.SourceFile != nil {
		dir, path = int(m.SourceFile.Fd()), ""
	}
	attrs := uint64(attrNoDev)
	if m.NoExec {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	if m.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	if len(m.Layers) > 0 {
		return bindLayers(m.Layers, m.LayersPath, attrs)
	}
	if !m.Overlay || m.ReadOnly {
		return cloneMount(dir, path, unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW, attrs, 0)
	}
	source := dir
	if path != "" {
		fd, err := retried.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(fd)
		source = fd
	}
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return -1, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := mountThrowAway(source)
		if err != nil {
			return -1, err
		}
		if err := setMountAttr(fd, 0, attrs, 0); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		return fd, nil
	case unix.S_IFREG:
		return throwAwayFile(source, &st, attrs)
	}
	return -1, fmt.Errorf("%w: a writable copy of something that is neither file nor directory", ErrUnsupported)
}

// throwAwayFile copies a file into memory.
func throwAwayFile(source int, st *unix.Stat_t, attrs uint64) (int, error) {
	if st.Size > maxOverlayFile {
		return -1, fmt.Errorf("%w: a writable copy of a file of %d bytes, at most %d", ErrUnsupported, st.Size, maxOverlayFile)
	}
	in, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", source))
	if err != nil {
		return -1, err
	}
	defer in.Close()
	tmp, err := newMount("tmpfs", attrNoDev, "mode=0700")
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	fd, err := retried.Openat(tmp, "file", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	out := os.NewFile(uintptr(fd), "copy")
	_, err = io.Copy(out, io.LimitReader(in, maxOverlayFile))
	err = errors.Join(err, unix.Fchown(fd, int(st.Uid), int(st.Gid)), unix.Fchmod(fd, st.Mode&0o7777),
		unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())}), out.Close())
	if err != nil {
		return -1, err
	}
	bind, err := subtree(tmp, "file")
	if err != nil {
		return -1, err
	}
	if err := setMountAttr(bind, 0, attrs, 0); err != nil {
		_ = unix.Close(bind)
		return -1, err
	}
	return bind, nil
}

// check refuses a Spec that cannot mean anything.
func (s *Spec) check() error {
	bad := func(format string, args ...any) error {
		return &SetupError{Op: "check step", Kind: ErrInvalid, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(s.Args) == 0 || s.Args[0] == "":
		return bad("the command is empty")
	case len(s.Hostname) > maxHostname:
		return bad("the host name is longer than %d bytes", maxHostname)
	case len(s.Lower) > maxLower:
		return bad("%d lower directories, overlayfs has at most %d", len(s.Lower), maxLower)
	case len(s.Devices) > maxDevices:
		return bad("%d devices, at most %d", len(s.Devices), maxDevices)
	case len(s.Mounts) > maxMounts:
		return bad("%d mounts, at most %d", len(s.Mounts), maxMounts)
	case s.Upper == "" || len(s.Lower) > 0 && s.Work == "":
		return bad("no upper or work directory")
	case s.ShmSize < 0:
		return bad("negative size of /dev/shm")
	}
	for _, list := range [][]string{s.Args, s.Env, s.SecretEnv, {s.Dir, s.User, s.Hostname}} {
		for _, text := range list {
			if strings.IndexByte(text, 0) >= 0 {
				return bad("a NUL byte in arguments, environment or names") // not shown: it may be a secret
			}
		}
	}
	for i := range s.Devices {
		if err := s.Devices[i].check(); err != nil {
			return err
		}
	}
	for i := range s.Mounts {
		if err := s.Mounts[i].check(); err != nil {
			return err
		}
	}
	if err := errors.Join(s.checkNames(bad), checkNetwork(s.Network)); err != nil {
		return err
	}
	for _, l := range s.Rlimits {
		if _, ok := rlimitNumber(l.Name); !ok {
			return bad("unknown resource limit %q", l.Name)
		}
	}
	return nil
}

// checkNames looks at what becomes lines of /etc/hosts and /etc/resolv.conf.
func (s *Spec) checkNames(bad func(string, ...any) error) error {
	for _, line := range s.Hosts {
		if strings.ContainsAny(line, "\n\r") || !strings.Contains(line, " ") {
			return bad("host entry %q is not \"address name\"", line)
		}
	}
	for _, list := range [][]string{s.DNS.Servers, s.DNS.Search, s.DNS.Options} {
		for _, word := range list {
			if word == "" || strings.ContainsAny(word, " \t\n\r\x00") {
				return bad("%q is not a word of resolv.conf", word)
			}
		}
	}
	return nil
}

func (m *Mount) check() error {
	bad := func(detail string) error {
		return &SetupError{Op: "mount", Path: m.Target, Kind: ErrInvalid, Detail: detail}
	}
	switch m.Type {
	case MountBind:
		if m.SourceFile == nil && len(m.Layers) == 0 && !filepath.IsAbs(m.Source) {
			return bad("the source of a bind must be an absolute path")
		}
	case MountTmpfs, MountFile:
	default:
		return &SetupError{Op: "mount", Path: m.Target, Kind: ErrUnsupported, Detail: fmt.Sprintf("mount type %q", m.Type)}
	}
	if !strings.HasPrefix(m.Target, "/") || strings.IndexByte(m.Target, 0) >= 0 {
		return &SetupError{Op: "mount", Path: m.Target, Kind: ErrMountTarget, Detail: "it is not an absolute path"}
	}
	if m.Size < 0 {
		return bad("negative size")
	}
	return nil
}
