package sandbox

import "errors"

// NetworkDefault is a network of the step's own where one can be had without a change that other programs on the host notice, and
// else the host's. ChooseNetwork turns it into one of the others.
const NetworkDefault = "default"

// NetworkChoice is what a name of a network stands for on this machine.
type NetworkChoice struct {
	Network string // for Spec
	Why     string // where it is the host's for want of another: why
}

// ChooseNetwork finds the network of steps that ask for one. The first call for NetworkDefault may take some seconds, where a program
// has to be tried; the others get its answer.
func (r *Runner) ChooseNetwork(asked string) (NetworkChoice, error) {
	switch asked {
	case NetworkDefault:
		return r.ladder(), nil
	case NetworkBridge:
		if err := bridgeRights(); err != nil {
			return NetworkChoice{}, err
		}
		return NetworkChoice{Network: asked}, r.nets.forward(r.cfg.Notice)
	}
	return NetworkChoice{Network: asked}, nil
}

// climb is the ladder of the default network. What is found usable has been tried: with a child, which waits for a step then.
func (r *Runner) climb() NetworkChoice {
	var why []error
	for _, rung := range []struct {
		network string
		usable  func() error
	}{{NetworkBridge, harmlessBridge}, {NetworkSlirp, r.nets.canTunnel}} {
		err := rung.usable()
		if err == nil {
			err = r.try(rung.network)
		}
		if err == nil {
			return NetworkChoice{Network: rung.network}
		}
		why = append(why, err)
	}
	return NetworkChoice{Network: NetworkHost, Why: reasons(why)}
}

func reasons(errs []error) string {
	text := ""
	for _, err := range errs {
		if text != "" {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

// bridgeRights says why no interface can be made on the host's side.
func bridgeRights() error {
	if inUserNS() && !ownNetwork().OK() {
		return &SetupError{Op: "make network", Detail: "a bridge takes root of the machine; without root there is slirp4netns, the host's network or none"}
	}
	return nil
}

// harmlessBridge says why a bridge would change the host, or would not work unless something of the host was changed.
func harmlessBridge() error {
	if err := bridgeRights(); err != nil {
		return err
	}
	if kernelSetting(forwardSetting) != "1" {
		return errNotForwarding
	}
	table, err := closedForwarding()
	if err != nil {
		return setupError("read packet filter", "", err)
	}
	if table != "" {
		return &SetupError{Op: "make network", Detail: "the packet filter table " + table + " drops what the host forwards"}
	}
	return nil
}

const forwardSetting = "net/ipv4/ip_forward"

var errNotForwarding = errors.New("the machine forwards no packets (net.ipv4.ip_forward)")

// plainKind is a step without limits and devices in a network.
func plainKind(network string) (kind, error) {
	var plain Privileges
	privileges, err := plain.resolve(network)
	if err != nil {
		return kind{}, err
	}
	joined, err := networkID(network)
	return kind{network: network, joined: joined, privileges: privileges}, err
}

// try starts a child in a network, and keeps it for the next step.
func (r *Runner) try(network string) error {
	k, err := plainKind(network)
	if err != nil {
		return err
	}
	p, err := r.start(k)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spares = append(r.spares, p)
	return nil
}

// expect says what the first step will need, where none has come yet. What is wrong with its network the step itself will tell.
func (r *Runner) expect(asked string) {
	choice, err := r.ChooseNetwork(asked)
	if err != nil {
		return
	}
	k, err := plainKind(choice.Network)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ran {
		r.last = k
	}
}
