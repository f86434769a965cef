package builder

import (
	"fmt"
	"net/http"
	"net/url"
)

// reach is asked before anything is asked of another machine: an error under --offline.
func (b *Builder) reach(what string) error {
	if !b.cfg.Offline {
		return nil
	}
	return usage{&hinted{err: fmt.Errorf("%s: --offline forbids it", what), hint: "build once without --offline: what is fetched then is kept"}}
}

// proxy is the second fence: no request of ours finds a way out, whoever makes it.
func (c Config) proxy() func(*http.Request) (*url.URL, error) {
	if !c.Offline {
		return c.Proxy
	}
	return func(r *http.Request) (*url.URL, error) {
		return nil, fmt.Errorf("ask %s: --offline forbids it", r.URL.Host)
	}
}
