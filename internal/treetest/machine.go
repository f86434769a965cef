package treetest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Settings are files by which the machine is told what to do, with their content: of those that exist here. Beside them are the nodes of
// devices that every program uses, with all but the times of their use.
func Settings() map[string]string {
	all := map[string]string{}
	for _, pattern := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/core_pipe_limit", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
		"/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
		"/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/pid_max",
		"/proc/sys/kernel/unprivileged_bpf_disabled", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/sem",
		"/proc/sys/vm/panic_on_oom", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/swappiness", "/proc/sys/vm/mmap_min_addr",
		"/proc/sys/fs/file-max", "/proc/sys/fs/suid_dumpable", "/proc/sys/fs/protected_symlinks", "/proc/sys/fs/protected_hardlinks",
		"/proc/sys/fs/binfmt_misc/*", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
		"/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/*/release_agent", "/sys/fs/cgroup/*/notify_on_release", "/sys/module/*/parameters/enabled",
	} {
		names, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, name := range names {
			if data, err := os.ReadFile(name); err == nil {
				all[name] = string(data)
			}
		}
	}
	for _, name := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err == nil {
			all[name] = fmt.Sprintf("%o %d:%d device %#x links %d changed %d", st.Mode, st.Uid, st.Gid, st.Rdev, st.Nlink, st.Ctim.Nano())
		}
	}
	return all
}

// Changed tells which settings are not as they were.
func Changed(before map[string]string) []string {
	var list []string
	now := Settings()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if is, ok := now[name]; !ok || is != before[name] {
			list = append(list, fmt.Sprintf("%s was %q, is %q", name, before[name], is))
		}
		delete(now, name)
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		list = append(list, name+" is new")
	}
	return list
}

// Traces are the processes, other than this one, that have a text in their mounts, their environment or their command line, and the
// mounts of this process, which are those of the machine.
func Traces(text string) []string {
	var list []string
	if data, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(data), text) {
		list = append(list, "/proc/self/mountinfo")
	}
	for _, file := range []string{"mountinfo", "environ", "cmdline"} {
		names, _ := filepath.Glob("/proc/[0-9]*/" + file) // the pattern is well formed
		for _, name := range names {
			if strings.HasPrefix(name, "/proc/"+strconv.Itoa(os.Getpid())+"/") {
				continue
			}
			if data, err := os.ReadFile(name); err == nil && strings.Contains(string(data), text) {
				list = append(list, name)
			}
		}
	}
	return list
}
