package sandbox

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
)

// stepGroup is a cgroup of a step that we are not in ourselves, by its file that processes are moved with.
type stepGroup struct {
	name  string
	procs *os.File
}

// openGroups opens the cgroups of the step. One that was made for the step has its limits, so it must be entered; where the whole
// build is, is left to what this process may do.
func (a *attachment) openGroups() (groups []stepGroup, err error) {
	build := 0
	if f := procStat(a.spec.Pid); len(f) > 1 {
		build, _ = strconv.Atoi(f[1]) // the kernel writes digits
	}
	theirs, ours, builds := groupsIn(readProc(a.spec.Pid, "cgroup")), groupsIn(readProc(os.Getpid(), "cgroup")), groupsIn(readProc(build, "cgroup"))
	defer func() {
		if err != nil {
			for _, g := range groups {
				_ = g.procs.Close()
			}
		}
	}()
	for controllers, path := range theirs {
		if ours[controllers] == path {
			continue
		}
		f, err := openProcs(controllers, path)
		switch {
		case err == nil:
			groups = append(groups, stepGroup{path, f})
		case builds[controllers] != path:
			e := setupError("enter cgroup of step", path, err)
			e.Kind = ErrLimitUnavailable
			return groups, e
		default:
			a.spec.Notice("the shell is not in the cgroup of the build: " + err.Error())
		}
	}
	return groups, nil
}

// groupsIn reads a /proc/PID/cgroup: paths by the controllers of their hierarchy.
func groupsIn(text string) map[string]string {
	groups := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			groups[f[1]] = f[2]
		}
	}
	return groups
}

// openProcs opens cgroup.procs of a cgroup. controllers are those of its hierarchy, "" for version 2.
func openProcs(controllers, path string) (*os.File, error) {
	dir := filepath.Join("/sys/fs/cgroup", path)
	if !cgroups.IsCgroup2UnifiedMode() {
		mounts, err := cgroups.GetCgroupMounts(true)
		if err != nil {
			return nil, err
		}
		dir = filepath.Join("/sys/fs/cgroup/unified", path) // version 2 beside version 1
		for _, m := range mounts {
			if strings.Join(m.Subsystems, ",") == controllers {
				dir = filepath.Join(m.Mountpoint, strings.TrimPrefix(path, strings.TrimSuffix(m.Root, "/")))
			}
		}
	}
	return os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
}
