package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The networks that are joined, not made.
const (
	NetworkPath      = "ns:"        // and the path of a network namespace, as /run/netns/NAME
	NetworkContainer = "container:" // and the number of a process in it
)

// joinedPath is the file of the namespace that a network names; "" where it names none.
func joinedPath(network string) string {
	if path, ok := strings.CutPrefix(network, NetworkPath); ok {
		return path
	}
	if pid, ok := strings.CutPrefix(network, NetworkContainer); ok {
		return "/proc/" + pid + "/ns/net"
	}
	return ""
}

// foreign says whether a network is one that others use too: the host's or a joined one. Its traffic is not the step's alone.
func foreign(network string) bool { return network == NetworkHost || joinedPath(network) != "" }

// checkNetwork refuses names of networks that mean nothing.
func checkNetwork(network string) error {
	bad := func(kind error, detail string) error {
		return &SetupError{Op: "check step", Kind: kind, Detail: fmt.Sprintf("network %q%s", network, detail)}
	}
	pid, container := strings.CutPrefix(network, NetworkContainer)
	path, named := strings.CutPrefix(network, NetworkPath)
	switch {
	case network == NetworkHost, network == NetworkNone, network == NetworkBridge, network == NetworkSlirp:
		return nil
	case container:
		if n, err := strconv.ParseUint(pid, 10, 31); err != nil || n == 0 || strconv.FormatUint(n, 10) != pid {
			return bad(ErrInvalid, ": want the number of a process")
		}
		return nil
	case named:
		if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
			return bad(ErrInvalid, ": want an absolute path")
		}
		return nil
	}
	return bad(ErrUnsupported, "")
}

// nsID tells network namespaces apart, whatever their paths are. The zero value is none.
type nsID struct{ dev, ino uint64 }

// openNetwork opens the namespace that a network names, and says which one it is; nil where it names none. The kernel is asked
// whether it is one: setns(2) on another kind of namespace would put the child elsewhere.
func openNetwork(network string) (*os.File, nsID, error) {
	path := joinedPath(network)
	if path == "" {
		return nil, nsID{}, nil
	}
	fail := func(err error) (*os.File, nsID, error) { return nil, nsID{}, setupError("join network", path, err) }
	// Not a FIFO or device that would block or do something when it is opened.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), path)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st)); err != nil {
		_ = f.Close()
		return fail(err)
	}
	kind := 0
	if fs.Type == unix.NSFS_MAGIC {
		kind, err = unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	}
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return fail(errNoNetwork)
	}
	return f, nsID{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // Dev's type differs between architectures
}

// networkID says which namespace a network names.
func networkID(network string) (nsID, error) {
	ns, id, err := openNetwork(network)
	if ns != nil {
		_ = ns.Close()
	}
	return id, err
}

var errNoNetwork = fmt.Errorf("%w: it is not a network namespace", ErrInvalid)

// enterNetwork moves this thread, which must be locked and end afterwards, into a namespace.
func enterNetwork(ns *os.File) error {
	err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) && inUserNS() {
		return &SetupError{Op: "join network", Path: ns.Name(), Kind: ErrUnsupported, Detail: "from a user namespace, without root"}
	}
	return inContextOf("join network", ns.Name(), err)
}
