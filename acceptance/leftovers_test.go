package acceptance

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// many has TestHostileH77_ManyBuildsLeaveNothing run as many builds as people may see in a year, not a few.
var many = flag.Bool("many", false, "50 builds of 20 steps at once, and 100 that are killed")

// TestHostileH77_ManyBuildsLeaveNothing: builds at once, whose steps leave daemons behind, and builds that are killed at any moment,
// leave no process, mount, cgroup, interface or table of packet rules once another build has ended. All have a network of their own
// each step, in a network namespace that stands for the host's.
func TestHostileH77_ManyBuildsLeaveNothing(t *testing.T) {
	builds, steps, kills := 4, 3, 6
	if *many {
		builds, steps, kills = 50, 20, 100
	}
	w := newWorld(t, baseDockerfile, nil)
	host := newHost(t)
	w.env = append(w.env, "GOBUILD_TEST_LEFTOVERS="+w.root)
	before := leftovers(t)
	build := func(name string) *exec.Cmd {
		var text strings.Builder
		text.WriteString(baseDockerfile + "FROM base\n")
		for i := range steps {
			fmt.Fprintf(&text, "RUN sleep 1000 & echo %s %d > /%d\n", name, i, i)
		}
		w.write(name, text.String())
		cmd := w.command("-q", "--network", "bridge", "-f", filepath.Join(w.dir, name), w.dir)
		cmd.Args = append([]string{"nsenter", "--net=" + host.path, cmd.Path}, cmd.Args[1:]...)
		cmd.Path, cmd.Err = host.nsenter, nil
		return cmd
	}
	var all sync.WaitGroup
	for i := range builds {
		cmd := build(fmt.Sprintf("whole%d", i))
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	host.wantEmpty(t, "builds at once")
	for i := range kills {
		cmd := build(fmt.Sprintf("killed%d", i))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.IntN(500))*time.Millisecond, func() { _ = cmd.Process.Kill() }) //nolint:gosec // no secret
		_ = cmd.Wait()                                                                                             // killed, or quicker
		timer.Stop()
	}
	if out, err := build("last").CombinedOutput(); err != nil {
		t.Errorf("after the killed ones: %v\n%s", err, out)
	}
	host.wantEmpty(t, "killed builds and one more")
	if after := leftovers(t); after != before {
		t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
	}
	if found := processes(t, "GOBUILD_TEST_LEFTOVERS="+w.root); len(found) != 0 {
		t.Errorf("processes left: %v", found)
	}
}

// host is a network namespace in the host's place.
type host struct {
	path, nsenter string
	ns            *os.File
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{}
	var err error
	if h.nsenter, err = exec.LookPath("nsenter"); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--net", "--", "sh", "-c", "echo; exec cat")
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stdin.Close(), holder.Wait() })
	if _, err := stdout.Read(make([]byte, 1)); err != nil { // it is there
		t.Fatal(err)
	}
	h.path = fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
	if h.ns, err = os.Open(h.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// inside calls f on a thread that has entered the namespace, and ends with it.
func (h *host) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// wantEmpty fails if there is more than loopback. The kernel takes an interface away a moment after the namespace of its peer has ended.
func (h *host) wantEmpty(t *testing.T, after string) {
	t.Helper()
	var links []netlink.Link
	var tables []*nftables.Table
	err := h.inside(func() (err error) {
		for range 100 {
			if links, err = netlink.LinkList(); err != nil || len(links) <= 1 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			return err
		}
		rules, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err = rules.ListTables()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if a := l.Attrs(); a.Name != "lo" {
			t.Errorf("after %s there is the interface %s", after, a.Name)
		}
	}
	for _, table := range tables {
		t.Errorf("after %s there is the table %s", after, table.Name)
	}
}

// ownMounts are the lines of mountinfo without those of other tests, which run at the same time.
func ownMounts(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var own bytes.Buffer
	for line := range bytes.Lines(data) {
		if bytes.Contains(line, []byte(os.TempDir()+"/Test")) && !bytes.Contains(line, []byte(os.TempDir()+"/"+t.Name())) {
			continue
		}
		own.Write(line)
	}
	return own.String()
}
