package builder

import (
	"errors"
	"fmt"

	"gobuild/sandbox"
)

// The networks that RUN and --network ask for, beside those that are joined (FEATURES G16).
const (
	networkDefault = "default"
	networkHost    = "host"
	networkNone    = "none"
)

// hostNotice says that steps are less apart from the host than they could be.
const hostNotice = "RUN steps use the host's network (--network=none gives them none)"

// network decides where a step's packets go, of what it or the build asks for.
func (bd *build) network(mode string) (string, error) {
	runner, err := bd.sandboxRunner(bd.opt.Run)
	if err != nil {
		return "", err
	}
	choice, err := runner.ChooseNetwork(mode)
	if err != nil || mode != networkDefault || choice.Network != sandbox.NetworkHost {
		return choice.Network, err
	}
	if bd.opt.Run.NetworkStrict {
		return "", &hinted{err: fmt.Errorf("%w: %s", errNoNetwork, choice.Why), hint: "gobuild doctor tells what helps; or choose with --network=bridge, none or host"}
	}
	bd.notice(hostNotice)
	return choice.Network, nil
}

// errNoNetwork says that --network-strict cannot be kept.
var errNoNetwork = errors.New("no network apart from the host's can be had for RUN steps")
