package stages

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

// expose is B63. The parser has sorted the words already.
func (s *state) expose(c *instructions.ExposeCommand) error {
	var ports []string
	for _, word := range c.Ports {
		specs, err := s.planner.x.words(word, s.env)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			p, err := parsePort(spec)
			if err != nil {
				return fmt.Errorf("port %s: %w", quoteShort(spec), err)
			}
			s.lintPort(p, spec)
			if s.size+16*(len(ports)+p.last-p.first) > maxConfig {
				return errConfigSize
			}
			for n := p.first; n <= p.last; n++ {
				ports = append(ports, strconv.Itoa(n)+"/"+strings.ToLower(p.proto))
			}
		}
	}
	cfg := &s.out.Image.Config
	if err := ownMap(s, &cfg.ExposedPorts, &s.owned.ports); err != nil {
		return err
	}
	for _, p := range ports {
		if _, ok := cfg.ExposedPorts[p]; !ok {
			s.size += len(p) + 6
		}
		cfg.ExposedPorts[p] = struct{}{}
	}
	return s.meta(fmt.Sprintf("EXPOSE %v", ports))
}

// lintPort is E30 and E31.
func (s *state) lintPort(p port, spec string) {
	if p.proto != strings.ToLower(p.proto) {
		s.lint.Run(&linter.RuleExposeProtoCasing, s.at, linter.RuleExposeProtoCasing.Format(spec))
	}
	if p.mapped {
		s.lint.Run(&linter.RuleExposeInvalidFormat, s.at, linter.RuleExposeInvalidFormat.Format(spec))
	}
}

// port is one argument of EXPOSE.
type port struct {
	first, last int
	proto       string // as written, "tcp" by default
	mapped      bool   // an IP address or a host port came with it
}

// parsePort reads [[ip:]host:]port[-port][/proto].
func parsePort(spec string) (port, error) {
	p := port{proto: "tcp"}
	rest := spec
	var ip, host string
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, rest = rest[:i], rest[i+1:]
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			ip, host = host[:i], host[i+1:]
		}
	}
	p.mapped = ip != "" || host != ""
	rest, proto, _ := strings.Cut(rest, "/")
	switch strings.ToLower(proto) {
	case "":
	case "tcp", "udp", "sctp":
		p.proto = proto
	default:
		return p, withHint(fmt.Errorf("invalid protocol %s", quoteShort(proto)), "the protocols are tcp, udp and sctp")
	}
	var err error
	if p.first, p.last, err = portRange(rest); err != nil {
		return p, err
	}
	if ip != "" && net.ParseIP(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")) == nil {
		return p, fmt.Errorf("invalid IP address %s", quoteShort(ip))
	}
	if host != "" {
		first, last, err := portRange(host)
		if err != nil {
			return p, fmt.Errorf("host port: %w", err)
		}
		if p.last != p.first && last-first != p.last-p.first {
			return p, errors.New("the ranges of host and container ports differ in length")
		}
	}
	return p, nil
}

func portRange(text string) (first, last int, err error) {
	a, b, ranged := strings.Cut(text, "-")
	if first, err = portNumber(a); err != nil {
		return 0, 0, err
	}
	if last = first; ranged && b != a {
		if last, err = portNumber(b); err != nil {
			return 0, 0, err
		}
	}
	if last < first {
		return 0, 0, fmt.Errorf("invalid range %s", quoteShort(text))
	}
	return first, last, nil
}

func portNumber(text string) (int, error) {
	if text == "" {
		return 0, errors.New("no port given")
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%s is not a port number (0-65535)", quoteShort(text))
	}
	return int(n), nil
}
