package acceptance

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// editsPerSeed is how many times a project is changed and built.
const editsPerSeed = 6

// differential is how long TestI1_CacheEqualsNoCache goes on beyond its first seeds: make fuzz asks for minutes. It is not a
// fuzz target because those may take ten seconds for an input at most, and have no use for the coverage of this package.
var differential = flag.Duration("differential", 0, "how long to try random projects with and without the cache")

// TestI1_CacheEqualsNoCache: a project that is edited at random and built after each edit gives, with everything that the cache
// has, the same image as in an empty state directory: the digests of the manifests are compared, which hold every file's name,
// mode, owner, link and content, and the configuration.
func TestI1_CacheEqualsNoCache(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			compareBuilds(t, seed)
		})
	}
	if *differential > 0 {
		end := time.Now().Add(*differential)
		for seed := rand.Uint64(); time.Now().Before(end); seed++ { //nolint:gosec // no secret
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { compareBuilds(t, seed) })
		}
	}
}

func compareBuilds(t *testing.T, seed uint64) {
	w := newWorld(t, baseDockerfile, nil)
	base := filepath.Join(w.work, "base")
	w.build("-o", "type=oci,tar=false,dest="+base)
	p := newProject(seed)
	for n := range editsPerSeed {
		p.writeTo(t, w.dir)
		args := append([]string{"-f", filepath.Join(w.dir, "Dockerfile"), "--source-date-epoch", "86400", "--build-context", "base=oci-layout://" + base}, p.args()...)
		cached := p.build(w, w.root, args)
		fresh := p.build(w, filepath.Join(w.work, fmt.Sprint("fresh", n)), args)
		if cached != fresh {
			t.Fatalf("seed %d, after edit %d (%s): with the cache %s, without %s\n%s", seed, n, p.last, cached, fresh, p.dockerfile())
		}
		p.edit()
	}
}

// build gives the digest of the manifest, or how the build failed.
func (p *project) build(w *world, root string, args []string) string {
	out := filepath.Join(w.work, "out")
	defer os.RemoveAll(out)
	cmd := w.command(append(append([]string{"--root", root, "-o", "type=oci,tar=false,dest=" + out}, args...), w.dir)...)
	o := w.run(cmd)
	if o.code != 0 {
		_, cause, _ := strings.Cut(o.stderr, "error: ")
		line, _, _ := strings.Cut(cause, "\n")
		return fmt.Sprintf("fails with status %d: %s", o.code, line)
	}
	manifest, _ := layers(w.t, out)
	return manifest
}

// project is a Dockerfile and a context that can be edited at random.
type project struct {
	rnd    *rand.Rand
	files  map[string]entry
	stages [][]string
	values map[string]int // of build arguments
	last   string         // the last edit
}

type entry struct {
	data   string
	mode   os.FileMode
	link   string // target of a symlink
	hard   string // another name of that file
	folder bool
}

func newProject(seed uint64) *project {
	p := &project{rnd: rand.New(rand.NewPCG(seed, 1)), values: map[string]int{}, last: "none"} //nolint:gosec // to be repeatable, not secret
	p.files = map[string]entry{
		"a": {data: "a", mode: 0o644}, "b": {data: "b", mode: 0o755}, "d/x": {data: "x", mode: 0o644}, "d/y": {data: "y", mode: 0o600},
		"d/sub/z": {data: "z", mode: 0o644}, "e/x": {data: "ex", mode: 0o644}, "d/l": {link: "x"}, ".dockerignore": {data: "ignored\n", mode: 0o644},
		"ignored": {data: "i", mode: 0o644},
	}
	for i := range 1 + p.rnd.IntN(3) {
		var steps []string
		for range 2 + p.rnd.IntN(4) {
			steps = append(steps, p.step(i))
		}
		p.stages = append(p.stages, steps)
	}
	return p
}

func (p *project) pick(list ...string) string { return list[p.rnd.IntN(len(list))] }

