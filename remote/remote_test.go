package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a fake whose answers a test writes, one for each request that comes; the last one stays.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []*http.Request
	answers []http.HandlerFunc
}

func serve(t *testing.T, tls bool, answers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{answers: answers}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := min(len(s.seen), len(s.answers)-1)
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		s.answers[n](w, r)
	})
	if tls {
		s.Server = httptest.NewTLSServer(handler)
	} else {
		s.Server = httptest.NewServer(handler)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func text(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// cut promises more than it sends.
func cut(body string, promised int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Length", fmt.Sprint(promised))
		_, _ = io.WriteString(w, body)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// client is one that notes its waits instead of sleeping.
func client(t *testing.T, cfg Config) (*Client, *[]time.Duration) {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var waits []time.Duration
	c.sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	return c, &waits
}

// fetch gives the body and how often it began.
func fetch(t *testing.T, c *Client, req Request) (string, int, Result, error) {
	t.Helper()
	var buf bytes.Buffer
	opened := 0
	req.Open = func(int64) (io.Writer, error) {
		opened++
		buf.Reset()
		return &buf, nil
	}
	res, err := c.Fetch(t.Context(), req)
	return buf.String(), opened, res, err
}

func TestB56_TheFileAndWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	s := serve(t, false, text("hello", "ETag", `"v1"`, "Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"))
	c, _ := client(t, Config{})
	var done, total int64
	body, _, res, err := fetch(t, c, Request{URL: s.URL + "/f#fragment", Progress: func(d, n int64) { done, total = d, n }})
	if err != nil || body != "hello" || res.Size != 5 || res.ETag != `"v1"` || res.LastModified != "Wed, 21 Oct 2015 07:28:00 GMT" || res.Modified.Unix() != 1445412480 {
		t.Errorf("%q, %+v, %v", body, res, err)
	}
	if done != 5 || total != 5 {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	if r := s.seen[0]; r.Header.Get("If-None-Match") != "" || r.Header.Get("Authorization") != "" || r.URL.Fragment != "" || r.UserAgent() != "gobuild" {
		t.Errorf("asked with %v", r.Header)
	}
}

func TestB56_NoLastModified(t *testing.T) {
	t.Parallel()
	for _, header := range [][]string{nil, {"Last-Modified", "yesterday"}, {"Last-Modified", "Wed, 21 Oct 1915 07:28:00 GMT"}} {
		s := serve(t, false, text("x", header...))
		c, _ := client(t, Config{})
		if _, _, res, err := fetch(t, c, Request{URL: s.URL}); err != nil || !res.Modified.IsZero() {
			t.Errorf("%v: %+v, %v", header, res, err)
		}
	}
}

func TestB56_NotModified(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") == "then" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		text("new")(w, r)
	})
	c, _ := client(t, Config{})
	_, opened, res, err := fetch(t, c, Request{URL: s.URL, Known: Validators{ETag: `"v1"`, LastModified: "then"}})
	if err != nil || !res.NotModified || opened != 0 {
		t.Errorf("%+v, opened %d times, %v", res, opened, err)
	}
	if body, _, res, err := fetch(t, c, Request{URL: s.URL, Known: Validators{ETag: `"v0"`}}); err != nil || res.NotModified || body != "new" {
		t.Errorf("%q, %+v, %v", body, res, err)
	}
	unasked := serve(t, false, status(http.StatusNotModified))
	if _, _, _, err := fetch(t, c, Request{URL: unasked.URL}); !errors.Is(err, ErrStatus) {
		t.Errorf("304 to an unconditional request: %v", err)
	}
}

func TestB56_AnswersThatAreNot2xx(t *testing.T) {
	t.Parallel()
	for _, code := range []int{300, 400, 401, 403, 404, 410, 418, 451} {
		s := serve(t, false, status(code))
		c, waits := client(t, Config{})
		_, opened, _, err := fetch(t, c, Request{URL: s.URL + "/secret/f?token=abc"})
		var e *Error
		if !errors.As(err, &e) || e.Status != code || !errors.Is(err, ErrStatus) || opened != 0 || len(*waits) != 0 || s.count() != 1 {
			t.Errorf("%d: %v after %d requests and %v", code, err, s.count(), *waits)
		}
		if strings.Contains(err.Error(), "abc") || !strings.Contains(err.Error(), "/secret/f") {
			t.Errorf("%d: %v", code, err)
		}
	}
	s := serve(t, false, status(http.StatusNotFound))
	c, _ := client(t, Config{})
	_, _, _, err := fetch(t, c, Request{URL: s.URL + "/f"})
	if want := "fetch " + s.URL + "/f: 404 Not Found: request rejected"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestJ8_WhatMayPassIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []int{408, 429, 500, 502, 503, 504} {
		s := serve(t, false, status(code), status(code), text("there"))
		c, waits := client(t, Config{Delay: 4 * time.Second})
		body, _, _, err := fetch(t, c, Request{URL: s.URL})
		if err != nil || body != "there" || len(*waits) != 2 {
			t.Errorf("%d: %q after waits of %v, %v", code, body, *waits, err)
			continue
		}
		if w := *waits; w[0] < 2*time.Second || w[0] > 4*time.Second || w[1] < 4*time.Second || w[1] > 8*time.Second {
			t.Errorf("%d: waits of %v", code, w)
		}
	}
	s := serve(t, false, status(503))
	c, waits := client(t, Config{})
	var told []time.Duration
	_, _, _, err := fetch(t, c, Request{URL: s.URL, Waiting: func(why error, wait time.Duration) {
		if told = append(told, wait); !errors.Is(why, ErrStatus) {
			t.Errorf("told about %v", why)
		}
	}})
	if !slices.Equal(told, *waits) {
		t.Errorf("told about waits of %v, waited %v", told, *waits)
	}
	if !errors.Is(err, ErrUnavailable) || s.count() != 5 || len(*waits) != 4 || !strings.Contains(err.Error(), "given up after 5 tries") {
		t.Errorf("%v after %d requests, waits of %v", err, s.count(), *waits)
	}
}

func TestJ8_RetryAfterIsObeyedWithinABound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{{"7", 7 * time.Second}, {"86400", time.Minute}, {time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat), time.Minute}} {
		s := serve(t, false, status(429, "Retry-After", tt.value), text("x"))
		c, waits := client(t, Config{})
		if _, _, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || len(*waits) != 1 || (*waits)[0] != tt.want {
			t.Errorf("%s: waits of %v, %v", tt.value, *waits, err)
		}
	}
	for _, nonsense := range []string{"", "-1", "soon", "99999999999999999999"} {
		if d := retryAfter(nonsense); d != 0 {
			t.Errorf("%q is a wait of %v", nonsense, d)
		}
	}
}

