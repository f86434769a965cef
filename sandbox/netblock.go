package sandbox

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// block is a range of 256 addresses that one Runner gives to its steps. Who has one holds a socket with an abstract name, which
// exists once in a network namespace and goes with the process, however it ends: no two processes have the same block, whatever
// their state directories are, and what belongs to a block that nobody holds is left over from a process that was killed.
type block struct {
	prefix netip.Prefix // of IPv4, /24
	claim  int          // descriptor of the socket
}

// pools are where blocks are taken from: private addresses that few networks use (RFC 1918), then those for benchmarks (RFC 2544).
func pools() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("198.18.0.0/16")}
}

// claimBlock takes a block that overlaps none of the networks that the host itself reaches, and that no process has.
func claimBlock(taken []netip.Prefix) (*block, error) {
	start := os.Getpid()
	for _, pool := range pools() {
		for i := range 256 {
			a := pool.Addr().As4()
			a[2] = byte(start + i)
			b := &block{prefix: netip.PrefixFrom(netip.AddrFrom4(a), 24)}
			if overlapsAny(b.prefix, taken) {
				continue
			}
			err := b.lock()
			if err == nil {
				return b, nil
			}
			if !errors.Is(err, unix.EADDRINUSE) {
				return nil, setupError("claim addresses", b.prefix.String(), err)
			}
		}
	}
	return nil, &SetupError{Op: "claim addresses", Detail: "every range is used by the host's own networks or by other builds"}
}

func overlapsAny(p netip.Prefix, list []netip.Prefix) bool {
	for _, other := range list {
		if p.Overlaps(other) {
			return true
		}
	}
	return false
}

// lock claims the block; EADDRINUSE says that another process has it.
func (b *block) lock() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@gobuild-network-" + b.id()}); err != nil { // unix(7): @ stands for the zero byte
		_ = unix.Close(fd)
		return err
	}
	b.claim = fd
	return nil
}

func (b *block) release() error { return unix.Close(b.claim) }

// id names what belongs to the block: the first three bytes of its addresses in hexadecimal.
func (b *block) id() string {
	a := b.prefix.Addr().As4()
	return hex.EncodeToString(a[:3])
}

func (b *block) table() string { return tablePrefix + b.id() }

// links is how the names of the host's ends of all steps' interfaces begin; gatewayLinks those whose step may reach the host.
func (b *block) links() string        { return linkPrefix + b.id() }
func (b *block) gatewayLinks() string { return b.links() + "h" }

// address is the IPv4 address of a step, or with 1 that of the host as steps see it.
func (b *block) address(n int) netip.Addr {
	a := b.prefix.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// prefix6 are unique local addresses (RFC 4193) that belong to the block: "gobui" after the fd, and the block's own two bytes.
func (b *block) prefix6() netip.Prefix {
	a := b.prefix.Addr().As4()
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 'g', 'o', 'b', 'u', 'i', a[1], a[2]}), 64)
}

func (b *block) address6(n int) netip.Addr {
	a := b.prefix6().Addr().As16()
	a[15] = byte(n)
	return netip.AddrFrom16(a)
}

const (
	tablePrefix = "gobuild-"
	linkPrefix  = "gb"
	firstStep   = 2 // 1 is the host
	lastStep    = 254
)

// blockOf finds the block that a table or an interface belongs to, by its name.
func blockOf(name string) (*block, bool) {
	id, ok := strings.CutPrefix(name, tablePrefix)
	if !ok {
		id, ok = strings.CutPrefix(name, linkPrefix)
		if len(id) != len("0ad207-02") || id[6] != '-' && id[6] != 'h' {
			return nil, false
		}
		id = id[:6]
	}
	raw, err := hex.DecodeString(id)
	if !ok || err != nil || len(raw) != 3 {
		return nil, false
	}
	b := &block{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{raw[0], raw[1], raw[2], 0}), 24)}
	if !overlapsAny(b.prefix, pools()) || b.id() != id {
		return nil, false
	}
	return b, true
}

// linkName is the name of the host's end of a step's interface, at most 15 bytes (IFNAMSIZ).
func (b *block) linkName(n int, gateway bool) string {
	if gateway {
		return fmt.Sprintf("%s%02x", b.gatewayLinks(), n)
	}
	return fmt.Sprintf("%s-%02x", b.links(), n)
}
