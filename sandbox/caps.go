package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capSet is a set of capabilities, by number.
type capSet uint64

// everyCap stands for all that the kernel has: those that this machine or the container around us lacks are left out in the end.
const everyCap = ^capSet(0)

func capsOf(numbers ...int) (set capSet) {
	for _, n := range numbers {
		set |= 1 << n
	}
	return set
}

func (s capSet) has(number int) bool { return s>>number&1 != 0 }

// numbers are those of the set that have a name.
func (s capSet) numbers() []int {
	var out []int
	for n := range capNames() {
		if s.has(n) {
			out = append(out, n)
		}
	}
	return out
}

// upTo are the numbers in the set up to one, with a name or without.
func (s capSet) upTo(last int) []int {
	var out []int
	for n := range last + 1 {
		if s.has(n) {
			out = append(out, n)
		}
	}
	return out
}

// names are as a seccomp profile has them.
func (s capSet) names() []string {
	all := capNames()
	var out []string
	for _, n := range s.numbers() {
		out = append(out, "CAP_"+all[n])
	}
	return out
}

// defaultCaps are what the container engines leave to root in a container.
func defaultCaps() capSet {
	return capsOf(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
		unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP)
}

// capNames are the names of all capabilities, each at its number (capabilities(7), linux/capability.h).
func capNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
		"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
		"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
		"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
		"PERFMON", "BPF", "CHECKPOINT_RESTORE",
	}
}

// capNamed finds a capability by its name, with or without CAP_, in any case. ALL is all of them.
func capNamed(name string) (capSet, error) {
	short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	if short == "ALL" {
		return everyCap, nil
	}
	if n := slices.Index(capNames(), short); n >= 0 {
		return capsOf(n), nil
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

// Confining says whether a capability can be added to a step that is still to be kept in its sandbox: the others reach mounts,
// devices, processes or settings of the machine. It is false for unknown names.
func Confining(capability string) bool {
	harmless := defaultCaps() | capsOf(unix.CAP_IPC_LOCK, unix.CAP_IPC_OWNER, unix.CAP_LEASE, unix.CAP_LINUX_IMMUTABLE, unix.CAP_NET_BROADCAST, unix.CAP_SYS_NICE)
	set, err := capNamed(capability)
	return err == nil && set&^harmless == 0
}

// CheckCapability says whether there is a capability of this name.
func CheckCapability(name string) error {
	_, err := capNamed(name)
	return err
}
