package acceptance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME.pem and NAME-key.pem, signed by the authority or, for its own, by itself.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// htpasswd is user "me", password "secret" (bcrypt, which docker-registry wants).
const htpasswd = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

// TestJ6_RealRegistriesOverEveryTransport pulls from and pushes to docker-registry with all ways of credentials and certificates, by the
// real binary. What is missing or wrong is status 4 with the remedy.
func TestJ6_RealRegistriesOverEveryTransport(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	at := func(name string) string { return filepath.Join(a.dir, name) }
	put := func(name, text string) string {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	for from, to := range map[string]string{"ca.pem": "certs/ca.crt", "client.pem": "certs/me.cert", "client-key.pem": "certs/me.key"} {
		data, err := os.ReadFile(at(from))
		if err != nil {
			t.Fatal(err)
		}
		put(to, string(data))
	}
	basic := fmt.Sprintf("auth: {htpasswd: {realm: x, path: %s}}\n", put("htpasswd", htpasswd))
	tls := fmt.Sprintf("http: {tls: {certificate: %s, key: %s}}\n", at("server.pem"), at("server-key.pem"))
	mutual := fmt.Sprintf("http: {tls: {certificate: %s, key: %s, clientcas: [%s]}}\n", at("server.pem"), at("server-key.pem"), at("ca.pem"))
	authFile := func(host string) string {
		return put("auth.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:secret"))))
	}
	for _, tc := range []struct {
		name, conf string
		args       func(host string) []string
		bare       string // what a build without these flags says
	}{
		{"http", "", func(string) []string { return nil }, ""},
		{"basic, --creds", basic, func(host string) []string { return []string{"--creds", host + "=me:secret"} }, "gobuild login"},
		{"basic, --authfile", basic, func(host string) []string { return []string{"--authfile", authFile(host)} }, "gobuild login"},
		{"own authority", tls, func(string) []string { return []string{"--ca", at("ca.pem")} }, "--ca FILE"},
		{"unverified", tls, func(host string) []string { return []string{"--insecure-registry", host} }, "--ca FILE"},
		{"client certificate and basic", mutual + basic, func(host string) []string {
			return []string{"--cert-dir", at("certs"), "--creds", host + "=me:secret"}
		}, "--ca FILE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := dockerRegistry(t, tc.conf)
			w := newWorld(t, "FROM scratch\nCOPY Dockerfile /\n", nil)
			w.env = []string{"HOME=" + t.TempDir(), "DOCKER_CONFIG=", "REGISTRY_AUTH_FILE=", "XDG_RUNTIME_DIR="}
			flags := append(tc.args(host), "--source-date-epoch", "86400", "--retry", "0")
			w.build(append(flags, "-t", host+"/base:1", "--push")...)
			w.write("Dockerfile", "FROM "+host+"/base:1\nCOPY Dockerfile /again\n")
			w.build(append(flags, "-t", host+"/app:1", "--push", "--pull")...)
			o := w.run(w.command(append(flags, "--pull=always", "-t", "copy", w.dir)...))
			if o.code != 0 {
				t.Errorf("exit code %d\n%s", o.code, o.stderr)
			}
			if tc.bare == "" {
				return
			}
			if o := w.run(w.command("--retry", "0", "--pull=always", w.dir)); o.code != 4 || !strings.Contains(o.stderr, tc.bare) {
				t.Errorf("without flags: exit code %d\n%s", o.code, o.stderr)
			}
		})
	}
	t.Run("without the client certificate", func(t *testing.T) {
		host := dockerRegistry(t, mutual)
		w := newWorld(t, "FROM "+host+"/base:1\n", nil)
		if o := w.run(w.command("--retry", "0", "--ca", at("ca.pem"), w.dir)); o.code != 4 || !strings.Contains(o.stderr, "certificate") {
			t.Errorf("exit code %d\n%s", o.code, o.stderr)
		}
	})
}
