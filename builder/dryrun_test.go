package builder

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// forecast is the verdict of each step of a dry run, a line each.
func (p *project) forecast() string {
	p.t.Helper()
	p.opt.Context = p.dir
	b := p.builder()
	defer b.Close()
	f, err := b.DryRun(p.t.Context(), p.opt)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, stage := range f.Stages {
		for _, s := range stage.Steps {
			out = append(out, fmt.Sprintf("%s: %s, %s", s.Text, s.Verdict, s.Reason))
		}
	}
	return strings.Join(out, "\n")
}

func TestI15_DryRunSaysWhatABuildWouldDo(t *testing.T) {
	const dockerfile = "FROM scratch AS a\nCOPY src /src\nWORKDIR /w\nFROM scratch\nCOPY --link other /other\nCOPY --from=a /src/main /main\nWORKDIR /x\n"
	for _, tc := range []struct {
		name   string
		change func(p *project)
		want   string
	}{
		{"nothing changed", func(*project) {}, lines(
			"COPY src /src: cached, same key", "WORKDIR /w: cached, same key",
			"COPY --link other /other: cached, same key", "COPY --from=a /src/main /main: cached, same key", "WORKDIR /x: cached, same key",
		)},
		{"what depends on a step that would run is unknown, also by COPY --from", func(p *project) { p.write("src/main", "12345") }, lines(
			"COPY src /src: run, main changed: 1 bytes -> 5 bytes,", "WORKDIR /w: unknown, follows line 2, which is not cached",
			"COPY --link other /other: cached, same key", "COPY --from=a /src/main /main: unknown, reads what line 2 makes, which is not cached",
			"WORKDIR /x: unknown, follows line 2, which is not cached",
		)},
		{"COPY --link depends on nothing below it", func(p *project) {
			p.write("Dockerfile", strings.Replace(dockerfile, "COPY --link", "WORKDIR /new\nCOPY --link", 1))
		}, lines(
			"COPY src /src: cached, same key", "WORKDIR /w: cached, same key", "WORKDIR /new: run, the instruction is new",
			"COPY --link other /other: cached, same key", "COPY --from=a /src/main /main: unknown, follows line 5, which is not cached",
			"WORKDIR /x: unknown, follows line 5, which is not cached",
		)},
		{"I9 --no-cache leaves nothing to depend on", func(p *project) { p.opt.NoCache = true }, lines(
			"COPY src /src: run, --no-cache", "WORKDIR /w: run, --no-cache",
			"COPY --link other /other: run, --no-cache", "COPY --from=a /src/main /main: run, --no-cache", "WORKDIR /x: run, --no-cache",
		)},
		{"prune", func(p *project) {
			if _, err := p.builder().Prune(p.t.Context(), PruneOptions{All: true}); err != nil {
				p.t.Fatal(err)
			}
		}, lines(
			"COPY src /src: run, its result was removed by gobuild prune", "WORKDIR /w: unknown, follows line 2",
			"COPY --link other /other: run, its result was removed by gobuild prune", "COPY --from=a /src/main /main: unknown, ", "WORKDIR /x: unknown, ",
		)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, dockerfile, map[string]string{"src/main": "1", "other": "2"})
			if _, err := p.build(); err != nil {
				t.Fatal(err)
			}
			tc.change(p)
			before := p.stateFiles()
			got, want := strings.Split(p.forecast(), "\n"), strings.Split(tc.want, "\n")
			if len(got) != len(want) {
				t.Fatalf("got:\n%s", strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got:  %s\nwant: %s", got[i], want[i])
				}
			}
			if after := p.stateFiles(); after != before {
				t.Errorf("the state directory had\n%s\nand has\n%s", before, after)
			}
		})
	}
}

// stateFiles lists what results consist of: records, layers, blobs, history and tags.
func (p *project) stateFiles() string {
	p.t.Helper()
	var all []string
	for _, top := range []string{"cache/v1/records", "snapshots", "oci", "history"} {
		err := filepath.WalkDir(filepath.Join(p.root, top), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() != "pins" {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return strings.Join(all, "\n")
}

// A step that the build would take from a shared cache is told so, and not taken.
func TestI15_DryRunAsksSharedCachesAndTakesNothing(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nCOPY src /src\n", map[string]string{"src": "1"})
	shared := t.TempDir()
	p.opt.CacheTo = []CacheShare{{Type: "local", Dir: shared}}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	other := newProject(t, p.dockerfile, map[string]string{"src": "1"})
	other.opt.CacheFrom = []CacheShare{{Type: "local", Dir: shared}}
	for range 2 {
		if got, want := other.forecast(), "COPY src /src: cached, would be imported from "+shared; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
