package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestJ1_References(t *testing.T) {
	t.Parallel()
	hex := digest.FromString("x").Encoded()
	d := "sha256:" + hex
	tests := []struct{ in, full, familiar string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3", "docker.io/library/alpine:3", "alpine:3"},
		{"me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"},
		{"example.com/a/b/c", "example.com/a/b/c:latest", "example.com/a/b/c:latest"},
		{"Example/app", "Example/app:latest", "Example/app:latest"},
		{"[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"},
		{"alpine@" + d, "docker.io/library/alpine@" + d, "alpine@" + d},
		{"alpine:3@" + d, "docker.io/library/alpine:3@" + d, "alpine:3@" + d},
		{"a/b__c/d-e.f", "docker.io/a/b__c/d-e.f:latest", "a/b__c/d-e.f:latest"},
		{"alpine@sha512:" + hex + hex, "docker.io/library/alpine@sha512:" + hex + hex, "alpine@sha512:" + hex + hex},
		{hex, "", ""},
		{"", "", ""},
		{"Alpine", "", ""},
		{"a/B", "", ""},
		{"a:-x", "", ""},
		{"a:" + strings.Repeat("t", 129), "", ""},
		{"a@sha256:" + hex[1:], "", ""},
		{"a@sha256:" + strings.ToUpper(hex), "", ""},
		{"a@md5:" + hex[:32], "", ""},
		{"a@sha384:" + hex + hex[:32], "", ""},
		{"a//b", "", ""},
		{"a/../b", "", ""},
		{"a b", "", ""},
		{"a\nb", "", ""},
		{"https://example.com/a", "", ""},
		{"example.com/" + strings.Repeat("a", 250), "", ""},
		{strings.Repeat("a/", 1000), "", ""},
	}
	for _, tt := range tests {
		r, err := ParseReference(tt.in)
		if tt.full == "" {
			if err == nil {
				t.Errorf("%.50q was taken as %s", tt.in, r)
			}
			continue
		}
		if err != nil || r.String() != tt.full || r.Familiar() != tt.familiar {
			t.Errorf("%s: %s, %s, %v", tt.in, r, r.Familiar(), err)
		}
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"alpine", "localhost:5000/a/b:c@sha256:" + strings.Repeat("a", 64), "A.b/c", "library/x", "docker.io/library/a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		for _, text := range []string{r.String(), r.Familiar()} {
			again, err := ParseReference(text)
			if err != nil || again != r {
				t.Fatalf("%q is %+v, but %q is %+v, %v", s, r, text, again, err)
			}
		}
		u := url.URL{Scheme: "https", Host: r.Host, Path: "/v2/" + r.Path + "/manifests/" + r.Tag}
		if p, err := url.Parse(u.String()); err != nil || p.Host != r.Host || p.Path != u.Path || strings.Contains(p.Path, "/../") {
			t.Fatalf("%q makes the URL %s: %v", s, &u, err)
		}
	})
}

