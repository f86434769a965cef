package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestG14_RatesOfBlockDevices(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	node := filepath.Join(t.TempDir(), "disk")
	must(t, unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 3))))
	l := Limits{BlockWeight: 500, BlockRates: []BlockRate{{node, "read-bps", 10 << 20}, {node, "write-iops", 7}}}
	if got := controllersOf(&l); !slices.Equal(got, []string{"blkio"}) {
		t.Errorf("controllers %q", got)
	}
	r, err := resources(&l)
	must(t, err)
	if r.BlkioWeight != 500 || len(r.BlkioThrottleReadBpsDevice) != 1 || r.BlkioThrottleReadBpsDevice[0].String() != "7:3 10485760" ||
		r.BlkioThrottleWriteIOPSDevice[0].String() != "7:3 7" {
		t.Errorf("%+v", r)
	}
	for _, bad := range []BlockRate{{os.DevNull, "read-bps", 1}, {node + "x", "read-bps", 1}, {node, "seek", 1}} {
		if _, err := resources(&Limits{BlockRates: []BlockRate{bad}}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), bad.Device) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestG14_ALimitThatCannotBeSet(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var said []string
	cfg := Config{Notice: func(s string) { mu.Lock(); defer mu.Unlock(); said = append(said, s) }}
	for _, best := range []bool{false, true} {
		cfg.BestEffort = best
		f := newFixture(t, cfg)
		f.groups.find = func() (hierarchies, error) { return hierarchies{controllers: map[string]string{}}, nil }
		s := f.spec(t, "echo ran")
		s.Limits = Limits{PidsLimit: 50, MemoryBytes: 64 << 20}
		out, err := f.run(t, s)
		if !best && (!errors.Is(err, ErrLimitUnavailable) || !strings.Contains(err.Error(), "memory")) {
			t.Errorf("without best effort: %q, %v", out, err)
		}
		if best && (err != nil || out != "ran\n") {
			t.Errorf("with best effort: %q, %v", out, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"limits of memory are not set", "limits of pids are not set"} {
		if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("no %q in %q", want, said)
		}
	}
}

func TestG14_DroppedLimitsNeedNoController(t *testing.T) {
	t.Parallel()
	l := Limits{1, 1, 1, 1, 1, "0", "0", 1, 10, []BlockRate{{}}}
	for _, c := range controllersOf(&l) {
		l.drop(c)
	}
	if l.Any() {
		t.Errorf("%+v", l)
	}
}

func TestG15_LimitsOfTheParentHoldForStepsWithoutLimits(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("gobuild-test-parent-%d", os.Getpid())
	f := newFixture(t, Config{CgroupParent: "/" + name})
	h, err := f.groups.find()
	must(t, err)
	pids := h.controllers["pids"]
	if pids == "" {
		t.Skip("needs the cgroup controller pids")
	}
	must(t, os.MkdirAll(pids, 0o755))
	t.Cleanup(func() {
		for _, dir := range h.controllers {
			_ = os.Remove(dir)
		}
	})
	t.Cleanup(func() { must(t, f.Close()) }) // the groups of spares go first
	must(t, os.WriteFile(filepath.Join(pids, "pids.max"), []byte("120"), 0o644))
	if out, _ := f.sh(t, f.spec(t, "for i in $(seq 1 160); do sleep 100 & done; echo done")); !strings.Contains(out, "fork") {
		t.Errorf("%q", out)
	}
}
