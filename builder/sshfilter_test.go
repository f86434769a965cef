package builder

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// fakeAgent listens like an agent, and answers each message with its type and 200; asked has the types that it got.
type fakeAgent struct {
	path string

	mu    sync.Mutex
	asked []byte
	open  int
	most  int
}

func newFakeAgent(t *testing.T) *fakeAgent {
	t.Helper()
	a := &fakeAgent{path: filepath.Join(t.TempDir(), "a")}
	l, err := net.Listen("unix", a.path)
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { a.answer(conn) })
		}
	})
	t.Cleanup(func() { must(t, l.Close()); all.Wait() })
	return a
}

func (a *fakeAgent) count(by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open += by
	a.most = max(a.most, a.open)
}

func (a *fakeAgent) answer(conn net.Conn) {
	a.count(1)
	defer func() { a.count(-1); _ = conn.Close() }()
	for {
		m, err := readAgentMessage(conn)
		if err != nil {
			return
		}
		a.mu.Lock()
		a.asked = append(a.asked, m[4])
		a.mu.Unlock()
		if _, err := conn.Write([]byte{0, 0, 0, 2, m[4], 200}); err != nil {
			return
		}
	}
}

// dial connects to a proxy as a step does.
func (p *agentProxy) dial(t *testing.T) net.Conn {
	t.Helper()
	dir, err := os.Open(p.dir)
	must(t, err)
	defer dir.Close()
	t.Chdir(p.dir)
	conn, err := net.Dial("unix", "agent")
	must(t, err)
	return conn
}

func serveAgent(t *testing.T, a *fakeAgent) *agentProxy {
	t.Helper()
	p, err := listenAgent(t.TempDir(), a.path)
	must(t, err)
	p.wg.Go(func() { p.serve(t.Context()) })
	return p
}

// A step may use the keys of the user's agent, and do nothing to them: of all messages only those two get to the agent.
func TestHostileR18_AStepUsesAnAgentAndChangesNothingInIt(t *testing.T) {
	a := newFakeAgent(t)
	p := serveAgent(t, a)
	conn := p.dial(t)
	for kind := range 256 {
		body := append([]byte{byte(kind)}, bytes.Repeat([]byte{7}, kind)...)
		_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
		must(t, err)
		got, err := readAgentMessage(conn)
		must(t, err)
		want := []byte{0, 0, 0, 1, agentFailure}
		if kind == agentIdentities || kind == agentSign {
			want = []byte{0, 0, 0, 2, byte(kind), 200}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("message %d: %v, want %v", kind, got, want)
		}
	}
	must(t, conn.Close())
	for _, odd := range [][]byte{{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, agentSign}, {0, 4, 0, 1, agentSign}} {
		conn := p.dial(t)
		_, err := conn.Write(odd)
		must(t, err)
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%v: %d bytes", odd, n)
		}
		must(t, conn.Close())
	}
	p.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.asked, []byte{agentIdentities, agentSign}) {
		t.Errorf("the agent was asked %v", a.asked)
	}
}

// Connections without end take neither gobuild's descriptors nor the agent's.
func TestHostileR18_ConnectionsToAnAgentAreBounded(t *testing.T) {
	a := newFakeAgent(t)
	p := serveAgent(t, a)
	alive := 0
	for range 4 * maxAgentConns {
		conn := p.dial(t)
		defer conn.Close()
		if _, err := conn.Write([]byte{0, 0, 0, 1, agentIdentities}); err != nil {
			continue
		}
		if _, err := readAgentMessage(conn); err == nil {
			alive++
		}
	}
	p.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if alive == 0 || alive > maxAgentConns || a.most > maxAgentConns {
		t.Errorf("%d connections work, the agent has had %d", alive, a.most)
	}
}
