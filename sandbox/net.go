package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// stepNet is the network of one child.
type stepNet struct {
	own  bool     // a new namespace
	join *os.File // or this one; else the host's
}

// openNet prepares the network of a child.
func openNet(k *kind) (*stepNet, error) {
	n := &stepNet{own: !foreign(k.network)}
	ns, id, err := openNetwork(k.network)
	if err != nil {
		return nil, err
	}
	if id != k.joined {
		_ = ns.Close()
		return nil, &SetupError{Op: "join network", Path: joinedPath(k.network), Detail: "it has become another one while the step was started"}
	}
	n.join = ns
	return n, nil
}

func (n *stepNet) close() {
	if n.join != nil {
		_ = n.join.Close()
	}
}

// start calls a function that starts the child with the flags of clone(2) it is given, on a locked thread that is where the child
// is to be. A thread that cannot come back must not be used again, which only the end of the process ensures.
func (n *stepNet) start(flags uintptr, begin func(flags uintptr) error) error {
	if n.own {
		return begin(flags | unix.CLONE_NEWNET)
	}
	if n.join == nil {
		return begin(flags)
	}
	leave, err := enterNetwork(n.join)
	if err != nil {
		return setupError("join network", n.join.Name(), err)
	}
	err = begin(flags)
	if back := leave(); back != nil {
		panic("sandbox: a thread cannot return from a network namespace: " + back.Error())
	}
	return err
}