// step makes an instruction for stage i.
func (p *project) step(i int) string {
	n := p.rnd.IntN(6)
	switch p.rnd.IntN(24) {
	case 0:
		return fmt.Sprintf("RUN echo %d >> /out/log", n)
	case 1:
		return fmt.Sprintf("RUN mkdir -p /out/m%d && echo %d > /out/m%d/f", n, p.rnd.IntN(3), n)
	case 2:
		return fmt.Sprintf("RUN rm -rf /out/m%d /out/d", n)
	case 3:
		// What a step sees of all that came before it.
		return "RUN seen=$(find /out -exec stat -c '%n %a %u %g %F' {} + | sort); sum=$(find /out -type f | sort | xargs cat | md5sum); echo \"$seen $sum\" > /out/seen"
	case 4:
		return fmt.Sprintf("RUN chmod %s /out/* ; true", p.pick("700", "755", "644"))
	case 5:
		return fmt.Sprintf("RUN chown -R %d:5 /out", n)
	case 6:
		return fmt.Sprintf("RUN ln -sf ../m%d /out/link; mv /out/m%d /out/moved; true", n, p.rnd.IntN(6))
	case 7:
		return fmt.Sprintf("RUN --mount=source=%s,target=/m cp -R /m /out/mounted%d", p.pick("d", "e", "a", "d/sub"), n)
	case 8:
		return fmt.Sprintf("RUN --mount=type=cache,target=/c,id=%s echo %d > /out/cached", p.pick("p", "q"), n)
	case 9:
		return fmt.Sprintf("ENV V%d=%d", n%3, p.rnd.IntN(3))
	case 10:
		return fmt.Sprintf("ARG A%d=%d\nRUN echo $A%d $V0 $V1 > /out/arg%d", n%3, p.rnd.IntN(3), n%3, n)
	case 11:
		return fmt.Sprintf("WORKDIR /out/w%d", n)
	case 12:
		return fmt.Sprintf("COPY %s /out/", p.pick("a", "b", "a b", "d/x", "d/l"))
	case 13:
		return fmt.Sprintf("COPY %s /out/%s", p.pick("d", "e", "d/sub", "."), p.pick("d", "e", "."))
	case 14:
		return fmt.Sprintf("COPY %s /out/wild/", p.pick("d/*", "d/?", "*/x", "none*"))
	case 15:
		return fmt.Sprintf("COPY --chown=%d:%d --chmod=%s d /out/owned", n, p.rnd.IntN(3), p.pick("755", "u=rwX", "700"))
	case 16:
		return fmt.Sprintf("COPY --link %s /linked/%d", p.pick("a", "d"), n)
	case 17:
		return fmt.Sprintf("COPY --exclude=%s --parents d/./%s /out/p/", p.pick("x", "*", "y"), p.pick("x", "sub", "*"))
	case 18:
		if i == 0 {
			return "COPY <<EOF /out/doc\n$V0 text\nEOF"
		}
		return fmt.Sprintf("COPY --from=%d %s /out/from%d", p.rnd.IntN(i), p.pick("/out", "/out/base", "/etc"), n)
	case 19:
		if i == 0 {
			return fmt.Sprintf("COPY <<\"EOF\" /out/doc\n$V0 %d\nEOF", n)
		}
		return fmt.Sprintf("RUN --mount=from=%d,source=/out,target=/m find /m -type f | sort | xargs md5sum > /out/all%d", p.rnd.IntN(i), n)
	case 20:
		return p.pick("LABEL a=1", "CMD x", "ENTRYPOINT [\"y\"]", "EXPOSE 80", "STOPSIGNAL 9", "VOLUME /v")
	case 21:
		return fmt.Sprintf("ADD %s /out/added%d", p.pick("a", "b"), n)
	case 22:
		return fmt.Sprintf("RUN touch /out/m%d; rm -rf /out/e; mkdir -p /out/e; true", n)
	}
	return fmt.Sprintf("USER %s", p.pick("0", "root", "0:0"))
}

