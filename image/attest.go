package image

import (
	"encoding/json"
	"fmt"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What BuildKit writes and its readers look for (docs/attestations/attestation-storage.md there).
const (
	attestationArtifact  = "application/vnd.docker.attestation.manifest.v1+json"
	attestationReference = "attestation-manifest"
	annotationReference  = "vnd.docker.reference.type"
	annotationDigest     = "vnd.docker.reference.digest"
	annotationPredicate  = "in-toto.io/predicate-type"
	statementType        = "https://in-toto.io/Statement/v1"
)

// Subject is what a statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Statement is an in-toto statement as bytes, and what kind of thing it says.
type Statement struct {
	PredicateType string
	Data          []byte
}

// NewStatement says predicate, which is of a type, of subjects.
func NewStatement(predicateType string, subjects []Subject, predicate any) (Statement, error) {
	b, err := json.Marshal(struct {
		Type          string    `json:"_type"`
		PredicateType string    `json:"predicateType"`
		Subject       []Subject `json:"subject"`
		Predicate     any       `json:"predicate"`
	}{statementType, predicateType, subjects, predicate})
	if err != nil {
		return Statement{}, fmt.Errorf("make statement %s: %w", predicateType, err)
	}
	return Statement{predicateType, b}, nil
}

// Attested is an attestation manifest and the blobs below it. Manifest is ready for an index.
type Attested struct {
	Manifest      ocispec.Descriptor
	ManifestBytes []byte
	Blobs         [][]byte // the configuration and the statements
}

// AssembleAttestation makes the manifest that ties statements to an image: an entry of the same index, and by its subject a
// referrer of the image. AsArtifact is OCI 1.1's form; otherwise it has an image configuration, for registries that
// know nothing else.
func AssembleAttestation(img ocispec.Descriptor, statements []Statement, asArtifact bool) (Attested, error) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	config := []byte("{}")
	m.Config = describe(ocispec.MediaTypeEmptyJSON, config)
	if asArtifact {
		m.ArtifactType = attestationArtifact
		m.Subject = &ocispec.Descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: img.Size}
	} else {
		var err error
		if config, err = attestationConfig(statements); err != nil {
			return Attested{}, fmt.Errorf("assemble attestation: %w", err)
		}
		m.Config = describe(ocispec.MediaTypeImageConfig, config)
	}
	out := Attested{Blobs: [][]byte{config}}
	for _, s := range statements {
		d := describe(inTotoLayer, s.Data)
		d.Annotations = map[string]string{annotationPredicate: s.PredicateType}
		m.Layers = append(m.Layers, d)
		out.Blobs = append(out.Blobs, s.Data)
	}
	var err error
	if out.ManifestBytes, err = json.MarshalIndent(m, "", "  "); err != nil {
		return Attested{}, fmt.Errorf("assemble attestation: %w", err)
	}
	out.Manifest = describe(m.MediaType, out.ManifestBytes)
	out.Manifest.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	out.Manifest.Annotations = map[string]string{annotationReference: attestationReference, annotationDigest: img.Digest.String()}
	return out, nil
}

// attestationConfig is an image configuration of no platform whose layers are the statements.
func attestationConfig(statements []Statement) ([]byte, error) {
	img := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, s := range statements {
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, describe(inTotoLayer, s.Data).Digest)
	}
	return json.Marshal(img)
}
