package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NetworkBridge is a network of the step's own, which the host routes: a pair of interfaces, one in the step and one on the host,
// addresses of a block, and address translation. There is no bridge in between, so steps do not even share a link.
const NetworkBridge = "bridge"

// outlet is the host's side of the networks of one Runner's steps.
type outlet struct {
	walls
	mtu    int
	closed []netip.Prefix // told to steps, so that they get an error at once and do not wait for packets that were dropped

	mu   sync.Mutex
	used map[int]bool
	next int
}

// openOutlet makes it, after it has removed what killed processes left.
func openOutlet() (*outlet, error) {
	if err := sweepNetworks(); err != nil {
		return nil, setupError("remove networks of former builds", "", err)
	}
	h, err := readHostNetwork()
	if err != nil {
		return nil, setupError("read the host's network", "", err)
	}
	b, err := claimBlock(h.reached)
	if err != nil {
		return nil, err
	}
	o := &outlet{walls: walls{block: b, ipv6: h.ipv6, servers: h.servers}, mtu: h.mtu, closed: h.closed(), used: map[int]bool{}, next: firstStep}
	if err := o.build(); err != nil {
		return nil, errors.Join(setupError("make packet filter table", b.table(), err), b.release())
	}
	return o, nil
}

// close removes it. The steps must have ended.
func (o *outlet) close() error {
	err := o.remove()
	return inContext("remove network of steps", errors.Join(err, o.block.release()))
}

// lease gives a step its addresses.
func (o *outlet) lease(gateway bool) (*stepLink, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range lastStep - firstStep + 1 {
		n := o.next
		if o.next++; o.next > lastStep {
			o.next = firstStep
		}
		if !o.used[n] {
			o.used[n] = true
			return &stepLink{outlet: o, number: n, name: o.block.linkName(n, gateway)}, nil
		}
	}
	return nil, &SetupError{Op: "make network", Detail: fmt.Sprintf("%d steps have one already", lastStep-firstStep+1)}
}

// stepLink is the pair of interfaces of one step.
type stepLink struct {
	outlet *outlet
	number int
	name   string // of the host's end
}

// attach makes the pair, with its other end in the network namespace of a process. It ends with that, or with remove.
func (l *stepLink) attach(pid int) error {
	o := l.outlet
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = l.name, o.mtu
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: stepInterface, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		return setupError("make network interface", l.name, err)
	}
	// Strict: packets under an address that is not the step's own are dropped on arrival (ip-sysctl.rst, rp_filter). Where /proc/sys
	// is read-only the packet filter still drops those of other blocks.
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+l.name+"/rp_filter", []byte("1"), 0)
	err := netlink.LinkSetUp(pair)
	if err == nil {
		err = addPeer(pair, o.block.address(1), o.block.address(l.number))
	}
	if err == nil && o.ipv6 {
		err = addPeer6(pair, o.block.address6(1), o.block.address6(l.number))
	}
	return inContext("set up network interface "+l.name, err)
}

// remove takes the pair away, if the end of the step's namespace has not done so yet, and gives the addresses back.
func (l *stepLink) remove() error {
	link, err := netlink.LinkByName(l.name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.Is(err, unix.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{}) {
		err = nil
	}
	if err == nil { // else its addresses must not be used again
		l.outlet.mu.Lock()
		delete(l.outlet.used, l.number)
		l.outlet.mu.Unlock()
	}
	return inContext("remove network interface "+l.name, err)
}

// wire is what the step's init is told.
func (l *stepLink) setup() *linkSetup {
	b := l.outlet.block
	w := &linkSetup{Address: b.address(l.number), Gateway: b.address(1), Closed: l.outlet.closed}
	if l.outlet.ipv6 {
		w.Address6, w.Gateway6 = b.address6(l.number), b.address6(1)
	}
	return w
}

// addPeer gives an interface the address of its end of a link between two, which makes the route to the other end too.
func addPeer(link netlink.Link, own, peer netip.Addr) error {
	a := &netlink.Addr{IPNet: hostNet(own), Peer: hostNet(peer)}
	if own.Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else is on the link to ask, RFC 4862 5.4
	}
	return netlink.AddrAdd(link, a)
}

// addPeer6 makes the route itself, too: the kernel loses the one of the address when the other end of the pair comes up meanwhile.
func addPeer6(link netlink.Link, own, peer netip.Addr) error {
	if err := addPeer(link, own, peer); err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(peer)})
}

func hostNet(a netip.Addr) *net.IPNet {
	return prefixNet(netip.PrefixFrom(a, a.BitLen()))
}

func prefixNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sweepNetworks removes tables and interfaces of blocks that no process holds.
func sweepNetworks() error {
	left, err := leftTables()
	if err != nil {
		return err
	}
	links, err := listed(netlink.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		b, ok := blockOf(l.Attrs().Name)
		if !ok || !strings.HasPrefix(l.Attrs().Name, linkPrefix) || l.Type() != "veth" || b.lock() != nil {
			continue
		}
		err := netlink.LinkDel(l)
		if errors.Is(err, unix.ENODEV) {
			err = nil
		}
		if err := errors.Join(err, b.release()); err != nil {
			return err
		}
	}
	for _, b := range left {
		if b.lock() != nil {
			continue
		}
		if err := errors.Join((&walls{block: b}).remove(), b.release()); err != nil {
			return err
		}
	}
	return nil
}
