package registry

import (
	"context"

	"github.com/regclient/regclient/types/ref"
)

// Answer is how a registry answers.
type Answer struct {
	Scheme     string // "https" or "http"
	Credential string // where the credentials that it took come from, "" for none
}

// Access says whose questions it answers.
func (a Answer) Access() string {
	if a.Credential == "" {
		return "to anyone"
	}
	return "with credentials from " + a.Credential
}

// Check asks a registry's /v2/, as every client may, with the credentials that there are for it.
func (c *Client) Check(ctx context.Context, host string) (Answer, error) {
	cl, err := c.ping(ctx, "ask", host)
	if err != nil {
		return Answer{}, err
	}
	defer cl.end()
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return Answer{Scheme: cl.h.end.origin.Scheme, Credential: cl.credential}, nil
}

// ping makes the request of Check and of a login. End the call unless there is an error.
func (c *Client) ping(ctx context.Context, op, host string) (*call, error) {
	cl, err := c.begin(ctx, op, Reference{Host: host}, false)
	if err != nil {
		return nil, err
	}
	cl.list = true // the answer is small, and bounded as lists are
	if _, err := cl.h.client.Ping(cl.ctx, ref.Ref{Scheme: "reg", Registry: cl.r.Registry}); err != nil {
		defer cl.end()
		return nil, cl.fail(ctx, err)
	}
	return cl, nil
}
