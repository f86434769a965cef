package acceptance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// allFaults makes the sweeps try each call, not a sample.
var allFaults = flag.Bool("faults", false, "inject each fault into each call of a build, not into a sample")

// sampled is how many calls of a sweep a normal run tries.
const sampled = 4

// faultWorld is a build that does a bit of everything, and the digest that it has undisturbed.
type faultWorld struct {
	*world
	args   []string
	digest string
	below  string // all that gobuild may write to
}

func newFaultWorld(t *testing.T) *faultWorld {
	t.Helper()
	w := newWorld(t, baseDockerfile, map[string]string{"data": "1", "tree/a": "a", "tree/b": "b"})
	base := filepath.Join(w.work, "base")
	w.build("--source-date-epoch", "86400", "-o", "type=oci,tar=false,dest="+base)
	w.write("Dockerfile", `FROM base AS one
COPY tree /tree
RUN cat /tree/a /tree/b > /ab
FROM base
COPY --from=one /ab /ab
RUN --mount=type=cache,target=/c echo x > /c/x; rm -r /tmp; echo done > /done
`)
	f := &faultWorld{world: w, below: filepath.Dir(w.root)}
	f.args = []string{"--source-date-epoch", "86400", "--build-context", "base=oci-layout://" + base, "-t", "app"}
	f.digest = f.build(f.args...).stdout
	f.fresh()
	return f
}

// fresh begins with an empty state directory. That it can be removed is F-40.
func (f *faultWorld) fresh() {
	f.t.Helper()
	if err := os.RemoveAll(f.root); err != nil {
		f.t.Errorf("the state directory cannot be removed: %v", err)
	}
}

// changes are the calls that change what belongs to gobuild, in the order of a disturbed build.
func (f *faultWorld) mine(c call) bool {
	return c.change && strings.HasPrefix(c.path, f.below+"/")
}

// count is how many calls of a build are picked.
func (f *faultWorld) count(names []string, pick func(call) bool) int {
	f.t.Helper()
	n := 0
	o := f.runInjected(f.command(append(f.args, f.dir)...), names, func(c call) answer {
		if pick(c) {
			n++
		}
		return answer{}
	})
	if o.code != 0 || o.stdout != f.digest {
		f.t.Fatalf("watched, but not disturbed: exit code %d\n%s", o.code, o.stderr)
	}
	if n < 3*sampled {
		f.t.Fatalf("%d calls only: the sweep tests nothing", n)
	}
	f.fresh()
	return n
}

