package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/cgroups"
	cgroup1 "github.com/opencontainers/cgroups/fs"
	"golang.org/x/sys/unix"
)

// groupPrefix starts the name of every cgroup that a Runner makes. Each is held by a shared lock that the kernel drops when the
// process dies, so what has the prefix and no lock is left over from one that was killed.
const groupPrefix = "gobuild-step-"

// groups makes the cgroups of steps, below the process's own or a given one.
type groups struct {
	parent string
	random string
	find   func() (hierarchies, error)
	sweep  sync.Once
	next   atomic.Int64
}

// hierarchies says where cgroups are made: by controller in version 1, one directory for all in version 2.
type hierarchies struct {
	unified     bool
	dir         string            // of version 2: what steps' groups are made in, which need not be there yet
	top         string            // of version 2: the highest group whose children may be given controllers
	controllers map[string]string // controller -> directory that steps' groups are made in
	mounts      []cgroupDir       // what a step sees of them
}

func newGroups(parent string) *groups {
	g := &groups{parent: parent, random: rand.Text()[:8]}
	g.find = sync.OnceValues(func() (hierarchies, error) { return findHierarchies(parent) })
	return g
}

// findHierarchies reads where this process is. The paths differ between hierarchies of version 1, and a limit that the machine
// set on us must hold for the steps too: so the groups are nested below our own in each.
func findHierarchies(parent string) (hierarchies, error) {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return hierarchies{}, setupError("find cgroup", "", err)
	}
	if cgroups.IsCgroup2UnifiedMode() {
		return findUnified(own[""], parent)
	}
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return hierarchies{}, setupError("find cgroup mounts", "", err)
	}
	h := hierarchies{controllers: map[string]string{}}
	seen := map[string]bool{}
	for _, m := range mounts {
		name := filepath.Base(m.Mountpoint)
		if len(m.Subsystems) == 0 || seen[name] {
			continue
		}
		seen[name] = true
		dir := filepath.Join(m.Mountpoint, strings.TrimPrefix(own[m.Subsystems[0]], strings.TrimSuffix(m.Root, "/")))
		if _, err := os.Stat(dir); err != nil {
			continue // our own place is not visible from here
		}
		h.mounts = append(h.mounts, cgroupDir{Name: name, Path: dir})
		if parent != "" {
			dir = filepath.Join(m.Mountpoint, parent)
		}
		for _, controller := range m.Subsystems {
			h.controllers[controller] = dir
		}
	}
	return h, nil
}

// visible says which directories a step sees. Without cgroup mounts there are none.
func (g *groups) visible() ([]cgroupDir, error) {
	h, err := g.find()
	return h.mounts, err
}

// prefix starts the names of one Runner's groups. The random part keeps apart Runners of one process, and processes that have
// one number in different pid namespaces.
func (g *groups) prefix() string {
	return groupPrefix + strconv.Itoa(os.Getpid()) + "-" + g.random + "-"
}

// group is the cgroup of one step: one directory for each controller in version 1, one in all in version 2.
type group struct {
	limits    Limits
	resources *cgroups.Resources
	paths     map[string]string
	locks     []*os.File
	stats     interface {
		Set(*cgroups.Resources) error
		Stats(*cgroups.StatsOptions) (*cgroups.Stats, error)
		OOMKillCount() (uint64, error)
	}
}

// create makes a group with limits and moves a process into it.
func (g *groups) create(l Limits, devices []deviceRule, pid int) (*group, error) {
	h, err := g.find()
	if err != nil {
		return nil, err
	}
	need := controllersOf(&l)
	for _, controller := range need {
		if !h.has(controller) {
			return nil, &SetupError{Op: "limit step", Path: controller, Kind: ErrLimitUnavailable, Detail: "the cgroup controller is not there or not delegated"}
		}
	}
	g.sweep.Do(func() { sweepGroups(h) })
	name := g.prefix() + strconv.FormatInt(g.next.Add(1), 10)
	made := &group{limits: l, paths: map[string]string{}}
	if made.resources, err = resources(&l); err != nil {
		return nil, err
	}
	if h.unified {
		err = made.makeUnified(&h, name, need, devices)
	} else {
		if g.parent != "" {
			need = inheritable() // what is set there holds for steps without limits too
		}
		for _, controller := range need {
			if !h.has(controller) {
				continue
			}
			made.paths[controller] = filepath.Join(h.controllers[controller], name)
		}
		if len(devices) > 0 {
			made.paths["devices"] = filepath.Join(h.controllers["devices"], name)
			err = makeFilter(made.paths["devices"], devices)
		}
		if err == nil {
			err = made.makeByController()
		}
	}
	if err == nil {
		err = made.enter(pid)
	}
	if err != nil {
		e := setupError(limitOp(&l), name, errors.Join(err, made.destroy()))
		if e.Kind == nil {
			e.Kind = ErrLimitUnavailable
		}
		return nil, e
	}
	return made, nil
}

// limitOp says which limits are meant.
func limitOp(l *Limits) string {
	if list := controllersOf(l); len(list) > 0 {
		return "limit " + strings.Join(list, ", ") + " of step"
	}
	return "limit step"
}

