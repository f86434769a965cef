package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// The files of the host that are read.
const (
	hostResolv    = "/etc/resolv.conf"
	systemdResolv = "/run/systemd/resolve/resolv.conf" // what systemd-resolved itself asks, systemd-resolved.service(8)
)

// hostsFile is the content of the step's /etc/hosts.
func hostsFile(hostname string, extra []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n", hostname)
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, line := range extra {
		address, names, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "%s\t%s\n", address, names)
	}
	return []byte(b.String())
}

// GatewayHost stands in a line of Spec.Hosts for the address by which the step reaches the host (FEATURES G17).
const GatewayHost = "host-gateway"

func isGateway(line string) bool { return strings.HasPrefix(line, GatewayHost+" ") }

// withGateway puts the host's address, as a step in this network sees it, in its place.
func (n *networks) withGateway(network string, lines []string) ([]string, error) {
	if !slices.ContainsFunc(lines, isGateway) {
		return lines, nil
	}
	host, err := n.hostAddress(network)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range lines {
		if isGateway(line) {
			line = host.String() + strings.TrimPrefix(line, GatewayHost)
		}
		out = append(out, line)
	}
	return out, nil
}

func (n *networks) hostAddress(network string) (netip.Addr, error) {
	switch network {
	case NetworkHost:
		return netip.MustParseAddr("127.0.0.1"), nil
	case NetworkBridge:
		o, err := n.bridge()
		if err != nil {
			return netip.Addr{}, err
		}
		return o.block.address(1), nil
	case NetworkSlirp:
		if s, err := n.tunnel(); err != nil || s.host.outside.IsValid() {
			if err != nil {
				return netip.Addr{}, err
			}
			return s.host.outside, nil
		}
	}
	return netip.Addr{}, &SetupError{
		Op: "resolve " + GatewayHost, Kind: ErrUnsupported, Detail: fmt.Sprintf("a step with the network %q does not reach the host", network),
	}
}

// resolvView is what a step can do with the host's resolv.conf.
type resolvView struct {
	same        bool                  // all that the host can
	quiet       bool                  // it asks nobody anyway
	unreachable func(netip.Addr) bool // name servers
	instead     []string              // of them; none: public ones
}

// view says what is left of the host's resolv.conf in a network.
func (n *networks) view(network string) resolvView {
	v := resolvView{same: network == NetworkHost, quiet: network == NetworkNone, unreachable: netip.Addr.IsLoopback}
	if network == NetworkSlirp {
		if s, err := n.tunnel(); err == nil {
			v.unreachable, v.instead = s.unreachable, []string{s.nameServer().String()}
		}
	}
	return v
}

// file makes the step's /etc/resolv.conf from the host's. With the host's network it is the same. Otherwise name servers
// on the host's loopback cannot be reached: they are left out. What was asked for replaces its part of it.
func (v resolvView) file(dns *DNS, notice func(string)) ([]byte, error) {
	if len(dns.Servers) > 0 && len(dns.Search) > 0 && len(dns.Options) > 0 {
		return dns.apply(nil), nil
	}
	v.same = v.same || len(dns.Servers) > 0 // then the host's servers do not matter
	data, err := v.hostResolv(notice)
	if err != nil {
		return nil, err
	}
	return dns.apply(data), nil
}

// apply replaces lines of resolv.conf(5).
func (d *DNS) apply(data []byte) []byte {
	replaced := map[string]bool{
		"nameserver": len(d.Servers) > 0, "search": len(d.Search) > 0, "domain": len(d.Search) > 0, "options": len(d.Options) > 0,
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		word, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		if !replaced[word] {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	for _, server := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return []byte(b.String())
}

func (v resolvView) hostResolv(notice func(string)) ([]byte, error) {
	data, err := readBounded(hostResolv)
	if os.IsNotExist(err) { //nolint:forbidigo // a trusted host path
		data, err = nil, nil
	}
	if err != nil || v.same {
		return data, err
	}
	if servers(data, false) == 0 && strings.Contains(string(data), "127.0.0.53") {
		if upstream, err := readBounded(systemdResolv); err == nil {
			data = upstream
		}
	}
	out, kept := v.reachable(data)
	if kept > 0 {
		return out, nil
	}
	instead := v.instead
	if len(instead) == 0 {
		instead = []string{"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"}
		if !v.quiet {
			notice("the host has no name server that a step can reach: using 8.8.8.8 and 8.8.4.4")
		}
	}
	return append(out, "nameserver "+strings.Join(instead, "\nnameserver ")+"\n"...), nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxResolv))
}

// servers counts the name servers, those on loopback or the others.
func servers(data []byte, loopback bool) (n int) {
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for lines.Scan() {
		if ip, ok := nameserver(lines.Text()); ok && ip.IsLoopback() == loopback {
			n++
		}
	}
	return n
}

// reachable leaves the name servers out that cannot be reached.
func (v resolvView) reachable(data []byte) (out []byte, kept int) {
	for line := range strings.Lines(string(data)) {
		ip, ok := nameserver(line)
		if ok && v.unreachable(ip) {
			continue
		}
		if ok {
			kept++
		}
		out = append(out, line...)
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return out, kept
}

// nameserver parses a line of resolv.conf(5).
func nameserver(line string) (netip.Addr, bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "nameserver" {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(f[1])
	return ip.Unmap(), err == nil
}
