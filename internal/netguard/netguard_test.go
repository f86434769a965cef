package netguard_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"gobuild/internal/netguard"
)

func TestHostileR20_Addresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"127.0.0.1", "127.9.9.9", "::1", "::", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
		"64:ff9b::a9fe:a9fe", "2002:7f00:1::", "198.18.0.1", "192.0.0.192",
	} {
		if netguard.IsPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as public", s)
		}
	}
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"} {
		if !netguard.IsPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s does not count as public", s)
		}
	}
	for s, want := range map[string]bool{"169.254.169.254": true, "::ffff:169.254.1.1": true, "fe80::1": true, "127.0.0.1": false, "10.0.0.1": false, "1.1.1.1": false} {
		if netguard.IsLinkLocal(netip.MustParseAddr(s)) != want {
			t.Errorf("IsLinkLocal(%s) is %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"localhost": true, "LOCALHOST.": true, "a.localhost": true, "127.1.2.3": true, "::1": true, "localhost.example.com": false, "128.0.0.1": false, "": false} {
		if netguard.IsLoopback(s) != want {
			t.Errorf("IsLoopback(%q) is %v", s, !want)
		}
	}
}

func TestHostileR20_EveryConnectionIsJudged(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refused := errors.New("refused")
	var seen netip.Addr
	dialer := &net.Dialer{Control: netguard.Control(func(a netip.Addr) error { seen = a; return refused })}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, err := dialer.DialContext(t.Context(), "tcp4", net.JoinHostPort("localhost", port)); !errors.Is(err, refused) {
		t.Errorf("dialled: %v", err)
	}
	if seen != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("judged %s", seen)
	}
	if err := netguard.Control(func(netip.Addr) error { return nil })("unix", "/run/x.sock", nil); err == nil {
		t.Error("an address that cannot be judged is dialled")
	}
}
