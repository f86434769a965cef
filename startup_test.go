package houserules

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What package initialisation may allocate. It runs before main in every command. Allocations are bounded, not time: they are the same on a busy machine, and time follows them (the
// numbers below are about 4 ms on an idle one).
const (
	maxInitAllocs = 22_000
	maxInitBytes  = 2_600_000
)

var initLine = regexp.MustCompile(`^init (\S+) @.* (\d+) bytes, (\d+) allocs$`)

func TestStartOfTheBinaryIsCheap(t *testing.T) {
	t.Parallel()
	exe := filepath.Join(t.TempDir(), "gobuild")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "./cmd/build")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), exe, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatalf("version: %v\n%s", err, trace.String())
	}
	var size, allocs, packages int
	var big []string
	for s := bufio.NewScanner(&trace); s.Scan(); {
		m := initLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		b, _ := strconv.Atoi(m[2]) // digits by the expression
		a, _ := strconv.Atoi(m[3])
		size, allocs, packages = size+b, allocs+a, packages+1
		if a > maxInitAllocs/20 || b > maxInitBytes/20 {
			big = append(big, s.Text())
		}
	}
	if packages == 0 {
		t.Fatal("no trace of package initialisation")
	}
	if size > maxInitBytes || allocs > maxInitAllocs {
		t.Errorf("package initialisation allocates %d bytes (at most %d) in %d pieces (at most %d); the largest:\n%s",
			size, maxInitBytes, allocs, maxInitAllocs, strings.Join(big, "\n"))
	}
}

// heavy are packages that were measured or are known to take milliseconds before main, or to pull in hundreds of others.
var heavy = []string{
	"gvisor.dev/", "github.com/google/gopacket", "github.com/containers/gvisor-tap-vsock", "google.golang.org/grpc", "k8s.io/",
	"github.com/moby/buildkit/solver", "github.com/moby/buildkit/client", "github.com/moby/buildkit/util/progress",
	"github.com/docker/docker", "github.com/docker/cli", "github.com/moby/moby", "github.com/containerd/containerd",
	"go.opentelemetry.io/", "github.com/aws/", "github.com/Azure/", "cloud.google.com/", "github.com/prometheus/", "net/http/pprof", "expvar",
}

func TestTheBinaryHasNoHeavyPackages(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/build").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		for _, prefix := range heavy {
			if strings.HasPrefix(path, prefix) {
				t.Errorf("gobuild imports %s: it costs every command and every RUN its initialisation", path)
			}
		}
	}
}
