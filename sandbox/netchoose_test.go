package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"

	"gobuild/internal/testexec"
)

// fakeSlirp is a directory with a slirp4netns that is this script.
func fakeSlirp(t *testing.T, script string) []string {
	t.Helper()
	dir := t.TempDir()
	must(t, testexec.WriteFile(filepath.Join(dir, NetworkSlirp), []byte("#!/bin/sh\n"+script)))
	return []string{dir}
}

func TestG16_TheDefaultIsTheFirstThatCanBeHad(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		ready := "echo \"$@\" >" + filepath.Join(t.TempDir(), "args") + "; printf 1 >&3; cat <&4 >/dev/null; echo gone >" + filepath.Join(t.TempDir(), "gone")
		tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		slirp, broken := NetworkChoice{Network: NetworkSlirp}, "it ended: no luck today"
		if err == nil {
			must(t, tun.Close())
		} else {
			slirp, broken = NetworkChoice{Network: NetworkHost, Why: "/dev/net/tun"}, "/dev/net/tun"
		}
		for _, c := range []struct {
			name       string
			forwarding bool
			walled     bool
			path       []string
			want       NetworkChoice
		}{
			{"nothing", false, false, nil, NetworkChoice{Network: NetworkHost, Why: "forwards no packets"}},
			{"forwarding", true, false, nil, NetworkChoice{Network: NetworkBridge}},
			{"both", true, false, fakeSlirp(t, ready), NetworkChoice{Network: NetworkBridge}},
			{"a program", false, false, fakeSlirp(t, ready), slirp},
			{"a program that fails", false, false, fakeSlirp(t, "echo no luck today >&2; exit 1"), NetworkChoice{Network: NetworkHost, Why: broken}},
			{"a firewall", true, true, nil, NetworkChoice{Network: NetworkHost, Why: "table elsewhere drops"}},
			{"a firewall and a program", true, true, fakeSlirp(t, ready), slirp},
		} {
			forwarding(t, c.forwarding, false)
			wall := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "elsewhere"}
			if c.walled {
				drop := nftables.ChainPolicyDrop
				conn := &nftables.Conn{}
				conn.AddTable(wall)
				conn.AddChain(&nftables.Chain{
					Name: "f", Table: wall, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
					Priority: nftables.ChainPriorityFilter, Policy: &drop,
				})
				must(t, conn.Flush())
			}
			f := newFixture(t, Config{Path: c.path})
			for range 2 {
				got, err := f.ChooseNetwork(NetworkDefault)
				if err != nil || got.Network != c.want.Network || !strings.Contains(got.Why, c.want.Why) || (got.Why == "") != (c.want.Why == "") {
					t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
				}
				s := f.spec(t, "true")
				s.Network = got.Network
				f.sh(t, s)
			}
			if c.walled {
				conn := &nftables.Conn{}
				conn.DelTable(wall)
				must(t, conn.Flush())
			}
			if kernelSetting(forwardSetting) != map[bool]string{true: "1", false: "0"}[c.forwarding] {
				t.Errorf("%s: the host's forwarding has been changed", c.name)
			}
			must(t, f.Close())
			if left := ours(t); len(left) > 0 {
				t.Errorf("%s: left %v", c.name, left)
			}
		}
	})
}

func TestG16_ABridgeThatIsAskedForTurnsForwardingOnAndSaysSo(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		forwarding(t, false, false)
		var said []string
		f := newFixture(t, Config{Notice: func(s string) { said = append(said, s) }})
		for range 2 {
			if got, err := f.ChooseNetwork(NetworkBridge); err != nil || got.Network != NetworkBridge {
				t.Errorf("%+v, %v", got, err)
			}
		}
		if kernelSetting(forwardSetting) != "1" || len(said) != 1 || !strings.Contains(said[0], "net.ipv4.ip_forward is on") {
			t.Errorf("forwarding is %s, said %q", kernelSetting(forwardSetting), said)
		}
	})
}

// What slirp4netns is told, that it ends with the step, and what the step then asks for names.
func TestG16_SlirpLivesAsLongAsItsStep(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		dir := t.TempDir()
		plan := &slirpPlan{net: slirpNets()[0], host: &hostNetwork{}}
		plan.program = filepath.Join(fakeSlirp(t, "echo \"$@\" >"+dir+"/args; printf 1 >&3; cat <&4 >/dev/null; echo gone >"+dir+"/gone")[0], NetworkSlirp)
		one, err := plan.start(os.Getpid())
		must(t, err)
		args, err := os.ReadFile(dir + "/args")
		must(t, err)
		for _, want := range []string{"--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", "--cidr=10.0.2.0/24", "/ns/net eth0"} {
			if !strings.Contains(string(args), want) {
				t.Errorf("%s is not among %s", want, args)
			}
		}
		if _, err := os.Stat(dir + "/gone"); err == nil {
			t.Error("it has ended before its step")
		}
		must(t, one.stop())
		if _, err := os.Stat(dir + "/gone"); err != nil {
			t.Error("it has not ended by itself")
		}
		v := resolvView{unreachable: plan.unreachable, instead: []string{plan.nameServer().String()}}
		if out, kept := v.reachable([]byte("nameserver 127.0.0.53\nsearch a\n")); kept != 0 || string(out) != "search a\n" || v.instead[0] != "10.0.2.3" {
			t.Errorf("%q, %d, %v", out, kept, v.instead)
		}
	})
}