func (p *project) dockerfile() string {
	var b strings.Builder
	for i, steps := range p.stages {
		fmt.Fprintf(&b, "FROM base AS s%d\nRUN mkdir -p /out && echo %d > /out/base\n", i, i)
		for _, s := range steps {
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

func (p *project) args() []string {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		args = append(args, "--build-arg", fmt.Sprintf("%s=%d", name, p.values[name]))
	}
	return args
}

// edit changes one thing.
func (p *project) edit() {
	names := slices.Sorted(maps.Keys(p.files))
	name := names[p.rnd.IntN(len(names))]
	e := p.files[name]
	i := p.rnd.IntN(len(p.stages))
	steps := p.stages[i]
	at := p.rnd.IntN(len(steps))
	switch kind := p.rnd.IntN(15); kind {
	case 0, 1:
		if e.link == "" && !e.folder && e.hard == "" && name != ".dockerignore" {
			e.data = fmt.Sprint(p.rnd.IntN(1000))
			p.files[name] = e
		}
		p.last = "content of " + name
	case 2:
		if e.link == "" && e.hard == "" {
			e.mode ^= 0o044
			p.files[name] = e
		}
		p.last = "mode of " + name
	case 3:
		p.files[fmt.Sprintf("d/new%d", p.rnd.IntN(3))] = entry{data: "new", mode: 0o644}
		p.last = "a new file in d"
	case 4:
		delete(p.files, fmt.Sprintf("d/new%d", p.rnd.IntN(3)))
		p.last = "no file in d"
	case 5:
		p.files["d/l"] = entry{link: p.pick("x", "y", "sub", "nowhere")}
		p.last = "link"
	case 6:
		p.files[".dockerignore"] = entry{data: p.pick("ignored\n", "d/y\n", "*\n!d\n!a\n!b\n!e\n", "d/sub\n"), mode: 0o644}
		p.last = "ignore file"
	case 7, 8:
		p.stages[i][at] = p.step(i)
		p.last = fmt.Sprintf("step %d of stage %d", at, i)
	case 9:
		p.stages[i] = slices.Insert(steps, at, p.step(i))
		p.last = fmt.Sprintf("new step %d in stage %d", at, i)
	case 10:
		if len(steps) > 1 {
			p.stages[i] = slices.Delete(steps, at, at+1)
		}
		p.last = fmt.Sprintf("no step %d in stage %d", at, i)
	case 11:
		p.values[fmt.Sprintf("A%d", p.rnd.IntN(3))] = p.rnd.IntN(3)
		p.last = "build argument"
	case 12:
		// Which names are one file is not in a key (FEATURES I6): a hard link stays one.
		p.files["d/hard"] = entry{hard: "d/x"}
		p.last = "a hard link"
	case 13:
		p.files["e/folder"] = entry{folder: true, mode: p.pickEntry(entry{mode: 0o755}, entry{mode: 0o700}).mode}
		p.last = "an empty folder"
	case 14:
		p.files["e/folder"] = entry{data: "no folder", mode: 0o644}
		p.last = "a file where a folder was"
	}
}

func (p *project) pickEntry(list ...entry) entry { return list[p.rnd.IntN(len(list))] }

// writeTo makes the context from nothing: new inodes and times, as after a checkout.
func (p *project) writeTo(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.RemoveAll(dir))
	must(os.Mkdir(dir, 0o755))
	must(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(p.dockerfile()), 0o644))
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		e, full := p.files[name], filepath.Join(dir, name)
		must(os.MkdirAll(filepath.Dir(full), 0o755))
		switch {
		case e.link != "":
			must(os.Symlink(e.link, full))
			continue
		case e.folder:
			must(os.Mkdir(full, 0o755))
			must(os.Chmod(full, e.mode))
			continue
		case e.hard != "":
			continue
		}
		must(os.WriteFile(full, []byte(e.data), 0o644))
		must(os.Chmod(full, e.mode))
		old := time.Unix(1_000_000, 0) // times are not in a key, and decide whether a file that is copied twice is stored twice
		must(os.Chtimes(full, old, old))
	}
	for name, e := range p.files {
		if e.hard != "" {
			must(os.Link(filepath.Join(dir, e.hard), filepath.Join(dir, name)))
		}
	}
}
