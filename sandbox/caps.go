package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// capability is one of those a step keeps.
type capability struct {
	number int
	name   string
}

// capabilities are what the container engines leave to root in a container.
func capabilities() []capability {
	return []capability{
		{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_FOWNER, "CAP_FOWNER"},
		{unix.CAP_FSETID, "CAP_FSETID"}, {unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_SETGID, "CAP_SETGID"},
		{unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETPCAP, "CAP_SETPCAP"}, {unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_MKNOD, "CAP_MKNOD"},
		{unix.CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"}, {unix.CAP_SETFCAP, "CAP_SETFCAP"},
	}
}

func capNames() []string {
	var names []string
	for _, c := range capabilities() {
		names = append(names, c.name)
	}
	return names
}

// stepCaps are the capabilities by number. In the host's network NET_RAW would read the host's own traffic.
func stepCaps(network string) []int {
	var numbers []int
	for _, c := range capabilities() {
		if c.number == unix.CAP_NET_RAW && network == NetworkHost {
			continue
		}
		numbers = append(numbers, c.number)
	}
	return numbers
}

// dropBounding limits what this thread and its children can ever have. Numbers this program has no name for go too: the loop
// ends where the kernel does.
func dropBounding(keep []int) error {
	for c := 0; ; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			if err == unix.EINVAL && c > unix.CAP_AUDIT_READ {
				return nil
			}
			return err
		}
	}
}

// setCaps gives this thread exactly these capabilities, none of them inheritable or ambient (CVE-2022-24769).
func setCaps(keep []int) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, data [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for _, c := range keep {
		// A container around us may have fewer; asking for more than one has is EPERM for all.
		bit := uint32(1) << (c % 32) & have[c/32].Permitted
		data[c/32].Permitted |= bit
		data[c/32].Effective |= bit
	}
	return unix.Capset(&header, &data[0])
}