func TestJ8_ConnectionErrorsAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, text("x"))
	c, _ := client(t, Config{})
	if body, _, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || body != "x" {
		t.Errorf("%q, %v", body, err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	_, _, _, err := fetch(t, c, Request{URL: gone.URL})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnavailable) || !strings.Contains(e.Remedy(), "nothing answers there") {
		t.Errorf("%v", err)
	}
}

// rest serves a file with ranges, as a server would that keeps it.
func rest(body, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}
}

// part answers with a piece of a file, right or wrong.
func part(body, where string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", where)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, body)
	}
}

func TestJ8_APartOfTheRestIsNotTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, false, cut("hello ", 11, "ETag", `"v1"`), part("wo", "bytes 6-7/11"), rest("hello world", `"v1"`))
	c, _ := client(t, Config{})
	if body, opened, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || body != "hello world" || opened != 1 {
		t.Errorf("%q, begun %d times, %v", body, opened, err)
	}
}

func TestJ8_ABrokenDownloadGoesOn(t *testing.T) {
	t.Parallel()
	s := serve(t, false, cut("hello ", 11, "ETag", `"v1"`), rest("hello world", `"v1"`))
	c, _ := client(t, Config{})
	body, opened, res, err := fetch(t, c, Request{URL: s.URL})
	if err != nil || body != "hello world" || opened != 1 || res.Size != 11 {
		t.Errorf("%q, begun %d times, %+v, %v", body, opened, res, err)
	}
	if got := s.seen[1].Header.Get("Range"); got != "bytes=6-" {
		t.Errorf("Range %q", got)
	}
}

