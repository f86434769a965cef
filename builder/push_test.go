package builder

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/internal/registrytest"
)

// layered is a project whose image has n layers.
func layered(t *testing.T, n int) *project {
	t.Helper()
	files := map[string]string{}
	dockerfile := "FROM scratch\n"
	for i := range n {
		name := fmt.Sprintf("f%02d", i)
		files[name] = strings.Repeat(name, 100)
		dockerfile += "COPY " + name + " /\n"
	}
	return newProject(t, dockerfile, files)
}

func count(list []string, word string) int {
	n := 0
	for _, s := range list {
		if strings.Contains(s, word) {
			n++
		}
	}
	return n
}

// transfers lists the events about blobs.
func (p *project) transfers() (sent, exists int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		switch {
		case e.Type != EventTransfer:
		case e.Cached:
			exists++
		default:
			sent++
		}
	}
	return sent, exists
}

func TestJ10_UnchangedImageIsAskedAboutOnly(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := layered(t, 20)
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if sent, exists := p.transfers(); sent < 21 || exists != 0 {
		t.Errorf("first push: %d sent, %d exist", sent, exists)
	}
	r.Forget()
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if asked := r.Requests(); len(asked) > 22 || count(asked, "HEAD ") != len(asked) {
		t.Errorf("pushed again with %d requests:\n%s", len(asked), strings.Join(asked, "\n"))
	}
	if sent, exists := p.transfers(); sent != 0 || exists != 21 {
		t.Errorf("second push: %d sent, %d exist", sent, exists)
	}
	if len(res.Pushed) != 1 {
		t.Errorf("pushed %v", res.Pushed)
	}
}

func TestJ10_EachRepositoryGetsItsTagsLast(t *testing.T) {
	t.Parallel()
	one, two := registrytest.New(t), registrytest.New(t)
	p := layered(t, 2)
	p.opt.Tags = []string{one.Host + "/app:1", one.Host + "/app:2", two.Host + "/app:1", one.Host + "/other:1"}
	p.opt.Outputs = []Output{{Type: "registry"}}
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(res.Pushed, " "); got != strings.Join([]string{p.opt.Tags[0], p.opt.Tags[1], p.opt.Tags[2], p.opt.Tags[3]}, " ") {
		t.Errorf("pushed %s", got)
	}
	asked := one.Requests()
	if n := count(asked, "PUT /v2/app/blobs"); n != 3 {
		t.Errorf("%d blobs were sent to app, want 3:\n%s", n, strings.Join(asked, "\n"))
	}
	if n := count(asked, "PUT /v2/app/manifests"); n != 2 {
		t.Errorf("%d manifests were sent to app, want 2", n)
	}
	if n := count(asked, "PUT /v2/other/blobs"); n != 0 {
		t.Errorf("%d blobs were sent to other, which can take them from app:\n%s", n, strings.Join(asked, "\n"))
	}
	tagged := false
	for _, line := range asked {
		if strings.HasPrefix(line, "PUT /v2/app/manifests/") {
			tagged = true
		} else if tagged && strings.HasPrefix(line, "PUT /v2/app/blobs") {
			t.Errorf("%s after a tag", line)
		}
	}
	for _, r := range []*registrytest.Registry{one, two} {
		if r.Manifest("app", "1") == nil {
			t.Errorf("%s has no app:1", r.Host)
		}
	}
}

// A layer is sent as soon as it is packed: the last step waits for the first one's upload.
func TestJ10_LayersAreSentDuringTheBuild(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	uploaded := make(chan struct{})
	var once sync.Once
	r.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/uploads/") {
			once.Do(func() { close(uploaded) })
		}
		return false
	})
	p := layered(t, 2)
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	p.during = func(e Event) {
		if e.Type != EventStepStart || e.Step.Text != "COPY f01 /" {
			return
		}
		select {
		case <-uploaded:
		case <-time.After(time.Minute):
			t.Error("no layer was sent before the last step")
		}
	}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if n := count(r.Requests(), "HEAD /v2/app/blobs"); n != 3 {
		t.Errorf("%d questions about 3 blobs", n)
	}
}
