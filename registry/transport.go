package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/netguard"
)

// endpoint is one registry: where it answers, how, and what it may be told. It is the
// http.RoundTripper below regclient.
type endpoint struct {
	origin   *url.URL // scheme and host that credentials are bound to
	auth     *authorizer
	insecure func(host string) bool
	proxy    func(*http.Request) (*url.URL, error)
	private  bool   // servers may lead to private addresses
	root     string // path of the API
	strip    string // what the names of repositories do not begin with there
	ns       string // of a mirror: the registry that it stands for

	links links
}

// links are the connections of an endpoint, by what they may reach.
type links struct {
	own    http.RoundTripper // the registry's host, its certificate unverified if so configured
	public http.RoundTripper // public addresses, directly
	open   http.RoundTripper // other hosts by a proxy, or at private addresses if so configured
}

// RoundTrip sends a request of an operation, follows redirects and answers challenges.
func (e *endpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	o := operationOf(req.Context())
	if o == nil {
		return nil, errors.New("request outside of an operation")
	}
	if !o.try(req) {
		return nil, o.abort(o.exhausted())
	}
	first := req
	if o.from != "" && req.Method == http.MethodPost && req.URL.Query().Has("mount") {
		req = mountFrom(req, o.from)
	}
	req = e.place(req)
	for hop := 0; ; hop++ {
		if hop > maxHops {
			return nil, o.abort(refuse("", "more than %d redirects", maxHops))
		}
		if err := e.allowed(req.URL); err != nil {
			return nil, o.abort(err)
		}
		resp, err := e.authorized(o, req)
		if err != nil {
			return nil, noAnswer(o, err)
		}
		next, err := redirected(req, resp)
		if err != nil {
			return nil, o.abort(err)
		}
		if next == nil {
			return answer(o, first, resp)
		}
		req = next
	}
}

// mountFrom names the repository that holds the blob of an upload. A registry that does not take it from there answers as
// it would have without: go on and send it.
func mountFrom(req *http.Request, repository string) *http.Request {
	out := req.Clone(req.Context())
	q := out.URL.Query()
	q.Set("from", repository)
	out.URL.RawQuery = q.Encode()
	return out
}

// allowed decides about a URL, whoever named it. Plain http is for a registry that speaks it, and
// only to its own host or one that is listed as insecure.
func (e *endpoint) allowed(u *url.URL) error {
	switch {
	case u.User != nil:
		return refuse("", "the registry leads to a URL with credentials in it, at %s", u.Host)
	case u.Scheme == "https" && u.Host != "":
		return nil
	case u.Scheme != "http" || u.Host == "":
		return refuse("", "the registry leads to a %q URL", u.Scheme)
	case e.origin.Scheme == "http" && (e.own(u) || e.insecure(u.Host)):
		return nil
	}
	return refuse("", "the registry leads to plain http at %s", u.Host)
}

// own says whether a URL is on the host that the user named, on any port.
func (e *endpoint) own(u *url.URL) bool {
	return strings.EqualFold(u.Hostname(), e.origin.Hostname())
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// authorized sends one request, with the operation's credential if it goes to the registry's
// origin, and once more when the registry asks for another credential.
func (e *endpoint) authorized(o *operation, req *http.Request) (*http.Response, error) {
	if !sameOrigin(req.URL, e.origin) {
		return e.send(req, "")
	}
	header, source := e.auth.header(o)
	o.mu.Lock()
	o.credential = source
	o.mu.Unlock()
	resp, err := e.send(req, header)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	again, err := rewound(req)
	if err != nil {
		return resp, nil //nolint:nilerr // cannot be sent twice: the 401 stands
	}
	fresh, source, err := e.auth.answer(o, resp.Header.Values("WWW-Authenticate"), header)
	o.mu.Lock()
	o.credential = source
	o.mu.Unlock()
	if err != nil {
		discard(resp)
		return nil, err
	}
	if fresh == "" {
		return resp, nil
	}
	discard(resp)
	return e.send(again, fresh)
}

// rewound is the request with its body at the start.
func rewound(req *http.Request) (*http.Request, error) {
	again := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("body cannot be sent again")
	}
	body, err := req.GetBody()
	again.Body = body
	return again, err
}

