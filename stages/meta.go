package stages

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// pairs expands the pairs of ENV and LABEL, all with the variables from before
// the instruction (A21).
func (s *state) pairs(name string, in instructions.KeyValuePairs) (out [][2]string, text string, err error) {
	var b strings.Builder
	b.WriteString(name)
	for _, kv := range in {
		key, err := s.word(kv.Key)
		if err != nil {
			return nil, "", err
		}
		value, err := s.word(kv.Value)
		if err != nil {
			return nil, "", err
		}
		b.WriteString(" " + key + "=" + value)
		if s.size+b.Len() > maxConfig {
			return nil, "", errConfigSize
		}
		out = append(out, [2]string{key, value})
	}
	return out, b.String(), nil
}

// setEnv is B12.
func (s *state) setEnv(c *instructions.EnvCommand) error {
	pairs, text, err := s.pairs("ENV", c.Env)
	if err != nil {
		return err
	}
	for i, kv := range pairs {
		s.lintPair("ENV", c.Env[i], c.Location())
		lintSecret("ENV", kv[0], c.Location(), s.lint)
		if old, ok := s.config.Get(kv[0]); ok {
			s.size -= len(kv[0]) + len(old) + 4
		}
		s.size += len(kv[0]) + len(kv[1]) + 4
		copied := s.config.set(kv[0], kv[1]) + s.env.set(kv[0], kv[1])
		if err := s.planner.x.budget.spend(entryCost*copied + len(kv[0]) + len(kv[1])); err != nil {
			return err
		}
	}
	return s.meta(text)
}

func (s *state) lintPair(name string, kv instructions.KeyValuePair, loc []parser.Range) {
	if kv.NoDelim {
		s.lint.Run(&linter.RuleLegacyKeyValueFormat, loc, linter.RuleLegacyKeyValueFormat.Format(name))
	}
}

// setArgs is B6: values go from left to right, each seeing those before it.
func (s *state) setArgs(c *instructions.ArgCommand) error {
	var text strings.Builder
	text.WriteString("ARG")
	for _, arg := range c.Args {
		lintSecret("ARG", arg.Key, c.Location(), s.lint)
		value, set := s.planner.opt.BuildArgs[arg.Key]
		if !set && arg.Value != nil {
			v, err := s.word(*arg.Value)
			if err != nil {
				return err
			}
			value, set = v, true
		}
		if set {
			s.declared = append(s.declared, Arg{arg.Key, value, arg.DocComment, span(c.Location())})
		} else if value, set = s.planner.globals.Get(arg.Key); set {
			s.usesGlobals = append(s.usesGlobals, arg.Key)
		} else {
			s.declared = append(s.declared, Arg{arg.Key, "", arg.DocComment, span(c.Location())})
		}
		text.WriteString(" " + arg.Key)
		copied := s.args.set(arg.Key, value)
		if set {
			text.WriteString("=" + value)
			if arg.Key != argScanContext && arg.Key != argScanStage {
				copied += s.env.set(arg.Key, value)
				_, inImage := s.config.Get(arg.Key)
				s.hidden = s.hidden || inImage
			}
		}
		if text.Len()+s.size > maxConfig {
			return errConfigSize
		}
		if err := s.planner.x.budget.spend(entryCost*(copied+2) + 2*len(value)); err != nil {
			return err
		}
	}
	return s.meta(text.String())
}

// label is B13.
func (s *state) label(c *instructions.LabelCommand) error {
	pairs, text, err := s.pairs("LABEL", c.Labels)
	if err != nil {
		return err
	}
	cfg := &s.out.Image.Config
	if err := ownMap(s, &cfg.Labels, &s.owned.labels); err != nil {
		return err
	}
	for i, kv := range pairs {
		s.lintPair("LABEL", c.Labels[i], c.Location())
		if old, ok := cfg.Labels[kv[0]]; ok {
			s.size -= len(kv[0]) + len(old) + 6
		}
		s.size += len(kv[0]) + len(kv[1]) + 6
		cfg.Labels[kv[0]] = kv[1]
	}
	return s.meta(text)
}

// ownMap makes a map of the configuration writable: it may be another stage's.
func ownMap[V any](s *state, m *map[string]V, owned *bool) error {
	if *owned {
		return nil
	}
	if *m == nil {
		*m = map[string]V{}
	} else {
		*m = maps.Clone(*m)
	}
	*owned = true
	return s.planner.x.budget.spend(48 * len(*m))
}

// once is E21: the earlier of two instructions is the one without effect.
func (s *state) once(name string, at *[]parser.Range, loc []parser.Range) {
	if *at != nil {
		s.lint.Run(&linter.RuleMultipleInstructionsDisallowed, *at, linter.RuleMultipleInstructionsDisallowed.Format(name))
	}
	*at = loc
}

// argv is the command of CMD and ENTRYPOINT with the shell form resolved.
func (s *state) argv(c instructions.ShellDependantCmdLine, name string, loc []parser.Range) []string {
	if !c.PrependShell {
		s.size += textLen(c.CmdLine)
		return c.CmdLine
	}
	if len(s.out.Image.Config.Shell) == 0 {
		s.lint.Run(&linter.RuleJSONArgsRecommended, loc, linter.RuleJSONArgsRecommended.Format(name))
	}
	args := s.withShell(c.CmdLine)
	s.size += textLen(args)
	return args
}

