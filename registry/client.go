package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/manifest"
	"github.com/regclient/regclient/types/ref"

	"gobuild/internal/netguard"
	"gobuild/registry/hostconf"
)

// Config tells a Client how to reach registries. The zero value reaches public ones without credentials.
type Config struct {
	Hosts        hostconf.Config // mirrors and certificates
	Insecure     []string        // hosts, with or without port, spoken to over plain HTTP or TLS that is not verified
	InsecureAll  bool            // all that the user names are
	PushChunk    int64           // larger blobs are uploaded in chunks of this size; 0: whole, and in chunks when that fails
	Logins       []Login         // credentials that come before those of DockerConfig; their files do not matter
	DockerConfig string          // path of a Docker config.json with credentials; "" none
	CAFile       string          // PEM certificates trusted beside the system's
	Retries      int             // tries of one request in all; 0 for 5
	RetryDelay   time.Duration   // before the second try, doubling after; 0 for 1 s
	UserAgent    string          // "" for gobuild
	// LeaveImmutable makes PushRoot push by digest where a tag means something else and the registry lets nobody move it.
	LeaveImmutable bool
	AllowPrivate   bool         // registries may lead to private addresses (redirects, uploads)
	TokenHosts     []string     // hosts besides the registry's own domain that may be sent its credentials for a token
	Env            []string     // environment of credential helpers, whose PATH they are looked up in; nil for the process's
	Notice         func(string) // told what a user should know, e.g. that a registry is spoken to without TLS; nil drops it

	// Proxy chooses the proxy of a request, as http.Transport.Proxy does; nil uses none.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport replaces the connections, and with them TLS settings and address checks, in tests.
	Transport http.RoundTripper
}

// Client talks to any number of registries.
type Client struct {
	cfg  Config
	keys *keychain
	dir  directory

	mu    sync.Mutex
	hosts map[string]*host
}

// host is a registry that has been asked for. Its fields are set by the one that holds turn.
type host struct {
	turn   chan struct{}
	client *reg.Reg
	end    *endpoint
	close  func()
}

// New returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) {
	if cfg.Retries < 0 || cfg.RetryDelay < 0 {
		return nil, errors.New("registry: negative retries or delay")
	}
	if cfg.Retries == 0 {
		cfg.Retries = defaultRetries
	}
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = defaultRetryDelay
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "gobuild"
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	keys := &keychain{path: cfg.DockerConfig, env: cfg.Env}
	for _, l := range cfg.Logins {
		keys.fix(l.Host, l.credential("--creds"))
	}
	return &Client{cfg: cfg, keys: keys, dir: directory{conf: cfg.Hosts}, hosts: map[string]*host{}}, nil
}

// Close closes idle connections. Running calls are not ended.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		select {
		case h.turn <- struct{}{}:
			if h.close != nil {
				h.close()
			}
			<-h.turn
		default: // still connecting for the first time
		}
	}
}

// call is an operation with what is needed to carry it out and to report its failure.
type call struct {
	*operation
	h      *host
	name   string
	ref    Reference
	server hostconf.Server
	r      ref.Ref // as regclient has it
}

// begin starts an operation on a registry itself. End it with call.end.
func (c *Client) begin(ctx context.Context, name string, rf Reference, push bool) (*call, error) {
	r, err := c.dir.lookup(rf)
	if err != nil {
		return nil, err
	}
	return c.beginAt(ctx, name, rf, push, r.Origin)
}

// beginAt starts an operation on one of the servers for a registry.
func (c *Client) beginAt(ctx context.Context, name string, rf Reference, push bool, s hostconf.Server) (*call, error) {
	cl := &call{operation: newOperation(ctx, rf, push, c.cfg.Retries), name: name, ref: rf, server: s, r: regRef(s, rf)}
	if cl.isMirror() && !s.Last { // another server is next: no time is lost with this one
		cl.tries = min(cl.tries, mirrorTries)
	}
	if cl.path != "" {
		cl.path = atServer(s, cl.path)
	}
	var err error
	if cl.h, err = c.host(cl.operation, cl); err != nil {
		cl.end()
		return nil, cl.fail(ctx, err)
	}
	return cl, nil
}

