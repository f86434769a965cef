package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"gobuild/internal/lazyre"
)

// About is what a document says of itself and of what it describes.
type About struct {
	Name    string    // of what was scanned, an image for example
	Version string    // of it: a digest; may be ""
	Purpose string    // SPDX's primary purpose: CONTAINER, ARCHIVE, SOURCE
	Tool    string    // that scanned: gobuild-1.2
	Created time.Time // of the document
}

// The forms of SPDX 2.3 (clauses 6, 7, 10 and 11, in JSON).
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Comment       string         `json:"comment,omitempty"`
	Packages      []spdxPackage  `json:"packages"`
	Extracted     []extracted    `json:"hasExtractedLicensingInfos,omitempty"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID           string        `json:"SPDXID"`
	Name         string        `json:"name"`
	Version      string        `json:"versionInfo,omitempty"`
	Supplier     string        `json:"supplier"`
	Download     string        `json:"downloadLocation"`
	Analyzed     bool          `json:"filesAnalyzed"`
	Homepage     string        `json:"homepage,omitempty"`
	SourceInfo   string        `json:"sourceInfo,omitempty"`
	Concluded    string        `json:"licenseConcluded"`
	Declared     string        `json:"licenseDeclared"`
	Copyright    string        `json:"copyrightText"`
	Purpose      string        `json:"primaryPackagePurpose,omitempty"`
	Checksums    []checksum    `json:"checksums,omitempty"`
	ExternalRefs []externalRef `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type extracted struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	noAssertion = "NOASSERTION"
	documentID  = "SPDXRef-DOCUMENT"
	rootID      = "SPDXRef-DocumentRoot"
)

// Document writes an inventory as SPDX 2.3 JSON. It is one line, and its namespace follows from all else that it says.
func Document(found *Inventory, about About) ([]byte, error) {
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID, Name: cmp.Or(plain(about.Name), "_"),
		Creation: creation{Created: about.Created.UTC().Format(time.RFC3339), Creators: []string{"Tool: " + about.Tool}},
	}
	if len(found.Notes) > 0 {
		d.Comment = "Not complete: " + strings.Join(found.Notes, "; ")
	}
	top := spdxPackage{
		ID: rootID, Name: d.Name, Version: about.Version, Supplier: noAssertion, Download: noAssertion, Concluded: noAssertion, Declared: noAssertion,
		Copyright: noAssertion, Purpose: about.Purpose,
	}
	if found.Distribution != "" {
		top.SourceInfo = "distribution: " + found.Distribution
	}
	d.Packages = []spdxPackage{top}
	d.Relationships = []relationship{{documentID, "DESCRIBES", rootID}}
	texts := licenseTexts{}
	for _, p := range found.Packages {
		sp := p.spdx(texts)
		d.Packages = append(d.Packages, sp)
		d.Relationships = append(d.Relationships, relationship{rootID, "CONTAINS", sp.ID})
	}
	d.Extracted = texts.list()
	return d.named()
}

// named gives the document its namespace (SPDX 2.3, clause 6.5): the web site for documents that have none, and a number made of
// the document's bytes.
func (d document) named() ([]byte, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write bill of materials: %w", err)
	}
	d.Namespace = "https://spdx.org/spdxdocs/gobuild-" + uuidOf(raw)
	if raw, err = json.Marshal(d); err != nil {
		return nil, fmt.Errorf("write bill of materials: %w", err)
	}
	if len(raw) > MaxDocument {
		return nil, fmt.Errorf("write bill of materials: %w: %d bytes, the bound is %d", errTooLarge, len(raw), MaxDocument)
	}
	return raw, nil
}

// uuidOf is a UUID of version 8 (RFC 9562, section 5.8): of bytes, by SHA-256.
func uuidOf(data []byte) string {
	sum := sha256.Sum256(data)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

var notInID = lazyre.New(`[^a-zA-Z0-9.-]+`)

func (p Package) spdx(texts licenseTexts) spdxPackage {
	sum := sha256.Sum256([]byte(p.PURL))
	name := strings.Trim(notInID.ReplaceAllString(p.Name, "-"), "-")
	out := spdxPackage{
		ID:   "SPDXRef-Package-" + p.Kind + "-" + name[:min(len(name), 60)] + "-" + hex.EncodeToString(sum[:8]),
		Name: p.Name, Version: p.Version, Supplier: supplier(p.Supplier), Download: noAssertion, Homepage: homepage(p.Homepage),
		SourceInfo: "found in " + strings.Join(p.Found, ", "), Concluded: noAssertion, Declared: texts.declare(p.License), Copyright: noAssertion,
		ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl", p.PURL}},
	}
	for _, c := range p.Checksums {
		out.Checksums = append(out.Checksums, checksum(c))
	}
	return out
}

// supplier is SPDX's form of NAME <ADDRESS>. Names of groups are known by their words.
func supplier(text string) string {
	name, address, _ := strings.Cut(text, "<")
	plainer := strings.NewReplacer("(", "", ")", "", "\"", "")
	name = strings.TrimSpace(plainer.Replace(name))
	if name == "" {
		return noAssertion
	}
	kind := "Person: "
	for _, w := range strings.Fields(strings.ToLower(name)) {
		if slices.Contains([]string{"team", "maintainers", "developers", "project", "group", "foundation", "inc.", "inc", "llc", "ltd", "gmbh", "packagers", "authors"}, w) {
			kind = "Organization: "
		}
	}
	if address = strings.Trim(address, "<> "); address != "" {
		name += " (" + plainer.Replace(address) + ")"
	}
	return kind + name
}

// homepage is an address that a reader may follow; what is none is left out.
func homepage(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// licenseTexts are the licenses that are told by their own text: identifier to text.
type licenseTexts map[string]string

// declare is the expression for what a package says of its license (SPDX 2.3, clause 7.15).
func (l licenseTexts) declare(text string) string {
	if text == "" {
		return noAssertion
	}
	if isExpression(text) {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	id := "LicenseRef-" + hex.EncodeToString(sum[:8])
	l[id] = text
	return id
}

func (l licenseTexts) list() []extracted {
	var out []extracted
	for id, text := range l {
		out = append(out, extracted{id, text})
	}
	slices.SortFunc(out, func(a, b extracted) int { return strings.Compare(a.ID, b.ID) })
	return out
}
