package builder

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/internal/registrytest"
)

// stated makes a project whose image says how it was made, with an epoch.
func stated(t *testing.T, dockerfile string, files map[string]string) *project {
	t.Helper()
	p := newProject(t, dockerfile, files)
	p.opt.Attest.Provenance = &ProvenanceOptions{Max: true, Version: "v1", Filename: "provenance.json"}
	epoch := time.Unix(1_700_000_000, 0).UTC()
	p.opt.SourceDateEpoch = &epoch
	p.opt.Tags = []string{"app:1"}
	return p
}

// reproduce verifies app:1 by what it says and a context alone.
func (p *project) reproduce(change func(*ReproduceOptions)) (*Reproduction, error) {
	p.t.Helper()
	b := p.builder()
	defer b.Close()
	p.events = nil
	opt := ReproduceOptions{Image: "app:1", Build: Options{Context: p.dir, Progress: func(e Event) { p.events = append(p.events, e) }}}
	if change != nil {
		change(&opt)
	}
	return b.Reproduce(p.t.Context(), opt)
}

func (p *project) mustReproduce(change func(*ReproduceOptions)) PlatformVerdict {
	p.t.Helper()
	r, err := p.reproduce(change)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(r.Platforms) != 1 {
		p.t.Fatalf("%+v", r)
	}
	return r.Platforms[0]
}

func (p *project) wantSame(change func(*ReproduceOptions)) {
	p.t.Helper()
	if v := p.mustReproduce(change); !v.Same || v.Rebuilt != v.Digest {
		first := ""
		if v.Difference != nil {
			first = v.Difference.First()
		}
		p.t.Errorf("%+v: %s", v, first)
	}
}

func TestP7_EverythingThatDecidesTheImageIsTakenFromItsProvenance(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v0.2"} {
		p := stated(t, "ARG COLOR\nFROM scratch AS a\nARG COLOR\nCOPY file /$COLOR\nLABEL x=y\nFROM a AS b\nCOPY file /never\n", map[string]string{"file": "1"})
		p.opt.Attest.Provenance.Version = version
		p.opt.Target, p.opt.BuildArgs, p.opt.Labels = "a", map[string]string{"COLOR": "blue"}, map[string]string{"l": "1", "m": "2"}
		p.opt.Env, p.opt.Unset.Labels, p.opt.Run.Hostname = []string{"E=1"}, []string{"x"}, "h"
		p.opt.Annotations = []Annotation{{On: onManifest, Key: "k", Value: "a=b:c"}, {On: onIndex, Key: "i", Value: "1"}}
		p.opt.Outputs = []Output{{Type: "image", Attrs: map[string]string{"compression": "zstd", "compression-level": "7", "annotation.out": "2"}}}
		mustBuild(t, p)
		p.wantSame(nil)
	}
}

func TestP7_WhatDiffersIsNamedByLayerFileAndAttribute(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nCOPY same /\nCOPY a b /\nENV X=1\n", map[string]string{"same": "s", "a": "1", "b": "2"})
	mustBuild(t, p)
	p.write("b", "3")
	must(t, os.Chmod(p.dir+"/a", 0o755))
	v := p.mustReproduce(nil)
	if v.Same || v.Difference == nil || len(v.Difference.Layers) != 1 {
		t.Fatalf("%+v", v)
	}
	l := v.Difference.Layers[0]
	if l.Number != 2 || !strings.HasPrefix(l.CreatedBy, "COPY a b /") || v.Difference.First() != "layer 2: /a: mode" {
		t.Errorf("layer %d, %s: first %s", l.Number, l.CreatedBy, v.Difference.First())
	}
	if len(l.Changes) != 2 || l.Changes[0].Attrs[0].Old != "0644" || l.Changes[0].Attrs[0].New != "0755" || l.Changes[1].Path != "/b" || l.Changes[1].Attrs[0].Name != "content" {
		t.Errorf("changes %+v", l.Changes)
	}

	p = stated(t, "FROM scratch\nCOPY a /\n", map[string]string{"a": "1"})
	mustBuild(t, p)
	v = p.mustReproduce(func(o *ReproduceOptions) { o.Build.Labels = map[string]string{"l": "1"} })
	if d := v.Difference; v.Same || len(d.Layers) > 0 || d.First() != "configuration: Labels.l" || d.Config[0].New != `"1"` {
		t.Errorf("%+v", d)
	}
	v = p.mustReproduce(func(o *ReproduceOptions) { o.Build.Annotations = []Annotation{{On: onManifest, Key: "k", Value: "v"}} })
	if d := v.Difference; v.Same || len(d.Layers)+len(d.Config) > 0 || d.First() != "manifest: annotations.k" {
		t.Errorf("%+v", d)
	}
}

