package registry_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"

	"gobuild/internal/registrytest"
	"gobuild/registry"
)

// faults are what happens to a request in place of its answer.
var faults = map[string]func(http.ResponseWriter){
	"reset": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	"truncated": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"sche`))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	},
	"429": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
	"500": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
	"503": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
	"401": func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) },
	"html": func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>log in to the wireless network</html>"))
	},
}

// Every request of a push and a pull fails in turn, once and for good: either all arrives, or the error says what it was.
func TestHostileF26_EveryRequestFails(t *testing.T) {
	t.Parallel()
	for name, fault := range faults {
		for _, lasting := range []bool{false, true} {
			t.Run(name+" "+strconv.FormatBool(lasting), func(t *testing.T) {
				t.Parallel()
				for k := int64(1); ; k++ {
					if !pushAndPull(t, name, k, lasting, fault) {
						return
					}
					if k > 30 {
						t.Fatal("more than 30 requests")
					}
				}
			})
		}
	}
}

// pushAndPull says whether there was a request number k.
func pushAndPull(t *testing.T, name string, k int64, lasting bool, fault func(http.ResponseWriter)) bool {
	t.Helper()
	r := registrytest.New(t)
	defer r.Server.Close()
	r.Token("me", "secret")
	var n atomic.Int64
	r.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		i := n.Add(1)
		if i < k || i > k && !lasting {
			return false
		}
		fault(w)
		return true
	})
	c := client(t, registry.Config{DockerConfig: config(t, r.Host), Retries: 3})
	defer c.Close()
	ref := parse(t, r.Host+"/app:1")
	err := tryAll(t, c, ref)
	if n.Load() < k {
		return false
	}
	if err != nil {
		var e *registry.Error
		if !errors.As(err, &e) || !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrUnauthorized) && !errors.Is(err, registry.ErrContent) {
			t.Errorf("request %d: %v", k, err)
		}
		if !lasting && (name == "500" || name == "503" || name == "429" || name == "reset") {
			t.Errorf("request %d: one failure that passes is not tried again: %v", k, err)
		}
	}
	// Whatever happened: what has a name is whole.
	r.Intercept(nil)
	if m := r.Manifest("app", "1"); m != nil {
		_, _, want := parts()
		if string(m) != string(want) || len(r.Blobs("app")) != 2 {
			t.Errorf("request %d: the tag means %s, with %d blobs", k, m, len(r.Blobs("app")))
		}
	}
	if err := tryAll(t, client(t, registry.Config{DockerConfig: config(t, r.Host)}), ref); err != nil {
		t.Errorf("request %d: afterwards: %v", k, err)
	}
	return true
}

// tryAll pushes the tiny image and pulls it again.
func tryAll(t *testing.T, c *registry.Client, ref registry.Reference) error {
	t.Helper()
	layer, conf, manifest := parts()
	repo := c.Repository(ref)
	for _, b := range [][]byte{layer, conf} {
		d := describe("application/vnd.oci.image.layer.v1.tar", b)
		there, err := repo.Exists(t.Context(), d)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if err := repo.Push(t.Context(), d, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	root := describe("application/vnd.oci.image.manifest.v1+json", manifest)
	if err := repo.PushRoot(t.Context(), root, bytes.NewReader(manifest)); err != nil {
		return err
	}
	desc, err := c.Resolve(t.Context(), ref)
	if err != nil {
		return err
	}
	b, _, err := c.Manifest(t.Context(), ref, desc.Digest)
	if err != nil {
		return err
	}
	if desc.Digest != root.Digest || string(b) != string(manifest) {
		t.Errorf("the manifest is %s", b)
	}
	got, err := pull(t.Context(), c, ref, describe("", layer))
	if err == nil && string(got) != string(layer) {
		t.Errorf("wrong bytes: %d of %d", len(got), len(layer))
	}
	return err
}

// The answer to the last request of an upload is lost, or the upload with a restart of the registry: the blob arrives all the same.
func TestHostileF28_UploadsThatTheRegistryForgot(t *testing.T) {
	t.Parallel()
	layer, _, _ := parts()
	for name, lose := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"the answer": func(_ http.ResponseWriter, req *http.Request, inner http.Handler) {
			inner.ServeHTTP(httptest.NewRecorder(), req)
			panic(http.ErrAbortHandler)
		},
		"the upload": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`))
		},
	} {
		r := registrytest.New(t)
		var puts atomic.Int64
		inner := r.Server.Config.Handler
		outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPut && puts.Add(1) == 1 {
				lose(w, req, inner)
				return
			}
			inner.ServeHTTP(w, req)
		}))
		t.Cleanup(outer.Close)
		ref := parse(t, outer.Listener.Addr().String()+"/app:1")
		d := describe("application/vnd.oci.image.layer.v1.tar", layer)
		if err := client(t, registry.Config{Retries: 3}).PushBlob(t.Context(), ref, d, bytes.NewReader(layer)); err != nil {
			t.Errorf("%s is lost: %v", name, err)
		}
		if got := r.Blobs("app"); len(got) != 1 || got[0] != d.Digest {
			t.Errorf("%s is lost: the registry has %v", name, got)
		}
	}
}
