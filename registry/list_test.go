package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
	"gobuild/registry"
)

func TestJ12_ListsComeInPages(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	r.Token("me", "secret")
	r.Page = 2
	c := client(t, registry.Config{DockerConfig: config(t, r.Host)})
	for i := range 5 {
		pushAll(t, c, parse(t, fmt.Sprintf("%s/app%d:%d", r.Host, i, i)))
	}
	for i := range 5 {
		_, _, m := parts()
		d := describe("application/vnd.oci.image.manifest.v1+json", m)
		if err := c.PushManifest(t.Context(), parse(t, fmt.Sprintf("%s/app0:t%d", r.Host, i)), d, m); err != nil {
			t.Fatal(err)
		}
	}
	tags, err := c.Tags(t.Context(), parse(t, r.Host+"/app0"))
	if err != nil || strings.Join(tags, " ") != "0 t0 t1 t2 t3 t4" {
		t.Errorf("tags %v, %v", tags, err)
	}
	repos, err := c.Catalog(t.Context(), r.Host)
	if err != nil || strings.Join(repos, " ") != "app0 app1 app2 app3 app4" {
		t.Errorf("repositories %v, %v", repos, err)
	}
	_, err = client(t, registry.Config{}).Catalog(t.Context(), r.Host)
	if !errors.Is(err, registry.ErrUnauthorized) || !strings.Contains(err.Error(), "list repositories of "+r.Host) {
		t.Errorf("without credentials: %v", err)
	}
}

// A list without end is refused, as is one of endless empty pages; names cannot act on a terminal.
func TestHostileH54_ListsAreBounded(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]func(w http.ResponseWriter, n int){
		"empty pages": func(w http.ResponseWriter, n int) {
			w.Header().Set("Link", fmt.Sprintf(`</v2/a/tags/list?last=%d>; rel="next"`, n))
			fmt.Fprint(w, `{"tags":[]}`)
		},
		"one page": func(w http.ResponseWriter, _ int) {
			fmt.Fprint(w, `{"tags":["`)
			for range 40 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		n := 0
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			n++
			page(w, n)
		})
		if _, err := client(t, registry.Config{}).Tags(t.Context(), parse(t, s.host+"/a")); !errors.Is(err, registry.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if n > 2000 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tags":["b\u001b[2J","a","a"]}`) })
	if tags, err := client(t, registry.Config{}).Tags(t.Context(), parse(t, s.host+"/a")); err != nil || len(tags) != 2 || tags[1] != "b [2J" {
		t.Errorf("%q, %v", tags, err)
	}
}
