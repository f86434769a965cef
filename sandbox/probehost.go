package sandbox

import (
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/userns"
)

// hostFacts reads what needs no attempt.
func hostFacts(cfg ProbeConfig) Facts {
	f := Facts{
		UID: os.Geteuid(), UserNS: inUserNS(), PIDNS: inPIDNamespace(), Container: container(), Missing: missingCaps(),
		Network: ownNetwork(),
		Helpers: map[string]string{}, Forwarding: kernelSetting("net/ipv4/ip_forward") == "1",
		MaxUserNS: kernelSetting("user/max_user_namespaces"),
		AppArmor:  kernelSetting("kernel/apparmor_restrict_unprivileged_userns") == "1",
		CloneOff:  kernelSetting("kernel/unprivileged_userns_clone") == "0",
		Resolver:  resolverFacts(),
	}
	f.SubUIDs, f.SubGIDs = subordinate(userns.SubUIDs, "/proc/self/uid_map"), subordinate(userns.SubGIDs, "/proc/self/gid_map")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel, f.Machine = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	for _, name := range []string{"newuidmap", "newgidmap", NetworkSlirp} {
		if path := program(name, cfg.Path); path != "" {
			f.Helpers[name] = path
		}
	}
	f.ForwardDrop, _ = closedForwarding() // the attempt at the packet filter itself tells what is wrong with it
	f.Binfmt, f.BinfmtOn = binfmtHandlers("/proc/sys/fs/binfmt_misc")
	return f
}

// initialPIDNS is the inode of the machine's first pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const initialPIDNS = 0xEFFFFFFC

func inPIDNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != initialPIDNS
}

// container names what is around us by the files that the engines leave for that purpose.
func container() string {
	for _, sign := range []struct{ path, name string }{
		{"/var/run/secrets/kubernetes.io", "kubernetes"}, {"/run/.containerenv", "podman"}, {"/.dockerenv", "docker"},
	} {
		if _, err := os.Lstat(sign.path); err == nil {
			return sign.name
		}
	}
	if data, err := readBounded("/run/systemd/container"); err == nil { // systemd's Container Interface
		return strings.TrimSpace(string(data))
	}
	return ""
}

// missingCaps compares the effective capabilities with those that our own work needs.
func missingCaps() []string {
	data, err := readBounded("/proc/self/status")
	if err != nil {
		return nil
	}
	var have uint64
	for line := range strings.Lines(string(data)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			have, err = strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	if err != nil {
		return nil
	}
	return ((capsOf(unix.CAP_SYS_ADMIN) | defaultCaps()) &^ capSet(have)).names()
}

// subordinate counts the ids that a user has beside the own one: those of a file like /etc/subuid, or in a user namespace those that
// are mapped into it.
func subordinate(file, mapped string) uint64 {
	if inUserNS() {
		return max(mappedIDs(mapped), 1) - 1
	}
	name := ""
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		name = u.Username
	}
	list, err := userns.Ranges(file, os.Geteuid(), name)
	if err != nil {
		return 0
	}
	return userns.Sum(list)
}

// mappedIDs sums the lengths of a map of ids (user_namespaces(7)).
func mappedIDs(path string) uint64 {
	data, err := readBounded(path)
	if err != nil {
		return 0
	}
	var sum uint64
	for line := range strings.Lines(string(data)) {
		field := strings.Fields(line)
		if len(field) == 3 {
			n, _ := strconv.ParseUint(field[2], 10, 32)
			sum += n
		}
	}
	return sum
}

// ownNetwork tries to enter the network namespace that we are in already, which only those may who may change it (setns(2)).
func ownNetwork() Attempt {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		_ = unix.Close(fd)
	}
	return Attempt{Tried: true, Why: errText(err)}
}

func kernelSetting(name string) string {
	data, err := readBounded(filepath.Join("/proc/sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// program finds an executable file in directories.
func program(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// binfmtHandlers reads binfmt_misc (Documentation/admin-guide/binfmt-misc.rst): a file for each handler.
func binfmtHandlers(dir string) (list []BinfmtHandler, mounted bool) {
	if _, err := os.Stat(filepath.Join(dir, "register")); err != nil {
		return nil, false
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, true
	}
	for _, e := range entries {
		if e.Name() == "register" || e.Name() == "status" {
			continue
		}
		data, err := readBounded(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		h := BinfmtHandler{Name: e.Name()}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch key {
			case "enabled":
				h.Enabled = true
			case "interpreter":
				h.Interpreter = value
			case "flags:":
				h.Flags = value
			}
		}
		list = append(list, h)
	}
	return list, true
}

func resolverFacts() ResolverFacts {
	data, err := readBounded(hostResolv)
	if err != nil {
		return ResolverFacts{Why: err.Error()}
	}
	return ResolverFacts{Loopback: servers(data, true), Others: servers(data, false)}
}

// BinfmtHandlers lists what runs programs of other machines here; nothing where binfmt_misc is not mounted.
func BinfmtHandlers() []BinfmtHandler {
	list, _ := binfmtHandlers("/proc/sys/fs/binfmt_misc")
	return list
}
