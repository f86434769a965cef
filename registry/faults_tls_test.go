package registry_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"gobuild/registry"
)

// aborting ends connections of a listener as they begin: after the first bytes of TLS, by a reset or without.
type aborting struct {
	net.Listener
	n atomic.Int64
}

func (a *aborting) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	for ; err == nil; conn, err = a.Listener.Accept() {
		a.n.Add(1)
		_, _ = io.ReadFull(conn, make([]byte, 5)) // the head of a TLS record
		if a.n.Load()%2 == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		_ = conn.Close()
	}
	return conn, err
}

// TestHostileF26_HandshakesThatAreAborted: TLS that is never agreed on is an error of the network after some tries, never without end.
func TestHostileF26_HandshakesThatAreAborted(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	aborts := &aborting{Listener: s.Listener}
	s.Listener = aborts
	s.StartTLS()
	t.Cleanup(s.Close)
	c := client(t, registry.Config{Insecure: []string{s.Listener.Addr().String()}, Retries: 3, RetryDelay: time.Millisecond})
	_, err := pull(t.Context(), c, parse(t, s.Listener.Addr().String()+"/a"), describe("", blob))
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := aborts.n.Load(); n < 2 || n > 30 {
		t.Errorf("%d connections", n)
	}
}
