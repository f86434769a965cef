package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the world that inNetwork makes.
const (
	worldHost   = "203.0.113.2" // the host
	worldServer = "203.0.113.1" // a server outside, beyond the host's uplink
	worldHost6  = "2001:db8::2" // the same of IPv6
	worldPeer6  = "2001:db8::1" //
	metadata    = "169.254.1.1" // beyond the uplink too
	worldPort   = 8000          // where all of them answer who asks
	inWorld     = "GOBUILD_TEST_IN_NETWORK"
)

// inNetwork runs a test in a process of its own whose network stands in for the host's, so that the machine's is never touched:
// a loopback, and an uplink to a server in another namespace. The function runs there.
func inNetwork(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv(inWorld) == t.Name() {
		makeWorld(t)
		test(t)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inWorld+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("in a network of its own: %v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

func makeWorld(t *testing.T) {
	t.Helper()
	must(t, loopbackUp())
	outside := make(chan error)
	there := make(chan int)
	uplinked := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the process
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			outside <- err
			return
		}
		there <- unix.Gettid()
		<-uplinked
		outside <- startOutside()
		select {} // sockets of servers keep their namespace, but a test may want to look
	}()
	select {
	case err := <-outside:
		t.Fatal(err)
	case tid := <-there:
		up := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "uplink", PeerNamespace: netlink.NsPid(tid)}
		must(t, netlink.LinkAdd(up))
		must(t, address(up, worldHost+"/24"))
		must(t, address(up, worldHost6+"/64"))
		must(t, netlink.LinkSetUp(up))
		for _, via := range []string{worldServer, worldPeer6} {
			gw := netip.MustParseAddr(via)
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up.Index, Gw: gw.AsSlice(), Dst: prefixNet(everywhere(gw))}))
		}
	}
	close(uplinked)
	must(t, <-outside)
	serve(t, "0.0.0.0", "host")
	serve(t, "::", "host")
}

func startOutside() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	link, err := netlink.LinkByName("uplink")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, a := range []string{worldServer + "/24", worldPeer6 + "/64", metadata + "/32"} {
		if err := address(link, a); err != nil {
			return err
		}
	}
	for _, a := range []string{"0.0.0.0", "::"} {
		if err := answer(a, "outside"); err != nil {
			return err
		}
	}
	return nil
}

func address(l netlink.Link, text string) error {
	p := netip.MustParsePrefix(text)
	a := &netlink.Addr{IPNet: prefixNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(l, a)
}

func serve(t *testing.T, addr, name string) {
	t.Helper()
	must(t, answer(addr, name))
}

// answer tells everybody who connects its name and the address they come from.
func answer(addr, name string) error {
	network := "tcp4"
	if strings.Contains(addr, ":") {
		network = "tcp6"
	}
	l, err := net.Listen(network, net.JoinHostPort(addr, fmt.Sprint(worldPort)))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, name+" saw "+host+"\n")
			_ = c.Close()
		}
	}()
	return nil
}

// forwarding is the host's setting that bridges need.
func forwarding(t *testing.T, ipv4, ipv6 bool) {
	t.Helper()
	for path, on := range map[string]bool{"/proc/sys/net/ipv4/ip_forward": ipv4, "/proc/sys/net/ipv6/conf/all/forwarding": ipv6} {
		value := "0"
		if on {
			value = "1"
		}
		must(t, os.WriteFile(path, []byte(value), 0))
	}
}

// ask is a shell command that asks a server of this world; it prints "closed" where there is no answer in time.
func ask(addr string) string {
	return fmt.Sprintf("nc -w 4 %s %d </dev/null 2>/dev/null || echo closed;", addr, worldPort)
}
