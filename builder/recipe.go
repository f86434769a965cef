package builder

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"gobuild/history"
	"gobuild/image"
	"gobuild/remote"
)

// recipe is what is known of how an image was made: from its provenance, or from the record of its build.
type recipe struct {
	from       string // for messages: "its provenance"
	stranger   bool   // it came with the image, not from this machine
	whole      bool   // it has all that decides the result
	ours       bool   // gobuild made it
	dockerfile string // name below the context
	text       []byte // nil: not known
	folder     string // of the context, on this machine
	url        string // of the context
	fetched    bool   // the context had an address, whether it is known or not
	settings   map[string][]string
	pins       []lockEntry
}

// recipeOf reads a predicate of provenance.
func recipeOf(kind string, predicate []byte) (*recipe, error) {
	var p predicate1
	switch kind {
	case slsa1:
		if err := image.ParsePredicate(predicate, &p); err != nil {
			return nil, err
		}
	case slsa02:
		var old predicate02
		if err := image.ParsePredicate(predicate, &old); err != nil {
			return nil, err
		}
		p = old.newer()
	default:
		return nil, fmt.Errorf("provenance of type %q: %w", kind, image.ErrMalformed)
	}
	return p.recipe()
}

func (p predicate1) recipe() (*recipe, error) {
	def, req := p.Definition, p.Definition.External.Request
	if req.Frontend != "dockerfile.v0" {
		return nil, fmt.Errorf("the image is not from a Dockerfile but from %q: %w", req.Frontend, image.ErrMalformed)
	}
	r := &recipe{
		from: "its provenance", stranger: true, dockerfile: cmp.Or(req.Args["filename"], "Dockerfile"),
		url: shownAddress(req.Args["context"]), fetched: req.Args["context"] != "" || def.External.Config.URI != "",
		settings: map[string][]string{},
	}
	for name, values := range def.Internal.Settings {
		r.settings[name] = values
	}
	if target := req.Args["target"]; target != "" {
		r.settings["target"] = []string{target}
	}
	for name, value := range req.Args {
		for _, kind := range []string{"build-arg", "label"} {
			if key, ok := strings.CutPrefix(name, kind+":"); ok {
				r.settings[kind] = append(r.settings[kind], key+"="+value)
			}
		}
	}
	r.ours = def.Internal.Config != nil && len(def.Internal.Config.Steps) > 0
	if src := p.Run.Metadata.Source.Source; src != nil && len(src.Infos) > 0 {
		r.text = src.Infos[0].Data
		r.whole = r.ours
	}
	for _, m := range def.Materials {
		if pin, ok := pinOf(m); ok {
			r.pins = append(r.pins, pin)
		}
	}
	return r, nil
}

// newer says the same in SLSA v1, as far as it matters here.
func (p predicate02) newer() predicate1 {
	var out predicate1
	out.Definition.Materials = p.Materials
	out.Definition.External.Request = p.Invocation.Parameters
	out.Definition.External.Config = configSource{URI: p.Invocation.Config.URI, Digest: p.Invocation.Config.Digest, Path: p.Invocation.Config.Entry}
	out.Definition.Internal = internal{Config: p.Config, Settings: p.Invocation.Environment.Settings}
	out.Run.Metadata.Source = p.Metadata.Source
	return out
}

// recipeOfRecord takes what the history kept of a build.
func recipeOfRecord(rec history.Record) (*recipe, error) {
	in := rec.Inputs
	if in == nil {
		return nil, usage{fmt.Errorf("the record of build %s does not say what it was made of", rec.ID)}
	}
	r := &recipe{
		from: "the record of build " + rec.ID, whole: true, ours: true, dockerfile: in.Dockerfile, folder: rec.Context, url: in.ContextURL,
		fetched: rec.Context == "", settings: in.Settings,
	}
	if in.Text != nil {
		r.text = []byte(*in.Text)
	}
	for _, m := range in.Materials {
		r.pins = append(r.pins, lockEntry{lockName{m.Kind, m.Name, m.Of}, m.Value})
	}
	return r, nil
}

