package builder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
	"gobuild/sandbox"
)

// defaultSSHMode is FEATURES B26.
const defaultSSHMode = 0o600

// ssh gives a step a socket that leads to the user's agent for as long as the step runs. The agent's own socket is
// never mounted: its owner and mode are not the step's, and a step must not keep it (HOSTILE R-18).
func (set *mountSet) ssh(ctx context.Context, m *openMount, spec *sandbox.Spec) error {
	agent, ok := set.sr.opt.SSH[m.ID]
	if !ok {
		if m.Required {
			return usage{&hinted{err: fmt.Errorf("ssh agent %q was not given", m.ID), hint: fmt.Sprintf("add --ssh %s", m.ID)}}
		}
		return nil
	}
	proxy, err := listenAgent(set.sr.cfg.Root, agent)
	if err != nil {
		return fmt.Errorf("forward ssh agent: %w", err)
	}
	set.cleanup = append(set.cleanup, proxy.close)
	uid, gid := int(value(m.UID, 0)), int(value(m.GID, 0))
	if set.sr.cfg.RecordOwners {
		uid, gid = 0, 0 // the one id, which is that of whoever the step's user is
	}
	if err := proxy.own(value(m.Mode, defaultSSHMode), uid, gid); err != nil {
		return err
	}
	proxy.wg.Go(func() { proxy.serve(ctx) }) // until close
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "bind", SourceFile: proxy.socket, Target: m.Target})
	const variable = "SSH_AUTH_SOCK="
	for _, e := range spec.Env {
		if strings.HasPrefix(e, variable) {
			return nil
		}
	}
	spec.Env = append(spec.Env, variable+m.Target)
	return nil
}

// agentProxy relays connections from a socket of its own to an agent's.
type agentProxy struct {
	agent    string
	dir      string
	listener *net.UnixListener
	socket   *os.File // path descriptor of the socket file

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]bool // nil when closed
}

func listenAgent(root, agent string) (*agentProxy, error) {
	dir, err := os.MkdirTemp(root, "agent-")
	if err != nil {
		return nil, err
	}
	p := &agentProxy{agent: agent, dir: dir, conns: map[net.Conn]bool{}}
	d, err := os.Open(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer d.Close()
	// By descriptor: a socket address holds 107 bytes, a state directory's path may be longer (unix(7)).
	name := fmt.Sprintf("/proc/self/fd/%d/agent", d.Fd())
	if p.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.listener.SetUnlinkOnClose(false) // the whole folder goes
	fd, err := unix.Open(filepath.Join(dir, "agent"), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		p.close()
		return nil, err
	}
	p.socket = os.NewFile(uintptr(fd), "agent socket")
	return p, nil
}

func (p *agentProxy) own(mode uint32, uid, gid int) error {
	name := filepath.Join(p.dir, "agent")
	return errors.Join(os.Chown(name, uid, gid), unix.Chmod(name, mode))
}

func (p *agentProxy) serve(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.track(conn) {
			_ = conn.Close()
			continue // Accept says when closing has begun
		}
		p.wg.Go(func() { p.relay(ctx, conn) })
	}
}

// track keeps a connection for close; false when closing has begun, and when there are too many.
func (p *agentProxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil || len(p.conns) >= 2*maxAgentConns {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *agentProxy) forget(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *agentProxy) relay(ctx context.Context, conn net.Conn) {
	defer p.forget(conn)
	var d net.Dialer
	agent, err := d.DialContext(ctx, "unix", p.agent)
	if err != nil {
		return // the step's ssh sees an agent that hangs up
	}
	if !p.track(agent) {
		_ = agent.Close()
		return
	}
	defer p.forget(agent)
	// An error ends the connection: the step's ssh sees an agent that hangs up.
	_ = rescue.Do(func() error { return relayRequests(conn, agent) })
}

func (p *agentProxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	p.wg.Wait()
	if p.socket != nil {
		_ = p.socket.Close()
	}
	_ = os.RemoveAll(p.dir) // an empty folder is all that a failure leaves
}
