package stages

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stage is a stage while it is being planned.
type stage struct {
	index    int
	raw      *rawStage
	baseName string            // expanded
	base     int               // index of the stage it is based on, -1 for none
	platform *ocispec.Platform // FROM --platform
	replaced *namedContext     // named context that stands for the whole stage
	commands []command         // triggers of the base first
	reached  bool
	state    // set by planner.run
}

// command is an instruction and where it reads files from.
type command struct {
	instruction
	origins []origin // COPY: one if it has --from; RUN: one for each mount
}

// origin is what a --from or from= names: a stage, or the name of an image or
// named context; neither for a mount without from=.
type origin struct {
	stage int // -1: none
	name  string
}

// newStage expands a FROM (B1, B2).
func (p *planner) newStage(i int) (*stage, error) {
	raw := &p.file.stages[i]
	lint := p.lint.WithMergedConfigFromComments(raw.Comments)
	st := &stage{index: i, raw: raw, base: -1}
	word, err := p.x.word(raw.BaseName, p.globals)
	p.lintFromWord(word.Unmatched, raw.Location, lint)
	if err != nil {
		return nil, newError(raw.pos, "FROM", err)
	}
	st.usesGlobals = sortedKeys(word.Matched)
	if st.baseName = word.Result; st.baseName == "" {
		return nil, &Error{Pos: raw.pos, Op: "FROM", Err: fmt.Errorf("the image name %s is empty", quoteShort(raw.BaseName)),
			Hint: p.unsetHint(word.Unmatched, raw.BaseName)}
	}
	if raw.Platform != "" {
		word, err := p.x.word(raw.Platform, p.globals)
		p.lintFromWord(word.Unmatched, raw.Location, lint)
		if err != nil {
			return nil, newError(raw.pos, "FROM --platform", err)
		}
		target, _ := p.globals.Get("TARGETPLATFORM")
		lintFromPlatform(*raw, word, target, lint)
		if st.platform, err = parsePlatform(word.Result); err != nil {
			return nil, &Error{Pos: raw.pos, Op: "FROM --platform=" + cut(raw.Platform, maxQuoted), Err: err,
				Hint: p.unsetHint(word.Unmatched, raw.Platform)}
		}
		st.usesGlobals = append(st.usesGlobals, sortedKeys(word.Matched)...)
	}
	if raw.Name != "" {
		if c, ok := p.lookupContext(raw.Name, p.wish(st)); ok {
			st.replaced, st.usesGlobals = &c, nil
			if c.Target == "" {
				return st, nil
			}
			return st, p.basedOn(st, c.stage)
		}
	}
	if base, ok := p.byName[st.baseName]; ok {
		st.base = base
		return st, nil
	}
	if base, ok := p.targetStage(st.baseName, p.wish(st)); ok {
		return st, p.basedOn(st, base)
	}
	return st, newError(raw.pos, "FROM "+cut(st.baseName, maxQuoted), p.checkImageName(st.baseName))
}

// basedOn makes a stage start from another, which a named context put there: it must stand before it, as with every FROM.
func (p *planner) basedOn(st *stage, base int) error {
	if base >= st.index {
		return &Error{Pos: st.raw.pos, Op: "FROM " + cut(st.baseName, maxQuoted),
			Err:  fmt.Errorf("the named context that takes its place is %s, which does not stand before it", p.stageTitle(base)),
			Hint: "name a stage above it"}
	}
	st.base = base
	return nil
}

func parsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, errors.New("the platform is empty")
	}
	pl, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no platform: %w", quoteShort(text), cause(err))
	}
	pl = platforms.Normalize(pl)
	return &pl, nil
}

// fromNames are the variables that a FROM may use.
func (p *planner) fromNames() []string {
	if p.known != nil {
		return p.known
	}
	names := p.globals.Keys()
	for _, in := range p.file.args {
		for _, arg := range in.cmd.(*instructions.ArgCommand).Args {
			if _, ok := p.globals.Get(arg.Key); !ok {
				names = append(names, arg.Key)
			}
		}
	}
	p.known = names
	return names
}

// unsetHint suggests what to do about a FROM that lacks a value.
func (p *planner) unsetHint(unset map[string]struct{}, written string) string {
	if len(unset) > 0 {
		name := sortedKeys(unset)[0]
		if s := didYouMean(name, p.fromNames()); s != "" {
			return s
		}
		if len(name) > maxQuoted {
			return "declare the variable with ARG before the first FROM"
		}
		return fmt.Sprintf("declare ARG %s=... before the first FROM, or give --build-arg %s=...", name, name)
	}
	if strings.Contains(written, "$") {
		return "give the variable a value with --build-arg or a default"
	}
	return ""
}

// wish is the platform that a stage's base is asked for.
func (p *planner) wish(st *stage) ocispec.Platform {
	if st.platform != nil {
		return *st.platform
	}
	return p.target
}

