package cosign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

func newKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// closed encrypts a key as cosign does; n is small where the time does not matter.
func closed(t *testing.T, key *ecdsa.PrivateKey, password string, change func(*encrypted)) []byte {
	t.Helper()
	var e encrypted
	e.KDF.Name, e.Cipher.Name = "scrypt", "nacl/secretbox"
	e.KDF.Params.N, e.KDF.Params.R, e.KDF.Params.P = 1024, 8, 1
	e.KDF.Salt, e.Cipher.Nonce = bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 24)
	derived, err := scrypt.Key([]byte(password), e.KDF.Salt, 1024, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	e.Ciphertext = secretbox.Seal(nil, der, (*[24]byte)(e.Cipher.Nonce), (*[32]byte)(derived))
	if change != nil {
		change(&e)
	}
	text, err := json.Marshal(e)
	return pemOf(t, "ENCRYPTED SIGSTORE PRIVATE KEY", text, err)
}

func saying(password string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(password), nil }
}

func TestM5_FormsOfKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	sec1, err1 := x509.MarshalECPrivateKey(key)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(key)
	for name, text := range map[string][]byte{
		"PKCS #8":   pemOf(t, "PRIVATE KEY", pkcs8, err2),
		"SEC 1":     pemOf(t, "EC PRIVATE KEY", sec1, err1),
		"encrypted": closed(t, key, "secret", nil),
		"older":     bytes.ReplaceAll(closed(t, key, "secret", nil), []byte("SIGSTORE"), []byte("COSIGN")),
	} {
		got, err := ReadPrivate(text, saying("secret"))
		if err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if got, err := ReadPublic(pemOf(t, "PUBLIC KEY", public, err)); err != nil || !got.Equal(&key.PublicKey) {
		t.Errorf("public: %v", err)
	}
}

func TestM5_KeysThatAreRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	large, err1 := x509.MarshalPKCS8PrivateKey(newKey(t, elliptic.P384()))
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	ed, err2 := x509.MarshalPKCS8PrivateKey(edwards)
	public, err3 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	for _, tc := range []struct {
		name string
		text []byte
		want string
		is   error
	}{
		{"no PEM", []byte("-"), "PEM", ErrKey},
		{"the public one", pemOf(t, "PUBLIC KEY", public, err3), "private one is wanted", ErrKey},
		{"another curve", pemOf(t, "PRIVATE KEY", large, err1), "P-384", ErrKey},
		{"another kind", pemOf(t, "PRIVATE KEY", ed, err2), "ECDSA", ErrKey},
		{"an RSA one of old", pemOf(t, "RSA PRIVATE KEY", []byte("x"), nil), "RSA", ErrKey},
		{"damaged", pemOf(t, "PRIVATE KEY", []byte("x"), nil), "damaged", ErrKey},
		{"wrong password", closed(t, key, "other", nil), "password", ErrPassword},
		{"memory without end", closed(t, key, "secret", func(e *encrypted) { e.KDF.Params.N = 1 << 30 }), "scrypt with N", ErrKey},
		{"negative memory", closed(t, key, "secret", func(e *encrypted) { e.KDF.Params.N = -8 }), "scrypt with N", ErrKey},
		{"time without end", closed(t, key, "secret", func(e *encrypted) { e.KDF.Params.P = 1 << 20 }), "scrypt with N", ErrKey},
		{"short nonce", closed(t, key, "secret", func(e *encrypted) { e.Cipher.Nonce = e.Cipher.Nonce[1:] }), "nonce", ErrKey},
		{"another cipher", closed(t, key, "secret", func(e *encrypted) { e.Cipher.Name = "rot13" }), "rot13", ErrKey},
		{"no JSON", pemOf(t, "ENCRYPTED COSIGN PRIVATE KEY", []byte("x"), nil), "damaged", ErrKey},
	} {
		_, err := ReadPrivate(tc.text, saying("secret"))
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret ") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestM5_SigningIsRepeatable(t *testing.T) {
	t.Parallel()
	key, d := newKey(t, elliptic.P256()), digest.FromString("an image")
	a, err1 := Sign(key, "example.com/app", d)
	b, err2 := Sign(key, "example.com/app", d)
	if err1 != nil || err2 != nil || a.Value != b.Value || !bytes.Equal(a.Payload, b.Payload) {
		t.Errorf("%v, %v, %v, %v", a, b, err1, err2)
	}
	claim, err := Verify(&key.PublicKey, a, d)
	if err != nil || claim.Repository != "example.com/app" {
		t.Errorf("%+v, %v", claim, err)
	}
	if got := Tag(d); got != "sha256-"+d.Encoded()+".sig" {
		t.Errorf("tag %s", got)
	}
}

func FuzzReadPrivate(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJrZGYiOnt9fQ==\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ReadPrivate(text, saying(""))
		if (key == nil) != (err != nil) {
			t.Error("neither a key nor an error")
		}
	})
}
