package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostileF12_ShortAndInterruptedCalls: of three calls one is interrupted, or for openat2 told that the tree changed meanwhile, and one
// does half of what was asked. Nobody notices: neither gobuild nor what it starts.
func TestHostileF12_ShortAndInterruptedCalls(t *testing.T) {
	f := newFaultWorld(t)
	f.write("tree/b", strings.Repeat("many bytes ", 1<<16))
	f.digest = f.build(f.args...).stdout
	f.fresh()
	interrupted, short := map[string]int{}, map[string]int{}
	n := map[string]int{}
	names := []string{"write", "read", "pread64", "pwrite64", "openat", "openat2", "fsync", "flock", "ftruncate", "getdents64", "copy_file_range"}
	o := f.runInjected(f.command(append(f.args, f.dir)...), names, func(c call) answer {
		if !strings.HasPrefix(c.path, f.below+"/") {
			return answer{}
		}
		n[c.name]++
		switch n[c.name] % 3 {
		case 1:
			interrupted[c.name]++
			if c.name == "openat2" {
				return answer{errno: unix.EAGAIN}
			}
			return answer{errno: unix.EINTR}
		case 2:
			a := c.half(t)
			if a.done {
				short[c.name]++
			}
			return a
		}
		return answer{}
	})
	if o.code != 0 || o.stdout != f.digest {
		t.Errorf("exit code %d, %q, want %q\n%s", o.code, o.stdout, f.digest, o.stderr)
	}
	t.Logf("interrupted %v, short %v", interrupted, short)
	for _, name := range []string{"write", "read", "openat", "openat2", "fsync", "flock", "getdents64"} {
		if interrupted[name] == 0 {
			t.Errorf("no %s was interrupted", name)
		}
	}
	for _, name := range []string{"write", "pwrite64", "read"} {
		if short[name] == 0 {
			t.Errorf("no %s was short", name)
		}
	}
	f.recovered("short calls")
}

// half does the first half of a call that moves bytes for the process; others go on as they are.
func (c *call) half(t *testing.T) answer {
	size := c.args[2]
	if c.name == "copy_file_range" {
		if size = c.args[4]; c.args[1] != 0 || c.args[3] != 0 {
			return answer{}
		}
	}
	moves := map[string]bool{"read": true, "write": true, "pread64": true, "pwrite64": true, "copy_file_range": true}
	if !moves[c.name] || size < 2 {
		return answer{}
	}
	fd, err := c.steal(c.args[0])
	if err != nil {
		t.Errorf("take the descriptor of %s: %v", c.path, err)
		return answer{}
	}
	defer unix.Close(fd)
	n, err := c.move(fd, int(size/2)) //nolint:gosec // of a buffer of a process
	if err != nil {
		t.Errorf("%s %s: %v", c.name, c.path, err)
	}
	return answer{done: true, value: int64(n)}
}

// move is the call for size bytes on a copy of the descriptor.
func (c *call) move(fd, size int) (n int, err error) {
	data := make([]byte, min(size, 1<<20))
	offset := int64(c.args[3]) //nolint:gosec // as the process gave it
	switch c.name {
	case "read":
		n, err = unix.Read(fd, data)
	case "pread64":
		n, err = unix.Pread(fd, data, offset)
	case "write":
		return unix.Write(fd, c.memory(c.args[1], len(data)))
	case "pwrite64":
		return unix.Pwrite(fd, c.memory(c.args[1], len(data)), offset)
	case "copy_file_range":
		out, err := c.steal(c.args[2])
		if err != nil {
			return 0, err
		}
		defer unix.Close(out)
		return unix.CopyFileRange(fd, nil, out, nil, size, 0)
	}
	if err != nil || n == 0 {
		return n, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	return mem.WriteAt(data[:n], int64(c.args[1])) //nolint:gosec // addresses of a process are positive
}

// steal is a copy of a descriptor of the process, with the same position.
func (c *call) steal(fd uint64) (int, error) {
	process, err := c.process()
	if err != nil {
		return -1, err
	}
	pidfd, err := unix.PidfdOpen(process, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, int(fd), 0) //nolint:gosec // a descriptor is an int
}

// process is that of the thread.
func (c *call) process() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nTgid:")
	var process int
	_, err = fmt.Sscan(rest, &process)
	return process, err
}

