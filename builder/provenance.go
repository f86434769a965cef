package builder

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gobuild/image"
	"gobuild/remote"
	"gobuild/stages"
)

// ProvenanceOptions are those of --provenance (FEATURES M3).
type ProvenanceOptions struct {
	Max          bool   // build arguments, Dockerfile and steps too
	Version      string // of SLSA: "v1" or "v0.2"
	BuilderID    string
	Reproducible bool // the user says so
	InlineOnly   bool // not beside outputs of files
	Filename     string
}

const (
	slsa1  = "https://slsa.dev/provenance/v1"
	slsa02 = "https://slsa.dev/provenance/v0.2"
	// The parameters have the meaning that BuildKit defines for them there.
	buildType1  = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
	buildType02 = "https://mobyproject.org/buildkit@v1"
)

// predicate1 is a SLSA v1 provenance predicate in the form that BuildKit gives it.
type predicate1 struct {
	Definition definition `json:"buildDefinition"`
	Run        runDetails `json:"runDetails"`
}

type definition struct {
	BuildType string     `json:"buildType"`
	External  external   `json:"externalParameters"`
	Internal  internal   `json:"internalParameters"`
	Materials []material `json:"resolvedDependencies"`
}

type external struct {
	Config  configSource `json:"configSource"`
	Request request      `json:"request"`
}

type configSource struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
	Path   string            `json:"path,omitempty"`
}

type request struct {
	Frontend string            `json:"frontend"`
	Args     map[string]string `json:"args,omitempty"`
	Secrets  []identified      `json:"secrets,omitempty"`
	SSH      []identified      `json:"ssh,omitempty"`
	Locals   []named           `json:"locals,omitempty"`
}

type identified struct {
	ID       string `json:"id"`
	Optional bool   `json:"optional,omitempty"`
}

type named struct {
	Name string `json:"name"`
}

type internal struct {
	Config   *buildConfig `json:"buildConfig,omitempty"`
	Builder  string       `json:"builderPlatform"`
	Platform string       `json:"targetPlatform,omitempty"`
	Settings options      `json:"gobuildSettings,omitempty"`
}

// options are what decides the result beside the arguments that BuildKit has words for, by the name of the flag.
type options map[string][]string

// buildConfig has the steps in gobuild's own form: there is no LLB.
type buildConfig struct {
	Steps []graphStep `json:"gobuildSteps"`
}

type graphStep struct {
	ID     string   `json:"id"`
	Text   string   `json:"text"`
	Inputs []string `json:"inputs,omitempty"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

type runDetails struct {
	Builder  builderID `json:"builder"`
	Metadata metadata1 `json:"metadata"`
}

type builderID struct {
	ID string `json:"id"`
}

type metadata1 struct {
	Invocation   string       `json:"invocationID,omitempty"`
	Started      *time.Time   `json:"startedOn,omitempty"`
	Finished     *time.Time   `json:"finishedOn,omitempty"`
	Source       moreMetadata `json:"buildkit_metadata"`
	Completeness complete1    `json:"buildkit_completeness"`
	Reproducible bool         `json:"buildkit_reproducible,omitempty"`
}

type complete1 struct {
	Request   bool `json:"request"`
	Materials bool `json:"resolvedDependencies"`
}

type moreMetadata struct {
	VCS    map[string]string `json:"vcs,omitempty"`
	Source *sourceMap        `json:"source,omitempty"`
}

type sourceMap struct {
	Locations map[string]locations `json:"locations,omitempty"`
	Infos     []sourceInfo         `json:"infos,omitempty"`
}

type locations struct {
	Locations []linesOf `json:"locations"`
}

type linesOf struct {
	Ranges []lineRange `json:"ranges"`
}

type lineRange struct {
	Start linePos `json:"start"`
	End   linePos `json:"end"`
}

type linePos struct {
	Line int `json:"line"`
}

type sourceInfo struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"`
}

// predicate02 is the same in the older form.
type predicate02 struct {
	Builder    builderID    `json:"builder"`
	BuildType  string       `json:"buildType"`
	Materials  []material   `json:"materials"`
	Invocation invocation02 `json:"invocation"`
	Config     *buildConfig `json:"buildConfig,omitempty"`
	Metadata   metadata02   `json:"metadata"`
}

type invocation02 struct {
	Config struct {
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
		Entry  string            `json:"entryPoint,omitempty"`
	} `json:"configSource"`
	Parameters  request `json:"parameters"`
	Environment struct {
		Platform string  `json:"platform"`
		Settings options `json:"gobuildSettings,omitempty"`
	} `json:"environment"`
}

