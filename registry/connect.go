package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"gobuild/internal/netguard"
	"gobuild/registry/hostconf"
)

// scheme finds out how a registry speaks. It is https for all but loopback addresses and hosts listed as
// insecure: those are asked with one handshake, and a host that does not answer in TLS is spoken to in
// plain HTTP. A certificate that does not verify is no reason for that.
func (c *Client) scheme(o *operation, s hostconf.Server) (string, error) {
	name := s.Host
	hostname, port := splitHost(name)
	switch {
	case s.Scheme != "":
		return s.Scheme, nil // the user has said it
	case !netguard.IsLoopback(hostname) && !c.isInsecure(s):
		return "https", nil
	}
	if c.cfg.Transport != nil || c.proxied(name) {
		return "http", nil // there is nothing to shake hands with
	}
	if port != "" {
		return c.probe(o, net.JoinHostPort(hostname, port))
	}
	scheme, err := c.probe(o, net.JoinHostPort(hostname, "443"))
	if err != nil && o.ctx.Err() == nil {
		return "http", nil // nothing at the https port; the http port is tried by the request itself
	}
	return scheme, err
}

func (c *Client) proxied(name string) bool {
	if c.cfg.Proxy == nil {
		return false
	}
	p, err := c.cfg.Proxy(&http.Request{URL: &url.URL{Scheme: "http", Host: name}})
	return err == nil && p != nil
}

// probe starts a TLS handshake. Nothing is sent over the connection, so the certificate does not matter.
func (c *Client) probe(o *operation, address string) (string, error) {
	ctx, cancel := context.WithTimeout(o.ctx, dialTime)
	defer cancel()
	conn, err := (&net.Dialer{Control: netguard.Control(notLinkLocal)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer conn.Close()
	t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only asks whether it is TLS
	err = t.HandshakeContext(ctx)
	var notTLS tls.RecordHeaderError
	switch {
	case err == nil:
		return "https", nil
	case o.ctx.Err() != nil:
		return "", context.Cause(o.ctx)
	case errors.As(err, &notTLS), errors.Is(err, io.EOF), isReset(err):
		return "http", nil
	default:
		return "https", nil // TLS of some kind; the request will say what is wrong
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "read" && !op.Timeout() && !strings.Contains(op.Err.Error(), "tls:")
}

// isInsecure says whether a server's certificate need not be verified.
func (c *Client) isInsecure(s hostconf.Server) bool {
	return c.cfg.InsecureAll || s.Insecure || c.isListed(s.Host)
}

// isListed says whether a host is listed in Config.Insecure, where an entry without a port means all ports.
func (c *Client) isListed(name string) bool {
	hostname, _ := splitHost(name)
	return containsFold(c.cfg.Insecure, name) || containsFold(c.cfg.Insecure, hostname)
}

// splitHost takes host[:port] apart, with [] around IPv6 addresses.
func splitHost(name string) (hostname, port string) {
	if h, p, err := net.SplitHostPort(name); err == nil {
		return h, p
	}
	return strings.Trim(name, "[]"), ""
}

// connections makes the transports of a server. Its client certificates are shown to its own host alone.
func (c *Client) connections(s hostconf.Server) (links, func(), error) {
	if t := c.cfg.Transport; t != nil {
		return links{t, t, t}, func() {}, nil
	}
	roots, err := netguard.Roots(c.cfg.CAFile)
	if err != nil {
		return links{}, nil, err
	}
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	trusting := conf.Clone()
	trusting.InsecureSkipVerify = c.isInsecure(s) //nolint:gosec // the user listed the host
	if err := serverFiles(trusting, s); err != nil {
		return links{}, nil, err
	}
	own, public, open := c.transport(trusting, notLinkLocal), c.transport(conf, onlyPublic), c.transport(conf, notLinkLocal)
	own.Proxy, open.Proxy = c.cfg.Proxy, c.cfg.Proxy
	closeAll := func() {
		for _, t := range []*http.Transport{own, public, open} {
			t.CloseIdleConnections()
		}
	}
	return links{own, public, open}, closeAll, nil
}

// serverFiles adds a server's own authorities and client certificates.
func serverFiles(conf *tls.Config, s hostconf.Server) error {
	if len(s.CA) > 0 && conf.RootCAs == nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		conf.RootCAs = pool
	} else if len(s.CA) > 0 {
		conf.RootCAs = conf.RootCAs.Clone()
	}
	for _, name := range s.CA {
		pem, err := os.ReadFile(name)
		if err == nil && !conf.RootCAs.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate", name)
		}
		if err != nil {
			return fmt.Errorf("%w: authority of %s: %w", ErrConfig, s.Host, err)
		}
	}
	for _, p := range s.Pairs {
		cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return fmt.Errorf("%w: client certificate of %s: %s, %s: %w", ErrConfig, s.Host, p.Cert, p.Key, err)
		}
		conf.Certificates = append(conf.Certificates, cert)
	}
	return nil
}

func (c *Client) transport(conf *tls.Config, check func(netip.Addr) error) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second, Control: netguard.Control(check)}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    dialTime,
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConnsPerHost:    maxRequests,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		// Blobs are stored as they are sent; a body that was packed for the way could unpack without end.
		DisableCompression: true,
	}
}
