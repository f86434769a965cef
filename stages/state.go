package stages

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// historyComment marks entries for tools that look for it (H5).
	historyComment = "buildkit.dockerfile.v0"

	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

var errConfigSize = fmt.Errorf("the image configuration is larger than %d bytes", maxConfig)

// state is what a stage's instructions change. Maps and lists that came from
// another stage or image are shared with it until they are written.
type state struct {
	planner *planner
	out     *Stage
	runsOn  ocispec.Platform // platform of RUNs, which a stage built on this one inherits
	config  *environ         // Env of the image
	env     *environ         // variables in force: Env and ARGs
	args    *environ         // ARGs declared so far, with the value they were given
	lint    *linter.Linter   // with the exceptions of the present instruction
	at      []parser.Range   // the present instruction
	size    int              // of the image configuration so far, about
	owned   struct{ labels, ports, volumes bool }

	hidden  bool     // an ARG of this stage has the name of a variable of the image
	doubled bool     // the base image's Env has a name twice
	unknown bool     // the configuration of the base image is not known
	seen    []linted // what our own lint rules look at
	named   []string // by the VOLUME evaluated last

	declared    []Arg    // by the stage's ARGs
	usesGlobals []string // ARGs before the first FROM that the stage reads

	cmdSet      bool           // this stage has a CMD (B65)
	workdirSet  bool           // some WORKDIR stood in this Dockerfile's chain (E19)
	cmdAt       []parser.Range // E21
	entryAt     []parser.Range
	healthAt    []parser.Range
	needs       map[int]bool
	sshSockets  int
	sshAuthSock string
}

// run evaluates one stage whose needs have been evaluated.
func (p *planner) run(st *stage) (*Stage, error) {
	if err := p.begin(st); err != nil {
		return nil, newError(st.raw.pos, "FROM "+cut(st.baseName, maxQuoted), err)
	}
	for i := range st.commands {
		c := &st.commands[i]
		st.at = c.cmd.Location()
		st.lint = p.lint.WithMergedConfigFromComments(c.cmd.Comments())
		shell, dir, steps := st.out.Image.Config.Shell, st.dir(), len(st.out.Steps)
		if err := st.apply(c); err != nil {
			return nil, c.fail(strings.ToUpper(c.cmd.Name()), err)
		}
		st.record(c, shell, dir, steps)
		if st.size > maxConfig {
			return nil, c.fail(strings.ToUpper(c.cmd.Name()), errConfigSize)
		}
	}
	st.out.ScanStage, st.out.ScanContext = st.scans(argScanStage), st.scans(argScanContext)
	return st.out, newError(st.raw.pos, "FROM", st.end())
}

// scans says whether an argument about bills of materials is true for the stage, or names it. An ARG before the first FROM is for
// all stages, and one without a value changes nothing.
func (s *state) scans(name string) bool {
	value, _ := s.args.Get(name)
	if value == "" {
		value, _ = s.planner.globals.Get(name)
	}
	if on, err := strconv.ParseBool(value); err == nil {
		return on
	}
	return s.out.Name != "" && slices.Contains(strings.Split(value, ","), s.out.Name)
}

// begin sets the state to what FROM inherits (B4).
func (p *planner) begin(st *stage) error {
	st.out = &Stage{Index: st.index, Name: p.file.stageName(st.index), Doc: st.raw.DocComment, Pos: st.raw.pos, Steps: []Step{}, History: []History{}}
	st.planner, st.lint, st.needs = p, p.lint, map[int]bool{}
	if st.base >= 0 {
		err := st.inherit(p.stages[st.base])
		if st.replaced != nil {
			st.out.Image.Config.OnBuild = p.stages[st.base].out.Image.Config.OnBuild
		}
		return err
	}
	return st.fromImage(p)
}

func (s *state) inherit(base *stage) error {
	s.out.Base = Source{Kind: SourceStage, Stage: base.index}
	s.out.Image = base.out.Image
	s.out.Image.Config.OnBuild = nil
	s.runsOn = base.runsOn
	s.config, s.env, s.args = base.config.fork(), base.env.fork(), base.args.fork()
	s.size, s.workdirSet, s.unknown, s.doubled = base.size, base.workdirSet, base.unknown, base.doubled
	s.needs[base.index] = true
	s.addPath()
	if !base.hidden && !base.doubled {
		return nil
	}
	// An ARG that hides a variable of the image does so to the end of its stage:
	// FROM loads the image's variables anew.
	s.loadEnv()
	return s.planner.x.budget.spend(entryCost * len(s.config.list))
}

