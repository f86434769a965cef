package builder

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/cosign"
	"gobuild/internal/registrytest"
)

func signingKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// signedBy checks by hand what cosign would: the payload under the tag of the digest, in the bytes of the registry.
func signedBy(t *testing.T, r *registrytest.Registry, repo string, d digest.Digest, key *ecdsa.PublicKey) int {
	t.Helper()
	var m ocispec.Manifest
	must(t, json.Unmarshal(r.Manifest(repo, "sha256-"+d.Encoded()+".sig"), &m))
	if m.MediaType != "application/vnd.oci.image.manifest.v1+json" || m.Config.MediaType != "application/vnd.oci.image.config.v1+json" {
		t.Errorf("media types %s, %s", m.MediaType, m.Config.MediaType)
	}
	good := 0
	for _, l := range m.Layers {
		if l.MediaType != "application/vnd.dev.cosign.simplesigning.v1+json" {
			t.Errorf("layer of type %s", l.MediaType)
		}
		value, err := base64.StdEncoding.DecodeString(l.Annotations["dev.cosignproject.cosign/signature"])
		must(t, err)
		payload := r.Blob(repo, l.Digest)
		want := `{"critical":{"identity":{"docker-reference":"` + r.Host + "/" + repo + `"},"image":{"docker-manifest-digest":"` + d.String() +
			`"},"type":"cosign container image signature"},"optional":null}`
		if string(payload) != want {
			t.Errorf("payload\n%s, want\n%s", payload, want)
		}
		if sum := sha256.Sum256(payload); ecdsa.VerifyASN1(key, sum[:], value) {
			good++
		}
	}
	return good
}

func unsafeWith(t *testing.T, err error, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Category != CategoryUnsafe || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want it refused as unsafe with %q", err, text)
	}
}

func TestM5_WhatIsPushedIsSignedInEachRepositoryOnce(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	key := signingKey(t)
	p := newProject(t, "FROM scratch\nCOPY a /\n", map[string]string{"a": "1"})
	p.opt.Tags = []string{r.Host + "/app:1", r.Host + "/app:2", r.Host + "/other/app:1"}
	p.opt.Outputs, p.opt.SignKey = []Output{{Type: "registry"}}, key
	res, err := p.build()
	must(t, err)
	for _, repo := range []string{"app", "other/app"} {
		if n := signedBy(t, r, repo, res.Manifest.Digest, &key.PublicKey); n != 1 {
			t.Errorf("%s: %d signatures", repo, n)
		}
	}
	r.Forget()
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if n := signedBy(t, r, "app", res.Manifest.Digest, &key.PublicKey); n != 1 {
		t.Errorf("%d signatures after signing twice", n)
	}
	if sent := slices.DeleteFunc(r.Requests(), func(s string) bool { return strings.HasPrefix(s, "GET") || strings.HasPrefix(s, "HEAD") }); len(sent) > 0 {
		t.Errorf("signing again sends %v", sent)
	}
}

func TestM5_ASecondKeyIsAddedAndEachIsVerified(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := newProject(t, "FROM scratch\nCOPY a /\n", map[string]string{"a": "1"})
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	first, second, nobody := signingKey(t), signingKey(t), signingKey(t)
	for _, key := range []*ecdsa.PrivateKey{first, second} {
		p.opt.SignKey = key
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
	}
	b := p.builder()
	defer b.Close()
	for _, key := range []*ecdsa.PrivateKey{first, second} {
		v, err := b.VerifySignature(t.Context(), r.Host+"/app:1", &key.PublicKey)
		if err != nil || len(v.Signatures) != 1 || v.Signatures[0].Repository != r.Host+"/app" {
			t.Errorf("%+v, %v", v, err)
		}
	}
	_, err := b.VerifySignature(t.Context(), r.Host+"/app:1", &nobody.PublicKey)
	unsafeWith(t, err, "none of 2 signatures")
}

// hostile: H44
func TestM5_SignaturesThatDoNotHold(t *testing.T) {
	t.Parallel()
	key := signingKey(t)
	image := rawLayers(t, rawTar(t, tarEntry{Name: "a"}))
	other := digest.FromString("another image")
	sign := func(d digest.Digest) cosign.Signature {
		s, err := cosign.Sign(key, "x/app", d)
		must(t, err)
		return s
	}
	for name, tc := range map[string]struct {
		make func(d digest.Digest) cosign.Signature
		want string // "" for one that holds
	}{
		"right":             {sign, ""},
		"of another image":  {func(digest.Digest) cosign.Signature { return sign(other) }, "what was signed is the image"},
		"no base64":         {func(d digest.Digest) cosign.Signature { s := sign(d); s.Value = "%"; return s }, "not in base64"},
		"changed payload":   {func(d digest.Digest) cosign.Signature { s := sign(d); s.Payload[0] = ' '; return s }, "not of this key"},
		"another's payload": {func(d digest.Digest) cosign.Signature { s := sign(other); s.Payload = sign(d).Payload; return s }, "not of this key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			r.Referrers = true
			d := image.put(t, r, "app", "1")
			s := tc.make(d)
			config := []byte("{}")
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: cosign.ArtifactType}
			m.SchemaVersion = 2
			m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: r.PutBlob("app", config), Size: 2}
			m.Layers = []ocispec.Descriptor{{MediaType: cosign.MediaType, Digest: r.PutBlob("app", s.Payload), Size: int64(len(s.Payload)), Annotations: map[string]string{cosign.Annotation: s.Value}}}
			m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(r.Manifest("app", "1")))}
			raw, err := json.Marshal(m)
			must(t, err)
			r.PutManifest("app", "", ocispec.MediaTypeImageManifest, raw)
			p := newProject(t, "FROM scratch\n", nil)
			b := p.builder()
			defer b.Close()
			_, err = b.VerifySignature(t.Context(), r.Host+"/app:1", &key.PublicKey)
			if tc.want == "" {
				if err != nil {
					t.Errorf("a signature among the referrers: %v", err)
				}
				return
			}
			unsafeWith(t, err, tc.want)
		})
	}
}

func TestM5_NothingToSignAndNothingSigned(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := newProject(t, "FROM scratch\nCOPY a /\n", map[string]string{"a": "1"})
	p.opt.SignKey = signingKey(t)
	p.refused(CategoryUsage, "nothing is")
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	r.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, ".sig") {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	p.refused(CategoryRemote, "is pushed, but not signed")
	b := p.builder()
	defer b.Close()
	_, err := b.VerifySignature(t.Context(), r.Host+"/app:1", &p.opt.SignKey.PublicKey)
	unsafeWith(t, err, "has no signature")
}