func TestJ8_ABrokenDownloadStartsOverWhenTheFileMayBeAnother(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]http.HandlerFunc{
		"changed":           {cut("hello ", 11, "ETag", `"v1"`), rest("HELLO WORLD", `"v2"`)},
		"no validator":      {cut("hello ", 11), text("HELLO WORLD")},
		"weak validator":    {cut("hello ", 11, "ETag", `W/"v1"`), text("HELLO WORLD")},
		"other part":        {cut("hello ", 11, "ETag", `"v1"`), part("lo wo", "bytes 3-7/11"), text("HELLO WORLD")},
		"no such part":      {cut("hello ", 11, "ETag", `"v1"`), status(416), text("HELLO WORLD")},
		"modified just now": {cut("hello ", 11, "Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT", "Date", "Wed, 21 Oct 2015 07:28:00 GMT"), text("HELLO WORLD")},
	} {
		s := serve(t, false, answers...)
		c, _ := client(t, Config{})
		body, opened, _, err := fetch(t, c, Request{URL: s.URL})
		if err != nil || body != "HELLO WORLD" || opened != 2 {
			t.Errorf("%s: %q, begun %d times, %v", name, body, opened, err)
		}
	}
}

func TestJ8_ABodyThatIsAlwaysCutIsAnError(t *testing.T) {
	t.Parallel()
	s := serve(t, false, cut("hello", 11))
	c, _ := client(t, Config{})
	if _, _, _, err := fetch(t, c, Request{URL: s.URL}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	part := serve(t, false, status(206, "Content-Range", "bytes 0-1/9"))
	if _, _, _, err := fetch(t, c, Request{URL: part.URL}); !errors.Is(err, ErrContent) {
		t.Errorf("a part nobody asked for: %v", err)
	}
}

func TestHostileR21_Redirects(t *testing.T) {
	t.Parallel()
	target := serve(t, false, text("moved"))
	to := func(where string, code int) http.HandlerFunc { return status(code, "Location", where) }
	c, _ := client(t, Config{})
	for _, code := range []int{301, 302, 303, 307, 308} {
		s := serve(t, false, to(target.URL+"/x", code)) // same host, other port
		if body, _, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || body != "moved" {
			t.Errorf("%d: %q, %v", code, body, err)
		}
	}
	s := serve(t, false, to("/next", 302), text("next"))
	if body, _, _, err := fetch(t, c, Request{URL: s.URL + "/a/b"}); err != nil || body != "next" || s.seen[1].URL.Path != "/next" {
		t.Errorf("relative: %q, %v", body, err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(target.URL, "http://"), ":")
	for name, where := range map[string]string{
		"private address":    "http://10.1.2.3/",
		"loopback by name":   "http://localhost:" + port + "/",
		"other loopback":     "http://127.0.0.2:" + port + "/",
		"metadata":           "http://169.254.169.254/latest",
		"credentials":        "http://u:p@127.0.0.1/",
		"another scheme":     "file:///etc/passwd",
		"a scheme of no web": "ftp://127.0.0.1/x",
		"IPv6 loopback":      "http://[::1]:" + port + "/",
		"wrapped loopback":   "http://[::ffff:127.0.0.1]:" + port + "/",
	} {
		s := serve(t, false, to(where, 302))
		if _, opened, _, err := fetch(t, c, Request{URL: s.URL}); !errors.Is(err, ErrRefused) || opened != 0 || s.count() != 1 {
			t.Errorf("%s: %v after %d requests", name, err, s.count())
		}
	}
	if n := target.count(); n != 5 {
		t.Errorf("the target was asked %d times", n)
	}
	nowhere := serve(t, false, to("", 302))
	if _, _, _, err := fetch(t, c, Request{URL: nowhere.URL}); !errors.Is(err, ErrContent) {
		t.Errorf("redirect to nowhere: %v", err)
	}
	loop := serve(t, false, to("/again", 302))
	if _, _, _, err := fetch(t, c, Request{URL: loop.URL}); !errors.Is(err, ErrRefused) || loop.count() != maxHops+1 {
		t.Errorf("loop: %v after %d requests", err, loop.count())
	}
}

func TestHostileR20_PrivateAddressesMayBeAllowed(t *testing.T) {
	t.Parallel()
	target := serve(t, false, text("moved"))
	_, port, _ := strings.Cut(strings.TrimPrefix(target.URL, "http://"), ":")
	s := serve(t, false, status(302, "Location", "http://localhost:"+port+"/"))
	c, _ := client(t, Config{AllowPrivate: true})
	if body, _, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || body != "moved" {
		t.Errorf("%q, %v", body, err)
	}
	meta := serve(t, false, status(302, "Location", "http://169.254.169.254/"))
	if _, _, _, err := fetch(t, c, Request{URL: meta.URL}); !errors.Is(err, ErrRefused) {
		t.Errorf("metadata: %v", err)
	}
}

func TestHostileR20_LinkLocalIsRefusedWhoeverNamesIt(t *testing.T) {
	t.Parallel()
	asked := 0
	proxy := serve(t, false, func(http.ResponseWriter, *http.Request) { asked++ })
	c, _ := client(t, Config{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }})
	direct, _ := client(t, Config{})
	for _, u := range []string{"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/"} {
		for _, c := range []*Client{c, direct} {
			if _, _, _, err := fetch(t, c, Request{URL: u}); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", u, err)
			}
		}
	}
	if asked != 0 {
		t.Error("the proxy was asked")
	}
}

