package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostNetwork is what must be known of the host's network to make others beside it.
type hostNetwork struct {
	own     []netip.Addr   // the host's addresses, without those of the loopback and of links
	reached []netip.Prefix // networks that have a route of their own, and name servers
	servers []netip.Addr   // name servers that are the host itself
	outside netip.Addr     // the host's address on the way out
	mtu     int            // of the way out
	ipv6    bool           // there is a way out for IPv6, and the host forwards it
}

func readHostNetwork() (*hostNetwork, error) {
	h := &hostNetwork{mtu: defaultMTU}
	addrs, err := listed(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		if a, ok := netip.AddrFromSlice(addrs[i].IP); ok {
			if a = a.Unmap(); !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				h.own = append(h.own, a)
			}
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := listed(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return nil, err
		}
		for i := range routes {
			h.add(&routes[i], family)
		}
	}
	h.ipv6 = h.ipv6 && kernelSetting("net/ipv6/conf/all/forwarding") == "1"
	h.nameServers()
	return h, nil
}

// listed asks the kernel for a list again where it says that things changed while it wrote it (NLM_F_DUMP_INTR): something may
// be missing in that one.
func listed[T any](list func() ([]T, error)) (all []T, err error) {
	for range maxDumps {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// add takes a route into account.
func (h *hostNetwork) add(r *netlink.Route, family int) {
	ones := 0
	if r.Dst != nil {
		ones, _ = r.Dst.Mask.Size()
	}
	if r.Dst != nil && ones > 0 {
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			h.reached = append(h.reached, netip.PrefixFrom(a.Unmap(), ones))
		}
		return
	}
	if r.Type != unix.RTN_UNICAST {
		return
	}
	if family == netlink.FAMILY_V6 {
		h.ipv6 = true
		return
	}
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return // it went away; the default holds
	}
	h.mtu = min(h.mtu, link.Attrs().MTU)
	if a, ok := netip.AddrFromSlice(firstOf(r.Src, link)); ok && !h.outside.IsValid() {
		h.outside = a.Unmap()
	}
}

// firstOf is the address from which packets leave by a link.
func firstOf(src net.IP, link netlink.Link) net.IP {
	if src != nil {
		return src
	}
	addrs, err := listed(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil || len(addrs) == 0 {
		return nil
	}
	return addrs[0].IP
}

// nameServers finds those that steps will ask.
func (h *hostNetwork) nameServers() {
	data, err := readBounded(hostResolv)
	if err != nil {
		return // steps get others
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		a, ok := nameserver(lines.Text())
		if !ok || a.IsLoopback() {
			continue
		}
		h.reached = append(h.reached, netip.PrefixFrom(a, a.BitLen()))
		if h.isOwn(a) {
			h.servers = append(h.servers, a)
		}
	}
}

func (h *hostNetwork) isOwn(a netip.Addr) bool {
	for _, own := range h.own {
		if own == a {
			return true
		}
	}
	return false
}

// closed is what steps cannot reach.
func (h *hostNetwork) closed() []netip.Prefix {
	closed := []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}
	for _, own := range h.own {
		asked := false
		for _, s := range h.servers {
			asked = asked || s == own
		}
		if !asked && len(closed) < maxClosed {
			closed = append(closed, netip.PrefixFrom(own, own.BitLen()))
		}
	}
	return closed
}
