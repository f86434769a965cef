package registry

import (
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

func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || isLinkLocal(a) {
		return false
	}
	for _, s := range strings.Fields(specialBlocks) { // parsed here: most processes never need it
		if netip.MustParsePrefix(s).Contains(a) {
			return false
		}
	}
	return true
}

func isLinkLocal(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsMulticast()
}

// guard is a net.Dialer's Control function. It sees the address after names are resolved, for every
// connection, so a name that changes its mind between check and use is caught.
func guard(check func(netip.Addr) error) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return refuse("", "cannot tell the address %q", address)
		}
		return check(ap.Addr())
	}
}

// notLinkLocal is for hosts that the user named: any but the link-local network, where clouds keep
// their metadata, since a Dockerfile may name a registry too.
func notLinkLocal(a netip.Addr) error {
	if isLinkLocal(a) {
		return refuse("", "%s is a link-local address", a)
	}
	return nil
}

// onlyPublic is for hosts that a server named.
func onlyPublic(a netip.Addr) error {
	if !isPublic(a) {
		return refuse("if the registry may send this machine to private addresses, use --allow-private", "the registry leads to the private address %s", a)
	}
	return nil
}

// isLoopback says whether a host name (without port) can only be this machine.
func isLoopback(hostname string) bool {
	if a, err := netip.ParseAddr(hostname); err == nil {
		return a.Unmap().IsLoopback()
	}
	h := strings.ToLower(strings.TrimSuffix(hostname, "."))
	return h == "localhost" || strings.HasSuffix(h, ".localhost") // RFC 6761, 6.3
}