func TestP7_AStepThatWritesTheTimeIsNamed(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /stamp\n", nil)
	mine := stated(t, "", nil)
	p.opt.Attest, p.opt.SourceDateEpoch, p.opt.Tags = mine.opt.Attest, mine.opt.SourceDateEpoch, mine.opt.Tags
	mustBuild(t, p)
	v := p.mustReproduce(nil)
	if v.Same || v.Difference.First() != "layer 3: /stamp: content" {
		t.Errorf("%+v", v.Difference)
	}
}

func TestP7_BaseImagesAreThoseOfThatTime(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	base := newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": "old"})
	name := r.Host + "/base:1"
	base.opt.Tags, base.opt.Outputs = []string{name}, []Output{{Type: "registry"}}
	mustBuild(t, base)
	p := stated(t, "FROM "+name+"\nCOPY a /\n", map[string]string{"a": "1"})
	mustBuild(t, p)
	base.write("f", "new")
	mustBuild(t, base)
	p.wantSame(func(o *ReproduceOptions) { o.Build.Pull = PullAlways })
	p.wantSame(func(o *ReproduceOptions) { // the blobs of the old one are in the registry under no name
		copyTo(t, p.builder(), "store://app:1", "oci://"+p.dir+"/layout:1")
		p.root = t.TempDir()
		must(t, os.Chmod(p.root, 0o700))
		o.Image, o.Build.Context = "oci://"+p.dir+"/layout:1", p.dir
		b := p.builder()
		defer b.Close()
		copyTo(t, b, o.Image, "store://app:1")
	})
	p.write("Dockerfile", "FROM "+r.Host+"/other:1\nCOPY a /\n")
	base.opt.Tags = []string{r.Host + "/other:1"}
	mustBuild(t, base)
	_, err := p.reproduce(func(o *ReproduceOptions) { o.Build.Dockerfile = p.dir + "/Dockerfile" })
	wantCategory(t, err, CategoryStep, "is not in its provenance: the image was made of something else")
}

func TestP7_URLsAndCommitsAreThoseOfThatTime(t *testing.T) {
	t.Parallel()
	w, g := newWeb(t, map[string]string{"/a": "1"}), newGitServer(t)
	g.commit("f", "1", "Dockerfile", "FROM scratch\nADD "+w.URL+"/a?token=hidden /\nADD "+g.URL+"/a.git#main /r\nCOPY f /g\n")
	p := stated(t, "", nil)
	p.opt.ContextURL, p.opt.Context = g.URL+"/a.git#main", ""
	build := func() (*Result, error) {
		b := p.builder()
		defer b.Close()
		return b.Build(t.Context(), p.opt)
	}
	if _, err := build(); err != nil {
		t.Fatal(err)
	}
	g.commit("f", "2")
	noContext := func(o *ReproduceOptions) { o.Build.Context = "" }
	p.wantSame(noContext)
	w.set("/a", "2")
	_, err := p.reproduce(noContext)
	wantCategory(t, err, CategoryStep, w.URL+"/a is sha256:")
}

func TestP7_WhatIsMissingIsAskedFor(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nARG API_TOKEN\nCOPY --from=other /f /f\n", map[string]string{"other/f": "1"})
	p.opt.BuildArgs = map[string]string{"API_TOKEN": "hunter2hunter2"}
	p.opt.Contexts = map[string]string{"other": p.dir + "/other"}
	p.opt.Run.Network = "host"
	mustBuild(t, p)
	_, err := p.reproduce(func(o *ReproduceOptions) { o.Build.Context = "" })
	wantCategory(t, err, CategoryUsage, "--build-arg API_TOKEN; --build-context other; --network (it was host); CONTEXT, the build context")
	p.wantSame(func(o *ReproduceOptions) {
		o.Build.BuildArgs, o.Build.Contexts, o.Build.Run.Network = p.opt.BuildArgs, p.opt.Contexts, "none"
	})
	p.opt.Attest.Provenance.Max = false
	mustBuild(t, p)
	p.wantSame(func(o *ReproduceOptions) { // mode=min: the command line says all of it
		o.Build.BuildArgs, o.Build.Contexts, o.Build.SourceDateEpoch = p.opt.BuildArgs, p.opt.Contexts, p.opt.SourceDateEpoch
	})
	if !slices.ContainsFunc(p.events, func(e Event) bool { return e.Type == EventNotice && strings.Contains(e.Text, "mode=min") }) {
		t.Error("no notice about mode=min")
	}
}

