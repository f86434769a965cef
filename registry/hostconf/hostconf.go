package hostconf

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds a configuration file: a thousand registries need a tenth of it.
const maxFile = 1 << 20

// ErrConfig says that a configuration file or a mirror's name is wrong.
var ErrConfig = errors.New("registry configuration")

// Config is where to look. The zero value knows nothing.
type Config struct {
	Files      []string            // registries.toml, the first that names a registry decides
	Containers []string            // registries.conf, the same, where no registries.toml names the registry
	Dirs       []string            // folders with a folder for each registry; the first with something in it decides
	Mirrors    map[string][]string // by registry: mirrors that come before those of the files
	CertDir    string              // *.crt, *.cert and *.key for every registry; "" for none
}

// Server is one place that answers for a registry.
type Server struct {
	Scheme   string // "http", "https", or "" for what the registry speaks
	Host     string // with port
	Root     string // path of its API: /v2, or with a prefix
	Strip    string // what the names of repositories do not begin with there
	Insecure bool   // its certificate need not be verified
	CA       []string
	Pairs    []Pair
	Resolve  bool // it may be asked what a tag means; for mirrors
	Last     bool // no other is asked after it, though it has another name than the registry
}

// Pair is a client certificate.
type Pair struct{ Cert, Key string }

// Registry is all that answers for one registry.
type Registry struct {
	Mirrors  []Server
	Origin   Server
	Location *Server // in place of the registry itself for pulls, nil for none
}

// Lookup finds the servers of a registry, HOST[:PORT] in lower case, for one of its repositories, "" for the registry as such.
func (c Config) Lookup(host, repository string) (Registry, error) {
	r := Registry{Origin: Server{Host: host, Root: apiRoot, Resolve: true}}
	for _, m := range c.Mirrors[host] {
		s, err := parseMirror(m)
		if err != nil {
			return r, err
		}
		r.Mirrors = append(r.Mirrors, s)
	}
	named, err := c.fromFiles(host, &r)
	if err == nil && !named {
		err = c.fromContainers(host, repository, &r)
	}
	if err != nil {
		return r, err
	}
	if err := c.fromDirs(host, &r); err != nil {
		return r, err
	}
	if err := c.completeMirrors(&r); err != nil {
		return r, err
	}
	return r, c.fromCertDir(&r)
}

// completeMirrors gives mirrors what the files say of them as registries.
func (c Config) completeMirrors(r *Registry) error {
	list := make([]*Server, 0, len(r.Mirrors)+1)
	for i := range r.Mirrors {
		list = append(list, &r.Mirrors[i])
	}
	if r.Location != nil {
		list = append(list, r.Location)
	}
	for _, m := range list {
		own := Registry{Origin: Server{Host: m.Host, Root: apiRoot}}
		if _, err := c.fromFiles(m.Host, &own); err != nil {
			return err
		}
		if err := c.fromDirs(m.Host, &own); err != nil {
			return err
		}
		o := own.Origin
		m.Scheme, m.Insecure = cmp.Or(m.Scheme, o.Scheme), m.Insecure || o.Insecure
		if len(m.CA) == 0 {
			m.CA = o.CA
		}
		if len(m.Pairs) == 0 {
			m.Pairs = o.Pairs
		}
	}
	return nil
}

// apiRoot is where registries have their API.
const apiRoot = "/v2"

// parseMirror reads [http[s]://]HOST[:PORT][/PREFIX]; the prefix comes before the names of repositories.
func parseMirror(text string) (Server, error) {
	rest, scheme := text, ""
	for _, s := range []string{"http", "https"} {
		if after, ok := strings.CutPrefix(text, s+"://"); ok {
			rest, scheme = after, s
		}
	}
	u, err := url.Parse("https://" + rest)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || path.Clean("/"+u.Path) != "/"+strings.Trim(u.Path, "/") {
		return Server{}, fmt.Errorf("%w: mirror %q: want HOST[:PORT][/PREFIX]", ErrConfig, text)
	}
	return Server{Scheme: scheme, Host: strings.ToLower(u.Host), Root: path.Join(apiRoot, u.Path), Resolve: true}, nil
}

// fromDirs reads the first folder that has one for the registry with anything in it, else the first with a default.
func (c Config) fromDirs(host string, r *Registry) error {
	for _, name := range []string{host, strings.ReplaceAll(host, ":", "_") + "_", "_default"} {
		if name == host+"_" {
			continue // the other spelling of a port, for file systems without colons
		}
		for _, dir := range c.Dirs {
			dir = filepath.Join(dir, name)
			data, err := read(filepath.Join(dir, "hosts.toml"))
			if err != nil {
				return err
			}
			if data != nil {
				return parseHosts(dir, data, r)
			}
			ca, pairs, err := certificates(dir)
			if err != nil {
				return err
			}
			if len(ca)+len(pairs) > 0 {
				r.Origin.CA, r.Origin.Pairs = append(r.Origin.CA, ca...), append(r.Origin.Pairs, pairs...)
				return nil
			}
		}
	}
	return nil
}

func (c Config) fromCertDir(r *Registry) error {
	if c.CertDir == "" {
		return nil
	}
	ca, pairs, err := certificates(c.CertDir)
	if err != nil {
		return err
	}
	r.Origin.CA, r.Origin.Pairs = append(slices.Clone(ca), r.Origin.CA...), append(slices.Clone(pairs), r.Origin.Pairs...)
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		m.CA = append(slices.Clone(ca), m.CA...) // client certificates are for the registry alone
	}
	if l := r.Location; l != nil {
		l.CA = append(slices.Clone(ca), l.CA...)
	}
	return nil
}

// certificates are Docker's: authorities in *.crt, and client certificates in *.cert with their *.key.
func certificates(dir string) (ca []string, pairs []Pair, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		base, end := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
		switch end {
		case ".crt":
			ca = append(ca, name)
		case ".cert":
			if _, err := os.Stat(base + ".key"); err != nil {
				return nil, nil, fmt.Errorf("%w: client certificate %s has no key beside it: %w", ErrConfig, name, err)
			}
			pairs = append(pairs, Pair{name, base + ".key"})
		}
	}
	return ca, pairs, nil
}

// read reads a file whole; nil for one that is not there.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxFile)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return append([]byte{}, b...), nil
}
