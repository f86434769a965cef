package sandbox

import (
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Privileges are what the processes of a step may do. The zero value is what the container engines leave to a container.
type Privileges struct {
	// Insecure takes the walls away that keep a step from the machine: all capabilities that gobuild itself has, for every
	// user, no system call filter, nothing of /proc and /sys masked or read-only, and device nodes that work.
	Insecure bool
	// AddCaps and DropCaps change the default set, by names like NET_ADMIN, CAP_NET_ADMIN or ALL. Additions come first.
	AddCaps, DropCaps []string
	NoNewPrivileges   bool   // setuid programs give nothing (sudo does not work)
	Unconfined        bool   // no system call filter
	Seccomp           string // the filter, as JSON in Docker's form, in place of the default one
}

// privileges are Privileges resolved, as the child gets them.
type privileges struct {
	Insecure        bool
	Caps            capSet
	NoNewPrivileges bool
	unfiltered      bool
	profile         string
}

// resolve checks what was asked for and adds what the network decides: in the host's or a joined one, NET_RAW would read the
// traffic of others, so there it must be asked for.
func (p *Privileges) resolve(network string) (privileges, error) {
	out := privileges{Insecure: p.Insecure, Caps: defaultCaps(), NoNewPrivileges: p.NoNewPrivileges, unfiltered: p.Unconfined || p.Insecure, profile: p.Seccomp}
	if foreign(network) {
		out.Caps &^= capsOf(unix.CAP_NET_RAW)
	}
	for _, name := range p.AddCaps {
		set, err := capNamed(name)
		if err != nil {
			return out, err
		}
		out.Caps |= set
	}
	for _, name := range p.DropCaps {
		set, err := capNamed(name)
		if err != nil {
			return out, err
		}
		out.Caps &^= set
	}
	if p.Insecure {
		out.Caps = everyCap
	}
	switch {
	case p.Unconfined && p.Seccomp != "":
		return out, errors.New("a system call filter and none at once")
	case strings.IndexByte(p.Seccomp, 0) >= 0 || len(p.Seccomp) > maxProfile:
		return out, errors.New("the system call filter is not text of sensible length")
	}
	return out, nil
}

// filters compiles each system call filter once.
type filters struct {
	mu   sync.Mutex
	done map[filterKey][]byte
}

type filterKey struct {
	caps    capSet
	profile string
}

// of gives the program for privileges; nil is none.
func (f *filters) of(p privileges) ([]byte, error) {
	if p.unfiltered {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := filterKey{p.Caps, p.profile}
	if program, ok := f.done[key]; ok {
		return program, nil
	}
	program, err := compileFilter(p.Caps|capsOf(unix.CAP_NET_RAW), p.profile)
	if err == nil {
		if f.done == nil {
			f.done = map[filterKey][]byte{}
		}
		f.done[key] = program
	}
	return program, err
}
