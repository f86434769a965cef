package hostconf

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// registriesFile is registries.toml: what buildkitd.toml says of registries.
type registriesFile struct {
	Registry map[string]struct {
		Mirrors  []string `toml:"mirrors"`
		HTTP     bool     `toml:"http"`
		Insecure bool     `toml:"insecure"`
		CA       []string `toml:"ca"`
		KeyPair  []struct {
			Key  string `toml:"key"`
			Cert string `toml:"cert"`
		} `toml:"keypair"`
	} `toml:"registry"`
}

// fromFiles takes what the first file says that names the registry, and says whether one does.
func (c Config) fromFiles(host string, r *Registry) (named bool, err error) {
	for _, name := range c.Files {
		data, err := read(name)
		if err != nil {
			return false, err
		}
		var file registriesFile
		if err := decode(name, data, &file); err != nil {
			return false, err
		}
		entry, ok := file.Registry[host]
		if !ok {
			continue
		}
		for _, m := range entry.Mirrors {
			s, err := parseMirror(m)
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			r.Mirrors = append(r.Mirrors, s)
		}
		o := &r.Origin
		if o.Insecure = entry.Insecure; entry.HTTP {
			o.Scheme = "http"
		}
		for _, ca := range entry.CA {
			o.CA = append(o.CA, beside(name, ca))
		}
		for _, p := range entry.KeyPair {
			o.Pairs = append(o.Pairs, Pair{beside(name, p.Cert), beside(name, p.Key)})
		}
		return true, nil
	}
	return false, nil
}

// beside makes a path in a file relative to the file.
func beside(file, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(file), p)
}

// decode reads TOML, and refuses keys that it does not know: one that is not obeyed would be a surprise.
func decode(name string, data []byte, into any) error {
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(into)
	var strict *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, _ := strict.Errors[0].Position()
		return fmt.Errorf("%w: %s:%d: %s is not known here", ErrConfig, name, line, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &syntax):
		line, _ := syntax.Position()
		return fmt.Errorf("%w: %s:%d: %w", ErrConfig, name, line, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrConfig, name, err)
}

// hostsFile is containerd's hosts.toml (docs/hosts.md of containerd).
type hostsFile struct {
	Server string `toml:"server"`
	hostTable
	Host map[string]hostTable `toml:"host"`
}

type hostTable struct {
	Capabilities []string `toml:"capabilities"`
	CA           any      `toml:"ca"`
	Client       any      `toml:"client"`
	SkipVerify   bool     `toml:"skip_verify"`
	OverridePath bool     `toml:"override_path"`
}

func parseHosts(dir string, data []byte, r *Registry) error {
	name := filepath.Join(dir, "hosts.toml")
	var file hostsFile
	if err := decode(name, data, &file); err != nil {
		return err
	}
	for _, address := range hostOrder(data, file.Host) {
		s, err := file.Host[address].server(name, address)
		if err != nil {
			return err
		}
		if caps := file.Host[address].Capabilities; len(caps) == 0 || slices.Contains(caps, "pull") {
			s.Resolve = len(caps) == 0 || slices.Contains(caps, "resolve")
			r.Mirrors = append(r.Mirrors, s)
		}
	}
	if file.Server == "" {
		file.Server = r.Origin.Host
	}
	s, err := file.server(name, file.Server)
	if err != nil {
		return err
	}
	s.Resolve = true
	if s.Host == r.Origin.Host && !strings.Contains(file.Server, "://") {
		s.Scheme = r.Origin.Scheme
	}
	s.CA, s.Pairs, s.Insecure = append(r.Origin.CA, s.CA...), append(r.Origin.Pairs, s.Pairs...), s.Insecure || r.Origin.Insecure
	r.Origin = s
	return nil
}

// hostOrder is the order in which the hosts stand in the file, in which they are asked.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table {
			continue
		}
		var keys []string
		for it := e.Key(); it.Next(); {
			keys = append(keys, string(it.Node().Data))
		}
		if len(keys) >= 2 && keys[0] == "host" && !slices.Contains(order, keys[1]) {
			order = append(order, keys[1])
		}
	}
	var rest []string // inline tables have no order of their own
	for h := range hosts {
		if !slices.Contains(order, h) {
			rest = append(rest, h)
		}
	}
	slices.Sort(rest)
	return slices.DeleteFunc(append(order, rest...), func(h string) bool { _, ok := hosts[h]; return !ok })
}

// server reads an address: a host, or a URL whose path comes before /v2, or with override_path in its place.
func (t hostTable) server(name, address string) (Server, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "http" && u.Scheme != "https") {
		return Server{}, fmt.Errorf("%w: %s: host %q: want http[s]://HOST[:PORT][/PATH]", ErrConfig, name, address)
	}
	s := Server{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Root: path.Join("/", u.Path, apiRoot), Insecure: t.SkipVerify}
	if root := path.Clean("/" + u.Path); t.OverridePath || strings.HasSuffix(root, apiRoot) {
		s.Root = root
	}
	if !strings.Contains(address, "://") {
		s.Scheme = ""
	}
	cas, err := texts(t.CA)
	if err != nil {
		return s, fmt.Errorf("%w: %s: ca of %s: %w", ErrConfig, name, address, err)
	}
	for _, ca := range cas {
		s.CA = append(s.CA, beside(name, ca))
	}
	if s.Pairs, err = pairs(name, t.Client); err != nil {
		return s, fmt.Errorf("%w: %s: client of %s: %w", ErrConfig, name, address, err)
	}
	return s, nil
}

// texts reads a string or a list of them.
func texts(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, errors.New("want a path or a list of paths")
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, errors.New("want a path or a list of paths")
}

// pairs reads client certificates: a file with both, a list of such files, or a list of [certificate, key].
func pairs(name string, v any) ([]Pair, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	var out []Pair
	for _, e := range list {
		files, err := texts(e)
		if err != nil || len(files) < 1 || len(files) > 2 {
			return nil, errors.New("want a file with certificate and key, or a list of [certificate, key]")
		}
		p := Pair{beside(name, files[0]), beside(name, files[0])}
		if len(files) == 2 && files[1] != "" {
			p.Key = beside(name, files[1])
		}
		out = append(out, p)
	}
	return out, nil
}
