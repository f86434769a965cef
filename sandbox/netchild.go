package sandbox

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stepInterface is what a step calls its interface.
const stepInterface = "eth0"

// linkSetup is how a step's network is to be set up by its init, which is in it. Without Address only Closed matters: a program
// beside it does the rest.
type linkSetup struct {
	Address, Gateway   netip.Addr
	Address6, Gateway6 netip.Addr
	Closed             []netip.Prefix // have no way
}

// setUp runs in the step's network namespace.
func (w *linkSetup) setUp() error {
	if w == nil {
		return nil
	}
	for _, p := range w.Closed {
		if p.Addr().Is6() && !w.Address6.IsValid() {
			continue // there is no way for IPv6 at all
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: prefixNet(p), Type: unix.RTN_UNREACHABLE}); err != nil && !errors.Is(err, unix.EEXIST) {
			return setupError("close route", p.String(), err)
		}
	}
	if !w.Address.IsValid() {
		return nil
	}
	link, err := netlink.LinkByName(stepInterface)
	if err != nil {
		return setupError("find network interface", stepInterface, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return setupError("start network interface", stepInterface, err)
	}
	for _, a := range [][2]netip.Addr{{w.Address, w.Gateway}, {w.Address6, w.Gateway6}} {
		if !a[0].IsValid() {
			continue
		}
		if err := addPeer(link, a[0], a[1]); err != nil {
			return setupError("set address", a[0].String(), err)
		}
		// On the link by our word: for IPv6 the kernel knows it only once it has seen the carrier, which takes a moment.
		way := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: prefixNet(everywhere(a[0])), Gw: a[1].AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteAdd(way); err != nil {
			return setupError("set default route", a[1].String(), err)
		}
	}
	return nil
}

// everywhere is the destination of a default route.
func everywhere(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
