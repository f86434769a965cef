package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFreezePasses bounds the search for processes that are not stopped yet: each pass finds what those that it stops have started
// meanwhile, which takes two or three passes, but for a step that does nothing else.
const maxFreezePasses = 50

// Frozen are the processes that Freeze has stopped.
type Frozen struct{ processes []frozenProcess }

// frozenProcess is named by its start time, too: its number may be another's when it is to go on.
type frozenProcess struct {
	pid   int
	start uint64
}

// Freeze stops all processes of all steps that this process runs, but not their inits, which must see the end of gobuild and its
// orders. It works by signals from outside: the freezer of cgroup version 1 makes processes that cannot be killed, and most
// steps have no cgroup of their own. What a step itself has stopped stays so after Thaw, too. Processes may be left running if a step
// starts new ones faster than they can be found: that is an error, and the others are stopped.
func Freeze() (*Frozen, error) {
	f := &Frozen{}
	known := map[int]bool{}
	for range maxFreezePasses {
		table, err := readProcesses()
		if err != nil {
			return f, fmt.Errorf("stop steps: %w", err)
		}
		found := false
		for _, pid := range table.ofSteps() {
			if known[pid] {
				continue
			}
			known[pid] = true
			if strings.ContainsAny(table[pid].state, "TtZX") {
				continue // stopped by the step, or by nobody any more
			}
			start := StartTime(pid)
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				continue // it has ended
			}
			found = true
			f.processes = append(f.processes, frozenProcess{pid, start})
		}
		if !found {
			return f, nil
		}
	}
	return f, errors.New("stop steps: they start processes faster than they can be stopped")
}

// Thaw lets go on what Freeze has stopped.
func (f *Frozen) Thaw() {
	for _, p := range f.processes {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if err != nil {
			continue // it has been killed meanwhile
		}
		if StartTime(p.pid) == p.start {
			_ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0) // killed just now
		}
		_ = unix.Close(fd)
	}
	f.processes = nil
}

// processTable has the processes of this machine by number.
type processTable map[int]processEntry

type processEntry struct {
	parent int
	state  string // proc_pid_stat(5)
}

func readProcesses() (processTable, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	table := processTable{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		fields := procStat(pid)
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			table[pid] = processEntry{parent, fields[0]}
		}
	}
	return table, nil
}

// ofSteps are the descendants of the inits, which are those children of this process that are in pid namespaces of their own. In
// whatever namespace a step puts a process, it descends from the init: that is who gets the orphans.
func (t processTable) ofSteps() []int {
	own, err := namespaceOf("self", "pid")
	if err != nil {
		return nil
	}
	var list []int
	for pid := range t {
		for above, steps := t[pid].parent, 0; above > 0 && steps < len(t); above, steps = t[above].parent, steps+1 {
			if t[above].parent != os.Getpid() {
				continue
			}
			if in, err := namespaceOf(strconv.Itoa(above), "pid"); err == nil && in != own {
				list = append(list, pid)
			}
			break
		}
	}
	return list
}