// loadEnv brings the variables of the image into force. The last of those with
// one name counts.
func (s *state) loadEnv() {
	for _, kv := range s.config.list {
		k, v, _ := strings.Cut(kv, "=")
		s.env.set(k, v)
	}
}

func (st *stage) fromImage(p *planner) error {
	src, ref, err := p.baseSource(st)
	if err != nil {
		return err
	}
	st.out.Base = src
	st.runsOn = p.wish(st)
	var img Image
	switch src.Kind {
	case SourceImage:
		base := p.bases[ref]
		img = base.Image
		if st.unknown = base.Unknown; st.unknown {
			img = emptyImage(st.runsOn)
		}
		if err := checkBase(&img); err != nil {
			return err
		}
		if ref.Context == "" {
			lintBasePlatform(*st.raw, p.wish(st), img.Platform, p.lint.WithMergedConfigFromComments(st.raw.Comments))
		}
		if st.replaced != nil && img.OS != "" && img.Architecture != "" {
			st.runsOn = platforms.Normalize(img.Platform)
		}
		st.out.Total = 1
	case SourceScratch:
		// The reference ignores FROM --platform here.
		img, st.runsOn = emptyImage(p.target), p.target
	default:
		img = emptyImage(st.runsOn)
	}
	st.adopt(&img)
	return nil
}

// checkBase refuses a configuration that the lexer could not bear.
func checkBase(img *Image) error {
	for _, kv := range img.Config.Env {
		if !validText(kv) {
			return errors.New("the base image has an environment variable with a NUL byte")
		}
	}
	return nil
}

func emptyImage(pl ocispec.Platform) Image {
	var img Image
	img.Platform = ocispec.Platform{OS: pl.OS, Architecture: pl.Architecture, Variant: pl.Variant, OSVersion: pl.OSVersion,
		OSFeatures: slices.Clone(pl.OSFeatures)}
	img.Config.WorkingDir = "/"
	return img
}

// adopt starts from an image's configuration. Its history and times are the
// builder's to add, and its triggers have fired already.
func (s *state) adopt(img *Image) {
	s.size = 1024
	for _, h := range img.History {
		s.size += len(h.CreatedBy) + len(h.Comment) + 80
	}
	own := *img
	own.Created, own.History, own.RootFS = nil, nil, ocispec.RootFS{}
	own.Config.OnBuild = nil
	s.config = newEnviron(own.Config.Env)
	own.Config.Env = nil
	s.env, s.args = newEnviron(nil), newEnviron(nil)
	s.out.Image = own
	s.addPath()
	s.loadEnv()
	s.doubled = len(s.config.index) < len(s.config.list)
	for _, kv := range s.config.list {
		s.size += len(kv) + 3
	}
	if wd := own.Config.WorkingDir; wd != "" && !path.IsAbs(wd) {
		s.out.Image.Config.WorkingDir = path.Join("/", wd)
	}
	for k, v := range own.Config.Labels {
		s.size += len(k) + len(v) + 6
	}
	for k := range own.Config.ExposedPorts {
		s.size += len(k) + 6
	}
	for k := range own.Config.Volumes {
		s.size += len(k) + 6
	}
}

// addPath makes sure that there is a PATH, except on Windows, whose default is
// the system's own.
func (s *state) addPath() {
	if _, ok := s.config.Get("PATH"); ok || s.runsOn.OS == "windows" {
		return
	}
	s.config.set("PATH", defaultPath)
	s.env.set("PATH", defaultPath)
}

// end completes the stage's result.
func (st *stage) end() error {
	out := st.out
	out.Platform = st.runsOn
	out.Image.Config.Env = st.config.lend()
	out.Total += len(out.Steps)
	for i := range st.needs {
		out.Needs = append(out.Needs, i)
	}
	slices.Sort(out.Needs)
	first := out.Total - len(out.Steps)
	for i := range out.Steps {
		out.Steps[i].Number = first + i + 1
	}
	return st.planner.x.budget.spend(len(out.Image.Config.OnBuild) + len(out.Steps))
}