// baseSource says where the files of a stage start that is based on no stage.
func (p *planner) baseSource(st *stage) (Source, BaseRef, error) {
	if st.replaced != nil {
		return p.contextSource(*st.replaced, p.wish(st))
	}
	return p.imageSource(st.baseName, p.wish(st))
}

// link finds the origins of a stage's own instructions.
func (p *planner) link(st *stage) error {
	if st.replaced != nil {
		return nil // its instructions do not count
	}
	st.commands = make([]command, 0, len(st.raw.commands))
	for _, in := range st.raw.commands {
		c, err := p.linkCommand(in)
		if err != nil {
			return err
		}
		st.commands = append(st.commands, c)
	}
	return nil
}

func (p *planner) linkCommand(in instruction) (command, error) {
	c := command{instruction: in}
	switch cmd := in.cmd.(type) {
	case *instructions.CopyCommand:
		if cmd.From == "" {
			break
		}
		o, err := p.copyOrigin(cmd.From)
		if err != nil {
			return c, in.fail("COPY --from="+cut(cmd.From, maxQuoted), err)
		}
		c.origins = []origin{o}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(cmd) {
			o, err := p.mountOrigin(m.From)
			if err != nil {
				return c, in.fail("RUN --mount", err)
			}
			c.origins = append(c.origins, o)
		}
	}
	return c, nil
}

// copyOrigin is B50.
func (p *planner) copyOrigin(from string) (origin, error) {
	if res, err := p.x.word(from, newEnviron(nil)); err != nil || res.Result != from {
		return origin{}, withHint(errors.New("variables are not expanded in --from"), "name a stage with FROM and use that name here")
	}
	if i, err := strconv.Atoi(from); err == nil {
		if i < 0 || i >= len(p.stages) {
			return origin{}, fmt.Errorf("no stage has the index %d: there are %d", i, len(p.stages))
		}
		return origin{stage: i}, nil
	}
	return p.nameOrigin(from)
}

func (p *planner) nameOrigin(name string) (origin, error) {
	if i, ok := p.byName[strings.ToLower(name)]; ok {
		return origin{stage: i, name: name}, nil
	}
	if i, ok := p.targetStage(name, p.target); ok {
		return origin{stage: i, name: name}, nil
	}
	return origin{stage: -1, name: name}, p.checkImageName(name)
}

// mountOrigin is the from= of B22: an index is no name here.
func (p *planner) mountOrigin(from string) (origin, error) {
	if from == "" {
		return origin{stage: -1}, nil
	}
	o, err := p.nameOrigin(from)
	if err != nil {
		return o, err
	}
	if i, err := strconv.Atoi(from); err == nil && o.stage < 0 && i >= 0 && i < len(p.stages) {
		return o, withHint(fmt.Errorf("from=%s: a stage cannot be given by index here", from), "name the stage with FROM ... AS")
	}
	return o, nil
}

// edge is a need of one stage for another, by an instruction.
type edge struct {
	to  int
	cmd *command
}

// checkCycles is D6. Only instructions can close a cycle: a FROM names earlier
// stages. The search keeps its own stack, as a chain may be long.
func (p *planner) checkCycles() error {
	const unseen, open, done = 0, 1, 2
	edges := p.edges()
	colour := make([]int, len(p.stages))
	next := make([]int, len(p.stages)) // edges of a stage that were followed
	for root := range p.stages {
		if colour[root] != unseen {
			continue
		}
		path := []int{root}
		colour[root] = open
		for len(path) > 0 {
			at := path[len(path)-1]
			if next[at] == len(edges[at]) {
				colour[at] = done
				path = path[:len(path)-1]
				continue
			}
			to := edges[at][next[at]].to
			next[at]++
			switch colour[to] {
			case unseen:
				colour[to] = open
				path = append(path, to)
			case open:
				var cycle []edge
				for _, i := range path[slices.Index(path, to):] {
					cycle = append(cycle, edge{i, edges[i][next[i]-1].cmd})
				}
				return p.cycleError(cycle)
			}
		}
	}
	return nil
}

func (p *planner) edges() [][]edge {
	edges := make([][]edge, len(p.stages))
	for i, st := range p.stages {
		for k := range st.commands {
			for _, o := range st.commands[k].origins {
				if o.stage >= 0 {
					edges[i] = append(edges[i], edge{o.stage, &st.commands[k]})
				}
			}
		}
	}
	return edges
}

// cycleError names the stages of a cycle with the line of the instruction that
// makes each need the next.
func (p *planner) cycleError(cycle []edge) error {
	const shown = 8
	var lines []string
	for i, e := range cycle {
		if i == shown {
			lines = append(lines, fmt.Sprintf("%d more", len(cycle)-shown))
			break
		}
		lines = append(lines, fmt.Sprintf("%s (line %d)", p.stageTitle(e.to), e.cmd.pos.Start))
	}
	last := cycle[len(cycle)-1].cmd
	return last.fail(strings.ToUpper(last.cmd.Name()),
		fmt.Errorf("circular dependency: %s needs %s", strings.Join(lines, " needs "), p.stageTitle(cycle[0].to)))
}