func TestP7_ByTheRecordOfTheBuildOrItsMetadata(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nARG A\nCOPY f /$A\n", map[string]string{"f": "1"})
	p.opt.BuildArgs = map[string]string{"A": "x"}
	first := mustBuild(t, p)
	text, err := json.Marshal(map[string]any{"containerimage.digest": first.Manifest.Digest, "buildx.build.provenance": first.Provenance[hostPlatform(t)]})
	must(t, err)
	p.wantSame(func(o *ReproduceOptions) { o.Metadata = text })
	p.opt.Attest = AttestOptions{}
	res := mustBuild(t, p)
	p.write("Dockerfile", "FROM scratch\n") // the record has the text
	for _, record := range []string{res.Record.ID, ""} {
		p.wantSame(func(o *ReproduceOptions) { o.Record, o.Build.Context = record, "" })
	}
	_, err = p.reproduce(func(o *ReproduceOptions) { o.Record = first.Record.ID })
	wantCategory(t, err, CategoryUsage, "made the image "+first.Manifest.Digest.String())
	_, err = p.reproduce(func(o *ReproduceOptions) { o.Metadata = text })
	wantCategory(t, err, CategoryUsage, "the metadata is about the image")
	b := p.builder()
	defer b.Close()
	must(t, b.builds.Remove(res.Record.ID))
	for _, name := range []string{"^0", "^1", "^2", "^3", "^4"} {
		if rec, err := b.builds.Get(name); err == nil && rec.Manifest == res.Manifest.Digest {
			must(t, b.builds.Remove(rec.ID))
		}
	}
}

func TestP7_EveryPlatformThatCanBeRun(t *testing.T) {
	t.Parallel()
	p := newShellProjectOf(t, "FROM scratch\nARG TARGETARCH\nCOPY busybox /busybox-$TARGETARCH\n", nil)
	mine := stated(t, "", nil)
	p.opt.Attest, p.opt.SourceDateEpoch, p.opt.Tags = mine.opt.Attest, mine.opt.SourceDateEpoch, mine.opt.Tags
	host := hostPlatform(t)
	p.opt.Platforms = []string{"linux/nonesuch", host}
	mustBuild(t, p)
	r, err := p.reproduce(nil)
	must(t, err)
	if len(r.Platforms) != 2 || !r.Platforms[0].Same || !r.Platforms[1].Same || r.Differs() != 0 {
		t.Errorf("%+v", r)
	}
	// With a step that runs something one of them is left out, and said to be.
	p.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY busybox /busybox-$TARGETARCH\nRUN [\"/busybox-"+strings.TrimPrefix(host, "linux/")+"\", \"true\"]\n")
	withRun := func(platforms ...string) func(*ReproduceOptions) {
		return func(o *ReproduceOptions) { o.Build.Dockerfile, o.Platforms = p.dir+"/Dockerfile", platforms }
	}
	r, err = p.reproduce(withRun())
	must(t, err)
	if !strings.Contains(r.Platforms[0].Skipped, "cannot run") || r.Platforms[1].Same || r.Differs() != 1 || r.Platforms[1].Difference.First() != "layer 2 is in one of them alone" {
		t.Errorf("%+v", r)
	}
	_, err = p.reproduce(withRun("linux/nonesuch"))
	wantCategory(t, err, CategoryEnvironment, "cannot run")
	_, err = p.reproduce(withRun("linux/s390x"))
	wantCategory(t, err, CategoryUsage, "no image for linux/s390x")
}

// forge replaces the statement of app:1 by another text, with all digests around it right.
func forge(t *testing.T, p *project, change func(text string) string) {
	t.Helper()
	res := mustBuild(t, p)
	idx := indexOf(t, p, res.Manifest)
	b := p.builder()
	defer b.Close()
	raw, err := b.store.ReadAll(idx.Manifests[1].Digest, maxDocument)
	must(t, err)
	m, err := image.ParseManifest(raw, idx.Manifests[1].MediaType)
	must(t, err)
	text, err := b.store.ReadAll(m.Layers[0].Digest, maxDocument)
	must(t, err)
	out, err := image.AssembleAttestation(idx.Manifests[0], []image.Statement{{PredicateType: slsa1, Data: []byte(change(string(text)))}}, true)
	must(t, err)
	for _, blob := range append(out.Blobs, out.ManifestBytes) {
		_, err := b.putBytes(blob)
		must(t, err)
	}
	desc, raw, err := image.AssembleIndex([]ocispec.Descriptor{idx.Manifests[0], out.Manifest}, nil, false)
	must(t, err)
	_, err = b.putBytes(raw)
	must(t, err)
	must(t, b.store.Tag("docker.io/library/app:1", desc))
}

