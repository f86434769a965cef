package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
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

// resolvFile makes the step's /etc/resolv.conf from the host's. With the host's network it is the same. Otherwise name servers
// on the host's loopback cannot be reached: they are left out. What was asked for replaces its part of it.
func resolvFile(network string, dns *DNS, notice func(string)) ([]byte, error) {
	if len(dns.Servers) > 0 && len(dns.Search) > 0 && len(dns.Options) > 0 {
		return dns.apply(nil), nil
	}
	if len(dns.Servers) > 0 {
		network = NetworkHost // the host's servers do not matter
	}
	data, err := hostResolvFor(network, notice)
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

func hostResolvFor(network string, notice func(string)) ([]byte, error) {
	data, err := readBounded(hostResolv)
	if os.IsNotExist(err) { //nolint:forbidigo // a trusted host path
		data, err = nil, nil
	}
	if err != nil || network == NetworkHost {
		return data, err
	}
	if servers(data, false) == 0 && strings.Contains(string(data), "127.0.0.53") {
		if upstream, err := readBounded(systemdResolv); err == nil {
			data = upstream
		}
	}
	out, kept := withoutLoopback(data)
	if kept == 0 {
		if network != NetworkNone {
			notice("the host has no name server that a step can reach: using 8.8.8.8 and 8.8.4.4")
		}
		out = append(out, "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n"...)
	}
	return out, nil
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

func withoutLoopback(data []byte) (out []byte, kept int) {
	for line := range strings.Lines(string(data)) {
		ip, ok := nameserver(line)
		if ok && ip.IsLoopback() {
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
