package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/testexec"
	"gobuild/registry"
)

// basicOnly demands basic authentication and then hands on to next.
func basicOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "me" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func TestHostileH52_CredentialsDoNotFollowRedirects(t *testing.T) {
	t.Parallel()
	for _, challenge := range []bool{false, true} {
		// Same address, another port: Go itself would send the header on.
		other := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if challenge {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			send(w, blob)
		})
		s := serve(t, basicOnly(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/stored", http.StatusTemporaryRedirect)
		}))
		c := client(t, registry.Config{DockerConfig: config(t, s.host, other.host)})
		b, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob))
		if challenge && !errors.Is(err, registry.ErrUnauthorized) || !challenge && (err != nil || !bytes.Equal(b, blob)) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if !s.secret() || other.secret() || len(other.requests()) == 0 {
			t.Errorf("registry saw %v, the other host %v", s.requests(), other.requests())
		}
	}
}

func TestHostileH52_RedirectsThatAreRefused(t *testing.T) {
	t.Parallel()
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) { send(w, blob) })
	_, port, _ := strings.Cut(other.host, ":")
	tests := []struct {
		name, to, text string
	}{
		{"to a file", "file:///etc/passwd", `"file" URL`},
		{"with userinfo", "http://me:pw@" + other.host + "/", "URL with credentials"},
		{"to http elsewhere", "http://localhost:" + port + "/", "plain http at localhost"},
		{"H-51 to https elsewhere on loopback", "https://localhost:" + port + "/", "private address 127.0.0.1"},
		{"H-51 metadata", "https://169.254.169.254/latest", "private address 169.254.169.254"},
		{"H-51 IPv6 loopback", "https://[::1]:" + port + "/", "private address ::1"},
		{"H-51 mapped", "https://[::ffff:127.0.0.2]:" + port + "/", "private address 127.0.0.2"},
		{"H-51 private", "https://10.0.0.1/", "private address 10.0.0.1"},
		{"round and round", "/again", "more than 5 redirects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", tt.to)
				w.WriteHeader(http.StatusFound)
			})
			_, err := pull(t.Context(), client(t, registry.Config{}), parse(t, s.host+"/a"), describe("", blob))
			if !errors.Is(err, registry.ErrRefused) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if n := len(s.requests()); n > 7 {
				t.Errorf("%d requests: it was tried again", n)
			}
		})
	}
	t.Cleanup(func() {
		if r := other.requests(); r != nil {
			t.Errorf("the other host saw %v", r)
		}
	})
}

func TestHostileH58_UploadLocations(t *testing.T) {
	t.Parallel()
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	upload := func(location string, put http.HandlerFunc) *server {
		return serve(t, basicOnly(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodPost:
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusAccepted)
			case http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			default:
				put(w, r)
			}
		}))
	}
	push := func(s *server) error {
		c := client(t, registry.Config{DockerConfig: config(t, s.host, other.host)})
		return c.PushBlob(t.Context(), parse(t, s.host+"/a"), describe("", blob), bytes.NewReader(blob))
	}
	if err := push(upload(other.URL+"/up", nil)); err != nil || other.secret() || len(other.requests()) != 1 {
		t.Errorf("elsewhere: %v, saw %v", err, other.requests())
	}
	for _, location := range []string{"file:///x", "https://169.254.169.254/", "http://u:p@" + other.host + "/"} {
		if err := push(upload(location, nil)); !errors.Is(err, registry.ErrRefused) {
			t.Errorf("%s: %v", location, err)
		}
	}
	err := push(upload("/up", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
		w.WriteHeader(http.StatusCreated)
	}))
	if !errors.Is(err, registry.ErrContent) {
		t.Errorf("201 with another digest: %v", err)
	}
	err = push(upload("/up", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	if !errors.Is(err, registry.ErrRefused) {
		t.Errorf("looping: %v", err)
	}
	mount := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	if err := push(mount); !errors.Is(err, registry.ErrContent) {
		t.Errorf("mount grants what is absent: %v", err)
	}
}

func TestUploadIsSentAgainFromTheStart(t *testing.T) {
	t.Parallel()
	var got []byte
	puts := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/up")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			if puts++; puts < 3 { // answered early, while the body is still under way
				_, _ = io.CopyN(io.Discard, r.Body, 1000)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			got, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusCreated)
		}
	})
	big := bytes.Repeat(blob, 40)
	if err := client(t, registry.Config{}).PushBlob(t.Context(), parse(t, s.host+"/a"), describe("", big), bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, big) {
		t.Errorf("the registry got %d bytes", len(got))
	}
}

