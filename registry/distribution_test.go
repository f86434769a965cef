package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/registry"
)

// htpasswd is the entry of user "me", password "secret" (bcrypt, which docker-registry wants).
const htpasswd = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

// distribution starts Debian's docker-registry on a free port and returns its host.
func distribution(t *testing.T, auth string) string {
	t.Helper()
	prog, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n%s", dir, host, auth)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
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
		if t.Failed() {
			t.Logf("docker-registry: %s", log.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not start: %v\n%s", err, log.String())
		}
		time.Sleep(20 * time.Millisecond) // another process: there is no event to wait for
	}
}

func client(t *testing.T, cfg registry.Config) *registry.Client {
	t.Helper()
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = 2 * time.Millisecond
	}
	c, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func parse(t *testing.T, s string) registry.Reference {
	t.Helper()
	r, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// parts is a tiny image.
func parts() (layer, config, manifest []byte) {
	layer = bytes.Repeat([]byte("layer "), 100_000)
	config = []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	l, c := describe("", layer), describe("", config)
	manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, c.Digest, c.Size, ocispec.MediaTypeImageLayer, l.Digest, l.Size)
	return layer, config, manifest
}

func pushAll(t *testing.T, c *registry.Client, ref registry.Reference) ocispec.Descriptor {
	t.Helper()
	layer, config, manifest := parts()
	repo := c.Repository(ref)
	for _, b := range [][]byte{layer, config} {
		d := describe(ocispec.MediaTypeImageLayer, b)
		if ok, err := repo.Exists(t.Context(), d); err != nil || ok {
			t.Fatalf("Exists before: %v %v", ok, err)
		}
		if err := repo.Push(t.Context(), d, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if ok, err := repo.Exists(t.Context(), d); err != nil || !ok {
			t.Fatalf("Exists after: %v %v", ok, err)
		}
	}
	root := describe(ocispec.MediaTypeImageManifest, manifest)
	if err := repo.PushRoot(t.Context(), root, bytes.NewReader(manifest)); err != nil {
		t.Fatal(err)
	}
	return root
}

func checkPull(t *testing.T, c *registry.Client, ref registry.Reference, root ocispec.Descriptor) {
	t.Helper()
	layer, _, manifest := parts()
	desc, err := c.Resolve(t.Context(), ref)
	if err != nil || desc.Digest != root.Digest || desc.Size != root.Size || desc.MediaType != root.MediaType {
		t.Fatalf("Resolve: %+v %v", desc, err)
	}
	b, mt, err := c.Manifest(t.Context(), ref, desc.Digest)
	if err != nil || !bytes.Equal(b, manifest) || mt != ocispec.MediaTypeImageManifest {
		t.Fatalf("Manifest: %s %s %v", b, mt, err)
	}
	r, err := c.Blob(t.Context(), ref, describe("", layer))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, layer) {
		t.Errorf("Blob: %d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestJ10_PushAndPull(t *testing.T) {
	t.Parallel()
	host := distribution(t, "")
	c := client(t, registry.Config{})
	ref := parse(t, host+"/a/b:v1")
	_, err := c.Resolve(t.Context(), ref)
	var e *registry.Error
	if !errors.Is(err, registry.ErrNotFound) || !errors.As(err, &e) || e.Status != 404 || e.Scheme != "http" {
		t.Errorf("before the push: %v", err)
	}
	root := pushAll(t, c, ref)
	checkPull(t, client(t, registry.Config{}), ref, root)
	_, _, manifest := parts()
	byDigest := parse(t, host+"/a/b@"+root.Digest.String())
	if err := c.PushManifest(t.Context(), byDigest, root, manifest); err != nil {
		t.Error(err)
	}
	checkPull(t, c, byDigest, root)
	other := ref
	other.Digest = digest.FromString("x")
	if err := c.PushManifest(t.Context(), other, root, manifest); err == nil {
		t.Error("pushed under a digest that it does not have")
	}
	empty := describe("", nil)
	if err := c.PushBlob(t.Context(), ref, empty, bytes.NewReader(nil)); err != nil {
		t.Errorf("empty blob: %v", err)
	}
	if r, err := c.Blob(t.Context(), ref, empty); err != nil {
		t.Error(err)
	} else if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("empty blob: %q %v", b, err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestJ4_BasicAuthentication(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(users, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	host := distribution(t, fmt.Sprintf("auth: {htpasswd: {realm: r, path: %s}}\n", users))
	ref := parse(t, host+"/a/b:v1")
	conf := func(password string) registry.Config {
		p := filepath.Join(t.TempDir(), "config.json")
		b := fmt.Appendf(nil, `{"auths":{"http://%s/v1/":{"username":"me","password":%q}}}`, host, password)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return registry.Config{DockerConfig: p}
	}
	good := client(t, conf("secret"))
	checkPull(t, good, ref, pushAll(t, good, ref))

	var e *registry.Error
	_, err := client(t, registry.Config{}).Resolve(t.Context(), ref)
	if !errors.Is(err, registry.ErrUnauthorized) || !errors.As(err, &e) || e.Credential != "" || e.Remedy() != "log in with: gobuild login "+host {
		t.Errorf("without credentials: %v; %q", err, e.Remedy())
	}
	cfg := conf("wrong")
	_, err = client(t, cfg).Resolve(t.Context(), ref)
	if !errors.Is(err, registry.ErrUnauthorized) || !errors.As(err, &e) || e.Credential != cfg.DockerConfig {
		t.Errorf("with a wrong password: %v", err)
	}
	layer, _, _ := parts()
	if err := client(t, cfg).PushBlob(t.Context(), ref, describe("", layer), bytes.NewReader(layer)); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("push with a wrong password: %v", err)
	}
}
