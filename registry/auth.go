package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"gobuild/internal/netguard"
)

// authorizer answers the challenges of one registry. It remembers what worked, per scope.
type authorizer struct {
	keys       *keychain
	host       string // name that credentials are looked up by
	origin     *url.URL
	tokenHosts []string
	userAgent  string
	fetch      func(*http.Request) (*http.Response, error) // without credentials of its own, no redirects

	mu     sync.Mutex
	grants map[string]*grant
}

// grant is what requests of one scope carry.
type grant struct {
	turn    chan struct{} // held by the one goroutine that asks for a new token
	header  string        // the rest is guarded by authorizer.mu
	source  string
	expires time.Time // zero: never
}

func (a *authorizer) grant(scope string) *grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	g, ok := a.grants[scope]
	if !ok {
		g = &grant{turn: make(chan struct{}, 1)}
		a.grants[scope] = g
	}
	return g
}

// header is the Authorization of an operation's requests as far as one is known.
func (a *authorizer) header(o *operation) (header, source string) {
	g := a.grant(o.scope())
	a.mu.Lock()
	defer a.mu.Unlock()
	if !g.expires.IsZero() && time.Now().After(g.expires.Add(-tokenMargin)) {
		return "", ""
	}
	return g.header, g.source
}

// answer finds a new Authorization after a 401 to a request that carried rejected. "" says that
// there is none: the answer stands.
func (a *authorizer) answer(o *operation, challenges []string, rejected string) (header, source string, err error) {
	g := a.grant(o.scope())
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-o.ctx.Done():
		return "", "", context.Cause(o.ctx)
	}
	if h, s := a.header(o); h != "" && h != rejected {
		return h, s, nil // another request has asked meanwhile
	}
	header, source, expires, err := a.ask(o, challenges)
	if err != nil || header == rejected {
		return "", source, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g.header, g.source, g.expires = header, source, expires
	return header, source, nil
}

func (a *authorizer) ask(o *operation, challenges []string) (header, source string, expires time.Time, err error) {
	cs := parseChallenges(challenges)
	cred, err := a.keys.lookup(o.ctx, a.host, o.path)
	if err != nil {
		return "", "", time.Time{}, &localError{err}
	}
	if i := slices.IndexFunc(cs, func(c challenge) bool { return c.scheme == "bearer" }); i >= 0 {
		if cred.bearer != "" {
			return "Bearer " + cred.bearer, cred.source, time.Time{}, nil
		}
		header, expires, err = a.token(o, cs[i], cred)
		return header, cred.source, expires, err
	}
	if slices.ContainsFunc(cs, func(c challenge) bool { return c.scheme == "basic" }) && cred.user != "" {
		return basic(cred), cred.source, time.Time{}, nil
	}
	return "", "", time.Time{}, nil
}

func basic(c credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password))
}

// token asks the token server that a challenge names (distribution-spec, token authentication).
func (a *authorizer) token(o *operation, c challenge, cred credential) (string, time.Time, error) {
	realm, err := a.tokenServer(c.params["realm"], cred)
	if err != nil {
		return "", time.Time{}, err
	}
	scopes := o.scopes()
	for _, s := range strings.Fields(c.params["scope"]) { // several are in one text
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	asked := time.Now()
	req, err := a.tokenRequest(o.ctx, realm, c.params["service"], scopes, cred)
	if err != nil {
		return "", time.Time{}, err
	}
	t, err := a.exchange(req)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("token server %s: %w", realm.Host, err)
	}
	return "Bearer " + t.value(), asked.Add(t.life()), nil
}

// tokenServer decides whether the registry's token server may be asked, and told the credential:
// over https at the registry's host or registrable domain, or at a host from Config.TokenHosts. A registry
// that speaks plain HTTP (loopback, or so configured) may have one on the same host.
func (a *authorizer) tokenServer(realm string, cred credential) (*url.URL, error) {
	u, err := a.origin.Parse(realm)
	if err != nil || realm == "" || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, refuse("", "the registry names no usable token server (%.200q)", realm)
	}
	sameHost := strings.EqualFold(u.Hostname(), a.origin.Hostname())
	if u.Scheme == "http" && (a.origin.Scheme != "http" || !sameHost) {
		return nil, refuse("", "the registry wants a token over plain http from %s", u.Host)
	}
	if cred.empty() || sameHost || sameDomain(u.Hostname(), a.origin.Hostname()) || containsFold(a.tokenHosts, u.Hostname()) {
		return u, nil
	}
	return nil, refuse("if this host may see the credentials for "+a.host+", allow it with --registry-token-host "+u.Hostname(),
		"the registry %s wants its credentials sent to %s", a.host, u.Host)
}