// forStep makes the group of a step, nil where it needs none. With bestEffort a limit that cannot be had is told and left out.
func (g *groups) forStep(k *kind, pid int, bestEffort bool, notice func(string)) (*group, error) {
	l, devices := k.limits, k.devices
	if len(devices) > 0 {
		h, err := g.find()
		if err != nil {
			return nil, err
		}
		switch {
		case !h.unified && !h.has("devices") && k.filtered:
			return nil, &SetupError{Op: "limit step", Path: "devices", Kind: ErrLimitUnavailable, Detail: "access to a device can only be restricted with the cgroup controller, which is not there; give it with rwm"}
		case !k.filtered && (h.unified || !h.has("devices")):
			devices = nil // nodes that were not given are of no use in a step's root anyway
		}
	}
	if !l.Any() && g.parent == "" && len(devices) == 0 {
		return nil, nil
	}
	if bestEffort {
		h, err := g.find()
		if err != nil {
			return nil, err
		}
		for _, controller := range controllersOf(&l) {
			if !h.has(controller) {
				notice("limits of " + controller + " are not set: the cgroup controller is not there or not delegated")
				l.drop(controller)
			}
		}
	}
	made, err := g.create(l, devices, pid)
	if err != nil && bestEffort && !k.filtered && errors.Is(err, ErrLimitUnavailable) {
		notice("limits of " + strings.Join(controllersOf(&l), ", ") + " are not set: " + err.Error())
		return nil, nil
	}
	return made, err
}

// inheritable are the controllers of version 1 whose limits on a parent hold below it.
func inheritable() []string {
	return []string{"blkio", "cpu", "cpuacct", "cpuset", "freezer", "memory", "pids"}
}

// has says whether there is a controller, by its name in version 1.
func (h *hierarchies) has(controller string) bool { return h.controllers[h.nameOf(controller)] != "" }

func (h *hierarchies) nameOf(controller string) string {
	if h.unified && controller == "blkio" {
		return "io"
	}
	return controller
}

// setting is held while limits are set: package cgroups keeps in variables of its own what the files of the block controller are
// called, finds that out with the first use, and does not guard it.
var setting sync.Mutex

// enter sets the limits, then moves a process and all its threads in.
func (g *group) enter(pid int) error {
	setting.Lock()
	err := g.stats.Set(g.resources)
	setting.Unlock()
	if err == nil {
		err = g.checkCpuset()
	}
	if err != nil {
		return err
	}
	for _, dir := range g.paths {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) makeByController() error {
	r := g.resources
	if memory := g.paths["memory"]; memory != "" && g.limits.MemorySwap == 0 {
		// A kernel without swap accounting has no such file; swap was not asked about.
		if _, err := os.Stat(filepath.Join(filepath.Dir(memory), "memory.memsw.limit_in_bytes")); err != nil {
			r.MemorySwap = 0
		}
	}
	paths := make(map[string]string, len(g.paths)) // the manager keeps the map it is given
	for controller, dir := range g.paths {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		paths[controller] = dir
	}
	m, err := cgroup1.NewManager(&cgroups.Cgroup{Resources: r}, paths)
	if err != nil {
		return err
	}
	g.stats = m
	if err := m.Apply(-1); err != nil { // no process yet
		return err
	}
	return g.lock()
}

// lock marks the group as in use.
func (g *group) lock() error {
	for _, dir := range g.paths {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		g.locks = append(g.locks, f)
		if err := withFD(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) }); err != nil {
			return err
		}
	}
	return nil
}

// account reads what the kernel counted, before the group goes.
func (g *group) account(res *Result) error {
	if g == nil {
		return nil
	}
	for _, controller := range []string{"pids", ""} {
		if dir := g.paths[controller]; dir != "" {
			// Before Linux 6.1 there is no such file.
			if text, err := cgroups.ReadFile(dir, "pids.peak"); err == nil {
				res.PeakPids, _ = strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			}
		}
	}
	if g.limits.MemoryBytes == 0 && g.limits.MemorySwap == 0 {
		return nil
	}
	kills, err := g.stats.OOMKillCount()
	if err != nil {
		return fmt.Errorf("read memory events: %w", err)
	}
	res.OOMKilled = kills > 0
	s, err := g.stats.Stats(&cgroups.StatsOptions{Controllers: cgroups.Memory})
	if err != nil {
		return fmt.Errorf("read memory statistics: %w", err)
	}
	if peak := s.MemoryStats.Usage.MaxUsage; peak > 0 {
		res.PeakMemory = int64(peak)
	}
	return nil
}

// destroy removes the group, whose processes have ended.
func (g *group) destroy() error {
	if g == nil {
		return nil
	}
	g.killAll()
	var errs []error
	for _, dir := range g.paths {
		if err := cgroups.RemovePath(dir); !errors.Is(err, unix.EBUSY) { // it tries for a while; what stays busy is removed by the next run
			errs = append(errs, err)
		}
	}
	for _, f := range g.locks {
		_ = f.Close()
	}
	g.locks = nil
	return errors.Join(errs...)
}

// sweepGroups removes what killed processes left behind. A group of a living one is locked, or has processes.
func sweepGroups(h hierarchies) {
	done := map[string]bool{}
	for _, parent := range h.controllers {
		if done[parent] {
			continue
		}
		done[parent] = true
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() && strings.HasPrefix(e.Name(), groupPrefix) {
				removeUnlocked(filepath.Join(parent, e.Name()))
			}
		}
	}
}

func removeUnlocked(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if withFD(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }) == nil {
		_ = unix.Rmdir(dir) // fails if it has processes, and then it stays
	}
}
