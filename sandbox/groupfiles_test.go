package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// during runs a step and looks at it while it runs, told the process number of its init.
func (f *fixture) during(t *testing.T, s Spec, look func(pid int)) Result {
	t.Helper()
	s.Args = []string{"/bin/sh", "-c", "echo up; read line"}
	in, feed := io.Pipe()
	pid := 0
	s.Stdin, s.Started = in, func(p int) { pid = p }
	s.Stdout = onWrite(func() { // once: the write ends when the step is told to
		look(pid)
		_ = feed.Close()
	})
	res, err := f.Run(t.Context(), s)
	must(t, err)
	return res
}

// groupOf is the directory of a process's group: of one controller in version 1, of all in version 2.
func groupOf(t *testing.T, pid int, controller string) string {
	t.Helper()
	for line := range strings.Lines(readProc(pid, "cgroup")) {
		field := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if field[1] == "" && controller == "" {
			return filepath.Join("/sys/fs/cgroup", field[2])
		}
		if strings.Contains(","+field[1]+",", ","+controller+",") && controller != "" {
			h, err := findHierarchies("")
			must(t, err)
			return filepath.Join(h.controllers[controller], filepath.Base(field[2]))
		}
	}
	t.Fatalf("process %d has no group of %q", pid, controller)
	return ""
}

// limitFiles is a limit and what it is in the files of both versions, as FILE=VALUE.
type limitFiles struct {
	limits   Limits
	unified  string
	separate string // with the controller in front: cpu/cpu.shares=512
}

func settings() map[string]limitFiles {
	return map[string]limitFiles{
		"memory":              {Limits{MemoryBytes: 96 << 20}, "memory.max=100663296", "memory/memory.limit_in_bytes=100663296"},
		"swap as by default":  {Limits{MemoryBytes: 96 << 20}, "memory.swap.max=100663296", ""},
		"memory and swap":     {Limits{MemoryBytes: 96 << 20, MemorySwap: 128 << 20}, "memory.swap.max=33554432", ""},
		"no swap":             {Limits{MemoryBytes: 96 << 20, MemorySwap: 96 << 20}, "memory.swap.max=0", ""},
		"swap without end":    {Limits{MemoryBytes: 96 << 20, MemorySwap: -1}, "memory.swap.max=max", ""},
		"usual weight":        {Limits{CPUShares: 1024}, "cpu.weight=100", "cpu/cpu.shares=1024"},
		"half the weight":     {Limits{CPUShares: 512}, "cpu.weight=59", "cpu/cpu.shares=512"},
		"quota":               {Limits{CPUQuota: 150000}, "cpu.max=150000 100000", "cpu/cpu.cfs_quota_us=150000"},
		"quota of a period":   {Limits{CPUQuota: 25000, CPUPeriod: 50000}, "cpu.max=25000 50000", "cpu/cpu.cfs_period_us=50000"},
		"processors":          {Limits{CpusetCPUs: "0"}, "cpuset.cpus=0", "cpuset/cpuset.cpus=0"},
		"memory nodes":        {Limits{CpusetMems: "0"}, "cpuset.mems=0", "cpuset/cpuset.mems=0"},
		"processes":           {Limits{PidsLimit: 20}, fmt.Sprintf("pids.max=%d", 20+initPids), fmt.Sprintf("pids/pids.max=%d", 20+initPids)},
		"processes, no limit": {Limits{PidsLimit: -1}, "pids.max=max", "pids/pids.max=max"},
	}
}

func TestG14_LimitsAreInTheFilesOfTheGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Spares: -1})
	h, err := f.groups.find()
	must(t, err)
	for name, tt := range settings() {
		want, missing := tt.separate, ""
		if h.unified {
			want = tt.unified
		}
		for _, controller := range controllersOf(&tt.limits) {
			if !h.has(controller) {
				missing = controller
			}
		}
		if want == "" || missing != "" {
			t.Logf("%s: not on this machine %s", name, missing)
			continue
		}
		file, value, _ := strings.Cut(want, "=")
		s := f.spec(t, "")
		s.Limits = tt.limits
		f.during(t, s, func(pid int) {
			dir, base := filepath.Split(file)
			data, err := os.ReadFile(filepath.Join(groupOf(t, pid, strings.TrimSuffix(dir, "/")), base))
			if got := strings.TrimSpace(string(data)); err != nil || got != value {
				t.Errorf("%s: %s is %q, want %q, %v", name, file, got, value, err)
			}
		})
	}
	must(t, f.Close())
	assertNoGroups(t, f)
}

