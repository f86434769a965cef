package image

import (
	"encoding/json"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// statementTypes are the forms of in-toto statements; BuildKit wrote the older one.
var statementTypes = []string{statementType, "https://in-toto.io/Statement/v0.1"}

// AttestationOf finds the attestation manifest of an image in its index.
func AttestationOf(idx ocispec.Index, img ocispec.Descriptor) (ocispec.Descriptor, bool) {
	i := slices.IndexFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
		return IsAttestation(d) && d.Annotations[annotationDigest] == img.Digest.String()
	})
	if i < 0 {
		return ocispec.Descriptor{}, false
	}
	return idx.Manifests[i], true
}

// IsAttestation says that an entry of an index states something about another.
func IsAttestation(d ocispec.Descriptor) bool {
	return d.Annotations[annotationReference] == attestationReference
}

// MayState says that what refers to an image may be a manifest of statements about it.
func MayState(referrer ocispec.Descriptor) bool {
	return slices.Contains([]string{attestationArtifact, inTotoLayer, ""}, referrer.ArtifactType) && IsManifest(referrer.MediaType)
}

// StatementOf finds the statement of one of these kinds among the layers of an attestation manifest.
func StatementOf(m ocispec.Manifest, predicateTypes ...string) (ocispec.Descriptor, bool) {
	i := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool {
		return d.MediaType == inTotoLayer && slices.Contains(predicateTypes, d.Annotations[annotationPredicate])
	})
	if i < 0 {
		return ocispec.Descriptor{}, false
	}
	return m.Layers[i], true
}

// ParseStatement reads an in-toto statement, which may be anybody's: the predicate's type and text, and what it is about.
func ParseStatement(b []byte) (predicateType string, predicate json.RawMessage, subjects []Subject, err error) {
	var st struct {
		Type          string          `json:"_type"`
		PredicateType string          `json:"predicateType"`
		Subject       []Subject       `json:"subject"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := decode(b, &st); err != nil {
		return "", nil, nil, fmt.Errorf("read statement: %w", err)
	}
	if !slices.Contains(statementTypes, st.Type) {
		return "", nil, nil, fmt.Errorf("read statement: it is of type %q: %w", st.Type, ErrMalformed)
	}
	return st.PredicateType, st.Predicate, st.Subject, nil
}

// ParsePredicate reads a predicate, or another document from outside, with the strictness of this package: bounded in size, depth and
// number of values, and with no key twice or in another case.
func ParsePredicate(b []byte, v any) error {
	if err := decode(b, v); err != nil {
		return fmt.Errorf("read predicate: %w", err)
	}
	return nil
}