// sample are the numbers from 1 to n that are tried: some, spread over all and others in each test, or each.
func sample(n, offset int) []int {
	if *allFaults {
		sampled := make([]int, n)
		for i := range sampled {
			sampled[i] = i + 1
		}
		return sampled
	}
	var list []int
	for i := range sampled {
		list = append(list, 1+(i*n/sampled+offset)%n)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// disturb builds with the call of number n that is picked answered by fault, and says which one that was; "" means that there was none.
func (f *faultWorld) disturb(names []string, pick func(call) bool, n int, fault func(pid int) answer) (outcome, string) {
	f.t.Helper()
	cmd := f.command(append(f.args, f.dir)...)
	seen, hit := 0, ""
	o := f.runInjected(cmd, names, func(c call) answer {
		if !pick(c) {
			return answer{}
		}
		if seen++; seen != n {
			return answer{}
		}
		hit = c.name + " " + c.path
		return fault(cmd.Process.Pid)
	})
	return o, hit
}

// recovered wants the next build to work without help, to have the right digest and to leave nothing.
func (f *faultWorld) recovered(when string) {
	f.t.Helper()
	o := f.run(f.command(append(f.args, f.dir)...))
	if o.code != 0 || o.stdout != f.digest {
		f.t.Errorf("%s: the next build ends with %d and gives %q, want %q\n%s", when, o.code, o.stdout, f.digest, o.stderr)
	}
	if len(f.unfinished()) > 0 { // the last child of the disturbed build was still closing its files when this one began
		f.build(f.args...)
	}
	if list := f.unfinished(); len(list) > 0 {
		f.t.Errorf("%s: left after the next builds: %v", when, list)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), f.below) {
		f.t.Errorf("%s: mounts are left: %v\n%s", when, err, mounts)
	}
}

// unfinished is what a build that did not end has left where work is done.
func (f *faultWorld) unfinished() []string {
	f.t.Helper()
	var list []string
	for _, pattern := range []string{"snapshots/work/*", "oci/ingest/.*", "oci/.tmp*"} {
		found, err := filepath.Glob(filepath.Join(f.root, pattern))
		if err != nil {
			f.t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}

// TestHostileF01F02_KilledAtAnyChange: a build is killed when it is about to make its nth change, whatever that is: a folder, a write, a
// rename, a sync. Its sandbox dies with it, and the next build needs no help.
func TestHostileF01F02_KilledAtAnyChange(t *testing.T) {
	f := newFaultWorld(t)
	total := f.count(changing, f.mine)
	t.Logf("%d changes", total)
	for _, n := range sample(total, 0) {
		o, hit := f.disturb(changing, f.mine, n, func(pid int) answer {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return answer{}
		})
		when := fmt.Sprintf("killed at change %d, %s", n, hit)
		if hit != "" && o.code != -1 {
			t.Errorf("%s: exit code %d", when, o.code)
		}
		f.recovered(when)
		f.fresh()
	}
}

// sweepErrors injects an error into the nth call that is picked, for a sample of n.
func (f *faultWorld) sweepErrors(names []string, pick func(call) bool, offset int, errno syscall.Errno, words string) {
	f.t.Helper()
	total := f.count(names, pick)
	f.t.Logf("%d calls", total)
	said := 0
	for _, n := range sample(total, offset) {
		o, hit := f.disturb(names, pick, n, func(int) answer { return answer{errno: errno} })
		when := fmt.Sprintf("%v at call %d, %s", errno, n, hit)
		switch {
		case o.code == 0 && o.stdout == f.digest: // something that a build can do without
		case o.code != 3 || !strings.Contains(o.stderr, words) || o.stdout != "":
			f.t.Errorf("%s: exit code %d, %q\n%s", when, o.code, o.stdout, o.stderr)
		default:
			said++
		}
		f.recovered(when)
		f.fresh()
	}
	if said == 0 {
		f.t.Errorf("no build said %q", words)
	}
}

// TestHostileF09_ADiskThatIsFullAtAnyChange: exit code 3 that says so, or a build that did not need the change; then all is well again.
func TestHostileF09_ADiskThatIsFullAtAnyChange(t *testing.T) {
	f := newFaultWorld(t)
	f.sweepErrors(changing, func(c call) bool { return f.mine(c) && c.name != "unlinkat" && c.name != "fsync" }, 5, unix.ENOSPC, "no space left")
}

// TestHostileF11_ADiskThatFailsAtAnyCall: the same for reading, writing, syncing, closing, renaming and listing.
func TestHostileF11_ADiskThatFailsAtAnyCall(t *testing.T) {
	f := newFaultWorld(t)
	names := []string{"read", "write", "pwrite64", "fsync", "syncfs", "renameat", "renameat2", "getdents64", "close"}
	f.sweepErrors(names, func(c call) bool { return strings.HasPrefix(c.path, f.below+"/") }, 3, unix.EIO, "input/output error")
}

// TestHostileF11_TheCauseIsTold: a layer whose note cannot be read is not called missing.
func TestHostileF11_TheCauseIsTold(t *testing.T) {
	f := newFaultWorld(t)
	o := f.runInjected(f.command(append(f.args, f.dir)...), []string{"read"}, func(c call) answer {
		if strings.HasSuffix(c.path, "/meta") {
			return answer{errno: unix.EIO}
		}
		return answer{}
	})
	if o.code != 3 || !strings.Contains(o.stderr, "input/output error") {
		t.Errorf("exit code %d\n%s", o.code, o.stderr)
	}
	f.recovered("unreadable notes")
}