// apply evaluates one instruction.
func (s *state) apply(c *command) error {
	switch cmd := c.cmd.(type) {
	case *instructions.RunCommand:
		return s.runStep(c, cmd)
	case *instructions.CopyCommand:
		return s.copyStep(c, cmd)
	case *instructions.AddCommand:
		return s.addStep(c, cmd)
	case *instructions.WorkdirCommand:
		return s.workdir(c, cmd)
	case *instructions.EnvCommand:
		return s.setEnv(cmd)
	case *instructions.ArgCommand:
		return s.setArgs(cmd)
	case *instructions.LabelCommand:
		return s.label(cmd)
	case *instructions.CmdCommand:
		return s.cmd(cmd)
	case *instructions.EntrypointCommand:
		return s.entrypoint(cmd)
	case *instructions.ExposeCommand:
		return s.expose(cmd)
	case *instructions.VolumeCommand:
		return s.volume(cmd)
	case *instructions.UserCommand:
		return s.user(cmd)
	case *instructions.StopSignalCommand:
		return s.stopSignal(cmd)
	case *instructions.ShellCommand:
		s.out.Image.Config.Shell = cmd.Shell
		s.size += textLen(cmd.Shell)
		return s.meta(fmt.Sprintf("SHELL %v", cmd.Shell))
	case *instructions.HealthCheckCommand:
		return s.healthcheck(cmd)
	case *instructions.OnbuildCommand:
		s.out.Image.Config.OnBuild = append(s.out.Image.Config.OnBuild, cmd.Expression)
		s.size += len(cmd.Expression)
		return nil // no history entry (B69)
	case *instructions.MaintainerCommand:
		s.out.Image.Author = cmd.Maintainer
		return s.meta("MAINTAINER " + cmd.Maintainer)
	}
	return ErrUnsupported
}

// word expands one word with the variables in force.
func (s *state) word(w string) (string, error) {
	res, err := s.planner.x.word(w, s.env)
	s.lintUnset(res.Unmatched)
	return res.Result, err
}

// lintUnset is E20.
func (s *state) lintUnset(unset map[string]struct{}) {
	if len(unset) == 0 || s.unknown { // the base image may set them
		return
	}
	for _, name := range sortedKeys(unset) {
		_, declared := s.args.Get(name)
		if declared || name == argScanContext || name == argScanStage || len(s.planner.warnings) >= maxWarnings {
			continue
		}
		s.lint.Run(&linter.RuleUndefinedVar, s.at, linter.RuleUndefinedVar.Format(name, Suggest(name, s.env.Keys())))
	}
}

// meta adds a history entry without a layer.
func (s *state) meta(text string) error { return s.entry(text, true) }

func (s *state) entry(text string, empty bool) error {
	s.out.History = append(s.out.History, History{CreatedBy: text, Comment: historyComment, Empty: empty})
	s.size += len(text) + 80
	return s.planner.x.budget.spend(len(text) + 80)
}

// step adds a step and its history entry.
func (s *state) step(c *command, st Step, created string) error {
	st.Pos, st.OnBuild, st.History = c.pos, c.onBuild, len(s.out.History)
	if err := s.planner.x.budget.spend(len(st.Text) + 200); err != nil {
		return err
	}
	s.out.Steps = append(s.out.Steps, st)
	return s.entry(created, false)
}

// text is an instruction for display: on one line, with the variables in force.
func (s *state) text(c *command, raw bool, masked map[string]string) string {
	src := c.node.Original
	if str, ok := c.cmd.(fmt.Stringer); ok {
		src = str.String()
	}
	out := cut(s.planner.x.display(src, overlay{s.env, masked}, raw), maxShown)
	word, rest, _ := strings.Cut(out, " ")
	if rest != "" {
		rest = " " + rest
	}
	return strings.Join(strings.FieldsFunc(strings.ToUpper(word)+rest, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// dir is the working directory, absolute.
func (s *state) dir() string { return path.Join("/", s.out.Image.Config.WorkingDir) }

// source says where an origin's files are, and that this stage needs them.
func (s *state) source(o origin) (Source, error) {
	if o.stage < 0 {
		src, _, err := s.planner.imageSource(o.name, s.planner.target)
		return src, err
	}
	if o.stage >= s.out.Index {
		return Source{}, withHint(fmt.Errorf("%s must be defined before it is used", s.planner.stageTitle(o.stage)),
			fmt.Sprintf("it is defined at line %d", s.planner.file.stages[o.stage].pos.Start))
	}
	s.needs[o.stage] = true
	return Source{Kind: SourceStage, Stage: o.stage}, nil
}

func textLen(list []string) int {
	n := 0
	for _, s := range list {
		n += len(s) + 3
	}
	return n
}
