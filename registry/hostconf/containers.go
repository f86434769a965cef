package hostconf

import (
	"cmp"
	"fmt"
	"strings"
)

// containersFile is registries.conf of podman, buildah and skopeo (containers-registries.conf(5), version 2). What it says of short
// names does not matter: gobuild has no search lists.
type containersFile struct {
	Search      []string           `toml:"unqualified-search-registries"`
	ShortNames  string             `toml:"short-name-mode"`
	Helpers     []string           `toml:"credential-helpers"`
	LayerHelper string             `toml:"additional-layer-store-auth-helper"`
	Aliases     map[string]string  `toml:"aliases"`
	Registry    []containersServer `toml:"registry"`
}

type containersServer struct {
	Prefix     string `toml:"prefix"`
	Location   string `toml:"location"`
	Insecure   bool   `toml:"insecure"`
	Blocked    bool   `toml:"blocked"`
	DigestOnly bool   `toml:"mirror-by-digest-only"`
	Mirror     []struct {
		Location string `toml:"location"`
		Insecure bool   `toml:"insecure"`
		From     string `toml:"pull-from-mirror"`
	} `toml:"mirror"`
}

// fromContainers takes what the first file says that names the registry, or the part of it that the repository is in.
func (c Config) fromContainers(host, repository string, r *Registry) error {
	for _, name := range c.Containers {
		data, err := read(name)
		if err != nil {
			return err
		}
		var file containersFile
		if err := decode(name, data, &file); err != nil {
			return err
		}
		entry, prefix := file.find(host, repository)
		if entry == nil {
			continue
		}
		if err := entry.apply(prefix, r); err != nil {
			return fmt.Errorf("%w: %s: [[registry]] %s: %w", ErrConfig, name, cmp.Or(entry.Prefix, entry.Location), err)
		}
		return nil
	}
	return nil
}

// find is the entry with the longest prefix that a repository has.
func (f *containersFile) find(host, repository string) (best *containersServer, prefix string) {
	whole := host + "/" + repository + "/"
	for i := range f.Registry {
		e := &f.Registry[i]
		p := strings.TrimSuffix(cmp.Or(e.Prefix, e.Location), "/")
		fits := strings.HasPrefix(whole, p+"/")
		if domain, ok := strings.CutPrefix(p, "*"); ok && !strings.Contains(domain, "/") {
			fits = strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain)
			p = domain
		}
		if fits && (best == nil || len(p) > len(prefix)) {
			best, prefix = e, p
		}
	}
	return best, prefix
}

// apply makes servers of an entry. A location is for pulls alone, as in the tools that the file is of.
func (e *containersServer) apply(prefix string, r *Registry) error {
	if e.Blocked {
		return fmt.Errorf("%s is blocked", r.Origin.Host)
	}
	_, strip, _ := strings.Cut(prefix, "/")
	for _, m := range e.Mirror {
		s, err := e.server(m.Location, strip, m.Insecure)
		if err != nil {
			return err
		}
		switch m.From {
		case "", "all":
			s.Resolve = !e.DigestOnly
		case "digest-only":
			s.Resolve = false
		default:
			return fmt.Errorf("pull-from-mirror = %q: want all or digest-only", m.From)
		}
		r.Mirrors = append(r.Mirrors, s)
	}
	r.Origin.Insecure = r.Origin.Insecure || e.Insecure
	if e.Location == "" || e.Location == prefix {
		return nil
	}
	if strings.HasPrefix(e.Prefix, "*") {
		return fmt.Errorf("a prefix with * and location = %q exclude each other", e.Location)
	}
	s, err := e.server(e.Location, strip, e.Insecure)
	s.Last = true
	r.Location = &s
	return err
}

func (e *containersServer) server(location, strip string, insecure bool) (Server, error) {
	if strings.Contains(location, "://") {
		return Server{}, fmt.Errorf("location = %q: want HOST[:PORT][/PATH]", location)
	}
	s, err := parseMirror(strings.TrimSuffix(location, "/"))
	s.Strip, s.Insecure = strip, insecure
	return s, err
}
