package remote

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"gobuild/internal/netguard"
)

// links are the connections of a client, by what they may reach.
type links struct {
	named  *http.Transport // hosts that the user named: any address but link-local ones
	public *http.Transport // hosts that a server named
	open   *http.Transport // the same, by a proxy or where private addresses are allowed
}

func (l *links) all() []*http.Transport { return []*http.Transport{l.named, l.public, l.open} }

// connections makes the transports once they are needed.
func (c *Client) connections() (*links, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links != nil {
		return c.links, nil
	}
	roots, err := netguard.Roots(c.cfg.CAFile)
	if err != nil {
		return nil, err
	}
	l := &links{named: c.transport(roots, notLinkLocal), public: c.transport(roots, onlyPublic), open: c.transport(roots, notLinkLocal)}
	l.named.Proxy, l.open.Proxy = c.cfg.Proxy, c.cfg.Proxy
	c.links = l
	return l, nil
}

func (c *Client) transport(roots *x509.CertPool, check func(netip.Addr) error) *http.Transport {
	dialer := &net.Dialer{Timeout: c.times.dial, KeepAlive: 30 * time.Second, Control: netguard.Control(check)}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.times.dial,
		MaxResponseHeaderBytes: maxHeaders,
		IdleConnTimeout:        90 * time.Second,
		// Files are stored as they are sent; a body that was packed for the way could unpack without end.
		DisableCompression: true,
	}
}

// via chooses the connections for a request. Behind a proxy it is the proxy that resolves names, so only addresses in the
// URL itself can be judged.
func (c *Client) via(l *links, named *url.URL, req *http.Request) http.RoundTripper {
	hostname := req.URL.Hostname()
	switch {
	case strings.EqualFold(hostname, named.Hostname()):
		return l.named
	case c.cfg.AllowPrivate, c.proxied(req) && !netguard.IsAddress(hostname) && !netguard.IsLoopback(hostname):
		return l.open
	}
	return l.public
}

func (c *Client) proxied(req *http.Request) bool {
	if c.cfg.Proxy == nil {
		return false
	}
	p, err := c.cfg.Proxy(req)
	return err == nil && p != nil
}

// notLinkLocal is for hosts that the user named.
func notLinkLocal(a netip.Addr) error {
	if netguard.IsLinkLocal(a) {
		return refuse("", "%s is a link-local address, where clouds keep their metadata", a)
	}
	return nil
}

// onlyPublic is for hosts that a server named.
func onlyPublic(a netip.Addr) error {
	if !netguard.IsPublic(a) {
		return refuse("if servers may send this machine to private addresses, use --allow-private", "the server leads to the private address %s", a)
	}
	return nil
}
