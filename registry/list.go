package registry

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/regclient/regclient/scheme"

	"gobuild/internal/imageref"
)

// ParseHost checks the name of a registry, HOST[:PORT], as users write it: with a scheme, or as the Hub's old address.
func ParseHost(s string) (string, error) {
	host := normalKey(s)
	named, err := imageref.Parse(host + "/x/y")
	if err != nil || len(host) > maxRepository || named.Domain != host || named.Path != "x/y" {
		return "", fmt.Errorf("registry %.200q: want a host like registry.example.com or localhost:5000", s)
	}
	return host, nil
}

// Tags lists the tags of the repository of rf, in order. The registry may send them in pages.
func (c *Client) Tags(ctx context.Context, rf Reference) ([]string, error) {
	rf.Tag, rf.Digest = "", ""
	cl, err := c.begin(ctx, "list tags of", rf, false)
	if err != nil {
		return nil, err
	}
	defer cl.end()
	cl.list = true
	list, err := cl.h.client.TagList(cl.ctx, cl.r)
	if err != nil {
		return nil, cl.fail(ctx, err)
	}
	return sortedNames(list.Tags), nil
}

// Catalog lists the repositories of a registry that has that API, in order.
func (c *Client) Catalog(ctx context.Context, host string) ([]string, error) {
	cl, err := c.begin(ctx, "list repositories of", Reference{Host: host}, false)
	if err != nil {
		return nil, err
	}
	defer cl.end()
	cl.list, cl.access = true, "registry:catalog:*"
	var all []string
	for last := ""; ; {
		opts := []scheme.RepoOpts{scheme.WithRepoLimit(catalogPage)}
		if last != "" {
			opts = append(opts, scheme.WithRepoLast(last))
		}
		page, err := cl.h.client.RepoList(cl.ctx, cl.r.Registry, opts...)
		if err != nil {
			return nil, cl.fail(ctx, err)
		}
		all = append(all, page.Repositories...)
		header, err := page.RawHeaders()
		if err != nil {
			return nil, cl.fail(ctx, err)
		}
		next := nextAfter(header.Values("Link"))
		if next == "" || next == last {
			return sortedNames(all), nil
		}
		last = next
	}
}

// nextAfter is the "last" of the next page's address (distribution-spec, Link as in RFC 8288); "" is the end.
func nextAfter(links []string) string {
	for _, l := range links {
		target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(l), "<"), ">")
		if !ok || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
			continue
		}
		if u, err := url.Parse(target); err == nil {
			return u.Query().Get("last")
		}
	}
	return ""
}

// sortedNames is what a registry lists, each once, without what could act on a terminal.
func sortedNames(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.Map(printable, n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Delete removes what rf means from its repository: a tag alone where it has one, else the manifest with that digest
// and with it every tag that means it.
func (c *Client) Delete(ctx context.Context, rf Reference) error {
	if rf.Digest != "" {
		rf.Tag = ""
	}
	cl, err := c.begin(ctx, "remove", rf, true)
	if err != nil {
		return err
	}
	defer cl.end()
	cl.access = "repository:" + rf.Path + ":pull,push,delete"
	if rf.Digest != "" {
		err = cl.h.client.ManifestDelete(cl.ctx, cl.r)
	} else {
		err = cl.deleteTag()
	}
	if err != nil {
		return cl.fail(ctx, err)
	}
	return nil
}

// deleteTag removes a tag. Registries that know no tags here get another manifest under it, which is then removed by
// its digest: removing the image's own would take its other tags along.
func (cl *call) deleteTag() error {
	if _, err := cl.h.client.ManifestHead(cl.ctx, cl.r); err != nil {
		return err
	}
	return cl.h.client.TagDelete(cl.ctx, cl.r)
}