func TestPushOfOtherContentIsNotTheRegistrysFault(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "/up")
		w.WriteHeader(http.StatusAccepted)
	})
	for _, b := range [][]byte{blob[1:], append(blob[:len(blob):len(blob)], 'x')} {
		err := client(t, registry.Config{}).PushBlob(t.Context(), parse(t, s.host+"/a"), describe("", blob), bytes.NewReader(b))
		if !errors.Is(err, registry.ErrContent) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// tokenRegistry is a registry with a token server at realm ("" for its own host).
func tokenRegistry(t *testing.T, realm string, token http.HandlerFunc) *server {
	t.Helper()
	var s *server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			token(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer good" {
			where := realm
			if where == "" {
				where = s.URL + "/token"
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="svc",scope="repository:a:pull"`, where))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		send(w, blob)
	})
	return s
}

func TestJ5_BearerTokens(t *testing.T) {
	t.Parallel()
	var got []*http.Request
	var forms []url.Values
	s := tokenRegistry(t, "", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got, forms = append(got, r), append(forms, r.Form)
		_, _ = io.WriteString(w, `{"token":"good","expires_in":300}`)
	})
	try := func(conf string) {
		t.Helper()
		c := client(t, registry.Config{DockerConfig: conf})
		before := len(got)
		for range 3 {
			if b, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob)); err != nil || !bytes.Equal(b, blob) {
				t.Fatal(err)
			}
		}
		if n := len(got) - before; n != 1 {
			t.Errorf("%d token requests for three pulls", n)
		}
	}
	try("")
	if r := got[0]; r.Method != http.MethodGet || r.Header.Get("Authorization") != "" || forms[0].Get("service") != "svc" || forms[0].Get("scope") != "repository:a:pull" {
		t.Errorf("anonymous: %s %v", r.Method, forms[0])
	}
	try(config(t, s.host))
	if u, p, _ := got[1].BasicAuth(); u != "me" || p != "secret" || forms[1].Get("account") != "me" {
		t.Errorf("with a password: %s %v", u, forms[1])
	}
	try(configFile(t, fmt.Sprintf(`{"auths":{%q:{"identitytoken":"refresh"}}}`, s.host)))
	if r := got[2]; r.Method != http.MethodPost || forms[2].Get("grant_type") != "refresh_token" || forms[2].Get("refresh_token") != "refresh" || r.Header.Get("Authorization") != "" {
		t.Errorf("identity token: %s %v", r.Method, forms[2])
	}
	c := client(t, registry.Config{DockerConfig: configFile(t, fmt.Sprintf(`{"auths":{%q:{"registrytoken":"good"}}}`, s.host))})
	if _, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob)); err != nil || len(got) != 3 {
		t.Errorf("registry token: %v, %d token requests", err, len(got))
	}
}

func TestJ5_ExpiredTokenIsRenewed(t *testing.T) {
	t.Parallel()
	n, valid := 0, "t1"
	var s *server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			n++
			_, _ = fmt.Fprintf(w, `{"access_token":"t%d"}`, n)
		case r.Header.Get("Authorization") != "Bearer "+valid:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			send(w, blob)
		}
	})
	c := client(t, registry.Config{})
	for _, valid = range []string{"t1", "t2"} { // the registry forgets the first one early
		if _, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob)); err != nil {
			t.Errorf("%s: %v", valid, err)
		}
	}
}

func TestHostileH53_TokenServers(t *testing.T) {
	t.Parallel()
	thief := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"good"}`) })
	_, port, _ := strings.Cut(thief.host, ":")
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"good"}`) }
	tests := []struct {
		name, realm string
		token       http.HandlerFunc
		want        error
		text        string
	}{
		{"elsewhere over https", "https://localhost:" + port + "/t", ok, registry.ErrRefused, "wants its credentials sent to localhost:" + port},
		{"elsewhere over http", "http://localhost:" + port + "/t", ok, registry.ErrRefused, "plain http"},
		{"a public host", "https://auth.example.com/t", ok, registry.ErrRefused, "credentials sent to auth.example.com"},
		{"userinfo", "http://me:pw@" + thief.host + "/t", ok, registry.ErrRefused, "no usable token server"},
		{"a file", "file:///etc/passwd", ok, registry.ErrRefused, "no usable token server"},
		{"with a redirect", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+"/t", http.StatusTemporaryRedirect)
		}, registry.ErrRefused, "redirects elsewhere"},
		{"a gigabyte of token", "", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"token":"`)
			for range 10_000 {
				if _, err := w.Write(blob); err != nil {
					return
				}
			}
		}, registry.ErrRefused, "longer than"},
		{"a header in a token", "", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"token":"x\r\nHost: y"}`)
		}, registry.ErrContent, "no token"},
		{"no JSON", "", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>`) }, registry.ErrContent, "not JSON"},
		{"denied", "", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"details":"incorrect username or password"}`)
		}, registry.ErrUnauthorized, "incorrect username or password"},
		{"the token does not help", "", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"bad"}`) }, registry.ErrUnauthorized, "401"},
		{"unavailable", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, registry.ErrUnavailable, "502"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tokenRegistry(t, tt.realm, tt.token)
			c := client(t, registry.Config{DockerConfig: config(t, s.host)})
			_, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
			if n := len(s.requests()); n > 20 {
				t.Errorf("%d requests", n)
			}
		})
	}
	t.Cleanup(func() {
		if r := thief.requests(); r != nil {
			t.Errorf("the thief saw %v", r)
		}
	})
}

func TestWrongPasswordIsSentOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, basicOnly(nil))
	c := client(t, registry.Config{DockerConfig: configFile(t, fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"x"}}}`, s.host))})
	for range 2 {
		if _, err := pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob)); !errors.Is(err, registry.ErrUnauthorized) {
			t.Error(err)
		}
	}
	if r := s.requests(); len(r) != 3 { // without, with, and again with
		t.Errorf("sent %q", r)
	}
}

func TestPrivateAddressesCanBeAllowed(t *testing.T) {
	t.Parallel()
	other := start(t, func(w http.ResponseWriter, _ *http.Request) { send(w, blob) }, startTLS)
	_, port, _ := strings.Cut(other.host, ":")
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://localhost:"+port+"/x", http.StatusFound)
	})
	_, err := pull(t.Context(), client(t, registry.Config{AllowPrivate: true}), parse(t, s.host+"/a"), describe("", blob))
	if err == nil || errors.Is(err, registry.ErrRefused) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("allowed, and its certificate is still verified: %v", err)
	}
}

func startTLS(s *httptest.Server) { s.StartTLS() }

// rows: J6
func TestHostileH57_TLS(t *testing.T) {
	t.Parallel()
	s := start(t, func(w http.ResponseWriter, _ *http.Request) { send(w, blob) }, startTLS)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	junk := configFile(t, "no certificate")
	_, port, _ := strings.Cut(s.host, ":")
	var e *registry.Error
	tests := []struct {
		name, host   string
		cfg          registry.Config
		want         error
		text, remedy string
	}{
		{"unknown authority", s.host, registry.Config{}, registry.ErrUnavailable, "unknown authority", "trust the registry's certificate authority with --ca FILE"},
		{"with its authority", s.host, registry.Config{CAFile: ca}, nil, "", ""},
		{"insecure", s.host, registry.Config{Insecure: []string{s.host}}, nil, "", ""},
		{"insecure without port", s.host, registry.Config{Insecure: []string{"127.0.0.1"}}, nil, "", ""},
		{"another host is insecure", s.host, registry.Config{Insecure: []string{"127.0.0.2"}}, registry.ErrUnavailable, "unknown authority", "trust the registry's certificate authority with --ca FILE"},
		{"wrong name", "localhost:" + port, registry.Config{CAFile: ca}, registry.ErrUnavailable, "not localhost", "use the name that the registry's certificate is for"},
		{"no authority in the file", s.host, registry.Config{CAFile: junk}, nil, "no PEM certificates", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pull(t.Context(), client(t, tt.cfg), parse(t, tt.host+"/a"), describe("", blob))
			if tt.want == nil && tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(fmt.Sprint(err), tt.text) || !errors.As(err, &e) || e.Remedy() != tt.remedy {
				t.Errorf("got %v; remedy %q", err, e.Remedy())
			}
		})
	}
}

func TestF5_ConnectionRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Close()
	_, err := client(t, registry.Config{}).Resolve(t.Context(), parse(t, s.host+"/a"))
	var e *registry.Error
	if !errors.Is(err, registry.ErrUnavailable) || !errors.As(err, &e) || !strings.HasPrefix(e.Remedy(), "nothing answers at "+s.host) {
		t.Errorf("got %v", err)
	}
}

func TestTrafficGoesThroughTheProxy(t *testing.T) {
	t.Parallel()
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "registry.invalid:5000" {
			t.Errorf("asked for %s", r.Host)
		}
		w.WriteHeader(http.StatusBadGateway)
	})
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, registry.Config{Proxy: http.ProxyURL(u), Retries: 1})
	_, err = pull(t.Context(), c, parse(t, "registry.invalid:5000/a"), describe("", blob))
	if r := proxy.requests(); len(r) == 0 || r[0] != "CONNECT" {
		t.Errorf("the proxy saw %v: %v", r, err)
	}
}

// helper puts a credential helper with this script in a directory and returns the environment to find it.
func helper(t *testing.T, script string) []string {
	t.Helper()
	dir := t.TempDir()
	if err := testexec.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\n"+script)); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir + ":/usr/bin:/bin"}
}

func TestHostileH60_CredentialHelpers(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	tests := []struct {
		name, script, conf string
		want               error
		text               string
	}{
		{"credsStore", `read h; echo "$1 $h" >> ` + log + `; echo '{"Username":"me","Secret":"secret"}'`, `{"credsStore":"test"}`, nil, ""},
		{"credHelpers before auths", `echo '{"Username":"me","Secret":"secret"}'`, `{"credHelpers":{"HOST":"test"},"auths":{"HOST":{"auth":"YTpi"}}}`, nil, ""},
		{"helper of another host", `exit 1`, `{"credHelpers":{"other":"test"}}`, registry.ErrUnauthorized, "without credentials"},
		{"not found", `echo "credentials not found in native keychain"; exit 1`, `{"credsStore":"test"}`, registry.ErrUnauthorized, "without credentials"},
		{"not found, then auths", `echo "credentials not found in native keychain"; exit 1`, `{"credsStore":"test","auths":{"HOST":{"auth":"AUTH"}}}`, nil, ""},
		{"fails", `echo secret-stuff; exit 1`, `{"credsStore":"test"}`, nil, "docker-credential-test: exit status 1"},
		{"no JSON", `echo secret-stuff`, `{"credsStore":"test"}`, nil, "docker-credential-test: its answer is not JSON"},
		{"a gigabyte", `cat /dev/zero`, `{"credsStore":"test"}`, nil, "prints more than"},
		{"missing", ``, `{"credsStore":"absent"}`, nil, "docker-credential-absent"},
		{"a path as name", ``, `{"credsStore":"../x"}`, nil, `credential helper "../x"`},
		{"a slash in the name", ``, `{"credsStore":"x/y"}`, nil, `credential helper "x/y"`},
		{"the file is no JSON", ``, `{`, nil, "read credentials from"},
		{"auth is not base64", ``, `{"auths":{"HOST":{"auth":"*secret-stuff*"}}}`, nil, "auth is not base64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, basicOnly(func(w http.ResponseWriter, _ *http.Request) { send(w, blob) }))
			auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
			conf := configFile(t, strings.NewReplacer("HOST", s.host, "AUTH", auth).Replace(tt.conf))
			c := client(t, registry.Config{DockerConfig: conf, Env: helper(t, tt.script)})
			var err error
			for range 2 {
				_, err = pull(t.Context(), c, parse(t, s.host+"/a"), describe("", blob))
			}
			if err == nil { // a push needs other rights, and so looks the credential up again
				_, err = c.Repository(parse(t, s.host+"/a")).Exists(t.Context(), describe("", blob))
			}
			if tt.want == nil && tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(fmt.Sprint(err), tt.text) || strings.Contains(err.Error(), "secret-stuff") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "\n") != 1 || !strings.HasPrefix(string(b), "get 127.0.0.1:") {
			t.Errorf("helper was asked: %q %v", b, err)
		}
	})
}

func TestHostileH60_HangingHelperIsEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a timeout of ten seconds")
	}
	t.Parallel()
	s := serve(t, basicOnly(func(http.ResponseWriter, *http.Request) {}))
	c := client(t, registry.Config{DockerConfig: configFile(t, `{"credsStore":"test"}`), Env: helper(t, "sleep 1000 & sleep 1000")})
	begin := time.Now()
	_, err := c.Resolve(t.Context(), parse(t, s.host+"/a"))
	if err == nil || !strings.Contains(err.Error(), "docker-credential-test: no answer in 10s") || time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}
