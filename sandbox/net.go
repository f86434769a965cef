package sandbox

import (
	"os"
	"sync"
)

// networks are what a Runner has made for the networks of its steps.
type networks struct {
	program string // slirp4netns; may be empty

	mu     sync.Mutex
	outlet *outlet
	slirp  *slirpPlan
}

// tunnel gives what processes of slirp4netns need to know.
func (n *networks) tunnel() (*slirpPlan, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slirp != nil {
		return n.slirp, nil
	}
	s, err := openSlirp(n.program)
	if err == nil {
		n.slirp = s
	}
	return s, err
}

// forward makes the host forward packets, where it does not yet.
func (n *networks) forward(notice func(string)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kernelSetting(forwardSetting) == "1" {
		return nil
	}
	if err := os.WriteFile("/proc/sys/"+forwardSetting, []byte("1"), 0); err != nil {
		return setupError("turn on forwarding of packets", forwardSetting, err)
	}
	notice("net.ipv4.ip_forward is on from now on, which --network=bridge needs")
	return nil
}

// bridge gives the host's side of networks of steps' own, which the first of them makes.
func (n *networks) bridge() (*outlet, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outlet != nil {
		return n.outlet, nil
	}
	o, err := openOutlet()
	if err == nil {
		n.outlet = o
	}
	return o, err
}

// close removes it all. The children must have ended.
func (n *networks) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outlet == nil {
		return nil
	}
	err := n.outlet.close()
	n.outlet = nil
	return err
}

// stepNet is the network of one child.
type stepNet struct {
	own  bool       // a new namespace
	join *os.File   // or this one; else the host's
	link *stepLink  // the way out of a new one; may be nil
	out  *linkSetup // what the child is told of it
	plan *slirpPlan

	mu    sync.Mutex
	over  bool
	slirp *slirp
}

// open prepares the network of a child.
func (n *networks) open(k *kind) (*stepNet, error) {
	net := &stepNet{own: !foreign(k.network)}
	switch k.network {
	case NetworkBridge:
		o, err := n.bridge()
		if err != nil {
			return nil, err
		}
		if net.link, err = o.lease(k.gateway); err != nil {
			return nil, err
		}
		net.out = net.link.setup()
		return net, nil
	case NetworkSlirp:
		plan, err := n.tunnel()
		if err != nil {
			return nil, err
		}
		net.plan, net.out = plan, plan.setup(k.gateway)
		return net, nil
	}
	ns, id, err := openNetwork(k.network)
	if err != nil {
		return nil, err
	}
	if id != k.joined {
		_ = ns.Close()
		return nil, &SetupError{Op: "join network", Path: joinedPath(k.network), Detail: "it has become another one while the step was started"}
	}
	net.join = ns
	return net, nil
}

// close is called when the child has started, or could not be.
func (n *stepNet) close() {
	if n.join != nil {
		_ = n.join.Close()
	}
}

// attach gives a child, which has started and waits, its interface.
func (n *stepNet) attach(pid int) error {
	if n.link == nil {
		return nil
	}
	return n.link.attach(pid)
}

// connect starts the program behind the interface, where there is one.
func (n *stepNet) connect(pid int) (err error) {
	if n.plan == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return &SetupError{Op: "start " + NetworkSlirp, Kind: ErrDied}
	}
	n.slirp, err = n.plan.start(pid)
	return err
}

// release is called when the child has ended, or could not be started.
func (n *stepNet) release(report func(error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return
	}
	n.over = true
	if n.link != nil {
		report(n.link.remove())
	}
	if n.slirp != nil {
		report(n.slirp.stop())
	}
}
