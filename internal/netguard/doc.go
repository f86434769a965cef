// Package netguard decides which addresses a connection may reach, and which authorities it trusts (Roots).
//
//	dialer := &net.Dialer{Control: netguard.Control(func(a netip.Addr) error {
//		if !netguard.IsPublic(a) {
//			return fmt.Errorf("%s is a private address", a)
//		}
//		return nil
//	})}
//
// Promises: the address is judged when the connection is made, after names are resolved, so a name that changes its
// mind between check and use is caught. IPv6 addresses that wrap an IPv4 address do not hide it.
//
// Which host may lead where, and how a refusal is worded, is for the packages that dial: registry and remote.
package netguard