func TestHostileR21_TLS(t *testing.T) {
	t.Parallel()
	s := serve(t, true, text("x"))
	c, waits := client(t, Config{})
	_, _, _, err := fetch(t, c, Request{URL: s.URL})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy(), "--ca") || len(*waits) != 0 {
		t.Errorf("unknown authority: %v, waits of %v", err, *waits)
	}
	plain := serve(t, false, text("x"))
	if _, _, _, err := fetch(t, c, Request{URL: strings.Replace(plain.URL, "http", "https", 1)}); err == nil {
		t.Error("https fell back to http")
	}
	down := serve(t, true, status(302, "Location", plain.URL))
	trusting, _ := client(t, Config{})
	l, err := trusting.connections()
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range l.all() {
		tr.TLSClientConfig = down.Client().Transport.(*http.Transport).TLSClientConfig
	}
	if _, _, _, err := fetch(t, trusting, Request{URL: down.URL}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "plain http") || plain.count() != 0 {
		t.Errorf("https to http: %v", err)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	c, waits := client(t, Config{MaxBody: 10})
	for name, answer := range map[string]http.HandlerFunc{
		"promised": text(strings.Repeat("x", 11)),
		"unpromised": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, strings.Repeat("x", 11))
		},
	} {
		s := serve(t, false, answer)
		body, opened, _, err := fetch(t, c, Request{URL: s.URL})
		if !errors.Is(err, ErrTooLarge) || len(body) > 10 || len(*waits) != 0 || name == "promised" && opened != 0 {
			t.Errorf("%s: %q, begun %d times, %v", name, body, opened, err)
		}
	}
	s := serve(t, false, text(strings.Repeat("x", 10)))
	if body, _, _, err := fetch(t, c, Request{URL: s.URL}); err != nil || len(body) != 10 {
		t.Errorf("at the bound: %q, %v", body, err)
	}
	big := serve(t, false, text("x", "X", strings.Repeat("x", 2*maxHeaders)))
	if _, _, _, err := fetch(t, c, Request{URL: big.URL}); err == nil {
		t.Error("a header without bound is read")
	}
}

