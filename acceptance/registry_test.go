package acceptance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dockerRegistry starts Debian's docker-registry with a part of a configuration and says where it answers.
func dockerRegistry(t *testing.T, conf string) (host string) {
	t.Helper()
	prog, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	if rest, ok := strings.CutPrefix(conf, "http: {"); ok {
		conf = fmt.Sprintf("http: {addr: %s, %s", host, rest)
	} else {
		conf = fmt.Sprintf("http: {addr: %s}\n%s", host, conf)
	}
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\n%s", dir, conf)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prog, "serve", file)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", host)
		if err == nil {
			_ = conn.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not start: %v\n%s", err, log.String())
		}
		time.Sleep(20 * time.Millisecond) // another process: there is no event to wait for
	}
}

// tokenServer signs the tokens that docker-registry asks for, as its specification says, to the one who knows the password.
type tokenServer struct {
	key      *ecdsa.PrivateKey
	cert     []byte
	password string
}

const tokenIssuer, tokenService = "the test", "the registry"

// newTokenServer also gives the part of the configuration that makes docker-registry believe it.
func newTokenServer(t *testing.T, realm, password string) (s *tokenServer, conf string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tokenIssuer}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "token.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	conf = fmt.Sprintf("auth: {token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %s}}\n", realm, tokenService, tokenIssuer, bundle)
	return &tokenServer{key: key, cert: der, password: password}, conf
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if _, password, ok := req.BasicAuth(); !ok || password != s.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, scope := range strings.Fields(strings.Join(req.URL.Query()["scope"], " ")) {
		if p := strings.Split(scope, ":"); len(p) == 3 {
			granted = append(granted, access{p[0], p[1], strings.Split(p[2], ",")})
		}
	}
	now := time.Now().Unix()
	head := s.part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}})
	body := s.part(map[string]any{
		"iss": tokenIssuer, "aud": req.URL.Query().Get("service"), "sub": "me", "jti": "1",
		"nbf": now - 60, "iat": now - 60, "exp": now + 600, "access": granted,
	})
	sum := sha256.Sum256([]byte(head + "." + body))
	r, sig, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	both := append(r.FillBytes(make([]byte, 32)), sig.FillBytes(make([]byte, 32))...)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":%q,"expires_in":600}`, head+"."+body+"."+base64.RawURLEncoding.EncodeToString(both))
}

func (s *tokenServer) part(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