// apply completes what the command line says, which comes first. It lists what is still missing, with the flag that gives it.
func (r *recipe) apply(opt *Options) (missing []string, err error) {
	for _, s := range settings() {
		values := r.settings[s.name]
		if len(values) == 0 || s.name == "platform" {
			continue
		}
		switch lacks := r.lacking(s, values, opt); {
		case len(lacks) > 0:
			missing = append(missing, lacks...)
			continue
		case s.set == nil:
			continue // the command line has it
		}
		if err := s.set(opt, unmasked(values)); errors.Is(err, errNotForOthers) && opt.Run.Network == "" {
			missing = append(missing, fmt.Sprintf("--%s (it was %s)", s.name, strings.Join(values, ", ")))
		} else if err != nil && !errors.Is(err, errNotForOthers) {
			return nil, fmt.Errorf("%s: --%s %s: %w: %w", r.from, s.name, strings.Join(values, ", "), err, image.ErrMalformed)
		}
	}
	missing = append(missing, r.contextOf(opt)...)
	missing = append(missing, r.dockerfileOf(opt)...)
	opt.pins = &pins{from: r.from, list: r.pins}
	return missing, nil
}

// lacking are the flags that only the user can give: what was masked, and what opens this machine to steps.
func (r *recipe) lacking(s setting, values []string, opt *Options) []string {
	given := s.get(opt)
	if s.set == nil {
		if len(given) > 0 {
			return nil
		}
		return []string{fmt.Sprintf("--%s (it was %s)", s.name, strings.Join(values, ", "))}
	}
	var list []string
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		hidden := strings.Contains(v, masked) || s.name == "build-context" && value == ""
		if hidden && !slices.ContainsFunc(given, func(g string) bool { return strings.HasPrefix(g, name+"=") }) {
			list = append(list, fmt.Sprintf("--%s %s", s.name, name))
		}
	}
	return list
}

// unmasked leaves out what is not known. What was masked is on the command line by now.
func unmasked(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return strings.Contains(v, masked) })
}

// contextOf takes the context, unless the user gives one.
func (r *recipe) contextOf(opt *Options) (missing []string) {
	if opt.Context != "" || opt.ContextURL != "" || opt.ContextTar != nil {
		return nil
	}
	if info, err := os.Stat(r.folder); r.folder != "" && err == nil && info.IsDir() {
		opt.Context = r.folder
		return nil
	}
	if r.url == "" {
		return []string{"CONTEXT, the build context"}
	}
	opt.ContextURL = r.url
	opt.stranger = opt.stranger || r.stranger
	return nil
}

// dockerfileOf takes the text, or else the file of that name in the context, unless the user names a Dockerfile.
func (r *recipe) dockerfileOf(opt *Options) (missing []string) {
	if opt.Dockerfile != "" || opt.DockerfileText != nil || opt.DockerfileURL != "" {
		return nil
	}
	below := ""
	if opt.Context != "" && filepath.IsLocal(r.dockerfile) {
		below = filepath.Join(opt.Context, r.dockerfile)
	}
	secrets := slices.ContainsFunc(r.settings["build-arg"], func(v string) bool { return strings.Contains(v, masked) })
	if r.text != nil && (!secrets || !strings.Contains(string(r.text), masked)) {
		opt.Dockerfile, opt.DockerfileText, opt.DockerfileBeside = r.dockerfile, r.text, below
		opt.stranger = opt.stranger || r.stranger
		return nil
	}
	if opt.Context == "" { // it is looked for when the context is there
		opt.Dockerfile = r.dockerfile
		return nil
	}
	if _, err := os.Stat(below); below == "" || err != nil {
		return []string{"-f, the Dockerfile"}
	}
	opt.Dockerfile = below
	return nil
}

// remarks are what a user should know before a build that may take long.
func (r *recipe) remarks(opt *Options) []string {
	var list []string
	if !r.ours {
		list = append(list, "the provenance is not gobuild's, or is mode=min: other tools pack layers in their own way")
	}
	if !r.whole {
		list = append(list, "the provenance has no build arguments, labels and other options: give those of the build")
	}
	if opt.SourceDateEpoch == nil && opt.BuildArgs["SOURCE_DATE_EPOCH"] == "" {
		list = append(list, "the image was made without SOURCE_DATE_EPOCH, so its times are those of its build")
	}
	if opt.ContextURL != "" && opt.stranger && r.url == opt.ContextURL {
		list = append(list, "the build context is "+remote.Redact(r.url)+", as the provenance says")
	}
	return list
}

// about says that a statement has the image among its subjects.
func about(subjects []image.Subject, d digest.Digest) bool {
	return slices.ContainsFunc(subjects, func(s image.Subject) bool { return s.Digest[d.Algorithm().String()] == d.Encoded() })
}