func TestHostileH53_WhoMaySeeCredentials(t *testing.T) {
	t.Parallel()
	cred := credential{user: "me", password: "x"}
	tests := []struct {
		origin, realm string
		ok, anonymous bool
	}{
		{"https://r.example.com", "https://r.example.com/token", true, true},
		{"https://r.example.com", "https://r.example.com:8443/token", true, true},
		{"https://r.example.com", "/token", true, true},
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true, true},
		{"https://r.example.com", "https://AUTH.example.com./token", true, true},
		{"https://r.example.com", "http://r.example.com/token", false, false},
		{"https://r.example.com", "https://example.org/token", false, true},
		{"https://r.example.com", "https://evilexample.com/token", false, true},
		{"https://r.example.com", "https://allowed.org/token", true, true},
		{"https://r.co.uk", "https://evil.co.uk/token", false, true},
		{"https://a.github.io", "https://b.github.io/token", false, true},
		{"https://1.2.3.4", "https://9.2.3.4/token", false, true},
		{"https://1.2.3.4", "https://1.2.3.4:1/token", true, true},
		{"http://localhost:5000", "http://localhost:5001/token", true, true},
		{"http://localhost:5000", "http://127.0.0.1:5001/token", false, false},
		{"https://r.example.com", "https://u:p@r.example.com/token", false, false},
		{"https://r.example.com", "ftp://r.example.com/token", false, false},
		{"https://r.example.com", "", false, false},
		{"https://r.example.com", "https://\x00/", false, false},
	}
	for _, tt := range tests {
		origin, err := url.Parse(tt.origin)
		if err != nil {
			t.Fatal(err)
		}
		a := &authorizer{host: origin.Host, origin: origin, tokenHosts: []string{"allowed.org"}}
		if _, err := a.tokenServer(tt.realm, cred); (err == nil) != tt.ok {
			t.Errorf("%s, realm %s: %v", tt.origin, tt.realm, err)
		}
		if _, err := a.tokenServer(tt.realm, credential{}); (err == nil) != tt.anonymous {
			t.Errorf("%s, realm %s, anonymous: %v", tt.origin, tt.realm, err)
		}
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	one := func(scheme string, kv ...string) challenge {
		c := challenge{scheme: scheme, params: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			c.params[kv[i]] = kv[i+1]
		}
		return c
	}
	tests := []struct {
		in   string
		want []challenge
	}{
		{`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"`, []challenge{one("bearer", "realm", "https://a/t", "service", "s", "scope", "repository:x:pull,push")}},
		{`BASIC realm="a \"b\\"`, []challenge{one("basic", "realm", `a "b\`)}},
		{`Basic`, []challenge{one("basic")}},
		{`Negotiate, Basic realm=x, Bearer realm = "y" , service=z`, []challenge{one("negotiate"), one("basic", "realm", "x"), one("bearer", "realm", "y", "service", "z")}},
		{`Bearer realm="a",realm="b"`, []challenge{one("bearer", "realm", "a")}},
		{`Bearer realm="never ends`, []challenge{one("bearer", "realm", "")}},
		{`=,="`, nil},
		{``, nil},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, parseChallenges([]string{tt.in}), cmp.AllowUnexported(challenge{})); d != "" {
			t.Errorf("%s: %s", tt.in, d)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s" , Basic realm=x`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" {
				t.Fatal("a scheme without name")
			}
		}
	})
}

func TestHostileH56_RetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1": "1", "60": "60", "1000000000": "60", "99999999999999999999": "", "0": "", "-1": "", "soon": "", "1.5": "", "": "",
		time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat): "60", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): "",
	} {
		h := http.Header{}
		h.Set("Retry-After", in)
		limitRetryAfter(h)
		if got := h.Get("Retry-After"); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestF5_Remedies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e    Error
		want string
	}{
		{Error{Host: hubDNS, Status: 401, Err: ErrUnauthorized}, "log in with: gobuild login docker.io"},
		{Error{Host: "r:5", Status: 403, Err: ErrUnauthorized}, "log in with: gobuild login r:5"},
		{Error{Op: "push", Host: "r", Status: 403, Err: ErrUnauthorized, Credential: "f"}, "check that this account may push, or log in again with: gobuild login r"},
		{Error{Host: hubDNS, Status: 429, Err: ErrUnavailable}, "the registry limits how much is pulled: log in with: gobuild login docker.io"},
		{Error{Host: "r", Status: 429, Err: ErrUnavailable, Credential: "f"}, "the registry limits how much is pulled: wait, or use a mirror"},
		{Error{Host: "r", Err: fmt.Errorf("x: %w", refuse("do this", "that"))}, "do this"},
		{Error{Host: "r", Status: 404, Err: ErrNotFound}, ""},
	} {
		if got := remedy(&tt.e); got != tt.want {
			t.Errorf("%v: %q, want %q", &tt.e, got, tt.want)
		}
	}
}

// slowBody gives one byte every so often, or none at all.
type slowBody struct {
	ctx   context.Context //nolint:containedctx // of one read
	every time.Duration
}

func (s slowBody) Read(p []byte) (int, error) {
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-time.After(s.every):
		p[0] = 'x'
		return 1, nil
	}
}

func (slowBody) Close() error { return nil }

func TestHostileH54_SlowBodiesEnd(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			begin := time.Now()
			b := &recvBody{rc: slowBody{ctx, every}, ctx: ctx, cancel: cancel}
			_, err := io.Copy(io.Discard, b)
			if d := time.Since(begin); !errors.Is(err, io.ErrUnexpectedEOF) || d > idleTime+every && d > 2*idleTime {
				t.Errorf("a byte each %s: ended after %s by %v", every, d, err)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHostileH54_NoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c, err := New(Config{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			n++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, _, err = c.Manifest(t.Context(), Reference{Host: "r.example.com", Path: "a", Tag: "b"}, "")
		if d := time.Since(begin); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errSlow) || n != defaultRetries || d > 4*time.Minute {
			t.Errorf("%d tries in %s: %v", n, d, err)
		}
	})
}

func TestJ8_WaitsBetweenTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		c, err := New(Config{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(begin))
			return nil, errors.New("reset")
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Manifest(t.Context(), Reference{Host: "r.example.com", Path: "a", Tag: "b"}, "")
		want := []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
		if d := cmp.Diff(want, at); d != "" || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v %s", err, d)
		}
	})
}

func TestJ4_LongestMatch(t *testing.T) {
	t.Parallel()
	auths := map[string]dockerAuth{
		"example.com": {}, "https://example.com/team/v1/": {}, "example.com/team/app": {}, "https://index.docker.io/v1/": {},
		"http://Plain.example.com:5000/v2/": {}, "example.com/te": {}, "registry.gitlab.example/group": {},
	}
	for _, tt := range []struct{ host, path, want string }{
		{"example.com", "x", "example.com"},
		{"example.com", "team/other", "https://example.com/team/v1/"},
		{"example.com", "team/app", "example.com/team/app"},
		{"example.com", "team/app/sub", "example.com/team/app"},
		{"example.com", "team/apple", "https://example.com/team/v1/"},
		{"docker.io", "library/alpine", "https://index.docker.io/v1/"},
		{"plain.example.com:5000", "x", "http://Plain.example.com:5000/v2/"},
		{"plain.example.com", "x", ""},
		{"evil.com", "example.com", ""},
		{"example.com.evil.com", "x", ""},
		{"registry.gitlab.example", "other/x", ""},
	} {
		if got, _ := longestMatch(auths, tt.host, tt.path); got != tt.want {
			t.Errorf("%s/%s: %q, want %q", tt.host, tt.path, got, tt.want)
		}
	}
}