// isMirror says whether the call goes to another host than the reference's.
func (cl *call) isMirror() bool { return cl.server.Host != strings.ToLower(cl.ref.Host) }

// fail turns an error into an *Error. parent is the context of the caller.
func (cl *call) fail(parent context.Context, err error) error {
	e := &Error{Op: cl.name, Host: hostDNS(cl.server.Host), Ref: cl.ref.Familiar(), Err: cl.classify(parent, err)}
	if cl.ref.Path == "" {
		e.Ref = cl.ref.Host
	}
	if cl.h != nil && cl.h.end != nil {
		e.Scheme = cl.h.end.origin.Scheme
	}
	cl.mu.Lock()
	e.Status, e.Credential = cl.status, cl.credential
	cl.mu.Unlock()
	e.hint = remedy(e)
	return e
}

func hostDNS(name string) string {
	if name == hubHost {
		return hubDNS
	}
	return name
}

// host finds or makes the connection to a registry. Only the first caller finds out how it speaks.
func (c *Client) host(o *operation, cl *call) (*host, error) {
	name := serverID(cl.server)
	if cl.isMirror() {
		name += " for " + strings.ToLower(cl.ref.Host)
	}
	c.mu.Lock()
	h, ok := c.hosts[name]
	if !ok {
		h = &host{turn: make(chan struct{}, 1)}
		c.hosts[name] = h
	}
	c.mu.Unlock()
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-o.ctx.Done():
		return nil, context.Cause(o.ctx)
	}
	if h.client != nil {
		return h, nil
	}
	if err := c.connect(o, h, cl); err != nil {
		return nil, err
	}
	return h, nil
}

func (c *Client) connect(o *operation, h *host, cl *call) error {
	name := cl.server.Host
	scheme, err := c.scheme(o, cl.server)
	if err != nil {
		return o.abort(err)
	}
	end := &endpoint{
		origin: &url.URL{Scheme: scheme, Host: hostDNS(name)}, insecure: c.isListed,
		proxy: c.cfg.Proxy, private: c.cfg.AllowPrivate, root: cl.server.Root, strip: cl.server.Strip,
	}
	if cl.isMirror() {
		end.ns = strings.ToLower(cl.ref.Host)
	}
	if end.links, h.close, err = c.connections(cl.server); err != nil {
		return o.abort(err)
	}
	end.auth = &authorizer{
		keys: c.keys, host: name, origin: end.origin, tokenHosts: c.cfg.TokenHosts,
		userAgent: c.cfg.UserAgent, grants: map[string]*grant{},
		fetch: func(req *http.Request) (*http.Response, error) {
			return end.send(req, req.Header.Get("Authorization"))
		},
	}
	conf := config.HostNewName(name)
	conf.ReqConcurrent = maxRequests
	if scheme == "http" {
		conf.TLS = config.TLSDisabled
		if hostname, _ := splitHost(name); !netguard.IsLoopback(hostname) {
			c.cfg.Notice(fmt.Sprintf("registry %s: plain HTTP, nothing is encrypted", name))
		}
	}
	h.client = reg.New(
		reg.WithConfigHosts([]*config.Host{conf}),
		reg.WithHTTPClient(&http.Client{Transport: end}),
		reg.WithSlog(slog.New(slog.DiscardHandler)),
		reg.WithUserAgent(c.cfg.UserAgent),
		reg.WithRetryLimit(c.cfg.Retries),
		reg.WithDelay(c.cfg.RetryDelay/2, max(maxRetryDelay, c.cfg.RetryDelay)), // regclient doubles before the first wait
		reg.WithManifestMax(maxManifest, maxManifest),
		reg.WithBlobSize(cmp.Or(c.cfg.PushChunk, chunk), cmp.Or(c.cfg.PushChunk, -1)),
	)
	h.end = end
	return nil
}

