package builder

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/registrytest"
	"gobuild/sandbox"
)

// perPlatform copies another file for each architecture; the first stage is the same for all.
const perPlatform = `FROM --platform=$BUILDPLATFORM scratch AS shared
COPY common /common
FROM scratch
ARG TARGETARCH
ARG TARGETVARIANT
COPY --from=shared /common /common
COPY $TARGETARCH /arch
ENV VARIANT=$TARGETVARIANT
`

func platformProject(t *testing.T, list ...string) *project {
	t.Helper()
	p := newProject(t, perPlatform, map[string]string{"common": "all", "amd64": "x86", "arm64": "arm 64", "arm": "arm", "s390x": "big"})
	p.opt.Platforms = list
	return p
}

func mustBuild(t *testing.T, p *project) *Result {
	t.Helper()
	res, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// indexOf reads an index of the store.
func indexOf(t *testing.T, p *project, desc ocispec.Descriptor) ocispec.Index {
	t.Helper()
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(desc.Digest, maxDocument)
	if err != nil {
		t.Fatal(err)
	}
	idx, err := image.ParseIndex(raw, desc.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

func TestL4_AnIndexOfThePlatformsInTheOrderGiven(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/s390x", "linux/arm64/v8", "linux/amd64", "linux/arm/v7")
	p.opt.Tags = []string{"example.com/app:1"}
	res := mustBuild(t, p)
	if res.Manifest.MediaType != ocispec.MediaTypeImageIndex || res.ID() != res.Manifest.Digest {
		t.Errorf("result %s with id %s", res.Manifest.MediaType, res.ID())
	}
	idx := indexOf(t, p, res.Manifest)
	var got []string
	b := p.builder()
	defer b.Close()
	for _, d := range idx.Manifests {
		text, _ := json.Marshal(d.Platform)
		_, img, err := b.read(d)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(text)+" "+img.Architecture+img.Variant+" "+img.Config.Env[len(img.Config.Env)-1])
	}
	want := []string{
		`{"architecture":"s390x","os":"linux"} s390x VARIANT=`,
		`{"architecture":"arm64","os":"linux"} arm64 VARIANT=`,
		`{"architecture":"amd64","os":"linux"} amd64 VARIANT=`,
		`{"architecture":"arm","os":"linux","variant":"v7"} armv7 VARIANT=v7`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("index\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again := mustBuild(t, p); again.Manifest.Digest != res.Manifest.Digest || ran(again) != "" {
		t.Errorf("again: %s, want %s; ran %q", again.Manifest.Digest, res.Manifest.Digest, ran(again))
	}
}

// The stage of the build platform is one stage for all: its steps are told of once.
func TestL2_StagesOfTheBuildPlatformRunOnce(t *testing.T) {
	t.Parallel()
	p := platformProject(t)
	p.write("Dockerfile", "FROM scratch\nLABEL a=b\n")
	p.opt.Tags = []string{"example.com/base:1"} // scratch has the platform of the result: only an image can have another
	mustBuild(t, p)
	p.write("Dockerfile", strings.Replace(perPlatform, "BUILDPLATFORM scratch", "BUILDPLATFORM example.com/base:1", 1))
	p.opt.Tags, p.opt.Platforms = nil, []string{"linux/arm64", "linux/s390x"}
	res := mustBuild(t, p)
	var steps []string
	for _, s := range res.Steps {
		steps = append(steps, s.Platform+": "+s.Text)
	}
	slices.Sort(steps)
	_, host, err := platformsOf("")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		platformText(host) + ": COPY common /common",
		"linux/arm64: COPY --from=shared /common /common", "linux/arm64: COPY arm64 /arch",
		"linux/s390x: COPY --from=shared /common /common", "linux/s390x: COPY s390x /arch",
	}
	slices.Sort(want)
	if !slices.Equal(steps, want) {
		t.Errorf("steps\n%s\nwant\n%s", strings.Join(steps, "\n"), strings.Join(want, "\n"))
	}
}

// A cross build: RUN on this machine, with the target in its environment, for platforms that cannot run here.
func TestL2_CrossBuild(t *testing.T) {
	t.Parallel()
	p := newShellProjectOf(t, shellBase, nil)
	p.opt.Tags = []string{"example.com/base:1"}
	mustBuild(t, p)
	p.opt.Tags = nil
	p.write("Dockerfile", `FROM --platform=$BUILDPLATFORM example.com/base:1 AS build
RUN echo tools > /tools
ARG TARGETPLATFORM
RUN echo $TARGETPLATFORM > /out
FROM scratch
COPY --from=build /out /tools /
`)
	p.opt.Platforms = []string{"linux/arm64", "linux/nonesuch"}
	dir := t.TempDir()
	p.opt.Outputs = []Output{{Type: "local", Dest: dir}}
	res := mustBuild(t, p)
	for folder, want := range map[string]string{"linux_arm64": "linux/arm64\n", "linux_nonesuch": "linux/nonesuch\n"} {
		got, err := os.ReadFile(filepath.Join(dir, folder, "out"))
		if err != nil || string(got) != want {
			t.Errorf("%s has %q, %v, want %q", folder, got, err, want)
		}
	}
	if n := strings.Count(ran(res), "RUN echo tools"); n != 1 {
		t.Errorf("the step before ARG TARGETPLATFORM ran %d times", n)
	}
}

func TestL1_AnIndexOfOnePlatform(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/arm64")
	p.opt.Index = true
	res := mustBuild(t, p)
	if idx := indexOf(t, p, res.Manifest); len(idx.Manifests) != 1 || idx.Manifests[0].Platform.Architecture != "arm64" {
		t.Errorf("index %+v", idx.Manifests)
	}
	p.opt.Outputs = []Output{{Type: "docker", Dest: filepath.Join(t.TempDir(), "x.tar")}}
	mustBuild(t, p) // it holds one image
}

func TestL3_OneFailingFailsAll(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/arm64", "linux/ppc64le")
	p.opt.Tags = []string{"example.com/app:1"}
	_, err := p.build()
	wantCategory(t, err, CategoryUsage, "ppc64le")
	b := p.builder()
	defer b.Close()
	if list, err := b.Images(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("images %v, %v", list, err)
	}
}

func TestL1_WrongPlatforms(t *testing.T) {
	t.Parallel()
	for want, list := range map[string][]string{
		"given twice":      {"linux/arm64", "linux/arm64/v8"},
		"at most":          slices.Repeat([]string{"linux/arm64"}, maxPlatforms+1),
		"--platform a/b/c": {"linux/arm64", "a/b/c/d"},
	} {
		p := platformProject(t, list...)
		_, err := p.build()
		wantCategory(t, err, CategoryUsage, want)
	}
	p := platformProject(t, "linux/arm64", "linux/amd64")
	p.opt.Outputs = []Output{{Type: "docker", Dest: filepath.Join(t.TempDir(), "x.tar")}}
	_, err := p.build()
	wantCategory(t, err, CategoryUsage, "holds one platform")
	b := p.builder()
	defer b.Close()
	opt := p.opt
	opt.Context, opt.Outputs = p.dir, nil
	_, err = b.Plan(t.Context(), opt)
	wantCategory(t, err, CategoryUsage, "a plan is for one")
}

func TestL4_PushOfAnIndex(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	p := platformProject(t, "linux/arm64", "linux/s390x")
	p.opt.Tags, p.opt.Outputs = []string{r.Host + "/app:1"}, []Output{{Type: "registry"}}
	res := mustBuild(t, p)
	if !slices.Equal(res.Pushed, p.opt.Tags) {
		t.Errorf("pushed %v", res.Pushed)
	}
	idx, err := image.ParseIndex(r.Manifest("app", "1"), ocispec.MediaTypeImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	var puts []string
	for _, q := range r.Requests() {
		if strings.HasPrefix(q, "PUT /v2/app/manifests/") {
			puts = append(puts, strings.TrimPrefix(q, "PUT /v2/app/manifests/"))
		}
	}
	slices.Sort(puts[:2])
	want := []string{idx.Manifests[0].Digest.String(), idx.Manifests[1].Digest.String()}
	slices.Sort(want)
	if want = append(want, "1"); !slices.Equal(puts, want) {
		t.Errorf("manifests sent: %v, want each by digest and then the index by tag: %v", puts, want)
	}
	q := newProject(t, "FROM --platform=linux/s390x "+r.Host+"/app:1", nil)
	if tree, err := q.tree(); err != nil || !strings.Contains(tree, "arch 0644 0:0 3") {
		t.Errorf("as a base: %s, %v", tree, err)
	}
}

func TestL4_CommandsOnAnIndex(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/s390x", "linux/arm/v7") // none that this machine runs
	p.opt.Tags = []string{"example.com/app:1"}
	res := mustBuild(t, p)
	b := p.builder()
	defer b.Close()
	list, err := b.Images(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != res.ID() {
		t.Errorf("images %+v, %v", list, err)
	}
	for _, name := range []string{"app:1", res.ID().Encoded()[:12]} {
		i, err := b.Inspect(t.Context(), strings.Replace(name, "app", "example.com/app", 1), "")
		if err != nil || i.Image.Architecture != "s390x" || strings.Join(i.Platforms, " ") != "linux/s390x linux/arm/v7" {
			t.Errorf("inspect %s: %+v, %v", name, i, err)
		}
	}
	r := registrytest.New(t)
	layout, archive := "oci://"+t.TempDir()+"/layout:1", "oci-archive://"+t.TempDir()+"/a.tar:1"
	for _, step := range [][2]string{{"store://example.com/app:1", layout}, {layout, archive}, {archive, r.Host + "/app:1"}} {
		if d := copyTo(t, b, step[0], step[1]); d != res.Manifest.Digest {
			t.Errorf("%s to %s: digest %s, want %s", step[0], step[1], d, res.Manifest.Digest)
		}
	}
	one, err := b.Pull(t.Context(), r.Host+"/app:1", "linux/arm/v7", nil)
	if idx := indexOf(t, p, res.Manifest); err != nil || one != idx.Manifests[1].Digest {
		t.Errorf("pull: %s, %v", one, err)
	}
}

// The id that a build prints finds the index, as it finds an image.
func TestL4_AnIndexWithoutATag(t *testing.T) {
	t.Parallel()
	p := platformProject(t, "linux/s390x", "linux/arm64")
	res := mustBuild(t, p)
	b := p.builder()
	defer b.Close()
	if err := b.Tag(t.Context(), res.ID().Encoded()[:64], "example.com/late:1"); err != nil {
		t.Error(err)
	}
}

func TestK2_IndexOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := platformProject(t, "linux/arm64", "linux/s390x")
	p.opt.Tags = []string{"example.com/app:1"}
	p.opt.Outputs = []Output{{Type: "oci", Dest: filepath.Join(dir, "tar"), Tar: true}, {Type: "oci", Dest: filepath.Join(dir, "layout")}}
	res := mustBuild(t, p)
	for _, at := range []string{"tar", "layout"} {
		l, err := image.OpenLayout(filepath.Join(dir, at))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := l.Resolve("1"); err != nil || d.Digest != res.Manifest.Digest {
			t.Errorf("%s has %s, %v, want %s", at, d.Digest, err, res.Manifest.Digest)
		}
		_ = l.Close()
	}
}

func TestK2_FilesOfSeveralPlatforms(t *testing.T) {
	t.Parallel()
	const split = "linux_arm64/arch linux_arm64/common linux_s390x/arch linux_s390x/common"
	p := platformProject(t, "linux/arm64", "linux/s390x")
	dir := t.TempDir()
	var buf bytes.Buffer
	p.opt.Outputs = []Output{{Type: "local", Dest: dir}, {Type: "tar", Dest: "-", Out: &buf}}
	mustBuild(t, p)
	if got := strings.Join(filesUnder(t, dir), " "); got != split {
		t.Errorf("local: %s", got)
	}
	if got := strings.Join(filesOf(t, &buf), " "); got != split {
		t.Errorf("tar: %s", got)
	}
	for _, kind := range []string{"local", "tar"} {
		p.opt.Outputs = []Output{{Type: kind, Dest: filepath.Join(t.TempDir(), "out"), Attrs: map[string]string{"platform-split": "false"}}}
		_, err := p.build()
		wantCategory(t, err, CategoryUsage, "both linux/arm64 and linux/s390x have the file ")
	}
	p.opt.Platforms = p.opt.Platforms[:1]
	for value, want := range map[string]string{"": "arch common", "true": "linux_arm64/arch linux_arm64/common"} {
		one := t.TempDir()
		p.opt.Outputs = []Output{{Type: "local", Dest: one, Attrs: map[string]string{"platform-split": value}}}
		mustBuild(t, p)
		if got := strings.Join(filesUnder(t, one), " "); got != want {
			t.Errorf("platform-split=%s: %s, want %s", value, got, want)
		}
	}
}

// Files that only one platform has merge, folders that both have too, and hard links stay links.
func TestK2_FilesMergeWithoutASplit(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /d/$TARGETARCH/\n", map[string]string{"arm64/x": "1", "s390x/y": "2"})
	if err := os.Link(filepath.Join(p.dir, "arm64/x"), filepath.Join(p.dir, "arm64/z")); err != nil {
		t.Fatal(err)
	}
	p.opt.Platforms = []string{"linux/arm64", "linux/s390x"}
	dir := t.TempDir()
	var merged, split bytes.Buffer
	off := map[string]string{"platform-split": "false"}
	p.opt.Outputs = []Output{{Type: "local", Dest: dir, Attrs: off}, {Type: "tar", Dest: "-", Out: &merged, Attrs: off}, {Type: "tar", Dest: "-", Out: &split}}
	mustBuild(t, p)
	const want = "d/arm64/x d/arm64/z d/s390x/y"
	if got := strings.Join(filesUnder(t, dir), " "); got != want {
		t.Errorf("local: %s", got)
	}
	if got := strings.Join(filesOf(t, &merged), " "); got != want {
		t.Errorf("tar: %s", got)
	}
	if got := dump(t, &split); !strings.Contains(got, "linux_arm64/d/arm64/z 0644 0:0 = linux_arm64/d/arm64/x") {
		t.Errorf("tar with folders:\n%s", got)
	}
}

func filesUnder(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func filesOf(t *testing.T, r *bytes.Buffer) []string {
	t.Helper()
	var list []string
	tr := tar.NewReader(bytes.NewReader(r.Bytes()))
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		if h.Typeflag != tar.TypeDir {
			list = append(list, h.Name)
		}
	}
	slices.Sort(list)
	return list
}

// RUN of a platform that cannot run here fails before any step runs, and says what to install.
func TestG22_ForeignRunWithoutAnEmulator(t *testing.T) {
	t.Parallel()
	p := newShellProjectOf(t, shellBase, nil)
	p.opt.Platforms = []string{"linux/nonesuch"}
	_, err := p.build()
	wantCategory(t, err, CategoryEnvironment, "programs for nonesuch cannot run")
	e := classify(err, "")
	if !strings.Contains(e.Hint, "binfmt") || e.Pos.Start == 0 || e.Step == nil {
		t.Errorf("hint %q at line %d", e.Hint, e.Pos.Start)
	}
	for _, ev := range p.events {
		if ev.Type == EventStepStart {
			t.Fatalf("%s began", ev.Step.Text)
		}
	}
}

func TestG22_Emulators(t *testing.T) {
	t.Parallel()
	h := func(name, flags string, on bool) sandbox.BinfmtHandler {
		return sandbox.BinfmtHandler{Name: name, Flags: flags, Enabled: on}
	}
	for _, tc := range []struct {
		name string
		have sandbox.BinfmtHandler
		arch string
		want string // "" it runs
	}{
		{"fixed", h("qemu-aarch64", "OCF", true), "arm64", ""},
		{"named as the architecture", h("qemu-s390x", "F", true), "s390x", ""},
		{"not fixed", h("qemu-aarch64", "OC", true), "arm64", "lacks the flag F"},
		{"disabled", h("qemu-aarch64", "F", false), "arm64", "no emulator"},
		{"of another", h("qemu-arm", "F", true), "arm64", "no emulator"},
		{"rosetta", h("rosetta", "F", true), "amd64", ""},
	} {
		err := emulates([]sandbox.BinfmtHandler{tc.have}, tc.arch)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	for _, tc := range []struct {
		host, arch string
		want       bool
	}{{"amd64", "amd64", true}, {"amd64", "386", true}, {"amd64", "arm64", false}, {"arm64", "arm", true}, {"arm", "arm64", false}, {"s390x", "", true}} {
		if got := native(ocispec.Platform{OS: "linux", Architecture: tc.host}, ocispec.Platform{OS: "linux", Architecture: tc.arch}); got != tc.want {
			t.Errorf("%s on %s: %v", tc.arch, tc.host, got)
		}
	}
}