func TestP7_AStatementAboutAnotherImageIsRefused(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nCOPY f /\n", map[string]string{"f": "1"})
	forge(t, p, func(text string) string {
		res := indexOf(t, p, mustBuild(t, p).Manifest)
		return strings.ReplaceAll(text, res.Manifests[0].Digest.Encoded(), strings.Repeat("0", 64))
	})
	_, err := p.reproduce(nil)
	wantCategory(t, err, CategoryUnsafe, "about another image")
	forge(t, p, func(text string) string { return strings.Replace(text, "COPY", "ADD", 1) })
	if _, err = p.reproduce(nil); err != nil { // the step's text is not what is built
		t.Error(err)
	}
}

// What a statement says is a stranger's word: it opens nothing, reads nothing of this machine, and is bounded.
func TestP7_HostileStatementsAreRefused(t *testing.T) {
	t.Parallel()
	p := stated(t, "FROM scratch\nCOPY f /\n", map[string]string{"f": "1"})
	p.opt.Labels = map[string]string{"l": "1"}
	mustBuild(t, p)
	setting := func(name, value string) func(string) string {
		return func(text string) string {
			quoted, _ := json.Marshal(value)
			return strings.Replace(text, `"gobuildSettings":{`, fmt.Sprintf(`"gobuildSettings":{%q:[%s],`, name, quoted), 1)
		}
	}
	arg := func(name, value string) func(string) string {
		return func(text string) string {
			return strings.Replace(text, `"args":{`, fmt.Sprintf(`"args":{%q:%q,`, name, value), 1)
		}
	}
	for _, tc := range []struct {
		name     string
		change   func(string) string
		category Category
		want     string
	}{
		{"network of the host", func(s string) string { return strings.Replace(s, `"network":["none"]`, `"network":["host"]`, 1) }, CategoryUsage, "--network (it was host)"},
		{"capability", setting("cap-add", "SYS_ADMIN"), CategoryUsage, "--cap-add (it was SYS_ADMIN)"},
		{"device", setting("device", "/dev/sda"), CategoryUsage, "--device (it was /dev/sda)"},
		{"no filter", setting("security-opt", "seccomp=unconfined"), CategoryUsage, "--security-opt"},
		{"a file here", setting("ignorefile", "/etc/passwd"), CategoryUsage, "--ignorefile"},
		{"a folder here", setting("build-context", "etc=/etc"), CategoryRemote, "no such value"},
		{"a layout here", setting("build-context", "etc=oci-layout:///etc"), CategoryRemote, "no such value"},
		{"a variable here", setting("env", "HOME"), CategoryRemote, "no such value"},
		{"a level that is none", setting("output compression-level", "99999"), CategoryUsage, "level"},
		{"memory", setting("shm-size", "-1"), CategoryRemote, "no such value"},
		{"deep", func(string) string { return strings.Repeat(`{"predicate":`, 100_000) }, CategoryUnsafe, "nested deeper"},
		{"many values", func(string) string { return `{"predicate":[` + strings.Repeat("0,", 300_000) + "0]}" }, CategoryUnsafe, "more than"},
		{"long", func(string) string { return `"` + strings.Repeat("x", maxDocument) + `"` }, CategoryUnsafe, "at most"},
		{"no JSON", func(string) string { return "x" }, CategoryRemote, "malformed"},
		{"no statement", func(string) string { return `{"_type":"x"}` }, CategoryRemote, "malformed"},
		{"a key twice", func(s string) string { return strings.Replace(s, `"frontend":`, `"frontend":"","frontend":`, 1) }, CategoryRemote, "twice"},
		{"wrong types", func(s string) string { return strings.Replace(s, `"frontend":`, `"args":[],"frontend":`, 1) }, CategoryRemote, "malformed"},
		{"no Dockerfile", func(s string) string { return strings.Replace(s, "dockerfile.v0", "gateway.v0", 1) }, CategoryRemote, "not from a Dockerfile"},
		{"an address that is none", arg("context", "file:///etc"), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) { //nolint:paralleltest // they share the project
			forge(t, p, tc.change)
			_, err := p.reproduce(nil)
			if tc.category == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCategory(t, err, tc.category, tc.want)
		})
	}
	// Nor is a file outside the context the Dockerfile, or its ignore file.
	forge(t, p, arg("filename", "../../../etc/passwd"))
	p.wantSame(nil)
}

