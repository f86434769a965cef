package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is what the kernel says of a step that runs, as another process of the same machine sees it.
type Process struct {
	Namespaces map[string]uint64 // inode numbers by name, as lsns(8) shows them
	Cgroup     string            // from the root of its hierarchy; "" where there are no cgroups
	Pids       int               // processes of the step's pid namespace, its init too
	Memory     int64             // bytes: what their cgroup is charged with if it is the step's own, else their resident memory
}

// namespaceNames are the kinds that a step may have of its own, as files of /proc/PID/ns.
func namespaceNames() []string { return []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} }

// Inspect describes a step by the process number that Spec.Started was told. It fails with os.ErrNotExist if there is no such
// process any more. Whether it is still the same one is told by StartTime.
func Inspect(pid int) (Process, error) {
	p := Process{Namespaces: map[string]uint64{}}
	for _, name := range namespaceNames() {
		inode, err := namespaceOf(strconv.Itoa(pid), name)
		if err != nil {
			return Process{}, fmt.Errorf("inspect step %d: %w", pid, err)
		}
		p.Namespaces[name] = inode
	}
	dir := ""
	p.Cgroup, dir = stepCgroup(readProc(pid, "cgroup"))
	var err error
	if p.Pids, p.Memory, err = processesIn(p.Namespaces["pid"]); err != nil {
		return Process{}, fmt.Errorf("inspect step %d: %w", pid, err)
	}
	if charged, ok := chargedTo(dir); ok {
		p.Memory = charged
	}
	return p, nil
}

// OwnNamespace is the inode number of a namespace that this process is in.
func OwnNamespace(name string) (uint64, error) { return namespaceOf("self", name) }

func namespaceOf(pid, name string) (uint64, error) {
	var st unix.Stat_t
	path := filepath.Join("/proc", pid, "ns", name)
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// StartTime is when a process was started, in ticks since the machine was: with its number it names one process only. 0: there is
// no such process, or it has ended.
func StartTime(pid int) uint64 {
	fields := procStat(pid)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	n, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// procStat are the fields of a process's stat from the third on, its state: then come its parent, and as the 20th when it was started.
// The second is the name in parentheses, which may hold anything (proc_pid_stat(5)). None: there is no such process.
func procStat(pid int) []string {
	stat := readProc(pid, "stat")
	return strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
}

// readProc reads a small file of a process, "" if it cannot be read: processes end at any time.
func readProc(pid int, name string) string {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProcFile))
	if err != nil {
		return ""
	}
	return string(data)
}

// stepCgroup finds, in a /proc/PID/cgroup, the group that says most of a step: its own, else where memory is counted. The
// directory is that of the memory controller of the step's own group, "" if there is none.
func stepCgroup(text string) (group, dir string) {
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		memory := strings.Contains(","+fields[1]+",", ",memory,")
		own := strings.HasPrefix(filepath.Base(fields[2]), groupPrefix)
		switch {
		case own && fields[1] == "":
			dir = filepath.Join("/sys/fs/cgroup", fields[2])
		case own && memory:
			dir = filepath.Join("/sys/fs/cgroup/memory", fields[2])
		}
		if own || group == "" || memory && !strings.HasPrefix(filepath.Base(group), groupPrefix) {
			group = fields[2]
		}
	}
	return group, dir
}

// chargedTo reads the memory that a group is charged with. A group that is mounted elsewhere is left to the sum of the processes.
func chargedTo(dir string) (int64, bool) {
	if dir == "" {
		return 0, false
	}
	for _, name := range []string{"memory.current", "memory.usage_in_bytes"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			return n, true
		}
	}
	return 0, false
}

// processesIn counts the processes of a pid namespace and adds up their resident memory.
func processesIn(namespace uint64) (count int, resident int64, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if in, err := namespaceOf(name, "pid"); err != nil || in != namespace {
			continue
		}
		count++
		if fields := strings.Fields(readProc(pid, "statm")); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes digits
			resident += pages * int64(os.Getpagesize())
		}
	}
	return count, resident, nil
}
