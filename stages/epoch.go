package stages

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"
)

// argEpoch is the argument and variable that all times of a result are held to (B11).
const argEpoch = "SOURCE_DATE_EPOCH"

// Epoch is where SOURCE_DATE_EPOCH comes from: nowhere if it is zero, else by exactly one of the fields up to URL. What it means
// is for the caller to find out, and to hand to Plan as Options.Epoch.
type Epoch struct {
	Seconds *int64
	Main    bool   // the time of the main build context
	Context string // of this named context, as given
	URL     string // of what the only ADD of a stage fetches

	Git      bool   // URL is a git repository
	Checksum string // of the ADD
}

// Epoch reads the build argument SOURCE_DATE_EPOCH, or the ARG of that name before the first FROM.
func (f *File) Epoch(opt Options) (Epoch, error) {
	opt.Epoch = nil
	p := f.newPlanner(opt)
	predefined, err := p.predefinedChecked()
	if err != nil {
		return Epoch{}, err
	}
	if err := p.setGlobals(predefined); err != nil {
		return Epoch{}, err
	}
	return p.epoch()
}

// epochValue is the text that is looked at: an empty build argument hides the ARG's default.
func (p *planner) epochValue() string {
	if v, ok := p.opt.BuildArgs[argEpoch]; ok {
		return v
	}
	if p.file.epochPosition() == (Position{}) {
		return ""
	}
	v, _ := p.globals.Get(argEpoch)
	return v
}

func (p *planner) epoch() (Epoch, error) {
	value := p.epochValue()
	switch value {
	case "":
		return Epoch{}, nil
	case "context":
		return Epoch{Main: true}, nil
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		if n < 0 || n > maxEpoch {
			return Epoch{}, p.epochError(fmt.Errorf("%s is no time that files can have", quoteShort(value)))
		}
		return Epoch{Seconds: &n}, nil
	}
	if c, ok := p.lookupContext(value, p.target); ok {
		if c.Target != "" {
			return p.stageEpoch(c.stage)
		}
		return Epoch{Context: c.name}, nil
	}
	for i := range p.file.stages {
		if strings.EqualFold(p.file.stages[i].Name, value) {
			return p.stageEpoch(i)
		}
	}
	return Epoch{}, p.epochError(fmt.Errorf("%s is not a time", quoteShort(value)))
}

func (p *planner) epochError(err error) error {
	op := argEpoch
	if p.file.epochPosition() != (Position{}) {
		op = "ARG " + argEpoch
	}
	return &Error{Pos: p.file.epochPosition(), Op: op, Err: err,
		Hint: "use seconds since 1970, context, a named context or a stage"}
}

// stageEpoch is the time of what a stage consists of: the source of its only ADD.
func (p *planner) stageEpoch(i int) (Epoch, error) {
	st := &p.file.stages[i]
	fail := func(pos Position, err error) (Epoch, error) {
		return Epoch{}, &Error{Pos: pos, Op: argEpoch + " from " + p.stageTitle(i), Err: err,
			Hint: "such a stage is FROM scratch with ARGs and one ADD of a URL or git repository"}
	}
	env := p.globals.fork()
	env.unset(argEpoch)
	base, err := p.x.word(st.BaseName, env)
	if err != nil || base.Result != scratch {
		return fail(st.pos, errors.New("it is not FROM scratch"))
	}
	var found Epoch
	for _, in := range st.commands {
		switch cmd := in.cmd.(type) {
		case *instructions.ArgCommand:
			for _, arg := range cmd.Args {
				if err := p.stageArg(env, arg); err != nil {
					return fail(in.pos, err)
				}
			}
		case *instructions.AddCommand:
			if found.URL != "" {
				return fail(in.pos, errors.New("it has more than one ADD"))
			}
			if found, err = p.addEpoch(cmd, env); err != nil {
				return fail(in.pos, err)
			}
		default:
			return fail(in.pos, fmt.Errorf("it has the instruction %s", strings.ToUpper(cmd.Name())))
		}
	}
	if found.URL == "" {
		return fail(st.pos, errors.New("it has no ADD"))
	}
	return found, nil
}

func (p *planner) stageArg(env *environ, arg instructions.KeyValuePairOptional) error {
	value, given := p.opt.BuildArgs[arg.Key]
	if !given && arg.Value == nil {
		return nil
	}
	if !given {
		res, err := p.x.word(*arg.Value, env)
		if err != nil {
			return err
		}
		value = res.Result
	}
	return p.x.budget.spend(len(value) + entryCost*env.set(arg.Key, value))
}

func (p *planner) addEpoch(cmd *instructions.AddCommand, env *environ) (Epoch, error) {
	if len(cmd.SourceContents) > 0 || len(cmd.SourcePaths) != 1 {
		return Epoch{}, errors.New("its ADD has more than one source")
	}
	src, err := p.x.word(cmd.SourcePaths[0], env)
	if err != nil {
		return Epoch{}, err
	}
	sum, err := p.x.word(cmd.Checksum, env)
	if err != nil {
		return Epoch{}, err
	}
	e := Epoch{URL: src.Result, Git: isGit(src.Result), Checksum: sum.Result}
	switch {
	case e.Git:
	case !strings.HasPrefix(e.URL, "http://") && !strings.HasPrefix(e.URL, "https://"):
		return Epoch{}, errors.New("its ADD has a source that is neither a URL nor a git repository")
	case e.Checksum != "":
		if _, err := digest.Parse(e.Checksum); err != nil {
			return Epoch{}, fmt.Errorf("--checksum=%s: %w", cut(e.Checksum, maxQuoted), cause(err))
		}
	}
	return e, nil
}

// useEpoch puts the resolved value, or none, in the place of the text that said where to look for it.
func (p *planner) useEpoch() error {
	if p.opt.Epoch == nil {
		_, err := p.epoch()
		return err
	}
	value := *p.opt.Epoch
	if _, ok := p.opt.BuildArgs[argEpoch]; ok {
		args := make(map[string]string, len(p.opt.BuildArgs))
		for k, v := range p.opt.BuildArgs {
			args[k] = v
		}
		if args[argEpoch] = value; value == "" {
			delete(args, argEpoch)
		}
		p.opt.BuildArgs = args
	}
	if _, ok := p.globals.Get(argEpoch); !ok {
		return nil
	}
	if value == "" {
		p.globals.unset(argEpoch)
		return nil
	}
	return p.x.budget.spend(len(value) + entryCost*p.globals.set(argEpoch, value))
}

// unset removes the entry of key.
func (e *environ) unset(key string) {
	i, ok := e.index[key]
	if !ok {
		return
	}
	*e = *newEnviron(slices.Delete(slices.Clone(e.list), i, i+1))
}