// Secrets for any git server are not for one that a statement names.
func TestP7_StrangersAddressesGetNoGeneralSecrets(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\n", nil)
	b := p.builder()
	defer b.Close()
	secrets := map[string]SecretSource{secretToken: {Data: []byte("general")}, secretToken + ".own.example": {Data: []byte("own")}}
	bd := b.newBuild(Options{Secrets: secrets, SSH: map[string]string{"default": "/agent"}, stranger: true})
	for address, want := range map[string]string{"https://other.example/r.git": "", "https://own.example/r.git": "own"} {
		if auth, err := bd.gitAuth(address); err != nil || auth.Token != want || auth.Agent != "" {
			t.Errorf("%s: %+v, %v", address, auth, err)
		}
	}
}

// inert are the options that decide nothing about an image, or say what the settings say in another way.
var inert = []string{
	"Context", "ContextTar", "ContextURL", "Dockerfile", "DockerfileText", "DockerfileBeside", "DockerfileURL", "Name", "ProxyArgs", "Emulators", "Index", "AllPlatforms", "Pull",
	"NoCache", "NoCacheFilter", "CacheFrom", "CacheTo", "Lock", "Cutoff", "Jobs", "Secrets", "DenySecretLeak", "SSH", "Allow", "Attest", "GC", "Debug", "Tags", "Outputs", "SignKey", "Explain",
	"Arguments", "Progress", "pins", "stranger",
	"Run.DNS", "Run.DNSSearch", "Run.DNSOptions", "Run.MemoryBytes", "Run.MemorySwap", "Run.CPUShares", "Run.CPUPeriod", "Run.CPUQuota", "Run.CPUs",
	"Run.CpusetCPUs", "Run.CpusetMems", "Run.PidsLimit", "Run.BlockWeight", "Run.BlockRates", "Run.CgroupParent", "Run.BestEffort", "Run.NetworkStrict", "Run.StepTimeout",
}

func TestP7_EveryOptionIsASettingOrDecidesNothing(t *testing.T) {
	t.Parallel()
	var check func(prefix string, typ reflect.Type, field func(*Options) reflect.Value)
	check = func(prefix string, typ reflect.Type, field func(*Options) reflect.Value) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := prefix + f.Name
			switch {
			case slices.Contains(inert, name):
				continue
			case f.Type == reflect.TypeFor[RunOptions]():
				check(name+".", f.Type, func(o *Options) reflect.Value { return reflect.ValueOf(o).Elem().Field(i) })
				continue
			}
			var o Options
			fill(field(&o).Field(i))
			if len(settingsOf(&o, func(s string) string { return s })) == 0 {
				t.Errorf("%s is neither a setting nor known to decide nothing", name)
			}
		}
	}
	check("", reflect.TypeFor[Options](), func(o *Options) reflect.Value { return reflect.ValueOf(o).Elem() })
}

// fill gives a value something that is not its zero.
func fill(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // those of Options
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64, reflect.Int:
		v.SetInt(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	}
}

func TestP7_SettingsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	epoch := time.Unix(5, 0).UTC()
	was := Options{
		Target: "t", Platforms: []string{"linux/arm64"}, BuildArgs: map[string]string{"A": "1=2"}, Labels: map[string]string{"l": ""}, Env: []string{"E=1"},
		InheritAnnotations: true, UserXattrs: true, IgnoreSyntax: true, Squash: SquashAll, SourceDateEpoch: &epoch, UnsetAnnotations: []string{"u"},
		Annotations: []Annotation{{On: onManifest, Platform: "linux/arm64", Key: "k", Value: "v"}},
		Contexts:    map[string]string{"c": "docker-image://x", "d": "https://example.com/r.git#main:sub", "e": "target:a"},
		Outputs:     []Output{{Type: "image", Attrs: map[string]string{"compression": "zstd", "oci-mediatypes": "false"}}},
		CacheTo:     []CacheShare{{Type: cacheInline}},
		Run:         RunOptions{Network: "none", AddHosts: []string{"a:1.2.3.4"}, Hostname: "h", ShmSize: 7, NoHosts: true, DNSNone: true, CapDrop: []string{"ALL"}},
	}
	text := settingsOf(&was, func(s string) string { return s })
	var now Options
	for _, s := range settings() {
		if values := text[s.name]; len(values) > 0 {
			must(t, s.set(&now, values))
		}
	}
	if !reflect.DeepEqual(was, now) {
		t.Errorf("%+v\nwant\n%+v", now, was)
	}
}