// sameDomain compares registrable domains; addresses and public suffixes (co.uk, github.io) have none.
func sameDomain(a, b string) bool {
	if netguard.IsAddress(a) || netguard.IsAddress(b) {
		return false
	}
	da, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(a, ".")))
	if err != nil {
		return false
	}
	db, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(b, ".")))
	return err == nil && da == db
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, s) })
}

// tokenRequest is OAuth2 for an identity token, and otherwise a GET with the credential, if any, as basic authentication.
func (a *authorizer) tokenRequest(ctx context.Context, realm *url.URL, service string, scopes []string, cred credential) (*http.Request, error) {
	form := url.Values{"service": {service}, "client_id": {"gobuild"}}
	if cred.identity != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", cred.identity)
		form.Set("scope", strings.Join(scopes, " "))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("User-Agent", a.userAgent)
		return req, nil
	}
	u := *realm
	q := u.Query()
	q.Set("service", service)
	if len(scopes) > 0 {
		q["scope"] = scopes
	}
	if cred.user != "" {
		q.Set("account", cred.user)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", a.userAgent)
	if cred.user != "" {
		req.Header.Set("Authorization", basic(cred))
	}
	return req, nil
}

type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"`
}

func (t tokenAnswer) value() string {
	if t.AccessToken != "" {
		return t.AccessToken
	}
	return t.Token
}

// life takes an odd number for the default: it is only about when to ask again.
func (t tokenAnswer) life() time.Duration {
	if t.ExpiresIn <= 0 || t.ExpiresIn > 24*3600 {
		return tokenLife
	}
	return max(time.Duration(t.ExpiresIn)*time.Second, 2*tokenMargin)
}

// exchange sends a token request. A failure that may pass is an errTemporary.
func (a *authorizer) exchange(req *http.Request) (t tokenAnswer, err error) {
	resp, err := a.fetch(req)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBody+1))
	switch {
	case err != nil:
		return t, fmt.Errorf("%w: %w", errTemporary, err)
	case len(b) > maxTokenBody:
		return t, refuse("", "its answer is longer than %d bytes", maxTokenBody)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return t, fmt.Errorf("%w: %s", errTemporary, resp.Status)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return t, refuse("", "it redirects elsewhere")
	case resp.StatusCode != http.StatusOK:
		return t, fmt.Errorf("%w: %s%s", ErrUnauthorized, resp.Status, saying(b))
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("%w: its answer is not JSON", ErrContent)
	}
	if v := t.value(); v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return t, fmt.Errorf("%w: its answer holds no token", ErrContent)
	}
	return t, nil
}

// errTemporary marks a failure that another try may cure.
var errTemporary = errors.New("temporary failure")

// challenge is one scheme of a WWW-Authenticate header.
type challenge struct {
	scheme string
	params map[string]string
}

// parseChallenges reads WWW-Authenticate headers (RFC 9110, 11.6.1). What does not parse is left out.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		p := challengeParser{s: h}
		out = append(out, p.all()...)
	}
	return out
}

type challengeParser struct{ s string }

func (p *challengeParser) all() []challenge {
	var out []challenge
	for {
		p.skip(" \t,")
		name := p.word()
		if name == "" {
			return out
		}
		p.skip(" \t")
		if !strings.HasPrefix(p.s, "=") || len(out) == 0 { // a new scheme, not a parameter of the last one
			out = append(out, challenge{scheme: strings.ToLower(name), params: map[string]string{}})
			continue
		}
		p.s = p.s[1:]
		p.skip(" \t")
		params := out[len(out)-1].params
		if key := strings.ToLower(name); params[key] == "" { // the first of two equal ones counts
			params[key] = p.value()
		} else {
			p.value()
		}
	}
}

func (p *challengeParser) skip(set string) { p.s = strings.TrimLeft(p.s, set) }

// word takes a token (RFC 9110, 5.6.2), as far as schemes and parameter names use it.
func (p *challengeParser) word() string {
	n := strings.IndexFunc(p.s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.~+/", r)
	})
	if n < 0 {
		n = len(p.s)
	}
	w := p.s[:n]
	p.s = p.s[n:]
	return w
}

// value takes a word or a quoted string.
func (p *challengeParser) value() string {
	if !strings.HasPrefix(p.s, `"`) {
		return p.word()
	}
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '"':
			p.s = p.s[i+1:]
			return b.String()
		case '\\':
			if i++; i < len(p.s) {
				b.WriteByte(p.s[i])
			}
		default:
			b.WriteByte(p.s[i])
		}
	}
	p.s = ""
	return "" // the quote never ends
}