// redirected is the request that a redirect asks for, nil when the answer is none.
func redirected(req *http.Request, resp *http.Response) (*http.Request, error) {
	location := resp.Header.Get("Location")
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			return nil, fmt.Errorf("%w: %s redirects a %s", ErrUnavailable, req.URL.Host, req.Method)
		}
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	discard(resp)
	u, err := req.URL.Parse(location)
	if err != nil || location == "" {
		return nil, fmt.Errorf("%w: %s redirects to no usable place", ErrUnavailable, req.URL.Host)
	}
	next, err := rewound(req)
	if err != nil {
		return nil, fmt.Errorf("%w: redirected to %s: %w", ErrUnavailable, u.Host, err)
	}
	next.URL, next.Host = u, ""
	return next, nil
}

// discard ends an answer whose content does not matter; a short one is read so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}

// send makes one exchange with every wait bounded. The request carries this Authorization and no other.
func (e *endpoint) send(req *http.Request, authorization string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	out := req.Clone(ctx)
	out.Header.Del("Authorization")
	if authorization != "" {
		out.Header.Set("Authorization", authorization)
	}
	timer := time.AfterFunc(answerTime, func() { cancel(errSlow) })
	var body *sendBody
	if req.Body != nil && req.Body != http.NoBody {
		body = &sendBody{rc: req.Body, timer: timer}
		out.Body, out.GetBody = body, nil // sending again is ours to decide
	}
	resp, err := e.via(out).RoundTrip(out)
	timer.Stop()
	if body != nil {
		// The connection may still be reading the body of a request that was answered early, and
		// the caller may seek it to send it again: it is out of reach from here on.
		body.stop()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &recvBody{rc: resp.Body, ctx: ctx, cancel: cancel}
	return resp, nil
}

// via chooses the connections for a request. Behind a proxy it is the proxy that
// resolves names, so only addresses in the URL itself can be judged.
func (e *endpoint) via(req *http.Request) http.RoundTripper {
	hostname := req.URL.Hostname()
	switch {
	case e.own(req.URL):
		return e.links.own
	case e.private, e.insecure(req.URL.Host), e.proxied(req) && !netguard.IsAddress(hostname) && !netguard.IsLoopback(hostname):
		return e.links.open
	}
	return e.links.public
}

func (e *endpoint) proxied(req *http.Request) bool {
	if e.proxy == nil {
		return false
	}
	p, err := e.proxy(req)
	return err == nil && p != nil
}

// noAnswer sorts the failures of a request: those that trying again cannot cure end the operation.
func noAnswer(o *operation, err error) error {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	var refused *refusal
	switch {
	case o.ctx.Err() != nil:
		return context.Cause(o.ctx)
	case errors.As(err, &refused):
		return o.abort(refused)
	case errors.Is(err, ErrUnauthorized), errors.Is(err, ErrContent), isLocal(err):
		return o.abort(err)
	case errors.As(err, &cert), errors.As(err, &notTLS), isCertError(err), errors.As(err, &dns) && dns.IsNotFound:
		return o.abort(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	o.failed(err)
	return err
}

func isCertError(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// isLocal recognises failures on this side: of credentials or the content to be sent.
func isLocal(err error) bool {
	var local *localError
	return errors.As(err, &local)
}

// localError wraps what no other try can cure, since it is not the network's.
type localError struct{ err error }

func (l *localError) Error() string { return l.err.Error() }
func (l *localError) Unwrap() error { return l.err }

// answer prepares the final answer for regclient.
func answer(o *operation, req *http.Request, resp *http.Response) (*http.Response, error) {
	if resp.StatusCode >= 300 {
		resp = failure(o, resp)
		if err := o.immutable(); err != nil {
			return nil, err
		}
		return resp, nil
	}
	o.answered(resp.StatusCode, "")
	resp.Header.Del("Warning") // regclient logs them
	if err := checkUpload(o, req, resp); err != nil {
		return nil, o.abort(err)
	}
	if err := resume(req, resp); err != nil {
		_ = resp.Body.Close()
		o.failed(err)
		return nil, err
	}
	if err := o.checkLength(req, resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	if o.manifest && req.Method == http.MethodGet {
		if err := bufferManifest(o, resp); err != nil {
			return nil, err
		}
	}
	if o.list {
		if err := bufferList(o, resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// immutable ends a push that an immutable tag is in the way of. Each registry has a status of its own for it, and this word.
func (o *operation) immutable() error {
	o.mu.Lock()
	is := o.push && o.manifest && o.status >= 400 && o.status < 500 && strings.Contains(strings.ToLower(o.said), "immutable")
	err := o.because(ErrImmutable)
	o.mu.Unlock()
	if !is {
		return nil
	}
	return o.abort(err)
}

// failure bounds the body of an error answer and fits its header to what regclient makes of it.
func failure(o *operation, resp *http.Response) *http.Response {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	o.answered(resp.StatusCode, strings.TrimPrefix(saying(b), ": "))
	// Challenges were answered here as far as they can be. Without the header regclient gives up at once.
	resp.Header.Del("WWW-Authenticate")
	limitRetryAfter(resp.Header)
	switch resp.StatusCode {
	case http.StatusInternalServerError, http.StatusNotImplemented, http.StatusBadGateway, http.StatusGatewayTimeout:
	default:
		if resp.StatusCode > 500 {
			resp.StatusCode = http.StatusBadGateway // regclient tries again after 502, but not after 503 or the 52x of proxies
		}
	}
	return resp
}

// limitRetryAfter makes Retry-After a number of seconds within bounds: regclient sleeps as long
// as it is told, and reads neither dates nor sense.
func limitRetryAfter(h http.Header) {
	v := h.Get("Retry-After")
	h.Del("Retry-After")
	secs, err := strconv.ParseInt(v, 10, 64)
	if t, terr := http.ParseTime(v); err != nil && terr == nil {
		secs, err = int64(time.Until(t)/time.Second)+1, nil
	}
	if err == nil && secs > 0 {
		h.Set("Retry-After", strconv.FormatInt(min(secs, int64(maxRetryAfter/time.Second)), 10))
	}
}

// checkUpload holds a registry to what it says it has stored.
func checkUpload(o *operation, req *http.Request, resp *http.Response) error {
	if o.upload == "" {
		return nil
	}
	if o.referrer != "" && path.Base(req.URL.Path) == o.referrer {
		return nil // the list beside what is uploaded, which has a digest of its own
	}
	got := resp.Header.Get("Docker-Content-Digest")
	if resp.StatusCode == http.StatusCreated && got != "" && got != o.upload.String() {
		return fmt.Errorf("the registry stored %.80q instead of %s: %w", got, o.upload, ErrContent)
	}
	if req.Method == http.MethodPost && resp.StatusCode == http.StatusCreated {
		o.mu.Lock()
		o.mounted = true
		o.mu.Unlock()
	}
	return nil
}

// resume checks that a continued download continues where the last one broke off. A
// server that starts over instead is read up to that place: the digest decides in the end.
func resume(req *http.Request, resp *http.Response) error {
	var start, end int64
	if n, _ := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &start, &end); n < 2 {
		if resp.StatusCode == http.StatusPartialContent {
			return fmt.Errorf("%w: a part was sent where the whole was asked for", ErrContent)
		}
		return nil
	}
	if resp.StatusCode == http.StatusPartialContent {
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", start)) {
			return fmt.Errorf("%w: another part was sent than asked for", ErrContent)
		}
		return nil
	}
	if _, err := io.CopyN(io.Discard, resp.Body, start); err != nil {
		return fmt.Errorf("skip what is there already: %w", err)
	}
	resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", start, end))
	return nil
}

// bufferManifest reads a manifest whole before regclient parses it: encoding/json would turn
// three bytes of a list into two hundred in memory.
func bufferManifest(o *operation, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	_ = resp.Body.Close()
	switch {
	case err != nil:
		o.failed(err)
		return err
	case len(b) > maxManifest:
		return o.abort(refuse("", "manifest of more than %d bytes", maxManifest))
	case bytes.Count(b, []byte(",")) > maxManifestItems:
		return o.abort(refuse("", "manifest of more than %d values", maxManifestItems))
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	resp.ContentLength = int64(len(b))
	resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
	if d := digest.Digest(resp.Header.Get("Docker-Content-Digest")); d.Validate() == nil && d.Algorithm().Available() && d.Algorithm().FromBytes(b) != d {
		return o.abort(fmt.Errorf("%w: manifest differs from the digest in its own header", ErrContent))
	}
	return nil
}

// bufferList reads a page of a list whole, within the bound of the list.
func bufferList(o *operation, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	_ = resp.Body.Close()
	o.mu.Lock()
	o.listed += len(b) + listPageCost
	long := o.listed > maxList
	o.mu.Unlock()
	switch {
	case err != nil:
		o.failed(err)
		return err
	case long:
		return o.abort(refuse("", "a list of more than %d bytes", maxList))
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}