func TestG14_AStepHasTheProcessorsItWasGiven(t *testing.T) {
	t.Parallel()
	_, sh := limited(t, Limits{CpusetCPUs: "0"})
	if out, _ := sh("grep Cpus_allowed_list /proc/self/status"); out != "Cpus_allowed_list:\t0\n" {
		t.Errorf("%q", out)
	}
}

// testParent makes the name of a group for --cgroup-parent, which is removed with the groups of its steps.
func testParent(t *testing.T, f *fixture) hierarchies {
	t.Helper()
	h, err := f.groups.find()
	must(t, err)
	t.Cleanup(func() {
		for _, dir := range h.controllers {
			_ = os.Remove(dir)
		}
	})
	t.Cleanup(func() { must(t, f.Close()) }) // the groups of spares go first
	return h
}

func TestG14_ProcessorsThatTheParentLacksAreAnError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Spares: -1, CgroupParent: fmt.Sprintf("/gobuild-test-cpuset-%d", os.Getpid())})
	h := testParent(t, f)
	if h.controllers["cpuset"] == "" {
		t.Skip("needs the cgroup controller cpuset")
	}
	s := f.spec(t, "true")
	s.Limits = Limits{CpusetCPUs: "0", CpusetMems: "0"}
	f.sh(t, s) // makes the parent
	must(t, os.WriteFile(filepath.Join(h.controllers["cpuset"], "cpuset.cpus"), []byte("0"), 0o644))
	s = f.spec(t, "grep Cpus_allowed_list /proc/self/status")
	s.Limits = Limits{CpusetCPUs: "1"}
	if out, err := f.run(t, s); !errors.Is(err, ErrLimitUnavailable) {
		t.Errorf("%q, %v", out, err)
	}
}

// The rates of a disk need one that may be limited: a test machine of its own has the kernel's null_blk.
func TestG14_RatesAndWeightOfDisks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/sys/block/nullb0/dev")
	if err != nil {
		t.Skip("needs the kernel module null_blk, and cgroup version 2")
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	var number [2]int
	for i, digits := range []string{major, minor} {
		number[i], err = strconv.Atoi(digits)
		must(t, err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(number[0]), uint32(number[1])))))
	f := newFixture(t, Config{Spares: -1})
	s := f.spec(t, "")
	s.Limits = Limits{BlockWeight: 500, BlockRates: []BlockRate{{disk, "read-bps", 10 << 20}, {disk, "write-iops", 7}, {disk, "write-bps", 1 << 20}}}
	f.during(t, s, func(pid int) {
		dir := groupOf(t, pid, "")
		for file, want := range map[string]string{
			"io.max":    strings.TrimSpace(string(text)) + " rbps=10485760 wbps=1048576 riops=max wiops=7",
			"io.weight": "default 4950", // 500 of 10 to 1000, as a part of 1 to 10000
		} {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if got := strings.TrimSpace(string(data)); err != nil || got != want {
				t.Errorf("%s is %q, want %q, %v", file, got, want, err)
			}
		}
	})
}

// What got into a step's group by other ways than being started in the step ends with it, too.
func TestG15_TheGroupEndsAsAWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Spares: -1})
	h, err := f.groups.find()
	must(t, err)
	if !h.unified {
		t.Skip("needs cgroup version 2")
	}
	intruder := exec.CommandContext(t.Context(), busybox, "sleep", "1000")
	s := f.spec(t, "")
	s.Limits = Limits{PidsLimit: 50}
	f.during(t, s, func(pid int) {
		must(t, intruder.Start())
		must(t, os.WriteFile(filepath.Join(groupOf(t, pid, ""), "cgroup.procs"), []byte(strconv.Itoa(intruder.Process.Pid)), 0o644))
	})
	must(t, f.Close())
	assertNoGroups(t, f)
	if t.Failed() {
		must(t, intruder.Process.Kill()) // or it would be awaited in vain
	}
	var exit *exec.ExitError
	if err := intruder.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("it ended with %v", err)
	}
}

func TestG20_AGroupCountsItsPeaks(t *testing.T) {
	t.Parallel()
	f, sh := limited(t, Limits{PidsLimit: 100, MemoryBytes: 512 << 20})
	h, err := f.groups.find()
	must(t, err)
	_, res := sh("for i in $(seq 1 30); do sleep 1000 & done; dd if=/dev/zero of=/dev/shm/x bs=1M count=30 2>/dev/null")
	if res.PeakMemory < 30<<20 || res.PeakMemory > 512<<20 || res.OOMKilled {
		t.Errorf("%+v", res)
	}
	// Before Linux 6.1 there is no file of the peak.
	if _, err := os.Stat(filepath.Join(h.controllers["pids"], "pids.peak")); err == nil && res.PeakPids < 30 {
		t.Errorf("%+v", res)
	}
}
