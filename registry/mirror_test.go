package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/internal/registrytest"
	"gobuild/registry"
	"gobuild/registry/hostconf"
)

type notices struct {
	mu   sync.Mutex
	list []string
}

func (n *notices) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
}

func (n *notices) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.list, "\n")
}

// asked are the requests for manifests and blobs.
func asked(r *registrytest.Registry) string { return strings.Join(r.Requests(), "\n") }

func TestJ7_MirrorsInOrderThenTheOrigin(t *testing.T) {
	t.Parallel()
	origin, empty, full := registrytest.New(t), registrytest.New(t), registrytest.New(t)
	plain := client(t, registry.Config{})
	root := pushAll(t, plain, parse(t, origin.Host+"/app:1"))
	pushAll(t, plain, parse(t, full.Host+"/proxy/app:1"))
	origin.Forget()
	full.Forget()
	var said notices
	c := client(t, registry.Config{Notice: said.add, Hosts: hostconf.Config{Mirrors: map[string][]string{
		origin.Host: {"127.0.0.1:1", empty.Host, full.Host + "/proxy"},
	}}})
	checkPull(t, c, parse(t, origin.Host+"/app:1"), root)
	if got := asked(origin); got != "" {
		t.Errorf("the origin was asked although a mirror has all:\n%s", got)
	}
	if got := asked(full); !strings.Contains(got, "GET /v2/proxy/app/blobs/") || !strings.Contains(got, "ns="+strings.ReplaceAll(origin.Host, ":", "%3A")) {
		t.Errorf("the mirror was asked:\n%s", got)
	}
	if s := said.String(); strings.Count(s, "passed over") != 1 || !strings.Contains(s, "mirror 127.0.0.1:1 is passed over") {
		t.Errorf("notices:\n%s", s)
	}
	// Only the origin has this one, and pushes go nowhere else.
	other := pushAll(t, c, parse(t, origin.Host+"/new:1"))
	checkPull(t, c, parse(t, origin.Host+"/new:1"), other)
	if got := asked(full) + asked(empty); strings.Contains(got, "PUT") || strings.Contains(got, "POST") {
		t.Errorf("a mirror was pushed to:\n%s", got)
	}
}

