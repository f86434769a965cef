package acceptance

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is how long TestHostileF22_ManyProcessesAndKills goes on beyond its first round.
var crowd = flag.Duration("crowd", 0, "how long 16 processes build on one state directory and are killed at random")

const (
	crowdProcesses = 16
	crowdFiles     = 4
)

// TestHostileF22_ManyProcessesAndKills: 16 processes build 4 Dockerfiles that share steps on one state directory, and some are killed.
// Each step that was done ran once, everybody who ends has the same result, and nothing is left.
func TestHostileF22_ManyProcessesAndKills(t *testing.T) {
	w := newWorld(t, baseDockerfile, map[string]string{"data": "1"})
	base := filepath.Join(w.work, "base")
	w.build("-o", "type=oci,tar=false,dest="+base)
	before := leftovers(t)
	end := time.Now().Add(*crowd)
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		crowdRound(t, w, round, "base=oci-layout://"+base)
		if t.Failed() {
			break
		}
	}
	if o := w.run(exec.Command(binary, "--root", w.root, "cache", "verify")); o.code != 0 {
		t.Errorf("cache verify: status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	w.build("--build-context", "base=oci-layout://"+base) // collects what the killed ones left
	if after := leftovers(t); after != before {
		t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
	}
	if o := w.run(exec.Command(binary, "--root", w.root, "prune", "--all", "--force")); o.code != 0 {
		t.Errorf("prune: status %d\n%s", o.code, o.stderr)
	}
}

// crowdRound is 16 builds at once, half of which are killed at a random moment, and 4 after them.
func crowdRound(t *testing.T, w *world, round int, base string) {
	t.Helper()
	for k := range crowdFiles {
		w.write(fmt.Sprintf("Dockerfile.%d", k), fmt.Sprintf(`FROM base AS one
RUN echo round %[1]d > /round && sleep 0.1
COPY data /data
RUN cat /data /round > /both
FROM base AS two
RUN echo other %[1]d > /other
FROM one
COPY --from=two /other /other
RUN echo shared by two files %[1]d %[3]d > /half
RUN echo file %[2]d of round %[1]d > /own
`, round, k, k%2))
	}
	var mu sync.Mutex
	ran := map[string]int{}        // how often a step was done, by its text
	digests := map[string]string{} // result of each Dockerfile
	record := func(name string, o crowdResult) {
		mu.Lock()
		defer mu.Unlock()
		for _, step := range o.done {
			ran[step]++
		}
		if o.digest == "" {
			return
		}
		if d := digests[name]; d != "" && d != o.digest {
			t.Errorf("round %d, %s: %s and %s", round, name, d, o.digest)
		}
		digests[name] = o.digest
	}
	var all sync.WaitGroup
	for i := range crowdProcesses {
		kill := time.Duration(0)
		if i%2 == 1 {
			kill = time.Duration(1+rand.IntN(600)) * time.Millisecond //nolint:gosec // no secret
		}
		name := fmt.Sprintf("Dockerfile.%d", i%crowdFiles)
		all.Go(func() { record(name, crowdBuild(t, w, name, base, kill)) })
	}
	all.Wait()
	for k := range crowdFiles {
		name := fmt.Sprintf("Dockerfile.%d", k)
		o := crowdBuild(t, w, name, base, 0)
		if len(o.done) > 0 && o.digest != "" {
			// Possible only where every process that wanted the step was killed.
			t.Logf("round %d, %s: %v ran after the crowd", round, name, o.done)
		}
		record(name, o)
	}
	for step, n := range ran {
		if n > 1 {
			t.Errorf("round %d: %q was done %d times", round, step, n)
		}
	}
	// A process that is killed between keeping a step and saying so leaves it out.
	if most := 4 + 2 + crowdFiles + 1; len(ran) > most || len(ran) < most/2 {
		t.Errorf("round %d: %d steps were done, there are %d: %v", round, len(ran), most, ran)
	}
}

type crowdResult struct {
	done   []string // steps that this process did itself
	digest string   // "" if it was killed
}

// crowdBuild builds and, if kill is not zero, kills the process after that time.
func crowdBuild(t *testing.T, w *world, name, base string, kill time.Duration) crowdResult {
	cmd := w.command("--progress", "rawjson", "--build-context", base, "-f", filepath.Join(w.dir, name), w.dir)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return crowdResult{}
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	var r crowdResult
	r.done = stepsDone(t, progress.String())
	switch {
	case err == nil:
		r.digest = strings.TrimSpace(out.String())
	case kill == 0:
		t.Errorf("%s: %v\n%s", name, err, progress.String())
	}
	return r
}