func TestSilenceEndsAnExchange(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	silent := serve(t, false, func(http.ResponseWriter, *http.Request) { <-release })
	stuck := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) }) // before the servers close: clean-ups run backwards
	for _, s := range []*server{silent, stuck} {
		c, _ := client(t, Config{Tries: 2})
		c.times = times{dial: time.Second, answer: 20 * time.Millisecond, idle: 20 * time.Millisecond}
		if _, _, _, err := fetch(t, c, Request{URL: s.URL}); !errors.Is(err, errSlow) || !errors.Is(err, ErrUnavailable) || s.count() != 2 {
			t.Errorf("%v after %d requests", err, s.count())
		}
	}
}

func TestCancelEndsAFetch(t *testing.T) {
	t.Parallel()
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
		cancel(why)
		<-r.Context().Done()
	})
	c, _ := client(t, Config{})
	if _, err := c.Fetch(ctx, Request{URL: s.URL, Open: func(int64) (io.Writer, error) { return io.Discard, nil }}); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestTheWritersErrorIsFinal(t *testing.T) {
	t.Parallel()
	s := serve(t, false, text("x"))
	c, waits := client(t, Config{})
	full := errors.New("disk full")
	if _, err := c.Fetch(t.Context(), Request{URL: s.URL, Open: func(int64) (io.Writer, error) { return nil, full }}); !errors.Is(err, full) || len(*waits) != 0 {
		t.Error(err)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	c, _ := client(t, Config{})
	for u, want := range map[string]error{
		"ftp://h/x": ErrURL, "file:///etc/passwd": ErrURL, "http://": ErrURL, "http:///x": ErrURL, "http://h:port/": ErrURL, "//h/x": ErrURL, "": ErrURL,
		"http://h/" + strings.Repeat("x", maxURL): ErrURL, "http://u:hidden@127.0.0.1/x": ErrRefused, "http://h/\x00": ErrURL,
	} {
		if _, _, _, err := fetch(t, c, Request{URL: u}); !errors.Is(err, want) || strings.Contains(fmt.Sprint(err), "hidden") {
			t.Errorf("%.40q: %v", u, err)
		}
	}
	for u, want := range map[string]string{
		"http://h/a/b.txt": "b.txt", "http://h/a/b.txt?x=/c#d": "b.txt", "http://h/a/": "a", "http://h/": Unnamed, "http://h": Unnamed, "http://h/a/..": Unnamed,
		"http://h/%2e%2e": Unnamed, "http://h/a%2fb": "b", "http://h/a%00": Unnamed, "http://h/a%0ab": Unnamed, "http://h/%20": " ", "http://h/" + strings.Repeat("x", 256): Unnamed, "http://h:port/": Unnamed,
	} {
		if got := Name(u); got != want {
			t.Errorf("Name(%.40q) is %q, want %q", u, got, want)
		}
	}
	for u, want := range map[string]string{
		"https://u:p@h:1/a?token=t#f": "https://h:1/a", "http://h/a%2fb": "http://h/a%2fb", "http://h:port/": "URL",
	} {
		if got := Redact(u); got != want {
			t.Errorf("Redact(%q) is %q, want %q", u, got, want)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"http://h/a/b", "http://h/%2e%2e%2f", "x:/..", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := Name(s)
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > maxName {
			t.Errorf("Name(%q) is %q", s, name)
		}
		u, err := url.Parse(s)
		if shown := Redact(s); err == nil && u.RawQuery != "" && u.Opaque == "" && strings.Contains(shown, "?") {
			t.Errorf("Redact(%q) is %q", s, shown)
		}
	})
}
