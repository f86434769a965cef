package builder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/sandbox"
)

// userNSCheck is what building without root will rest on; as root nothing depends on it.
func userNSCheck(m machine) Check {
	f := m.facts
	const name = "user namespaces"
	switch {
	case f.NewUserNS.OK() && f.UserMounts.OK() && (f.UserOver.OK() || !f.UserOver.Tried):
		return ok(name, "can be made, with mounts and overlay")
	case f.NewUserNS.OK() && f.UserMounts.OK():
		return Check{Name: name, State: StateLimited, Found: "can be made, with mounts", Why: f.UserOver.Why, Remedy: "name a state directory on ext4 or xfs with --root"}
	}
	c := Check{Name: name, State: StateMissing, Found: "refused", Why: f.NewUserNS.Why}
	if !f.NewUserNS.Tried {
		c.Found, c.Why = "not tried", "the attempts were stopped"
	}
	if f.NewUserNS.OK() {
		c.State, c.Found, c.Why = StateLimited, "can be made, without mounts", f.UserMounts.Why
	}
	switch {
	case f.AppArmor && f.UID != 0:
		c.Why += ": AppArmor forbids unprivileged ones"
		c.Remedy = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns for gobuild"
	case f.CloneOff && f.UID != 0:
		c.Why += ": unprivileged ones are switched off"
		c.Remedy = "sudo sysctl kernel.unprivileged_userns_clone=1"
	case f.MaxUserNS == "0":
		c.Why += ": none are allowed"
		c.Remedy = "sudo sysctl user.max_user_namespaces=15000"
	case f.Container != "" || f.PIDNS:
		c.Remedy = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined IMAGE"
	case f.UID != 0:
		c.Remedy = "sudo gobuild build ..."
	default:
		c.Remedy = "none is needed: steps run as root"
	}
	return c
}

// fewIDs is what an image's users and groups need at least: nobody is 65534.
const fewIDs = 65535

func subIDCheck(m machine) Check {
	f := m.facts
	const name = "subordinate ids"
	if f.UID == 0 && !f.UserNS {
		return ok(name, "not needed by root")
	}
	c := Check{Name: name, State: StateMissing, Found: "none", Remedy: fmt.Sprintf("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$(id -un %d)\"", f.UID)}
	if m.namespace != nil && (f.SubUIDs == 0 || f.SubGIDs == 0) {
		c.Remedy = m.asRoot() // it has a range that is nobody's
	}
	if m.oneID {
		return oneIDCheck(m, name, "one id")
	}
	if f.UserNS {
		return mappedCheck(m, name)
	}
	switch {
	case f.SubUIDs == 0 || f.SubGIDs == 0:
		c.Why = "/etc/subuid and /etc/subgid give this user no range, so files of other users cannot be made in a user namespace"
		return c
	case f.SubUIDs < fewIDs || f.SubGIDs < fewIDs:
		c.State, c.Found = StateLimited, fmt.Sprintf("%d uids, %d gids", f.SubUIDs, f.SubGIDs)
		c.Why = "images have users up to 65534"
		return c
	case f.Helpers["newuidmap"] == "" || f.Helpers["newgidmap"] == "":
		c.Found = fmt.Sprintf("%d uids, %d gids", f.SubUIDs, f.SubGIDs)
		c.Why, c.Remedy = "newuidmap and newgidmap are not installed, which put them to use", "sudo apt-get install uidmap"
		return c
	}
	return ok(name, fmt.Sprintf("%d uids, %d gids, %s", f.SubUIDs, f.SubGIDs, f.Helpers["newuidmap"]))
}

// mappedCheck is about the ids of the user namespace that we are in.
func mappedCheck(m machine, name string) Check {
	f := m.facts
	c := ok(name, fmt.Sprintf("%d uids, %d gids in the user namespace", f.SubUIDs, f.SubGIDs))
	if f.SubUIDs >= fewIDs && f.SubGIDs >= fewIDs {
		return c
	}
	c.State, c.Why = StateLimited, "images have users up to 65534"
	c.Remedy = "give the user more ids in /etc/subuid and /etc/subgid, or map more into the user namespace around gobuild"
	return c
}

// netHelperCheck is about what gives steps a network of their own where there can be no bridge.
func netHelperCheck(m machine) Check {
	f := m.facts
	const name = "user-mode network"
	path := f.Helpers[sandbox.NetworkSlirp]
	switch {
	case path == "":
		return Check{Name: name, State: StateMissing, Found: "no helper", Why: "slirp4netns is not installed", Remedy: "apt-get install slirp4netns"}
	case !f.Tun.OK():
		return Check{Name: name, State: StateLimited, Found: path, Why: reasonOf(f.Tun), Remedy: "chmod 0666 /dev/net/tun (modprobe tun)"}
	}
	return ok(name, path)
}

