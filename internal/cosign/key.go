package cosign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

const (
	// MaxKey bounds a file with a key: they have a few hundred bytes.
	MaxKey = 64 << 10
	// maxScrypt bounds the memory that an encrypted key asks for: 128 bytes times N times r. The tool writes 2^15 or 2^16 and 8.
	maxScrypt = 256 << 20
	// maxParallel bounds the time: p repeats the whole.
	maxParallel = 16
)

// Errors that callers decide on.
var (
	ErrPassword = errors.New("the password is not that of the key")
	ErrKey      = errors.New("not a key that signs images")
)

// ReadPrivate reads a private key from PEM: as the tool writes it, encrypted, or PKCS #8 or SEC 1, not encrypted. The password is asked
// for when one is needed.
func ReadPrivate(text []byte, password func() ([]byte, error)) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: it is not in PEM form", ErrKey)
	}
	der := block.Bytes
	switch block.Type {
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		secret, err := password()
		if err != nil {
			return nil, err
		}
		if der, err = decrypt(block.Bytes, secret); err != nil {
			return nil, err
		}
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("%w: it is damaged", ErrKey)
		}
		return checked(key)
	case "PRIVATE KEY":
	case "PUBLIC KEY":
		return nil, fmt.Errorf("%w: it is the public key, the private one is wanted", ErrKey)
	default:
		return nil, fmt.Errorf("%w: it is a %q", ErrKey, block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged", ErrKey) // the parser's words may be about the key's bytes
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is not of the kind ECDSA", ErrKey)
	}
	return checked(key)
}

func checked(key *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	if err := checkCurve(key.Curve); err != nil {
		return nil, err
	}
	return key, nil
}

// ReadPublic reads a public key from PEM.
func ReadPublic(text []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%w: it has no PUBLIC KEY in PEM form", ErrKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged", ErrKey)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is not of the kind ECDSA", ErrKey)
	}
	if err := checkCurve(key.Curve); err != nil {
		return nil, err
	}
	return key, nil
}

func checkCurve(c elliptic.Curve) error {
	if c != elliptic.P256() {
		return fmt.Errorf("%w: its curve is %s, not P-256", ErrKey, c.Params().Name)
	}
	return nil
}

// encrypted is the JSON within an encrypted key.
type encrypted struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// decrypt opens a key that scrypt and secretbox have closed.
func decrypt(text, password []byte) ([]byte, error) {
	var e encrypted
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("%w: what is encrypted is damaged", ErrKey)
	}
	p := e.KDF.Params
	if e.KDF.Name != "scrypt" || e.Cipher.Name != "nacl/secretbox" {
		return nil, fmt.Errorf("%w: it is encrypted by %.20q and %.20q, not by scrypt and nacl/secretbox", ErrKey, e.KDF.Name, e.Cipher.Name)
	}
	if p.N < 2 || p.R < 1 || p.P < 1 || p.P > maxParallel || p.R > maxScrypt/128/p.N {
		return nil, fmt.Errorf("%w: it asks for scrypt with N=%d, r=%d, p=%d, more than %d MiB or %d times", ErrKey, p.N, p.R, p.P, maxScrypt>>20, maxParallel)
	}
	derived, err := scrypt.Key(password, e.KDF.Salt, p.N, p.R, p.P, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var nonce [24]byte
	if copy(nonce[:], e.Cipher.Nonce) != len(nonce) || len(e.Cipher.Nonce) != len(nonce) {
		return nil, fmt.Errorf("%w: its nonce has %d bytes", ErrKey, len(e.Cipher.Nonce))
	}
	der, ok := secretbox.Open(nil, e.Ciphertext, &nonce, (*[32]byte)(derived))
	if !ok {
		return nil, ErrPassword
	}
	return der, nil
}
