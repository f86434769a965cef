package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probeName is argv[0] of a probe's child, and the program that a probe's step lacks.
const probeName = "gobuild-sandbox-probe"

// The kinds of children.
const (
	probeUser = "user" // in a user namespace
	probeNet  = "net"  // in a network namespace
)

// probeReply is what a child says: reasons, "" for what worked.
type probeReply struct {
	Mounts, Overlay, Bridge, NetFilter string
}

// isProbe knows the arguments of a probe's child.
func isProbe(argv []string) bool { return len(argv) == 5 && argv[0] == probeName }

// IsChild says whether a process with these arguments is a child of Probe: its main must call ChildMain before anything else.
func IsChild(argv []string) bool { return isProbe(argv) }

// ChildMain is the life of such a child. It never returns.
func ChildMain() { unix.Exit(probeMain(os.Args)) }

// child starts this program in new namespaces and reads what it found. The child, and with it its namespaces and mounts, ends
// with ctx or with this process.
func (p *prober) child(ctx context.Context, kind string, d layerDirs, reply *probeReply) error {
	runtime.LockOSThread() // the child gets SIGKILL when its parent's thread ends, prctl(2); the goroutine ends with the child
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.cfg.Executable)
	cmd.Args = []string{probeName, kind, d.lower, d.upper, d.work}
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.Dir = "/"
	cmd.WaitDelay = probeGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Cloneflags: unix.CLONE_NEWNET}
	if kind == probeUser || os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWNET
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout = &limitedBuffer{&out}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("create namespaces: %w", rootCause(err))
	}
	return json.Unmarshal(out.Bytes(), reply)
}

// limitedBuffer keeps what one reply can have.
type limitedBuffer struct{ b *bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxResolv {
		return 0, io.ErrShortBuffer
	}
	return l.b.Write(p)
}

// rootCause drops "fork/exec PATH", which names our own binary.
func rootCause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// probeMain is the life of a probe's child.
func probeMain(argv []string) int {
	var reply probeReply
	switch argv[1] {
	case probeUser:
		probeMounts(layerDirs{argv[2], argv[3], argv[4]}, &reply)
	case probeNet:
		probeNetwork(&reply)
	}
	data, err := json.Marshal(reply)
	if err != nil {
		return 1
	}
	if _, err := os.Stdout.Write(data); err != nil {
		return 1
	}
	return 0
}

// probeMounts tries what a step's init does in a user namespace: a /proc of its own, a tmpfs, and the overlay.
func probeMounts(d layerDirs, reply *probeReply) {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err != nil {
		err = fmt.Errorf("make mounts private: %w", err)
	}
	for _, name := range []string{"tmpfs", "proc"} {
		if err == nil {
			var fd int
			if fd, err = newMount(name, attrPseudo); err == nil {
				_ = unix.Close(fd)
			}
		}
	}
	reply.Mounts = errText(err)
	if err != nil || d.lower == "" {
		return
	}
	fd, err := mountOverlay([]string{d.lower}, d.upper, d.work)
	if err == nil {
		err = tryWhiteout(fd, d.upper)
		_ = unix.Close(fd)
	}
	reply.Overlay = errText(err)
}

// probeNetwork tries to make a pair of interfaces, and a table of the packet filter.
func probeNetwork(reply *probeReply) {
	reply.Bridge = errText(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "gbprobe0"}, PeerName: "gbprobe1"}))
	first := pools()[0]
	w := walls{block: &block{prefix: netip.PrefixFrom(first.Addr(), 24)}}
	reply.NetFilter = errText(w.build())
}