func bridgeCheck(m machine) Check {
	f := m.facts
	const name = "bridge network"
	switch {
	case !f.Bridge.OK() && slices.Contains(f.Missing, "CAP_SYS_ADMIN") && f.UID == 0:
		return Check{Name: name, State: StateMissing, Found: "refused", Why: reasonOf(f.Bridge), Remedy: privileged(f)}
	case !f.Bridge.OK():
		return Check{Name: name, State: StateMissing, Found: "refused", Why: reasonOf(f.Bridge), Remedy: "modprobe veth"}
	case !f.NetFilter.OK():
		return Check{Name: name, State: StateMissing, Found: "no packet filter", Why: reasonOf(f.NetFilter), Remedy: "modprobe nf_tables"}
	case f.UID != 0, f.UserNS && !f.Network.OK():
		return Check{Name: name, State: StateLimited, Found: "in namespaces of our own only", Why: "a user cannot join it to the host's network", Remedy: "sudo gobuild build ..."}
	case !f.Forwarding:
		return Check{Name: name, State: StateLimited, Found: "interfaces and packet filter", Why: "the machine forwards no packets, so --network=bridge works but is not the default", Remedy: "sysctl net.ipv4.ip_forward=1"}
	case f.ForwardDrop != "":
		return Check{
			Name: name, State: StateLimited, Found: "interfaces, packet filter, forwarding",
			Why: "the packet filter table " + f.ForwardDrop + " drops what the machine forwards, so it is not the default",
		}
	}
	return ok(name, "interfaces, packet filter, forwarding")
}

func reasonOf(a sandbox.Attempt) string { return cmp.Or(a.Why, "it could not be tried") }

// networkCheck says what the default network of RUN is.
func networkCheck(m machine) Check {
	const name = "network of RUN"
	switch {
	case bridgeCheck(m).State == StateOK:
		return ok(name, "of its own (bridge)")
	case netHelperCheck(m).State == StateOK && m.facts.UID == 0:
		return ok(name, "of its own (slirp4netns)")
	case m.facts.UserNS && !m.facts.Network.OK():
		return Check{Name: name, State: StateLimited, Found: "the host's", Why: "a user-mode network cannot be had, and a bridge takes root", Remedy: netHelperCheck(m).Remedy}
	}
	return Check{Name: name, State: StateLimited, Found: "the host's", Why: "neither a bridge network nor a user-mode network can be had", Remedy: "apt-get install slirp4netns, or sysctl net.ipv4.ip_forward=1"}
}

func binfmtCheck(m machine) Check {
	const name = "other platforms"
	c := Check{Name: name, State: StateMissing, Found: "no handler", Remedy: "apt-get install qemu-user-static binfmt-support, or docker run --privileged --rm tonistiigi/binfmt --install all"}
	var usable, unfixed []string
	for _, h := range m.facts.Binfmt {
		switch {
		case !h.Enabled || !strings.HasPrefix(h.Name, "qemu-"):
		case strings.Contains(h.Flags, "F"):
			usable = append(usable, strings.TrimPrefix(h.Name, "qemu-"))
		default:
			unfixed = append(unfixed, strings.TrimPrefix(h.Name, "qemu-"))
		}
	}
	switch {
	case len(usable) > 0:
		return ok(name, "RUN for "+strings.Join(usable, ", "))
	case len(unfixed) > 0:
		// binfmt-misc.rst, "F - fix binary": without it the interpreter is looked for in the step's root.
		c.State, c.Found = StateLimited, "handlers for "+strings.Join(unfixed, ", ")
		c.Why = "they lack the flag F, so the emulator would have to be in the image"
	case !m.facts.BinfmtOn:
		c.Why = "binfmt_misc is not mounted: RUN for another platform cannot run"
		c.Remedy = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc, then " + c.Remedy
	default:
		c.Why = "RUN for another platform cannot run"
	}
	return c
}

func clockCheck(m machine) Check {
	c := ok("clock", m.clock.now.UTC().Format(time.RFC3339))
	const set = "timedatectl set-ntp true, or date -s TIME"
	switch {
	case m.clock.now.Year() < firstYear:
		c.State, c.Why, c.Remedy = StateMissing, "it was never set: certificates of registries look invalid", set
	case m.clock.now.Before(m.clock.binary.Add(-24 * time.Hour)):
		c.State, c.Remedy = StateLimited, set
		c.Why = "it is behind this program, which is of " + m.clock.binary.UTC().Format(time.DateOnly) + ": certificates of registries may look invalid"
	case !m.clock.file.IsZero() && m.clock.now.Sub(m.clock.file).Abs() > clockSlack:
		c.State, c.Remedy = StateLimited, "set the clocks of this machine and of the file server, or name a local directory with --root"
		c.Why = fmt.Sprintf("the file system of the state directory is %s apart: what prune takes for old may not be", m.clock.now.Sub(m.clock.file).Abs().Round(time.Second))
	}
	return c
}

func resolverCheck(m machine) Check {
	r := m.facts.Resolver
	c := Check{Name: "resolver", State: StateLimited}
	switch {
	case r.Why != "":
		c.State, c.Found, c.Why, c.Remedy = StateMissing, "no /etc/resolv.conf", r.Why, "name a server with --dns in builds"
	case r.Loopback+r.Others == 0:
		c.State, c.Found, c.Why, c.Remedy = StateMissing, "no name server", "/etc/resolv.conf names none", "name a server with --dns in builds"
	case r.Others == 0:
		c.Found = "name servers on loopback only"
		c.Why = "a step reaches them in the host's network alone"
		c.Remedy = "leave RUN its default network, or name a server with --dns"
	default:
		return ok(c.Name, fmt.Sprintf("name servers in /etc/resolv.conf: %d (not asked)", r.Loopback+r.Others))
	}
	return c
}
