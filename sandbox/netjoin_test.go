package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// elsewhere starts a process in a network namespace of its own.
func elsewhere(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), busybox, "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestG16_JoinsANetworkByProcessOrPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	pid := elsewhere(t)
	there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	must(t, err)
	here, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	for range 2 { // the second time with children that were started ahead
		for _, c := range []struct{ network, want string }{
			{fmt.Sprintf("container:%d", pid), there},
			{fmt.Sprintf("ns:/proc/%d/ns/net", pid), there},
			{NetworkHost, here},
		} {
			s := f.spec(t, "readlink /proc/self/ns/net; grep CapEff /proc/self/status")
			s.Network = c.network
			out, res := f.sh(t, s)
			if out != c.want+"\nCapEff:\t00000000a80405fb\n" {
				t.Errorf("%s: step ran in %q, want %s and no NET_RAW", c.network, out, c.want)
			}
			if res.NetReceived != 0 || res.NetSent != 0 {
				t.Errorf("%s: the traffic of others is counted: %+v", c.network, res)
			}
		}
	}
}

func TestG16_WhatIsNoNetworkCannotBeJoined(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	fifo := filepath.Join(f.dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	for _, c := range []struct {
		network, text string
		is            error
	}{
		{"ns:/proc/self/ns/mnt", "not a network namespace", ErrInvalid},
		{"ns:" + filepath.Join(f.lower, "etc/passwd"), "not a network namespace", ErrInvalid},
		{"ns:" + fifo, "not a network namespace", ErrInvalid},
		{"ns:/dev/tty0", "/dev/tty0", nil},
		{"ns:/proc/ghost", "/proc/ghost", unix.ENOENT},
		{"ns:run/netns/x", "absolute path", ErrInvalid},
		{"container:4194305", "/proc/4194305/ns/net", unix.ENOENT},
		{"container:0", "number of a process", ErrInvalid},
		{"container:self", "number of a process", ErrInvalid},
		{"container:1/../2", "number of a process", ErrInvalid},
		{"container:+1", "number of a process", ErrInvalid},
		{"macvlan", `network "macvlan"`, ErrUnsupported},
		{"", `network ""`, ErrUnsupported},
	} {
		s := f.spec(t, "true")
		s.Network = c.network
		_, err := f.Run(t.Context(), s)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("network %q: %v, want %v with %q", c.network, err, c.is, c.text)
		}
	}
}

// A path that names another namespace by the time a child is started must not lead the step there.
func TestG16_ANameThatMovesIsNotFollowed(t *testing.T) {
	t.Parallel()
	one, two := elsewhere(t), elsewhere(t)
	path := fmt.Sprintf("ns:/proc/%d/ns/net", one)
	id, err := networkID(fmt.Sprintf("ns:/proc/%d/ns/net", two))
	must(t, err)
	if n, err := new(networks).open(&kind{network: path, joined: id}); err == nil || !strings.Contains(err.Error(), "another one") {
		t.Errorf("joined %v: %v", n, err)
	}
}
