package netguard

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// specialBlocks lists what netip.Addr has no method for. A connection to them reaches this
// machine, its neighbours or nothing (IANA special-purpose address registries).
const specialBlocks = "0.0.0.0/8 192.0.0.0/24 198.18.0.0/15 240.0.0.0/4 " +
	"100.64.0.0/10 " + // shared address space; one cloud has its metadata there
	"64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32 " + // NAT64, 6to4, Teredo: they wrap any IPv4 address
	"fec0::/10"

// IsPublic says whether an address is one of the Internet's, rather than of this machine or its neighbours.
func IsPublic(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || IsLinkLocal(a) {
		return false
	}
	for _, s := range strings.Fields(specialBlocks) { // parsed here: most processes never need it
		if netip.MustParsePrefix(s).Contains(a) {
			return false
		}
	}
	return true
}

// IsLinkLocal says whether an address is on the link-local network, where clouds keep their metadata.
func IsLinkLocal(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsMulticast()
}

// IsLoopback says whether a host name (without port) can only be this machine.
func IsLoopback(hostname string) bool {
	if a, err := netip.ParseAddr(hostname); err == nil {
		return a.Unmap().IsLoopback()
	}
	h := strings.ToLower(strings.TrimSuffix(hostname, "."))
	return h == "localhost" || strings.HasSuffix(h, ".localhost") // RFC 6761, 6.3
}

// IsAddress says whether a host name is an address already, so that nothing needs to be resolved to judge it.
func IsAddress(hostname string) bool {
	_, err := netip.ParseAddr(hostname)
	return err == nil
}

// Control makes a net.Dialer's Control function that lets check decide about each connection.
func Control(check func(netip.Addr) error) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("cannot tell the address %q", address) // nothing is dialled that cannot be judged
		}
		return check(ap.Addr())
	}
}
