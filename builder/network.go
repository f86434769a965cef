package builder

import "gobuild/sandbox"

// The networks that RUN and --network ask for, beside those that are joined (FEATURES G16).
const (
	networkDefault = "default"
	networkHost    = "host"
	networkNone    = "none"
)

// network decides where a step's packets go. An own network comes later; until then the default is the host's, and said.
func (bd *build) network(mode string) string {
	if mode != networkDefault {
		return mode
	}
	bd.notice("RUN steps use the host's network (--network=none gives them none)")
	return sandbox.NetworkHost
}