type metadata02 struct {
	Invocation   string     `json:"buildInvocationID,omitempty"`
	Started      *time.Time `json:"buildStartedOn,omitempty"`
	Finished     *time.Time `json:"buildFinishedOn,omitempty"`
	Completeness struct {
		Parameters  bool `json:"parameters"`
		Environment bool `json:"environment"`
		Materials   bool `json:"materials"`
	} `json:"completeness"`
	Reproducible bool         `json:"reproducible"`
	Source       moreMetadata `json:"https://mobyproject.org/buildkit@v1#metadata"`
}

// provenance says of subjects how they were made. It is called when the stages are done.
func (ln *lane) provenance(subjects []image.Subject) (image.Statement, error) {
	kind, predicate := slsa1, any(ln.predicate())
	if ln.opt.Attest.Provenance.Version == "v0.2" {
		kind, predicate = slsa02, ln.predicate().older()
	}
	text, err := json.Marshal(predicate)
	if err != nil {
		return image.Statement{}, fmt.Errorf("make provenance: %w", err)
	}
	ln.predicateText = text
	return image.NewStatement(kind, subjects, json.RawMessage(text))
}

// provenances are what was stated of each platform.
func (bd *build) provenances() map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	for _, ln := range bd.lanes {
		if ln.predicateText != nil {
			all[platformText(ln.platform)] = ln.predicateText
		}
	}
	return all
}

func (ln *lane) predicate() predicate1 {
	opt := ln.opt.Attest.Provenance
	p := predicate1{Definition: definition{BuildType: buildType1, Materials: ln.materials()}}
	p.Definition.Internal.Platform = platformText(ln.platform)
	if _, host, err := platformsOf(""); err == nil {
		p.Definition.Internal.Builder = platformText(host)
	}
	p.Definition.External.Config = ln.configSource()
	p.Definition.External.Request = ln.request()
	p.Run.Builder.ID = opt.BuilderID
	m := &p.Run.Metadata
	m.Reproducible = opt.Reproducible
	m.Completeness = complete1{Request: opt.Max, Materials: ln.isHermetic()}
	if ln.opt.SourceDateEpoch == nil { // else two builds give one digest
		begun, now := ln.begun.UTC(), ln.cfg.Now().UTC()
		m.Started, m.Finished = &begun, &now
		if ln.rec != nil {
			m.Invocation = ln.rec.id
		}
	}
	if commit := gitRevision(ln.build.folder()); commit != "" {
		m.Source.VCS = map[string]string{"revision": commit}
	}
	if opt.Max {
		p.Definition.Internal.Config, m.Source.Source = ln.graph()
		p.Definition.Internal.Settings = ln.settings()
	}
	return p
}

// settings are those that request has no place for.
func (ln *lane) settings() options {
	all := settingsOf(&ln.opt, ln.rec.mask)
	for _, name := range []string{"target", "build-arg", "label"} {
		delete(all, name)
	}
	return all
}

// configSource is where the Dockerfile came from.
func (ln *lane) configSource() configSource {
	c := configSource{Path: ln.dockerfileName()}
	switch repo := ln.main.repo; {
	case repo.Remote != "":
		c.URI, c.Digest = repo.Remote, map[string]string{gitAlgorithm(repo.rev.Commit): repo.rev.Commit}
	case ln.opt.DockerfileURL != "":
		c.URI = remote.Redact(ln.opt.DockerfileURL)
	case ln.opt.ContextURL != "":
		c.URI = remote.Redact(ln.opt.ContextURL)
	}
	return c
}

func (ln *lane) request() request {
	r := request{Frontend: "dockerfile.v0", Args: map[string]string{}}
	if ln.opt.Target != "" {
		r.Args["target"] = ln.opt.Target
	}
	if name := ln.dockerfileName(); name != "Dockerfile" {
		r.Args["filename"] = name
	}
	if at := shownAddress(ln.opt.ContextURL); at != "" {
		r.Args["context"] = at
	}
	if ln.opt.ContextURL == "" {
		r.Locals = []named{{"context"}, {"dockerfile"}}
	}
	if !ln.opt.Attest.Provenance.Max {
		return r
	}
	for name, value := range maskArgs(ln.opt.BuildArgs) {
		r.Args["build-arg:"+name] = ln.rec.mask(value)
	}
	for name, value := range ln.opt.Labels {
		r.Args["label:"+name] = ln.rec.mask(MaskValue(name, value))
	}
	r.Secrets, r.SSH = ln.handed(stages.MountSecret), ln.handed(stages.MountSSH)
	return r
}

// handed are the ids of the secrets or agents that steps name; their values are nobody's business.
func (ln *lane) handed(kind stages.MountType) []identified {
	required := map[string]bool{}
	for _, s := range ln.plan.Stages {
		for _, step := range s.Steps {
			if step.Run == nil {
				continue
			}
			for _, m := range step.Run.Mounts {
				if m.Type == kind {
					required[m.ID] = required[m.ID] || m.Required
				}
			}
		}
	}
	var list []identified
	for _, id := range slices.Sorted(maps.Keys(required)) {
		list = append(list, identified{ID: id, Optional: !required[id]})
	}
	return list
}