// missing are calls that a kernel, a file system or an outer sandbox may not have, and whether gobuild does without.
var missing = []struct {
	name, call string
	errno      syscall.Errno
	pick       func(call) bool
	needed     bool   // exit code 3 is right, too; it must say words
	words      string // of the message
}{
	{name: "F-16 no fsopen", call: "fsopen", errno: unix.ENOSYS, needed: true, words: "function not implemented"},
	{name: "F-16 fsopen forbidden", call: "fsopen", errno: unix.EPERM, needed: true, words: "not permitted"},
	{name: "F-16 openat2 filtered", call: "openat2", errno: unix.ENOSYS},
	{name: "F-16 openat2 forbidden", call: "openat2", errno: unix.EPERM},
	{name: "F-18 overlay refuses its options", call: "fsconfig", errno: unix.EINVAL, needed: true, words: "invalid argument"},
	{name: "F-32 locks that fail", call: "flock", errno: unix.ENOLCK, needed: true, words: "no locks available"},
	{name: "F-32 byte locks that fail", call: "fcntl", errno: unix.ENOLCK, needed: true, words: "no locks available", pick: func(c call) bool {
		return c.args[1] == unix.F_OFD_SETLK || c.args[1] == unix.F_OFD_SETLKW || c.args[1] == unix.F_SETLK
	}},
	{name: "F-33 no O_TMPFILE", call: "openat", errno: unix.EOPNOTSUPP, pick: func(c call) bool { return c.args[2]&unix.O_TMPFILE == unix.O_TMPFILE }},
	{name: "F-33 no renameat2", call: "renameat2", errno: unix.EINVAL},
	{name: "F-33 no copy_file_range", call: "copy_file_range", errno: unix.ENOSYS},
	{name: "F-33 copy_file_range across file systems", call: "copy_file_range", errno: unix.EXDEV},
	{name: "F-33 no reflink", call: "ioctl", errno: unix.EOPNOTSUPP, pick: func(c call) bool { return c.args[1] == unix.FICLONE || c.args[1] == unix.FICLONERANGE }},
	{name: "F-33 no fallocate", call: "fallocate", errno: unix.EOPNOTSUPP},
	{name: "F-33 no hard links", call: "linkat", errno: unix.EPERM, needed: true, words: "not permitted"},
	{name: "F-33 no syncfs", call: "syncfs", errno: unix.ENOSYS, needed: true, words: "syncfs"},
	{name: "F-33 no sendfile", call: "sendfile", errno: unix.ENOSYS},
}

// TestHostileF16F18F32F33_CallsThatAreMissing: a build without them gives the same digest, or names in an error with code 3 what lacks.
func TestHostileF16F18F32F33_CallsThatAreMissing(t *testing.T) {
	f := newFaultWorld(t)
	for _, tc := range missing {
		t.Run(tc.name, func(t *testing.T) {
			o := f.runInjected(f.command(append(f.args, f.dir)...), []string{tc.call}, func(c call) answer {
				if tc.pick == nil || tc.pick(c) {
					return answer{errno: tc.errno}
				}
				return answer{}
			})
			switch {
			case o.code == 0 && o.stdout == f.digest:
			case !tc.needed || o.code != 3 || !strings.Contains(o.stderr, tc.words) || o.stdout != "":
				t.Errorf("exit code %d, %q, want %q\n%s", o.code, o.stdout, f.digest, o.stderr)
			}
			f.recovered(tc.name)
			f.fresh()
		})
	}
}

// TestHostileF32_LocksThatExcludeNobody: as on a network file system that grants every lock. Two builds at once may do a step twice,
// or remove each other's unfinished work and fail; none has a wrong image.
func TestHostileF32_LocksThatExcludeNobody(t *testing.T) {
	needInjection(t)
	f := newFaultWorld(t)
	grant := func(c call) answer {
		return answer{done: c.name == "flock" || c.args[1] == unix.F_OFD_SETLK || c.args[1] == unix.F_OFD_SETLKW}
	}
	ends := make(chan outcome)
	for range 2 {
		go func() {
			ends <- f.runInjected(f.command(append(f.args, f.dir)...), []string{"flock", "fcntl"}, grant)
		}()
	}
	for range 2 {
		if o := <-ends; o.code == 0 && o.stdout != f.digest || o.code != 0 && (o.stdout != "" || !strings.Contains(o.stderr, "error: ")) {
			t.Errorf("exit code %d, %q, want %q\n%s", o.code, o.stdout, f.digest, o.stderr)
		}
	}
	f.recovered("locks that exclude nobody")
}

// TestHostileF37_SlowSyncs: a disk that takes its time for each fsync makes no build fail.
func TestHostileF37_SlowSyncs(t *testing.T) {
	f := newFaultWorld(t)
	slow, each := 0, 50*time.Millisecond
	if *allFaults {
		each = 200 * time.Millisecond
	}
	o := f.runInjected(f.command(append(f.args, f.dir)...), []string{"fsync", "syncfs"}, func(call) answer {
		slow++
		time.Sleep(each) // the fault itself: the process hangs in the call
		return answer{}
	})
	if o.code != 0 || o.stdout != f.digest || slow == 0 {
		t.Errorf("%d slow calls, exit code %d, %q, want %q\n%s", slow, o.code, o.stdout, f.digest, o.stderr)
	}
	f.recovered("slow syncs")
}