// Resolve finds what a reference means now. One with a digest is looked up by it.
func (c *Client) Resolve(ctx context.Context, rf Reference) (desc ocispec.Descriptor, err error) {
	err = c.eachServer(ctx, rf, rf.Digest == "", func(s hostconf.Server) (err error) {
		desc, err = c.resolveAt(ctx, rf, s)
		return err
	})
	return desc, err
}

// ResolveOrigin is Resolve by the registry itself, whatever mirrors it has: for who is about to change the meaning of a tag.
func (c *Client) ResolveOrigin(ctx context.Context, rf Reference) (ocispec.Descriptor, error) {
	list, err := c.servers(rf, rf.Digest == "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.resolveAt(ctx, rf, list[len(list)-1])
}

func (c *Client) resolveAt(ctx context.Context, rf Reference, s hostconf.Server) (ocispec.Descriptor, error) {
	cl, err := c.beginAt(ctx, "resolve", rf, false, s)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer cl.end()
	cl.manifest = true
	m, err := cl.h.client.ManifestHead(cl.ctx, cl.r)
	if err == nil {
		if d := m.GetDescriptor(); d.Size > 0 && d.MediaType != "" && checkDigest(d.Digest) == nil && (rf.Digest == "" || d.Digest == rf.Digest) {
			return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, nil
		}
	} else if s := cl.lastStatus(); cl.ctx.Err() != nil || s == 0 || s == http.StatusNotFound || s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusTooManyRequests {
		return ocispec.Descriptor{}, cl.fail(ctx, err)
	}
	// No usable header, or no HEAD: the document itself tells. Status 0 was no answer at all, after several tries.
	b, mediaType, err := cl.getManifest(rf.Digest)
	if err != nil {
		return ocispec.Descriptor{}, cl.fail(ctx, err)
	}
	d := rf.Digest
	if d == "" {
		d = digest.FromBytes(b)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, nil
}

// Manifest returns the manifest or index with digest d from the repository of rf, and its media type. Its content
// is verified; d "" takes what the reference means.
func (c *Client) Manifest(ctx context.Context, rf Reference, d digest.Digest) (b []byte, mediaType string, err error) {
	if d == "" {
		d = rf.Digest
	}
	err = c.eachServer(ctx, rf, d == "", func(s hostconf.Server) (err error) {
		b, mediaType, err = c.manifestAt(ctx, rf, d, s)
		return err
	})
	return b, mediaType, err
}

func (c *Client) manifestAt(ctx context.Context, rf Reference, d digest.Digest, s hostconf.Server) ([]byte, string, error) {
	cl, err := c.beginAt(ctx, "pull", rf, false, s)
	if err != nil {
		return nil, "", err
	}
	defer cl.end()
	cl.manifest = true
	b, mediaType, err := cl.getManifest(d)
	if err != nil {
		return nil, "", cl.fail(ctx, err)
	}
	return b, mediaType, nil
}

// getManifest reads by digest, or by the reference's tag.
func (cl *call) getManifest(d digest.Digest) ([]byte, string, error) {
	if d != "" {
		if err := checkDigest(d); err != nil {
			return nil, "", err
		}
	}
	r := cl.r
	r.Digest = d.String()
	m, err := cl.h.client.ManifestGet(cl.ctx, r)
	if err != nil {
		return nil, "", err
	}
	b, err := m.RawBody()
	if err != nil {
		return nil, "", err
	}
	if d != "" && d.Algorithm().FromBytes(b) != d {
		return nil, "", fmt.Errorf("%w: manifest %s was sent as %s", ErrContent, d, d.Algorithm().FromBytes(b))
	}
	return b, m.GetDescriptor().MediaType, nil
}

// Blob reads a blob from the repository of rf. The reader fails unless the content is what desc
// says; it is closed by the caller, and ends with ctx.
func (c *Client) Blob(ctx context.Context, rf Reference, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkBlob("pull", rf, desc); err != nil {
		return nil, err
	}
	list, err := c.servers(rf, false)
	if err != nil {
		return nil, err
	}
	if len(list) > 1 {
		f, err := c.newFallback(ctx, rf, desc, list)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	r, err := c.blobAt(ctx, rf, desc, list[0])
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Client) blobAt(ctx context.Context, rf Reference, desc ocispec.Descriptor, s hostconf.Server) (*blobReader, error) {
	cl, err := c.beginAt(ctx, "pull", rf, false, s)
	if err != nil {
		return nil, err
	}
	cl.download = desc.Size
	r, err := cl.h.client.BlobGet(cl.ctx, cl.r, regDescriptor(desc))
	if err != nil {
		defer cl.end()
		return nil, cl.fail(ctx, err)
	}
	return &blobReader{parent: ctx, cl: cl, rc: r, v: verify(r, desc)}, nil
}

// blobReader gives errors of a download their form and ends the operation with it.
type blobReader struct {
	parent context.Context //nolint:containedctx // of the download
	cl     *call
	rc     io.ReadCloser
	v      *verified
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.v.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.cl.fail(b.parent, err)
	}
	return n, err
}

func (b *blobReader) Close() error {
	err := b.rc.Close()
	b.cl.end()
	return err
}

// HasBlob says whether the repository of rf holds the blob.
func (c *Client) HasBlob(ctx context.Context, rf Reference, desc ocispec.Descriptor) (bool, error) {
	cl, err := c.beginBlob(ctx, "check", rf, desc, false)
	if err != nil {
		return false, err
	}
	defer cl.end()
	return cl.hasBlob(ctx, desc)
}

// hasBlobForPush is HasBlob before a push. It asks with the rights of the push: a repository that
// does not exist yet denies the right to pull.
func (c *Client) hasBlobForPush(ctx context.Context, rf Reference, desc ocispec.Descriptor) (bool, error) {
	cl, err := c.beginBlob(ctx, "push", rf, desc, true)
	if err != nil {
		return false, err
	}
	defer cl.end()
	return cl.hasBlob(ctx, desc)
}

func (cl *call) hasBlob(parent context.Context, desc ocispec.Descriptor) (bool, error) {
	r, err := cl.h.client.BlobHead(cl.ctx, cl.r, regDescriptor(desc))
	if err != nil {
		if cl.lastStatus() == http.StatusNotFound && cl.ctx.Err() == nil {
			return false, nil
		}
		return false, cl.fail(parent, err)
	}
	// A wrong length is a blob that is not there yet, or damaged: sending it again is right in both cases.
	length := r.RawHeaders().Get("Content-Length")
	return length == "" || length == fmt.Sprint(desc.Size), r.Close()
}

// PushBlob uploads a blob to the repository of rf. It may read r several times from the start.
func (c *Client) PushBlob(ctx context.Context, rf Reference, desc ocispec.Descriptor, r io.ReadSeeker) error {
	return c.pushBlob(ctx, rf, desc, r, "")
}

// pushBlob uploads a blob unless the registry takes it from another of its repositories. An upload that the registry does not
// know any more has ended, and its answer was lost, or it went with a restart.
func (c *Client) pushBlob(ctx context.Context, rf Reference, desc ocispec.Descriptor, r io.ReadSeeker, from string) error {
	err := c.upload(ctx, rf, desc, r, from)
	if !errors.Is(err, ErrNotFound) || ctx.Err() != nil {
		return err
	}
	if there, headErr := c.hasBlobForPush(ctx, rf, desc); headErr != nil || there {
		return headErr
	}
	return c.upload(ctx, rf, desc, r, from)
}

// upload is one upload of a blob, with its retries.
func (c *Client) upload(ctx context.Context, rf Reference, desc ocispec.Descriptor, r io.ReadSeeker, from string) error {
	cl, err := c.beginBlob(ctx, "push", rf, desc, true)
	if err != nil {
		return err
	}
	defer cl.end()
	cl.upload, cl.from = desc.Digest, from
	_, err = cl.h.client.BlobPut(cl.ctx, cl.r, regDescriptor(desc), &exactReader{r: r, desc: desc})
	mounted := cl.isMounted()
	if err == nil && mounted {
		var ok bool
		if ok, err = cl.hasBlob(ctx, desc); err == nil && !ok {
			err = fmt.Errorf("%w: the registry claims to have %s, but does not", ErrContent, desc.Digest)
		}
	}
	switch {
	case err == nil:
		return nil
	case from != "" && ctx.Err() == nil && (mounted || cl.denied()):
		// The right to read there was not to be had, or the registry has lost it there, too.
		return c.upload(ctx, rf, desc, r, "")
	}
	return cl.fail(ctx, err)
}

// PushManifest sends a manifest or an index to the repository of rf, under rf.Tag when that is set and
// else under its digest.
func (c *Client) PushManifest(ctx context.Context, rf Reference, desc ocispec.Descriptor, b []byte) error {
	if rf.Digest != "" && rf.Digest != desc.Digest {
		return fmt.Errorf("push %s: the image has the digest %s", rf.Familiar(), desc.Digest)
	}
	if int64(len(b)) != desc.Size || desc.Digest.Validate() != nil || desc.Digest.Algorithm().FromBytes(b) != desc.Digest {
		return fmt.Errorf("push %s: manifest %s: %w", rf.Familiar(), desc.Digest, ErrContent)
	}
	cl, err := c.begin(ctx, "push", rf, true)
	if err != nil {
		return err
	}
	defer cl.end()
	cl.upload, cl.manifest, cl.referrer = desc.Digest, true, referrerTag(b)
	cl.r.Digest = ""
	if rf.Tag == "" {
		cl.r.Digest = desc.Digest.String()
	}
	m, err := manifest.New(manifest.WithRaw(b), manifest.WithDesc(regDescriptor(desc)))
	if err != nil {
		return fmt.Errorf("push %s: %w", rf.Familiar(), err)
	}
	if err := cl.h.client.ManifestPut(cl.ctx, cl.r, m); err != nil {
		return cl.fail(ctx, err)
	}
	return nil
}

// referrerTag is the tag under which registries without the referrers API list what refers to the subject of a manifest (OCI
// distribution-spec 1.1, "Referrers Tag Schema"): regclient writes that list after the manifest. "" for a manifest without one.
func referrerTag(b []byte) string {
	var m struct {
		Subject struct {
			Digest digest.Digest `json:"digest"`
		} `json:"subject"`
	}
	if json.Unmarshal(b, &m) != nil || m.Subject.Digest.Validate() != nil {
		return ""
	}
	return m.Subject.Digest.Algorithm().String() + "-" + m.Subject.Digest.Encoded()
}

// beginBlob checks a descriptor before anything is made of it.
func (c *Client) beginBlob(ctx context.Context, name string, rf Reference, desc ocispec.Descriptor, push bool) (*call, error) {
	if err := checkBlob(name, rf, desc); err != nil {
		return nil, err
	}
	return c.begin(ctx, name, rf, push)
}

func checkBlob(name string, rf Reference, desc ocispec.Descriptor) error {
	if err := checkDigest(desc.Digest); err != nil {
		return fmt.Errorf("%s %s: %w", name, rf.Familiar(), err)
	}
	if desc.Size < 0 {
		return fmt.Errorf("%s %s: blob %s: size %d: %w", name, rf.Familiar(), desc.Digest, desc.Size, ErrContent)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", string(d), ErrContent, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: %w: %w", string(d), ErrContent, digest.ErrDigestUnsupported)
	}
	return nil
}

// regDescriptor leaves out the URLs and the data of a descriptor: they are not to be used.
func regDescriptor(d ocispec.Descriptor) descriptor.Descriptor {
	return descriptor.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// exactReader fails when the content to be sent is longer or shorter than promised, so that the
// registry is not blamed for it.
type exactReader struct {
	r    io.ReadSeeker
	desc ocispec.Descriptor
	pos  int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.pos += int64(n)
	if e.pos > e.desc.Size || (errors.Is(err, io.EOF) && e.pos < e.desc.Size) {
		return n, fmt.Errorf("blob %s has other than %d bytes: %w", e.desc.Digest, e.desc.Size, ErrContent)
	}
	return n, err
}

func (e *exactReader) Seek(offset int64, whence int) (int64, error) {
	pos, err := e.r.Seek(offset, whence)
	e.pos = pos
	return pos, err
}
