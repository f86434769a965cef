package registry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/registry"
)

// server is an HTTP server that notes what it is sent.
type server struct {
	*httptest.Server
	host string
	mu   sync.Mutex
	seen []string // "METHOD path authorization"
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	return start(t, h, (*httptest.Server).Start)
}

func start(t *testing.T, h http.HandlerFunc, begin func(*httptest.Server)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")))
		s.mu.Unlock()
		h(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	begin(s.Server)
	s.host = s.Listener.Addr().String()
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// secret says whether any request carried a credential.
func (s *server) secret() bool {
	all := strings.Join(s.requests(), "\n")
	return strings.Contains(all, "Basic ") || strings.Contains(all, "Bearer ")
}

// config writes a Docker configuration with user "me" for the hosts.
func config(t *testing.T, hosts ...string) string {
	t.Helper()
	var entries []string
	for _, h := range hosts {
		entries = append(entries, fmt.Sprintf(`%q:{"auth":%q}`, h, base64.StdEncoding.EncodeToString([]byte("me:secret"))))
	}
	return configFile(t, `{"auths":{`+strings.Join(entries, ",")+`}}`)
}

func configFile(t *testing.T, content string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func pull(ctx context.Context, c *registry.Client, ref registry.Reference, desc ocispec.Descriptor) ([]byte, error) {
	r, err := c.Blob(ctx, ref, desc)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

var blob = bytes.Repeat([]byte("0123456789"), 20_000)

func send(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	_, _ = w.Write(b)
}

func TestHostileH55_DownloadsThatGoWrong(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter, n int) {
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		_, _ = w.Write(blob[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	tests := []struct {
		name   string
		handle func(w http.ResponseWriter, r *http.Request, n int) // n counts requests from 1
		want   error
	}{
		{"the right bytes", func(w http.ResponseWriter, _ *http.Request, _ int) { send(w, blob) }, nil},
		{"without a length", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(blob)
		}, nil},
		{"cut, then continued", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, 70_000)
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
		}, nil},
		{"cut in each of three parts", func(w http.ResponseWriter, r *http.Request, n int) {
			if n > 3 {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
				return
			}
			var from int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			if from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(blob)-1, len(blob)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(blob[from : from+30_000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil},
		{"200 to Range starts over", func(w http.ResponseWriter, _ *http.Request, n int) {
			if n == 1 {
				cut(w, 70_000)
			}
			send(w, blob)
		}, nil},
		{"other content on resume", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, 70_000)
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bytes.ToUpper(bytes.Repeat([]byte("a"), len(blob)))))
		}, registry.ErrContent},
		{"another part on resume", func(w http.ResponseWriter, _ *http.Request, n int) {
			if n == 1 {
				cut(w, 70_000)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(blob)
		}, registry.ErrContent},
		{"206 unasked", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(blob)
		}, registry.ErrContent},
		{"always cut at once", func(w http.ResponseWriter, _ *http.Request, _ int) { cut(w, 0) }, registry.ErrContent},
		{"one byte wrong", func(w http.ResponseWriter, _ *http.Request, _ int) { send(w, append([]byte("x"), blob[1:]...)) }, registry.ErrContent},
		{"one byte short", func(w http.ResponseWriter, _ *http.Request, _ int) { send(w, blob[1:]) }, registry.ErrContent},
		{"one byte more", func(w http.ResponseWriter, _ *http.Request, _ int) { send(w, append(blob[:len(blob):len(blob)], 'x')) }, registry.ErrContent},
		{"endless", func(w http.ResponseWriter, r *http.Request, _ int) {
			w.(http.Flusher).Flush()
			for r.Context().Err() == nil {
				if _, err := w.Write(blob); err != nil {
					return
				}
			}
		}, registry.ErrContent},
		{"packed for the way", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(blob)
			_ = z.Close()
		}, registry.ErrContent},
		{"reset in the middle, then continued", func(w http.ResponseWriter, r *http.Request, n int) {
			if n > 1 {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
				return
			}
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(blob), blob[:70_000])
			_ = buf.Flush()
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			n := 0
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				n++
				k := n
				mu.Unlock()
				tt.handle(w, r, k)
			})
			b, err := pull(t.Context(), client(t, registry.Config{}), parse(t, s.host+"/a"), describe("", blob))
			if tt.want == nil {
				if err != nil || !bytes.Equal(b, blob) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			} else if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if n := len(s.requests()); n > 6 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestHostileH56_Retries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		after  string
		fails  int
		want   error
	}{
		{"two 503", 503, "", 2, nil},
		{"two 500", 500, "", 2, nil},
		{"a 522", 522, "", 1, nil},
		{"one 429 at once", 429, "0", 1, nil},
		{"Retry-After is junk", 429, "soon", 1, nil},
		{"Retry-After is negative", 503, "-1", 1, nil},
		{"Retry-After is a date gone by", 503, "Mon, 02 Jan 2006 15:04:05 GMT", 1, nil},
		{"500 always", 500, "", 1000, registry.ErrUnavailable},
		{"503 always", 503, "", 1000, registry.ErrUnavailable},
		{"429 always", 429, "", 1000, registry.ErrUnavailable},
		{"404 is final", 404, "", 1000, registry.ErrNotFound},
		{"403 is final", 403, "", 1000, registry.ErrUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			n := 0
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if n++; n > tt.fails {
					send(w, blob)
					return
				}
				if tt.after != "" {
					w.Header().Set("Retry-After", tt.after)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, `{"errors":[{"code":"X","message":"the \u001b[31mreason"}]}`)
			})
			_, err := pull(t.Context(), client(t, registry.Config{}), parse(t, s.host+"/a"), describe("", blob))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tt.want != nil && (!strings.Contains(err.Error(), fmt.Sprint(tt.status)) || !strings.Contains(err.Error(), "X the [31mreason")) {
				t.Errorf("text: %v", err)
			}
			if n := len(s.requests()); n > 5 || (tt.status < 429 && n != 1) {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestHostileH56_CancelEndsAWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1000000000")
		w.WriteHeader(http.StatusTooManyRequests)
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	})
	begin := time.Now()
	_, err := pull(ctx, client(t, registry.Config{}), parse(t, s.host+"/a"), describe("", blob))
	if !errors.Is(err, why) || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