// TestHostileF24_PartsOfTheStateRemovedDuringABuild: or renamed, as by somebody who moves the directory. The build makes again what it
// needs, or ends with an error of this machine; it is never wrong.
func TestHostileF24_PartsOfTheStateRemovedDuringABuild(t *testing.T) {
	f := newFaultWorld(t)
	total := f.count(changing, f.mine)
	parts := []string{"snapshots/layers", "cache", "oci/blobs", "oci/index.json", "snapshots/work", "mounts", "stubs", "."}
	for i, part := range parts {
		if !*allFaults && i%2 != 0 {
			continue
		}
		moments := []int{total * (i + 1) / (len(parts) + 1)}
		if *allFaults {
			moments = append(moments, total/10, total/2, total*9/10)
		}
		for k, n := range moments {
			f.takeAway(part, n, k%2 == i/2%2)
			if *allFaults {
				f.takeAway(part, n, k%2 != i/2%2)
			}
		}
	}
}

// takeAway removes or renames a part of the state directory at change n of a build.
func (f *faultWorld) takeAway(part string, n int, rename bool) {
	f.t.Helper()
	verb, aside := "removed", filepath.Join(f.below, "aside")
	if rename {
		verb = "renamed"
	}
	o, hit := f.disturb(changing, f.mine, n, func(int) answer {
		if rename {
			_ = os.Rename(filepath.Join(f.root, part), aside) // it may not be there yet
		} else {
			_ = os.RemoveAll(filepath.Join(f.root, part)) // what is written meanwhile may stay
		}
		return answer{}
	})
	when := fmt.Sprintf("%s %s at %s", part, verb, hit)
	if o.code == 0 && o.stdout != f.digest || o.code != 0 && (o.code != 3 && o.code != 1 || o.stdout != "" || !strings.Contains(o.stderr, "error: ")) {
		f.t.Errorf("%s: exit code %d, %q, want %q\n%s", when, o.code, o.stdout, f.digest, o.stderr)
	}
	if err := os.RemoveAll(aside); err != nil {
		f.t.Errorf("%s: what was put aside cannot be removed: %v", when, err)
	}
	f.recovered(when)
	f.fresh()
}

// TestHostileF23_PruneDuringABuild: whenever it comes, prune takes nothing that a build needs.
func TestHostileF23_PruneDuringABuild(t *testing.T) {
	f := newFaultWorld(t)
	total := f.count(changing, f.mine)
	for _, n := range sample(total, 11) {
		var pruned outcome
		o, hit := f.disturb(changing, f.mine, n, func(int) answer {
			pruned = f.prune()
			return answer{}
		})
		when := fmt.Sprintf("prune at change %d, %s", n, hit)
		if o.code != 0 || o.stdout != f.digest {
			t.Errorf("%s: exit code %d, %q, want %q\n%s", when, o.code, o.stdout, f.digest, o.stderr)
		}
		if hit != "" && pruned.code != 0 && !strings.Contains(pruned.stderr, "build") {
			t.Errorf("%s: prune ends with %d\n%s", when, pruned.code, pruned.stderr)
		}
		f.recovered(when)
		f.fresh()
	}
}

// TestHostileF30_EverythingKilledDuringARun: gobuild, its helpers and the step at once; the next run removes what the kernel does not.
func TestHostileF30_EverythingKilledDuringARun(t *testing.T) {
	f := newFaultWorld(t)
	f.args = append(f.args, "--memory", "256m")
	probe := f.run(f.command(append(f.args, f.dir)...))
	if probe.code == 3 {
		t.Skip("needs the memory controller: ", probe.stderr)
	}
	f.fresh()
	everybody := map[int]int{} // process to pidfd
	killed := false
	o := f.runInjected(f.command(append(f.args, f.dir)...), []string{"openat", "openat2", "write", "mkdirat", "close"}, func(c call) answer {
		if pid, err := c.process(); err == nil && everybody[pid] == 0 {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Error(err)
				return answer{}
			}
			everybody[pid] = fd
		}
		if c.name == "openat" && c.path == "/done" && c.change {
			killed = true
			for _, fd := range everybody {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
		}
		return answer{}
	})
	for _, fd := range everybody {
		_ = unix.Close(fd)
	}
	if !killed || len(everybody) < 3 || o.code != -1 {
		t.Errorf("killed: %t of %d, exit code %d\n%s", killed, len(everybody), o.code, o.stderr)
	}
	f.recovered("everything killed")
}