// isHermetic says that steps could read nothing but what is listed.
func (ln *lane) isHermetic() bool {
	for _, s := range ln.plan.Stages {
		for _, step := range s.Steps {
			if r := step.Run; r != nil && cmp.Or(r.Network, ln.opt.Run.Network) != "none" {
				return false
			}
		}
	}
	return ln.opt.ContextURL != ""
}

// materials are the images, files and commits that names meant in this build.
func (ln *lane) materials() []material {
	platforms := map[string]bool{platformText(ln.platform): true}
	for _, s := range ln.plan.Stages {
		platforms[platformText(s.Platform)] = true
	}
	list := []material{}
	for _, found := range ln.lock.found() {
		n := found.lockName
		algorithm, sum, _ := strings.Cut(found.value, ":")
		switch n.kind {
		case "image":
			if platforms[n.of] {
				list = append(list, material{purl(n.name, n.of), map[string]string{algorithm: sum}})
			}
		case "layout":
			list = append(list, material{"pkg:oci/" + n.name + "?platform=" + strings.ReplaceAll(n.of, "/", "%2F"), map[string]string{algorithm: sum}})
		case "git":
			list = append(list, material{n.name, map[string]string{gitAlgorithm(found.value): found.value}})
		default:
			list = append(list, material{n.name, map[string]string{algorithm: sum}})
		}
	}
	return list
}

func gitAlgorithm(commit string) string {
	if len(commit) == 64 {
		return "sha256"
	}
	return "sha1"
}

// graph are the steps with what each one needs, and their lines in the Dockerfile.
func (ln *lane) graph() (*buildConfig, *sourceMap) {
	cfg := &buildConfig{Steps: []graphStep{}}
	src := &sourceMap{Locations: map[string]locations{}}
	src.Infos = []sourceInfo{{Filename: ln.dockerfileName(), Language: "Dockerfile", Data: []byte(ln.rec.mask(string(ln.src.text)))}}
	last := map[int]string{} // stage to its last step so far
	add := func(text string, pos stages.Position, inputs []string) string {
		id := "step" + strconv.Itoa(len(cfg.Steps))
		cfg.Steps = append(cfg.Steps, graphStep{id, ln.rec.mask(text), inputs})
		src.Locations[id] = locations{[]linesOf{{[]lineRange{{linePos{pos.Start}, linePos{pos.End}}}}}}
		return id
	}
	for _, s := range ln.plan.Stages {
		var from []string
		text := "FROM " + cmp.Or(s.Base.Image.Name, string(s.Base.Kind))
		if s.Base.Kind == stages.SourceStage {
			from, text = []string{last[s.Base.Stage]}, "FROM "+last[s.Base.Stage]
		}
		last[s.Index] = add(text, s.Pos, from)
		for _, step := range s.Steps {
			inputs := []string{last[s.Index]}
			for _, other := range readStages(step) {
				inputs = append(inputs, last[other])
			}
			last[s.Index] = add(step.Text, step.Pos, inputs)
		}
	}
	return cfg, src
}

// readStages are the stages that a step reads beside its own.
func readStages(step stages.Step) []int {
	var list []int
	note := func(s stages.Source) {
		if s.Kind == stages.SourceStage && !slices.Contains(list, s.Stage) {
			list = append(list, s.Stage)
		}
	}
	if step.Copy != nil {
		note(step.Copy.From)
	}
	if step.Run != nil {
		for _, m := range step.Run.Mounts {
			note(m.From)
		}
	}
	return list
}

// older says the same in SLSA v0.2.
func (p predicate1) older() predicate02 {
	out := predicate02{
		Builder: p.Run.Builder, BuildType: buildType02, Materials: p.Definition.Materials, Config: p.Definition.Internal.Config,
		Metadata: metadata02{
			Invocation: p.Run.Metadata.Invocation, Started: p.Run.Metadata.Started, Finished: p.Run.Metadata.Finished,
			Reproducible: p.Run.Metadata.Reproducible, Source: p.Run.Metadata.Source,
		},
	}
	c := p.Definition.External.Config
	out.Invocation.Config.URI, out.Invocation.Config.Digest, out.Invocation.Config.Entry = c.URI, c.Digest, c.Path
	out.Invocation.Parameters = p.Definition.External.Request
	out.Invocation.Environment.Platform, out.Invocation.Environment.Settings = p.Definition.Internal.Builder, p.Definition.Internal.Settings
	done := &out.Metadata.Completeness
	done.Parameters, done.Environment, done.Materials = p.Run.Metadata.Completeness.Request, true, p.Run.Metadata.Completeness.Materials
	return out
}
