package registry

import (
	"net/netip"

	"gobuild/internal/netguard"
)

// notLinkLocal is for hosts that the user named: any but the link-local network, where clouds keep
// their metadata, since a Dockerfile may name a registry too.
func notLinkLocal(a netip.Addr) error {
	if netguard.IsLinkLocal(a) {
		return refuse("", "%s is a link-local address", a)
	}
	return nil
}

// onlyPublic is for hosts that a server named.
func onlyPublic(a netip.Addr) error {
	if !netguard.IsPublic(a) {
		return refuse("if the registry may send this machine to private addresses, use --allow-private", "the registry leads to the private address %s", a)
	}
	return nil
}
