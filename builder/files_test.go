package builder

import (
	"fmt"
	"strings"
	"testing"

	"gobuild/internal/registrytest"
)

func TestP4_FilesAndWhatIsWasted(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY one /big\nCOPY two /dir/\nCOPY two /big\n", map[string]string{"one": "0123456789", "two": "ab"})
	p.opt.Tags = []string{"app:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	defer b.Close()
	r := registrytest.New(t)
	copyTo(t, b, "store://app:1", r.Host+"/app:1")
	for _, place := range []string{"app:1", "docker://" + r.Host + "/app:1"} {
		list, err := b.Files(t.Context(), place, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range list.Files {
			got = append(got, fmt.Sprintf("%s %s %d @%d", f.Path, f.Type, f.Size, f.Layer))
		}
		if want := "/big file 2 @2, /dir directory 0 @1, /dir/two file 2 @1"; strings.Join(got, ", ") != want {
			t.Errorf("%s: %s, want %s", place, strings.Join(got, ", "), want)
		}
		if list.Bytes != 4 || list.Wasted != 10 || len(list.Waste) != 1 || list.Waste[0] != (WasteInfo{"big", 10, 1}) {
			t.Errorf("%s: %d bytes, wasted %d %v", place, list.Bytes, list.Wasted, list.Waste)
		}
	}
}

func TestP4_DiffOfConfigurationLayersAndFiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{"same": "s", "x": "1"}
	p := newProject(t, "FROM scratch\nCOPY same /\nCOPY x /gone\nCOPY x /x\nENV A=1\nLABEL l=1\nCMD [\"a\"]\n", files)
	p.opt.Tags = []string{"old:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	p.write("Dockerfile", "FROM scratch\nCOPY same /\nCOPY --chmod=755 x /x\nCOPY x /new\nENV A=2 B=3\nLABEL l=1\nUSER u\n")
	p.write("x", "22")
	p.opt.Tags = []string{"new:1"}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	b := p.builder()
	defer b.Close()
	d, err := b.Diff(t.Context(), "old:1", "new:1", "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range d.Config {
		if c.Field != "created" {
			got = append(got, c.Field+" "+c.Old+">"+c.New)
		}
	}
	for _, f := range d.Files {
		got = append(got, f.Change+" "+f.Path+" "+strings.Join(f.What, "+"))
	}
	want := lines("ArgsEscaped true>", `Cmd ["a"]>`, `Env.A "1">"2"`, `Env.B >"3"`, `User >"u"`, "removed /gone ", "added /new ", "changed /x content+mode")
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if d.Shared != 1 || len(d.Layers.Old) != 2 || len(d.Layers.New) != 2 {
		t.Errorf("layers: %d shared, %d, %d", d.Shared, len(d.Layers.Old), len(d.Layers.New))
	}
	if d, err = b.Diff(t.Context(), "old:1", "old:1", ""); err != nil || len(d.Files)+len(d.Config) > 0 || d.Shared != 3 {
		t.Errorf("with itself: %+v, %v", d, err)
	}
	_, err = b.Diff(t.Context(), "old:1", "none:1", "")
	wantCategory(t, err, CategoryUsage, "none")
}
