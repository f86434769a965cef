package acceptance

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostileF17_CgroupsThatCannotBeHad: read-only, without the controller, or absent: no matter without limits; with one it is an error
// that says so, or with --best-effort-limits a notice.
func TestHostileF17_CgroupsThatCannotBeHad(t *testing.T) {
	f := newFaultWorld(t)
	for _, tc := range []struct{ name, script string }{
		{"read-only", "for m in /sys/fs/cgroup/*; do if mountpoint -q $m; then mount -o remount,ro,bind $m; fi; done; mount -o remount,ro,bind /sys/fs/cgroup"},
		{"absent", "mount -t tmpfs none /sys/fs/cgroup"},
		{"without controllers", "if test -d /sys/fs/cgroup/memory; then umount /sys/fs/cgroup/memory /sys/fs/cgroup/pids; else mount -t tmpfs none /sys/fs/cgroup; fi"},
	} {
		f.ends(tc.name, f.run(inMounts(f.command(append(f.args, f.dir)...), tc.script)), "")
		f.fresh()
		for _, limit := range [][]string{{"--memory", "64m"}, {"--pids-limit", "50"}} {
			o := f.run(inMounts(f.command(append(append(f.args, limit...), f.dir)...), tc.script))
			if o.code != 3 || !strings.Contains(o.stderr, "cgroup") || o.stdout != "" {
				t.Errorf("%s, %v: exit code %d\n%s", tc.name, limit, o.code, o.stderr)
			}
			o = f.run(inMounts(f.command(append(append(f.args, limit...), "--best-effort-limits", f.dir)...), tc.script))
			if f.ends(tc.name+" with --best-effort-limits", o, ""); !strings.Contains(o.stderr, "notice: ") {
				t.Errorf("%s, %v: nothing says that it is not kept\n%s", tc.name, limit, o.stderr)
			}
			f.fresh()
		}
		f.recovered(tc.name)
		f.fresh()
	}
}

// TestHostileF17_AGroupThatIsBusy: the kernel says EBUSY for a group whose last process it has not yet put away. The build waits no longer
// than it must, its result is right, and the next run removes what is left.
func TestHostileF17_AGroupThatIsBusy(t *testing.T) {
	f := newFaultWorld(t)
	f.args = append(f.args, "--memory", "256m")
	if probe := f.run(f.command(append(f.args, f.dir)...)); probe.code == 3 {
		t.Skip("needs the memory controller: ", probe.stderr)
	}
	f.fresh()
	before := leftovers(t)
	busy := map[string]int{}
	o := f.runInjected(f.command(append(f.args, f.dir)...), []string{"unlinkat"}, func(c call) answer {
		if strings.HasPrefix(c.path, "/sys/fs/cgroup/") && strings.HasPrefix(filepath.Base(c.path), "gobuild-step-") && c.args[2]&unix.AT_REMOVEDIR != 0 {
			if busy[c.path]++; busy[c.path] <= 20 {
				return answer{errno: unix.EBUSY}
			}
		}
		return answer{}
	})
	if f.ends("busy groups", o, ""); len(busy) == 0 {
		t.Error("no group was busy")
	}
	f.args = append(f.args, "--no-cache") // a step that runs
	f.recovered("busy groups")
	if after := leftovers(t); after != before {
		t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
	}
}