func (p *planner) stageTitle(i int) string {
	if n := p.file.stages[i].Name; n != "" {
		return "stage " + n
	}
	return fmt.Sprintf("stage %d", i)
}

// reach marks the stages that target needs, and adds the triggers of their
// bases (B69, D2). Bases that are not known yet go to p.missing.
func (p *planner) reach(target int) error {
	queue := []int{target}
	if p.opt.AllStages {
		for i := range p.stages {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		st := p.stages[queue[len(queue)-1]]
		queue = queue[:len(queue)-1]
		if st.reached {
			continue
		}
		st.reached = true
		triggers, err := p.triggers(st)
		if err != nil {
			return err
		}
		if err := p.addTriggers(st, triggers); err != nil {
			return err
		}
		if st.base >= 0 {
			queue = append(queue, st.base)
		}
		for _, c := range st.commands {
			for _, o := range c.origins {
				if o.stage >= 0 {
					queue = append(queue, o.stage)
				} else if err := p.needOrigin(o, c); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *planner) needOrigin(o origin, c command) error {
	if o.name == "" {
		return nil
	}
	_, ref, err := p.imageSource(o.name, p.target)
	if err != nil {
		return c.fail(strings.ToUpper(c.cmd.Name()), err)
	}
	p.need(ref)
	return nil
}

// triggers returns the texts that the base of a stage left for it.
func (p *planner) triggers(st *stage) ([]string, error) {
	if st.base >= 0 {
		base := p.stages[st.base]
		if st.replaced != nil {
			return nil, nil // it is that stage, not one built on it
		}
		for base.replaced != nil && base.base >= 0 {
			base = p.stages[base.base]
		}
		if base.replaced != nil {
			return nil, nil
		}
		var texts []string
		for _, in := range base.raw.commands {
			if c, ok := in.cmd.(*instructions.OnbuildCommand); ok {
				texts = append(texts, c.Expression)
			}
		}
		return texts, nil
	}
	_, ref, err := p.baseSource(st)
	if err != nil {
		return nil, newError(st.raw.pos, "FROM "+cut(st.baseName, maxQuoted), err)
	}
	if !p.need(ref) || st.replaced != nil {
		return nil, nil
	}
	return p.bases[ref].Image.Config.OnBuild, nil
}

// addTriggers parses triggers and puts them before the stage's instructions.
func (p *planner) addTriggers(st *stage, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	if len(texts) > maxInstructions {
		return &Error{Pos: st.raw.pos, Op: "ONBUILD", Err: fmt.Errorf("%d triggers, more than the limit of %d", len(texts), maxInstructions)}
	}
	commands := make([]command, 0, len(texts)+len(st.commands))
	for _, text := range texts {
		if err := p.x.budget.spend(len(text)); err != nil {
			return newError(st.raw.pos, "ONBUILD", err)
		}
		c, err := p.trigger(st, text)
		if err != nil {
			return onBuildError(err, st.raw.pos, text)
		}
		commands = append(commands, c)
	}
	st.commands = append(commands, st.commands...)
	return nil
}

// trigger parses one trigger. Its escape character is always the backslash when
// it is split into lines and words, as the text may come from another file.
func (p *planner) trigger(st *stage, text string) (command, error) {
	if err := checkText([]byte(text)); err != nil {
		return command{}, err
	}
	tree, err := parseTree([]byte(text))
	if err != nil {
		return command{}, err
	}
	if len(tree.AST.Children) != 1 {
		return command{}, errors.New("a trigger must be a single instruction")
	}
	node := tree.AST.Children[0]
	node.StartLine, node.EndLine = st.raw.pos.Start, st.raw.pos.End
	v, err := parseInstruction(node, tree.EscapeToken, nil)
	if err != nil {
		return command{}, err
	}
	switch cmd := v.(type) {
	case *instructions.OnbuildCommand, *instructions.MaintainerCommand:
		return command{}, fmt.Errorf("%s is not allowed as a trigger", strings.ToUpper(node.Value))
	case instructions.Command:
		return p.linkCommand(instruction{node: node, cmd: cmd, pos: st.raw.pos, onBuild: text})
	}
	return command{}, fmt.Errorf("%s is not allowed as a trigger", strings.ToUpper(node.Value))
}

// onBuildError makes err one of the FROM that fired the trigger (F1).
func onBuildError(err error, from Position, text string) error {
	var e *Error
	if !errors.As(err, &e) {
		errors.As(newError(from, "ONBUILD", err), &e)
	}
	moved := *e
	moved.Pos, moved.OnBuild = from, text
	return &moved
}

// fail is the error of this instruction.
func (in instruction) fail(op string, err error) error {
	err = newError(in.pos, op, err)
	if in.onBuild != "" {
		return onBuildError(err, in.pos, in.onBuild)
	}
	return err
}
