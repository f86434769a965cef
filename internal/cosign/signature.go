package cosign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// What a signature is stored as: a layer of this type, with its value in this annotation. As an OCI 1.1 referrer its manifest is of
// ArtifactType.
const (
	MediaType    = "application/vnd.dev.cosign.simplesigning.v1+json"
	Annotation   = "dev.cosignproject.cosign/signature"
	ArtifactType = "application/vnd.dev.cosign.artifact.sig.v1+json"

	// MaxPayload bounds what is signed: an identity, a digest, and what a signer adds.
	MaxPayload = 64 << 10
)

const claimType = "cosign container image signature"

// Signature is what was signed, and the signature in base64.
type Signature struct {
	Payload []byte
	Value   string
}

// Claim is what a payload says.
type Claim struct {
	Repository string         // that it was signed for
	Optional   map[string]any // what the signer added
}

// payload is the form of "simple signing" (containers/image, docs/containers-signature.5).
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// Tag is where the signatures of a manifest are, in its repository.
func Tag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() + ".sig" }

// Sign says that a repository's manifest is the signer's.
func Sign(key *ecdsa.PrivateKey, repository string, d digest.Digest) (Signature, error) {
	var p payload
	p.Critical.Identity.Reference, p.Critical.Image.Digest, p.Critical.Type = repository, d, claimType
	text, err := json.Marshal(p)
	if err != nil {
		return Signature{}, fmt.Errorf("sign %s: %w", d, err)
	}
	sum := sha256.Sum256(text)
	value, err := key.Sign(nil, sum[:], crypto.SHA256) // without randomness: RFC 6979
	if err != nil {
		return Signature{}, fmt.Errorf("sign %s: %w", d, err)
	}
	return Signature{text, base64.StdEncoding.EncodeToString(value)}, nil
}

// ErrSignature says that a signature is not what it has to be.
var ErrSignature = errors.New("signature does not hold")

// Verify checks that the holder of the key has signed this manifest.
func Verify(key *ecdsa.PublicKey, s Signature, d digest.Digest) (Claim, error) {
	value, err := base64.StdEncoding.DecodeString(s.Value)
	if err != nil {
		return Claim{}, fmt.Errorf("%w: it is not in base64", ErrSignature)
	}
	sum := sha256.Sum256(s.Payload)
	if !ecdsa.VerifyASN1(key, sum[:], value) {
		return Claim{}, fmt.Errorf("%w: it is not of this key", ErrSignature)
	}
	var p payload
	if err := json.Unmarshal(s.Payload, &p); err != nil {
		return Claim{}, fmt.Errorf("%w: what was signed cannot be read", ErrSignature)
	}
	switch {
	case p.Critical.Type != claimType:
		return Claim{}, fmt.Errorf("%w: what was signed is a %.40q", ErrSignature, p.Critical.Type)
	case p.Critical.Image.Digest != d:
		return Claim{}, fmt.Errorf("%w: what was signed is the image %.80q", ErrSignature, p.Critical.Image.Digest)
	}
	return Claim{Repository: p.Critical.Identity.Reference, Optional: p.Optional}, nil
}
