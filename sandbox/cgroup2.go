package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	cgroup2 "github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"
)

// leafGroup is where processes go that are in the way: a group with limits for its children has no processes itself. The
// container engines' own tools use this name, too.
const leafGroup = "init"

// findUnified says where groups are made in version 2: below a given one, which need not be there yet, or below our own.
func findUnified(own, parent string) (hierarchies, error) {
	h := hierarchies{unified: true, controllers: map[string]string{}}
	if !strings.HasPrefix(own, "/..") { // else our own place is not visible from here
		h.dir = filepath.Join(cgroup2.UnifiedMountpoint, own)
		if above := filepath.Dir(h.dir); filepath.Base(h.dir) == leafGroup && hasNoProcesses(above) {
			h.dir = above // this process was moved there by a former one
		}
		h.mounts = []cgroupDir{{Path: h.dir}}
	}
	h.top = h.dir
	if parent != "" {
		h.dir, h.top = filepath.Join(cgroup2.UnifiedMountpoint, parent), cgroup2.UnifiedMountpoint
	}
	if h.dir == "" {
		return h, nil
	}
	offered, err := offeredControllers(h.dir, h.top)
	if err != nil {
		return hierarchies{}, setupError("read cgroup", h.dir, err)
	}
	for _, controller := range offered {
		h.controllers[controller] = h.dir
	}
	return h, nil
}

func hasNoProcesses(dir string) bool {
	text, err := cgroups.ReadFile(dir, "cgroup.procs")
	return err == nil && text == ""
}

// offeredControllers are those that a group has, and those that the groups above it up to top can give it. They are asked for
// although the group has others already: a controller is given to a whole level when somebody asks for it first.
func offeredControllers(dir, top string) ([]string, error) {
	var offered []string
	for dir = nearestGroup(dir); ; dir = filepath.Dir(dir) {
		own, err := ownControllers(dir)
		if err != nil {
			return nil, err
		}
		offered = append(offered, own...)
		if len(dir) <= len(top) || !mayDelegate(filepath.Dir(dir)) {
			slices.Sort(offered)
			return slices.Compact(offered), nil
		}
	}
}

// mayDelegate says whether we may give the groups below one controllers.
func mayDelegate(dir string) bool {
	return unix.Access(filepath.Join(dir, "cgroup.subtree_control"), unix.W_OK) == nil
}

func ownControllers(dir string) ([]string, error) {
	text, err := cgroups.ReadFile(dir, "cgroup.controllers")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // no cgroup
	}
	return strings.Fields(text), err
}