func TestHostileH56_WaitsThatAServerAsksForAreCounted(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, err := pull(t.Context(), client(t, registry.Config{Retries: 2}), parse(t, s.host+"/a"), describe("", blob))
	if n := len(s.requests()); n != 2 || !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("%d requests: %v", n, err)
	}
}

func TestHostileH59_ErrorBodyIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for range 1000 {
			if _, err := w.Write(bytes.Repeat([]byte("\x1b]52;c;x\a\u202e"), 1000)); err != nil {
				return
			}
		}
	})
	_, err := pull(t.Context(), client(t, registry.Config{}), parse(t, s.host+"/a"), describe("", blob))
	if !errors.Is(err, registry.ErrUnauthorized) || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x1b\a\u202e") {
		t.Errorf("%d bytes: %.200q", len(err.Error()), err)
	}
}

func TestManifests(t *testing.T) {
	t.Parallel()
	_, _, good := parts()
	d := digest.FromBytes(good)
	mt := ocispec.MediaTypeImageManifest
	reply := func(ctype, dig string, b []byte) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ctype)
			if dig != "" {
				w.Header().Set("Docker-Content-Digest", dig)
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			if r.Method == http.MethodGet {
				_, _ = w.Write(b)
			}
		}
	}
	tests := []struct {
		name   string
		handle http.HandlerFunc
		want   error
	}{
		{"a good one", reply(mt, d.String(), good), nil},
		{"no digest header", reply(mt, "", good), nil},
		{"H-41 other bytes", reply(mt, "", append([]byte(" "), good...)), registry.ErrContent},
		{"H-41 header says another digest", reply(mt, digest.FromString("x").String(), good), registry.ErrContent},
		{"H-44 another content type", reply("application/vnd.docker.distribution.manifest.v2+json", "", good), registry.ErrContent},
		{"H-44 a web page", reply("text/html", "", good), registry.ErrContent},
		{"H-42 endless", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mt)
			for range 10_000 {
				if _, err := w.Write(blob); err != nil {
					return
				}
			}
		}, registry.ErrRefused},
		{"H-42 two million values", reply(mt, "", []byte(`{"layers":[`+strings.Repeat("{},", 2_000_000)+`{}]}`)), registry.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.handle)
			c := client(t, registry.Config{})
			b, got, err := c.Manifest(t.Context(), parse(t, s.host+"/a:v1"), d)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && (!bytes.Equal(b, good) || got != mt) {
				t.Errorf("got %q %s", got, b)
			}
		})
	}
}

func TestJ9_ResolveAsksByHeadThenGet(t *testing.T) {
	t.Parallel()
	_, _, good := parts()
	for _, tt := range []struct {
		name string
		head func(w http.ResponseWriter)
		n    int
	}{
		{"HEAD tells all", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(good).String())
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
		}, 1},
		{"no digest header", func(w http.ResponseWriter) { w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest) }, 2},
		{"a digest of no known form", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", "sha256:../../x")
		}, 2},
		{"no HEAD", func(w http.ResponseWriter) { w.WriteHeader(http.StatusMethodNotAllowed) }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					tt.head(w)
					return
				}
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				send(w, good)
			})
			d, err := client(t, registry.Config{}).Resolve(t.Context(), parse(t, s.host+"/a:v1"))
			if want := describe(ocispec.MediaTypeImageManifest, good); err != nil || d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
				t.Errorf("got %+v, %v", d, err)
			}
			if n := len(s.requests()); n != tt.n {
				t.Errorf("%v", s.requests())
			}
		})
	}
}

func TestHostileH46_NoRequestForStrangeDescriptors(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	c, ref := client(t, registry.Config{}), parse(t, s.host+"/a:v1")
	for _, d := range []ocispec.Descriptor{
		{Digest: "sha256:../../x", Size: 1}, {Digest: "md5:d41d8cd98f00b204e9800998ecf8427e", Size: 1}, {Digest: digest.FromString("x"), Size: -1}, {},
	} {
		if _, err := c.Blob(t.Context(), ref, d); err == nil {
			t.Errorf("Blob took %v", d)
		}
		if _, err := c.HasBlob(t.Context(), ref, d); err == nil {
			t.Errorf("HasBlob took %v", d)
		}
		if err := c.PushBlob(t.Context(), ref, d, bytes.NewReader(nil)); err == nil {
			t.Errorf("PushBlob took %v", d)
		}
	}
	if _, _, err := c.Manifest(t.Context(), ref, "sha256:../../x"); err == nil {
		t.Error("Manifest took it")
	}
	if r := s.requests(); len(r) > 0 && strings.Contains(strings.Join(r, ""), "/v2/") {
		t.Errorf("sent %v", r)
	}
}

func TestHostileH47_DescriptorURLsAreNotFollowed(t *testing.T) {
	t.Parallel()
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) { send(w, blob) })
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	d := describe("", blob)
	d.URLs = []string{other.URL}
	if _, err := pull(t.Context(), client(t, registry.Config{}), parse(t, s.host+"/a"), d); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if r := other.requests(); r != nil {
		t.Errorf("sent %v", r)
	}
}
