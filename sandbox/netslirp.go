package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// NetworkSlirp is a network of the step's own behind slirp4netns, a TCP/IP stack in a process beside it: it changes nothing on the
// host, and works without root where /dev/net/tun can be opened.
const NetworkSlirp = "slirp4netns"

// slirpNets are ranges of which slirp4netns takes one: the first is its own choice.
func slirpNets() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("172.31.254.0/24"), netip.MustParsePrefix("192.168.254.0/24")}
}

// slirpPlan is what all processes of slirp4netns of one Runner have in common.
type slirpPlan struct {
	program string
	net     netip.Prefix
	host    *hostNetwork
}

// openSlirp looks whether it can work, without a start of it.
func openSlirp(program string) (*slirpPlan, error) {
	if program == "" {
		return nil, &SetupError{Op: "find slirp4netns", Kind: ErrUnsupported, Detail: "it is not installed"}
	}
	// It and other programs hang or fail late where this is closed to them.
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return nil, setupError("open", "/dev/net/tun", err)
	}
	_ = tun.Close()
	host, err := readHostNetwork()
	if err != nil {
		return nil, setupError("read the host's network", "", err)
	}
	for _, net := range slirpNets() {
		if !overlapsAny(net, host.reached) {
			return &slirpPlan{program: program, net: net, host: host}, nil
		}
	}
	return nil, &SetupError{Op: "start slirp4netns", Detail: "the host's own networks use every range it could take"}
}

func (n *networks) canTunnel() error {
	_, err := n.tunnel()
	return err
}

// nameServer is where slirp4netns passes questions on to the host's name servers, those on its loopback too (slirp4netns(1)).
func (s *slirpPlan) nameServer() netip.Addr { return s.net.Addr().Next().Next().Next() }

// unreachable says of a name server of the host's whether a step must ask nameServer instead.
func (s *slirpPlan) unreachable(a netip.Addr) bool { return a.IsLoopback() || s.host.isOwn(a) }

// wire closes what slirp4netns would open: from outside of the step it connects as any program on the host does. With gateway the
// address is left open by which the host is reached.
func (s *slirpPlan) setup(gateway bool) *linkSetup {
	w := &linkSetup{Closed: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}}
	for _, own := range s.host.own {
		if own.Is4() && len(w.Closed) < maxClosed && (!gateway || own != s.host.outside) {
			w.Closed = append(w.Closed, netip.PrefixFrom(own, own.BitLen()))
		}
	}
	return w
}

// slirp is one process of it.
type slirp struct {
	cmd  *exec.Cmd
	exit *os.File // its end makes slirp4netns exit, also when this process is killed
	said *tail
}

// start gives the network namespace of a process its way out, and returns when that is ready.
func (s *slirpPlan) start(pid int) (_ *slirp, err error) {
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyRead.Close()
	exitRead, exitWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, readyWrite.Close())
	}
	one := &slirp{exit: exitWrite, said: &tail{}}
	one.cmd = exec.CommandContext(context.Background(), s.program, "--configure", "--enable-sandbox", "--enable-seccomp", "--mtu=65520", "--disable-host-loopback", //nolint:contextcheck // it lives as long as the child
		"--cidr="+s.net.String(), "--netns-type=path", "--ready-fd=3", "--exit-fd=4", fmt.Sprintf("/proc/%d/ns/net", pid), stepInterface)
	one.cmd.Env = []string{"PATH=" + defaultPath}
	one.cmd.Dir = "/"
	one.cmd.Stdout, one.cmd.Stderr = one.said, one.said
	one.cmd.ExtraFiles = []*os.File{readyWrite, exitRead}
	one.cmd.WaitDelay = slirpTime
	err = one.cmd.Start()
	_, _ = readyWrite.Close(), exitRead.Close()
	if err != nil {
		return nil, errors.Join(setupError("start", s.program, err), exitWrite.Close())
	}
	if err := one.await(readyRead); err != nil {
		return nil, errors.Join(&SetupError{Op: "start", Path: s.program, Detail: err.Error()}, one.stop())
	}
	return one, nil
}

// await waits until it has said that it is ready.
func (s *slirp) await(ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(slirpTime)); err != nil {
		return err
	}
	var sign [1]byte
	_, err := ready.Read(sign[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it was not ready after %s", slirpTime)
	case err != nil:
		_ = s.stop() // so that all it said is here
		return fmt.Errorf("it ended: %s", s.said.text())
	}
	return nil
}

// stop ends it.
func (s *slirp) stop() error {
	err := s.exit.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	timer := time.AfterFunc(slirpGrace, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if waited := s.cmd.Wait(); !errors.As(waited, &exit) { // how it ended is of no interest
		err = errors.Join(err, waited)
	}
	return err
}

// tail keeps the end of what a program said.
type tail struct{ buf []byte }

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-maxSaid):]
	return len(p), nil
}

func (t *tail) text() string { return strings.Join(strings.Fields(string(t.buf)), " ") }
