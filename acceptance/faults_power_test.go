package acceptance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sumsStep writes down what is in the layers below it: a hit that gives a torn one changes the image.
const sumsStep = `RUN sums=$(find / -xdev -type f -exec sha256sum {} + ; find / -xdev -exec stat -c '%n %a %F %u' {} +) && echo "$sums" | sort > /sums
`

// powerWorld is a build whose changes of the state directory were written down.
type powerWorld struct {
	*faultWorld
	changes []change
	trees   string // a copy of the state directory, with all layers that were ever committed
	want    string // the digest of the build that comes after the power cut
}

// newPowerWorld builds, builds more, and prunes; then it knows every change that was made on the way.
func newPowerWorld(t *testing.T) *powerWorld {
	t.Helper()
	p := &powerWorld{faultWorld: newFaultWorld(t)}
	text, err := os.ReadFile(filepath.Join(p.dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("more.Dockerfile", string(text)+"RUN echo more > /more\nCOPY data /data\n")
	p.write("sums.Dockerfile", string(text)+"RUN echo more > /more\nCOPY data /data\n"+sumsStep)
	o := p.next()
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	p.want = o.stdout
	p.fresh()
	p.record(p.command(append(p.args, p.dir)...))
	p.record(p.command(append(p.args, "-f", filepath.Join(p.dir, "more.Dockerfile"), p.dir)...))
	p.trees = filepath.Join(p.work, "trees")
	if out, err := exec.Command("cp", "-a", p.root, p.trees).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.record(exec.Command(binary, "--root", p.root, "prune", "--all", "--force"))
	p.fresh()
	return p
}

// next is the build after the power cut.
func (p *powerWorld) next() outcome {
	p.t.Helper()
	return p.run(p.command(append(p.args, "-f", filepath.Join(p.dir, "sums.Dockerfile"), p.dir)...))
}

// record runs a command in an earlier boot than the test, and appends its changes.
func (p *powerWorld) record(cmd *exec.Cmd) {
	p.t.Helper()
	boot := filepath.Join(p.work, "boot")
	if err := os.WriteFile(boot, []byte("00000000-0000-0000-0000-00000000b007\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd = inMounts(cmd, "mount --bind "+boot+" /proc/sys/kernel/random/boot_id")
	o := p.runInjected(cmd, watched, func(c call) answer {
		do, a, err := changeOf(c, p.root)
		if err != nil {
			p.t.Error(err)
		}
		if do != nil {
			p.changes = append(p.changes, change{c.name + " " + strings.TrimPrefix(c.path, p.root), do})
		}
		return a
	})
	if o.code != 0 {
		p.t.Fatalf("recorded: exit code %d\n%s", o.code, o.stderr)
	}
}

// TestHostileF06_AnyLegalOrder: the power fails between any two changes of the state directory, and of what was not synced anything
// may have arrived: names without bytes, bytes of zeros, halves, in any order. The next build has the right digest although it looks at
// every file of its layers, and afterwards all is in order.
func TestHostileF06_AnyLegalOrder(t *testing.T) {
	p := newPowerWorld(t)
	t.Logf("%d changes", len(p.changes))
	d := newDisk()
	every := 1
	if !*allFaults {
		every = len(p.changes) / 6
	}
	seed := rand.Uint64()
	hits, cuts := 0, 0
	for i, c := range p.changes {
		if c.do(d); (i+1)%every != 0 {
			continue
		}
		if p.cut(d, fates[cuts%len(fates)], seed, fmt.Sprintf("change %d, after %s", i+1, c.what)) {
			hits++
		}
		cuts++
	}
	if hits == 0 {
		t.Error("no build after a power cut could use a layer: the test shows nothing")
	}
	t.Logf("%d of %d builds used former layers", hits, cuts)
}

// cut is one power cut, and what comes after it. It says whether the next build found anything to use.
func (p *powerWorld) cut(d *disk, f fate, seed uint64, when string) (hit bool) {
	p.t.Helper()
	when = fmt.Sprintf("power cut at %s; %s (seed %d)", when, f.name, seed)
	d.after(p.t, rand.New(rand.NewPCG(seed, uint64(len(when)))), f, p.root, p.trees)
	o := p.next()
	if o.code != 0 || o.stdout != p.want {
		p.t.Errorf("%s: exit code %d, %q, want %q\n%s", when, o.code, o.stdout, p.want, o.stderr)
	}
	if list := p.unfinished(); len(list) > 0 {
		p.t.Errorf("%s: left after the next build: %v", when, list)
	}
	p.verified(when)
	p.fresh()
	return !strings.Contains(o.stderr, "cached 0/")
}

// verified wants nothing to be wrong but what counts as absent; that can be removed, and then all is in order.
func (p *powerWorld) verified(when string) {
	p.t.Helper()
	verify := []string{"--root", p.root, "cache", "verify"}
	o := p.run(exec.Command(binary, verify...))
	if o.code == 0 {
		return
	}
	for what := range strings.SplitSeq(o.stdout+o.stderr, "\n") {
		if strings.HasPrefix(what, "  ") && !strings.Contains(what, "it is not used") && !strings.Contains(what, "it counts as absent") {
			p.t.Errorf("%s: verify ends with %d after the next build\n%s%s", when, o.code, o.stdout, o.stderr)
		}
	}
	p.run(exec.Command(binary, append(verify, "--repair")...))
	if o := p.run(exec.Command(binary, verify...)); o.code != 0 {
		p.t.Errorf("%s: verify ends with %d after repair\n%s%s", when, o.code, o.stdout, o.stderr)
	}
}
