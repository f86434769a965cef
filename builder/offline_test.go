package builder

import (
	"os"
	"strings"
	"testing"
)

// offline builds once with nothing allowed to be asked of other machines, and gives the error.
func (p *project) offline() (*Result, error) {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := Open(Config{Root: p.root, Executable: exe, Offline: true})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { must(p.t, b.Close()) }()
	opt := p.opt
	opt.Context = p.dir
	return b.Build(p.t.Context(), opt)
}

func TestJ2_OfflineAsksNobody(t *testing.T) {
	t.Parallel()
	w := newWeb(t, map[string]string{"/a": "1"})
	p := newProject(t, "FROM scratch\nADD "+w.URL+"/a /\n", nil)
	if _, err := p.offline(); err == nil || !strings.Contains(err.Error(), "--offline forbids") || classify(err, "").Category != CategoryUsage {
		t.Errorf("nothing was fetched before: %v", err)
	}
	first, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	w.counts()
	w.set("/a", "2")
	again, err := p.offline()
	if err != nil || again.ID() != first.ID() {
		t.Errorf("what is here is not used: %v", err)
	}
	host := strings.TrimPrefix(w.URL, "http://")
	for _, dockerfile := range []string{
		"FROM " + host + "/base:1\n", "FROM scratch\nADD " + w.URL + "/other /\n", "FROM scratch\nADD " + w.URL + "/r.git#main /r\n",
		"FROM scratch\nADD " + w.URL + "/r.git#" + strings.Repeat("ab", 20) + " /r\n",
	} {
		p.write("Dockerfile", dockerfile)
		if _, err := p.offline(); err == nil || !strings.Contains(err.Error(), "--offline forbids") {
			t.Errorf("%s: %v", dockerfile, err)
		}
	}
	p.write("Dockerfile", "FROM scratch\nADD "+w.URL+"/a /\n")
	p.opt.Tags, p.opt.Outputs = []string{host + "/app:1"}, []Output{{Type: "registry"}}
	if _, err := p.offline(); err == nil || !strings.Contains(err.Error(), "--offline forbids") {
		t.Errorf("push: %v", err)
	}
	if asked, _ := w.counts(); asked != 0 {
		t.Errorf("the server was asked %d times", asked)
	}
}