// What a mirror sends is verified, also when it is cut and another server sends the rest.
func TestJ7_BadMirrorsGiveNoWrongBytes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		send func(http.ResponseWriter, []byte)
		ok   bool // of the first attempt
	}{
		"cut": {func(w http.ResponseWriter, b []byte) {
			_, _ = w.Write(b[:1000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, true},
		"500":         {func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusInternalServerError) }, true},
		"401":         {func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusUnauthorized) }, true},
		"wrong bytes": {func(w http.ResponseWriter, b []byte) { b = append([]byte{}, b...); b[7] ^= 1; _, _ = w.Write(b) }, false},
		"wrong and cut": {func(w http.ResponseWriter, b []byte) {
			_, _ = w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, false},
		"wrong length": {func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Content-Length", "3")
			_, _ = w.Write([]byte("abc"))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layer, _, _ := parts()
			origin := registrytest.New(t)
			pushAll(t, client(t, registry.Config{}), parse(t, origin.Host+"/app:1"))
			mirror := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if w.Header().Set("Content-Length", fmt.Sprint(len(layer))); name == "500" || name == "401" {
					w.Header().Del("Content-Length")
				}
				tt.send(w, layer)
			})
			c := client(t, registry.Config{Hosts: hostconf.Config{Mirrors: map[string][]string{origin.Host: {mirror.host}}}})
			ref, desc := parse(t, origin.Host+"/app:1"), describe("", layer)
			got, err := pull(t.Context(), c, ref, desc)
			if (err == nil) != tt.ok || err == nil && string(got) != string(layer) || err != nil && !errors.Is(err, registry.ErrContent) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if got, err = pull(t.Context(), c, ref, desc); err != nil || string(got) != string(layer) {
				t.Errorf("again: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestJ7_CredentialsAreThoseOfTheMirror(t *testing.T) {
	t.Parallel()
	origin, mirror := registrytest.New(t), registrytest.New(t)
	root := pushAll(t, client(t, registry.Config{}), parse(t, origin.Host+"/app:1"))
	pushAll(t, client(t, registry.Config{}), parse(t, mirror.Host+"/app:1"))
	origin.Forget()
	mirror.Token("me", "secret")
	origin.Basic("other", "password")
	hosts := hostconf.Config{Mirrors: map[string][]string{origin.Host: {mirror.Host}}}
	checkPull(t, client(t, registry.Config{Hosts: hosts, DockerConfig: config(t, mirror.Host)}), parse(t, origin.Host+"/app:1"), root)
	if got := asked(origin); got != "" {
		t.Errorf("the origin was asked:\n%s", got)
	}
	// With those of the origin alone the mirror sees none.
	seen := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	hosts.Mirrors[origin.Host] = []string{seen.host}
	_, err := client(t, registry.Config{Hosts: hosts, DockerConfig: config(t, origin.Host)}).Resolve(t.Context(), parse(t, origin.Host+"/app:1"))
	if !errors.Is(err, registry.ErrUnauthorized) || seen.secret() || len(seen.requests()) == 0 {
		t.Errorf("%v; the mirror saw %v", err, seen.requests())
	}
}

// authority makes a certificate authority with a server and a client certificate, in dir.
func authority(t *testing.T, dir string) (server tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make := func(name string, template *x509.Certificate, parent *x509.Certificate) (cert, key []byte) {
		k := caKey
		if template != parent {
			if k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, _ := make("ca", ca, ca)
	write("ca.crt", cert)
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	cert, key := make("client", leaf, ca)
	write("client.cert", cert)
	write("client.key", key)
	cert, key = make("server", leaf, ca)
	if server, err = tls.X509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return server, pool
}

func TestJ6_OwnAuthorityAndClientCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, pool := authority(t, dir)
	r := registrytest.Unstarted(t)
	r.Server.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	r.Server.StartTLS()
	certs := func(content string) string {
		d := t.TempDir()
		host := filepath.Join(d, r.Host)
		if err := os.Mkdir(host, 0o700); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(host, "hosts.toml"), []byte(strings.ReplaceAll(content, "DIR", dir)), 0o600); err != nil {
				t.Fatal(err)
			}
			return d
		}
		for _, name := range []string{"ca.crt", "client.cert", "client.key"} {
			if err := os.Symlink(filepath.Join(dir, name), filepath.Join(host, name)); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	toml := filepath.Join(t.TempDir(), "registries.toml")
	if err := os.WriteFile(toml, fmt.Appendf(nil, "[registry.%q]\nca = [%q]\n[[registry.%q.keypair]]\ncert = %q\nkey = %q\n", r.Host, dir+"/ca.crt", r.Host, dir+"/client.cert", dir+"/client.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, hosts := range []hostconf.Config{
		{CertDir: dir},
		{Dirs: []string{certs("")}},
		{Dirs: []string{certs("server = \"https://" + r.Host + "\"\nca = \"DIR/ca.crt\"\nclient = [[\"DIR/client.cert\", \"DIR/client.key\"]]\n")}},
		{Dirs: []string{certs("[host.\"https://" + r.Host + "\"]\nca = [\"DIR/ca.crt\"]\nclient = [[\"DIR/client.cert\", \"DIR/client.key\"]]\nca = []\n")}},
		{Files: []string{toml}},
	} {
		c := client(t, registry.Config{Hosts: hosts})
		if i == 3 {
			if _, err := c.Resolve(t.Context(), parse(t, r.Host+"/a:1")); !errors.Is(err, registry.ErrConfig) {
				t.Errorf("a file with a key twice: %v", err)
			}
			continue
		}
		name := fmt.Sprintf("%s/app%d:1", r.Host, i)
		checkPull(t, c, parse(t, name), pushAll(t, c, parse(t, name)))
	}
	_, err := client(t, registry.Config{}).Resolve(t.Context(), parse(t, r.Host+"/app0:1"))
	var e *registry.Error
	if !errors.Is(err, registry.ErrUnavailable) || !errors.As(err, &e) || !strings.Contains(e.Remedy(), "--ca") {
		t.Errorf("without the authority: %v", err)
	}
	if _, err = client(t, registry.Config{InsecureAll: true}).Resolve(t.Context(), parse(t, r.Host+"/app0:1")); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("without the client certificate: %v", err)
	}
	if _, err = client(t, registry.Config{InsecureAll: true, Hosts: hostconf.Config{Dirs: []string{certs("")}}}).Resolve(t.Context(), parse(t, r.Host+"/app0:1")); err != nil {
		t.Errorf("unverified: %v", err)
	}
}
