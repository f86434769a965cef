package sandbox

import (
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// walls is the table of the packet filter that belongs to a block. Each of its rules concerns only packets from or to the
// interfaces of the block's steps, so nothing else on the host is changed. From a step goes out what is not meant for the host, for
// link-local addresses or for another step; to a step come the answers.
type walls struct {
	block   *block
	ipv6    bool
	servers []netip.Addr // name servers that are the host itself
}

// build makes the table, all of it or nothing.
func (w *walls) build() error {
	c := &nftables.Conn{}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: w.block.table()})
	add := func(chain *nftables.Chain, rules [][]expr.Any) {
		c.AddChain(chain)
		for _, rule := range rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: rule})
		}
	}
	add(&nftables.Chain{
		Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}, w.forward())
	add(&nftables.Chain{
		Name: "input", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}, w.input())
	add(&nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}, w.postrouting())
	return c.Flush()
}

// remove takes the table away; one that is not there is fine.
func (w *walls) remove() error {
	c := &nftables.Conn{}
	// Added first, because to remove what is missing is an error.
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: w.block.table()})
	c.DelTable(t)
	return c.Flush()
}

// forward is what passes between a step and the world.
func (w *walls) forward() [][]expr.Any {
	from, to := fromLink(w.block.links()), toLink(w.block.links())
	rules := [][]expr.Any{
		rule(to, answers(), accept()),
		rule(to, drop()), // from whom ever: other steps, other builds, the host's networks
	}
	for _, p := range linkLocal() {
		rules = append(rules, rule(from, addressIn(destination, p), drop()))
	}
	rules = append(rules, rule(from, addressIn(source, w.block.prefix), accept()))
	if w.ipv6 {
		rules = append(rules, rule(from, addressIn(source, w.block.prefix6()), accept()))
	}
	return append(rules, rule(from, drop())) // under another's address
}

// input is what a step sends to the host itself.
func (w *walls) input() [][]expr.Any {
	from := fromLink(w.block.links())
	var rules [][]expr.Any
	if w.ipv6 { // how the step finds the host's end of its link, RFC 4861
		for _, kind := range []byte{135, 136} {
			rules = append(rules, rule(from, protocol(unix.IPPROTO_ICMPV6), transport(0, kind), accept()))
		}
	}
	for _, server := range w.servers {
		for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			to := addressIn(destination, netip.PrefixFrom(server, server.BitLen()))
			rules = append(rules, rule(from, to, protocol(proto), transport(2, 0, 53), accept()))
		}
	}
	host := w.block.address(1)
	return append(rules,
		rule(fromLink(w.block.gatewayLinks()), addressIn(destination, netip.PrefixFrom(host, host.BitLen())), accept()),
		rule(from, drop()))
}

// postrouting gives packets that leave the host its own address.
func (w *walls) postrouting() [][]expr.Any {
	rules := [][]expr.Any{rule(addressIn(source, w.block.prefix), masquerade())}
	if w.ipv6 {
		rules = append(rules, rule(addressIn(source, w.block.prefix6()), masquerade()))
	}
	return rules
}

// linkLocal are the addresses that are closed to steps wherever packets go: of the loopback, and of the link, where clouds keep
// their metadata and credentials.
func linkLocal() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")}
}

func rule(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// fromLink and toLink compare the beginning of an interface's name.
func fromLink(prefix string) []expr.Any { return link(expr.MetaKeyIIFNAME, prefix) }
func toLink(prefix string) []expr.Any   { return link(expr.MetaKeyOIFNAME, prefix) }

func link(key expr.MetaKey, prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(prefix)},
	}
}

func accept() []expr.Any     { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// answers are packets of connections that a step began.
func answers() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// side is one of the two addresses of a packet.
type side int

const (
	source side = iota
	destination
)

// offsets are where it is in the headers of RFC 791 and RFC 8200.
func (s side) offsets() (ipv4, ipv6 uint32) {
	if s == source {
		return 12, 8
	}
	return 16, 24
}

func addressIn(s side, p netip.Prefix) []expr.Any {
	family := byte(unix.NFPROTO_IPV4)
	offset, offset6 := s.offsets()
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, offset6
	}
	size := p.Addr().BitLen() / 8
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// transport compares bytes of the header after IP's.
func transport(offset uint32, data ...byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: uint32(len(data))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
	}
}

// closedForwarding names a table of another program that drops forwarded packets unless it knows them, as docker's and firewalls'
// do: rules of ours cannot take that back, and changing theirs is not our business. "" is none.
func closedForwarding() (string, error) {
	chains, err := (&nftables.Conn{}).ListChains()
	if err != nil {
		return "", err
	}
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			return c.Table.Name, nil
		}
	}
	return legacyFilter(), nil
}

// legacyFilter says whether the old packet filter has rules, whose policy cannot be read here.
func legacyFilter() string {
	data, err := readBounded("/proc/net/ip_tables_names")
	if err == nil && strings.Contains(string(data), "filter\n") {
		return "filter (iptables-legacy)"
	}
	return ""
}

// leftTables are the tables of blocks, ours and others'.
func leftTables() ([]*block, error) {
	tables, err := (&nftables.Conn{}).ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	var found []*block
	for _, t := range tables {
		if b, ok := blockOf(t.Name); ok && strings.HasPrefix(t.Name, tablePrefix) {
			found = append(found, b)
		}
	}
	return found, nil
}
