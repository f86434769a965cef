package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestG16_BridgeReachesTheWorldAndNothingElse(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, true)
		f := newFixture(t, Config{})
		// A step with all capabilities takes away what only says sooner that there is no way: the walls are on the host.
		open := `ip route | grep unreachable | while read -r _ to; do ip route del unreachable $to; done
ip -6 route | grep unreachable | while read -r _ to _; do ip -6 route del unreachable $to; done;`
		cases := []struct{ name, to, want string }{
			{"the world", worldServer, "outside saw " + worldHost},
			{"the world by IPv6", worldPeer6, "outside saw " + worldHost6},
			{"its own loopback", "127.0.0.1", "closed"},
			{"the host's address", worldHost, "closed"},
			{"the host's address of IPv6", worldHost6, "closed"},
			{"the host's end of the link", "$(ip route | sed -n 's/default via //p' | cut -d' ' -f1)", "closed"},
			{"the host's end of the link by IPv6", "$(ip -6 route | sed -n 's/default via //p' | cut -d' ' -f1)", "closed"},
			{"addresses of links", metadata, "closed"},
		}
		script := ""
		for _, c := range cases {
			script += fmt.Sprintf("(answer=$(%s); echo \"%s: $answer\") &\n", ask(c.to), c.name)
		}
		for _, insecure := range []bool{false, true} {
			s := f.spec(t, script+"wait")
			if s.Network = NetworkBridge; insecure {
				s.Args[2], s.Insecure = open+"\n"+s.Args[2], true
			}
			out, _ := f.sh(t, s)
			for _, c := range cases {
				if want := c.name + ": " + c.want + "\n"; !strings.Contains("\n"+out, "\n"+want) {
					t.Errorf("insecure %t: want %q in\n%s", insecure, want, out)
				}
			}
		}
	})
}

func TestG16_ClosedAddressesAreToldAtOnce(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, false)
		f := newFixture(t, Config{})
		s := f.spec(t, "ip route get "+worldHost+"; ip route get "+metadata+"; ip route get 169.254.169.254; ip -6 addr show dev eth0 scope global")
		s.Network = NetworkBridge
		out, _ := f.sh(t, s)
		if strings.Count(out, "unreachable") != 3 && strings.Count(out, "No route to host") != 3 {
			t.Errorf("the step is not told: %s", out)
		}
		if strings.Contains(out, "inet6") {
			t.Errorf("IPv6 where the host does not forward it: %s", out)
		}
	})
}

func TestG17_HostGateway(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, false)
		f := newFixture(t, Config{})
		s := f.spec(t, ask("me")+"grep me /etc/hosts;"+ask(worldHost))
		s.Network, s.Hosts = NetworkBridge, []string{"192.0.2.1 other", GatewayHost + " me"}
		out, _ := f.sh(t, s)
		if lines := strings.Fields(out); len(lines) != 6 || lines[0] != "host" || !strings.HasPrefix(lines[2], "10.210.") || lines[5] != "closed" {
			t.Errorf("by its name for the host, and by another address of it: %q", out)
		}
		s = f.spec(t, "grep me /etc/hosts")
		s.Network, s.Hosts = NetworkHost, []string{GatewayHost + " me"}
		if out, _ := f.sh(t, s); out != "127.0.0.1\tme\n" {
			t.Errorf("in the host's network: %q", out)
		}
		s = f.spec(t, "true")
		s.Network, s.Hosts = NetworkNone, []string{GatewayHost + " me"}
		if _, err := f.Run(t.Context(), s); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "host-gateway") {
			t.Errorf("without a network: %v", err)
		}
	})
}

// together starts a step that serves its name, and gives its address. It ends with the test.
func together(t *testing.T, f *fixture) string {
	t.Helper()
	r, w := io.Pipe()
	s := f.spec(t, fmt.Sprintf(`
me=$(ip -4 addr show dev eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p')
while :; do echo neighbour | nc -l -p %d; done &
until nc -w 2 $me %d </dev/null 2>/dev/null | grep -q neighbour; do :; done
echo $me
wait`, worldPort, worldPort))
	s.Network, s.Stdout = NetworkBridge, w
	done := make(chan struct{})
	pids := make(chan int, 1)
	s.Started = func(pid int) { pids <- pid }
	go func() {
		defer close(done)
		_, err := f.Run(t.Context(), s)
		_ = w.CloseWithError(fmt.Errorf("the step ended: %w", err))
	}()
	t.Cleanup(func() {
		select {
		case pid := <-pids:
			_ = unix.Kill(pid, unix.SIGKILL)
		case <-done: // it never began
		}
		_ = r.Close() // what it still says is of no interest
		<-done
	})
	var line bytes.Buffer
	for one := make([]byte, 1); ; {
		_, err := r.Read(one)
		must(t, err)
		if one[0] == '\n' {
			return line.String()
		}
		line.Write(one)
	}
}

func TestG16_StepsDoNotReachEachOther(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, false)
		one, two := newFixture(t, Config{}), newFixture(t, Config{})
		other := together(t, one)
		for name, f := range map[string]*fixture{"the same build": one, "another build": two} {
			s := f.spec(t, ask(other))
			s.Network = NetworkBridge
			if out, _ := f.sh(t, s); out != "closed\n" {
				t.Errorf("a step of %s: %q", name, out)
			}
		}
	})
}

func TestG20_TrafficOfTheStepIsCounted(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, false)
		f := newFixture(t, Config{})
		s := f.spec(t, ask(worldServer))
		s.Network = NetworkBridge
		if _, res := f.sh(t, s); res.NetReceived < 200 || res.NetSent < 200 || res.NetReceived > 1<<16 {
			t.Errorf("%d bytes in and %d out for a short answer", res.NetReceived, res.NetSent)
		}
	})
}