// cmd is B64.
func (s *state) cmd(c *instructions.CmdCommand) error {
	s.once(c.Name(), &s.cmdAt, c.Location())
	args := s.argv(c.ShellDependantCmdLine, c.Name(), c.Location())
	cfg := &s.out.Image.Config
	cfg.Cmd, s.cmdSet = args, true
	cfg.ArgsEscaped = true //nolint:staticcheck // deprecated, but written by the reference for every CMD
	return s.meta(fmt.Sprintf("CMD %q", args))
}

// entrypoint is B65.
func (s *state) entrypoint(c *instructions.EntrypointCommand) error {
	s.once(c.Name(), &s.entryAt, c.Location())
	args := s.argv(c.ShellDependantCmdLine, c.Name(), c.Location())
	s.out.Image.Config.Entrypoint = args
	if !s.cmdSet {
		s.out.Image.Config.Cmd = nil
	}
	return s.meta(fmt.Sprintf("ENTRYPOINT %q", args))
}

// healthcheck is B67.
func (s *state) healthcheck(c *instructions.HealthCheckCommand) error {
	s.once(c.Name(), &s.healthAt, c.Location())
	h := dockerspec.HealthcheckConfig{Test: c.Health.Test, Interval: c.Health.Interval, Timeout: c.Health.Timeout,
		StartPeriod: c.Health.StartPeriod, StartInterval: c.Health.StartInterval, Retries: c.Health.Retries}
	s.out.Image.Config.Healthcheck = &h
	s.size += textLen(h.Test)
	return s.meta(fmt.Sprintf("HEALTHCHECK %+v", h))
}

// volume is B62.
func (s *state) volume(c *instructions.VolumeCommand) error {
	names := make([]string, 0, len(c.Volumes))
	for _, v := range c.Volumes {
		name, err := s.word(v)
		if err != nil {
			return err
		}
		if name == "" {
			return errors.New("a volume can not be an empty string")
		}
		names = append(names, name)
	}
	cfg := &s.out.Image.Config
	if err := ownMap(s, &cfg.Volumes, &s.owned.volumes); err != nil {
		return err
	}
	for _, name := range names {
		s.named = append(s.named, path.Join("/", name))
		cfg.Volumes[name] = struct{}{}
		s.size += len(name) + 6
	}
	return s.meta(fmt.Sprintf("VOLUME %v", names))
}

// user is B61.
func (s *state) user(c *instructions.UserCommand) error {
	user, err := s.word(c.User)
	if err != nil {
		return err
	}
	s.out.Image.Config.User = user
	s.size += len(user)
	return s.meta("USER " + user)
}

// stopSignal is B68.
func (s *state) stopSignal(c *instructions.StopSignalCommand) error {
	sig, err := s.word(c.Signal)
	if err != nil {
		return err
	}
	if !knownSignal(sig) {
		return withHint(fmt.Errorf("%s is not a signal", quoteShort(sig)),
			didYouMean(strings.TrimPrefix(strings.ToUpper(sig), "SIG"), signalNames))
	}
	s.out.Image.Config.StopSignal = sig
	return s.meta("STOPSIGNAL " + sig)
}

// signalNames are those of Linux, signal(7), without SIG and the real-time ones.
var signalNames = strings.Fields(`ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV
	STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU UNUSED URG USR1 USR2 VTALRM WINCH XCPU XFSZ`)

func knownSignal(text string) bool {
	const last = 64 // SIGRTMAX
	if n, err := strconv.Atoi(text); err == nil {
		return n >= 1 && n <= last
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for _, s := range signalNames {
		if s == name && s != "UNUSED" {
			return true
		}
	}
	for _, rt := range []struct {
		prefix string
		max    int
	}{{"RTMIN+", 15}, {"RTMAX-", 14}} {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, rt.prefix)); strings.HasPrefix(name, rt.prefix) && err == nil {
			return n >= 1 && n <= rt.max
		}
	}
	return name == "RTMIN" || name == "RTMAX"
}

// workdir is B60.
func (s *state) workdir(c *command, cmd *instructions.WorkdirCommand) error {
	wd, err := s.word(cmd.Path)
	if err != nil {
		return err
	}
	if !s.workdirSet && !path.IsAbs(wd) {
		s.lint.Run(&linter.RuleWorkdirRelativePath, cmd.Location(), linter.RuleWorkdirRelativePath.Format(wd))
	}
	s.workdirSet = true
	if strings.IndexByte(wd, 0) >= 0 {
		return errors.New("the path contains a NUL byte")
	}
	// An absolute path is kept as written, as the reference keeps it: an image's
	// configuration is compared with what other builders make of the file.
	cfg := &s.out.Image.Config
	switch {
	case wd == "" && path.IsAbs(cfg.WorkingDir):
		wd = cfg.WorkingDir
	case !path.IsAbs(wd):
		wd = path.Join(s.dir(), wd)
	}
	cfg.WorkingDir = wd
	s.size += len(wd)
	created := "WORKDIR " + wd
	if wd == "/" {
		return s.meta(created)
	}
	return s.step(c, Step{Text: s.text(c, false, nil), Workdir: &Workdir{Path: path.Clean(wd), User: cfg.User}}, created)
}
