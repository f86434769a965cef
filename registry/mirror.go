package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/ref"

	"gobuild/registry/hostconf"
)

// ErrConfig says that what the user configured about registries is wrong.
var ErrConfig = hostconf.ErrConfig

// directory is what is known of each registry's servers. It is read when a registry is asked for the first time.
type directory struct {
	conf hostconf.Config

	mu    sync.Mutex
	known map[string]hostconf.Registry
	down  map[string]bool // mirrors that failed: they are not asked again
}

func (d *directory) lookup(rf Reference) (hostconf.Registry, error) {
	host := strings.ToLower(rf.Host)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.known[host+"/"+rf.Path]; ok {
		return r, nil
	}
	r, err := d.conf.Lookup(host, rf.Path)
	if err != nil {
		return r, fmt.Errorf("registry %s: %w", host, err)
	}
	if d.known == nil {
		d.known, d.down = map[string]hostconf.Registry{}, map[string]bool{}
	}
	d.known[host+"/"+rf.Path] = r
	return r, nil
}

func (d *directory) isDown(s hostconf.Server) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down[serverID(s)]
}

func (d *directory) setDown(s hostconf.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down[serverID(s)] = true
}

// serverID tells servers apart: one host may be several, with other certificates or another path.
func serverID(s hostconf.Server) string {
	return fmt.Sprintf("%q %q %q %q %v %q %q", s.Scheme, s.Host, s.Root, s.Strip, s.Insecure, s.CA, s.Pairs)
}

// servers are those to ask for an image, in order: mirrors, and at last the registry itself. what is a tag's meaning or content.
func (c *Client) servers(rf Reference, tag bool) ([]hostconf.Server, error) {
	r, err := c.dir.lookup(rf)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(slices.Clone(r.Mirrors), func(s hostconf.Server) bool { return tag && !s.Resolve || c.dir.isDown(s) })
	if r.Location != nil {
		return append(list, *r.Location), nil
	}
	return append(list, r.Origin), nil
}

// eachServer tries the servers in order until one gives what is wanted.
func (c *Client) eachServer(ctx context.Context, rf Reference, tag bool, try func(hostconf.Server) error) error {
	list, err := c.servers(rf, tag)
	if err != nil {
		return err
	}
	for _, s := range list[:len(list)-1] {
		err := try(s)
		if err == nil || ctx.Err() != nil {
			return err
		}
		c.passOver(s, err)
	}
	return try(list[len(list)-1])
}

// passOver says that a mirror did not give what was wanted. One that lacks an image is what mirrors are like; another
// failure is told once, and the mirror is not asked again.
func (c *Client) passOver(s hostconf.Server, err error) {
	if errors.Is(err, ErrNotFound) {
		return
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrContent) || errors.Is(err, ErrRefused) {
		c.dir.setDown(s)
	}
	c.cfg.Notice(fmt.Sprintf("mirror %s is passed over: %v", s.Host, err))
}

// atServer is the path of a repository as the server's tokens name it.
func atServer(s hostconf.Server, path string) string {
	prefix := strings.TrimPrefix(s.Root, "/v2")
	return strings.Trim(prefix+"/"+stripped(s.Strip, path+"/"), "/")
}

// stripped takes a prefix of whole elements off a path.
func stripped(prefix, path string) string {
	if prefix == "" {
		return path
	}
	return strings.TrimPrefix(path, prefix+"/")
}

// place rewrites a request for where the server has its API, and tells a mirror whose image it is about.
func (e *endpoint) place(req *http.Request) *http.Request {
	if !sameOrigin(req.URL, e.origin) || (e.root == "/v2" || strings.HasPrefix(req.URL.Path, e.root+"/")) && e.ns+e.strip == "" {
		return req
	}
	rest, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		return req
	}
	out := req.Clone(req.Context())
	out.URL.Path, out.URL.RawPath = e.root+"/"+stripped(e.strip, rest), ""
	if e.ns != "" {
		q := out.URL.Query()
		q.Set("ns", e.ns)
		out.URL.RawQuery = q.Encode()
	}
	return out
}

// regRef is a reference as regclient has it, at a server.
func regRef(s hostconf.Server, rf Reference) ref.Ref {
	return ref.Ref{
		Scheme: "reg", Reference: rf.String(), Registry: s.Host,
		Repository: rf.Path, Tag: rf.Tag, Digest: rf.Digest.String(),
	}
}

// fallback continues a download at the next server when one breaks off. What is handed on may come from several, so the
// whole is verified once more.
type fallback struct {
	ctx  context.Context //nolint:containedctx // of the download
	c    *Client
	rf   Reference
	desc ocispec.Descriptor
	list []hostconf.Server // those not asked yet
	at   hostconf.Server
	used []hostconf.Server
	cur  *blobReader
	v    *verified // reads raw
}

// newFallback opens the blob at the first server that has it.
func (c *Client) newFallback(ctx context.Context, rf Reference, desc ocispec.Descriptor, list []hostconf.Server) (*fallback, error) {
	f := &fallback{ctx: ctx, c: c, rf: rf, desc: desc, list: list}
	f.v = verify(io.NopCloser(rawFallback{f}), desc)
	return f, f.next(0)
}

// next opens the blob at the next server, and skips what was handed on.
func (f *fallback) next(done int64) error {
	for {
		f.at, f.list = f.list[0], f.list[1:]
		r, err := f.c.blobAt(f.ctx, f.rf, f.desc, f.at)
		if err == nil {
			if _, err = io.CopyN(io.Discard, r, done); err == nil {
				f.cur, f.used = r, append(f.used, f.at)
				return nil
			}
			err = errors.Join(err, r.Close())
		}
		if len(f.list) == 0 || f.ctx.Err() != nil {
			return err
		}
		f.c.passOver(f.at, err)
	}
}

// Read reads verified bytes. After wrong ones none of the mirrors that they may have come from is asked again.
func (f *fallback) Read(p []byte) (int, error) {
	n, err := f.v.Read(p)
	if err == nil || !errors.Is(err, ErrContent) {
		return n, err
	}
	for _, s := range f.used {
		f.c.dir.setDown(s)
	}
	var done *Error
	if !errors.As(err, &done) {
		err = &Error{Op: "pull", Host: hostDNS(f.at.Host), Ref: f.rf.Familiar(), Err: err}
	}
	return n, err
}

// Close ends the download.
func (f *fallback) Close() error {
	if f.cur == nil {
		return nil
	}
	return f.cur.Close()
}

// rawFallback is what comes from the servers, one after the other.
type rawFallback struct{ *fallback }

func (r rawFallback) Read(p []byte) (int, error) {
	if r.cur == nil {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.cur.Read(p)
	done := r.desc.Size - r.v.left + int64(n)
	if err == nil || errors.Is(err, io.EOF) || len(r.list) == 0 || r.ctx.Err() != nil || done == r.desc.Size {
		return n, err
	}
	r.c.passOver(r.at, err)
	_ = r.cur.Close() // it has failed
	r.cur = nil
	return n, r.next(done)
}