// ours lists what of this host's network belongs to steps.
func ours(t *testing.T) (found []string) {
	t.Helper()
	links, err := listed(netlink.LinkList)
	must(t, err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			found = append(found, l.Attrs().Name)
		}
	}
	tables, err := leftTables()
	must(t, err)
	for _, b := range tables {
		found = append(found, b.table())
	}
	return found
}

func TestG16_NothingIsLeft(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, true, true)
		f := newFixture(t, Config{})
		for range 3 {
			s := f.spec(t, "true")
			s.Network = NetworkBridge
			f.sh(t, s)
		}
		if len(ours(t)) == 0 {
			t.Error("the steps had no network of their own")
		}
		must(t, f.Close())
		if left := ours(t); len(left) > 0 {
			t.Errorf("left after the build: %v", left)
		}
	})
}

func TestHostileF30_WhatAKilledBuildLeavesIsRemovedByTheNext(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		dead, err := openOutlet()
		must(t, err)
		link, err := dead.lease(false)
		must(t, err)
		must(t, link.attach(elsewhere(t)))
		must(t, dead.block.release()) // as the kernel does when the process ends
		alive, err := openOutlet()
		must(t, err)
		kept, err := alive.lease(true)
		must(t, err)
		must(t, kept.attach(elsewhere(t)))
		if _, err := netlink.LinkByName(link.name); err == nil {
			t.Error("the interface of a process that is gone is there")
		}
		foreign := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "gb0ad2ff-02"}} // by its name ours, but no interface of a step
		must(t, netlink.LinkAdd(foreign))
		next, err := openOutlet()
		must(t, err)
		want := fmt.Sprint([]string{kept.name, foreign.Name, alive.block.table(), next.block.table()})
		if got := fmt.Sprint(ours(t)); got != want && got != fmt.Sprint([]string{kept.name, foreign.Name, next.block.table(), alive.block.table()}) {
			t.Errorf("there is %s, want %s", got, want)
		}
		must(t, kept.remove())
		must(t, errors.Join(alive.close(), next.close()))
		if got := fmt.Sprint(ours(t)); got != fmt.Sprint([]string{foreign.Name}) {
			t.Errorf("left: %s", got)
		}
	})
}

func TestG16_AddressesAvoidTheHostsNetworksAndOtherBuilds(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		one, err := openOutlet()
		must(t, err)
		two, err := openOutlet()
		must(t, err)
		if one.block.prefix == two.block.prefix || !pools()[0].Overlaps(one.block.prefix) || !pools()[0].Overlaps(two.block.prefix) {
			t.Errorf("blocks %s and %s", one.block.prefix, two.block.prefix)
		}
		must(t, errors.Join(one.close(), two.close()))
		up, err := netlink.LinkByName("uplink")
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: prefixNet(netip.MustParsePrefix("10.0.0.0/8"))}))
		three, err := openOutlet()
		must(t, err)
		if !pools()[1].Overlaps(three.block.prefix) {
			t.Errorf("block %s where the host has a route to 10.0.0.0/8", three.block.prefix)
		}
		must(t, three.close())
		taken := pools()
		if b, err := claimBlock(taken); err == nil {
			t.Errorf("block %s where all are taken", b.prefix)
		}
	})
}

func TestG16_AddressesOfStepsAreUsedAgainWhenTheyAreFree(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		o, err := openOutlet()
		must(t, err)
		var links []*stepLink
		for {
			l, err := o.lease(false)
			if err != nil {
				break
			}
			links = append(links, l)
		}
		if len(links) != lastStep-firstStep+1 {
			t.Errorf("%d steps at once", len(links))
		}
		must(t, links[7].remove())
		again, err := o.lease(false)
		must(t, err)
		if again.number != links[7].number {
			t.Errorf("got %d, want %d", again.number, links[7].number)
		}
		must(t, o.close())
	})
}

func TestG16_AListThatChangedMeanwhileIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		interrupted int
		want        error
	}{
		{"never", 0, nil}, {"twice", 2, nil}, {"always", maxDumps, netlink.ErrDumpInterrupted},
	} {
		asked := 0
		got, err := listed(func() ([]int, error) {
			if asked++; asked <= tt.interrupted {
				return nil, netlink.ErrDumpInterrupted
			}
			return []int{asked}, nil
		})
		if !errors.Is(err, tt.want) || tt.want == nil && len(got) != 1 {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestG16_NamesOfBlocks(t *testing.T) {
	t.Parallel()
	b := &block{prefix: netip.MustParsePrefix("10.210.7.0/24")}
	for _, name := range []string{b.table(), b.linkName(2, false), b.linkName(254, true)} {
		if got, ok := blockOf(name); !ok || got.prefix != b.prefix || len(name) > unix.IFNAMSIZ-1 && name != b.table() {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, name := range []string{"", "gb0", "gbit-0123-01", "gb0ad207x02", "gb0AD207-02", "gb080808-02", "gobuild-", "gobuild-080808", "gobuild-0ad2", "eth0", "gb0ad207-0"} {
		if got, ok := blockOf(name); ok {
			t.Errorf("%q belongs to %s", name, got.prefix)
		}
	}
	if a := b.address6(2); a.String() != "fd67:6f62:7569:d207::2" || b.address(1).String() != "10.210.7.1" {
		t.Errorf("addresses %s and %s", a, b.address(1))
	}
}