// nearestGroup is a group, or the lowest one above it that is there.
func nearestGroup(dir string) string {
	for dir != cgroup2.UnifiedMountpoint && dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func (g *group) makeUnified(h *hierarchies, name string, need []string, devices []deviceRule) error {
	if h.dir == "" {
		return fmt.Errorf("%w: the cgroup of this process is outside of what is mounted at %s", ErrLimitUnavailable, cgroup2.UnifiedMountpoint)
	}
	for i, controller := range need {
		need[i] = h.nameOf(controller)
	}
	if err := enableControllers(h.dir, h.top, need); err != nil {
		return err
	}
	dir := filepath.Join(h.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.paths[""] = dir
	if g.limits.MemoryBytes > 0 && g.limits.MemorySwap == 0 {
		// A kernel without swap accounting has no such file; swap was not asked about.
		if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err != nil {
			g.resources.MemorySwap = 0
		}
	}
	m, err := cgroup2.NewManager(&cgroups.Cgroup{Resources: g.resources}, dir)
	if err != nil {
		return err
	}
	g.stats = m
	if len(devices) > 0 {
		if err := filterDevices(dir, devices); err != nil {
			return err
		}
	}
	return g.lock()
}

// enableControllers gives the children of a group controllers, level by level from top, and makes the levels that are missing.
func enableControllers(dir, top string, need []string) error {
	missing := lacking(dir, "cgroup.subtree_control", need)
	if _, err := os.Stat(dir); err == nil && len(missing) == 0 {
		return nil
	}
	if dir != top && dir != cgroup2.UnifiedMountpoint {
		if err := enableControllers(filepath.Dir(dir), top, lacking(dir, "cgroup.controllers", need)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	for range maxVacate {
		err := cgroups.WriteFile(dir, "cgroup.subtree_control", "+"+strings.Join(missing, " +"))
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if err := vacate(dir); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: processes keep coming into cgroup %s; name another with --cgroup-parent", ErrLimitUnavailable, dir)
}

// lacking gives those of need that a file of controllers does not have; all of them without the file.
func lacking(dir, file string, need []string) (missing []string) {
	text, _ := cgroups.ReadFile(dir, file) // what cannot be read has nothing in it
	have := strings.Fields(text)
	for _, controller := range need {
		if !slices.Contains(have, controller) {
			missing = append(missing, controller)
		}
	}
	return missing
}

// vacate moves the processes of a group to a leaf below it: a group that has some cannot give its children controllers
// (cgroup-v2.rst, "No Internal Process Constraint").
func vacate(dir string) error {
	pids, err := cgroups.GetPids(dir)
	if err != nil {
		return err
	}
	if !mayMove(dir, pids) {
		return fmt.Errorf("%w: cgroup %s has processes of its own; name another with --cgroup-parent", ErrLimitUnavailable, dir)
	}
	leaf := filepath.Join(dir, leafGroup)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, pid := range pids {
		if err := cgroups.WriteCgroupProc(leaf, pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// mayMove says whether moving the processes of a group is ours to do: all of the root of a cgroup namespace, which is what a
// container sees; where systemd has left what is below to others ("Delegate=yes" marks the group so); and where all of them
// are this process and what it started. Elsewhere the group is shared with others.
func mayMove(dir string, pids []int) bool {
	if dir == cgroup2.UnifiedMountpoint {
		return true
	}
	for _, mark := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 2)
		if n, err := unix.Getxattr(dir, mark, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return !slices.ContainsFunc(pids, func(pid int) bool { return !startedByUs(pid) })
}

// startedByUs says whether a process is this one, or was started by it, or by one that was. One that has ended counts, too.
func startedByUs(pid int) bool {
	for range maxAncestors {
		if pid == os.Getpid() {
			return true
		}
		if pid <= 1 {
			return false
		}
		fields := procStat(pid)
		if len(fields) < 2 {
			return true
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return false
		}
		pid = parent
	}
	return false
}

// checkCpuset compares what was asked for with what there is: version 2 takes processors that the groups above do not have, and
// uses others.
func (g *group) checkCpuset() error {
	dir := g.paths[""]
	if dir == "" {
		return nil
	}
	for file, want := range map[string]string{"cpuset.cpus": g.limits.CpusetCPUs, "cpuset.mems": g.limits.CpusetMems} {
		if want == "" {
			continue
		}
		text, err := cgroups.ReadFile(dir, file+".effective")
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(text); !withinList(want, got) {
			return fmt.Errorf("%w: %s %s: the groups above leave %s", ErrLimitUnavailable, file, want, got)
		}
	}
	return nil
}

// withinList says whether all numbers of a list such as "0-2,7" are in another one.
func withinList(list, whole string) bool {
	all := ranges(whole)
	for _, r := range ranges(list) {
		for n := r[0]; n <= r[1]; {
			i := slices.IndexFunc(all, func(a [2]int) bool { return a[0] <= n && n <= a[1] })
			if i < 0 {
				return false
			}
			n = all[i][1] + 1
		}
	}
	return true
}

// ranges reads a list of numbers as the kernel writes it (cpuset(7), "List format"). It has accepted the list before.
func ranges(list string) (all [][2]int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil {
			all = append(all, [2]int{from, to})
		}
	}
	return all
}

// killAll ends whatever is left in a group of version 2 (cgroup.kill, Linux 5.14). In version 1 the pid namespace alone does that.
func (g *group) killAll() {
	if dir := g.paths[""]; dir != "" && !hasNoProcesses(dir) {
		_ = cgroups.WriteFile(dir, "cgroup.kill", "1") // what stays makes the removal fail, which is told
	}
}
